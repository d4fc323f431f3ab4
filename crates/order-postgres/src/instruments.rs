//! What a pool of connections measures, by OpenTelemetry's names for it.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

const COUNT: &str = "db_client_connection_count";
const MAX: &str = "db_client_connection_max";
const PENDING: &str = "db_client_connection_pending_requests";
const TIMEOUTS: &str = "db_client_connection_timeouts_total";
const CREATE_TIME: &str = "db_client_connection_create_time_seconds";
const WAIT_TIME: &str = "db_client_connection_wait_time_seconds";
const USE_TIME: &str = "db_client_connection_use_time_seconds";

const POOL: &str = "db_client_connection_pool_name";
const STATE: &str = "db_client_connection_state";

/// Says what each metric of this crate means, to whatever collects metrics. To be called once, before anything else is made.
pub fn describe_metrics() {
    describe_gauge!(COUNT, Unit::Count, "Open connections, by whether they are lent");
    describe_gauge!(MAX, Unit::Count, "Connections that may be open");
    describe_gauge!(
        PENDING,
        Unit::Count,
        "Those who wait for a connection, or for a statement that reads their order"
    );
    describe_counter!(TIMEOUTS, Unit::Count, "Those who waited for a connection in vain");
    describe_histogram!(
        CREATE_TIME,
        Unit::Seconds,
        "How long it took to open a connection"
    );
    describe_histogram!(WAIT_TIME, Unit::Seconds, "How long it took to get a connection");
    describe_histogram!(USE_TIME, Unit::Seconds, "How long connections were lent");
}

/// What one pool measures.
pub(crate) struct PoolInstruments {
    pub(crate) idle: Gauge,
    pub(crate) used: Gauge,
    pub(crate) max: Gauge,
    pub(crate) pending: Gauge,
    pub(crate) timeouts: Counter,
    pub(crate) create_time: Histogram,
    pub(crate) wait_time: Histogram,
    pub(crate) use_time: Histogram,
}

impl PoolInstruments {
    pub(crate) fn new(pool: &'static str) -> Self {
        PoolInstruments {
            idle: gauge!(COUNT, POOL => pool, STATE => "idle"),
            used: gauge!(COUNT, POOL => pool, STATE => "used"),
            max: gauge!(MAX, POOL => pool),
            pending: gauge!(PENDING, POOL => pool),
            timeouts: counter!(TIMEOUTS, POOL => pool),
            create_time: histogram!(CREATE_TIME, POOL => pool),
            wait_time: histogram!(WAIT_TIME, POOL => pool),
            use_time: histogram!(USE_TIME, POOL => pool),
        }
    }
}
