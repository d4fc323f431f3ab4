//! The seeded model over the cache that is a map: no history may break a promise.

use order_domain::testing::memory::MemoryCache;
use order_domain::testing::model::{Counts, Model};

/// How many histories every run of the tests has. `cargo xtask model` runs one of them alone, or many more.
const HISTORIES: u64 = 10_000;

#[test]
fn no_history_breaks_a_promise() {
    let counts = Model::over(MemoryCache::default)
        .run_all(0..HISTORIES)
        .unwrap_or_else(|violation| {
            let seed = violation.seed;
            panic!("{violation}\nTo run it alone: cargo xtask model --seed {seed}")
        });
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
