//! Long runs, left out unless they are asked for: `cargo xtask test --test endurance -- --ignored --nocapture --test-threads 1`.

#![expect(
    clippy::print_stderr,
    reason = "whoever asked for a long run wants its figures"
)]

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use order_domain::testing::orders::{sample_order, sample_order_version};
use order_domain::{Order, OrderUid, Parsed, parse};
use order_tests::{Client, Process, Servers, Shop, eventually};
use tokio::time::{Instant, sleep};

const MESSAGES: usize = 1_000_000;
/// How many orders the fuzzed messages mean, before they are mutated.
const ORDERS: u32 = 5_000;

/// A message with something wrong in it, or not: the same for the same seed.
fn fuzzed(random: &mut fastrand::Rng) -> Vec<u8> {
    if random.u8(..) < 64 {
        // Any bytes at all.
        let length = random.usize(0..300);
        return (0..length).map(|_| random.u8(..)).collect();
    }
    let number = random.u32(..ORDERS);
    let order = sample_order_version(&format!("order-{number}"), random.u32(..100));
    let mut message = order.json().to_vec();
    for _ in 0..random.usize(0..4) {
        if message.is_empty() {
            break;
        }
        let at = random.usize(..message.len());
        match random.u8(..6) {
            0 => message[at] = random.u8(..),
            1 => message.insert(at, random.u8(..)),
            2 => drop(message.remove(at)),
            // Digits and signs for others, which often leave an order.
            3 => message[at] = *random.choice(b"0123456789-+.eE\"\\{}[],:").expect("some"),
            4 => message.truncate(at.max(1)),
            _ => {
                let part = message[at..message.len().min(at + 40)].to_vec();
                let into = random.usize(..message.len());
                message.splice(into..into, part);
            }
        }
    }
    message
}

/// What stands in the tables of everything that was published.
#[derive(Default)]
struct Expected {
    /// The last sequence of each order.
    orders: HashMap<OrderUid, u64>,
    dead: i64,
}

