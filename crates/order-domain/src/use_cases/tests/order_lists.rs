//! Reading many orders at once: what is read and what is not, how much of it, and what is served while the database is away.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{advance, sleep};

use super::order_service::{Fixture, REVISION, document};
use super::scripted::our_fault;
use crate::testing::orders::sample_order;
use crate::{
    ANSWER_BYTES, Batch, FindError, LookedUp, Order, OrderDocument, OrderFilter, OrderPage, OrderRepository,
    OrderUid, ReservedRoom, RevisedOrder, Revision, limits,
};

impl Fixture {
    /// Stores orders beside "a".
    async fn store(&self, orders: impl IntoIterator<Item = Order>) {
        let versions = orders.into_iter().map(|order| RevisedOrder {
            revision: REVISION,
            order,
        });
        let batch = Batch::new(versions.collect(), Vec::new());
        self.repository.inner.store(&batch).await.expect("in memory");
    }

    async fn look_up(&self, uids: &[&str]) -> Result<LookedUp, FindError> {
        self.service.look_up_many(&named(uids), false).await
    }

    async fn list(&self) -> Result<(OrderPage, ReservedRoom), FindError> {
        self.service.list(OrderFilter::default(), None, 200).await
    }
}

fn named(uids: &[&str]) -> Vec<OrderUid> {
    uids.iter()
        .map(|uid| OrderUid::new(uid).expect("a good uid"))
        .collect()
}

/// An order of almost as many bytes as one may have: eight of them go into an answer.
fn large(uid: &str) -> Order {
    let mut parts = sample_order(uid).into_parts();
    let mut item = parts.items[0].clone();
    item.name = "x".repeat(1_700).into();
    parts.items = vec![item; 256];
    let order = Order::new(parts).expect("still an order");
    assert!(order.json().len() > limits::JSON_BYTES * 9 / 10 && order.json().len() * 8 <= ANSWER_BYTES);
    order
}

fn bytes(orders: &[OrderDocument]) -> usize {
    orders.iter().map(|order| order.json.len()).sum()
}

#[tokio::test(start_paused = true)]
async fn what_is_cached_is_answered_from_the_cache_and_all_others_by_one_read() {
    let fixture = Fixture::new().await;
    fixture.store(["b", "c"].map(sample_order)).await;
    fixture.find("b").await.expect("in reach");
    for reads in [2, 2] {
        let answer = fixture
            .look_up(&["c", "unknown", "b", "a"])
            .await
            .expect("in reach");
        let expected = ["c", "b", "a"].map(|uid| sample_order(uid).document(REVISION));
        assert_eq!(answer.orders, expected, "in the order asked for");
        assert_eq!(answer.missing, named(&["unknown"]));
        assert_eq!((answer.remaining, answer.age), (Vec::new(), None));
        assert_eq!(
            fixture.repository.finds(),
            reads,
            "what was read and what does not exist is cached"
        );
    }
    assert_eq!(fixture.find("unknown").await, Ok(None));
    assert_eq!(fixture.repository.finds(), 2, "a single read profits as well");
}

