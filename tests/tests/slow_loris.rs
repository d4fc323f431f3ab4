//! 10,000 connections that send heads which do not end, and what others notice of them. Takes minutes, and says
//! something only on a machine that does nothing else, in a build with optimisation. So it is started by hand:
//!
//! `cargo xtask test --release --test slow_loris -- --ignored --nocapture`

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use order_domain::testing::orders::sample_order;
use order_tests::{Process, Shop, eventually};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;

const CONNECTIONS: usize = 10_000;
const ROUNDS: usize = 5;
const PHASE: Duration = Duration::from_secs(6);
const READERS: usize = 4;
const EVERY: Duration = Duration::from_millis(4);

/// Holds a connection with a head that does not end, and a new one when it is cut off.
async fn attack(address: SocketAddr, held: Arc<AtomicUsize>, cut_off: Arc<AtomicUsize>) {
    // Not all at once.
    sleep(Duration::from_millis(fastrand::u64(..5_000))).await;
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        held.fetch_add(1, SeqCst);
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nx: ").await;
        let mut answer = [0; 64];
        let cut = loop {
            tokio::select! {
                read = stream.read(&mut answer) => break read,
                () = sleep(Duration::from_secs(4)) => {
                    let _ = stream.write_all(b"x").await;
                }
            }
        };
        drop(cut);
        held.fetch_sub(1, SeqCst);
        cut_off.fetch_add(1, SeqCst);
    }
}

/// Reads one order again and again, as many do, and answers how long each read took.
async fn read(address: SocketAddr) -> Vec<Duration> {
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        readers.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            let (mut took, mut answer) = (Vec::new(), vec![0; 16 * 1024]);
            let (began, mut due) = (Instant::now(), interval(EVERY));
            while began.elapsed() < PHASE {
                // From when the read was due, so that waiting for a slow one before it counts.
                let due = due.tick().await.into_std();
                stream
                    .write_all(b"GET /api/v1/orders/a HTTP/1.1\r\nhost: shop\r\n\r\n")
                    .await
                    .expect("it is connected");
                let length = stream.read(&mut answer).await.expect("an answer");
                assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK\r\n"));
                took.push(due.elapsed());
            }
            took
        });
    }
    let mut took = readers.join_all().await.concat();
    took.sort_unstable();
    took
}

fn quantile(sorted: &[Duration], part: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

/// Holds all connections, on a thread of their own so that those who read are not measured waiting for them, until told to stop.
fn attackers(
    address: SocketAddr,
    held: &Arc<AtomicUsize>,
    cut_off: &Arc<AtomicUsize>,
) -> (CancellationToken, JoinHandle<()>) {
    let over = CancellationToken::new();
    let (held, cut_off, stop) = (Arc::clone(held), Arc::clone(cut_off), over.clone());
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut attackers = JoinSet::new();
            for _ in 0..CONNECTIONS {
                attackers.spawn(attack(address, Arc::clone(&held), Arc::clone(&cut_off)));
            }
            stop.cancelled().await;
        });
    });
    (over, thread)
}

#[tokio::test]
#[ignore = "measures, on a machine that does nothing else"]
#[expect(clippy::print_stdout, reason = "the figures are what it is started for")]
async fn ten_thousand_slow_connections_do_not_slow_the_others_down() {
    let files = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: files.maximum,
        maximum: files.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("as many open files as are allowed");

    let mut shop = Shop::open().await;
    shop.set("HTTP__WORKERS", "0");
    let mut process = Process::start(shop.environment());
    let client = process.listening().await;
    client.ready().await;
    shop.publish_order(&sample_order("a")).await;
    client.get_when_there("a").await;
    let address = client.address();

    let (held, cut_off) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let without = read(address).await;
        let (over, thread) = attackers(address, &held, &cut_off);
        let most_are_held = eventually(async || held.load(SeqCst) > CONNECTIONS * 9 / 10).await;
        assert!(most_are_held, "only {held:?} connections are held");
        let with = read(address).await;
        println!(
            "round {round}: {held:?} held, {cut_off:?} cut off so far; without p50 {:?} p99 {:?}, with p50 {:?} p99 {:?}",
            quantile(&without, 0.5),
            quantile(&without, 0.99),
            quantile(&with, 0.5),
            quantile(&with, 0.99)
        );
        ratios.push(quantile(&with, 0.99).as_secs_f64() / quantile(&without, 0.99).as_secs_f64());
        over.cancel();
        thread.join().expect("it does not panic");
        held.store(0, SeqCst);
        // What is measured next must not be what it takes to clear up after this.
        sleep(Duration::from_secs(10)).await;
    }
    ratios.sort_by(f64::total_cmp);
    println!("p99 with / without: {ratios:.2?}");
    assert!(ratios[ROUNDS / 2] <= 2.0, "{ratios:?}");
    process.terminate().await;
    shop.close().await;
}
