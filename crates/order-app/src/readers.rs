//! The threads that read from the database for those that answer.

use anyhow::Context;
use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime on which database reads run, and the connections that they read on.
///
/// It has threads of its own, and few of them. All that a read does on the way to the database and back then happens on one thread, where it
/// took several that woke one another; and it does not wait for ingestion, which may parse megabytes at a time.
pub(crate) struct Readers(Option<Runtime>);

impl Readers {
    /// Starts so many threads.
    ///
    /// # Errors
    ///
    /// They cannot be started.
    pub(crate) fn start(threads: usize) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("order-reader")
            .enable_all()
            .build();
        runtime
            .map(Some)
            .map(Readers)
            .context("failed to start the readers")
    }

    /// Where to let reads run.
    pub(crate) fn handle(&self) -> &Handle {
        let runtime = self.0.as_ref().expect("it is there until it is dropped");
        runtime.handle()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        // A runtime may not wait for its threads on one of another's.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
