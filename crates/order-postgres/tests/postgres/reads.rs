//! Reads of single orders that wait at the same time, and are taken together.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use order_domain::{OrderDocument, OrderRepository, OrderUid, RepositoryError};
use order_postgres::{PostgresOrderRepository, PostgresSettings, PostgresStore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use crate::database::Database;
use crate::proxy::{Proxy, Wire};
use crate::storing::{batch, version, wait_until};

type Answer = Result<Option<OrderDocument>, RepositoryError>;

/// A store that reads on one connection, so that whoever comes during a read waits for its end.
struct OneConnection {
    database: Database,
    proxy: Proxy,
    orders: Arc<PostgresOrderRepository>,
}

impl OneConnection {
    /// With orders under these names; both statements have been prepared.
    async fn with(uids: &[&str]) -> Self {
        let database = Database::new().await;
        let proxy = Proxy::to(database.address()).await;
        let settings = PostgresSettings {
            read_connections: 1.try_into().expect("not zero"),
            read_queue_timeout: Duration::from_secs(10),
            read_deadline: Duration::from_secs(20),
            lock_timeout: Duration::from_secs(20),
            ..database.settings_through(proxy.port)
        };
        let orders = PostgresStore::connect(&settings)
            .expect("the settings serve")
            .orders();
        let given = uids.iter().map(|uid| version(uid, 1));
        orders.store(&batch(given)).await.expect("stored");
        let one = OneConnection {
            database,
            proxy,
            orders,
        };
        for uids in [&["x"][..], &["x", "y"]] {
            for answer in answers(one.ask_all(uids.iter().copied())).await {
                answer.expect("read");
            }
        }
        one
    }

    /// Asks at once, as other tasks do.
    fn ask_all<'a>(&self, uids: impl IntoIterator<Item = &'a str>) -> Vec<JoinHandle<Answer>> {
        let ask = |uid: &str| {
            let (orders, uid) = (Arc::clone(&self.orders), uid_of(uid));
            tokio::spawn(async move { orders.find(&uid).await })
        };
        uids.into_iter().map(ask).collect()
    }

    /// Holds up every read from now on, of which one, of order `held`, is under way; until the session commits.
    async fn hold(&self) -> (Client, JoinHandle<Answer>) {
        let holder = self.database.session().await;
        holder
            .batch_execute("BEGIN; LOCK TABLE orders")
            .await
            .expect("locked");
        let held = self.ask_all(["held"]).remove(0);
        let schema = &self.database.settings.schema;
        let blocked = format!(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '{schema}.orders'::regclass"
        );
        wait_until(async || self.database.sql(&blocked).await == "1").await;
        (holder, held)
    }
}

fn uid_of(uid: &str) -> OrderUid {
    OrderUid::new(uid).expect("a uid")
}

fn found(uid: &str) -> Option<OrderDocument> {
    let given = version(uid, 1);
    Some(given.order.document(given.revision))
}

async fn release(holder: Client) {
    // Whoever was asked at the same time waits now.
    sleep(Duration::from_millis(200)).await;
    holder.batch_execute("COMMIT").await.expect("released");
}

async fn answers(reads: Vec<JoinHandle<Answer>>) -> Vec<Answer> {
    let answered = timeout(Duration::from_secs(10), join_all(reads)).await;
    let answered = answered.expect("all are answered");
    answered
        .into_iter()
        .map(|read| read.expect("no task fails"))
        .collect()
}

#[tokio::test]
async fn many_at_once_are_answered_each_with_its_own_order_in_few_statements() {
    let names: Vec<String> = (0..60).map(|number| format!("order-{number}")).collect();
    let mut asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let one = OneConnection::with(&asked).await;
    // Some do not exist, and some are asked for twice.
    asked.splice(30..30, ["absent", "order-3", "order-59", "absent"]);
    one.proxy.set(Wire::Late(Duration::from_millis(100)));
    let began = Instant::now();
    let answered = answers(one.ask_all(asked.iter().copied())).await;
    // A statement takes 100 ms or little more: one for each would take 6 s.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    for (uid, answer) in asked.into_iter().zip(answered) {
        let expected = if uid == "absent" { None } else { found(uid) };
        assert_eq!(answer.expect("read"), expected, "{uid}");
    }
}

/// Damages an order by this SQL, and answers what reading it fails with. Two that are read together with it are answered.
async fn failure_of_a_damaged_order(damage: &str) -> RepositoryError {
    let one = OneConnection::with(&["good", "damaged", "other"]).await;
    one.database.sql(damage).await;
    let (holder, held) = one.hold().await;
    let reads = one.ask_all(["good", "damaged", "other"]);
    release(holder).await;
    let [good, damaged, other] = <[Answer; 3]>::try_from(answers(reads).await).expect("three answers");
    assert_eq!(good.expect("read"), found("good"));
    assert_eq!(other.expect("read"), found("other"));
    assert!(matches!(held.await, Ok(Ok(None))));
    damaged.expect_err("it is damaged")
}

