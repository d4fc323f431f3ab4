//! The seeded model over the cache that is a map: no history may break a promise.

use order_domain::testing::memory::MemoryCache;
use order_domain::testing::model::{Counts, Model};

/// Set this to the seed of a history that failed, to run it alone.
const ONLY: Option<u64> = None;
/// How many histories every run of the tests has.
const HISTORIES: u64 = 2_000;
/// How many the long run has.
const MANY: u64 = 100_000;

fn run(histories: u64) -> Counts {
    let model = Model::over(MemoryCache::default);
    let ran = match ONLY {
        Some(seed) => model.run(seed),
        None => model.run_all(0..histories),
    };
    ran.unwrap_or_else(|violation| {
        let seed = violation.seed;
        panic!(
            "{violation}\nTo run it alone: const ONLY: Option<u64> = Some({seed}) in {}",
            file!()
        )
    })
}

#[test]
fn no_history_breaks_a_promise() {
    let counts = run(HISTORIES);
    if ONLY.is_some() {
        return;
    }
    // Each hazard was there, or nothing was tested.
    let Counts {
        histories,
        redelivered,
        absent,
        aged,
        unavailable,
        gaps,
        recreated,
        ..
    } = counts;
    assert_eq!(histories, HISTORIES);
    for (what, count) in [
        ("redelivered", redelivered),
        ("absent", absent),
        ("aged", aged),
        ("unavailable", unavailable),
        ("gaps", gaps),
        ("recreated", recreated),
    ] {
        assert!(count > HISTORIES / 50, "hardly any were {what}: {counts:?}");
    }
}

#[test]
#[ignore = "takes minutes; for whoever changes what the model is about: cargo test --release -p order-domain --test model -- --ignored"]
fn no_history_of_many_breaks_a_promise() {
    run(MANY);
}
