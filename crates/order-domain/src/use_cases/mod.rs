//! What the service does, on ports only.

mod answer_room;
mod arrivals;
mod backoff;
mod batch_store;
mod coherence;
mod dead_letter_desk;
mod health;
mod ingestor;
mod log_follower;
mod order_lists;
mod order_publisher;
mod order_service;
mod own_commits;
mod submission;
#[cfg(test)]
mod tests;
mod warm_up;

pub use answer_room::ReservedRoom;
pub use backoff::Backoff;
pub use coherence::{Coherence, FillTicket, Lookup, WarmUpGuard};
pub use dead_letter_desk::{DeadLetterDesk, DeskError, Discarded, Replayed};
pub use health::{DatabaseReach, Health, HealthReport, Standing};
pub use ingestor::{IngestSettings, Ingestor};
pub use log_follower::{FollowerSettings, LogFollower};
pub use order_lists::{ANSWER_BYTES, LookedUp};
pub use order_publisher::{OrderPublisher, PublishError, PublishSettings, Published};
pub use order_service::{FindError, Found, OrderService, ReadSettings};
pub use submission::{IdempotencyKey, IdempotencyKeyError, TraceParent};
pub use warm_up::{WarmUpSettings, warm_up};
