//! What became of a run's messages, in numbers.

use indicatif::HumanCount;
use order_domain::OrderUid;
use xtask::environment;
use xtask::orders::{Expected, Message};
use xtask::servers::development::Development;

use super::publisher::{Fate, Times};

/// Counts messages by what they are and what became of them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    published: u64,
    acknowledged: u64,
    refused: u64,
    unknown: u64,
    bad: u64,
    updates: u64,
    reason: Option<String>,
    example: Option<OrderUid>,
}

impl Tally {
    /// Counts a message.
    pub(super) fn add(&mut self, message: &Message, fate: &Fate) {
        self.published += 1;
        match fate {
            Fate::Acknowledged(_) => self.acknowledged += 1,
            Fate::Refused(reason) => {
                self.refused += 1;
                self.reason = Some(reason.clone());
            }
            Fate::Unknown => self.unknown += 1,
        }
        match &message.expected {
            Expected::Served { uid, update, .. } => {
                self.updates += u64::from(*update);
                if matches!(fate, Fate::Acknowledged(_)) && self.example.is_none() {
                    self.example = Some(uid.clone());
                }
            }
            Expected::Refused(_) => self.bad += 1,
        }
    }

    /// Whether every message was acknowledged.
    pub(super) fn is_complete(&self) -> bool {
        self.acknowledged == self.published
    }

    /// Prints the summary.
    pub(super) fn print(&self, times: Times, seed: Option<u64>) {
        let rate = self.acknowledged as f64 / times.elapsed.as_secs_f64().max(1e-6);
        println!("published     {}", HumanCount(self.published));
        if self.updates > 0 {
            println!(
                "  updates     {} new versions of orders of this run",
                HumanCount(self.updates)
            );
        }
        if self.bad > 0 {
            println!("  bad         {}, to become dead letters", HumanCount(self.bad));
        }
        println!(
            "acknowledged  {} in {:.2} s, {} a second",
            HumanCount(self.acknowledged),
            times.elapsed.as_secs_f64(),
            HumanCount(rate as u64)
        );
        if let Some(reason) = &self.reason {
            println!(
                "refused       {} by the broker: {reason}",
                HumanCount(self.refused)
            );
        }
        if self.unknown > 0 {
            println!(
                "unanswered    {} when the run ended: stored or not",
                HumanCount(self.unknown)
            );
        }
        if times.late.as_millis() >= 100 {
            println!(
                "late          at most {:.1} s behind the asked rate",
                times.late.as_secs_f64()
            );
        }
        if let Some(seed) = seed {
            println!("seed          {seed}");
        }
        if let Some(uid) = &self.example {
            println!("try           curl http://{}/api/v1/orders/{uid}", http_address());
        }
    }
}

/// Where the service listens, as far as is known: as its setting says, else as `cargo xtask up` chose.
pub(crate) fn http_address() -> String {
    let last_time = || Development::open().ok()?.http_port();
    let usual = || format!("127.0.0.1:{}", last_time().unwrap_or(8080));
    environment::variable("ORDERS__HTTP__ADDRESS").unwrap_or_else(usual)
}
