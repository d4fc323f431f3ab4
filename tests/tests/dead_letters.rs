//! Messages that can never become orders.

use order_domain::Order;
use order_domain::testing::orders::{sample_order, sample_order_version};
use order_tests::Shop;

fn text(order: &Order) -> String {
    String::from_utf8_lossy(order.json()).into_owned()
}

#[tokio::test]
async fn bad_messages_become_dead_letters_while_the_good_ones_around_them_are_stored() {
    let shop = Shop::open().await;
    let whole = text(&sample_order("bad"));
    let bad = [
        ("must be JSON", whole[..whole.len() / 2].to_owned()),
        ("/sm_id", whole.replace("\"sm_id\":99", "\"sm_id\":\"99\"")),
        (
            "/customer_id is missing",
            whole.replace("\"customer_id\":\"test\",", ""),
        ),
        ("NUL", whole.replace("Mascaras", "Mas\\u0000caras")),
        ("bytes", whole.replace("Mascaras", &"x".repeat(900_000))),
        (
            "is given twice",
            whole.replace("\"sm_id\":99", "\"sm_id\":99,\"smId\":99"),
        ),
    ];
    for index in 0..494 {
        if let Some((_, message)) = bad.get(index / 80).filter(|_| index % 80 == 0) {
            shop.publish(message.clone()).await;
        }
        shop.publish_order(&sample_order(&format!("good-{index}"))).await;
    }
    assert!(494_usize.div_ceil(80) > bad.len(), "every bad one was published");

    let replica = shop.replica().await;
    shop.count_becomes(494, "SELECT count(*) FROM orders").await;
    shop.count_becomes(bad.len() as i64, "SELECT count(*) FROM dead_letters")
        .await;
    let letters = shop
        .query("SELECT reason, payload, subject, state, order_uid FROM dead_letters ORDER BY sequence")
        .await;
    for ((expected, message), letter) in bad.iter().zip(&letters) {
        let reason: String = letter.get("reason");
        assert!(
            reason.contains(expected),
            "{reason:?} does not tell of {expected:?}"
        );
        assert_eq!(
            letter.get::<_, Vec<u8>>("payload"),
            message.as_bytes(),
            "kept whole"
        );
        assert_eq!(letter.get::<_, String>("state"), "waiting");
        assert!(letter.get::<_, String>("subject").ends_with(".orders"));
    }
    assert!(
        letters[1..]
            .iter()
            .all(|letter| letter.get::<_, Option<String>>("order_uid").as_deref() == Some("bad"))
    );
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn an_order_that_only_the_database_refuses_is_found_among_its_neighbours() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    // A rule that this version of the service does not know of, as one that an operator added by hand.
    shop.query("ALTER TABLE orders ADD CONSTRAINT no_poison CHECK (order_uid NOT LIKE 'poison%')")
        .await;
    for index in 0..200 {
        shop.publish_order(&sample_order(&format!("good-{index}"))).await;
        if index % 100 == 50 {
            shop.publish_order(&sample_order(&format!("poison-{index}")))
                .await;
        }
    }
    shop.count_becomes(200, "SELECT count(*) FROM orders").await;
    shop.count_becomes(
        2,
        "SELECT count(*) FROM dead_letters WHERE order_uid LIKE 'poison-%'",
    )
    .await;
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn a_fault_of_ours_is_never_taken_for_the_orders() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    shop.query("ALTER TABLE payment ADD COLUMN unexpected integer NOT NULL")
        .await;
    for version in 0..3 {
        shop.publish_order(&sample_order_version("a", version)).await;
    }
    let told = order_tests::eventually(async || replica.readyz().await.json()["status"] == "degraded").await;
    assert!(told, "{:?}", replica.readyz().await);
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);

    shop.query("ALTER TABLE payment DROP COLUMN unexpected").await;
    replica.serves("a", sample_order_version("a", 2).json()).await;
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    replica.stop().await;
    shop.close().await;
}
