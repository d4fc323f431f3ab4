//! Any bytes at all, a million times.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use order_domain::testing::orders::sample_order_version;
use order_domain::{OrderUid, Parsed, parse};
use order_tests::{Process, Shop};
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
