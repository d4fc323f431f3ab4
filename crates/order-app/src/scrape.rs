//! What is measured only when someone asks: the state of health, cache, pools, backlog and process.

use std::sync::Arc;

use jiff::Timestamp;
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use order_domain::{BusState, Coherence, DatabaseReach, Health, Standing};
use order_postgres::PostgresStore;

use crate::backlog::BacklogWatch;
use crate::build_info::{COMMIT, PROFILE, VERSION};
use crate::instruments::{
    BACKLOG_KEPT_FOR, BACKLOG_OLDEST_AGE, BACKLOG_SAMPLE_AGE, BACKLOG_UNACKNOWLEDGED, BACKLOG_UNDELIVERED,
    BROKER_UP, BUILD_INFO, CACHE_BYTES, CACHE_LEASE_AGE, CACHE_MAX_BYTES, CACHE_ORDERS, CACHE_PROVEN,
    DATABASE_UP, INGESTION_PAUSED, READY,
};
use crate::process;

/// Everything that a scrape looks at.
pub(crate) struct Scrape {
    pub(crate) collected: PrometheusHandle,
    pub(crate) health: Arc<Health>,
    pub(crate) coherence: Arc<Coherence>,
    pub(crate) store: PostgresStore,
    pub(crate) backlog: Arc<BacklogWatch>,
}

impl Scrape {
    /// All metrics, in Prometheus' text form. Asks nobody outside of this process.
    pub(crate) fn text(&self) -> String {
        gauge!(BUILD_INFO, "version" => VERSION, "profile" => PROFILE, "commit" => COMMIT).set(1);
        self.sample_health();
        self.sample_cache();
        self.sample_backlog();
        self.store.sample_pools();
        let mut text = self.collected.render();
        process::write_metrics(&mut text);
        text
    }

    fn sample_health(&self) {
        let report = self.health.report();
        let ready = matches!(report.standing, Standing::Ready | Standing::Degraded);
        gauge!(READY).set(u32::from(ready));
        gauge!(DATABASE_UP).set(u32::from(report.database == DatabaseReach::InReach));
        gauge!(BROKER_UP).set(u32::from(report.broker == BusState::Connected));
        gauge!(INGESTION_PAUSED).set(u32::from(report.ingestion_paused));
    }

    fn sample_cache(&self) {
        let cache = self.coherence.cache();
        let size = cache.size();
        gauge!(CACHE_ORDERS).set(size.orders as f64);
        gauge!(CACHE_BYTES).set(size.bytes as f64);
        gauge!(CACHE_MAX_BYTES).set(cache.max_bytes() as f64);
        gauge!(CACHE_PROVEN).set(u32::from(self.coherence.is_proven()));
        gauge!(CACHE_LEASE_AGE).set(self.coherence.lease_age());
    }

    fn sample_backlog(&self) {
        let Some(sample) = self.backlog.last() else {
            return;
        };
        let backlog = sample.backlog;
        // What was the oldest grows older while the broker cannot be asked, so that the alarm goes off in time.
        let age = backlog.oldest.map_or(0.0, |oldest| {
            Timestamp::now().duration_since(oldest).as_secs_f64()
        });
        gauge!(BACKLOG_UNDELIVERED).set(backlog.undelivered as f64);
        gauge!(BACKLOG_UNACKNOWLEDGED).set(backlog.unacknowledged as f64);
        gauge!(BACKLOG_OLDEST_AGE).set(age.max(0.0));
        gauge!(BACKLOG_SAMPLE_AGE).set(sample.at.elapsed());
        if let Some(kept_for) = backlog.kept_for {
            gauge!(BACKLOG_KEPT_FOR).set(kept_for);
        }
    }
}