#[tokio::test]
async fn an_order_that_cannot_be_decoded_fails_alone() {
    let failure = failure_of_a_damaged_order("DELETE FROM delivery WHERE order_uid = 'damaged'").await;
    assert!(matches!(failure, RepositoryError::Other(_)), "{failure:?}");
}

#[tokio::test]
async fn an_order_that_the_server_cannot_read_fails_alone() {
    let failure = failure_of_a_damaged_order(
        "ALTER TABLE delivery RENAME TO damaged_delivery;
         CREATE VIEW delivery AS SELECT order_uid, name, phone, zip, city, address, region,
             CASE order_uid WHEN 'damaged' THEN (1 / (length(email) - length(email)))::text ELSE email END AS email
         FROM damaged_delivery",
    )
    .await;
    assert!(matches!(failure, RepositoryError::Rejected(_)), "{failure:?}");
}

#[tokio::test]
async fn whoever_hangs_up_neither_harms_the_others_nor_keeps_a_place() {
    let one = OneConnection::with(&["a", "b"]).await;
    for _ in 0..3 {
        let (holder, held) = one.hold().await;
        let mut reads = one.ask_all(["a", "b", "a", "b"]);
        sleep(Duration::from_millis(50)).await;
        // One whose statement is under way, and two who wait.
        held.abort();
        for gone in reads.drain(..2) {
            gone.abort();
        }
        release(holder).await;
        let answered = answers(reads).await;
        assert_eq!(answered[0].as_ref().expect("read"), &found("a"));
        assert_eq!(answered[1].as_ref().expect("read"), &found("b"));
    }
}

#[tokio::test]
async fn whoever_asks_while_an_answer_is_on_its_way_is_not_given_that() {
    let one = OneConnection::with(&["a"]).await;
    one.proxy.set(Wire::Late(Duration::from_millis(300)));
    let first = one.ask_all(["a"]);
    sleep(Duration::from_millis(100)).await;
    // The server has answered the first, which does not know yet. (If it is slow and has not, this shows nothing.)
    let newer = version("a", 2);
    let elsewhere = one.database.store().orders();
    elsewhere.store(&batch([newer.clone()])).await.expect("stored");
    let second = one.ask_all(["a"]);
    answers(first).await.remove(0).expect("read");
    let second = answers(second).await.remove(0);
    assert_eq!(second.expect("read"), Some(newer.order.document(newer.revision)));
}

#[tokio::test]
async fn a_thousand_reads_of_a_frozen_database_are_turned_away_in_time() {
    let database = Database::new().await;
    let proxy = Proxy::to(database.address()).await;
    let settings = PostgresSettings {
        read_deadline: Duration::from_secs(1),
        ..database.settings_through(proxy.port)
    };
    let orders = PostgresStore::connect(&settings)
        .expect("the settings serve")
        .orders();
    orders.store(&batch([version("a", 1)])).await.expect("stored");
    wait_until(async || orders.find(&uid_of("a")).await.is_ok()).await;

    proxy.set(Wire::Frozen);
    let began = Instant::now();
    let uids: Vec<OrderUid> = (0..1_000)
        .map(|number| uid_of(&format!("order-{number}")))
        .collect();
    let answered = join_all(
        uids.iter()
            .map(async |uid| (orders.find(uid).await, began.elapsed())),
    )
    .await;
    let mut waited = 0;
    for (answer, took) in answered {
        assert!(
            matches!(answer, Err(RepositoryError::Unavailable(_))),
            "{answer:?}"
        );
        assert!(took < Duration::from_millis(1_500), "{took:?}");
        waited += usize::from(took > Duration::from_millis(600));
    }
    // Those whose statements were sent wait for them; the others learn after a tenth of that that there is no room.
    assert!(waited <= 8 * 16, "{waited}");

    proxy.set(Wire::Whole);
    wait_until(async || orders.find(&uid_of("a")).await.is_ok()).await;
    assert_eq!(orders.find(&uid_of("a")).await.expect("read"), found("a"));
}

#[tokio::test]
async fn a_read_outlives_the_runtime_of_whoever_waited_beside_it() {
    let one = OneConnection::with(&["a"]).await;
    let (holder, held) = one.hold().await;
    held.abort();
    // The first of those who wait is on a runtime that ends.
    let orders = Arc::clone(&one.orders);
    let elsewhere = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let answer = timeout(Duration::from_millis(50), orders.find(&uid_of("a"))).await;
            assert!(answer.is_err(), "it was read although the table was locked");
        });
    });
    elsewhere.join().expect("the thread ends");
    let reads = one.ask_all(["a"]);
    release(holder).await;
    assert_eq!(answers(reads).await.remove(0).expect("read"), found("a"));
}
