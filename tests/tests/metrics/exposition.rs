//! Prometheus' text form, read strictly.

use std::collections::{BTreeMap, BTreeSet};

use order_tests::Client;

/// What one scrape told.
#[derive(Debug)]
pub(crate) struct Exposition {
    /// By name.
    pub(crate) families: BTreeMap<String, Family>,
}

/// A metric with all its series.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    samples: Vec<Sample>,
}

/// One line.
#[derive(Debug)]
struct Sample {
    /// What stands after the family's name: empty, `_bucket`, `_sum`, `_count`.
    suffix: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Exposition {
    /// Scrapes a replica.
    pub(crate) async fn of(replica: &Client) -> Self {
        let answer = replica.manage("/metrics").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            answer.header("content-type"),
            "text/plain; version=0.0.4; charset=utf-8"
        );
        Exposition::read(std::str::from_utf8(&answer.body).expect("UTF-8"))
    }

    /// Reads a scrape.
    ///
    /// # Panics
    ///
    /// At everything that is not as the format has it.
    pub(crate) fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line ends");
        let mut families = BTreeMap::<String, Family>::new();
        let mut current = String::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a name and a text");
                let help = help.to_owned();
                let known = families.insert(
                    name.to_owned(),
                    Family {
                        help,
                        ..Family::default()
                    },
                );
                assert!(known.is_none(), "{name} stands twice");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a name and a kind");
                let family = families
                    .get_mut(name)
                    .unwrap_or_else(|| panic!("{name} has no HELP"));
                kind.clone_into(&mut family.kind);
                name.clone_into(&mut current);
            } else {
                let (suffix, sample) = Sample::read(line, &current);
                let family = families.get_mut(&current).expect("it was begun by TYPE");
                let expected: &[&str] = match &*family.kind {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(expected.contains(&&*suffix), "{line} in a {}", family.kind);
                family.samples.push(sample);
            }
        }
        let exposition = Exposition { families };
        exposition.check();
        exposition
    }

    fn check(&self) {
        for (name, family) in &self.families {
            assert!(
                !family.help.is_empty() && !family.samples.is_empty(),
                "{name}: {family:?}"
            );
            match &*family.kind {
                "counter" => assert!(name.ends_with("_total"), "{name} is a counter"),
                "gauge" => assert!(!name.ends_with("_total"), "{name} is a gauge"),
                "histogram" => family.check_buckets(name),
                kind => panic!("{name} is a {kind}"),
            }
        }
    }

    /// The value of the one series with exactly these labels, of a counter or a gauge; or how many values a histogram has. 0 if there
    /// is no such series.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let family = self
            .families
            .get(name)
            .unwrap_or_else(|| panic!("there is no {name}"));
        let found = family.samples.iter().find(|sample| {
            matches!(&*sample.suffix, "" | "_count")
                && sample.labels.len() == labels.len()
                && labels
                    .iter()
                    .all(|(label, value)| sample.labels.get(*label).is_some_and(|it| it == value))
        });
        found.map_or(0.0, |sample| sample.value)
    }

    /// What the values of a histogram without labels add up to.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let samples = &self.families[name].samples;
        let sum = samples.iter().find(|sample| sample.suffix == "_sum");
        sum.expect("a histogram").value
    }
}

impl Family {
    /// The names of its labels, `le` left out.
    pub(crate) fn labels(&self) -> BTreeSet<&str> {
        let labels = self.samples.iter().flat_map(|sample| sample.labels.keys());
        labels
            .map(String::as_str)
            .filter(|label| *label != "le")
            .collect()
    }

    /// Its buckets begin where they should, only grow, and end with all values.
    fn check_buckets(&self, name: &str) {
        let first = if name.ends_with("_seconds") { "0.0001" } else { "1" };
        let mut series = BTreeMap::<_, Vec<&Sample>>::new();
        for sample in &self.samples {
            let mut labels = sample.labels.clone();
            labels.remove("le");
            series.entry(labels).or_default().push(sample);
        }
        for samples in series.values() {
            let [buckets @ .., sum, count] = samples.as_slice() else {
                panic!("{name} has too few lines: {samples:?}")
            };
            assert_eq!((&*sum.suffix, &*count.suffix), ("_sum", "_count"), "{name}");
            let bounds: Vec<&str> = buckets.iter().map(|bucket| &*bucket.labels["le"]).collect();
            assert_eq!(
                (bounds.first(), bounds.last()),
                (Some(&first), Some(&"+Inf")),
                "{name}"
            );
            assert!(
                buckets.is_sorted_by(|one, next| one.value <= next.value),
                "{name}: {buckets:?}"
            );
            assert_eq!(
                buckets.last().map(|bucket| bucket.value),
                Some(count.value),
                "{name}"
            );
        }
    }
}

impl Sample {
    /// Reads a line of this family.
    fn read(line: &str, family: &str) -> (String, Self) {
        let (series, value) = line
            .rsplit_once(' ')
            .unwrap_or_else(|| panic!("no value: {line}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("labels end")),
            None => (series, ""),
        };
        let suffix = name
            .strip_prefix(family)
            .unwrap_or_else(|| panic!("{line} is not of {family}"));
        assert!(!labels.contains('\\'), "nothing we say needs an escape: {line}");
        let mut rest = labels;
        let mut read = BTreeMap::new();
        while !rest.is_empty() {
            let (label, after) = rest
                .split_once("=\"")
                .unwrap_or_else(|| panic!("no label: {line}"));
            let (value, after) = after.split_once('"').unwrap_or_else(|| panic!("no end: {line}"));
            let is_name = label.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
            assert!(is_name && !label.is_empty(), "not a label: {line}");
            assert!(
                read.insert(label.to_owned(), value.to_owned()).is_none(),
                "twice: {line}"
            );
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        let sample = Sample {
            suffix: suffix.to_owned(),
            labels: read,
            value: value.parse().unwrap_or_else(|_| panic!("not a number: {line}")),
        };
        (suffix.to_owned(), sample)
    }
}
