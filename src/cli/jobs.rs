//! `tidegate jobs`: messages that wait in the store of a running node, and jobs that can be asked for.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::store_client::{NodeArgs, StoreFailure};
use crate::origin::admin::JOBS_PATH;
use crate::origin::jobs::Job;

/// See and run what the store of a running node does by itself.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct JobsArgs {
    #[command(flatten)]
    node: NodeArgs,
    #[command(subcommand)]
    command: Option<JobsCommand>,
}

#[derive(Debug, Clone, Subcommand)]
enum JobsCommand {
    /// List messages that wait and those that nobody could handle; what happens without a subcommand
    List(NodeArgs),
    /// Run a job now, and say what it did
    Run {
        /// lifecycle, scrub, compact or garbage.
        #[arg(value_parser = Job::ALL.map(Job::name))]
        name: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Let a message that was given up wait again
    Revive {
        /// Its number.
        id: i64,
        #[command(flatten)]
        node: NodeArgs,
    },
}

impl JobsArgs {
    /// Does it and prints the outcome, or says what to do next.
    pub fn run(&self) -> ExitCode {
        let outcome = match &self.command {
            None => self.node.ask("GET", JOBS_PATH, ""),
            Some(JobsCommand::List(node)) => node.ask("GET", JOBS_PATH, ""),
            Some(JobsCommand::Run { name, node }) => run(node, name),
            Some(JobsCommand::Revive { id, node }) => {
                node.ask("POST", JOBS_PATH, &json!({ "revive": id }).to_string())
            }
        };
        match outcome {
            Ok(_) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("tidegate jobs: {failure}");
                failure.exit_code()
            }
        }
    }
}

/// Asks for a job.
pub(super) fn run(node: &NodeArgs, name: &str) -> Result<serde_json::Value, StoreFailure> {
    node.ask("POST", JOBS_PATH, &json!({ "run": name }).to_string())
}
