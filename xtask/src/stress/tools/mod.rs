//! The known tools, on the same targets and in the same report.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tokio::time::timeout;
use xtask::environment;
use xtask::process::ProcessId;

use super::args::{PaceArgs, Tool};
use super::progress::Line;
use super::report::{Load, Run};
use super::runs::{CpuTimes, Session};
use super::saturation;
use super::targets::Targets;

mod vegeta;
mod wrk;

/// How much longer than asked for a tool may take until it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A tool that is installed.
#[derive(Debug, Clone)]
pub(super) struct Known {
    tool: Tool,
    program: PathBuf,
}

impl Known {
    /// Looks for it.
    ///
    /// # Errors
    ///
    /// Where it is not installed; says how to.
    pub(super) fn find(tool: Tool) -> Result<Known> {
        Known::find_in(tool, &environment::search_path())
    }

    fn find_in(tool: Tool, folders: &[PathBuf]) -> Result<Known> {
        let (name, how) = match tool {
            Tool::Wrk => (
                "wrk",
                "`apt install wrk`, `dnf install wrk` or `brew install wrk`",
            ),
            Tool::Vegeta => (
                "vegeta",
                "`go install github.com/tsenart/vegeta/v12@latest` (and its folder, most often ~/go/bin, on PATH) or \
                 `brew install vegeta`",
            ),
        };
        let program = folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|path| path.is_file());
        let Some(program) = program else {
            bail!(
                "{name} is not installed: {how}. Without it, leave --tool out: the generator of our own needs nothing"
            );
        };
        Ok(Known { tool, program })
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// Where it fails, or writes something else than it should.
    pub(super) async fn run(&self, session: &Session, args: &PaceArgs, targets: &Targets) -> Result<Run> {
        let cpu = CpuTimes::of(&session.world);
        let (name, title, load) = match self.tool {
            Tool::Wrk => {
                let plan = wrk::Plan::new(args);
                let load = wrk::run(self, session, &plan, targets).await?;
                ("wrk", format!("read as fast as it goes, {plan}"), load)
            }
            Tool::Vegeta => {
                let plan = vegeta::Plan::new(args);
                let load = vegeta::run(self, session, &plan, targets).await?;
                ("vegeta", format!("read {plan}"), load)
            }
        };
        let target_rate = load.target_rate;
        Ok(saturation::judged(Run {
            title,
            tool: name.to_owned(),
            target_rate,
            reads: Some(load),
            publishes: None,
            ingest: None,
            cpu: cpu.until_now(&session.world),
            warnings: Vec::new(),
            saturated: false,
        }))
    }

    /// Runs it once with these arguments; answers what it wrote to standard output.
    async fn call(
        &self,
        session: &Session,
        folder: &Path,
        arguments: &[String],
        lasts: Duration,
    ) -> Result<Vec<u8>> {
        let child = Command::new(&self.program)
            .args(arguments)
            .current_dir(folder)
            // Ctrl-C in the terminal reaches us and not it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let process = ProcessId::of(child.id().context("it has no process")?)?;
        session.world.stop_at_end(&process)?;
        let ended = async {
            let ended = timeout(lasts + PATIENCE, child.wait_with_output()).await;
            Ok(ended.context("it did not end in time")??)
        };
        let output = Line::until(ended, Vec::new(), None).await?;
        ensure!(
            output.status.success(),
            "{} ended with {}: {}",
            self.program.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(output.stdout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_how_to_install_it() {
        let error = Known::find_in(Tool::Wrk, &[]).unwrap_err().to_string();
        assert!(
            error.contains("wrk is not installed: `apt install wrk`"),
            "{error}"
        );
        let error = Known::find_in(Tool::Vegeta, &["/nowhere".into()])
            .unwrap_err()
            .to_string();
        assert!(error.contains("vegeta is not installed: `go install "), "{error}");
    }
}
