//! The tasks around the service, as those who run it call them.

use std::collections::HashMap;
use std::process::{Output, Stdio};

use tokio::process::Command;

use crate::process::built;

/// Runs `cargo xtask` with these arguments, on the servers that these variables name.
pub async fn xtask(environment: &HashMap<String, String>, arguments: &[&str]) -> Output {
    let output = Command::new(built("xtask"))
        .args(arguments)
        .envs(environment)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    output.await.expect("xtask can be run")
}

/// What it wrote to standard output.
///
/// # Panics
///
/// If it failed.
pub fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}{errors}", output.status);
    text
}
