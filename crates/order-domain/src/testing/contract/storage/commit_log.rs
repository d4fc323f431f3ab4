//! The rules of [`CommitLog`](crate::CommitLog), and of what [`OrderRepository::store`](crate::OrderRepository::store) writes
//! to it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{PATIENCE, Storage, entries_after, head, letter, read_after, store, store_batch, version};
use crate::{Batch, CommitLog, LogChange, LogCursor, LogPage, Logged, RevisedOrder};

/// There is a place before the first entry.
pub async fn an_empty_log_has_a_head(storage: &Storage) {
    let before = head(storage).await;
    assert_eq!(entries_after(storage, before, 10).await, (Vec::new(), true));
    let logged = log(storage, vec![version("a", 0)]).await;
    assert_eq!(logged.previous, before);
    let (entries, complete) = entries_after(storage, before, 10).await;
    assert_eq!(
        entries.iter().map(|entry| entry.cursor).collect::<Vec<_>>(),
        [logged.cursor]
    );
    assert!(complete);
}

/// One entry a commit, with the orders that changed and no others.
pub async fn a_commit_is_one_entry_that_names_what_changed(storage: &Storage) {
    store(storage, vec![version("old", 5)]).await;
    let before = head(storage).await;
    let versions = vec![version("new", 1), version("old", 3), version("other", 2)];
    let logged = log(storage, versions.clone()).await.cursor;
    assert!(logged.position > before.position);
    assert_eq!(head(storage).await, logged);

    let (entries, _) = entries_after(storage, before, 10).await;
    let [entry] = &entries[..] else {
        panic!("one commit made {} entries", entries.len())
    };
    assert_eq!(entry.cursor, logged);
    let mut named: Vec<_> = entry
        .changes
        .iter()
        .map(|change| (change.uid.as_str(), change.revision))
        .collect();
    named.sort_unstable();
    assert_eq!(
        named,
        [("new", versions[0].revision), ("other", versions[2].revision)]
    );
    let age = entry.committed_at.duration_until(jiff::Timestamp::now()).abs();
    assert!(
        age.as_mins() < 60,
        "written {age:?} ago, by a clock of this world"
    );
}

/// Whoever follows the log has nothing to do, so it is not woken.
pub async fn a_batch_that_changes_no_order_is_not_logged(storage: &Storage) {
    store(storage, vec![version("a", 5)]).await;
    let before = head(storage).await;
    let stale = Batch::new(vec![version("a", 4)], Vec::new());
    let letters = Batch::new(Vec::new(), vec![letter(1)]);
    let marks = Batch::default().replaying(vec![letter(1).revision]);
    for batch in [stale, letters, marks] {
        assert_eq!(store_batch(storage, &batch).await.logged, None);
    }
    assert_eq!(head(storage).await, before);
}

/// A limit in changes, kept by whole entries; at least one, so that reading gets on.
pub async fn entries_are_read_whole_and_oldest_first(storage: &Storage) {
    let start = head(storage).await;
    let mut written = Vec::new();
    for number in 0..6 {
        let orders = (0..4)
            .map(|order| version(&format!("order-{order}"), number))
            .collect();
        written.push(log(storage, orders).await.cursor);
    }
    for (limit, at_once) in [(1, 1), (4, 1), (8, 2), (100, 6)] {
        let (mut cursor, mut read, mut finished) = (start, Vec::new(), false);
        while !finished {
            let (entries, complete) = entries_after(storage, cursor, limit).await;
            assert!(
                !entries.is_empty(),
                "an incomplete page must be followed by entries"
            );
            // At most about the limit: the last entry may go beyond it.
            assert!(
                entries.len() <= at_once + 1,
                "{} entries for a limit of {limit} changes",
                entries.len()
            );
            assert!(
                entries.iter().all(|entry| entry.changes.len() == 4),
                "an entry is read whole"
            );
            read.extend(entries.iter().map(|entry| entry.cursor));
            cursor = *read.last().expect("not empty");
            finished = complete;
            assert_eq!(finished, cursor == written[5]);
        }
        assert_eq!(read, written);
    }
    assert_eq!(entries_after(storage, written[5], 1).await, (Vec::new(), true));
}

/// Once a follower has read an entry, none ever appears before it; and who wrote one knows which is before it, whoever wrote that.
pub async fn a_follower_misses_nothing_that_many_writers_commit(storage: &Storage) {
    const COMMITS: u32 = 40;
    let start = head(storage).await;
    let mut cursor = start;
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let storage = storage.clone();
            tokio::spawn(async move {
                let mut written = Vec::new();
                for number in 0..COMMITS {
                    let own = version(&format!("writer-{writer}"), number);
                    written.push(log(&storage, vec![own]).await);
                }
                written
            })
        })
        .collect();

    let mut missing: BTreeSet<_> = (0..6)
        .flat_map(|writer| (0..COMMITS).map(move |number| version(&format!("writer-{writer}"), number)))
        .map(|version| (version.order.order_uid.clone(), version.revision))
        .collect();
    let following = async {
        while !missing.is_empty() {
            for entry in entries_after(storage, cursor, 3).await.0 {
                assert!(entry.cursor.position > cursor.position);
                cursor = entry.cursor;
                for LogChange { uid, revision } in entry.changes {
                    assert!(missing.remove(&(uid, revision)), "a change was read twice");
                }
            }
        }
    };
    let in_time = timeout(PATIENCE, following).await;
    assert!(
        in_time.is_ok(),
        "the follower missed {} of {} changes",
        missing.len(),
        6 * COMMITS
    );
    let mut written = Vec::new();
    for writer in writers {
        written.extend(writer.await.expect("no writer fails"));
    }
    assert_eq!(entries_after(storage, cursor, 10).await, (Vec::new(), true));
    written.sort_by_key(|logged| logged.cursor.position);
    let mut before = start;
    for Logged { previous, cursor } in written {
        assert_eq!(previous, before, "before {cursor:?}");
        before = cursor;
    }
}

