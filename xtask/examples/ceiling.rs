//! What the load generator itself can send: against a server that does next to nothing.
//!
//! `cargo run --release --package xtask --example ceiling`
//!
//! The server looks for the end of each request and writes the same kilobyte for all. One thread sends, one answers: each needs a
//! core to itself, or the figure is that of the machine.

use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use xtask::load::{Amount, Class, Endpoint, Generator, HttpWork, Measured, Pace, Plan};

const CONNECTIONS: usize = 64;
const BODY_BYTES: usize = 1_024;
const RATES: [f64; 8] = [1e3, 5e3, 10e3, 20e3, 30e3, 40e3, 50e3, 60e3];

#[expect(clippy::print_stdout, reason = "an example shows its result")]
#[tokio::main]
async fn main() -> Result<()> {
    let address = std::net::TcpListener::bind("127.0.0.1:0")?;
    let endpoint = Endpoint::new(&format!("http://{}", address.local_addr()?))?;
    std::thread::spawn(move || serve(address));
    println!(
        "{:>12} {:>12} {:>8} {:>8} {:>10} {:>10} {:>10}",
        "asked for", "achieved", "busy", "waited", "p50 µs", "p99 µs", "max µs"
    );
    for pace in RATES.map(Pace::Rate).into_iter().chain([Pace::Max]) {
        let Measured {
            recording,
            duration,
            effort,
        } = send(&endpoint, pace).await?;
        let response = recording.all_responses();
        let micros = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        println!(
            "{:>12} {:>12.0} {:>7.1}% {:>7.1}% {:>10.1} {:>10.1} {:>10.1}",
            match pace {
                Pace::Rate(rate) => rate.to_string(),
                Pace::Max => "max".to_owned(),
            },
            recording.successes as f64 / recording.last_done.max(duration).as_secs_f64(),
            effort.busy_share() * 100.0,
            effort.waited_share().unwrap_or_default() * 100.0,
            micros(response.value_at_percentile(50.0)),
            micros(response.value_at_percentile(99.0)),
            micros(response.max()),
        );
    }
    Ok(())
}

async fn send(endpoint: &Endpoint, pace: Pace) -> Result<Measured> {
    let class = Class {
        name: "all".to_owned(),
        percent: 100.0,
        expected: 200,
        paths: (0..10_000)
            .map(|number| format!("/api/v1/orders/order-{number}"))
            .collect(),
        in_turn: false,
    };
    let plan = Plan {
        pace,
        amount: Amount::Lasting(Duration::from_secs(5)),
        warm_up: Duration::from_secs(1),
        workers: CONNECTIONS,
        threads: 1,
        patience: Duration::from_secs(1),
    };
    let work = HttpWork::new(endpoint, vec![class], 1, Duration::from_secs(5))?;
    Generator::start(&plan, work).await?.finish().await
}

#[tokio::main(flavor = "current_thread")]
async fn serve(listener: std::net::TcpListener) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(answer_all(stream));
    }
}

/// Answers whatever ends like a request, until the other side hangs up.
async fn answer_all(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY_BYTES}\r\n\r\n");
    let answer = [head.as_bytes(), &[b'x'; BODY_BYTES]].concat();
    let mut request = Vec::with_capacity(1_024);
    while stream.read_buf(&mut request).await? > 0 {
        if request.ends_with(b"\r\n\r\n") {
            stream.write_all(&answer).await?;
            request.clear();
        }
    }
    Ok(())
}
