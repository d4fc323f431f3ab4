//! What a run published, written down so that the service can be checked against it.
//!
//! One JSON object a line for each message that the broker stored, or may have stored. An order:
//!
//! ```json
//! {"id":"9f03a1c4-17","sequence":18,"uid":"b563feb7b2b84b6test","order":{…}}
//! ```
//!
//! `sequence` is `null` where the run ended before the acknowledgement. `order` is the canonical JSON, byte for byte as the service
//! must serve it. A message that must become a dead letter has, instead of the last two, `"bad"` with the kind, which is `null`
//! where it is not known.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::value::RawValue;
use xtask::orders::{Expected, Message};

/// Writes the record of a run.
#[derive(Debug)]
pub(crate) struct Recorder(BufWriter<File>);

impl Recorder {
    /// Begins a record; one that is there already is overwritten.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Recorder> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Recorder(BufWriter::new(file)))
    }

    /// Adds a message, with its sequence where it was acknowledged.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub(crate) fn add(&mut self, id: &str, sequence: Option<u64>, message: &Message) -> Result<()> {
        let sequence = sequence.map_or("null".to_owned(), |sequence| sequence.to_string());
        write_line(&mut self.0, id, &sequence, &message.expected).context("cannot write the record")
    }

    /// Ends the record.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.0.flush().context("cannot write the record")
    }
}

/// By hand, so that the canonical bytes need not be read again. Ids, uids and kinds hold nothing that JSON escapes.
fn write_line(out: &mut impl Write, id: &str, sequence: &str, expected: &Expected) -> std::io::Result<()> {
    write!(out, r#"{{"id":"{id}","sequence":{sequence},"#)?;
    match expected {
        Expected::Served { uid, json, .. } => {
            write!(out, r#""uid":"{uid}","order":"#)?;
            out.write_all(json)?;
        }
        Expected::Refused(Some(kind)) => write!(out, r#""bad":"{}""#, kind.name())?,
        Expected::Refused(None) => write!(out, r#""bad":null"#)?,
    }
    out.write_all(b"}\n")
}

/// A line of a record.
#[derive(Debug, Deserialize)]
pub(crate) struct Line<'a> {
    /// Under which sequence the broker stored it; `None` where that is not known.
    pub(crate) sequence: Option<u64>,
    /// Which order it is; `None` for a message that is none.
    #[serde(borrow)]
    pub(crate) uid: Option<Cow<'a, str>>,
    /// The canonical JSON.
    #[serde(borrow)]
    order: Option<&'a RawValue>,
}

impl<'a> Line<'a> {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// Where it is none of a record.
    pub(crate) fn read(line: &'a str) -> Result<Line<'a>> {
        serde_json::from_str(line)
            .context("a line is not one of a record that `cargo xtask seed --record` wrote")
    }

    /// The canonical JSON, byte for byte.
    pub(crate) fn order(&self) -> Option<&'a str> {
        self.order.map(RawValue::get)
    }
}

#[cfg(test)]
mod tests {
    use xtask::orders::{BadKind, Mix, OrderGenerator};

    use super::*;

    #[test]
    fn what_is_written_is_read_back_byte_for_byte() {
        for message in OrderGenerator::new(1, Mix::default()).take(200) {
            let mut line = Vec::new();
            write_line(&mut line, "run-1", "17", &message.expected).unwrap();
            let line = str::from_utf8(&line).unwrap().strip_suffix('\n').unwrap();
            assert!(!line.contains('\n'));
            let read = Line::read(line).unwrap();
            let Expected::Served { uid, json, .. } = &message.expected else {
                panic!("none was to be bad")
            };
            assert_eq!(
                (read.sequence, read.uid.as_deref()),
                (Some(17), Some(uid.as_str()))
            );
            assert_eq!(read.order().map(str::as_bytes), Some(&json[..]));
        }
    }

    #[test]
    fn a_bad_message_has_no_order() {
        for (kind, expected) in [(Some(BadKind::Nul), r#""nul""#), (None, "null")] {
            let mut line = Vec::new();
            write_line(&mut line, "run-1", "null", &Expected::Refused(kind)).unwrap();
            assert_eq!(
                str::from_utf8(&line).unwrap(),
                format!("{{\"id\":\"run-1\",\"sequence\":null,\"bad\":{expected}}}\n")
            );
            let read = Line::read(str::from_utf8(&line).unwrap()).unwrap();
            assert!(read.sequence.is_none() && read.uid.is_none() && read.order().is_none());
        }
    }
}
