//! What the use cases measure, by the names under which it is published.
//!
//! Instruments are made once, with what uses them: a message or a request looks nothing up.

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

use crate::Lookup;

const STORED: &str = "order_tracker_orders_stored_total";
const SUPERSEDED: &str = "order_tracker_orders_superseded_total";
const DEAD_LETTERS: &str = "order_tracker_dead_letters_total";
const REDELIVERED: &str = "order_tracker_messages_redelivered_total";
const UNKNOWN_FIELDS: &str = "order_tracker_unknown_fields_total";
const CLOCK_STEPPED_BACK: &str = "order_tracker_clock_stepped_back_total";
const BATCH_MESSAGES: &str = "order_tracker_batch_messages";
const PROCESS_DURATION: &str = "messaging_process_duration_seconds";
const COMMIT_DURATION: &str = "order_tracker_commit_duration_seconds";
const COMMIT_FAILURES: &str = "order_tracker_commit_failures_total";
const STORE_DELAY: &str = "order_tracker_store_delay_seconds";
const CACHE_LOOKUPS: &str = "order_tracker_cache_lookups_total";
const CACHE_STALE_ANSWERS: &str = "order_tracker_cache_stale_answers_total";

/// Says what each metric of this crate means, to whatever collects metrics. To be called once, before anything else is made.
pub fn describe_metrics() {
    describe_counter!(
        STORED,
        Unit::Count,
        "Orders that were stored as the newest version of theirs"
    );
    describe_counter!(
        SUPERSEDED,
        Unit::Count,
        "Versions that were not stored, because one at least as new was there"
    );
    describe_counter!(
        DEAD_LETTERS,
        Unit::Count,
        "Messages that were stored as dead letters"
    );
    describe_counter!(
        REDELIVERED,
        Unit::Count,
        "Messages that had been delivered before"
    );
    describe_counter!(
        UNKNOWN_FIELDS,
        Unit::Count,
        "Fields of orders that nobody knows, and that were ignored"
    );
    describe_counter!(
        CLOCK_STEPPED_BACK,
        Unit::Count,
        "Versions older by the broker's clock than the stored one, yet ahead by sequence; each is a dead letter"
    );
    describe_histogram!(BATCH_MESSAGES, Unit::Count, "Messages in a batch");
    describe_histogram!(
        PROCESS_DURATION,
        Unit::Seconds,
        "From when the first message of a batch was taken until all of it was stored, however often that was tried"
    );
    describe_histogram!(
        COMMIT_DURATION,
        Unit::Seconds,
        "How long a transaction that stored a batch took"
    );
    describe_counter!(
        COMMIT_FAILURES,
        Unit::Count,
        "Transactions that failed to store a batch, and are tried again"
    );
    describe_histogram!(
        STORE_DELAY,
        Unit::Seconds,
        "From when the broker stored an order until it was committed to the database"
    );
    describe_counter!(
        CACHE_LOOKUPS,
        Unit::Count,
        "Looks into the cache, by what they found"
    );
    describe_counter!(
        CACHE_STALE_ANSWERS,
        Unit::Count,
        "Orders that were answered with their age, because the database was out of reach"
    );
}

/// What storing batches measures.
pub(crate) struct BatchInstruments {
    pub(crate) stored: Counter,
    pub(crate) superseded: Counter,
    pub(crate) dead_letters: Counter,
    pub(crate) redelivered: Counter,
    pub(crate) unknown_fields: Counter,
    pub(crate) clock_stepped_back: Counter,
    pub(crate) messages: Histogram,
    pub(crate) process_duration: Histogram,
    pub(crate) commit_duration: Histogram,
    pub(crate) commit_failures: Counter,
    pub(crate) store_delay: Histogram,
}

impl BatchInstruments {
    pub(crate) fn new() -> Self {
        BatchInstruments {
            stored: counter!(STORED),
            superseded: counter!(SUPERSEDED),
            dead_letters: counter!(DEAD_LETTERS),
            redelivered: counter!(REDELIVERED),
            unknown_fields: counter!(UNKNOWN_FIELDS),
            clock_stepped_back: counter!(CLOCK_STEPPED_BACK),
            messages: histogram!(BATCH_MESSAGES),
            process_duration: histogram!(PROCESS_DURATION, "messaging_operation_name" => "process"),
            commit_duration: histogram!(COMMIT_DURATION),
            commit_failures: counter!(COMMIT_FAILURES),
            store_delay: histogram!(STORE_DELAY),
        }
    }
}

/// Looks into the cache, by what they found.
pub(crate) struct LookupCounters {
    hits: Counter,
    unproven: Counter,
    absent: Counter,
    misses: Counter,
}

impl LookupCounters {
    pub(crate) fn new() -> Self {
        LookupCounters {
            hits: counter!(CACHE_LOOKUPS, "result" => "hit"),
            unproven: counter!(CACHE_LOOKUPS, "result" => "unproven"),
            absent: counter!(CACHE_LOOKUPS, "result" => "absent"),
            misses: counter!(CACHE_LOOKUPS, "result" => "miss"),
        }
    }

    pub(crate) fn count(&self, found: &Lookup) {
        let counter = match found {
            Lookup::Proven(_) => &self.hits,
            Lookup::Unproven { .. } => &self.unproven,
            Lookup::Absent => &self.absent,
            Lookup::Unknown => &self.misses,
        };
        counter.increment(1);
    }
}

/// Counts orders that are answered with their age.
pub(crate) fn stale_answers() -> Counter {
    counter!(CACHE_STALE_ANSWERS)
}
