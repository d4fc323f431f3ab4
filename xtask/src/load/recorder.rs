//! What is written down of every request.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest time that is told apart: an hour in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;
/// How long a slice lasts at first.
const SHORTEST_SLICE: Duration = Duration::from_millis(100);
/// Where a run takes longer than was known, more slices than these are made half as many, each twice as long.
const MOST_SLICES: usize = 240;
/// Different faults that are counted apart. A text that differs from request to request must not fill the memory.
const MOST_FAULTS: usize = 40;

/// What came of one request.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Which of the work's classes the request belonged to.
    pub class: usize,
    /// The status of the answer; 0 where there was none, or none of that kind.
    pub status: u16,
    /// The bytes of the request's body.
    pub bytes_out: u64,
    /// The bytes of the answer's body.
    pub bytes_in: u64,
    /// Why it was not what was asked for; `None` for a success.
    pub fault: Option<String>,
}

/// Everything that was written down.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Time from the moment for which a request was meant until it was answered, for each class, in nanoseconds.
    pub response: Vec<Histogram<u64>>,
    /// Time from when it was sent until it was answered, for each class.
    pub service: Vec<Histogram<u64>>,
    /// How many answers had each status.
    pub statuses: BTreeMap<u16, u64>,
    /// How often something went wrong, by what it was.
    pub faults: BTreeMap<String, u64>,
    /// Requests that had an answer, or whose lack of one was noticed.
    pub requests: u64,
    /// Those of them that were answered with what was asked for.
    pub successes: u64,
    /// Those of them that were never sent.
    pub unsent: u64,
    /// Bytes of all requests' bodies.
    pub bytes_out: u64,
    /// Bytes of all answers' bodies.
    pub bytes_in: u64,
    /// What happened when.
    pub slices: Vec<Slice>,
    /// How long each slice lasts.
    pub slice: Duration,
    /// When the last request was sent, and when the last one was answered, after the measuring began.
    pub last_sent: Duration,
    /// See `last_sent`.
    pub last_done: Duration,
    begin: Instant,
}

/// What happened within a short time.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Requests that were answered, or failed, in this time.
    pub done: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// The response times of the requests that were meant for this time, with two digits.
    pub response: Histogram<u64>,
}

impl Recording {
    /// Writes down what is meant for `begin` or later: what was meant for earlier only warmed up. `lasts` is for how long about, zero
    /// where nobody knows.
    pub fn new(classes: usize, begin: Instant, lasts: Duration) -> Recording {
        let mut slice = SHORTEST_SLICE;
        while slice * (MOST_SLICES as u32) < lasts {
            slice *= 2;
        }
        Recording {
            response: (0..classes).map(|_| new_histogram()).collect(),
            service: (0..classes).map(|_| new_histogram()).collect(),
            statuses: BTreeMap::new(),
            faults: BTreeMap::new(),
            requests: 0,
            successes: 0,
            unsent: 0,
            bytes_out: 0,
            bytes_in: 0,
            slices: Vec::new(),
            slice,
            last_sent: Duration::ZERO,
            last_done: Duration::ZERO,
            begin,
        }
    }

    /// Writes one down: when it was meant to be sent, when it was, and when it was answered.
    pub fn record(&mut self, meant: Instant, sent: Instant, done: Instant, outcome: Outcome) {
        let Some(meant_at) = meant.checked_duration_since(self.begin) else {
            return;
        };
        let response = nanoseconds(done.saturating_duration_since(meant));
        self.response[outcome.class].saturating_record(response);
        let service = nanoseconds(done.saturating_duration_since(sent));
        self.service[outcome.class].saturating_record(service);
        let (sent, done) = (sent.duration_since(self.begin), done.duration_since(self.begin));
        self.last_sent = self.last_sent.max(sent);
        self.last_done = self.last_done.max(done);
        self.requests += 1;
        self.bytes_out += outcome.bytes_out;
        self.bytes_in += outcome.bytes_in;
        if outcome.status != 0 {
            *self.statuses.entry(outcome.status).or_default() += 1;
        }
        let failed = outcome.fault.is_some();
        self.successes += u64::from(!failed);
        self.slice_at(meant_at).response.saturating_record(response);
        let slice = self.slice_at(done);
        slice.done += 1;
        slice.failed += u64::from(failed);
        if let Some(fault) = outcome.fault {
            self.count_fault(fault, 1);
        }
    }

