//! schemathesis against a real replica: everything that the OpenAPI document allows, and everything that it forbids.

use std::process::Stdio;

use order_domain::testing::orders::{sample_order, sample_order_version};
use order_tests::{Replica, Shop};
use xtask::progress::Progress;

use crate::{docs, require_tokens};

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_that_the_contract_does_not_say() {
    let shop = shop_with_orders().await;
    let replica = shop.replica().await;
    // Without tokens nobody is turned away for lack of one.
    ask_everything(
        &replica,
        &["--exclude-checks", "ignored_auth", "--max-examples", "15"],
    )
    .await;
    replica.stop().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_way_around_a_token() {
    let mut shop = shop_with_orders().await;
    let token = require_tokens(&mut shop, "read,publish");
    let replica = shop.replica().await;
    ask_everything(
        &replica,
        &[
            "--header",
            &format!("Authorization: Bearer {token}"),
            "--max-examples",
            "5",
        ],
    )
    .await;
    replica.stop().await;
    shop.close().await;
}

async fn shop_with_orders() -> Shop {
    let mut shop = Shop::open().await;
    shop.set("HTTP__WORKERS", "2");
    // A question that waits for what never comes is answered before the next one is due.
    shop.set("READ__MAX_WAIT", "50ms");
    for uid in ["7f3a9c1e5b2d", "b563feb7b2b84b6test", "a", "0"] {
        shop.publish_order(&sample_order(uid)).await;
    }
    shop.publish_order(&sample_order_version("a", 2)).await;
    shop
}

/// Runs schemathesis, and fails with its report if it found anything.
#[expect(
    clippy::print_stdout,
    reason = "what it asked is worth reading in the log of a test that passed, too"
)]
async fn ask_everything(replica: &Replica, more: &[&str]) {
    let mut command = xtask::schemathesis::command(&Progress::new(1)).expect("schemathesis can be run");
    let hooks = docs("../tests/tests/contract/schemathesis_hooks.py");
    let document = format!("{}/api/openapi.json", replica.url());
    command
        .env("SCHEMATHESIS_HOOKS", hooks)
        .args(["run", &document])
        // The same questions every time, about as many as a minute holds. One at a time: Python 3.11 fails at two threads that parse.
        .args(["--seed", "5", "--generation-database", "none"])
        .args(["--no-color", "--workers", "1", "--continue-on-failure"])
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
