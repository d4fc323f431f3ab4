//! In-memory implementations of the ports. They pass the same contract as the real adapters, which makes mocks unnecessary.

mod bus;
mod cache;

pub use bus::MemoryBus;
pub use cache::MemoryCache;