    /// Writes down one that was never sent: it has waited until `now`, and nobody knows how much longer it would have had to.
    pub(super) fn record_unsent(&mut self, meant: Instant, now: Instant) {
        let outcome = Outcome {
            fault: Some("not sent: no connection was free in time".to_owned()),
            ..Outcome::default()
        };
        let Some(meant_at) = meant.checked_duration_since(self.begin) else {
            return;
        };
        let waited = nanoseconds(now.saturating_duration_since(meant));
        self.response[outcome.class].saturating_record(waited);
        self.requests += 1;
        self.unsent += 1;
        let slice = self.slice_at(meant_at);
        slice.failed += 1;
        slice.response.saturating_record(waited);
        self.count_fault(outcome.fault.unwrap_or_default(), 1);
    }

    /// Adds what another thread has written down of the same run.
    ///
    /// # Panics
    ///
    /// If that was of other classes.
    pub fn add(&mut self, other: Recording) {
        assert_eq!(
            self.response.len(),
            other.response.len(),
            "recordings of one work"
        );
        let histograms = self.response.iter_mut().chain(&mut self.service);
        for (mine, theirs) in histograms.zip(other.response.iter().chain(&other.service)) {
            mine.add(theirs).expect("all have the same bounds");
        }
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (fault, count) in other.faults {
            self.count_fault(fault, count);
        }
        for (index, theirs) in (0..).zip(&other.slices) {
            self.slice_at(other.slice * index).add(theirs);
        }
        self.requests += other.requests;
        self.successes += other.successes;
        self.unsent += other.unsent;
        self.bytes_out += other.bytes_out;
        self.bytes_in += other.bytes_in;
        self.last_sent = self.last_sent.max(other.last_sent);
        self.last_done = self.last_done.max(other.last_done);
    }

    /// Response times of all classes together.
    pub fn all_responses(&self) -> Histogram<u64> {
        together(&self.response)
    }

    /// Service times of all classes together.
    pub fn all_services(&self) -> Histogram<u64> {
        together(&self.service)
    }

    fn count_fault(&mut self, fault: String, count: u64) {
        let is_new = !self.faults.contains_key(&fault);
        let fault = if is_new && self.faults.len() >= MOST_FAULTS {
            "others".to_owned()
        } else {
            fault
        };
        *self.faults.entry(fault).or_default() += count;
    }

    fn slice_at(&mut self, at: Duration) -> &mut Slice {
        let index = loop {
            let index = (at.as_nanos() / self.slice.as_nanos()) as usize;
            if index < MOST_SLICES {
                break index;
            }
            self.merge_slices();
        };
        while self.slices.len() <= index {
            self.slices.push(Slice::new());
        }
        &mut self.slices[index]
    }

    /// Makes one slice of two.
    fn merge_slices(&mut self) {
        self.slice *= 2;
        let mut merged: Vec<Slice> = Vec::new();
        for (index, slice) in std::mem::take(&mut self.slices).into_iter().enumerate() {
            match merged.get_mut(index / 2) {
                Some(first) => first.add(&slice),
                None => merged.push(slice),
            }
        }
        self.slices = merged;
    }
}

impl Slice {
    fn new() -> Slice {
        Slice {
            done: 0,
            failed: 0,
            response: Histogram::new_with_bounds(1_000, LONGEST, 2).expect("the bounds are constants"),
        }
    }

    fn add(&mut self, other: &Slice) {
        self.done += other.done;
        self.failed += other.failed;
        self.response
            .add(&other.response)
            .expect("all have the same bounds");
    }
}

/// A histogram of nanoseconds up to an hour, exact to three digits.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are constants")
}

