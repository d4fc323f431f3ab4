//! The domain's seeded model over moka: what holds over a cache that is a map holds over this one.

use order_domain::testing::model::Model;
use order_moka::MokaOrderCache;

/// Fewer than over the map: making moka's caches takes as long as the histories themselves, and what differs is only the cache.
const HISTORIES: u64 = 3_000;

#[test]
fn no_history_breaks_a_promise() {
    // Room for everything: which entry moka evicts depends on hashes of its own, and the model evicts by itself.
    let ran = Model::over(|| MokaOrderCache::new(1 << 20)).run_all(0..HISTORIES);
    if let Err(violation) = ran {
        let seed = violation.seed;
        panic!("{violation}\nTo run it alone: cargo xtask model --cache moka --seed {seed}");
    }
}
