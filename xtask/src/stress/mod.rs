//! `cargo xtask stress`: what the service bears, measured so that nothing is hidden.

mod args;
mod baseline;
mod broker;
mod database;
pub(crate) mod environment;
pub(crate) mod lag;
mod progress;
pub(crate) mod publishing;
mod report;
mod runs;
mod saturation;
pub(crate) mod stock;
mod targets;
mod tools;
mod verdict;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use xtask::folders;

pub(crate) use self::args::Stress;
use self::args::{Mode, Place, Tool};
use self::report::StressResult;
use self::runs::Session;
use self::stock::Stock;
use self::targets::Targets;
use self::tools::Known;
use self::world::{Wanted, World};
use crate::cargo;
use crate::chaos::interrupted;

impl Stress {
    pub(crate) fn run(self) -> Result<ExitCode> {
        // Known before anything is built or started.
        let tool = match &self.mode {
            Mode::Read(read) if read.tool == Some(Tool::Wrk) && read.pace.rate.is_some() => {
                bail!("wrk knows no rate: leave --rate out, or take --tool vegeta")
            }
            Mode::Read(read) => read.tool.map(Known::find).transpose()?,
            Mode::Ingest(_) | Mode::Mixed(_) => None,
        };
        let (place, output) = (self.mode.place(), self.mode.output());
        let baseline = output.baseline.as_deref().map(StressResult::read).transpose()?;
        if cfg!(debug_assertions) && !place.as_built {
            return cargo::run_a_release(place.url.is_none() && place.service.is_none());
        }
        let folder = output_folder(output.out.as_deref(), self.mode.name())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(async {
            let played = std::panic::AssertUnwindSafe(self.play(tool, &folder));
            futures::FutureExt::catch_unwind(played).await
        });
        // Starting a server may still be under way; it is stopped as well.
        drop(runtime);
        let result = match result {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let Some(mut result) = result else {
            eprintln!("Stopped before the end.");
            return Ok(ExitCode::FAILURE);
        };
        if let Some(conditions) = &output.fail_if {
            result.conditions = conditions.judge(result.headline());
        }
        result.write(&folder, baseline.as_ref())?;
        println!("{}", result.text(baseline.as_ref()));
        println!("Report        {}", folders::shown(&folder.join("report.html")));
        let complete = result
            .runs
            .iter()
            .filter_map(|run| run.ingest.as_ref())
            .all(|ingest| ingest.complete);
        let holds = result.conditions.iter().all(|judged| judged.holds);
        Ok(if complete && holds {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Runs everything; `None` where someone stopped it before the end.
    async fn play(&self, tool: Option<Known>, folder: &Path) -> Result<Option<StressResult>> {
        let place = self.mode.place();
        // Short enough to be typed again.
        let seed = place.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let stock = Arc::new(Stock::new(seed)?);
        let can_publish = place.url.is_none() || place.nats.is_some();
        let uids = self.mode.uids();
        if let Some(uids) = uids.filter(|uids| !can_publish && uids.uids.is_none())
            && place.seed.is_none()
        {
            bail!(
                "which orders does {} have? Give --nats to publish some, --uids FILE, or the --seed of `cargo xtask seed \
                 --seed SEED --count {}`",
                place.url.as_deref().unwrap_or("the service"),
                uids.orders
            );
        }
        let targets = uids
            .map(|uids| Targets::choose(uids, &stock, can_publish))
            .transpose()?;
        let wanted = Wanted {
            service: service(place)?,
            cache_bytes: targets.as_ref().and_then(|targets| targets.cache_bytes(&stock)),
            run: format!("{:08x}", rand::random::<u32>()),
            logs: folder.to_path_buf(),
        };
        let (run, first) = (wanted.run.clone(), uids.map_or(0, Targets::end));
        let starting = {
            let place = place.clone();
            tokio::task::spawn_blocking(move || World::start(&place, &wanted))
        };
        let world = tokio::select! {
            started = starting => started??,
            () = interrupted() => return Ok(None),
        };
        let mut session = Session {
            world,
            stock,
            seed,
            run,
            next_order: first,
            folder: folder.to_path_buf(),
        };
        let result = tokio::select! {
            result = self.measure(&mut session, targets.as_ref(), tool) => result.map(Some),
            () = interrupted() => Ok(None),
        };
        let stopped = session.world.stop().await;
        let result = result?;
        stopped?;
        Ok(result)
    }

    async fn measure(
        &self,
        session: &mut Session,
        targets: Option<&Targets>,
        tool: Option<Known>,
    ) -> Result<StressResult> {
        let environment = session.world.environment(self.mode.place()).await;
        eprintln!("{environment}");
        if let Some(targets) = targets {
            eprintln!("Seed {}. Making the orders ready …", session.seed);
            targets
                .make_ready(&session.world, &session.stock, &session.run)
                .await?;
        }
        let targets = || targets.context("there are no targets");
        let mut runs = Vec::new();
        match (&self.mode, tool) {
            (Mode::Read(read), Some(tool)) => runs.push(tool.run(session, &read.pace, targets()?).await?),
            (Mode::Read(read), None) => {
                for pace in read.pace.paces() {
                    runs.push(session.read(&read.pace, pace, targets()?).await?);
                    if announce(&runs) {
                        break;
                    }
                }
            }
            (Mode::Ingest(ingest), _) => {
                let pace = &ingest.pace;
                for at in ingest.paces() {
                    runs.push(
                        session
                            .ingest(pace, at, ingest.count(), &ingest.publishing)
                            .await?,
                    );
                    if announce(&runs) {
                        break;
                    }
                }
            }
            (Mode::Mixed(mixed), _) => {
                for at in mixed.pace.paces() {
                    let (rate, publishing) = (mixed.publish_rate, &mixed.publishing);
                    runs.push(
                        session
                            .mixed(&mixed.pace, at, targets()?, rate, publishing)
                            .await?,
                    );
                    if announce(&runs) {
                        break;
                    }
                }
            }
        }
        Ok(StressResult::new(self.mode.name(), environment, runs))
    }
}

/// Says how the last run went; answers whether it makes no sense to ask for more.
fn announce(runs: &[report::Run]) -> bool {
    let Some(run) = runs.last() else { return false };
    if let Some(load) = run.main() {
        eprintln!(
            "{}: {} achieved, p99 {}{}",
            run.title,
            report::rate(load.rate),
            report::milliseconds(load.response.at(99.0)),
            if run.saturated { ", SATURATED" } else { "" }
        );
    }
    run.saturated
}

/// The binary of the service to run; none where one runs already.
fn service(place: &Place) -> Result<Option<PathBuf>> {
    match (&place.service, &place.url) {
        (_, Some(_)) => Ok(None),
        (Some(service), None) => {
            let service = service.canonicalize();
            Ok(Some(service.context("there is no such --service")?))
        }
        (None, None) => {
            eprintln!("Building a release of order-tracker (the first time takes minutes) …");
            Ok(Some(cargo::build_service(true, None)?))
        }
    }
}

/// The folder that results are written to.
fn output_folder(given: Option<&Path>, mode: &str) -> Result<PathBuf> {
    let folder = match given {
        Some(given) => std::path::absolute(given)?,
        None => {
            let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
            folders::state()?.join("stress").join(format!("{now}-{mode}"))
        }
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
