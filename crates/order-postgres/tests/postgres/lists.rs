//! Lists on many rows: from indexes whatever is asked, and in spite of a row that someone has deleted.

use std::time::Duration;

use order_domain::{
    OrderFilter, OrderPlace, OrderQuery, OrderRepository, OrderUid, RepositoryError, SearchText,
};

use crate::database::Database;

/// More rows than any plan would rather read whole.
const ORDERS: i64 = 20_000;
const TABLES: &str = "('orders', 'delivery', 'payment', 'items')";

/// A database whose reads may take long: other tests keep the machine busy, and none here is about time.
async fn patient_database() -> Database {
    let mut database = Database::new().await;
    database.settings.read_deadline = Duration::from_secs(30);
    database
}

/// Orders `order-1` and on: 20 at a time of one moment, 40 of each customer, track numbers and transactions of their own.
async fn fill(database: &Database, orders: i64) {
    let sql = format!(
        "INSERT INTO orders
         SELECT 'order-' || n, 't-' || n, 'WBIL', 'en', '', 'c-' || n % ({orders} / 40), 'meest', '9', 99,
             timestamptz '2024-01-01' + n / 20 * interval '1 minute', '1', now(), n, 1000, now()
         FROM generate_series(1, {orders}) AS n;
         INSERT INTO delivery SELECT order_uid, 'n', 'p', 'z', 'c', 'a', 'r', 'e' FROM orders;
         INSERT INTO payment SELECT order_uid, 'p-' || sequence, '', 'USD', 'wbpay', 1, 1, '', 1, 1, 0 FROM orders;
         INSERT INTO items SELECT order_uid, 0, 1, track_number, 1, '', 'n', 0, '', 1, 1, 'b', 202 FROM orders;
         ANALYZE orders, delivery, payment, items"
    );
    database.sql(&sql).await;
}

fn query(filter: OrderFilter, after: Option<OrderPlace>, limit: usize) -> OrderQuery {
    OrderQuery {
        filter,
        after,
        limit,
        max_bytes: 4 << 20,
    }
}

/// How often tables were read whole, and how often each index of the lists was used, as far as the server counts it by now.
async fn scans(database: &Database) -> (String, String) {
    let schema = &database.settings.schema;
    let whole = format!(
        "SELECT sum(seq_scan) FROM pg_stat_user_tables WHERE schemaname = '{schema}' AND relname IN {TABLES}"
    );
    let used = format!(
        "SELECT string_agg(indexrelname, ' ' ORDER BY indexrelname) FROM pg_stat_user_indexes
         WHERE schemaname = '{schema}' AND idx_scan > 0 AND (indexrelname LIKE '%\\_by\\_%')"
    );
    (database.sql(&whole).await, database.sql(&used).await)
}

#[tokio::test]
async fn every_list_and_look_up_is_answered_from_indexes() {
    let database = patient_database().await;
    fill(&database, ORDERS).await;
    // The server counts what a session did when the session ends, at the latest.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let (before, _) = scans(&database).await;

    let store = database.store();
    let orders = store.orders();
    for combination in 0..8 {
        let given =
            |bit: usize, text: &str| (combination & bit != 0).then(|| SearchText::new(text).expect("a text"));
        let filter = OrderFilter {
            track_number: given(1, "t-1234"),
            customer_id: given(2, "c-234"),
            transaction: given(4, "p-1234"),
        };
        // More often than the server takes to settle for one plan.
        for _ in 0..8 {
            let page = orders
                .page(&query(filter.clone(), None, 10))
                .await
                .expect("answered");
            let expected = match (combination & 5 != 0, combination & 2 != 0) {
                (true, _) => 1,
                (false, _) => 10,
            };
            assert_eq!(page.orders.len(), expected, "{filter:?}");
            if let Some(next) = page.next {
                let page = orders.page(&query(filter.clone(), Some(next), 200)).await;
                assert!(!page.expect("answered").orders.is_empty());
            }
        }
    }
    let uids: Vec<_> = (0..500).map(|it| format!("order-{}", it * 41)).collect();
    let uids: Vec<_> = uids
        .iter()
        .map(|uid| OrderUid::new(uid).expect("a uid"))
        .collect();
    for _ in 0..8 {
        let found = orders.find_many(&uids, 4 << 20).await.expect("answered");
        assert_eq!((found.orders.len(), found.answered), (487, 500));
    }
    drop((orders, store));

    let indexes =
        "orders_by_customer_id orders_by_date_created orders_by_track_number payment_by_transaction";
    let mut after = scans(&database).await;
    for _ in 0..100 {
        if after.1 == indexes {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        after = scans(&database).await;
    }
    assert_eq!(
        after,
        (before, indexes.to_owned()),
        "a table was read whole, or an index not used"
    );
}

#[tokio::test]
async fn an_order_that_lost_a_part_is_left_out_of_lists_and_told_to_whoever_asks_for_it() {
    let database = patient_database().await;
    fill(&database, 80).await;
    database
        .sql("DELETE FROM delivery WHERE order_uid IN ('order-80', 'order-7', 'order-1')")
        .await;
    let orders = database.store().orders();
    let (mut read, mut after) = (0, None);
    loop {
        let page = orders
            .page(&query(OrderFilter::default(), after, 1))
            .await
            .expect("answered");
        read += page.orders.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(read, 77);
    let uids = ["order-8", "order-7"].map(|uid| OrderUid::new(uid).expect("a uid"));
    let found = orders.find_many(&uids, 4 << 20).await;
    assert!(matches!(found, Err(RepositoryError::Other(_))), "{found:?}");
}

/// A filter of two texts that many orders have each and none has both is much work. It ends on the server, too.
#[tokio::test]
async fn a_list_that_takes_too_long_ends_on_the_server() {
    let mut database = Database::new().await;
    fill(&database, 80).await;
    database.settings.read_deadline = Duration::from_secs(2);
    database.settings.lock_timeout = Duration::from_secs(60);
    let orders = database.store().orders();
    let first = query(OrderFilter::default(), None, 1);
    orders.page(&first).await.expect("answered");
    let blocker = database.session().await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("locked");
    let page = orders.page(&first).await;
    assert!(matches!(page, Err(RepositoryError::Unavailable(_))), "{page:?}");
    let waiting = format!(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '{}.orders'::regclass",
        database.settings.schema
    );
    let mut left = String::new();
    for _ in 0..100 {
        left = database.sql(&waiting).await;
        if left == "0" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        left, "0",
        "the server still waits for what nobody waits for any more"
    );
    blocker.batch_execute("ROLLBACK").await.expect("unlocked");
}
