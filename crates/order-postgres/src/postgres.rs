//! The way in: one database, three ports.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::bulk;
use crate::commit_log::PostgresCommitLog;
use crate::connector::{Connector, Session, SetupError};
use crate::dead_letters::PostgresDeadLetters;
use crate::listener::Listener;
use crate::pool::{Pool, PoolSize};
use crate::reads::{Limits, Reads};
use crate::repository::PostgresOrderRepository;
use crate::settings::PostgresSettings;
use crate::store::Shared;

/// The three ports on one database. Cloning is cheap: the connections are shared.
#[derive(Clone)]
pub struct PostgresStore {
    orders: Arc<PostgresOrderRepository>,
    commit_log: Arc<PostgresCommitLog>,
    dead_letters: Arc<PostgresDeadLetters>,
}

impl PostgresStore {
    /// Takes the settings, without touching the network: connections are opened when they are first needed, and again whenever
    /// they are lost. Run [`migrate`](crate::migrate) before the first use.
    ///
    /// All connections live on the tokio runtime that calls this, whoever uses them later.
    ///
    /// # Errors
    ///
    /// If the settings ask for TLS and no root certificate can be read, or if there is no tokio runtime.
    pub fn connect(settings: &PostgresSettings) -> Result<Self, SetupError> {
        let connector = Connector::new(settings)?;
        Ok(Self::on(&connector, &connector))
    }

    /// The same, but reads of orders and dead letters run on `readers`, where their connections live; not those in bulk.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_with_readers(settings: &PostgresSettings, readers: &Handle) -> Result<Self, SetupError> {
        let connector = Connector::new(settings)?;
        Ok(Self::on(&connector, &connector.on(readers)))
    }

    fn on(connector: &Arc<Connector>, readers: &Arc<Connector>) -> Self {
        let settings = connector.settings();
        let pool = |connector, purpose, connections, wait, statement_timeout| {
            let session = Session {
                purpose,
                statement_timeout,
            };
            Arc::new(Pool::new(connector, session, PoolSize { connections, wait }))
        };
        // Rests are rounded up, so that the deadline on this side comes first and tells what happened.
        let reads_end = |deadline: Duration| Some(deadline + Duration::from_millis(500));
        let ingest = pool(
            connector,
            "ingest",
            settings.ingest_connections.get(),
            settings.wait_timeout,
            None,
        );
        let bound = settings.read_deadline.max(settings.bulk_deadline);
        let read = pool(
            readers,
            "read",
            settings.read_connections.get(),
            settings.read_queue_timeout,
            reads_end(bound),
        );
        let bulk = pool(
            connector,
            "warm-up",
            bulk::CONNECTIONS,
            settings.read_queue_timeout,
            reads_end(settings.bulk_deadline),
        );
        let bound = settings.log_deadline.max(settings.bulk_deadline);
        let log = pool(
            connector,
            "log",
            settings.log_connections.get(),
            settings.wait_timeout,
            reads_end(bound),
        );

        PostgresStore {
            orders: Arc::new(PostgresOrderRepository {
                ingest,
                reads: Reads::new(
                    Arc::clone(&read),
                    Limits {
                        statements: settings.read_connections.get(),
                        wait: settings.read_queue_timeout,
                        deadline: settings.read_deadline,
                    },
                ),
                read: Arc::clone(&read),
                bulk,
                shared: Shared {
                    lock_key: settings.commit_lock().to_owned(),
                    channel: settings.channel(),
                    copy_from: settings.copy_from,
                    new_in_a_row: AtomicU32::new(0),
                },
                batch_deadline: settings.batch_deadline,
                read_deadline: settings.read_deadline,
                bulk_deadline: settings.bulk_deadline,
            }),
            commit_log: Arc::new(PostgresCommitLog {
                pool: log,
                listener: Listener::new(connector),
                log_deadline: settings.log_deadline,
                bulk_deadline: settings.bulk_deadline,
            }),
            dead_letters: Arc::new(PostgresDeadLetters {
                pool: read,
                deadline: settings.bulk_deadline,
            }),
        }
    }

    /// Tells the metrics how many connections there are now. To be called when they are about to be read.
    pub fn sample_pools(&self) {
        self.orders.ingest.sample(0);
        self.orders.read.sample(self.orders.reads.waiting());
        self.orders.bulk.sample(0);
        self.commit_log.pool.sample(0);
    }

    /// The orders.
    pub fn orders(&self) -> Arc<PostgresOrderRepository> {
        Arc::clone(&self.orders)
    }

    /// The commit log.
    pub fn commit_log(&self) -> Arc<PostgresCommitLog> {
        Arc::clone(&self.commit_log)
    }

    /// The dead letters.
    pub fn dead_letters(&self) -> Arc<PostgresDeadLetters> {
        Arc::clone(&self.dead_letters)
    }
}
