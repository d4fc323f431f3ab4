//! The documents name tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn project() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the tests lie in the project").to_path_buf()
}

/// All our sources.
fn sources() -> Vec<PathBuf> {
    let mut sources = Vec::new();
    let mut folders = vec![
        project().join("crates"),
        project().join("tests"),
        project().join("xtask"),
    ];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of ours") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                sources.push(path);
            }
        }
    }
    sources
}

/// The names of all functions in the sources.
fn functions() -> BTreeSet<String> {
    let mut functions = BTreeSet::new();
    for path in sources() {
        let text = fs::read_to_string(&path).expect("our sources are UTF-8");
        functions.extend(text.split("fn ").skip(1).map(|rest| {
            let end = rest.find(|it: char| !it.is_alphanumeric() && it != '_');
            rest[..end.unwrap_or(rest.len())].to_owned()
        }));
    }
    functions
}

/// The tests that a document names: what stands in backticks and has at least three underscores, with or without a path before it.
fn named_tests(document: &str) -> BTreeSet<String> {
    let quoted = document.split('`').skip(1).step_by(2);
    quoted
        .map(|quoted| quoted.rsplit("::").next().unwrap_or(quoted))
        .filter(|name| name.matches('_').count() >= 3)
        .filter(|name| {
            name.chars()
                .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_')
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_test_that_the_documents_name_exists() {
    let functions = functions();
    let mut missing = Vec::new();
    for document in ["docs/reliability.md", "docs/runbook.md", "ARCHITECTURE.md"] {
        let text = fs::read_to_string(project().join(document)).expect("the document is there");
        let named = named_tests(&text);
        missing.extend(
            named
                .difference(&functions)
                .map(|name| format!("{document}: {name}")),
        );
        assert!(
            document != "docs/reliability.md" || named.len() > 30,
            "its table names one test or more a hazard: {named:?}"
        );
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_source_that_the_map_names_exists() {
    let map = fs::read_to_string(project().join("ARCHITECTURE.md")).expect("the map is there");
    let sources = sources();
    let named: Vec<&str> = map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|it| it.ends_with(".rs"))
        .collect();
    assert!(named.len() > 5, "{named:?}");
    for name in named {
        assert!(
            sources.iter().any(|source| source.ends_with(name)),
            "there is no {name}"
        );
    }
}

#[test]
fn every_hazard_has_a_test() {
    let text = fs::read_to_string(project().join("docs/reliability.md")).expect("the document is there");
    let (_, table) = text.split_once("| hazard |").expect("a table of hazards");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut count = 0;
    for row in rows {
        count += 1;
        assert!(!named_tests(row).is_empty(), "no test stands in {row}");
    }
    assert!(count >= 22, "{count} hazards");
}

#[test]
fn the_table_of_durations_is_complete_and_true() {
    let table = fs::read_to_string(project().join("docs/reliability.md")).expect("the document is there");
    let example = fs::read_to_string(project().join(".env.example")).expect("the example is there");
    let is_duration = |value: &str| {
        let digits = value.trim_end_matches(|it: char| it.is_ascii_lowercase());
        digits.len() < value.len() && !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit())
    };
    let settings = example
        .lines()
        .filter_map(|line| line.strip_prefix("# ").unwrap_or(line).split_once('='))
        .filter(|(name, value)| name.starts_with("ORDERS__") && is_duration(value));
    let mut missing = Vec::new();
    for (name, value) in settings {
        let row = format!("| `{}` | {value} |", name.trim_start_matches("ORDERS__"));
        if !table.contains(&row) {
            missing.push(row);
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}
