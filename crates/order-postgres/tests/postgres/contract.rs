//! The contract of the domain, kept on a real database.

use std::time::Duration;

use async_trait::async_trait;
use order_domain::testing::contract::storage::{Storage, StorageFixture};
use order_postgres::PostgresStore;

use crate::database::Database;

struct OnPostgres {
    store: PostgresStore,
    database: Database,
}

#[async_trait]
impl StorageFixture for OnPostgres {
    async fn open() -> Self {
        let mut database = Database::new().await;
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

order_domain::order_storage_contract!(OnPostgres);
