//! Dead letters that are replayed, discarded, or neither.

use std::sync::Arc;

use bytes::Bytes;

use crate::testing::memory::MemoryStore;
use crate::testing::orders::{sample_order, sample_order_version};
use crate::{
    Batch, DeadLetter, DeadLetterDesk, DeadLetterState, DeadLetters, Discarded, Order, OrderRepository,
    RawMessage, Replayed, RevisedOrder, Revision,
};

const LETTER: Revision = Revision {
    published_at: 1_000,
    sequence: 10,
};

struct Office {
    store: Arc<MemoryStore>,
    desk: DeadLetterDesk,
}

impl Office {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let desk = DeadLetterDesk::new(
            Arc::clone(&store) as Arc<dyn DeadLetters>,
            Arc::clone(&store) as Arc<dyn OrderRepository>,
        );
        Office { store, desk }
    }

    /// An office where a message with this payload waits as a dead letter.
    async fn with_letter(payload: impl Into<Bytes>) -> Self {
        let office = Office::new();
        office.receive(payload).await;
        office
    }

    async fn receive(&self, payload: impl Into<Bytes>) {
        let letter = DeadLetter {
            revision: LETTER,
            message: RawMessage {
                subject: "orders".to_owned(),
                headers: Vec::new(),
                payload: payload.into(),
            },
            reason: "rejected by the database: a rule that no longer stands".to_owned(),
            order_uid: None,
        };
        let batch = Batch::new(Vec::new(), vec![letter]);
        self.store.store(&batch).await.expect("in reach");
    }

    async fn has_version(&self, published_at: i64, sequence: u64, order: Order) {
        let revision = Revision {
            published_at,
            sequence,
        };
        let batch = Batch::new(vec![RevisedOrder { revision, order }], Vec::new());
        self.store.store(&batch).await.expect("in reach");
    }

    async fn replay(&self) -> Replayed {
        self.desk.replay(LETTER).await.expect("in reach")
    }

    async fn state(&self) -> DeadLetterState {
        let found = self.desk.find(LETTER).await.expect("in reach");
        found.expect("its record stays").state
    }

    /// The revision and the bytes that are stored of order `a`.
    async fn stored(&self) -> Option<(Revision, Bytes)> {
        let found = self.store.find(&sample_order("a").order_uid).await;
        found
            .expect("in reach")
            .map(|document| (document.revision, document.json.clone()))
    }
}

#[tokio::test]
async fn an_order_is_stored_under_the_revision_of_its_message() {
    let order = sample_order_version("a", 3);
    let office = Office::with_letter(order.json().clone()).await;
    assert_eq!(office.replay().await, Replayed::Stored);
    assert_eq!(office.stored().await, Some((LETTER, order.json().clone())));
    assert_eq!(office.state().await, DeadLetterState::Replayed);
}

#[tokio::test]
async fn an_older_version_is_replaced_and_a_newer_one_stays() {
    let order = sample_order_version("a", 3);
    let office = Office::with_letter(order.json().clone()).await;
    office.has_version(999, 9, sample_order_version("a", 2)).await;
    assert_eq!(office.replay().await, Replayed::Stored);
    assert_eq!(office.stored().await, Some((LETTER, order.json().clone())));

    let office = Office::with_letter(order.json().clone()).await;
    let newer = sample_order_version("a", 4);
    office.has_version(1_001, 11, newer.clone()).await;
    let by = Revision {
        published_at: 1_001,
        sequence: 11,
    };
    assert_eq!(office.replay().await, Replayed::Superseded { by });
    assert_eq!(office.stored().await, Some((by, newer.json().clone())));
    assert_eq!(office.state().await, DeadLetterState::Replayed);
}

#[tokio::test]
async fn what_is_still_no_order_waits_on_and_says_why() {
    let office = Office::with_letter(r#"{"order_uid": "a"}"#).await;
    let Replayed::Faulty(faults) = office.replay().await else {
        panic!("it is no order");
    };
    assert!(
        faults.to_string().contains("/track_number is missing"),
        "{faults}"
    );
    assert_eq!(office.state().await, DeadLetterState::Waiting);
    assert_eq!(office.stored().await, None);
}

#[tokio::test]
async fn what_the_database_still_rejects_waits_on() {
    let office = Office::with_letter(sample_order("a").json().clone()).await;
    office.store.reject_orders(|_| true);
    assert!(matches!(office.replay().await, Replayed::Rejected(_)));
    assert_eq!(office.state().await, DeadLetterState::Waiting);
}

#[tokio::test]
async fn what_may_be_newer_in_truth_is_not_taken_for_superseded() {
    let office = Office::with_letter(sample_order_version("a", 3).json().clone()).await;
    office.has_version(1_001, 9, sample_order_version("a", 2)).await;
    let stored = Revision {
        published_at: 1_001,
        sequence: 9,
    };
    assert_eq!(office.replay().await, Replayed::BehindTheClock { stored });
    assert_eq!(office.state().await, DeadLetterState::Waiting);
}

#[tokio::test]
async fn each_letter_is_replayed_or_discarded_once() {
    let office = Office::new();
    assert_eq!(office.replay().await, Replayed::Unknown);
    assert_eq!(office.desk.discard(LETTER).await.unwrap(), Discarded::Unknown);

    let order = sample_order("a").json().clone();
    office.receive(order.clone()).await;
    assert_eq!(office.replay().await, Replayed::Stored);
    let replayed = DeadLetterState::Replayed;
    assert_eq!(office.replay().await, Replayed::NotWaiting(replayed));
    assert_eq!(
        office.desk.discard(LETTER).await.unwrap(),
        Discarded::NotWaiting(replayed)
    );

    let office = Office::with_letter(order.clone()).await;
    assert_eq!(office.desk.discard(LETTER).await.unwrap(), Discarded::Discarded);
    // Its message is delivered again, and the tombstone stays.
    office.receive(order).await;
    let discarded = DeadLetterState::Discarded;
    assert_eq!(office.replay().await, Replayed::NotWaiting(discarded));
    assert_eq!(
        office.desk.discard(LETTER).await.unwrap(),
        Discarded::NotWaiting(discarded)
    );
    assert_eq!(office.stored().await, None);
}

#[tokio::test]
async fn a_database_out_of_reach_is_told_and_costs_nothing() {
    let office = Office::with_letter(sample_order("a").json().clone()).await;
    office.store.set_reachable(false);
    assert!(office.desk.replay(LETTER).await.is_err());
    assert!(office.desk.discard(LETTER).await.is_err());
    office.store.set_reachable(true);
    // The answer of the first one is lost on its way; the second finds it done.
    office.store.lose_answers(1);
    assert!(office.desk.replay(LETTER).await.is_err());
    assert_eq!(
        office.replay().await,
        Replayed::NotWaiting(DeadLetterState::Replayed)
    );
    assert!(office.stored().await.is_some());
}
