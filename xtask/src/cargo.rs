//! Calls to cargo, for the whole workspace wherever that can be.
//!
//! Cargo unites the features of the packages it is asked for. Asking for one package here and for all of them there would
//! compile the same dependencies twice.

use std::ffi::OsString;
use std::io::BufReader;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::process::{ProcessId, Signal};
use xtask::watchdog::Watchdog;
use xtask::{environment, folders};

/// The binary of the service.
const SERVICE: &str = "order-tracker";

/// A cargo command at the root of the project.
pub(crate) fn command(subcommand: &str) -> Command {
    let mut command = Command::new("cargo");
    command.arg(subcommand).current_dir(folders::project());
    for name in environment::added_by_cargo() {
        command.env_remove(name);
    }
    command
}

/// Builds the service; answers where its binary is.
///
/// # Errors
///
/// Where cargo cannot be run, or does not build it.
pub(crate) fn build_service(release: bool, watchdog: Option<&mut Watchdog>) -> Result<PathBuf> {
    let mut command = command("build");
    if release {
        // As it is shipped: without the features that only tasks and tests ask for.
        command.args(["--release", "--package", "order-app", "--bin", SERVICE]);
    } else {
        command.args(["--workspace", "--bins"]);
    }
    build(command, SERVICE, watchdog)
}

/// Builds a release of the bare handler that `bench` measures the service against; answers where its binary is.
///
/// # Errors
///
/// Where cargo cannot be run, or does not build it.
pub(crate) fn build_bare() -> Result<PathBuf> {
    let mut command = command("build");
    command.args(["--release", "--package", "order-app", "--example", "bare"]);
    build(command, "bare", None)
}

/// Runs a release of this program with the same arguments in place of this one, where being slow would spoil what it measures. It
/// is told so by `--as-built`, and by `--service` of a release of the service that is built as well, where that is wanted.
///
/// # Errors
///
/// Where cargo cannot be run, or does not build them.
pub(crate) fn run_a_release(with_service: bool) -> Result<ExitCode> {
    let mut watchdog = Watchdog::start()?;
    eprintln!("Building releases of xtask and of what it measures (the first time takes minutes) …");
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut command = command("build");
    command.args(["--release", "--package", "xtask", "--bin", "xtask"]);
    let program = build(command, "xtask", Some(&mut watchdog))?;
    arguments.push("--as-built".into());
    if with_service {
        arguments.push("--service".into());
        arguments.push(build_service(true, Some(&mut watchdog))?.into());
    }
    drop(watchdog);
    // In place of this one, so that signals reach it.
    let error = Command::new(&program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// Runs a build; answers where the binary of this name is.
fn build(mut command: Command, name: &str, watchdog: Option<&mut Watchdog>) -> Result<PathBuf> {
    let mut child = command
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .context("cannot run cargo")?;
    if let (Some(watchdog), Ok(process)) = (watchdog, ProcessId::of(child.id())) {
        watchdog.stop_at_end(&process, Signal::TERM, std::time::Duration::from_secs(5))?;
    }
    // Where a binary lands depends on settings of the user's. Cargo says it of everything it builds.
    let messages = child.stdout.take().context("cargo has no output")?;
    let mut binary = None;
    for message in serde_json::Deserializer::from_reader(BufReader::new(messages)).into_iter::<Value>() {
        let message = message.context("cargo wrote something that is no message")?;
        if message["target"]["name"] == name
            && let Some(path) = message["executable"].as_str()
        {
            binary = Some(PathBuf::from(path));
        }
    }
    if !child.wait()?.success() {
        bail!("cargo did not build {name}; see above");
    }
    binary.with_context(|| format!("cargo built no {name}"))
}
