//! What every [`OrderCache`] must do, one function a rule.
//!
//! A rule about what the cache *holds* allows for a cache that forgets: it puts so little that no cache has reason to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{CacheSize, OrderCache, OrderDocument, OrderUid, Revision};

/// Tests that an [`OrderCache`] keeps its contract, one `#[test]` a rule.
///
/// Takes a function from the bound in bytes to a cache: `order_cache_contract!(MokaOrderCache::new)`.
#[macro_export]
macro_rules! order_cache_contract {
    ($new:expr) => {
        $crate::order_cache_contract! { @rules $new;
            what_was_put_is_found_under_its_uid_alone
            nothing_older_replaces_what_is_held
            the_same_or_a_newer_revision_replaces_what_is_held
            nothing_is_put_that_is_not_allowed
            allowed_runs_alone_on_its_uid
            an_overtaken_document_is_never_left_behind
            drop_older_forgets_what_is_older_and_nothing_else
            clear_forgets_what_is_held_when_it_is_called
            what_is_put_after_a_clear_is_found
            size_tells_what_is_held
            the_bound_holds
            a_document_heavier_than_the_bound_does_not_stay
        }
    };
    (@rules $new:expr; $($rule:ident)+) => {
        $(
            #[test]
            fn $rule() {
                $crate::testing::contract::cache::$rule(&|max_bytes| ::std::sync::Arc::new(($new)(max_bytes)));
            }
        )+
    };
}

/// Makes a cache with this bound, in bytes.
pub type NewCache<'a> = &'a dyn Fn(u64) -> Arc<dyn OrderCache>;

const ROOM: u64 = 64 << 20;
const ORDER: &str = "b563feb7b2b84b6test";

fn uid(text: &str) -> OrderUid {
    OrderUid::new(text).expect("a valid uid")
}

fn revision(published_at: i64) -> Revision {
    Revision {
        published_at,
        sequence: 1,
    }
}

/// A document whose bytes tell its revision.
fn document(text: &str, published_at: i64) -> OrderDocument {
    let json = Bytes::from(format!(r#"{{"version":{published_at}}}"#));
    OrderDocument {
        uid: uid(text),
        revision: revision(published_at),
        json,
    }
}

fn put(cache: &dyn OrderCache, document: OrderDocument) -> bool {
    cache.put_if(document, &|| true)
}

fn held(cache: &dyn OrderCache, text: &str) -> Option<i64> {
    cache.get(text).map(|document| document.revision.published_at)
}

/// A document that was put is found, whole, under its own uid and no other.
pub fn what_was_put_is_found_under_its_uid_alone(new: NewCache) {
    let cache = new(ROOM);
    assert_eq!(cache.get(ORDER), None);
    assert!(put(&*cache, document(ORDER, 1)));
    assert_eq!(cache.get(ORDER), Some(document(ORDER, 1)));
    assert_eq!(cache.get("another"), None);
    assert_eq!(cache.max_bytes(), ROOM);
}

/// `put_if` keeps what is newer, and says that it did not put.
pub fn nothing_older_replaces_what_is_held(new: NewCache) {
    let cache = new(ROOM);
    assert!(put(&*cache, document(ORDER, 5)));
    assert!(!put(&*cache, document(ORDER, 4)));
    assert_eq!(held(&*cache, ORDER), Some(5));
    // The sequence breaks ties of the time.
    let mut later = document(ORDER, 5);
    later.revision.sequence = 2;
    assert!(put(&*cache, later.clone()));
    assert!(!put(&*cache, document(ORDER, 5)));
    assert_eq!(cache.get(ORDER), Some(later));
}

/// `put_if` puts what is newer, and what is as new.
pub fn the_same_or_a_newer_revision_replaces_what_is_held(new: NewCache) {
    let cache = new(ROOM);
    assert!(put(&*cache, document(ORDER, 5)));
    let same = OrderDocument {
        json: Bytes::from_static(b"{}"),
        ..document(ORDER, 5)
    };
    assert!(put(&*cache, same.clone()));
    assert_eq!(cache.get(ORDER), Some(same));
    assert!(put(&*cache, document(ORDER, 6)));
    assert_eq!(cache.get(ORDER), Some(document(ORDER, 6)));
}

/// Where `allowed` answers no, nothing changes.
pub fn nothing_is_put_that_is_not_allowed(new: NewCache) {
    let cache = new(ROOM);
    assert!(!cache.put_if(document(ORDER, 1), &|| false));
    assert_eq!(held(&*cache, ORDER), None);
    assert!(put(&*cache, document(ORDER, 1)));
    assert!(!cache.put_if(document(ORDER, 2), &|| false));
    assert_eq!(held(&*cache, ORDER), Some(1));
}

/// While `allowed` runs, no other `put_if` decides and no `drop_older` acts on the same uid.
pub fn allowed_runs_alone_on_its_uid(new: NewCache) {
    const THREADS: i64 = 4;
    let cache = new(ROOM);
    let inside = AtomicUsize::new(0);
    thread::scope(|scope| {
        for putter in 0..THREADS {
            let (cache, inside) = (&cache, &inside);
            scope.spawn(move || {
                for turn in 0..500 {
                    cache.put_if(document(ORDER, turn * THREADS + putter), &|| {
                        assert_eq!(inside.fetch_add(1, SeqCst), 0, "two at once");
                        thread::yield_now();
                        assert_eq!(inside.fetch_sub(1, SeqCst), 1, "two at once");
                        true
                    });
                }
            });
        }
    });

    // A drop that begins while `allowed` runs takes effect after the put, never between the decision and the put.
    let (began, done) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let (cache, began, done) = (&cache, &began, &done);
        let dropper = || {
            began.store(true, SeqCst);
            cache.drop_older(&uid(ORDER), revision(1_000_001));
            done.store(true, SeqCst);
        };
        assert!(cache.put_if(document(ORDER, 1_000_000), &|| {
            scope.spawn(dropper);
            while !began.load(SeqCst) {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(50));
            assert!(!done.load(SeqCst), "dropped while `allowed` ran");
            true
        }));
    });
    assert_eq!(held(&*cache, ORDER), None);
}

