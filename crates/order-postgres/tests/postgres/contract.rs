//! The contract of the domain, kept on a real database.

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
        let database = Database::new().await;
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
