//! Asking an HTTP service for paths, as work for the generator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Uri};
use tokio::time::timeout;

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::generator::{Work, Worker};
use super::recorder::Outcome;

/// Paths that are asked for alike.
#[derive(Debug)]
pub struct Class {
    /// What they are called in a report.
    pub name: String,
    /// How many of a hundred requests are for one of them.
    pub percent: f64,
    /// The status that is the right answer.
    pub expected: u16,
    /// The paths, each with its `/`.
    pub paths: Vec<String>,
    /// Whether they are asked for one after another, so that each comes again as late as can be, or by chance.
    pub in_turn: bool,
}

/// Asks for paths of several classes, mixed by chance: the same ones in the same order for the same seed.
#[derive(Debug, Clone)]
pub struct HttpWork(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    host: String,
    classes: Vec<Prepared>,
    seed: u64,
    timeout: Duration,
}

#[derive(Debug)]
struct Prepared {
    /// Where the shares of this class and those before it end, out of 2^64.
    end: u64,
    expected: u16,
    uris: Vec<Uri>,
    in_turn: bool,
    next: AtomicU64,
}

impl HttpWork {
    /// Asks the service at `endpoint`; no answer within `timeout` is a failure.
    ///
    /// # Errors
    ///
    /// Where a path is none, or the shares are not those of a hundred.
    pub fn new(endpoint: &Endpoint, classes: Vec<Class>, seed: u64, timeout: Duration) -> Result<HttpWork> {
        let total: f64 = classes.iter().map(|class| class.percent).sum();
        ensure!(
            (total - 100.0).abs() < 1e-6,
            "the classes are {total} of a hundred requests"
        );
        let mut prepared = Vec::new();
        let mut end = 0.0;
        for class in classes {
            end += class.percent;
            ensure!(
                class.percent == 0.0 || !class.paths.is_empty(),
                "there is no path for {}",
                class.name
            );
            let uris = class.paths.iter().map(|path| {
                let uri = format!("{}{path}", endpoint.base).parse::<Uri>();
                uri.with_context(|| format!("{path} is no path"))
            });
            prepared.push(Prepared {
                end: (end / total * u64::MAX as f64) as u64,
                expected: class.expected,
                uris: uris.collect::<Result<_>>()?,
                in_turn: class.in_turn,
                next: AtomicU64::new(0),
            });
        }
        Ok(HttpWork(Arc::new(Shared {
            host: endpoint.host.clone(),
            classes: prepared,
            seed,
            timeout,
        })))
    }
}

impl Shared {
    /// The class of a request and what it asks for.
    fn choose(&self, number: u64) -> (usize, &Uri) {
        let by_chance = mixed(self.seed ^ mixed(number));
        let found = self.classes.iter().position(|class| by_chance <= class.end);
        let index = found.unwrap_or(self.classes.len() - 1);
        let class = &self.classes[index];
        let pick = if class.in_turn {
            class.next.fetch_add(1, Ordering::Relaxed)
        } else {
            mixed(by_chance)
        };
        (index, &class.uris[(pick % class.uris.len() as u64) as usize])
    }
}

/// The last steps of SplitMix64: from a number to one that looks like chance.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Work for HttpWork {
    type Worker = HttpWorker;

    fn classes(&self) -> usize {
        self.0.classes.len()
    }

    async fn workers(&self, count: usize) -> Result<Vec<HttpWorker>> {
        let mut workers = Vec::with_capacity(count);
        for _ in 0..count {
            let mut connection = Connection::new(&self.0.host);
            let connected = timeout(self.0.timeout, connection.prepare()).await;
            let connected = connected.unwrap_or_else(|_| Err("no connection in time".to_owned()));
            connected.map_err(|error| anyhow::anyhow!("{}: {error}", self.0.host))?;
            let mut template = Request::new(Empty::new());
            let host = HeaderValue::from_str(&self.0.host).context("the host is no host")?;
            template.headers_mut().insert(HOST, host);
            workers.push(HttpWorker {
                shared: Arc::clone(&self.0),
                connection,
                template,
            });
        }
        Ok(workers)
    }
}

/// One connection that asks for one path after another.
#[derive(Debug)]
pub struct HttpWorker {
    shared: Arc<Shared>,
    connection: Connection,
    template: Request<Empty<Bytes>>,
}

impl Worker for HttpWorker {
    async fn perform(&mut self, number: u64) -> Outcome {
        let (class, uri) = self.shared.choose(number);
        let expected = self.shared.classes[class].expected;
        self.template.uri_mut().clone_from(uri);
        let answer = timeout(self.shared.timeout, self.connection.ask(&self.template)).await;
        let mut outcome = Outcome {
            class,
            ..Outcome::default()
        };
        match answer {
            Ok(Ok((status, bytes_in))) => {
                outcome.status = status.as_u16();
                outcome.bytes_in = bytes_in;
                if outcome.status != expected {
                    outcome.fault = Some(format!("{status} where {expected} is right"));
                }
            }
            Ok(Err(fault)) => outcome.fault = Some(fault),
            Err(_) => outcome.fault = Some("no answer in time".to_owned()),
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, percent: f64, in_turn: bool) -> Class {
        Class {
            name: name.to_owned(),
            percent,
            expected: 200,
            paths: (0..10).map(|index| format!("/{name}/{index}")).collect(),
            in_turn,
        }
    }

    fn work(classes: Vec<Class>) -> Result<HttpWork> {
        let endpoint = Endpoint::new("http://127.0.0.1:1/base").unwrap();
        HttpWork::new(&endpoint, classes, 7, Duration::from_secs(1))
    }

    #[test]
    fn classes_have_their_shares_and_paths_their_turns() {
        let classes = vec![
            class("hit", 90.0, false),
            class("miss", 10.0, true),
            class("no", 0.0, false),
        ];
        let work = work(classes).unwrap();
        let mut counts = [0_u64; 3];
        let mut hits = std::collections::BTreeSet::new();
        for number in 0..10_000 {
            let (class, uri) = work.0.choose(number);
            if class == 1 {
                assert_eq!(uri.path(), format!("/base/miss/{}", counts[1] % 10));
            } else {
                hits.insert(uri.path().to_owned());
            }
            counts[class] += 1;
        }
        assert!(
            counts[0].abs_diff(9_000) < 200 && counts[1].abs_diff(1_000) < 200,
            "{counts:?}"
        );
        assert_eq!((counts[2], hits.len()), (0, 10));
    }

    #[test]
    fn shares_that_are_not_those_of_a_hundred_are_refused() {
        assert!(work(vec![class("hit", 90.0, false)]).is_err());
        let empty = Class {
            paths: Vec::new(),
            ..class("none", 100.0, false)
        };
        assert!(work(vec![empty]).is_err());
    }
}
