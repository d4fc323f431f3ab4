//! The binary `order-tracker`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use order_app::{Application, Contract, NewToken, Scope, Settings, Sources, telemetry};
use order_postgres::{Migration, MigrationState};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

// The default allocator keeps the peak of a warm-up for ever; this one gives it back, and is faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes orders from NATS JetStream, stores them in PostgreSQL, and serves them over REST.
#[derive(Parser)]
#[command(name = "order-tracker", version, about)]
struct Arguments {
    /// A TOML file with settings. The environment (`ORDERS__…`) and `.env` win over it.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve. What happens without a subcommand, too.
    Serve,
    /// Check the settings, show them without secrets, and end.
    CheckConfig,
    /// Change the database's schema, or show how it stands.
    Migrate {
        #[command(subcommand)]
        action: Migrate,
    },
    /// Write the contract into a folder: OpenAPI, AsyncAPI, and the JSON Schema of the order.
    Contract {
        /// Where to.
        folder: PathBuf,
    },
    /// Make access tokens.
    Token {
        #[command(subcommand)]
        action: Token,
    },
    /// Ask a running service whether it is alive; for a container's health check.
    Health,
}

#[derive(Subcommand)]
enum Token {
    /// Make a token, and show it this once, on the first line. On the second is what to add to the file that
    /// `ORDERS__HTTP__TOKENS_FILE` names: the token's hash, its scopes and its name.
    New {
        /// What it allows; may be given more than once.
        #[arg(long = "scope", required = true, value_enum)]
        scopes: Vec<Scope>,
        /// Whom it is for.
        #[arg(long, default_value = "")]
        name: String,
    },
}

#[derive(Subcommand)]
enum Migrate {
    /// Apply what is missing.
    Run,
    /// Show which migrations are applied and which are missing.
    Status,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Logging may not have started yet, so this goes straight to standard error.
            let _ = writeln!(std::io::stderr(), "order-tracker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let settings = || Sources::of_this_process(arguments.config)?.load();
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(settings()?).await,
        Command::CheckConfig => {
            let settings = settings()?;
            settings.check_exposure()?;
            writeln!(std::io::stdout(), "{settings:#?}\nThe settings are valid.").context("failed to print")
        }
        Command::Migrate { action } => migrate(&settings()?, &action).await,
        Command::Contract { folder } => contract(&settings()?, &folder),
        Command::Token { action } => token(action),
        Command::Health => health(&settings()?).await,
    }
}

fn token(action: Token) -> anyhow::Result<()> {
    let Token::New { scopes, name } = action;
    let NewToken { token, line } = NewToken::make(scopes.into_iter().collect(), &name)?;
    writeln!(std::io::stdout(), "{token}\n{line}").context("failed to print")
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    telemetry::init_logs(&settings.log)?;
    #[cfg(feature = "failpoints")]
    let _armed = order_domain::failpoints::arm();
    let metrics = telemetry::init_metrics()?;
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        loop {
            // Until then every request's duration is kept by itself.
            tokio::time::sleep(Duration::from_secs(1)).await;
            upkeep.run_upkeep();
        }
    });
    raise_open_files(settings.http.max_connections);
    let application = Application::build(settings, Some(metrics)).await?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("told to end by SIGTERM"),
            _ = interrupt.recv() => tracing::info!("told to end by SIGINT"),
        }
        told.cancel();
    });
    application.run(stop).await
}

/// Every connection is an open file, and most systems allow a process 1,024 of them until it asks for more.
fn raise_open_files(max_connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "failed to allow this process more open files");
    }
    let allowed = getrlimit(Resource::Nofile).current;
    if let Some(allowed) = allowed.filter(|allowed| *allowed < max_connections as u64) {
        tracing::warn!(
            allowed,
            max_connections,
            "fewer files may be open than connections"
        );
    }
}

async fn migrate(settings: &Settings, action: &Migrate) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match action {
        Migrate::Run => {
            let applied = order_postgres::migrate(&settings.postgres).await?;
            writeln!(out, "applied {} migrations", applied.len())?;
        }
        Migrate::Status => {}
    }
    for migration in order_postgres::migration_status(&settings.postgres).await? {
        let Migration { version, name, state } = migration;
        match state {
            MigrationState::Applied { at } => writeln!(out, "V{version} {name}: applied {at:.0}")?,
            MigrationState::Pending => writeln!(out, "V{version} {name}: pending")?,
            MigrationState::Newer { at } => {
                writeln!(
                    out,
                    "V{version} {name}: applied {at:.0} by a newer program; this one does not know it"
                )?;
            }
        }
    }
    Ok(())
}

fn contract(settings: &Settings, folder: &Path) -> anyhow::Result<()> {
    for document in Contract::new(settings).documents() {
        let file = folder.join(document.name);
        std::fs::write(&file, &document.json)
            .with_context(|| format!("failed to write {}", file.display()))?;
    }
    Ok(())
}

async fn health(settings: &Settings) -> anyhow::Result<()> {
    let address = settings.management.address;
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(3), ask)
        .await
        .context("no answer within 3 s")?
        .with_context(|| format!("failed to ask {address}"))?;
    let status_line = String::from_utf8_lossy(&answer)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    anyhow::ensure!(status_line.contains(" 200 "), "the answer was {status_line:?}");
    Ok(())
}
