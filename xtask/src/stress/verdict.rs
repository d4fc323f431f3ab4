//! `--fail-if 'p99<20ms,errors<0.1%'`: the conditions that must hold.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::report::{Latencies, Load, Run};

/// All conditions of one `--fail-if`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Conditions(Vec<Condition>);

/// One figure that has to be less or more than a limit.
#[derive(Debug, Clone, PartialEq)]
struct Condition {
    text: String,
    figure: Figure,
    comparison: Comparison,
    /// In milliseconds, a share, or a number, as the figure is.
    limit: f64,
}

/// What can be judged.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Figure {
    /// A response time of the reads, or of the publishing where nothing is read.
    Response(Statistic),
    /// The service time beside it.
    Service(Statistic),
    /// The response time of publishing.
    Publish(Statistic),
    /// From publishing until it can be read.
    Lag(Statistic),
    /// The share of requests that failed, reads and publishing each.
    Errors,
    /// Requests sent, and successes, a second.
    Rate,
    Throughput,
    /// Orders a second that were acknowledged, and that were durable.
    Acknowledged,
    Durable,
    Redeliveries,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Statistic {
    Percentile(f64),
    Max,
    Mean,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
}

/// A condition and whether it held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Judged {
    pub(super) condition: String,
    /// The figure as it was; none where the run has no such figure, which is a failure too.
    pub(super) was: Option<String>,
    pub(super) holds: bool,
}

impl Conditions {
    /// Judges a run by each.
    pub(super) fn judge(&self, run: &Run) -> Vec<Judged> {
        let judged = self.0.iter().map(|condition| {
            let value = condition.figure.of(run);
            Judged {
                condition: condition.text.clone(),
                was: value.map(|value| condition.figure.shown(value)),
                holds: value.is_some_and(|value| condition.comparison.holds(value, condition.limit)),
            }
        });
        judged.collect()
    }
}

impl FromStr for Conditions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let conditions = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let conditions: Vec<Condition> = conditions.map(condition).collect::<Result<_, _>>()?;
        if conditions.is_empty() {
            return Err("no condition, such as p99<20ms".to_owned());
        }
        Ok(Conditions(conditions))
    }
}

fn condition(text: &str) -> Result<Condition, String> {
    let at = text
        .find(['<', '>'])
        .ok_or_else(|| format!("`{text}` has no < or >"))?;
    let (figure, rest) = text.split_at(at);
    let signs = [
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("<", Comparison::Less),
        (">", Comparison::More),
    ];
    let (limit, comparison) = signs
        .iter()
        .find_map(|(sign, comparison)| Some((rest.strip_prefix(sign)?, *comparison)))
        .ok_or_else(|| format!("`{text}` has no < or >"))?;
    let figure: Figure = figure.trim().parse()?;
    Ok(Condition {
        text: text.to_owned(),
        figure,
        comparison,
        limit: figure.limit(limit.trim())?,
    })
}

impl FromStr for Figure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = |make: fn(Statistic) -> Figure, name: &str| name.parse().map(make);
        match text {
            "errors" => Ok(Figure::Errors),
            "rate" => Ok(Figure::Rate),
            "throughput" => Ok(Figure::Throughput),
            "acknowledged" => Ok(Figure::Acknowledged),
            "durable" => Ok(Figure::Durable),
            "redeliveries" => Ok(Figure::Redeliveries),
            _ => match text.split_once('.') {
                Some(("service", name)) => time(Figure::Service, name),
                Some(("publish", name)) => time(Figure::Publish, name),
                Some(("lag", name)) => time(Figure::Lag, name),
                _ => time(Figure::Response, text),
            },
        }
    }
}

impl FromStr for Statistic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percentile = || {
            let number: f64 = text.strip_prefix('p')?.parse().ok()?;
            (0.0..100.0)
                .contains(&number)
                .then_some(Statistic::Percentile(number))
        };
        match text {
            "max" => Ok(Statistic::Max),
            "mean" => Ok(Statistic::Mean),
            _ => percentile().ok_or_else(|| {
                format!(
                    "`{text}` is no figure: there are p50, p99.9 and so on, max and mean, each also after `service.`, \
                     `publish.` and `lag.`; and errors, rate, throughput, acknowledged, durable, redeliveries"
                )
            }),
        }
    }
}

impl Figure {
    fn is_time(self) -> bool {
        use Figure::{Lag, Publish, Response, Service};
        matches!(self, Response(_) | Service(_) | Publish(_) | Lag(_))
    }

