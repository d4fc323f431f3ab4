//! The documents as they are served, and as they are committed.

use order_app::{Contract, Settings};
use order_tests::Shop;
use reqwest::{Method, StatusCode};

use crate::{docs, document};

#[test]
fn the_committed_contract_is_that_of_the_code() {
    for document in Contract::new(&Settings::default()).documents() {
        let committed = std::fs::read(docs("api").join(document.name)).unwrap_or_default();
        assert!(
            committed == document.json,
            "docs/api/{} is not what the code says. If the contract is meant to change, `cargo xtask contract` writes it anew; \
             commit it with the change, so that it is reviewed, and look whether it breaks callers",
            document.name
        );
    }
}

#[tokio::test]
async fn every_document_is_served_as_it_is_committed_under_a_tag() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    for document in Contract::new(&shop.settings()).documents() {
        let path = format!("/api/{}", document.name);
        let got = replica.request(Method::GET, &path, &[]).await;
        assert_eq!(
            (got.status, &got.body),
            (StatusCode::OK, &document.json),
            "{path}"
        );
        assert_eq!(got.header("content-type"), document.media_type);
        let tag = got.header("etag");
        let again = replica
            .request(Method::GET, &path, &[("if-none-match", tag)])
            .await;
        assert_eq!(
            (again.status, again.body.len()),
            (StatusCode::NOT_MODIFIED, 0),
            "{path}"
        );
        assert_eq!(again.header("etag"), tag);
    }
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn asyncapi_names_the_subject_that_is_taken_from() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    let served = replica
        .request(Method::GET, "/api/asyncapi.json", &[])
        .await
        .json();
    assert_eq!(
        served["channels"]["orders"]["address"],
        format!("{}.orders", shop.stream())
    );
    assert_eq!(
        document("asyncapi.json")["channels"]["orders"]["address"],
        "orders"
    );
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn swagger_ui_is_served_whole_and_names_nobody_else() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    let get = async |path: &str| replica.request(Method::GET, path, &[]).await;

    let page = get("/docs").await;
    assert!(
        String::from_utf8_lossy(&page.body).contains("swagger-ui"),
        "/docs leads to /docs/: {page:?}"
    );
    let page = get("/docs/").await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (StatusCode::OK, "text/html")
    );
    assert!(
        page.header("content-security-policy")
            .starts_with("default-src 'none';")
    );
    let html = String::from_utf8_lossy(&page.body).into_owned();
    let attributes = html
        .split(['"', '\''])
        .filter(|it| it.ends_with(".js") || it.ends_with(".css") || it.ends_with(".png"));
    let mut files = 0;
    for file in attributes {
        assert!(!file.contains("//"), "{file} is not served from here");
        let answer = get(&format!("/docs/{file}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{file}");
        files += 1;
    }
    assert!(files >= 5, "{html}");
    let start = get("/docs/swagger-initializer.js").await;
    let start = String::from_utf8_lossy(&start.body);
    assert!(
        start.contains("../api/openapi.json") && start.contains(r#""validatorUrl": "none""#),
        "{start}"
    );
    assert_eq!(get("/docs/nothing.js").await.status, StatusCode::NOT_FOUND);
    replica.stop().await;
    shop.close().await;
}
