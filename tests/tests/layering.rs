//! Dependencies point inwards, held over what cargo itself says of the workspace.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Which of our crates each of our crates may name, also for its tests. A crate that is not listed has no place yet.
const MAY_NAME: [(&str, &[&str]); 7] = [
    ("order-domain", &[]),
    ("order-postgres", &["order-domain"]),
    ("order-moka", &["order-domain"]),
    ("order-nats", &["order-domain"]),
    (
        "order-app",
        &["order-domain", "order-postgres", "order-moka", "order-nats"],
    ),
    // Tasks publish orders and read them back as anyone would: they do not run inside the service.
    ("xtask", &["order-domain", "order-nats", "order-postgres"]),
    (
        "order-tests",
        &[
            "order-domain",
            "order-postgres",
            "order-moka",
            "order-nats",
            "order-app",
            "xtask",
        ],
    ),
];

/// What stands outside of the service, and looks at its servers with whatever suits.
const OUTSIDE: [&str; 2] = ["xtask", "order-tests"];

/// The crates that talk to the world outside, and the only ones of ours that may build on them.
const DRIVERS: [(&str, &[&str]); 13] = [
    // Chaos looks at the tables by queries of its own, not through the adapter that it is to judge, and breaks the broker's consumer.
    ("tokio-postgres", &["order-postgres", "xtask"]),
    ("tokio-postgres-rustls", &["order-postgres"]),
    ("deadpool-postgres", &["order-postgres"]),
    ("refinery", &["order-postgres"]),
    ("async-nats", &["order-nats", "xtask"]),
    ("moka", &["order-moka"]),
    ("actix-web", &["order-app"]),
    // What is measured goes through a facade, so that whoever reuses a crate chooses the collector.
    ("metrics-exporter-prometheus", &["order-app"]),
    ("tracing-actix-web", &["order-app"]),
    ("config", &["order-app"]),
    ("mimalloc", &["order-app"]),
    ("dotenvy", &["order-app"]),
    ("clap", &["order-app"]),
];

/// What of the above the domain must not even reach through other crates.
const DOMAIN_NEVER_REACHES: [&str; 8] = [
    "tokio-postgres",
    "deadpool-postgres",
    "refinery",
    "async-nats",
    "moka",
    "actix-web",
    "config",
    "hyper",
];

/// What the rules look at: every crate of ours, and what it names.
#[derive(Debug, Default, Clone)]
struct Workspace {
    /// By name, with what it names for itself and for its tests.
    crates: BTreeMap<String, Names>,
    /// Everything the domain is built from, however far away.
    domain_reaches: BTreeSet<String>,
}

#[derive(Debug, Default, Clone)]
struct Names {
    normal: BTreeSet<String>,
    all: BTreeSet<String>,
}

impl Workspace {
    fn read(metadata: &Metadata) -> Workspace {
        let mut workspace = Workspace::default();
        for package in metadata.workspace_packages() {
            let names = workspace.crates.entry(package.name.to_string()).or_default();
            for dependency in &package.dependencies {
                names.all.insert(dependency.name.clone());
                if dependency.kind == DependencyKind::Normal {
                    names.normal.insert(dependency.name.clone());
                }
            }
        }
        workspace.domain_reaches = reached_from("order-domain", metadata);
        workspace
    }

    fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        let ours = MAY_NAME.map(|(name, _)| name);
        for (name, names) in &self.crates {
            let Some((_, allowed)) = MAY_NAME.iter().find(|(listed, _)| listed == name) else {
                found.push(format!(
                    "{name} has no place in the layers: give it one in {}",
                    file!()
                ));
                continue;
            };
            for other in ours {
                // A crate names itself to test with its own features.
                if other != name && names.all.contains(other) && !allowed.contains(&other) {
                    found.push(format!("{name} must not know {other}"));
                }
            }
            for (driver, owners) in DRIVERS.into_iter().filter(|_| !OUTSIDE.contains(&name.as_str())) {
                if names.normal.contains(driver) && !owners.contains(&name.as_str()) {
                    found.push(format!(
                        "{name} must not use {driver}: that is for {}",
                        owners.join(", ")
                    ));
                }
            }
        }
        for driver in DOMAIN_NEVER_REACHES {
            if self.domain_reaches.contains(driver) {
                found.push(format!(
                    "order-domain is built on {driver}, through another crate"
                ));
            }
        }
        found
    }
}