fn together(histograms: &[Histogram<u64>]) -> Histogram<u64> {
    let mut all = new_histogram();
    for histogram in histograms {
        all.add(histogram).expect("all have the same bounds");
    }
    all
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn waiting_before_it_is_sent_counts_for_the_response_and_not_for_the_service() {
        let begin = Instant::now();
        let mut recording = Recording::new(1, begin, Duration::ZERO);
        let (sent, done) = (begin + millis(900), begin + millis(910));
        recording.record(begin, sent, done, Outcome::default());
        let close = |nanoseconds: u64, expected: u64| nanoseconds.abs_diff(expected * 1_000_000) < 1_000_000;
        assert!(close(recording.all_responses().max(), 910));
        assert!(close(recording.all_services().max(), 10));
        assert_eq!((recording.requests, recording.successes), (1, 1));
        // It was meant for the first slice, and was answered in the tenth.
        assert_eq!(recording.slices[0].response.len(), 1);
        assert_eq!(
            recording
                .slices
                .iter()
                .map(|slice| slice.done)
                .collect::<Vec<_>>()[9],
            1
        );
    }

    #[test]
    fn what_was_meant_for_the_warm_up_is_not_written_down() {
        let start = Instant::now();
        let mut recording = Recording::new(1, start + millis(100), Duration::ZERO);
        recording.record(start + millis(99), start, start + millis(500), Outcome::default());
        assert_eq!(recording.requests, 0);
        recording.record(
            start + millis(100),
            start + millis(100),
            start + millis(500),
            Outcome::default(),
        );
        assert_eq!(recording.requests, 1);
    }

    #[test]
    fn what_was_never_sent_is_a_failure_that_waited() {
        let begin = Instant::now();
        let mut recording = Recording::new(1, begin, Duration::ZERO);
        recording.record_unsent(begin, begin + millis(700));
        assert_eq!((recording.requests, recording.successes), (1, 0));
        assert!(recording.all_responses().max() >= 699_000_000);
        assert!(recording.all_services().is_empty());
        assert_eq!(recording.faults.values().sum::<u64>(), 1);
    }

    #[test]
    fn recordings_of_several_threads_add_up() {
        let begin = Instant::now();
        let mut all = Recording::new(2, begin, Duration::ZERO);
        for (class, status) in [(0, 200), (1, 404), (0, 503)] {
            let mut one = Recording::new(2, begin, Duration::ZERO);
            let outcome = Outcome {
                class,
                status,
                bytes_in: 10,
                fault: (status == 503).then(|| "503".to_owned()),
                ..Outcome::default()
            };
            one.record(begin, begin, begin + millis(1), outcome);
            all.add(one);
        }
        assert_eq!((all.requests, all.successes, all.bytes_in), (3, 2, 30));
        assert_eq!(all.statuses, BTreeMap::from([(200, 1), (404, 1), (503, 1)]));
        assert_eq!((all.response[0].len(), all.response[1].len()), (2, 1));
        assert_eq!((all.slices[0].done, all.slices[0].failed), (3, 1));
    }

    #[test]
    fn faults_without_end_are_summed_up() {
        let begin = Instant::now();
        let mut recording = Recording::new(1, begin, Duration::ZERO);
        for number in 0..100 {
            recording.count_fault(format!("fault {number}"), 1);
        }
        assert_eq!(recording.faults.len(), MOST_FAULTS + 1);
        assert_eq!(recording.faults["others"], 60);
    }

    #[test]
    fn a_long_run_has_long_slices_and_nothing_of_it_is_lost() {
        let begin = Instant::now();
        let recorded = |seconds: u64| {
            let mut recording = Recording::new(1, begin, Duration::ZERO);
            for tenth in 0..seconds * 10 {
                let meant = begin + millis(100 * tenth);
                recording.record(meant, meant, meant + millis(1), Outcome::default());
            }
            recording
        };
        let (mut short, long) = (recorded(20), recorded(60));
        assert_eq!((short.slice, short.slices.len()), (millis(100), 200));
        assert_eq!((long.slice, long.slices.len()), (millis(400), 150));
        assert_eq!(
            Recording::new(1, begin, Duration::from_secs(60)).slice,
            long.slice
        );
        assert!(
            long.slices.iter().all(|slice| slice.done == 4),
            "{:?}",
            long.slice
        );
        short.add(long);
        assert_eq!(short.slice, millis(400));
        let done: Vec<u64> = short.slices.iter().map(|slice| slice.done).collect();
        assert_eq!(done, [vec![8; 50], vec![4; 100]].concat());
        let responses: u64 = short.slices.iter().map(|slice| slice.response.len()).sum();
        assert_eq!(responses, 800);
    }
}
