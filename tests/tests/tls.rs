//! The public listener behind TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use order_app::Application;
use order_domain::testing::orders::sample_order;
use order_tests::{Replica, Shop, eventually};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate for `localhost`, in the two files that the settings name.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn named(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        Files {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        }
    }

    /// Writes a new certificate over what is there.
    fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(&self.key, made.signing_key.serialize_pem()).expect("writable");
        std::fs::write(&self.certificate, made.cert.pem()).expect("writable");
        made.cert.der().clone()
    }

    fn set(&self, shop: &mut Shop) {
        shop.set(
            "HTTP__TLS_CERTIFICATE",
            self.certificate.to_str().expect("Unicode"),
        );
        shop.set("HTTP__TLS_KEY", self.key.to_str().expect("Unicode"));
    }
}

/// Connects as one who trusts only this certificate.
async fn connect(
    replica: &Replica,
    trusted: &CertificateDer<'static>,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring can do TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(replica.address()).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn orders_are_served_over_http_1_and_http_2() {
    let mut shop = Shop::open().await;
    let files = Files::named("served");
    let certificate = files.renew();
    files.set(&mut shop);
    shop.set("HTTP__BODY_TIMEOUT", "500ms");
    let replica = shop.replica().await;
    let order = sample_order("a");
    shop.publish_order(&order).await;
    shop.count_becomes(1, "SELECT count(*) FROM orders").await;

    let mut stream = connect(&replica, &certificate, "http/1.1")
        .await
        .expect("it is trusted");
    stream
        .write_all(b"GET /api/v1/orders/a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .expect("it is connected");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(answer.ends_with(order.json()));

    let stream = connect(&replica, &certificate, "h2")
        .await
        .expect("it is trusted");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    for (path, status) in [("a", 200), ("unknown", 404)] {
        let request = http::Request::get(format!("https://localhost/api/v1/orders/{path}"))
            .body(())
            .expect("a request");
        let (answer, _) = requests.send_request(request, true).expect("it is connected");
        let (head, mut body) = answer.await.expect("an answer").into_parts();
        assert_eq!(head.status, status);
        assert!(head.headers.contains_key("x-request-id"));
        let mut received = Vec::new();
        while let Some(part) = body.data().await {
            let part: Bytes = part.expect("a whole body");
            let _ = body.flow_control().release_capacity(part.len());
            received.extend_from_slice(&part);
        }
        assert_eq!(received == *order.json(), status == 200);
    }
    // A body that does not come is not waited for here either.
    let request = http::Request::post("https://localhost/api/v1/orders")
        .header("content-type", "application/json")
        .body(())
        .expect("a request");
    let (answer, body) = requests.send_request(request, false).expect("it is connected");
    assert_eq!(answer.await.expect("an answer").status(), 408);
    drop((body, requests));
    let _ = connection.await;

    // Who does not speak TLS gets nothing.
    let mut stream = TcpStream::connect(replica.address()).await.expect("it listens");
    stream
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("it is connected");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn an_http_2_connection_that_only_answers_pings_is_ended() {
    let mut shop = Shop::open().await;
    let files = Files::named("pinged");
    let certificate = files.renew();
    files.set(&mut shop);
    shop.set("HTTP__KEEP_ALIVE", "1s");
    let replica = shop.replica().await;
    let stream = connect(&replica, &certificate, "h2")
        .await
        .expect("it is trusted");
    let (mut requests, mut connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let mut pings = connection.ping_pong().expect("nobody else has it");
    let ended = tokio::spawn(connection);
    let request = http::Request::get("https://localhost/api/v1/orders/unknown")
        .body(())
        .expect("a request");
    let (answer, _) = requests.send_request(request, true).expect("it is connected");
    assert_eq!(answer.await.expect("an answer").status(), 404);
    let ping = async {
        while pings.ping(h2::Ping::opaque()).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = ping => {}
        ended = tokio::time::timeout(std::time::Duration::from_secs(20), ended) => {
            ended.expect("it is ended").expect("it does not panic").expect("in order");
        }
    }
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn a_new_certificate_is_taken_without_a_restart_and_a_bad_one_is_not() {
    let mut shop = Shop::open().await;
    let files = Files::named("renewed");
    let first = files.renew();
    files.set(&mut shop);
    shop.set("HTTP__TLS_RELOAD_EVERY", "50ms");
    let replica = shop.replica().await;
    assert!(connect(&replica, &first, "h2").await.is_ok());

    let second = files.renew();
    assert!(eventually(async || connect(&replica, &second, "h2").await.is_ok()).await);
    assert!(connect(&replica, &first, "h2").await.is_err());

    std::fs::write(&files.certificate, "no certificate").expect("writable");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(connect(&replica, &second, "h2").await.is_ok());
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn files_that_cannot_be_used_stop_the_start_by_name() {
    let mut shop = Shop::open().await;
    let (files, other) = (Files::named("good"), Files::named("other"));
    files.renew();
    other.renew();
    let nothing = Files::named("no-such-file");
    let garbage = Files::named("garbage");
    for path in [&garbage.certificate, &garbage.key] {
        std::fs::write(path, "neither").expect("writable");
    }
    for (certificate, key, setting, wrong) in [
        (
            &nothing.certificate,
            &files.key,
            "TLS_CERTIFICATE",
            "no-such-file.crt",
        ),
        (&garbage.certificate, &files.key, "TLS_CERTIFICATE", "garbage.crt"),
        (&files.certificate, &nothing.key, "TLS_KEY", "no-such-file.key"),
        (&files.certificate, &garbage.key, "TLS_KEY", "garbage.key"),
        (&files.certificate, &other.key, "TLS_KEY", "other.key"),
    ] {
        let given = Files {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        given.set(&mut shop);
        let refused = Application::build(shop.settings(), None).await;
        let refused = format!("{:#}", refused.err().expect("it does not start"));
        assert!(
            refused.starts_with(&format!("ORDERS__HTTP__{setting}: ")) && refused.contains(wrong),
            "{refused}"
        );
    }
    shop.close().await;
}