impl Expected {
    fn add(&mut self, message: &[u8], sequence: u64) {
        match parse(message) {
            Ok(Parsed { order, .. }) => {
                let newest = self.orders.entry(order.order_uid.clone()).or_default();
                *newest = (*newest).max(sequence);
            }
            Err(_) => self.dead += 1,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some ten minutes"]
async fn a_million_fuzzed_messages_are_all_accounted_for() {
    let shop = Shop::open().await;
    let mut process = Process::start(shop.environment());
    let client = process.listening().await;
    client.ready().await;
    let began = Instant::now();
    let mut random = fastrand::Rng::with_seed(1);
    let messages = stream::iter((0..MESSAGES).map(|_| Bytes::from(fuzzed(&mut random))));
    let mut published = messages
        .map(async |message| {
            let ack = shop.publish(message.clone()).await;
            (message, ack.sequence)
        })
        .buffer_unordered(500);
    let (mut expected, mut count) = (Expected::default(), 0_u64);
    while let Some((message, sequence)) = published.next().await {
        expected.add(&message, sequence);
        count += 1;
        if count.is_multiple_of(100_000) {
            eprintln!("{count} published after {:.0?}", began.elapsed());
        }
    }
    drop(published);
    let consumed = async || shop.acknowledged().await == count;
    while !consumed().await {
        assert!(
            began.elapsed() < Duration::from_hours(1),
            "it does not come to an end"
        );
        sleep(Duration::from_secs(1)).await;
    }
    eprintln!("all consumed after {:.0?}", began.elapsed());

    let rows = shop.query("SELECT order_uid, sequence FROM orders").await;
    let stored: HashMap<OrderUid, u64> = rows
        .iter()
        .map(|row| {
            let uid = OrderUid::new(row.get(0)).expect("a uid");
            (uid, u64::try_from(row.get::<_, i64>(1)).expect("a sequence"))
        })
        .collect();
    let dead = shop.count("SELECT count(*) FROM dead_letters").await;
    let good = count - u64::try_from(dead).expect("a count");
    eprintln!(
        "{count} published = {good} good, of {} orders, + {dead} dead",
        stored.len()
    );
    assert_eq!(dead, expected.dead);
    assert_eq!(stored.len(), expected.orders.len());
    assert!(
        stored == expected.orders,
        "each order is stored in its newest version"
    );
    let parts = "SELECT count(*) FROM orders JOIN delivery USING (order_uid) JOIN payment USING (order_uid)";
    assert_eq!(
        shop.count(parts).await,
        i64::try_from(stored.len()).expect("a count")
    );
    assert!(process.terminate().await.success(), "it lived through all of it");
    shop.close().await;
}

/// An order of some 500 KB.
fn large_order(uid: &str) -> Order {
    let mut parts = sample_order(uid).into_parts();
    let mut item = parts.items[0].clone();
    item.name = "x".repeat(2_000);
    parts.items = vec![item; 225];
    let order = Order::new(parts).expect("an order");
    assert!((490_000..524_288).contains(&order.json().len()));
    order
}

/// What a process has resident, in MiB.
async fn resident(process: &Process) -> u64 {
    let id = process.id().to_string();
    let output = tokio::process::Command::new("ps")
        .args(["-o", "rss=", "-p", &id])
        .output();
    let output = output.await.expect("ps can be run");
    let kilobytes: u64 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .expect("a number");
    kilobytes / 1024
}

/// The most that is resident until `work` is done, in MiB.
async fn most_resident<T>(process: &Process, work: impl Future<Output = T>) -> (T, u64) {
    tokio::pin!(work);
    let mut most = 0;
    loop {
        tokio::select! {
            done = &mut work => return (done, most),
            () = sleep(Duration::from_millis(200)) => most = most.max(resident(process).await),
        }
    }
}

/// Publishes as fast as the broker takes them, at most `most` messages within `lasting`, and waits for its end; answers how many.
async fn flood(shop: &Shop, lasting: Duration, most: u64, make: impl Fn(u64) -> Bytes) -> u64 {
    let began = Instant::now();
    let numbers = stream::iter((0..most).take_while(|_| began.elapsed() < lasting));
    let published = numbers
        .map(|number| {
            let message = make(number);
            async { shop.publish(message).await }
        })
        .buffer_unordered(64)
        .count()
        .await;
    sleep(lasting.saturating_sub(began.elapsed())).await;
    published as u64
}

async fn all_stored(shop: &Shop, client: &Client, published: u64) {
    let began = Instant::now();
    while shop.acknowledged().await < published {
        assert!(
            began.elapsed() < Duration::from_mins(20),
            "{:?}",
            client.readyz().await
        );
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some five minutes"]
async fn resident_memory_stays_under_its_cap_while_the_database_is_frozen() {
    /// What the cache may weigh here.
    const CACHE_MIB: u64 = 32;
    /// What the service may have resident beside its cache: at most four pulls of 8 MiB that wait, two batches of 8 MiB with their
    /// parsed orders and their parameters, 32 MiB of what it is about to commit, and what the allocator keeps.
    const BESIDE_CACHE_MIB: u64 = 288;

    let servers = Servers::start();
    let mut shop = Shop::open_on(servers.postgres_url(), &servers.nats_url()).await;
    shop.set("CACHE__MAX_BYTES", &(CACHE_MIB << 20).to_string());
    let mut process = Process::start(shop.environment());
    let client = process.listening().await;
    client.ready().await;
    let idle = resident(&process).await;

    let small = |number: u64| sample_order(&format!("small-{number}")).json().clone();
    let (settled, with_database) = most_resident(&process, async {
        let published = flood(&shop, Duration::from_secs(10), 50_000, small).await;
        all_stored(&shop, &client, published).await;
        published
    })
    .await;
    eprintln!("idle {idle} MiB; {settled} small orders: at most {with_database} MiB");

    servers.freeze_postgres();
    let (flooded, frozen) = most_resident(&process, async {
        let small = flood(&shop, Duration::from_secs(30), 100_000, |number| {
            sample_order(&format!("frozen-{number}")).json().clone()
        });
        let small = small.await;
        let template = large_order("large").json().clone();
        let template = String::from_utf8(template.to_vec()).expect("JSON is text");
        let large = flood(&shop, Duration::from_secs(30), 600, |number| {
            Bytes::from(template.replace("\"large\"", &format!("\"large-{}\"", number % 500)))
        });
        small + large.await
    })
    .await;
    eprintln!("the database frozen for 60 s, {flooded} messages published: at most {frozen} MiB");
    let degraded = eventually(async || client.readyz().await.json()["status"] == "degraded").await;
    assert!(degraded, "{:?}", client.readyz().await);

    servers.thaw_postgres();
    let ((), catching_up) = most_resident(&process, all_stored(&shop, &client, settled + flooded)).await;
    eprintln!("catching up: at most {catching_up} MiB");
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    let most = idle.max(with_database).max(frozen).max(catching_up);
    let cap = CACHE_MIB + BESIDE_CACHE_MIB;
    assert!(most < cap, "{most} MiB are more than the cap of {cap} MiB");
    assert!(process.terminate().await.success());
}
