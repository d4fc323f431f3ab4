//! What every storage must do: [`OrderRepository`], [`CommitLog`] and [`DeadLetters`] over the same data, one function a rule.

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;

use crate::testing::orders::sample_order_version;
use crate::{
    Batch, CommitLog, DeadLetter, DeadLetters, LogCursor, LogEntry, LogPage, OrderDocument, OrderRepository,
    OrderUid, RawMessage, RevisedOrder, Revision, StoreReport,
};

mod commit_log;
mod dead_letters;
mod lists;
mod orders;

pub use commit_log::*;
pub use dead_letters::*;
pub use lists::*;
pub use orders::*;

/// Makes the storage that one rule is tested on.
#[async_trait]
pub trait StorageFixture: Sized + Send + Sync {
    /// Opens an empty storage that nobody else uses.
    async fn open() -> Self;

    /// Its ports.
    fn storage(&self) -> Storage;

    /// Removes what `open` made, also after the rule has failed.
    async fn close(self);
}

/// The three ports over the same data.
#[derive(Clone)]
#[expect(missing_docs, reason = "the fields are named as their ports")]
pub struct Storage {
    pub orders: Arc<dyn OrderRepository>,
    pub log: Arc<dyn CommitLog>,
    pub letters: Arc<dyn DeadLetters>,
}

/// Tests that [`OrderRepository`], [`CommitLog`] and [`DeadLetters`] keep their contract, one `#[tokio::test]` a rule.
///
/// Takes a type that is a [`StorageFixture`]: `order_storage_contract!(MyFixture)`. The crate needs `tokio` with `macros` and
/// `rt-multi-thread`.
#[macro_export]
macro_rules! order_storage_contract {
    ($fixture:ty) => {
        $crate::order_storage_contract! { @rules $fixture;
            what_is_stored_is_found_as_the_same_bytes
            an_order_at_every_limit_survives
            an_unknown_order_is_absent
            a_newer_version_replaces_the_order_as_a_whole
            the_newest_version_wins_in_any_order_of_delivery
            the_time_leads_and_the_sequence_breaks_ties
            the_same_batch_again_changes_nothing
            each_order_of_a_batch_has_its_own_outcome
            an_empty_batch_is_stored_without_a_trace
            orders_that_share_an_article_keep_their_items
            batches_stored_at_once_do_not_fail
            an_order_is_found_whole_while_it_is_replaced
            the_newest_are_those_created_last
            the_newest_are_of_one_snapshot
            the_newest_come_in_chunks

            pages_hold_every_order_once_and_newest_first
            orders_of_one_moment_are_paged_by_uid
            a_page_holds_exactly_what_fits_every_filter
            texts_are_searched_byte_by_byte
            a_page_ends_at_its_bytes_and_holds_one_order_at_least
            the_orders_of_a_page_are_whole_while_they_are_replaced
            paging_skips_and_repeats_nothing_while_others_are_stored
            many_orders_are_found_at_once_in_the_order_asked_for
            many_orders_end_at_their_bytes_and_say_where
            many_orders_are_whole_while_they_are_replaced

            an_empty_log_has_a_head
            a_commit_is_one_entry_that_names_what_changed
            a_batch_that_changes_no_order_is_not_logged
            entries_are_read_whole_and_oldest_first
            a_follower_misses_nothing_that_many_writers_commit
            a_cursor_of_another_log_is_a_gap
            pruning_leaves_the_newest_entry_and_a_gap_before_it
            young_entries_are_not_pruned
            a_commit_wakes_who_waits_for_it
            a_commit_wakes_nobody_who_knows_of_it

            a_dead_letter_is_kept_whole
            a_dead_letter_is_recorded_once
            a_discarded_letter_stays_discarded
            a_replayed_letter_is_marked_with_its_order
            the_letters_are_listed_newest_first_without_a_gap
            an_unknown_letter_is_absent
        }
    };
    (@rules $fixture:ty; $($rule:ident)+) => {
        $(
            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                use $crate::testing::contract::storage;
                storage::check::<$fixture>(|it| ::std::boxed::Box::pin(storage::$rule(it))).await;
            }
        )+
    };
}

/// Runs a rule on a storage of its own, which is removed even if the rule fails.
pub async fn check<F: StorageFixture>(
    rule: impl for<'a> FnOnce(&'a Storage) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
) {
    let fixture = F::open().await;
    let storage = fixture.storage();
    let outcome = AssertUnwindSafe(rule(&storage)).catch_unwind().await;
    drop(storage);
    fixture.close().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// Longer than any storage needs; what takes longer does not happen.
const PATIENCE: Duration = Duration::from_secs(30);

const fn revision(published_at: i64, sequence: u64) -> Revision {
    Revision {
        published_at,
        sequence,
    }
}

/// A version of an order, made so that every field of its revision grows with the version.
fn version(uid: &str, version: u32) -> RevisedOrder {
    let sequence = u64::from(version) + 1;
    RevisedOrder {
        revision: revision(1_700_000_000_000_000 + i64::from(version), sequence),
        order: sample_order_version(uid, version),
    }
}

fn document(version: &RevisedOrder) -> OrderDocument {
    version.order.document(version.revision)
}

/// A dead letter that has everything a message may have.
fn letter(sequence: u64) -> DeadLetter {
    DeadLetter {
        revision: revision(1_700_000_000_000_000, sequence),
        message: RawMessage {
            subject: "orders".to_owned(),
            headers: vec![
                ("Nats-Msg-Id".to_owned(), format!("attempt-{sequence}")),
                ("note".to_owned(), "\"quoted\", ünïcode, a line\u{7f}".to_owned()),
                ("note".to_owned(), String::new()),
            ],
            payload: Bytes::from_static(b"{\"order_uid\": \0\xff\xfe"),
        },
        reason: "the message is not UTF-8".to_owned(),
        order_uid: None,
    }
}

fn uid(text: &str) -> OrderUid {
    OrderUid::new(text).expect("a rule gives a good uid")
}

async fn store(storage: &Storage, versions: Vec<RevisedOrder>) -> StoreReport {
    store_batch(storage, &Batch::new(versions, Vec::new())).await
}

async fn store_batch(storage: &Storage, batch: &Batch) -> StoreReport {
    storage.orders.store(batch).await.expect("the batch is stored")
}

async fn find(storage: &Storage, text: &str) -> Option<OrderDocument> {
    storage
        .orders
        .find(&uid(text))
        .await
        .expect("the repository answers")
}

async fn head(storage: &Storage) -> LogCursor {
    storage.log.head().await.expect("the log answers")
}

async fn read_after(storage: &Storage, cursor: LogCursor, limit: usize) -> LogPage {
    storage
        .log
        .read_after(cursor, limit)
        .await
        .expect("the log answers")
}

/// The entries after a cursor that is still good, and whether they are all.
async fn entries_after(storage: &Storage, cursor: LogCursor, limit: usize) -> (Vec<LogEntry>, bool) {
    match read_after(storage, cursor, limit).await {
        LogPage::Entries { entries, complete } => (entries, complete),
        LogPage::Gap => panic!("the log no longer leads on from {cursor:?}"),
    }
}
