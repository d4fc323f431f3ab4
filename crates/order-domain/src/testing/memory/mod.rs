//! In-memory implementations of the ports. They pass the same contract as the real adapters, which makes mocks unnecessary.

mod bus;
mod cache;
mod store;

pub use bus::{MemoryBus, MemoryBusBackup};
pub use cache::MemoryCache;
pub use store::{MemoryBackup, MemoryStore};
