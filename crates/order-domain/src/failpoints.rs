//! Moments at which a test can hold the service, to kill or freeze it there.
//!
//! Only there with the feature `failpoints`, which no release has: `cargo xtask check` proves it. Which moments hold, and how,
//! stands in the variable `FAILPOINTS`, as the crate `fail` reads it: `before-commit=pause` for ever, `before-commit=sleep(3000)` for
//! three seconds, `before-commit=1*sleep(3000)` once.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::task::spawn_blocking;

/// A moment at which a crash or a pause must cost nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Messages were taken from the bus, and nothing was done with them.
    AfterReceive,
    /// Everything of a batch was sent to the database but its COMMIT.
    BeforeCommit,
    /// The database has answered the COMMIT, and nobody here knows yet.
    AfterCommit,
    /// Changes were read from the commit log, and the cache knows none of them.
    BeforeApply,
    /// A batch is stored, and none of its messages acknowledged.
    BeforeAcknowledge,
    /// The bus was told of a batch's acknowledgements.
    AfterAcknowledge,
}

impl Moment {
    /// All of them, in the order in which a message passes them.
    pub const ALL: [Moment; 6] = [
        Moment::AfterReceive,
        Moment::BeforeCommit,
        Moment::AfterCommit,
        Moment::BeforeApply,
        Moment::BeforeAcknowledge,
        Moment::AfterAcknowledge,
    ];

    /// Its name in `FAILPOINTS`.
    pub const fn name(self) -> &'static str {
        match self {
            Moment::AfterReceive => "after-receive",
            Moment::BeforeCommit => "before-commit",
            Moment::AfterCommit => "after-commit",
            Moment::BeforeApply => "before-apply",
            Moment::BeforeAcknowledge => "before-acknowledge",
            Moment::AfterAcknowledge => "after-acknowledge",
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether any moment holds at all. While none does, passing one costs a load of this.
static ARMED: AtomicBool = AtomicBool::new(false);

/// Holds where `FAILPOINTS` says, for as long as this lives.
pub struct Armed(#[expect(dead_code, reason = "held for what its end does")] fail::FailScenario<'static>);

/// Reads `FAILPOINTS`.
///
/// # Panics
///
/// If it cannot be read: a test that holds nowhere would pass for nothing.
pub fn arm() -> Armed {
    let scenario = fail::FailScenario::setup();
    for (name, _) in fail::list() {
        assert!(
            Moment::ALL.iter().any(|moment| moment.name() == name),
            "FAILPOINTS names {name:?}, which is no moment"
        );
        ARMED.store(true, Relaxed);
    }
    Armed(scenario)
}

/// Holds here if this moment is armed, and says so in the log.
pub async fn reached(moment: Moment) {
    if !ARMED.load(Relaxed) {
        return;
    }
    let name = moment.name();
    if fail::list().iter().any(|(armed, _)| armed == name) {
        tracing::warn!(moment = name, "held at a failpoint");
        // On a thread of its own, so that only this task is held and not those that share its thread.
        let held = spawn_blocking(move || fail::fail_point!(name));
        if held.await.is_err() {
            tracing::warn!(moment = name, "the failpoint panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn an_armed_moment_holds_until_it_is_let_go_and_the_others_do_not() {
        let armed = arm();
        let hold = fail::cfg(Moment::BeforeCommit.name(), "pause");
        hold.expect("an action that can be read");
        ARMED.store(true, Relaxed);
        reached(Moment::AfterCommit).await;
        let held = tokio::spawn(reached(Moment::BeforeCommit));
        let mut held = std::pin::pin!(held);
        assert!(timeout(Duration::from_millis(100), &mut held).await.is_err());
        fail::remove(Moment::BeforeCommit.name());
        timeout(Duration::from_secs(30), held)
            .await
            .expect("it goes on")
            .expect("it does not panic");
        ARMED.store(false, Relaxed);
        drop(armed);
    }
}
