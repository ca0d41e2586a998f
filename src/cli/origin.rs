//! `tidegate origin`: the store without an edge, and what can be asked of a store, running or stopped.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::store_client::{NodeArgs, StoreFailure};
use super::{ConfigArg, Failure, jobs, load, run_node, stopped_store};
use crate::config::Config;
use crate::node::Ended;
use crate::origin::admin::STORE_PATH;
use crate::origin::jobs::Job;

/// Run the S3-compatible store; or look into it, check it, fill it.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct OriginArgs {
    /// The configuration; conf/tidegate.yaml documents every key
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<StoreCommand>,
}

#[derive(Debug, Clone, Subcommand)]
enum StoreCommand {
    /// Print what the store of a running node holds
    Stats(NodeArgs),
    /// Let a running node read everything again and mend what can be mended; exit code 1 when something stays damaged
    Scrub(NodeArgs),
    /// Let a running node give back the room of dead bytes in packs
    Compact(NodeArgs),
    /// Compare rows and files of a stopped store; exit code 1 when something is not as it should be
    #[command(visible_alias = "fsck")]
    Verify(ConfigArg),
    /// Put every file of a folder into a bucket of a stopped store, with its time and type
    Import(stopped_store::ImportArgs),
}

impl OriginArgs {
    /// Does what the command line says.
    pub(super) fn run(&self) -> ExitCode {
        let outcome = match (&self.command, &self.config) {
            (None, Some(file)) => return super::ended(serve(file)),
            // The command line has one of them.
            (None, None) => return super::complain("--config is missing"),
            (Some(StoreCommand::Verify(args)), _) => return stopped_store::verify(&args.config),
            (Some(StoreCommand::Import(args)), _) => return args.run(),
            (Some(StoreCommand::Stats(node)), _) => node.ask("GET", STORE_PATH, "").map(|_| true),
            (Some(StoreCommand::Scrub(node)), _) => {
                jobs::run(node, Job::Scrub.name()).map(|told| is_whole(&told))
            }
            (Some(StoreCommand::Compact(node)), _) => {
                jobs::run(node, Job::Compact.name()).map(|_| true)
            }
        };
        finish(outcome)
    }
}

fn finish(outcome: Result<bool, StoreFailure>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("tidegate origin: {failure}");
            failure.exit_code()
        }
    }
}

/// Whether a scrub has left nothing damaged.
fn is_whole(told: &Value) -> bool {
    let count = |key: &str| told["done"][key].as_u64();
    count("damaged") == Some(0) && count("lost") == Some(0)
}

fn serve(file: &Path) -> Result<Ended, Failure> {
    let config = load(file)?;
    if config.origin.is_none() {
        return Err(Failure::NoSection {
            file: file.to_owned(),
            section: "origin",
        });
    }
    let config = Config {
        edge: None,
        ..config
    };
    run_node(&config, |_| {})
}
