//! `docs/api.md`, run as it stands: every command on the page, and what the page says that it answers.
//!
//! A block of `console` holds commands after `$ ` and, below each, what it prints. A line of the page stands for one line; `…` in it stands for
//! any text, and a line of only `…` for any lines. The addresses of the page are those of a service by its defaults, and of one that asks for
//! tokens.

use std::fmt::Write as _;
use std::path::Path;

use order_tests::Shop;
use tokio::process::Command;

use crate::{docs, require_tokens};

/// A command of the page, and what it is to print.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    output: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_tutorial_answers_what_the_page_says() {
    let page = std::fs::read_to_string(docs("api.md")).expect("there is a tutorial");
    let steps = steps(&page);
    assert!(!steps.is_empty());

    let mut shop = Shop::open().await;
    let open = shop.replica().await;
    let token = require_tokens(&mut shop, "read");
    let closed = shop.replica().await;
    let folder = std::env::temp_dir().join(format!("order-tracker-tutorial-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let addresses = [
        ("127.0.0.1:8080", address(open.url())),
        ("127.0.0.1:8081", address(open.management_url())),
        ("127.0.0.1:9080", address(closed.url())),
    ];
    let mut wrong = String::new();
    for step in &steps {
        let command = addresses
            .iter()
            .fold(step.command.clone(), |command, (shown, real)| {
                command.replace(shown, real)
            });
        let printed = run(&command, &folder, &token).await;
        let printed = addresses
            .iter()
            .fold(printed, |printed, (shown, real)| printed.replace(real, shown));
        let lines: Vec<_> = printed.lines().map(str::trim_end).collect();
        if !matches(&step.output, &lines) {
            let _ = writeln!(wrong, "line {}: {}\nprints\n{printed}\n", step.line, step.command);
        }
    }
    assert!(wrong.is_empty(), "docs/api.md is not true:\n{wrong}");
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
    open.stop().await;
    closed.stop().await;
    shop.close().await;
}

fn address(url: &str) -> &str {
    url.trim_start_matches("http://")
}

async fn run(command: &str, folder: &Path, token: &str) -> String {
    let output = Command::new("bash")
        .args(["-c", command])
        .env("TOKEN", token)
        .current_dir(folder)
        .output()
        .await;
    let output = output.expect("bash can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !errors.contains("curl: command not found"),
        "the tutorial needs curl (Debian: apt-get install curl)"
    );
    format!("{}{errors}", String::from_utf8_lossy(&output.stdout))
}

/// The commands of a page.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    // What ends the text that a command has below it: `<<'END'`.
    let mut until: Option<String> = None;
    for (index, line) in page.lines().enumerate() {
        if let (Some(step), Some(end)) = (steps.last_mut(), &until) {
            step.command = format!("{}\n{line}", step.command);
            if line == end {
                until = None;
            }
            continue;
        }
        match (inside, line.strip_prefix("$ ")) {
            (false, _) => inside = line == "```console",
            (true, Some(command)) => {
                until = command
                    .split_once("<<'")
                    .and_then(|(_, end)| end.split_once('\''))
                    .map(|(end, _)| end.to_owned());
                steps.push(Step {
                    line: index + 1,
                    command: command.to_owned(),
                    output: Vec::new(),
                });
            }
            (true, None) if line == "```" => inside = false,
            (true, None) => {
                let step = steps.last_mut().expect("a block begins with a command");
                if step.output.is_empty() && step.command.ends_with('\\') {
                    step.command = format!("{}\n{line}", step.command);
                } else {
                    step.output.push(line.to_owned());
                }
            }
        }
    }
    steps
}

/// Whether these lines are what the page shows.
fn matches(page: &[String], lines: &[&str]) -> bool {
    match (page, lines) {
        ([], []) => true,
        ([any, page @ ..], lines) if any == "…" => {
            (0..=lines.len()).any(|skipped| matches(page, &lines[skipped..]))
        }
        ([shown, page @ ..], [line, lines @ ..]) => is_like(line, shown) && matches(page, lines),
        _ => false,
    }
}

/// Whether a line is what a line of the page shows, where `…` stands for any text.
fn is_like(line: &str, shown: &str) -> bool {
    let Some((begin, rest)) = shown.split_once('…') else {
        return line == shown;
    };
    line.strip_prefix(begin).is_some_and(|left| {
        (0..=left.len())
            .filter(|at| left.is_char_boundary(*at))
            .any(|at| is_like(&left[at..], rest))
    })
}

#[test]
fn the_page_is_read_as_it_is_meant() {
    let page = "text\n```console\n$ curl \\\n    -i x\nHTTP/1.1 200 OK\n…\n\nbody\n$ cat > f <<'END'\n{}\nEND\n```\n$ not a command\n";
    let expected = [
        Step {
            line: 3,
            command: "curl \\\n    -i x".to_owned(),
            output: ["HTTP/1.1 200 OK", "…", "", "body"].map(str::to_owned).into(),
        },
        Step {
            line: 9,
            command: "cat > f <<'END'\n{}\nEND".to_owned(),
            output: Vec::new(),
        },
    ];
    assert_eq!(steps(page), expected);
    let output = &expected[0].output;
    assert!(matches(output, &["HTTP/1.1 200 OK", "", "body"]));
    assert!(matches(output, &["HTTP/1.1 200 OK", "a: b", "c: d", "", "body"]));
    assert!(!matches(output, &["HTTP/1.1 404 Not Found", "", "body"]));
    assert!(!matches(output, &["HTTP/1.1 200 OK", "", "body", "more"]));
    assert!(is_like("etag: W/\"1-2\"", "etag: W/\"…\"") && !is_like("etag: W/\"1-2", "etag: W/\"…\""));
}
