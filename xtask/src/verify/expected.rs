//! What the service must serve, from the record of a run.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::seed::record::Line;

/// Where each order's newest version stands in a record. The orders themselves stay in the file: a record may be larger than
/// memory.
#[derive(Debug)]
pub(super) struct Expectations {
    file: File,
    orders: Vec<Order>,
}

#[derive(Debug)]
struct Order {
    uid: String,
    /// The version with the highest sequence of those that were acknowledged: which one won does not depend on the order in which
    /// they were sent, since attempts overtake each other.
    newest: Option<(u64, Place)>,
    /// Versions of which it is not known whether they were stored.
    unknown: Vec<Place>,
}

/// A line of the file.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: u64,
    bytes: usize,
}

/// How what is served compares with what was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Byte for byte the newest version, or one that may be the newest.
    Equal,
    /// Nothing is served, rightly: no version was acknowledged.
    NeverStored,
    /// Nothing is served, and something was acknowledged.
    Missing,
    /// Something else is served: from which byte on.
    Different(usize),
}

impl Expectations {
    /// Reads a record.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or is no record.
    pub(super) fn read(path: &Path) -> Result<Expectations> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut reader = BufReader::new(&file);
        let mut by_uid = HashMap::<String, usize>::new();
        let mut orders = Vec::<Order>::new();
        let (mut at, mut text) = (0, String::new());
        for number in 1.. {
            text.clear();
            let bytes = reader
                .read_line(&mut text)
                .with_context(|| format!("cannot read {}", path.display()))?;
            if bytes == 0 {
                break;
            }
            let line = Line::read(&text).with_context(|| format!("{} line {number}", path.display()))?;
            let place = Place { at, bytes };
            at += bytes as u64;
            let Some(uid) = line.uid else { continue };
            let index = *by_uid.entry(uid.clone().into_owned()).or_insert_with(|| {
                orders.push(Order {
                    uid: uid.into_owned(),
                    newest: None,
                    unknown: Vec::new(),
                });
                orders.len() - 1
            });
            let order = &mut orders[index];
            match line.sequence {
                Some(sequence) if order.newest.is_none_or(|(newest, _)| newest < sequence) => {
                    order.newest = Some((sequence, place));
                }
                Some(_) => {}
                None => order.unknown.push(place),
            }
        }
        Ok(Expectations { file, orders })
    }

    /// How many orders there are.
    pub(super) fn count(&self) -> usize {
        self.orders.len()
    }

    /// The uid of the order with this number.
    pub(super) fn uid(&self, number: usize) -> &str {
        &self.orders[number].uid
    }

    /// Compares what is served for the order with this number; `None` where the service says that there is no such order.
    ///
    /// # Errors
    ///
    /// Where the record cannot be read any more.
    pub(super) fn compare(&self, number: usize, served: Option<&[u8]>) -> Result<Verdict> {
        let order = &self.orders[number];
        let Some(served) = served else {
            return Ok(if order.newest.is_none() {
                Verdict::NeverStored
            } else {
                Verdict::Missing
            });
        };
        let mut difference = 0;
        for place in order.newest.map(|(_, place)| place).iter().chain(&order.unknown) {
            let expected = self.order_at(*place)?;
            if served == expected.as_bytes() {
                return Ok(Verdict::Equal);
            }
            let same = expected
                .bytes()
                .zip(served)
                .take_while(|(expected, served)| expected == *served)
                .count();
            difference = difference.max(same);
        }
        Ok(Verdict::Different(difference))
    }

    fn order_at(&self, place: Place) -> Result<String> {
        let mut line = vec![0; place.bytes];
        self.file
            .read_exact_at(&mut line, place.at)
            .context("cannot read the record again")?;
        let line = Line::read(str::from_utf8(&line)?)?;
        Ok(line
            .order()
            .context("a line of the record names an order and does not hold it")?
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use xtask::account::Account;
    use xtask::folders;

    use super::*;

    fn read(lines: &str) -> Result<Expectations> {
        let folder = folders::temporary("order-tracker-record", &Account::current()).unwrap();
        let path = folder.join("record.jsonl");
        File::create(&path).unwrap().write_all(lines.as_bytes()).unwrap();
        let read = Expectations::read(&path);
        std::fs::remove_dir_all(&folder).unwrap();
        read
    }

    #[test]
    fn the_highest_sequence_is_the_newest_version() {
        let expected = read(concat!(
            r#"{"id":"r-2","sequence":9,"uid":"a","order":{"v":2}}"#,
            "\n",
            r#"{"id":"r-1","sequence":7,"uid":"a","order":{"v":1}}"#,
            "\n",
            r#"{"id":"r-3","sequence":8,"bad":"nul"}"#,
            "\n",
        ))
        .unwrap();
        assert_eq!((expected.count(), expected.uid(0)), (1, "a"));
        assert_eq!(expected.compare(0, Some(br#"{"v":2}"#)).unwrap(), Verdict::Equal);
        assert_eq!(
            expected.compare(0, Some(br#"{"v":1}"#)).unwrap(),
            Verdict::Different(5)
        );
        assert_eq!(
            expected.compare(0, Some(br#"{"v":2} "#)).unwrap(),
            Verdict::Different(7)
        );
        assert_eq!(expected.compare(0, None).unwrap(), Verdict::Missing);
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there_or_not() {
        let expected = read(concat!(
            r#"{"id":"r-1","sequence":1,"uid":"a","order":{"v":1}}"#,
            "\n",
            r#"{"id":"r-2","sequence":null,"uid":"a","order":{"v":2}}"#,
            "\n",
            r#"{"id":"r-3","sequence":null,"uid":"b","order":{"v":3}}"#,
            "\n",
        ))
        .unwrap();
        for possible in [br#"{"v":1}"#, br#"{"v":2}"#] {
            assert_eq!(expected.compare(0, Some(possible)).unwrap(), Verdict::Equal);
        }
        assert_eq!(expected.compare(0, None).unwrap(), Verdict::Missing);
        assert_eq!(expected.compare(1, None).unwrap(), Verdict::NeverStored);
        assert_eq!(expected.compare(1, Some(br#"{"v":3}"#)).unwrap(), Verdict::Equal);
        assert_eq!(
            expected.compare(1, Some(br#"{"v":1}"#)).unwrap(),
            Verdict::Different(5)
        );
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_line() {
        let error = read("{\"id\":\"r-1\",\"sequence\":1,\"bad\":null}\n{\"order\n").unwrap_err();
        assert!(format!("{error:#}").contains("line 2"), "{error:#}");
    }
}
