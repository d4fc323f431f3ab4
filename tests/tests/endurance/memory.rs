//! What is resident while far more comes than can be stored.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use order_domain::Order;
use order_domain::testing::orders::sample_order;
use order_tests::{Client, Process, Servers, Shop};
use tokio::time::{Instant, sleep};

/// An order of some 500 KB.
fn large_order(uid: &str) -> Order {
    let mut parts = sample_order(uid).into_parts();
    let mut item = parts.items[0].clone();
    item.name = "x".repeat(2_000).into();
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

/// Publishes as fast as the broker takes them, at most `most` messages within `lasting`, and waits for its end; answers how many it
/// took for certain.
async fn flood(shop: &Shop, lasting: Duration, most: u64, make: impl Fn(u64) -> Bytes) -> u64 {
    let began = Instant::now();
    let numbers = stream::iter((0..most).take_while(|_| began.elapsed() < lasting));
    let published = numbers
        .map(|number| {
            let message = make(number);
            async { shop.try_publish(message).await.is_ok() }
        })
        .buffer_unordered(64)
        .filter(|taken| std::future::ready(*taken))
        .count()
        .await;
    sleep(lasting.saturating_sub(began.elapsed())).await;
    published as u64
}

async fn all_stored(shop: &Shop, client: &Client) {
    let began = Instant::now();
    while shop.acknowledged().await < shop.messages().await {
        assert!(
            began.elapsed() < Duration::from_mins(20),
            "{:?}",
            client.readyz().await
        );
        sleep(Duration::from_millis(500)).await;
    }
}

/// Has the database take so many seconds for each order.
async fn slow_down(shop: &Shop, seconds: f64) {
    let body = format!("BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END");
    let function = "CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS";
    shop.query(&format!("{function} $$ {body} $$")).await;
    let each = "BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION slow()";
    shop.query(&format!("CREATE OR REPLACE TRIGGER slow {each}"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some five minutes"]
async fn resident_memory_stays_under_its_cap_under_ten_times_what_can_be_stored() {
    /// How many times more is published than can be stored.
    const OVERLOAD: u64 = 10;
    /// What the cache may weigh here.
    const CACHE_MIB: u64 = 32;
    /// What the service may have resident beside its cache: at most four pulls of 8 MiB that wait, two batches of 4 MiB in each of two
    /// lanes with their parsed orders and their parameters, 32 MiB of what it is about to commit, and what the allocator keeps.
    const BESIDE_CACHE_MIB: u64 = 288;

    let servers = Servers::start();
    let mut shop = Shop::open_on(&servers.postgres_url(), &servers.nats_url()).await;
    shop.set("CACHE__MAX_BYTES", &(CACHE_MIB << 20).to_string());
    // As long as they are by default: a batch of large orders is to take that long.
    shop.set("POSTGRES__BATCH_DEADLINE", "10s");
    shop.set("NATS__ACK_WAIT", "15s");
    let mut process = Process::start(shop.environment());
    let client = process.listening().await;
    client.ready().await;
    let mut most = resident(&process).await;
    eprintln!("idle: {most} MiB");
    let small = |number: u64| sample_order(&format!("small-{number}")).json().clone();
    let template = String::from_utf8(large_order("large").json().to_vec()).expect("JSON is text");
    let large =
        |number: u64| Bytes::from(template.replace("\"large\"", &format!("\"large-{}\"", number % 500)));

    // As fast as the broker takes them, the database as fast as it is.
    let (published, resident) = most_resident(&process, async {
        let published = flood(&shop, Duration::from_secs(10), 50_000, small).await;
        all_stored(&shop, &client).await;
        published
    })
    .await;
    eprintln!("{published} small orders, all stored: at most {resident} MiB");
    most = most.max(resident);

    // The database slow: first small orders, then large ones, some 400 a second in two lanes and some five.
    for (what, seconds, lasting, messages) in [("small", 0.005, 20, 100_000), ("large", 0.4, 30, 2_400)] {
        slow_down(&shop, seconds).await;
        let (before, began) = (shop.acknowledged().await, Instant::now());
        let make = |number| {
            if what == "small" {
                small(100_000 + number)
            } else {
                large(number)
            }
        };
        let (more, resident) = most_resident(
            &process,
            flood(&shop, Duration::from_secs(lasting), messages, make),
        )
        .await;
        let stored = shop.acknowledged().await - before;
        eprintln!(
            "{more} {what} orders published in {:.0?}, {stored} stored meanwhile: at most {resident} MiB",
            began.elapsed()
        );
        assert!(stored > 0 && more >= OVERLOAD * stored, "that is no overload");
        most = most.max(resident);
        shop.query("DROP TRIGGER slow ON orders").await;
        let ((), resident) = most_resident(&process, all_stored(&shop, &client)).await;
        eprintln!("taking in what waits: at most {resident} MiB");
        most = most.max(resident);
    }

    // The database stopped altogether, and both kinds.
    servers.freeze_postgres();
    let (more, resident) = most_resident(&process, async {
        let small = flood(&shop, Duration::from_secs(30), 100_000, |number| {
            small(200_000 + number)
        })
        .await;
        small + flood(&shop, Duration::from_secs(30), 600, large).await
    })
    .await;
    eprintln!("the database frozen for 60 s, {more} published: at most {resident} MiB");
    most = most.max(resident);
    client.tells_of("database: ").await;

    servers.thaw_postgres();
    let ((), resident) = most_resident(&process, all_stored(&shop, &client)).await;
    eprintln!("taking in what waits: at most {resident} MiB");
    most = most.max(resident);
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    let cap = CACHE_MIB + BESIDE_CACHE_MIB;
    assert!(most < cap, "{most} MiB are more than the cap of {cap} MiB");
    assert!(process.terminate().await.success());
}