#[tokio::test(start_paused = true)]
async fn a_uid_given_twice_is_answered_once() {
    let fixture = Fixture::new().await;
    let answer = fixture.look_up(&["a", "no", "a", "no"]).await.expect("in reach");
    assert_eq!(
        (answer.orders, answer.missing),
        (vec![document()], named(&["no"]))
    );
    let nothing = fixture.look_up(&[]).await.expect("nothing to do");
    assert!(nothing.orders.is_empty() && nothing.missing.is_empty() && nothing.remaining.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_look_up_ends_at_its_bytes_and_names_the_rest() {
    let fixture = Fixture::new().await;
    let uids: Vec<String> = (0..40).map(|it| format!("large-{it}")).collect();
    fixture.store(uids.iter().map(|uid| large(uid))).await;
    // Once from the database, once from the cache, once from both.
    for cached in [0, 40, 3] {
        fixture.coherence.reset();
        fixture.coherence.extend_lease(tokio::time::Instant::now());
        for uid in &uids[..cached] {
            fixture.find(uid).await.expect("in reach");
        }
        let mut remaining = named(&uids.iter().map(String::as_str).collect::<Vec<_>>());
        remaining.insert(20, OrderUid::new("unknown").expect("a good uid"));
        let (mut found, mut missing) = (BTreeSet::new(), Vec::new());
        while !remaining.is_empty() {
            let answer = fixture
                .service
                .look_up_many(&remaining, false)
                .await
                .expect("in reach");
            assert!(bytes(&answer.orders) <= ANSWER_BYTES);
            assert!(
                !answer.orders.is_empty() || !answer.missing.is_empty(),
                "it leads on"
            );
            let count = answer.orders.len();
            let before = found.len();
            found.extend(answer.orders.into_iter().map(|order| order.uid));
            assert_eq!(found.len(), before + count, "nothing is answered twice");
            missing.extend(answer.missing);
            remaining = answer.remaining;
        }
        assert_eq!(found.len(), 40, "{cached} cached");
        assert_eq!(missing, named(&["unknown"]));
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_database_is_away_a_look_up_answers_what_is_cached_with_its_age() {
    let fixture = Fixture::new().await;
    fixture.find("a").await.expect("in reach");
    fixture.lose_database().await;
    // The one that tries the database, and those after it that do not.
    for _ in 0..3 {
        let answer = fixture.look_up(&["unknown", "a"]).await.expect("one is cached");
        assert_eq!((answer.orders, answer.missing), (vec![document()], Vec::new()));
        assert_eq!(answer.age, Some(Duration::from_secs(3)));
        assert_eq!(
            answer.remaining,
            named(&["unknown"]),
            "nobody can say that it does not exist"
        );
    }
    assert_eq!(fixture.repository.finds(), 2);
    assert_eq!(
        fixture.look_up(&["unknown"]).await.err(),
        Some(FindError::Unavailable)
    );
    let proven = fixture.service.look_up_many(&named(&["a"]), true).await;
    assert_eq!(proven.err(), Some(FindError::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_ours_is_not_taken_for_missing_orders() {
    let fixture = Fixture::new().await;
    fixture.repository.always_fail(Some(our_fault));
    assert_eq!(fixture.look_up(&["a"]).await.err(), Some(FindError::Other));
    assert_eq!(fixture.list().await.err(), Some(FindError::Other));
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_a_change_overtook_is_answered_but_not_kept() {
    let fixture = Fixture::new().await;
    fixture.repository.hold(true);
    let change = async {
        sleep(Duration::from_millis(10)).await;
        let changes = ["a", "unknown"].map(|uid| crate::LogChange {
            uid: OrderUid::new(uid).expect("a good uid"),
            revision: Revision {
                published_at: 2,
                sequence: 2,
            },
        });
        fixture.coherence.apply(&changes);
        fixture.repository.hold(false);
    };
    let (answer, ()) = tokio::join!(fixture.look_up(&["a", "unknown"]), change);
    assert_eq!(answer.expect("in reach").orders, [document()]);
    fixture.look_up(&["a"]).await.expect("in reach");
    fixture.look_up(&["unknown"]).await.expect("in reach");
    assert_eq!(fixture.repository.finds(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_read_and_refused_at_once_while_the_database_is_away() {
    let fixture = Fixture::new().await;
    let (page, _) = fixture.list().await.expect("in reach");
    assert_eq!((page.orders, page.next), (vec![document()], None));
    fixture.lose_database().await;
    let before = fixture.repository.finds();
    for _ in 0..100 {
        assert_eq!(fixture.list().await.err(), Some(FindError::Unavailable));
        advance(Duration::from_millis(100)).await;
    }
    let tried = fixture.repository.finds() - before;
    assert!((9..=10).contains(&tried), "{tried} in 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_frozen_database_keeps_no_list_beyond_the_deadline() {
    let fixture = Fixture::new().await;
    fixture.repository.hold(true);
    let both = async { tokio::join!(fixture.list(), fixture.look_up(&["a"])) };
    let (list, look_up) = tokio::time::timeout(Duration::from_millis(1_501), both)
        .await
        .expect("within the deadline");
    assert_eq!(list.err(), Some(FindError::Unavailable));
    assert_eq!(look_up.err(), Some(FindError::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_not_sent_yet_leave_no_room_for_others() {
    let fixture = Fixture::new().await;
    fixture
        .store((0..16).map(|it| large(&format!("large-{it}"))))
        .await;
    // The default is room for 64 MiB.
    let mut unsent = Vec::new();
    for _ in 0..16 {
        let (page, room) = fixture.list().await.expect("there is room");
        assert!(bytes(&page.orders) > ANSWER_BYTES * 7 / 8);
        unsent.push(room);
    }
    // What each has not used is free again, and less than a whole answer.
    unsent.push(fixture.list().await.expect("there is still room").1);
    let service = Arc::clone(&fixture.service);
    assert_eq!(fixture.list().await.err(), Some(FindError::Unavailable));
    let waiting = tokio::spawn(async move { service.list(OrderFilter::default(), None, 1).await });
    sleep(Duration::from_millis(500)).await;
    unsent.clear();
    assert!(waiting.await.expect("no panic").is_ok(), "it waited for room");
}
