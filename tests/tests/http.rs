//! The routes: what is answered to right and wrong requests.

use order_domain::testing::orders::sample_order;
use order_tests::{Answer, Shop};
use reqwest::{Method, StatusCode};

/// Every error has the same shape, and tells nothing of the inside.
fn assert_problem(answer: &Answer, status: StatusCode) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!(problem["status"], status.as_u16());
    assert!(
        problem["type"].as_str().is_some_and(|it| !it.is_empty()),
        "{problem}"
    );
    assert!(
        problem["title"].as_str().is_some_and(|it| !it.is_empty()),
        "{problem}"
    );
    assert!(!answer.header("x-request-id").is_empty());
}

#[tokio::test]
async fn right_and_wrong_requests_for_an_order() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    shop.publish_order(&sample_order("a")).await;
    let got = replica.get_when_there("a").await;

    let head = replica.request(Method::HEAD, "/api/v1/orders/a", &[]).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    for name in ["content-length", "content-type", "etag"] {
        assert_eq!(head.header(name), got.header(name), "{name}");
    }

    assert_problem(&replica.get("unknown").await, StatusCode::NOT_FOUND);
    for bad in ["a%20b", "%00", "a%2Fb", "%C3%A4", &"x".repeat(65)] {
        assert_problem(&replica.get(bad).await, StatusCode::BAD_REQUEST);
    }
    for method in [
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
    ] {
        let answer = replica.request(method, "/api/v1/orders/a", &[]).await;
        assert_problem(&answer, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.header("allow"), "GET, HEAD");
    }
    for nothing in ["/", "/api", "/api/v1/orders/a/b", "/readyz", "/metrics"] {
        assert_problem(
            &replica.request(Method::GET, nothing, &[]).await,
            StatusCode::NOT_FOUND,
        );
    }
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn a_callers_request_id_is_taken_over_if_it_is_fit_to_be_logged() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    for (given, is_kept) in [("checkout-17", true), (&*"x".repeat(129), false), ("a b", false)] {
        let answer = replica
            .request(Method::GET, "/api/v1/orders/a", &[("x-request-id", given)])
            .await;
        assert_eq!(answer.header("x-request-id") == given, is_kept, "{given}");
        assert!(!answer.header("x-request-id").is_empty());
    }
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn operators_learn_how_the_service_is() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    assert_eq!(replica.manage("/livez").await.status, StatusCode::OK);
    let ready = replica.readyz().await;
    assert_eq!(
        (ready.status, &ready.json()["status"]),
        (StatusCode::OK, &"ready".into())
    );
    assert_eq!(replica.manage("/version").await.json()["name"], "order-tracker");
    assert_problem(&replica.manage("/api/v1/orders/a").await, StatusCode::NOT_FOUND);
    replica.stop().await;
    shop.close().await;
}