/// The way [`Coherence`](crate::Coherence) uses it: a fill puts only if the stamp it noted is unchanged, a change bumps the stamp and then
/// drops what is older. Whatever the order, what a change overtook is not there when both have ended.
pub fn an_overtaken_document_is_never_left_behind(new: NewCache) {
    let cache = new(ROOM);
    for turn in 0..2_000 {
        let (old, changed) = (turn * 2, turn * 2 + 1);
        let stamp = AtomicI64::new(0);
        let noted = stamp.load(SeqCst);
        thread::scope(|scope| {
            scope.spawn(|| cache.put_if(document(ORDER, old), &|| stamp.load(SeqCst) == noted));
            scope.spawn(|| {
                stamp.fetch_add(1, SeqCst);
                cache.drop_older(&uid(ORDER), revision(changed));
            });
        });
        assert_eq!(held(&*cache, ORDER), None, "turn {turn}");
    }
}

/// `drop_older` forgets an older document, and keeps one that is as new, a newer one, and those of other orders.
pub fn drop_older_forgets_what_is_older_and_nothing_else(new: NewCache) {
    let cache = new(ROOM);
    cache.drop_older(&uid(ORDER), revision(9));
    for (kept, dropped_below, expected) in [(4, 5, None), (5, 5, Some(5)), (6, 5, Some(6))] {
        cache.clear();
        assert!(put(&*cache, document(ORDER, kept)));
        assert!(put(&*cache, document("another", 1)));
        cache.drop_older(&uid(ORDER), revision(dropped_below));
        assert_eq!(
            held(&*cache, ORDER),
            expected,
            "{kept} dropped below {dropped_below}"
        );
        assert_eq!(held(&*cache, "another"), Some(1));
    }
}

