//! What may be put into the cache, and when it may be believed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, advance};

use crate::testing::memory::MemoryCache;
use crate::testing::orders::sample_order_version;
use crate::{Coherence, LogChange, Lookup, OrderDocument, OrderUid, Revision};

const LEASE: Duration = Duration::from_secs(2);

fn coherence() -> Coherence {
    Coherence::new(Arc::new(MemoryCache::default()), LEASE)
}

fn proven() -> Coherence {
    let coherence = coherence();
    coherence.extend_lease(Instant::now());
    coherence
}

fn uid() -> OrderUid {
    OrderUid::new("a").expect("a good uid")
}

fn version(version: u32) -> OrderDocument {
    sample_order_version("a", version).document(revision(version))
}

fn revision(version: u32) -> Revision {
    Revision {
        published_at: i64::from(version),
        sequence: u64::from(version),
    }
}

fn change(version: u32) -> [LogChange; 1] {
    [LogChange {
        uid: uid(),
        revision: revision(version),
    }]
}

#[tokio::test(start_paused = true)]
async fn the_lease_counts_from_the_moment_the_look_began() {
    let coherence = coherence();
    let ticket = coherence.begin_fill(&uid());
    assert!(coherence.fill(&ticket, version(1)));
    assert_eq!(
        coherence.look_up(&uid()),
        Lookup::Unproven {
            document: version(1),
            age: None
        }
    );

    let began = Instant::now();
    advance(Duration::from_millis(1_500)).await;
    coherence.extend_lease(began);
    assert_eq!(coherence.look_up(&uid()), Lookup::Proven(version(1)));
    advance(Duration::from_millis(499)).await;
    assert!(coherence.is_proven());
    advance(Duration::from_millis(1)).await;
    assert_eq!(
        coherence.look_up(&uid()),
        Lookup::Unproven {
            document: version(1),
            age: Some(LEASE)
        }
    );

    // Hidden, not emptied: the next complete look shows it again.
    coherence.extend_lease(Instant::now());
    assert_eq!(coherence.look_up(&uid()), Lookup::Proven(version(1)));
}

#[tokio::test]
async fn a_fill_that_a_commit_overtook_is_never_kept() {
    let coherence = proven();
    let ticket = coherence.begin_fill(&uid());
    coherence.apply(&change(2));
    assert!(
        !coherence.fill(&ticket, version(1)),
        "its snapshot may be from before the commit"
    );
    assert_eq!(coherence.look_up(&uid()), Lookup::Unknown);
}

#[tokio::test]
async fn a_change_drops_what_is_older_and_leaves_what_is_not() {
    let coherence = proven();
    coherence.fill(&coherence.begin_fill(&uid()), version(2));
    coherence.apply(&change(2));
    assert_eq!(coherence.look_up(&uid()), Lookup::Proven(version(2)));
    coherence.apply(&change(3));
    assert_eq!(coherence.look_up(&uid()), Lookup::Unknown);
}

#[tokio::test]
async fn an_older_fill_does_not_replace_a_newer_one() {
    let coherence = proven();
    let (older, newer) = (coherence.begin_fill(&uid()), coherence.begin_fill(&uid()));
    assert!(coherence.fill(&newer, version(2)));
    coherence.fill(&older, version(1));
    assert_eq!(coherence.look_up(&uid()), Lookup::Proven(version(2)));
}

#[tokio::test]
async fn what_this_replica_commits_is_put_when_the_log_says_so() {
    let coherence = proven();
    coherence.offer([version(1)].into_iter());
    assert_eq!(coherence.look_up(&uid()), Lookup::Unknown, "not committed yet");
    coherence.apply(&change(1));
    assert_eq!(coherence.look_up(&uid()), Lookup::Proven(version(1)));
}

#[tokio::test]
async fn an_offer_that_another_replica_overtook_is_not_put() {
    let coherence = proven();
    coherence.offer([version(1)].into_iter());
    coherence.apply(&change(2));
    assert_eq!(coherence.look_up(&uid()), Lookup::Unknown);
    coherence.apply(&change(1));
    assert_eq!(
        coherence.look_up(&uid()),
        Lookup::Unknown,
        "the offer was forgotten"
    );
}

#[tokio::test]
async fn an_offer_waits_while_older_versions_are_applied() {
    let coherence = proven();
    coherence.offer([version(2)].into_iter());
    coherence.apply(&change(1));
    assert_eq!(coherence.look_up(&uid()), Lookup::Unknown);
    coherence.apply(&change(2));
    assert_eq!(coherence.look_up(&uid()), Lookup::Proven(version(2)));
}

