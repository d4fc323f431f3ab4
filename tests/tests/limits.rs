//! What one caller may hold of the public listener: callers who are slow, who do not end, and who are too many.

use std::net::SocketAddr;
use std::time::Duration;

use order_domain::Order;
use order_domain::testing::orders::sample_order;
use order_tests::{Shop, eventually};
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const WHOLE: &str = "GET /api/v1/orders/a HTTP/1.1\r\nhost: shop\r\n\r\n";

/// How somebody holds a connection.
#[derive(Debug, Clone, Copy)]
enum Slow {
    /// Says nothing.
    Silent,
    /// Sends a head that does not end.
    FirstHead,
    /// Has got an answer, and sends a second head that does not end.
    LaterHead,
    /// Sends a body, which nobody reads, that does not end.
    UnreadBody,
}

/// Holds a connection until it is ended from the other side, and answers what was received.
async fn hold(address: SocketAddr, how: Slow) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let (begin, more) = match how {
        Slow::Silent => (String::new(), ""),
        Slow::FirstHead => ("GET / HTTP/1.1\r\nx: ".to_owned(), "x"),
        Slow::LaterHead => (format!("{WHOLE}GET / HTTP/1.1\r\nx: "), "x"),
        Slow::UnreadBody => (
            "POST /nowhere HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
            "1\r\nx\r\n",
        ),
    };
    stream.write_all(begin.as_bytes()).await.expect("it is connected");
    let (mut from, mut to) = stream.split();
    let mut received = Vec::new();
    let dribble = async {
        loop {
            sleep(Duration::from_millis(100)).await;
            if to.write_all(more.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    let ended = async {
        // A connection that is reset has ended too.
        let _ = from.read_to_end(&mut received).await;
    };
    tokio::select! {
        () = dribble => {}
        () = ended => {}
    }
    received
}

#[tokio::test]
async fn who_is_slow_is_cut_off_and_others_are_served_meanwhile() {
    let mut shop = Shop::open().await;
    shop.set("HTTP__HEAD_TIMEOUT", "500ms");
    let replica = shop.replica().await;
    shop.publish_order(&sample_order("a")).await;
    let order = replica.get_when_there("a").await;

    let mut slow = JoinSet::new();
    for _ in 0..60 {
        for how in [Slow::Silent, Slow::FirstHead, Slow::LaterHead, Slow::UnreadBody] {
            let address = replica.address();
            slow.spawn(async move { (how, hold(address, how).await) });
        }
    }
    let all_are_cut_off = async {
        while let Some(cut_off) = slow.join_next().await {
            let (how, received) = cut_off.expect("it does not panic");
            let received = String::from_utf8_lossy(&received).into_owned();
            match how {
                Slow::Silent => assert!(received.starts_with("HTTP/1.1 408 "), "{received:?}"),
                // What was sent before may be lost when the connection is reset; more than that is not answered.
                Slow::FirstHead => assert!(!received.contains(" 200 "), "{received:?}"),
                Slow::LaterHead => assert!(received.matches("HTTP/1.1").count() <= 1, "{received:?}"),
                Slow::UnreadBody => assert!(!received.contains(" 200 "), "{received:?}"),
            }
        }
    };
    let others_are_served = async {
        loop {
            assert_eq!(replica.get("a").await.body, order.body);
        }
    };
    tokio::select! {
        cut_off = timeout(Duration::from_secs(30), all_are_cut_off) => cut_off.expect("they are cut off"),
        () = others_are_served => {}
    }
    replica.stop().await;
    shop.close().await;
}

/// Sends this, and answers what comes back until the connection ends.
async fn exchange(address: SocketAddr, sent: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    // It may be cut off before it has sent everything.
    let _ = stream.write_all(sent.as_bytes()).await;
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received).await;
    String::from_utf8_lossy(&received).into_owned()
}

#[tokio::test]
async fn a_body_is_bounded_in_time_and_size() {
    let mut shop = Shop::open().await;
    shop.set("HTTP__BODY_TIMEOUT", "500ms");
    // For so long actix-http waits for the rest of a chunked body that was given up.
    shop.set("HTTP__KEEP_ALIVE", "1s");
    let replica = shop.replica().await;
    let head = "POST /api/v1/orders HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\n";
    for (rest, status, kind) in [
        ("content-length: 100\r\n\r\n{", "408", "request-timeout"),
        (
            "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
            "408",
            "request-timeout",
        ),
        ("content-length: 1048577\r\n\r\n{", "413", "payload-too-large"),
    ] {
        let received = exchange(replica.address(), &format!("{head}{rest}")).await;
        assert!(
            received.starts_with(&format!("HTTP/1.1 {status} ")),
            "{received:?}"
        );
        assert!(received.contains(&format!("/problems/{kind}")), "{received:?}");
        assert!(received.contains("x-request-id: "), "{received:?}");
    }
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn a_connection_may_rest_for_longer_than_a_head_may_take() {
    let mut shop = Shop::open().await;
    shop.set("HTTP__HEAD_TIMEOUT", "1s");
    let replica = shop.replica().await;
    let mut stream = TcpStream::connect(replica.address()).await.expect("it listens");
    let mut received = [0; 4_096];
    for _ in 0..2 {
        stream.write_all(WHOLE.as_bytes()).await.expect("it is connected");
        let length = stream.read(&mut received).await.expect("an answer");
        assert!(received[..length].starts_with(b"HTTP/1.1 404 "));
        // More than the time and the grace after it.
        sleep(Duration::from_secs(2)).await;
    }
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    let mut shop = Shop::open().await;
    shop.set("HTTP__WRITE_TIMEOUT", "500ms");
    let replica = shop.replica().await;
    let mut parts = sample_order("a").into_parts();
    parts.items = vec![parts.items[0].clone(); 1_000];
    shop.publish_order(&Order::new(parts).expect("an order")).await;
    replica.get_when_there("a").await;

    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let mut stream = socket.connect(replica.address()).await.expect("it listens");
    // More than the system takes for us, so that the service has to wait.
    stream
        .write_all(WHOLE.repeat(200).as_bytes())
        .await
        .expect("it is connected");
    let is_cut_off = eventually(async || match stream.try_write(b"x") {
        Ok(_) => false,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    });
    assert!(is_cut_off.await, "the connection stays");
    assert_eq!(replica.get("a").await.status, StatusCode::OK);
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn more_connections_than_are_allowed_wait_for_their_turn() {
    let mut shop = Shop::open().await;
    shop.set("HTTP__MAX_CONNECTIONS", "20");
    shop.set("HTTP__HEAD_TIMEOUT", "500ms");
    let replica = shop.replica().await;
    let mut silent = JoinSet::new();
    for _ in 0..60 {
        silent.spawn(hold(replica.address(), Slow::Silent));
    }
    assert_eq!(replica.get("unknown").await.status, StatusCode::NOT_FOUND);
    for received in silent.join_all().await {
        assert!(received.starts_with(b"HTTP/1.1 408 "));
    }
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn what_is_no_request_is_turned_away_before_it_is_one() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    let too_large = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(200_000));
    let too_long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000));
    for (sent, status) in [
        ("BREW\u{1} / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n", "400"),
        (&too_long, "400"),
        (&too_large, "431"),
    ] {
        let received = exchange(replica.address(), sent).await;
        assert!(
            received.starts_with(&format!("HTTP/1.1 {status} ")),
            "{:.40}: {received:?}",
            sent
        );
        assert!(received.contains("content-length: 0"), "{received:?}");
    }
    replica.stop().await;
    shop.close().await;
}
