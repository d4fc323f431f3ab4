//! Answers in fewer bytes, for those who ask.

use std::io::Read;

use order_domain::Order;
use order_domain::testing::orders::sample_order;
use order_tests::{Answer, Shop};
use reqwest::{Method, StatusCode};

fn decoded(answer: &Answer) -> Vec<u8> {
    let mut plain = Vec::new();
    let body = &*answer.body;
    match answer.header("content-encoding") {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut plain),
        "br" => brotli::Decompressor::new(body, 4_096).read_to_end(&mut plain),
        "zstd" => zstd::stream::copy_decode(body, &mut plain).map(|()| plain.len()),
        other => panic!("{other:?} is none of our codings"),
    }
    .expect("it is what it says");
    plain
}

#[tokio::test]
async fn a_large_order_is_compressed_as_the_caller_asks_and_stays_the_same_version() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    let mut parts = sample_order("large").into_parts();
    parts.items = vec![parts.items[0].clone(); 100];
    let large = Order::new(parts).expect("an order");
    shop.publish_order(&large).await;
    shop.publish_order(&sample_order("small")).await;
    let plain = replica.get_when_there("large").await;
    assert_eq!(plain.body, large.json());
    assert_eq!(plain.header("content-encoding"), "");
    assert_eq!(plain.header("vary"), "accept-encoding");
    replica.get_when_there("small").await;

    let path = "/api/v1/orders/large";
    for (asked, coding) in [
        ("gzip", "gzip"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1, zstd;q=0.1", "gzip"),
    ] {
        let asked = [("accept-encoding", asked)];
        let answer = replica.request(Method::GET, path, &asked).await;
        assert_eq!(answer.header("content-encoding"), coding, "{asked:?}");
        assert_eq!(decoded(&answer), *large.json());
        assert!(answer.body.len() * 4 < plain.body.len());
        for name in ["etag", "vary", "cache-control", "content-type"] {
            assert_eq!(answer.header(name), plain.header(name), "{name}");
        }
        let head = replica.request(Method::HEAD, path, &asked).await;
        for name in [
            "content-length",
            "content-encoding",
            "etag",
            "vary",
            "content-type",
        ] {
            assert_eq!(head.header(name), answer.header(name), "{name}");
        }
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());

        let tag = answer.header("etag");
        let known = [asked[0], ("if-none-match", tag)];
        let known = replica.request(Method::GET, path, &known).await;
        assert_eq!(known.status, StatusCode::NOT_MODIFIED);
        assert_eq!(
            (known.header("etag"), known.header("vary")),
            (tag, "accept-encoding")
        );
    }
    for asked in ["deflate", "identity", "gzip;q=0", "*;q=0"] {
        let answer = replica
            .request(Method::GET, path, &[("accept-encoding", asked)])
            .await;
        assert_eq!(answer.header("content-encoding"), "", "{asked}");
        assert_eq!(answer.body, plain.body);
    }
    let small = replica
        .request(
            Method::GET,
            "/api/v1/orders/small",
            &[("accept-encoding", "gzip")],
        )
        .await;
    assert_eq!(small.header("content-encoding"), "");
    assert_eq!(small.header("vary"), "accept-encoding");
    replica.stop().await;
    shop.close().await;
}
