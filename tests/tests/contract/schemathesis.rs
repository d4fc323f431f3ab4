//! schemathesis against a real replica: everything that the OpenAPI document allows, and everything that it forbids.

use std::process::Stdio;

use order_domain::testing::orders::{sample_order, sample_order_version};
use order_tests::{Replica, Shop};
use xtask::progress::Progress;

use crate::docs;

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_that_the_contract_does_not_say() {
    let mut shop = Shop::open().await;
    shop.set("HTTP__WORKERS", "2");
    let replica = shop.replica().await;
    for uid in ["7f3a9c1e5b2d", "b563feb7b2b84b6test", "a", "0"] {
        shop.publish_order(&sample_order(uid)).await;
    }
    shop.publish_order(&sample_order_version("a", 2)).await;
    replica.get_when_there("0").await;
    ask_everything(&replica, &[]).await;
    replica.stop().await;
    shop.close().await;
}

/// Runs schemathesis, and fails with its report if it found anything.
async fn ask_everything(replica: &Replica, more: &[&str]) {
    let mut command = xtask::schemathesis::command(&Progress::new(1)).expect("schemathesis can be run");
    let tests = docs("../tests/tests/contract");
    let document = format!("{}/api/openapi.json", replica.url());
    command
        .env("SCHEMATHESIS_HOOKS", tests.join("schemathesis_hooks.py"))
        .arg("--config-file")
        .arg(tests.join("schemathesis.toml"))
        .args(["run", &document])
        // The same questions every time, about as many as a minute holds.
        .args([
            "--seed",
            "5",
            "--generation-database",
            "none",
            "--max-examples",
            "40",
        ])
        .args(["--no-color", "--workers", "2", "--continue-on-failure"])
        .args(more)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("it does not panic")
        .expect("python3 can be run");
    let report = String::from_utf8_lossy(&output.stdout);
    println!("{report}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{report}\n{errors}", output.status);
}
