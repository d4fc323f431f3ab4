//! Who may do what.

use std::path::{Path, PathBuf};

use order_domain::testing::orders::sample_order;
use order_tests::{Answer, Client, Process, Shop, eventually, order_tracker};
use reqwest::{Method, StatusCode};

/// A token as `order-tracker token new` makes it, and its line for the file.
async fn new_token(scopes: &[&str]) -> (String, String) {
    let mut arguments = vec!["token", "new", "--name", "a test"];
    for scope in scopes {
        arguments.extend(["--scope", scope]);
    }
    let made = order_tracker(&[].into(), &arguments).await;
    assert!(made.status.success(), "{made:?}");
    let said = String::from_utf8(made.stdout).expect("text");
    let (token, line) = said.split_once('\n').expect("two lines");
    (token.to_owned(), line.trim_end().to_owned())
}

/// A file of tokens, in place at once: the service may be reading it.
fn write(shop: &Shop, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.tokens", shop.stream()));
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("writable");
    std::fs::rename(new, &path).expect("replaceable");
    path
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

async fn get(client: &Client, path: &str, token: &str) -> Answer {
    let headers = [("authorization", &*bearer(token))];
    client.request(Method::GET, path, &headers).await
}

fn assert_refused(answer: &Answer, status: StatusCode, challenge: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(
        answer.header("www-authenticate"),
        format!("Bearer realm=\"order-tracker\"{challenge}")
    );
    assert!(!answer.header("x-request-id").is_empty());
}

const ORDER: &str = "/api/v1/orders/a";
const NO_TOKEN: (StatusCode, &str) = (StatusCode::UNAUTHORIZED, "");
const UNKNOWN_TOKEN: (StatusCode, &str) = (StatusCode::UNAUTHORIZED, ", error=\"invalid_token\"");

#[tokio::test]
async fn a_token_opens_what_its_scopes_name_and_nothing_else() {
    let mut shop = Shop::open().await;
    let [
        (reader, read),
        (publisher, publish),
        (operator, operate),
        (both, all),
    ] = [
        new_token(&["read"]).await,
        new_token(&["publish"]).await,
        new_token(&["operate"]).await,
        new_token(&["read", "publish"]).await,
    ];
    let path = write(
        &shop,
        &format!("# a comment\n{read}\n{publish}\n{operate}\n\n{all}\n"),
    );
    shop.set("HTTP__TOKENS_FILE", &path.to_string_lossy());
    let replica = shop.replica().await;
    let order = sample_order("a");
    let post = async |token: &str| {
        let headers = [("authorization", &*bearer(token))];
        replica
            .post("/api/v1/orders", &headers, order.json().clone())
            .await
    };

    let needs_publish = ", error=\"insufficient_scope\", scope=\"publish\"";
    assert_refused(&post(&reader).await, StatusCode::FORBIDDEN, needs_publish);
    let answer = replica.post("/api/v1/orders", &[], order.json().clone()).await;
    assert_refused(&answer, NO_TOKEN.0, NO_TOKEN.1);
    assert_eq!(shop.messages().await, 0);
    for token in [&publisher, &both] {
        assert_eq!(post(token).await.status, StatusCode::ACCEPTED);
    }

    let there = eventually(async || get(&replica, ORDER, &reader).await.status == StatusCode::OK);
    assert!(there.await, "{:?}", get(&replica, ORDER, &reader).await);
    assert_eq!(get(&replica, ORDER, &both).await.status, StatusCode::OK);
    let needs_read = ", error=\"insufficient_scope\", scope=\"read\"";
    for token in [&publisher, &operator] {
        assert_refused(
            &get(&replica, ORDER, token).await,
            StatusCode::FORBIDDEN,
            needs_read,
        );
    }
    // However the path is written, and whether anything is there or not.
    for path in [
        ORDER,
        "/%61pi/v1/orders/a",
        "/api/v1/%6frders/a",
        "/api/v1/orders",
        "/nothing",
    ] {
        let answer = replica.request(Method::GET, path, &[]).await;
        assert_refused(&answer, NO_TOKEN.0, NO_TOKEN.1);
        let answer = get(&replica, path, "ot_unknown").await;
        assert_refused(&answer, UNKNOWN_TOKEN.0, UNKNOWN_TOKEN.1);
        assert!(!answer.json().to_string().contains("ot_unknown"));
    }
    for open in ["/api/openapi.json", "/docs/", "/problems/unauthorized"] {
        let answer = replica.request(Method::GET, open, &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{open}");
    }

    for open in ["/livez", "/readyz"] {
        assert_eq!(replica.manage(open).await.status, StatusCode::OK);
    }
    assert_refused(&replica.manage("/version").await, NO_TOKEN.0, NO_TOKEN.1);
    let manage = async |token: &str| {
        replica
            .manage_with("/version", &[("authorization", &bearer(token))])
            .await
    };
    assert_eq!(manage(&operator).await.status, StatusCode::OK);
    let needs_operate = ", error=\"insufficient_scope\", scope=\"operate\"";
    assert_refused(&manage(&both).await, StatusCode::FORBIDDEN, needs_operate);
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn a_changed_file_comes_into_force_and_a_broken_one_does_not() {
    let mut shop = Shop::open().await;
    let ((old, old_line), (new, new_line)) = (new_token(&["read"]).await, new_token(&["read"]).await);
    let path = write(&shop, &old_line);
    shop.set("HTTP__TOKENS_FILE", &path.to_string_lossy());
    shop.set("HTTP__TOKENS_POLL", "20ms");
    let mut replica = Process::start(shop.environment());
    let client = replica.listening().await;
    client.ready().await;
    assert_eq!(get(&client, ORDER, &old).await.status, StatusCode::NOT_FOUND);
    assert_eq!(get(&client, ORDER, &new).await.status, StatusCode::UNAUTHORIZED);

    write(&shop, &new_line);
    let changed = eventually(async || get(&client, ORDER, &new).await.status == StatusCode::NOT_FOUND);
    assert!(changed.await, "{:?}", get(&client, ORDER, &new).await);
    assert_eq!(get(&client, ORDER, &old).await.status, StatusCode::UNAUTHORIZED);

    // Whoever puts the token itself into the file is told so, without it.
    write(&shop, &format!("{new} read\n"));
    replica.logged("those read before stay in force").await;
    assert_eq!(get(&client, ORDER, &new).await.status, StatusCode::NOT_FOUND);
    std::fs::remove_file(&path).expect("it is there");
    replica.logged("No such file").await;
    assert_eq!(get(&client, ORDER, &new).await.status, StatusCode::NOT_FOUND);
    write(&shop, &old_line);
    let changed = eventually(async || get(&client, ORDER, &old).await.status == StatusCode::NOT_FOUND);
    assert!(changed.await, "{:?}", get(&client, ORDER, &old).await);

    let log = replica.log().concat();
    assert!(!log.contains(&old) && !log.contains(&new), "{log}");
    let broken = log.matches("those read before stay in force").count();
    assert_eq!(broken, 2, "each is told once: {log}");
    assert!(replica.terminate().await.success());
    std::fs::remove_file(&path).expect("it is there");
    shop.close().await;
}

#[tokio::test]
async fn a_service_that_others_reach_does_not_start_without_tokens() {
    for name in ["ORDERS__HTTP__ADDRESS", "ORDERS__MANAGEMENT__ADDRESS"] {
        let environment = [(name.to_owned(), "0.0.0.0:0".to_owned())].into();
        for command in [&[][..], &["check-config"]] {
            let ended = order_tracker(&environment, command).await;
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(!ended.status.success(), "{ended:?}");
            assert!(
                said.contains("ORDERS__HTTP__TOKENS_FILE") && said.contains(name),
                "{said}"
            );
        }
    }
    let environment = [("ORDERS__HTTP__TOKENS_FILE".to_owned(), "/nowhere".to_owned())].into();
    let ended = order_tracker(&environment, &[]).await;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains("/nowhere"), "{said}");
}
