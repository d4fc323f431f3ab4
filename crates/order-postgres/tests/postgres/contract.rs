//! The contract of the domain, kept on a real database.

use std::time::Duration;

use async_trait::async_trait;
use order_domain::testing::contract::storage::{Storage, StorageFixture};
use order_postgres::PostgresStore;

use crate::database::Database;

/// Copies what is new in batches of this many orders and more.
struct OnPostgres<const COPY_FROM: usize> {
    store: PostgresStore,
    database: Database,
}

#[async_trait]
impl<const COPY_FROM: usize> StorageFixture for OnPostgres<COPY_FROM> {
    async fn open() -> Self {
        let mut database = Database::new().await;
        database.settings.copy_from = COPY_FROM;
        // The rules are not about time, and other tests keep the machine busy.
        database.settings.read_deadline = Duration::from_secs(30);
        OnPostgres {
            store: database.store(),
            database,
        }
    }

    fn storage(&self) -> Storage {
        Storage {
            orders: self.store.orders(),
            log: self.store.commit_log(),
            letters: self.store.dead_letters(),
        }
    }

    async fn close(self) {
        drop(self.store);
        drop(self.database);
    }
}

mod copying {
    order_domain::order_storage_contract!(super::OnPostgres<1>);
}

mod by_statements {
    order_domain::order_storage_contract!(super::OnPostgres<{ usize::MAX }>);
}
