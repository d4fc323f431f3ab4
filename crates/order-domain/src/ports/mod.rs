//! What the use cases need of the world, each port in one file beside its error.

mod bus;
mod cache;
mod commit_log;
mod dead_letters;
mod repository;

pub use bus::{
    AckToken, Backlog, BusError, BusState, IncomingMessage, OrderBus, OutgoingMessage, PublishAck,
    RawMessage, Subscription, TakeLimits,
};
pub use cache::{CacheSize, OrderCache};
pub use commit_log::{CommitLog, CommitLogError, LogChange, LogCursor, LogEntry, LogPage, Logged};
pub use dead_letters::{
    DeadLetter, DeadLetterError, DeadLetterQuery, DeadLetterState, DeadLetters, StoredDeadLetter,
};
pub use repository::{
    FoundOrders, OrderPage, OrderRepository, OrderStream, RepositoryError, StoreOutcome, StoreReport,
};
