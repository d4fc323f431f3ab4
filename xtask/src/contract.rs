//! `cargo xtask contract`: the committed contract, made anew from the code.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use xtask::folders;

use crate::cargo;

/// Writes the contract (OpenAPI, AsyncAPI, the JSON Schema of the order) to docs/api, as the code has it, and tells whether it breaks
/// callers.
///
/// What has changed is compared by oasdiff, where it is installed: `go install github.com/oasdiff/oasdiff@latest`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask contract\n  cargo xtask contract --since main")]
pub(crate) struct Contract {
    /// The commit whose contract callers rely on.
    #[arg(long, default_value = "HEAD", value_name = "COMMIT")]
    since: String,
}

impl Contract {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let service = cargo::build_service(false, None)?;
        let folder = folders::project().join("docs/api");
        // A service by its defaults, whatever is set here.
        let written = Command::new(service)
            .arg("contract")
            .arg(&folder)
            .env_clear()
            .current_dir(&folder)
            .stdin(Stdio::null())
            .status()
            .context("cannot run the service")?;
        if !written.success() {
            bail!("the service did not write its contract; see above");
        }
        println!("docs/api is as the code has it.");
        compare(&self.since, &folder.join("openapi.json"))
    }
}

/// Tells what would break a caller who relies on the contract of that commit; fails if anything does.
fn compare(since: &str, now: &Path) -> Result<ExitCode> {
    let installed = Command::new("oasdiff")
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    if !installed.is_ok_and(|output| output.status.success()) {
        println!("oasdiff is not installed: whether callers break is for you to see in `git diff docs/api`.");
        return Ok(ExitCode::SUCCESS);
    }
    let before = Command::new("git")
        .args(["show", &format!("{since}:docs/api/openapi.json")])
        .current_dir(folders::project())
        .stdin(Stdio::null())
        .output()
        .context("cannot run git")?;
    if !before.status.success() {
        bail!(
            "{since} has no docs/api/openapi.json: {}",
            String::from_utf8_lossy(&before.stderr)
        );
    }
    let file = std::env::temp_dir().join(format!("order-tracker-openapi-{}.json", std::process::id()));
    std::fs::write(&file, before.stdout)?;
    let compared = Command::new("oasdiff")
        .args(["breaking", "--fail-on", "ERR"])
        .arg(&file)
        .arg(now)
        .stdin(Stdio::null())
        .status();
    std::fs::remove_file(&file)?;
    let compared = compared.context("cannot run oasdiff")?;
    Ok(if compared.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
