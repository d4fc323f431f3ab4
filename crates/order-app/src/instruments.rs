//! What the service itself measures, by the names under which it is published. What the domain and the adapters measure stands
//! in a file of this name in each of their crates; `docs/metrics.md` lists all of it.

use metrics::{Unit, describe_gauge, describe_histogram};

pub(crate) const HTTP_DURATION: &str = "http_server_request_duration_seconds";
pub(crate) const HTTP_ACTIVE: &str = "http_server_active_requests";
pub(crate) const READY: &str = "order_tracker_ready";
pub(crate) const DATABASE_UP: &str = "order_tracker_database_up";
pub(crate) const BROKER_UP: &str = "order_tracker_broker_up";
pub(crate) const INGESTION_PAUSED: &str = "order_tracker_ingestion_paused";
pub(crate) const CACHE_ORDERS: &str = "order_tracker_cache_orders";
pub(crate) const CACHE_BYTES: &str = "order_tracker_cache_bytes";
pub(crate) const CACHE_MAX_BYTES: &str = "order_tracker_cache_max_bytes";
pub(crate) const CACHE_PROVEN: &str = "order_tracker_cache_proven";
pub(crate) const CACHE_LEASE_AGE: &str = "order_tracker_cache_lease_age_seconds";
pub(crate) const BACKLOG_UNDELIVERED: &str = "order_tracker_backlog_undelivered_messages";
pub(crate) const BACKLOG_UNACKNOWLEDGED: &str = "order_tracker_backlog_unacknowledged_messages";
pub(crate) const BACKLOG_OLDEST_AGE: &str = "order_tracker_backlog_oldest_age_seconds";
pub(crate) const BACKLOG_KEPT_FOR: &str = "order_tracker_backlog_kept_for_seconds";
pub(crate) const BACKLOG_SAMPLE_AGE: &str = "order_tracker_backlog_sample_age_seconds";
pub(crate) const BUILD_INFO: &str = "order_tracker_build_info";

/// Says what each metric of this crate means.
pub(crate) fn describe_metrics() {
    describe_histogram!(
        HTTP_DURATION,
        Unit::Seconds,
        "From when a request's head was read until its answer's was ready"
    );
    describe_gauge!(HTTP_ACTIVE, Unit::Count, "Requests that are being answered");
    describe_gauge!(READY, Unit::Count, "1 while /readyz answers 200");
    describe_gauge!(DATABASE_UP, Unit::Count, "1 if the database answered last time");
    describe_gauge!(BROKER_UP, Unit::Count, "1 while the broker is connected");
    describe_gauge!(
        INGESTION_PAUSED,
        Unit::Count,
        "1 while a batch cannot be stored and is tried again"
    );
    describe_gauge!(CACHE_ORDERS, Unit::Count, "Orders in the cache");
    describe_gauge!(CACHE_BYTES, Unit::Bytes, "What the cached orders weigh");
    describe_gauge!(CACHE_MAX_BYTES, Unit::Bytes, "What the cached orders may weigh");
    describe_gauge!(CACHE_PROVEN, Unit::Count, "1 while cached orders may be served");
    describe_gauge!(
        CACHE_LEASE_AGE,
        Unit::Seconds,
        "Since the look at the commit log began that last proved the cache; since the start if none has"
    );
    describe_gauge!(
        BACKLOG_UNDELIVERED,
        Unit::Count,
        "Messages that were delivered to no replica yet"
    );
    describe_gauge!(
        BACKLOG_UNACKNOWLEDGED,
        Unit::Count,
        "Messages that were delivered to a replica and not acknowledged yet"
    );
    describe_gauge!(
        BACKLOG_OLDEST_AGE,
        Unit::Seconds,
        "Since the oldest unacknowledged message was published; 0 if there is none"
    );
    describe_gauge!(
        BACKLOG_KEPT_FOR,
        Unit::Seconds,
        "For how long the stream keeps a message, whether it was read or not"
    );
    describe_gauge!(
        BACKLOG_SAMPLE_AGE,
        Unit::Seconds,
        "Since the broker last told how large the backlog is"
    );
    describe_gauge!(
        BUILD_INFO,
        Unit::Count,
        "Always 1; its labels say which program this is"
    );
}