#[tokio::test]
async fn a_retracted_offer_is_not_put() {
    let coherence = proven();
    coherence.offer([version(1)].into_iter());
    coherence.retract(&uid());
    coherence.apply(&change(1));
    assert_eq!(coherence.look_up(&uid()), Lookup::Unknown);
}

#[tokio::test]
async fn a_warm_up_puts_only_what_did_not_change_since() {
    let coherence = proven();
    let warm_up = coherence.begin_warm_up();
    coherence.apply(&change(2));
    assert!(
        !warm_up.put(version(1)),
        "its snapshot may be from before the change"
    );
    let other = sample_order_version("b", 1).document(revision(1));
    assert!(warm_up.put(other), "others are put, whatever their stamps");
}

#[tokio::test]
async fn a_reset_forgets_everything_and_refuses_what_was_begun_before() {
    let coherence = proven();
    coherence.fill(&coherence.begin_fill(&uid()), version(1));
    coherence.offer([version(2)].into_iter());
    let ticket = coherence.begin_fill(&uid());
    let warm_up = coherence.begin_warm_up();

    coherence.reset();
    assert!(!coherence.is_proven());
    coherence.extend_lease(Instant::now());
    assert_eq!(coherence.look_up(&uid()), Lookup::Unknown);
    assert!(!coherence.fill(&ticket, version(1)));
    assert!(warm_up.is_void() && !warm_up.put(version(1)));
    coherence.apply(&change(2));
    assert_eq!(
        coherence.look_up(&uid()),
        Lookup::Unknown,
        "the offer was forgotten"
    );
    assert!(
        coherence.fill(&coherence.begin_fill(&uid()), version(2)),
        "a fill begun after is kept"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_read_put_ahead_of_the_log_is_forgotten_when_the_log_was_lost_and_is_found_again() {
    let coherence = proven();
    let early = sample_order_version("b", 1).document(revision(1));
    coherence.fill(&coherence.begin_fill(&early.uid), early.clone());
    advance(Duration::from_millis(1)).await;
    // A complete look that began after the read: the follower knows of what it found.
    coherence.extend_lease(Instant::now());
    advance(Duration::from_millis(1)).await;
    coherence.fill(&coherence.begin_fill(&uid()), version(1));
    coherence.offer([version(2)].into_iter());
    let under_way = coherence.begin_fill(&uid());

    coherence.doubt();
    assert_eq!(coherence.look_up(&uid()), Lookup::Unknown);
    assert!(
        !coherence.fill(&under_way, version(1)),
        "it may have read the other database"
    );
    coherence.apply(&change(2));
    assert_eq!(
        coherence.look_up(&uid()),
        Lookup::Unknown,
        "the offer was forgotten"
    );
    assert_eq!(
        coherence.look_up(&early.uid),
        Lookup::Proven(early),
        "all else stays"
    );
}

#[tokio::test(start_paused = true)]
async fn an_absence_holds_for_a_short_while() {
    let coherence = proven();
    coherence.fill_absent(&coherence.begin_fill(&uid()), &uid());
    assert_eq!(coherence.look_up(&uid()), Lookup::Absent);
    advance(Duration::from_secs(1)).await;
    assert_eq!(coherence.look_up(&uid()), Lookup::Unknown);
}

#[tokio::test(start_paused = true)]
async fn an_absence_ends_with_the_first_change_and_with_the_lease() {
    let coherence = proven();
    coherence.fill_absent(&coherence.begin_fill(&uid()), &uid());
    coherence.apply(&change(1));
    assert_eq!(coherence.look_up(&uid()), Lookup::Unknown);

    let ticket = coherence.begin_fill(&uid());
    coherence.apply(&change(2));
    coherence.fill_absent(&ticket, &uid());
    assert_eq!(
        coherence.look_up(&uid()),
        Lookup::Unknown,
        "its snapshot may be from before the order"
    );

    advance(Duration::from_millis(1_900)).await;
    coherence.fill_absent(&coherence.begin_fill(&uid()), &uid());
    assert_eq!(coherence.look_up(&uid()), Lookup::Absent);
    advance(Duration::from_millis(100)).await;
    assert_eq!(
        coherence.look_up(&uid()),
        Lookup::Unknown,
        "nothing proves it any more"
    );
}