/// What was put before `clear` was called is never found after it, however busy the cache is.
pub fn clear_forgets_what_is_held_when_it_is_called(new: NewCache) {
    const PUTTERS: usize = 3;
    let cache = new(ROOM);
    let last_put: [AtomicI64; PUTTERS] = Default::default();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for (putter, last_put) in last_put.iter().enumerate() {
            let (cache, ended) = (&cache, &ended);
            scope.spawn(move || {
                let name = format!("order-{putter}");
                for version in 1.. {
                    if ended.load(SeqCst) {
                        break;
                    }
                    put(&**cache, document(&name, version));
                    last_put.store(version, SeqCst);
                }
            });
        }
        for turn in 0..2_000 {
            let before: Vec<i64> = last_put.iter().map(|version| version.load(SeqCst)).collect();
            cache.clear();
            for (putter, before) in before.into_iter().enumerate() {
                if let Some(found) = held(&*cache, &format!("order-{putter}")) {
                    // Ends the others first, or a failure would be waited for by no one.
                    ended.store(found <= before, SeqCst);
                    assert!(
                        found > before,
                        "turn {turn}: {found} was put before the clear, like {before}"
                    );
                }
            }
        }
        ended.store(true, SeqCst);
    });
}

/// A document that is put right after a `clear` is there.
pub fn what_is_put_after_a_clear_is_found(new: NewCache) {
    let cache = new(ROOM);
    for turn in 0..2_000 {
        assert!(put(&*cache, document(ORDER, turn)));
        cache.clear();
        assert_eq!(held(&*cache, ORDER), None, "turn {turn}");
        // Older than what was cleared, which counts no more.
        assert!(put(&*cache, document(ORDER, turn - 1)));
        assert_eq!(held(&*cache, ORDER), Some(turn - 1), "turn {turn}");
        cache.clear();
    }
}

/// `size` comes to tell how many orders are held, and at least what they weigh.
pub fn size_tells_what_is_held(new: NewCache) {
    let cache = new(ROOM);
    let mut weight = 0;
    for number in 0..10 {
        let document = document(&format!("order-{number}"), 1);
        weight += document.weight() as u64;
        assert!(put(&*cache, document));
    }
    eventually(&*cache, "ten orders and their weight", |size| {
        size.orders == 10 && size.bytes >= weight
    });
    cache.drop_older(&uid("order-0"), revision(2));
    eventually(&*cache, "nine orders", |size| size.orders == 9);
    cache.clear();
    eventually(&*cache, "nothing", |size| size == CacheSize::default());
}

/// Ten times as much as there is room for is put; what is held comes to weigh no more than the bound.
pub fn the_bound_holds(new: NewCache) {
    const BOUND: u64 = 1 << 20;
    let cache = new(BOUND);
    let json = Bytes::from(vec![b' '; 1_000]);
    for number in 0..(10 * BOUND as usize / json.len()) {
        let uid = uid(&format!("order-{number}"));
        put(
            &*cache,
            OrderDocument {
                uid,
                revision: revision(1),
                json: json.clone(),
            },
        );
    }
    eventually(&*cache, "at most the bound", |size| {
        size.bytes <= BOUND && size.orders <= BOUND / 1_000
    });
    assert!(cache.size().orders > 0, "a cache that holds nothing is none");
}

/// A document that is heavier than the bound comes to be refused or forgotten.
pub fn a_document_heavier_than_the_bound_does_not_stay(new: NewCache) {
    const BOUND: u64 = 1 << 20;
    let cache = new(BOUND);
    let json = Bytes::from(vec![b' '; BOUND as usize + 1]);
    put(
        &*cache,
        OrderDocument {
            uid: uid(ORDER),
            revision: revision(1),
            json,
        },
    );
    eventually(&*cache, "nothing", |size| size == CacheSize::default());
    assert_eq!(cache.get(ORDER), None);
}

/// `size` may lag behind, and evictions may be pending, so the cache is given time and traffic.
fn eventually(cache: &dyn OrderCache, expected: &str, holds: impl Fn(CacheSize) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds(cache.size()) {
        assert!(
            Instant::now() < deadline,
            "expected {expected}, found {:?}",
            cache.size()
        );
        cache.get(ORDER);
        thread::sleep(Duration::from_millis(20));
    }
}
