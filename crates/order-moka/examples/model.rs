//! Runs histories of the domain's seeded model over either cache, until one breaks a promise: what `cargo xtask model` starts.
//!
//!     cargo run --all-features --example model -- moka 0 1000
#![expect(clippy::print_stdout, reason = "it talks to the person who runs it")]

use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use order_domain::testing::memory::MemoryCache;
use order_domain::testing::model::Model;
use order_moka::MokaOrderCache;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((model, seeds)) = understand(&arguments) else {
        println!("usage: model (memory | moka) FIRST_SEED HISTORIES");
        return ExitCode::from(2);
    };
    let begin = Instant::now();
    match model.run_all(seeds) {
        Ok(counts) => {
            println!("{counts:#?}");
            println!(
                "No history broke a promise; {:.1} s.",
                begin.elapsed().as_secs_f64()
            );
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
    }
}

fn understand(arguments: &[String]) -> Option<(Model, Range<u64>)> {
    let [cache, first, histories] = arguments else {
        return None;
    };
    let model = match cache.as_str() {
        "memory" => Model::over(MemoryCache::default),
        // As in the test: which entry moka evicts depends on hashes of its own, and the model evicts by itself.
        "moka" => Model::over(|| MokaOrderCache::new(1 << 20)),
        _ => return None,
    };
    let first: u64 = first.parse().ok()?;
    Some((model, first..first.saturating_add(histories.parse::<u64>().ok()?)))
}
