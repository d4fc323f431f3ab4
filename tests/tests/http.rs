//! The routes: what is answered to right and wrong requests.

use order_domain::testing::orders::sample_order;
use order_tests::{Answer, Process, Shop};
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
async fn a_version_that_the_caller_has_is_not_sent_again() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    shop.publish_order(&sample_order("a")).await;
    let tag = replica.get_when_there("a").await.header("etag").to_owned();
    let revision = tag.strip_prefix("W/").expect("a weak tag");
    let listed = format!("\"x\", {tag}, W/\"y\"");
    for (lines, status) in [
        (vec![&*tag], StatusCode::NOT_MODIFIED),
        (vec![revision], StatusCode::NOT_MODIFIED),
        (vec![&*listed], StatusCode::NOT_MODIFIED),
        (vec!["\"x\"", &tag], StatusCode::NOT_MODIFIED),
        (vec!["*"], StatusCode::NOT_MODIFIED),
        (vec!["W/\"x\""], StatusCode::OK),
        (vec!["x"], StatusCode::OK),
        (vec![""], StatusCode::OK),
    ] {
        let headers: Vec<_> = lines.iter().map(|line| ("if-none-match", *line)).collect();
        for method in [Method::GET, Method::HEAD] {
            let answer = replica.request(method, "/api/v1/orders/a", &headers).await;
            assert_eq!(answer.status, status, "{lines:?}");
            assert_eq!(answer.header("etag"), tag);
            assert_eq!(answer.header("cache-control"), "no-cache");
        }
    }
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn the_type_of_a_problem_leads_to_a_page_about_it() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    for (method, path) in [
        (Method::GET, "/api/v1/orders/unknown"),
        (Method::GET, "/api/v1/orders/%00"),
        (Method::PUT, "/api/v1/orders/a"),
        (Method::GET, "/problems/of-life"),
    ] {
        let problem = replica.request(method, path, &[]).await;
        let page = problem.json()["type"].as_str().expect("a type").to_owned();
        let page = replica.request(Method::GET, &page, &[]).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        let text = String::from_utf8_lossy(&page.body);
        assert!(
            text.contains(&format!("<p>{}. ", problem.status.as_u16())),
            "{text}"
        );
    }
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn pages_of_other_origins_read_answers_only_if_they_are_let_in() {
    let mut shop = Shop::open().await;
    let closed = shop.replica().await;
    shop.set("HTTP__CORS_ORIGINS", "https://shop.example, https://desk.example");
    let replica = shop.replica().await;
    let path = "/api/v1/orders/unknown";
    let desk = ("origin", "https://desk.example");
    let stranger = ("origin", "https://elsewhere.example");
    let preflight = ("access-control-request-method", "POST");

    let answer = replica.request(Method::GET, path, &[desk]).await;
    assert_problem(&answer, StatusCode::NOT_FOUND);
    assert_eq!(answer.header("access-control-allow-origin"), desk.1);
    assert!(
        answer
            .header("access-control-expose-headers")
            .contains("x-request-id")
    );
    assert!(answer.header("vary").contains("origin"));

    let answer = replica.request(Method::OPTIONS, path, &[desk, preflight]).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(answer.header("access-control-allow-origin"), desk.1);
    assert!(answer.header("access-control-allow-methods").contains("POST"));
    assert!(
        answer
            .header("access-control-allow-headers")
            .contains("idempotency-key")
    );

    let answer = replica.request(Method::GET, path, &[stranger]).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    assert!(answer.header("vary").contains("origin"));
    let answer = replica
        .request(Method::OPTIONS, path, &[stranger, preflight])
        .await;
    assert_problem(&answer, StatusCode::METHOD_NOT_ALLOWED);

    let answer = closed.request(Method::GET, path, &[desk]).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    assert_eq!(answer.header("vary"), "");
    closed.stop().await;
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn what_is_logged_for_a_request_carries_its_id() {
    let mut shop = Shop::open().await;
    shop.set("HTTP__SLOW_REQUEST", "0s");
    let mut process = Process::start(shop.environment());
    let client = process.listening().await;
    let id = "a\"b";
    client
        .request(Method::GET, "/api/v1/orders/unknown", &[("x-request-id", id)])
        .await;
    let line = process.logged("/api/v1/orders/unknown").await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line is JSON");
    assert_eq!(
        (&line["request_id"], &line["method"]),
        (&id.into(), &"GET".into())
    );
    process.terminate().await;
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
