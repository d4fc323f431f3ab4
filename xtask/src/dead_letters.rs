//! `cargo xtask dead-letters`: the messages that could not become orders.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use order_domain::{
    DeadLetterDesk, DeadLetterQuery, DeadLetterState, Discarded, Replayed, Revision, StoredDeadLetter,
};

use crate::database;

/// How many dead letters are read at once.
const PAGE: usize = 500;

/// Lists, shows, replays and discards dead letters: messages that could not become orders.
///
/// They are in the database that ORDERS__POSTGRES__URL names, else in that of `cargo xtask up` or `services up`. Each goes by its
/// revision, which `list` shows.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask dead-letters list
  cargo xtask dead-letters show 1795374000123456-42
  cargo xtask dead-letters replay 1795374000123456-42
  cargo xtask dead-letters discard 1795374000123456-42")]
pub(crate) struct DeadLetters {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists them, newest first: revision, when it was published, order, and the reason. Never what is in them.
    #[command(after_help = "Examples:
  cargo xtask dead-letters list --limit 20
  cargo xtask dead-letters list --state discarded --before 1795374000123456-42")]
    List {
        /// Only those in this state.
        #[arg(long, value_enum, default_value_t)]
        state: StateArg,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Only those before this one: the last of the page before.
        #[arg(long, value_name = "REVISION")]
        before: Option<Revision>,
    },
    /// Shows one, whole: its payload goes to standard output as it came, everything else to standard error.
    #[command(after_help = "Example:
  cargo xtask dead-letters show 1795374000123456-42 > message.json")]
    Show {
        /// Which one.
        revision: Revision,
    },
    /// Takes them in after all, once the service or the database accepts them: each under the revision of its message, so that a newer
    /// version stays.
    #[command(after_help = "Examples:
  cargo xtask dead-letters replay 1795374000123456-42
  cargo xtask dead-letters replay --all")]
    Replay {
        /// Which ones.
        #[arg(required_unless_present = "all")]
        revisions: Vec<Revision>,
        /// All that wait.
        #[arg(long, conflicts_with = "revisions")]
        all: bool,
    },
    /// Sets them aside for good. Their records stay, so that a message delivered again does not bring them back.
    #[command(after_help = "Example:
  cargo xtask dead-letters discard 1795374000123456-42 1795374000123460-44")]
    Discard {
        /// Which ones.
        #[arg(required = true)]
        revisions: Vec<Revision>,
    },
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum StateArg {
    #[default]
    Waiting,
    Replayed,
    Discarded,
    All,
}

impl StateArg {
    fn state(self) -> Option<DeadLetterState> {
        match self {
            StateArg::Waiting => Some(DeadLetterState::Waiting),
            StateArg::Replayed => Some(DeadLetterState::Replayed),
            StateArg::Discarded => Some(DeadLetterState::Discarded),
            StateArg::All => None,
        }
    }
}

impl DeadLetters {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let store = database::connect()?;
            let desk = DeadLetterDesk::new(store.dead_letters(), store.orders());
            let done = match self.action {
                Action::List { state, limit, before } => {
                    let query = DeadLetterQuery {
                        state: state.state(),
                        before,
                        limit,
                    };
                    list(&desk, query).await?;
                    true
                }
                Action::Show { revision } => {
                    show(&desk, revision).await?;
                    true
                }
                Action::Replay { all: true, .. } => replay_all(&desk).await?,
                Action::Replay { revisions, .. } => replay(&desk, &revisions).await?,
                Action::Discard { revisions } => discard(&desk, &revisions).await?,
            };
            Ok(if done {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        })
    }
}

async fn list(desk: &DeadLetterDesk, query: DeadLetterQuery) -> Result<()> {
    let found = desk.list(&query).await?;
    for StoredDeadLetter { letter, state, .. } in &found {
        let order = letter.order_uid.as_ref().map_or("-", |uid| uid.as_str());
        println!(
            "{}  {}  {:<9}  {order}  {}",
            letter.revision,
            published(letter.revision),
            state.as_str(),
            on_one_line(&letter.reason)
        );
    }
    match found.last() {
        None => eprintln!("There are none."),
        Some(last) if found.len() == query.limit => {
            eprintln!("There may be more: --before {}", last.letter.revision);
        }
        Some(_) => {}
    }
    Ok(())
}