/// The names of all crates that one of ours is built from, with all features, its tests left out.
fn reached_from(name: &str, metadata: &Metadata) -> BTreeSet<String> {
    let resolve = metadata
        .resolve
        .as_ref()
        .expect("cargo resolved the dependencies");
    let nodes = resolve
        .nodes
        .iter()
        .map(|node| (&node.id, node))
        .collect::<BTreeMap<_, _>>();
    let names = metadata
        .packages
        .iter()
        .map(|package| (&package.id, package.name.to_string()))
        .collect::<BTreeMap<_, _>>();
    let start = metadata
        .workspace_packages()
        .into_iter()
        .find(|package| package.name.as_str() == name);
    let mut ahead = vec![&start.expect("the crate is in the workspace").id];
    let mut reached = BTreeSet::new();
    while let Some(id) = ahead.pop() {
        for dependency in &nodes[id].deps {
            let normal = dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal);
            if normal && reached.insert(names[&dependency.pkg].clone()) {
                ahead.push(&dependency.pkg);
            }
        }
    }
    reached
}

fn this_workspace() -> Workspace {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut command = MetadataCommand::new();
    // Only what this machine builds with has been downloaded for certain, and a test should not need the network for more.
    let options = [
        "--offline",
        "--locked",
        "--all-features",
        "--filter-platform=host-tuple",
    ];
    command
        .manifest_path(manifest)
        .other_options(options.map(str::to_owned));
    Workspace::read(&command.exec().expect("cargo metadata describes the workspace"))
}

#[test]
fn dependencies_point_inwards() {
    let workspace = this_workspace();
    assert_eq!(
        workspace.crates.len(),
        MAY_NAME.len(),
        "each crate in the table, and no more"
    );
    assert!(
        workspace.domain_reaches.contains("serde_json"),
        "the walk over the domain's dependencies works"
    );
    let violations = workspace.violations();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn what_points_outwards_is_found() {
    let violation = |change: &dyn Fn(&mut Workspace)| {
        let mut workspace = this_workspace();
        change(&mut workspace);
        workspace.violations()
    };
    let name = |of: &'static str, dependency: &'static str| {
        move |workspace: &mut Workspace| {
            let names = workspace.crates.get_mut(of).expect("a crate of ours");
            names.all.insert(dependency.to_owned());
            names.normal.insert(dependency.to_owned());
        }
    };
    assert_eq!(
        violation(&name("order-moka", "order-nats")),
        ["order-moka must not know order-nats"]
    );
    assert_eq!(
        violation(&name("order-domain", "order-app")),
        ["order-domain must not know order-app"]
    );
    assert_eq!(
        violation(&name("order-nats", "tokio-postgres")),
        ["order-nats must not use tokio-postgres: that is for order-postgres, xtask"]
    );
    assert_eq!(
        violation(&|workspace| {
            workspace.domain_reaches.insert("hyper".to_owned());
        }),
        ["order-domain is built on hyper, through another crate"]
    );
    assert_eq!(
        violation(&|workspace| {
            workspace
                .crates
                .insert("order-extra".to_owned(), Names::default());
        })
        .len(),
        1
    );
    // For its tests too, an adapter does without the others.
    assert_eq!(
        violation(&|workspace| {
            let names = workspace
                .crates
                .get_mut("order-postgres")
                .expect("a crate of ours");
            names.all.insert("order-nats".to_owned());
        }),
        ["order-postgres must not know order-nats"]
    );
}
