//! Whether a run shows what the service bears, or only what it was given.

use super::report::{Load, Run, milliseconds, rate};

/// Less than this share of the rate that was asked for is a rate that was not achieved.
const ACHIEVED: f64 = 0.98;
/// From this share on the generator's threads had no time left, be it that they were busy or that they had no core.
const BUSY: f64 = 0.85;
/// From this share on they had to wait for a core so often that it shows in the latencies.
const WAITED: f64 = 0.15;

/// Adds what a reader of the figures must know, and whether the run was saturated.
pub(super) fn judged(mut run: Run) -> Run {
    let loads = run.reads.iter().map(|load| ("reads", load));
    let loads = loads.chain(run.publishes.iter().map(|load| ("publishes", load)));
    for (name, load) in loads {
        let short = load
            .target_rate
            .is_some_and(|target| load.rate < target * ACHIEVED || missed(load));
        let busy = load.generator.as_ref().is_some_and(|used| used.busy >= BUSY);
        let more = if name == "reads" {
            "--connections"
        } else {
            "--in-flight"
        };
        if short {
            run.saturated = true;
            let starved = load
                .generator
                .as_ref()
                .is_some_and(|used| used.busy + used.waited.unwrap_or_default() >= BUSY);
            let by = if busy {
                "its threads were busy all the time, so it was the GENERATOR that could do no more: give it more --threads"
                    .to_owned()
            } else if starved {
                "the generator was busy or had to wait for a core all the time, so it was the MACHINE that could do no \
                 more: it has too few cores for both"
                    .to_owned()
            } else {
                format!(
                    "the generator had time left, so it was the SERVER that could do no more (or too few {more})"
                )
            };
            run.warnings.push(format!(
                "SATURATED: {} {name} asked for, {} achieved; {by}. The response times tell how far behind it \
                 fell, not how fast it is.",
                rate(load.target_rate.unwrap_or_default()),
                rate(load.rate)
            ));
        } else if busy {
            run.warnings.push(format!(
                "THE GENERATOR was the limit for {name}: its threads were busy {:.0} % of the time. The server may bear more.",
                load.generator.as_ref().map_or(0.0, |used| used.busy * 100.0)
            ));
        }
        let waited = load.generator.as_ref().and_then(|used| used.waited);
        if let Some(waited) = waited.filter(|waited| *waited >= WAITED) {
            run.warnings.push(format!(
                "The generator had no core {:.0} % of the time it could have run for {name}: latencies hold waiting of its own. \
                 The machine has too few cores for both, or was busy otherwise.",
                waited * 100.0
            ));
        }
        if let (Some(service), Some(_), false) = (&load.service, load.target_rate, short) {
            let (response, service) = (load.response.at(99.0), service.at(99.0));
            if response > 2.0 * service + 1.0 {
                run.warnings.push(format!(
                    "One in a hundred {name} took {} from its moment on, of which it was under way for {}: it waited for its \
                     turn. Something stalled, or there are too few {more}.",
                    milliseconds(response),
                    milliseconds(service)
                ));
            }
        }
    }
    run
}

/// Whether requests were never sent: the whole rate cannot have been achieved then, whatever the average says.
fn missed(load: &Load) -> bool {
    load.errors.keys().any(|error| error.starts_with("not sent"))
}

#[cfg(test)]
mod tests {
    use super::super::report::GeneratorUse;
    use super::super::report::tests::sample;
    use super::*;

    fn warnings(rate: f64, busy: f64, waited: f64) -> (bool, String) {
        let mut run = sample().runs.remove(0);
        let load = run.reads.as_mut().unwrap();
        load.rate = rate;
        load.generator = Some(GeneratorUse {
            threads: 1,
            cpu_seconds: 1.0,
            busy,
            waited: Some(waited),
        });
        let run = judged(run);
        (run.saturated, run.warnings.join("\n"))
    }

    #[test]
    fn a_rate_that_was_achieved_needs_no_warning() {
        assert_eq!(warnings(1_000.0, 0.3, 0.01), (false, String::new()));
    }

    #[test]
    fn who_was_the_limit_is_told_from_the_generators_cpu_time() {
        let (saturated, text) = warnings(900.0, 0.3, 0.0);
        assert!(
            saturated && text.contains("SERVER") && !text.contains("GENERATOR"),
            "{text}"
        );
        let (saturated, text) = warnings(900.0, 0.97, 0.0);
        assert!(
            saturated && text.contains("GENERATOR") && !text.contains("SERVER"),
            "{text}"
        );
        let (saturated, text) = warnings(900.0, 0.5, 0.45);
        assert!(
            saturated && text.contains("MACHINE") && !text.contains("SERVER"),
            "{text}"
        );
        let (saturated, text) = warnings(1_000.0, 0.97, 0.0);
        assert!(
            !saturated && text.contains("THE GENERATOR was the limit"),
            "{text}"
        );
    }

    #[test]
    fn a_generator_without_a_core_is_told() {
        assert!(warnings(1_000.0, 0.3, 0.4).1.contains("had no core 40 %"));
    }
}
