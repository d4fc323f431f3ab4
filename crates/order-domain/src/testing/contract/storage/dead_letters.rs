//! The rules of [`DeadLetters`](crate::DeadLetters), and of how [`OrderRepository::store`](crate::OrderRepository::store) records them.

use super::{Storage, document, find, letter, revision, store, store_batch, uid, version};
use crate::{Batch, DeadLetter, DeadLetterQuery, DeadLetterState, Revision, StoredDeadLetter};

/// Bytes, headers and reason, beside the orders of the same batch.
pub async fn a_dead_letter_is_kept_whole(storage: &Storage) {
    let named = DeadLetter {
        order_uid: Some(uid("broken")),
        ..letter(2)
    };
    let bare = DeadLetter {
        message: crate::RawMessage {
            headers: Vec::new(),
            payload: bytes::Bytes::new(),
            ..letter(3).message
        },
        ..letter(3)
    };
    let order = version("good", 0);
    let batch = Batch::new(vec![order.clone()], vec![letter(1), bare.clone(), named.clone()]);
    store_batch(storage, &batch).await;
    assert_eq!(find(storage, "good").await, Some(document(&order)));
    for given in [letter(1), named, bare] {
        let found = find_letter(storage, given.revision)
            .await
            .expect("it was recorded");
        assert_eq!((found.letter, found.state), (given, DeadLetterState::Waiting));
        let age = found.recorded_at.duration_until(jiff::Timestamp::now()).abs();
        assert!(
            age.as_mins() < 60,
            "recorded {age:?} ago, by a clock of this world"
        );
    }
}

/// However often it is given, in one batch or in several; what was recorded first stays.
pub async fn a_dead_letter_is_recorded_once(storage: &Storage) {
    store_batch(storage, &Batch::new(Vec::new(), vec![letter(1), letter(1)])).await;
    let reworded = DeadLetter {
        reason: "told otherwise by a newer version".to_owned(),
        ..letter(1)
    };
    store_batch(storage, &Batch::new(Vec::new(), vec![reworded, letter(2)])).await;
    let listed = list(storage, None, None, 10).await;
    assert_eq!(
        listed.iter().map(|it| it.letter.clone()).collect::<Vec<_>>(),
        [letter(2), letter(1)]
    );
}

/// A redelivery does not bring it back.
pub async fn a_discarded_letter_stays_discarded(storage: &Storage) {
    let batch = Batch::new(Vec::new(), vec![letter(1)]);
    store_batch(storage, &batch).await;
    let key = letter(1).revision;
    assert!(storage.letters.discard(key).await.expect("answered"));
    assert!(
        !storage.letters.discard(key).await.expect("answered"),
        "it no longer waits"
    );
    store_batch(storage, &batch).await;
    let found = find_letter(storage, key).await.expect("its record stays");
    assert_eq!(found.state, DeadLetterState::Discarded);
    assert_eq!(list(storage, Some(DeadLetterState::Waiting), None, 10).await, []);
}

/// Its order and the mark are stored together, under the letter's own revision, so that a newer version stays.
pub async fn a_replayed_letter_is_marked_with_its_order(storage: &Storage) {
    store_batch(
        storage,
        &Batch::new(Vec::new(), vec![letter(1), letter(2), letter(3)]),
    )
    .await;
    let newer = version("a", 9);
    store(storage, vec![newer.clone()]).await;
    let older = crate::RevisedOrder {
        revision: letter(1).revision,
        ..version("a", 1)
    };
    let (one, two) = (letter(1).revision, letter(2).revision);
    store_batch(
        storage,
        &Batch::new(vec![older], Vec::new()).replaying(vec![two, one]),
    )
    .await;
    assert_eq!(find(storage, "a").await, Some(document(&newer)));
    for (key, state) in [
        (one, DeadLetterState::Replayed),
        (two, DeadLetterState::Replayed),
        (letter(3).revision, DeadLetterState::Waiting),
    ] {
        assert_eq!(
            find_letter(storage, key).await.map(|found| found.state),
            Some(state),
            "{key}"
        );
    }
    assert!(
        !storage.letters.discard(one).await.expect("answered"),
        "it no longer waits"
    );
}

/// Page by page, each letter once; in one state or in all.
pub async fn the_letters_are_listed_newest_first_without_a_gap(storage: &Storage) {
    // Some share their time, some their sequence.
    let keys: Vec<Revision> = (0..12)
        .map(|index| revision(index / 3, (index % 4).unsigned_abs()))
        .collect();
    let letters = keys
        .iter()
        .map(|&key| DeadLetter {
            revision: key,
            ..letter(0)
        })
        .collect();
    store_batch(storage, &Batch::new(Vec::new(), letters)).await;
    let mut newest_first = keys.clone();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    for key in &newest_first[..5] {
        assert!(storage.letters.discard(*key).await.expect("answered"));
    }
    for (state, expected) in [
        (None, &newest_first[..]),
        (Some(DeadLetterState::Discarded), &newest_first[..5]),
        (Some(DeadLetterState::Waiting), &newest_first[5..]),
        (Some(DeadLetterState::Replayed), &[]),
    ] {
        let (mut read, mut before) = (Vec::new(), None);
        loop {
            let page = list(storage, state, before, 3).await;
            assert!(page.len() <= 3);
            let Some(last) = page.last() else { break };
            before = Some(last.letter.revision);
            read.extend(page.iter().map(|it| it.letter.revision));
        }
        assert_eq!(read, expected, "{state:?}");
    }
}

/// Absence is an answer, not an error.
pub async fn an_unknown_letter_is_absent(storage: &Storage) {
    store_batch(storage, &Batch::new(Vec::new(), vec![letter(1)])).await;
    for unknown in [letter(2).revision, revision(0, 1)] {
        assert_eq!(find_letter(storage, unknown).await, None);
        assert!(!storage.letters.discard(unknown).await.expect("answered"));
    }
    // To mark a letter that is not there is no fault of the orders beside it.
    store_batch(storage, &Batch::default().replaying(vec![letter(2).revision])).await;
    assert_eq!(find_letter(storage, letter(2).revision).await, None);
}

async fn find_letter(storage: &Storage, key: Revision) -> Option<StoredDeadLetter> {
    storage.letters.find(key).await.expect("answered")
}

async fn list(
    storage: &Storage,
    state: Option<DeadLetterState>,
    before: Option<Revision>,
    limit: usize,
) -> Vec<StoredDeadLetter> {
    storage
        .letters
        .list(&DeadLetterQuery { state, before, limit })
        .await
        .expect("answered")
}
