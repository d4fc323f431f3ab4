//! The generator against servers of its own: nothing that a server does to it may hide from its figures.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use xtask::load::{Amount, Class, Endpoint, Generator, HttpWork, Measured, Pace, Plan};

/// A server that answers every request with 4 bytes, and at times with nothing.
#[derive(Debug, Default)]
struct Server {
    /// Requests that it has answered.
    answered: AtomicU64,
    /// The answer with this number comes only after this time, and so does every one that would come meanwhile.
    stall: Option<(u64, Duration)>,
    /// Closes a connection after so many answers.
    closes_after: Option<u64>,
    begin: std::sync::OnceLock<Instant>,
}

impl Server {
    async fn listen(self) -> (SocketAddr, Arc<Server>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::new(self);
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        });
        (address, server)
    }

    async fn serve(self: Arc<Self>, mut stream: tokio::net::TcpStream) {
        let mut buffer = [0; 4_096];
        let mut answers = 0;
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            let request = String::from_utf8_lossy(&buffer[..read]).into_owned();
            let number = self.answered.fetch_add(1, Ordering::SeqCst);
            if let Some((at, lasts)) = self.stall
                && number >= at
            {
                let begin = *self.begin.get_or_init(Instant::now);
                tokio::time::sleep_until((begin + lasts).into()).await;
            }
            let status = if request.starts_with("GET /missing") {
                "404 Not Found"
            } else {
                "200 OK"
            };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\nbody");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            answers += 1;
            if self.closes_after.is_some_and(|count| answers >= count) {
                return;
            }
        }
    }
}

fn work(address: SocketAddr, paths: &[(&str, f64, u16)]) -> HttpWork {
    let endpoint = Endpoint::new(&format!("http://{address}")).unwrap();
    let classes = paths.iter().map(|(path, percent, expected)| Class {
        name: (*path).to_owned(),
        percent: *percent,
        expected: *expected,
        paths: vec![(*path).to_owned()],
        in_turn: false,
    });
    HttpWork::new(&endpoint, classes.collect(), 1, Duration::from_secs(5)).unwrap()
}

fn plan(pace: Pace, amount: Amount) -> Plan {
    Plan {
        pace,
        amount,
        warm_up: Duration::ZERO,
        workers: 4,
        threads: 2,
        patience: Duration::from_secs(5),
    }
}

async fn run(plan: &Plan, work: HttpWork) -> Measured {
    Generator::start(plan, work)
        .await
        .unwrap()
        .finish()
        .await
        .unwrap()
}

