//! One running service, in this process.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use order_app::{Application, Settings};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::eventually;

/// A running replica in this process.
pub struct Replica {
    client: Client,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl std::ops::Deref for Replica {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Asks a replica, wherever it runs.
pub struct Client {
    url: String,
    management_url: String,
    http: reqwest::Client,
}

/// What a replica answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The value of a header, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("ASCII"))
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

impl Replica {
    /// Starts a replica, without waiting for anything.
    pub async fn start(settings: Settings) -> Self {
        let application = Application::build(settings, None)
            .await
            .expect("it can be composed");
        let client = Client::new(
            format!("http://{}", application.address()),
            format!("http://{}", application.management_address()),
        );
        let stop = CancellationToken::new();
        let task = tokio::spawn(application.run(stop.clone()));
        Replica { client, stop, task }
    }

    /// Begins to end it as SIGTERM does.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Ends it as SIGTERM does, and waits for it.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task
            .await
            .expect("it does not panic")
            .expect("it ends in order");
    }
}

impl Client {
    pub(crate) fn new(url: String, management_url: String) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .build()
            .expect("a client");
        Client {
            url,
            management_url,
            http,
        }
    }

    /// Where its public listener is: `http://…`, without a path.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its management listener is.
    pub fn management_url(&self) -> &str {
        &self.management_url
    }

    /// Where the public listener is, for those who speak to it without HTTP's manners.
    pub fn address(&self) -> SocketAddr {
        let address = self.url().trim_start_matches("http://");
        address.parse().expect("an address")
    }

    /// Waits until it is ready and its cache is proven.
    pub async fn ready(&self) {
        let ready = eventually(async || {
            let answer = self.readyz().await;
            answer.status == StatusCode::OK && answer.json()["cache"]["proven"] == true
        });
        assert!(ready.await, "not ready: {:?}", self.readyz().await);
    }

    /// Waits until `/readyz` tells of this trouble, and answers how long that took.
    pub async fn tells_of(&self, trouble: &str) -> Duration {
        let since = Instant::now();
        let told = eventually(async || {
            let troubles = self.readyz().await.json()["troubles"].to_string();
            troubles.contains(trouble)
        });
        assert!(told.await, "{:?}", self.readyz().await);
        since.elapsed()
    }

    /// Waits until `/readyz` has nothing to complain of.
    pub async fn is_well(&self) {
        let well = eventually(async || self.readyz().await.json()["status"] == "ready").await;
        assert!(well, "{:?}", self.readyz().await);
    }

    /// What `/readyz` tells.
    pub async fn readyz(&self) -> Answer {
        self.send(Method::GET, &format!("{}/readyz", self.management_url), &[])
            .await
    }

    /// What the management listener answers.
    pub async fn manage(&self, path: &str) -> Answer {
        self.manage_with(path, &[]).await
    }

    /// The same, with headers.
    pub async fn manage_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, &format!("{}{path}", self.management_url), headers)
            .await
    }

    /// Asks for an order.
    pub async fn get(&self, uid: &str) -> Answer {
        self.request(Method::GET, &format!("/api/v1/orders/{uid}"), &[])
            .await
    }

    /// Waits until an order is there.
    pub async fn get_when_there(&self, uid: &str) -> Answer {
        let there = eventually(async || self.get(uid).await.status == StatusCode::OK).await;
        let answer = self.get(uid).await;
        assert!(there, "{uid} is not there: {answer:?}");
        answer
    }

    /// Waits until an order has these bytes.
    pub async fn serves(&self, uid: &str, json: &[u8]) {
        let served = eventually(async || self.get(uid).await.body == json).await;
        let answer = self.get(uid).await;
        assert!(
            served,
            "{uid} is served as {answer:?}, not {:?}",
            String::from_utf8_lossy(json)
        );
    }

    /// Asks the public listener.
    pub async fn request(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(method, &format!("{}{path}", self.url), headers).await
    }

    /// Posts JSON to the public listener, unless the headers say that it is something else.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], json: impl Into<Bytes>) -> Answer {
        let url = format!("{}{path}", self.url);
        let mut request = self.http.post(&url).body(json.into());
        if headers.iter().all(|(name, _)| *name != "content-type") {
            request = request.header("content-type", "application/json");
        }
        answer(request, &url, headers).await
    }

    async fn send(&self, method: Method, url: &str, headers: &[(&str, &str)]) -> Answer {
        answer(self.http.request(method, url), url, headers).await
    }
}

async fn answer(mut request: RequestBuilder, url: &str, headers: &[(&str, &str)]) -> Answer {
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request
        .send()
        .await
        .unwrap_or_else(|error| panic!("no answer from {url}: {error}"));
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.bytes().await.expect("a whole body");
    Answer {
        status,
        headers,
        body,
    }
}
