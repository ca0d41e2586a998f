//! The command line: one file per command.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done, or stopped and drained after a signal |
//! | 1 | it could not start, a part of it failed, a second signal cut the drain short, or `cache verify`, `origin verify` or `origin scrub` found damage |
//! | 2 | the command line or the configuration is wrong |

mod admin_client;
mod cache;
mod check;
mod compare;
mod edge;
mod explain;
mod jobs;
mod origin;
mod post_policy;
mod purge;
mod sign;
mod sign_with;
mod stopped_store;
mod store_client;
mod up;
mod verify;
mod verify_with;

use std::fmt::Display;
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::warn;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::clock::SystemClock;
use crate::config::{self, Checked, Problems};
use crate::first_start::FirstStartError;
use crate::node::{Addresses, Ended, Node, StartError};
use crate::origin::Fault;
use crate::secret::Secret;

/// An edge CDN node: a caching reverse proxy with an S3-compatible origin in the same binary.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true)]
struct Tidegate {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run edge, store and admin on this machine; the first start makes everything that is needed
    Up(up::UpArgs),
    /// Run an edge node
    Edge(ConfigArg),
    /// Run the S3-compatible store; or look into it, check it, fill it
    Origin(origin::OriginArgs),
    /// See and run what the store of a running node does by itself
    Jobs(jobs::JobsArgs),
    /// Check a configuration: all problems at once, exit code 0 or 2
    Check(ConfigArg),
    /// Print a signed URL for one object, or with post-policy the form that uploads one
    Sign(sign::SignCommand),
    /// Say whether a signed URL is genuine, and if not, why
    Verify(verify::VerifyArgs),
    /// Tell a running node to forget stored responses
    Purge(purge::PurgeArgs),
    /// Say how a running node would answer a request now, and why
    Explain(explain::ExplainArgs),
    /// Look into, check or empty the cache of a running or stopped node
    Cache(cache::CacheArgs),
}

#[derive(Debug, Clone, clap::Args)]
struct ConfigArg {
    /// The configuration; conf/tidegate.yaml documents every key
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the configuration {} is not sound:\n{problems}", .file.display())]
    Config { file: PathBuf, problems: Problems },
    #[error("RUST_LOG is not a log filter: {0}")]
    LogFilter(ParseError),
    #[error("{file} holds no {section} section, so there is nothing for this command to run", file = .file.display())]
    NoSection {
        file: PathBuf,
        section: &'static str,
    },
    #[error(transparent)]
    FirstStart(#[from] FirstStartError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot put the samples into the store: {0}")]
    Samples(Fault),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Config { .. } | Failure::LogFilter(_) | Failure::NoSection { .. } => {
                ExitCode::from(2)
            }
            Failure::FirstStart(_) | Failure::Start(_) | Failure::Samples(_) => ExitCode::from(1),
        }
    }
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    // First of all: pingora installs ring when nothing is there, and that costs 5 to 10 % more CPU.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        return complain("another TLS provider is installed already");
    }
    let result = match Tidegate::parse().command {
        Command::Up(args) => up::run(&args),
        Command::Edge(args) => edge::run(&args.config),
        Command::Origin(args) => return args.run(),
        Command::Jobs(args) => return args.run(),
        Command::Check(args) => return check::run(&args.config),
        Command::Sign(args) => return args.run(SystemClock::shared().wall()),
        Command::Verify(args) => return args.run(SystemClock::shared().wall()),
        Command::Purge(args) => return args.run(),
        Command::Explain(args) => return args.run(),
        Command::Cache(args) => return args.run(),
    };
    ended(result)
}

/// What a node that has ended says to the shell.
fn ended(result: Result<Ended, Failure>) -> ExitCode {
    match result {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::Cut | Ended::Failed) => ExitCode::from(1),
        Err(failure) => {
            complain(&failure);
            failure.exit_code()
        }
    }
}

fn complain(what: impl Display) -> ExitCode {
    eprintln!("tidegate: {what}");
    ExitCode::from(1)
}

/// Loads a configuration, starts the log with its level, and logs its warnings.
fn load(file: &Path) -> Result<config::Config, Failure> {
    let Checked { config, warnings } = config::load(file).map_err(|problems| Failure::Config {
        file: file.to_owned(),
        problems,
    })?;
    start_log(&config.log.level)?;
    for warning in warnings {
        warn!("{warning}");
    }
    Ok(config)
}

/// The secret that a command signs or judges with, read as the configuration reads it.
fn secret(file: &Path) -> Result<Secret, String> {
    config::read_secret(file).map_err(|reason| {
        format!(
            "{reason}\nnext: give the file that the key's `secret_file` names in the configuration"
        )
    })
}

/// Our own records from the given level on, those of libraries from `warn` on; `RUST_LOG` overrides both. h2 warns of
/// what its peers do, which they could fill the log with: we say that ourselves.
fn start_log(level: &str) -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(filter),
        _ => EnvFilter::try_new(format!("warn,h2=error,tidegate={level}")),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter.map_err(Failure::LogFilter)?)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .init();
    Ok(())
}

/// Starts a node and runs it to its end.
fn run_node(config: &config::Config, announce: impl FnOnce(&Addresses)) -> Result<Ended, Failure> {
    let node = Node::start(config, SystemClock::shared())?;
    Ok(node.run(announce)?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Tidegate::command().debug_assert();
    }
}