    /// Reads a limit: a time must have its unit, a share its sign.
    fn limit(self, text: &str) -> Result<f64, String> {
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: f64 = number
            .parse()
            .map_err(|_| format!("`{text}` does not begin with a number"))?;
        match (self, unit.trim()) {
            (figure, "ns") if figure.is_time() => Ok(number / 1e6),
            (figure, "us" | "µs") if figure.is_time() => Ok(number / 1e3),
            (figure, "ms") if figure.is_time() => Ok(number),
            (figure, "s") if figure.is_time() => Ok(number * 1e3),
            (figure, _) if figure.is_time() => Err(format!("`{text}` is no time such as 20ms or 1.5s")),
            (Figure::Errors, "%") => Ok(number / 100.0),
            (Figure::Errors, _) => Err(format!("`{text}` is no share such as 0.1%")),
            (_, "" | "/s") => Ok(number),
            _ => Err(format!("`{text}` is no number")),
        }
    }

    fn of(self, run: &Run) -> Option<f64> {
        let response = |load: &Load, statistic: Statistic| statistic.of(&load.response);
        match self {
            Figure::Response(statistic) => response(run.main()?, statistic),
            Figure::Service(statistic) => statistic.of(run.main()?.service.as_ref()?),
            Figure::Publish(statistic) => response(run.publishes.as_ref()?, statistic),
            Figure::Lag(statistic) => statistic.of(&run.ingest.as_ref()?.lag),
            Figure::Errors => {
                let loads = run.reads.iter().chain(&run.publishes);
                loads.map(|load| 1.0 - load.success).reduce(f64::max)
            }
            Figure::Rate => Some(run.main()?.rate),
            Figure::Throughput => Some(run.main()?.throughput),
            Figure::Acknowledged => Some(run.ingest.as_ref()?.acknowledge_rate),
            Figure::Durable => Some(run.ingest.as_ref()?.durable_rate),
            Figure::Redeliveries => Some(run.ingest.as_ref()?.redeliveries? as f64),
        }
    }

    fn shown(self, value: f64) -> String {
        match self {
            figure if figure.is_time() => format!("{value:.3} ms"),
            Figure::Errors => format!("{:.3} %", value * 100.0),
            Figure::Redeliveries => format!("{value:.0}"),
            _ => format!("{value:.1}/s"),
        }
    }
}

impl Statistic {
    /// `None` where nothing was measured: that must not pass for fast.
    fn of(self, latencies: &Latencies) -> Option<f64> {
        (latencies.count > 0).then(|| match self {
            Statistic::Percentile(percentile) => latencies.at(percentile),
            Statistic::Max => latencies.max_ms,
            Statistic::Mean => latencies.mean_ms,
        })
    }
}

impl Comparison {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Comparison::Less => value < limit,
            Comparison::AtMost => value <= limit,
            Comparison::More => value > limit,
            Comparison::AtLeast => value >= limit,
        }
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holds = if self.holds { "holds " } else { "FAILED" };
        let was = self.was.as_deref().unwrap_or("not measured");
        write!(f, "{holds}  {:<24} was {was}", self.condition)
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;

    fn judged(text: &str) -> Vec<bool> {
        let conditions: Conditions = text.parse().unwrap();
        let judged = conditions.judge(sample().headline());
        judged.iter().map(|judged| judged.holds).collect()
    }

    #[test]
    fn the_conditions_of_a_run_are_judged() {
        assert_eq!(judged("p99<20ms,errors<0.2%"), [true, true]);
        assert_eq!(judged("p99 < 1ms, errors < 0.1%"), [false, false]);
        assert_eq!(judged("p50>=100us,max<=0.0012s,mean<900000ns"), [true; 3]);
        assert_eq!(
            judged("rate>999/s,rate<1001,throughput>2000"),
            [true, true, false]
        );
    }

    #[test]
    fn what_was_not_measured_does_not_pass() {
        assert_eq!(
            judged("lag.p99<1s,publish.p99<1s,durable>1,redeliveries<=0"),
            [false; 4]
        );
        assert_eq!(judged("service.p99<1s"), [false]);
    }

    #[test]
    fn what_is_no_condition_is_refused_with_what_would_be() {
        for (text, expected) in [
            ("", "no condition"),
            ("p99", "has no < or >"),
            ("p99=20ms", "has no < or >"),
            ("p99<20", "no time such as 20ms"),
            ("p99<ms", "does not begin with a number"),
            ("p100<20ms", "is no figure"),
            ("pfoo<20ms", "is no figure"),
            ("latency<20ms", "is no figure"),
            ("errors<0.1", "no share such as 0.1%"),
            ("rate>1%", "is no number"),
            ("p99<20ms,nonsense", "`nonsense`"),
            ("slow.p99<1s", "is no figure"),
        ] {
            let error = text.parse::<Conditions>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
