//! Listens for commits, on a connection of its own that is opened again for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::connector::{Connector, Opened, Session};
use crate::failure::Failure;

const SESSION: Session = Session {
    purpose: "listen",
    statement_timeout: None,
};
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Tells when a commit was announced. The connection is opened when first asked for.
pub(crate) struct Listener {
    connector: Arc<Connector>,
    announced: watch::Sender<Announced>,
    /// How many announcements were passed on.
    passed_on: AtomicU64,
    task: OnceCell<JoinHandle<()>>,
}

/// The announcements so far.
#[derive(Debug, Clone, Copy, Default)]
struct Announced {
    count: u64,
    /// What the last one said of where the log ends; `None` if it did not say.
    position: Option<i64>,
}

impl Announced {
    fn add(&mut self, position: Option<i64>) {
        self.count += 1;
        self.position = position;
    }
}

impl Listener {
    pub(crate) fn new(connector: &Arc<Connector>) -> Self {
        Listener {
            connector: Arc::clone(connector),
            announced: watch::Sender::default(),
            passed_on: AtomicU64::new(0),
            task: OnceCell::new(),
        }
    }

    /// Returns when a commit beyond `position` was announced since the last return, to everyone who waits.
    pub(crate) async fn changed(&self, position: i64) {
        self.task.get_or_init(async || self.start()).await;
        let known = self.passed_on.load(Ordering::Relaxed);
        let mut announced = self.announced.subscribe();
        // The sender lives as long as `self`, so that waiting cannot fail.
        let is_beyond = |last: &Announced| last.position.is_none_or(|last| last > position);
        if let Ok(last) = announced
            .wait_for(|last| last.count > known && is_beyond(last))
            .await
        {
            self.passed_on.fetch_max(last.count, Ordering::Relaxed);
        }
    }

    fn start(&self) -> JoinHandle<()> {
        let connector = Arc::clone(&self.connector);
        let announced = self.announced.clone();
        self.connector
            .runtime()
            .spawn(listen_for_ever(connector, announced))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

async fn listen_for_ever(connector: Arc<Connector>, announced: watch::Sender<Announced>) {
    let mut wait = FIRST_WAIT;
    loop {
        match listen(&connector, &announced).await {
            Ok((_client, connection)) => {
                wait = FIRST_WAIT;
                // What was committed while nobody listened is unknown, so it counts as an announcement.
                announced.send_modify(|announced| announced.add(None));
                let mut connection = AbortOnDrop(connection);
                let _ = (&mut connection.0).await;
                tracing::info!(
                    "no longer listening for commits; the log is read at intervals until it is reconnected"
                );
            }
            Err(failure) => tracing::debug!(?failure, "cannot listen for commits yet"),
        }
        // Not all replicas at once, when the database comes back.
        sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn listen(connector: &Arc<Connector>, announced: &watch::Sender<Announced>) -> Result<Opened, Failure> {
    let settings = connector.settings();
    let on_notice = announced.clone();
    let opening = connector.open(SESSION, move |position| {
        on_notice.send_modify(|announced| announced.add(position.parse().ok()));
    });
    let attempt = async {
        let opened = opening.await?;
        // A name that can be a schema's holds no quotation mark.
        opened
            .0
            .batch_execute(&format!("LISTEN \"{}\"", settings.channel()))
            .await?;
        Ok(opened)
    };
    timeout(settings.create_timeout, attempt)
        .await
        .unwrap_or_else(|_| Err(Failure::unavailable("not connected in time")))
}

/// Closes the connection when the listener is dropped.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