/// After a restore, the same position is another entry, or is not there at all.
pub async fn a_cursor_of_another_log_is_a_gap(storage: &Storage) {
    let LogCursor { position, mark } = log(storage, vec![version("a", 0)]).await.cursor;
    store(storage, vec![version("a", 1)]).await;
    for cursor in [
        LogCursor {
            position,
            mark: mark.wrapping_add(1),
        },
        LogCursor {
            position: position + 1_000,
            mark,
        },
        LogCursor {
            position: position - 1_000,
            mark,
        },
    ] {
        assert_eq!(read_after(storage, cursor, 10).await, LogPage::Gap, "{cursor:?}");
    }
}

/// A follower that was away for too long is told, and one that is up to date is not disturbed.
pub async fn pruning_leaves_the_newest_entry_and_a_gap_before_it(storage: &Storage) {
    let start = head(storage).await;
    let mut cursors = Vec::new();
    for number in 0..5 {
        cursors.push(log(storage, vec![version("a", number)]).await.cursor);
    }
    // An age of nothing: all of them are older.
    sleep(Duration::from_millis(20)).await;
    let removed = storage
        .log
        .prune(Duration::ZERO)
        .await
        .expect("the log is pruned");
    // The place before the first entry may be an entry of its own, or none.
    assert!((4..=5).contains(&removed), "{removed} of 5 entries were removed");
    assert_eq!(head(storage).await, cursors[4]);
    assert_eq!(entries_after(storage, cursors[4], 10).await, (Vec::new(), true));
    for cursor in [start, cursors[0], cursors[3]] {
        assert_eq!(read_after(storage, cursor, 10).await, LogPage::Gap);
    }
    assert_eq!(
        storage
            .log
            .prune(Duration::ZERO)
            .await
            .expect("the log is pruned"),
        0
    );
    let next = log(storage, vec![version("a", 5)]).await.cursor;
    let (entries, _) = entries_after(storage, cursors[4], 10).await;
    assert_eq!(
        entries.iter().map(|entry| entry.cursor).collect::<Vec<_>>(),
        [next]
    );
}

/// Age is counted from when an entry was written.
pub async fn young_entries_are_not_pruned(storage: &Storage) {
    let start = head(storage).await;
    store(storage, vec![version("a", 0)]).await;
    store(storage, vec![version("a", 1)]).await;
    assert_eq!(
        storage
            .log
            .prune(Duration::from_secs(3_600))
            .await
            .expect("the log is pruned"),
        0
    );
    assert_eq!(entries_after(storage, start, 10).await.0.len(), 2);
}

/// A single wake-up may be lost, so a commit follows another until one arrives; and waiting may be given up at any time.
pub async fn a_commit_wakes_who_waits_for_it(storage: &Storage) {
    let cursor = settle(&*storage.log).await;
    let committing = async {
        for number in 0.. {
            store(storage, vec![version("a", number)]).await;
            sleep(Duration::from_millis(100)).await;
        }
    };
    let woken = async {
        tokio::select! {
            () = storage.log.changed(cursor) => {}
            () = committing => {}
        }
    };
    timeout(PATIENCE, woken).await.expect("a commit wakes who waits");
}

/// Whoever has written an entry need not look at it.
pub async fn a_commit_wakes_nobody_who_knows_of_it(storage: &Storage) {
    settle(&*storage.log).await;
    let Logged { previous, cursor } = log(storage, vec![version("a", 0)]).await;
    let woken = timeout(Duration::from_millis(300), storage.log.changed(cursor)).await;
    assert!(woken.is_err(), "woken for what was known");
    timeout(PATIENCE, storage.log.changed(previous))
        .await
        .expect("but who does not know of it is woken");
}

/// Waits until nothing is left to be told of what happened while nobody waited; answers where the log ends.
pub async fn settle(log: &dyn CommitLog) -> LogCursor {
    let cursor = log.head().await.expect("the log answers");
    while timeout(Duration::from_millis(300), log.changed(cursor))
        .await
        .is_ok()
    {}
    cursor
}

/// Stores orders, some of which change; answers where that stands in the log.
async fn log(storage: &Storage, versions: Vec<RevisedOrder>) -> Logged {
    let report = store(storage, versions).await;
    report.logged.expect("an order changed")
}