async fn show(desk: &DeadLetterDesk, revision: Revision) -> Result<()> {
    let Some(found) = desk.find(revision).await? else {
        bail!("there is no dead letter {revision}");
    };
    let StoredDeadLetter {
        letter,
        state,
        recorded_at,
    } = found;
    eprintln!("revision   {revision}");
    eprintln!("published  {}", published(revision));
    eprintln!("recorded   {recorded_at:.0}");
    eprintln!("state      {}", state.as_str());
    if let Some(uid) = &letter.order_uid {
        eprintln!("order      {uid}");
    }
    eprintln!("subject    {}", on_one_line(&letter.message.subject));
    for (name, value) in &letter.message.headers {
        eprintln!("header     {}: {}", on_one_line(name), on_one_line(value));
    }
    eprintln!("reason     {}", on_one_line(&letter.reason));
    eprintln!("payload    {} bytes", letter.message.payload.len());
    let mut output = std::io::stdout().lock();
    output.write_all(&letter.message.payload)?;
    output.flush()?;
    Ok(())
}

async fn replay_all(desk: &DeadLetterDesk) -> Result<bool> {
    let (mut taken_in, mut left) = (0_u64, 0_u64);
    let mut before = None;
    loop {
        let page = DeadLetterQuery {
            state: Some(DeadLetterState::Waiting),
            before,
            limit: PAGE,
        };
        let found = desk.list(&page).await?;
        for letter in &found {
            if replay_one(desk, letter.letter.revision).await? {
                taken_in += 1;
            } else {
                left += 1;
            }
        }
        before = found.last().map(|last| last.letter.revision);
        if found.len() < PAGE {
            break;
        }
    }
    eprintln!("{taken_in} replayed, {left} left as they were.");
    Ok(left == 0)
}

async fn replay(desk: &DeadLetterDesk, revisions: &[Revision]) -> Result<bool> {
    let mut all = true;
    for &revision in revisions {
        all &= replay_one(desk, revision).await?;
    }
    Ok(all)
}

/// Replays one, says what became of it, and answers whether it is done with.
async fn replay_one(desk: &DeadLetterDesk, revision: Revision) -> Result<bool> {
    let replayed = desk.replay(revision).await?;
    let said = match &replayed {
        Replayed::Stored => "stored".to_owned(),
        Replayed::Superseded { by } => format!("replayed; the newer version {by} stays"),
        Replayed::Faulty(faults) => format!("still no order: {faults}"),
        Replayed::Rejected(rejection) => {
            format!("still rejected by the database: {}", on_one_line(rejection))
        }
        Replayed::BehindTheClock { stored } => format!(
            "left waiting: older by the broker's clock than the stored version {stored}, yet ahead by sequence; compare both, and \
             publish the right one anew"
        ),
        Replayed::NotWaiting(state) => format!("already {}", state.as_str()),
        Replayed::Unknown => "there is no such dead letter".to_owned(),
    };
    println!("{revision}  {said}");
    Ok(matches!(
        replayed,
        Replayed::Stored | Replayed::Superseded { .. } | Replayed::NotWaiting(DeadLetterState::Replayed)
    ))
}

async fn discard(desk: &DeadLetterDesk, revisions: &[Revision]) -> Result<bool> {
    let mut all = true;
    for &revision in revisions {
        let discarded = desk.discard(revision).await?;
        let said = match discarded {
            Discarded::Discarded => "discarded".to_owned(),
            Discarded::NotWaiting(state) => format!("already {}", state.as_str()),
            Discarded::Unknown => "there is no such dead letter".to_owned(),
        };
        println!("{revision}  {said}");
        all &= matches!(
            discarded,
            Discarded::Discarded | Discarded::NotWaiting(DeadLetterState::Discarded)
        );
    }
    Ok(all)
}

/// When the broker stored the message.
fn published(revision: Revision) -> String {
    Timestamp::from_microsecond(revision.published_at)
        .map_or_else(|_| "-".to_owned(), |time| format!("{time:.0}"))
}

/// A text that a producer had a hand in, without what could play tricks on a terminal.
fn on_one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
