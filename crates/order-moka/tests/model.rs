//! The domain's seeded model over moka: what holds over a cache that is a map holds over this one.

use order_domain::testing::model::Model;
use order_moka::MokaOrderCache;

/// Set this to the seed of a history that failed, to run it alone.
const ONLY: Option<u64> = None;
const HISTORIES: u64 = 1_000;

#[test]
fn no_history_breaks_a_promise() {
    // Room for everything: which entry moka evicts depends on hashes of its own, and the model evicts by itself.
    let model = Model::over(|| MokaOrderCache::new(1 << 20));
    let ran = match ONLY {
        Some(seed) => model.run(seed),
        None => model.run_all(0..HISTORIES),
    };
    if let Err(violation) = ran {
        let seed = violation.seed;
        panic!(
            "{violation}\nTo run it alone: const ONLY: Option<u64> = Some({seed}) in {}",
            file!()
        );
    }
}