/// One second in which nothing is answered, in the middle of two. With four connections four requests meet it. A tool that
/// waits for answers would report four slow ones among hundreds: none of its percentiles up to 98 would show it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stall_is_in_the_response_times_and_not_hidden_behind_four_slow_answers() {
    let stalling = Server {
        stall: Some((150, Duration::from_secs(1))),
        ..Server::default()
    };
    let (address, _server) = stalling.listen().await;
    let plan = plan(Pace::Rate(300.0), Amount::Count(600, Duration::from_secs(60)));
    let measured = run(&plan, work(address, &[("/", 100.0, 200)])).await;
    let recording = measured.recording;
    assert_eq!((recording.requests, recording.successes), (600, 600));
    let (response, service) = (recording.all_responses(), recording.all_services());
    // Half of all requests were meant for the second in which nothing came back: on average they waited half of it.
    assert!(
        response.value_at_percentile(75.0) > 200_000_000,
        "{}",
        response.value_at_percentile(75.0)
    );
    assert!(
        response.value_at_percentile(98.0) > 700_000_000,
        "{}",
        response.value_at_percentile(98.0)
    );
    // Only those that were under way took long from when they were sent.
    let half_a_second = 500_000_000;
    let long = |histogram: &hdrhistogram::Histogram<u64>| {
        histogram.len() - histogram.count_between(0, half_a_second)
    };
    assert!(long(&service) >= 1);
    assert!(
        long(&service) * 3 < long(&response),
        "{} of {}",
        long(&service),
        long(&response)
    );
    // The stall ends: what fell behind was sent after all.
    assert_eq!(recording.unsent, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_a_schedule_is_sent_once_and_told_by_its_class() {
    let (address, server) = Server::default().listen().await;
    let plan = plan(Pace::Rate(2_000.0), Amount::Count(1_000, Duration::from_secs(60)));
    let classes = [
        ("/", 70.0, 200),
        ("/missing", 20.0, 404),
        ("/missing/but/expected", 10.0, 200),
    ];
    let recording = run(&plan, work(address, &classes)).await.recording;
    assert_eq!(server.answered.load(Ordering::SeqCst), 1_000);
    assert_eq!((recording.requests, recording.bytes_in), (1_000, 4_000));
    let counts: Vec<u64> = recording.response.iter().map(|class| class.len()).collect();
    assert!(counts[0] > 600 && counts[1] > 120 && counts[2] > 50, "{counts:?}");
    // A 404 is a success where it is the right answer, and a failure where it is not.
    assert_eq!(recording.requests - recording.successes, counts[2]);
    assert_eq!(recording.faults["404 Not Found where 200 is right"], counts[2]);
    assert_eq!(recording.statuses[&200], counts[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_loop_sends_as_many_as_it_was_told_to() {
    let (address, server) = Server::default().listen().await;
    let plan = plan(Pace::Max, Amount::Count(1_001, Duration::from_secs(60)));
    let measured = run(&plan, work(address, &[("/", 100.0, 200)])).await;
    assert_eq!(measured.recording.successes, 1_001);
    assert_eq!(server.answered.load(Ordering::SeqCst), 1_001);
    assert_eq!(measured.effort.threads, 2);
    assert!(measured.effort.busy > Duration::ZERO && measured.effort.busy_share() <= 1.05);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_server_closes_is_no_failure() {
    let closing = Server {
        closes_after: Some(3),
        ..Server::default()
    };
    let (address, _server) = closing.listen().await;
    let plan = plan(Pace::Max, Amount::Count(100, Duration::from_secs(60)));
    let recording = run(&plan, work(address, &[("/", 100.0, 200)])).await.recording;
    assert_eq!(
        (recording.successes, recording.faults.len()),
        (100, 0),
        "{:?}",
        recording.faults
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_sent_in_time_is_a_failure() {
    let stalling = Server {
        stall: Some((0, Duration::from_secs(3))),
        ..Server::default()
    };
    let (address, _server) = stalling.listen().await;
    let plan = Plan {
        patience: Duration::ZERO,
        ..plan(Pace::Rate(200.0), Amount::Count(100, Duration::from_secs(60)))
    };
    let recording = run(&plan, work(address, &[("/", 100.0, 200)])).await.recording;
    // Four connections are stuck until the schedule of half a second is over.
    assert_eq!(
        (recording.requests, recording.unsent),
        (100, 96),
        "{:?}",
        recording.faults
    );
    assert_eq!(recording.successes, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_said_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let plan = plan(Pace::Max, Amount::Count(10, Duration::from_secs(60)));
    let error = Generator::start(&plan, work(address, &[("/", 100.0, 200)]))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("cannot connect: connection refused"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_given_up_stops_sending() {
    let (address, server) = Server::default().listen().await;
    let plan = plan(Pace::Rate(1_000.0), Amount::Lasting(Duration::from_secs(600)));
    let generator = Generator::start(&plan, work(address, &[("/", 100.0, 200)]))
        .await
        .unwrap();
    while server.answered.load(Ordering::SeqCst) < 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(generator);
    let mut before = 0;
    // Quiet for a while, sooner or later.
    for _ in 0..200 {
        let answered = server.answered.load(Ordering::SeqCst);
        if answered == before {
            return;
        }
        before = answered;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it goes on sending");
}
