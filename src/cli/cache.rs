//! `tidegate cache stats|verify|clear`: asks a running node, or works on the folder of a stopped one.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write, stderr};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::admin_client::{self, AdminFault, Answer};
use crate::cache::disk::folder::RealFolder;
use crate::cache::disk::log::{LogSizes, OpenFault, WriteFault};
use crate::cache::disk::stopped::{Stopped, StoppedFault};
use crate::cache::disk::verify::verify;
use crate::config;
use crate::edge::cache_admin::{CLEAR_PATH, STATS_PATH, VERIFY_PATH, stats_json, verified_json};

/// Between two looks at how far a running node has come.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Characters of the progress bar.
const BAR_WIDTH: u64 = 40;

/// Look into, check or empty the cache of a running or stopped node.
#[derive(Debug, Clone, Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum CacheCommand {
    /// Print what memory and disk hold, and what was done since the start
    Stats(NodeArgs),
    /// Read everything on disk; exit code 1 when something is not as it was written
    Verify(NodeArgs),
    /// Forget everything that is stored, in memory and on disk
    Clear(NodeArgs),
}

#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("node"))]
struct NodeArgs {
    /// The node's configuration: its admin.address is asked; when no node answers there, the folder
    /// under edge.cache.disk is worked on.
    #[arg(long, value_name = "FILE", group = "node")]
    config: Option<PathBuf>,
    /// The node's admin address; without --config, the one that a configuration has by default.
    #[arg(long, value_name = "IP:PORT", group = "node")]
    admin: Option<SocketAddr>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Why a command came to no end.
#[derive(Debug, thiserror::Error)]
enum CacheFailure {
    #[error(transparent)]
    Admin(#[from] AdminFault),
    #[error("the node refuses with status {status}: {reason}\nnext: {}", advice(*.status))]
    Refused { status: u16, reason: String },
    #[error(
        "the answer of {0} is not JSON\nnext: the node runs another version than this command; use its own"
    )]
    NoJson(SocketAddr),
    #[error("cannot use {}: {fault}\nnext: {}", .path.display(), next(.fault))]
    Folder { path: PathBuf, fault: StoppedFault },
    #[error(
        "{}: {fault}\nnext: look at the disk and at the rights on the folder, then run the command again", .path.display()
    )]
    Write { path: PathBuf, fault: WriteFault },
    #[error("cannot print the outcome: {0}\nnext: look at where the output goes")]
    Print(io::Error),
}

impl CacheFailure {
    fn exit_code(&self) -> ExitCode {
        match self {
            CacheFailure::Admin(fault) => fault.exit_code(),
            CacheFailure::Refused { .. }
            | CacheFailure::NoJson(_)
            | CacheFailure::Folder { .. }
            | CacheFailure::Write { .. }
            | CacheFailure::Print(_) => ExitCode::from(1),
        }
    }
}

fn advice(status: u16) -> &'static str {
    match status {
        409 => "nothing, if that is how it should be",
        500..=599 => "look at the node's log and at its disk, then run the command again",
        _ => "look at the node's log",
    }
}

fn next(fault: &StoppedFault) -> &'static str {
    match fault {
        StoppedFault::Absent => {
            "check edge.cache.disk.path; a node makes the folder when it starts"
        }
        StoppedFault::Identity(_) => {
            "nothing in it can be read; a node that starts there empties it"
        }
        StoppedFault::Open(OpenFault::Locked) => {
            "a node runs on it: give its admin address with --admin, or stop it first"
        }
        StoppedFault::Open(OpenFault::Io { .. }) => {
            "look at the disk and at the rights on the folder; run this as the node's user"
        }
    }
}

/// What a command has found.
struct Outcome {
    json: Value,
    is_sound: bool,
}

impl CacheArgs {
    /// Does it and prints the outcome, or says what to do next.
    pub fn run(&self) -> ExitCode {
        match self.act() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(failure) => {
                eprintln!("tidegate cache: {failure}");
                failure.exit_code()
            }
        }
    }

    fn act(&self) -> Result<bool, CacheFailure> {
        let node = self.command.node();
        let outcome = match self.ask() {
            Ok((address, answer)) => read(address, &answer)?,
            Err(fault) => {
                let Some((path, sizes)) = folder_instead(node, &fault) else {
                    return Err(fault.into());
                };
                eprintln!(
                    "tidegate cache: no node answers; works on {}",
                    path.display()
                );
                self.command.on_folder(&path, sizes)?
            }
        };
        let text = match node.json {
            true => format!("{}\n", outcome.json),
            false => self.command.words(&outcome.json),
        };
        io::stdout()
            .write_all(text.as_bytes())
            .map_err(CacheFailure::Print)?;
        Ok(outcome.is_sound)
    }

    fn ask(&self) -> Result<(SocketAddr, Answer), AdminFault> {
        let node = self.command.node();
        let address = admin_client::address(node.config.as_deref(), node.admin)?;
        let post = |path| format!("POST {path} HTTP/1.1\r\nContent-Type: application/json\r\n");
        let answer = match &self.command {
            CacheCommand::Stats(_) => {
                admin_client::exchange(address, &format!("GET {STATS_PATH} HTTP/1.1\r\n"), "")
            }
            // Waits for the writer, which may have much to do.
            CacheCommand::Clear(_) => {
                admin_client::exchange_within(None, address, &post(CLEAR_PATH), "{}")
            }
            CacheCommand::Verify(_) => verify_there(address, post(VERIFY_PATH)),
        };
        Ok((address, answer?))
    }
}

/// The folder to work on when nobody was reached: the configuration must name it.
fn folder_instead(node: &NodeArgs, fault: &AdminFault) -> Option<(PathBuf, LogSizes)> {
    let is_alone = matches!(
        fault,
        AdminFault::Unreachable { .. } | AdminFault::NoPort(_)
    );
    let file = node.config.as_deref().filter(|_| is_alone)?;
    let disk = config::load(file).ok()?.config.edge?.cache.disk?;
    let sizes = LogSizes {
        limit_bytes: disk.size_bytes,
        segment_bytes: disk.segment_bytes,
    };
    Some((disk.path, sizes))
}

/// Lets a running node verify, and shows meanwhile how far it has come.
fn verify_there(address: SocketAddr, head: String) -> Result<Answer, AdminFault> {
    let (told, answer) = channel();
    thread::spawn(move || {
        // Nobody listens any more when the command was ended.
        let _ = told.send(admin_client::exchange_within(None, address, &head, "{}"));
    });
    let mut bar = Bar::new("verified");
    loop {
        match answer.recv_timeout(PROGRESS_INTERVAL) {
            Ok(answer) => {
                bar.end();
                return answer;
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Some((done, total)) = progress_there(address) {
                    bar.show(done, total);
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                let error = io::ErrorKind::UnexpectedEof.into();
                return Err(AdminFault::Broken { address, error });
            }
        }
    }
}

/// How far a running node has come, as far as it says so.
fn progress_there(address: SocketAddr) -> Option<(u64, u64)> {
    let head = format!("GET {STATS_PATH} HTTP/1.1\r\n");
    let answer = admin_client::exchange(address, &head, "").ok()?;
    let stats: Value = serde_json::from_slice(&answer.body).ok()?;
    let number = |key: &str| stats.get("verifying")?.get(key)?.as_u64();
    Some((number("segments")?, number("segments_total")?))
}

/// What a node has answered.
fn read(address: SocketAddr, answer: &Answer) -> Result<Outcome, CacheFailure> {
    let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let json = json.ok_or(CacheFailure::NoJson(address))?;
    match answer.status {
        200 => Ok(Outcome {
            is_sound: json.get("sound") != Some(&Value::Bool(false)),
            json,
        }),
        status => {
            let reason = json.get("error").and_then(Value::as_str);
            let reason = reason.ok_or(AdminFault::NotAdmin(address))?.to_owned();
            Err(CacheFailure::Refused { status, reason })
        }
    }
}

impl CacheCommand {
    fn node(&self) -> &NodeArgs {
        let (CacheCommand::Stats(node) | CacheCommand::Verify(node) | CacheCommand::Clear(node)) =
            self;
        node
    }

    /// Does it on the folder of a stopped node.
    fn on_folder(&self, path: &Path, sizes: LogSizes) -> Result<Outcome, CacheFailure> {
        let mut bar = Bar::new("read");
        let folder = Arc::new(RealFolder::new(path));
        let stopped = Stopped::open(folder, sizes, |done, total| bar.show(done, total));
        bar.end();
        let path = path.to_owned();
        let mut stopped = match stopped {
            Ok(stopped) => stopped,
            Err(fault) => return Err(CacheFailure::Folder { path, fault }),
        };
        let mut is_sound = true;
        let json = match self {
            CacheCommand::Stats(_) => Ok(stats_json(None, Some(&stopped.stats()), None)),
            CacheCommand::Verify(_) => {
                let mut bar = Bar::new("verified");
                let verified = verify(stopped.shelf(), |verified| {
                    bar.show(verified.segments, verified.segments_total);
                    ControlFlow::Continue(())
                });
                bar.end();
                is_sound = verified.is_sound();
                Ok(verified_json(&verified, false))
            }
            CacheCommand::Clear(_) => stopped.clear().map(|()| json!({ "cleared": ["disk"] })),
        };
        // Also after a fault: what could be kept of the index is of use.
        let closed = stopped.close();
        match json.and_then(|json| closed.map(|()| json)) {
            Ok(json) => Ok(Outcome { json, is_sound }),
            Err(fault) => Err(CacheFailure::Write { path, fault }),
        }
    }

    /// An outcome in words.
    fn words(&self, json: &Value) -> String {
        let mut text = String::new();
        match self {
            CacheCommand::Stats(_) => flatten("", json, &mut text),
            CacheCommand::Verify(_) => {
                flatten("", json, &mut text);
                let is = |key: &str| json.get(key) == Some(&Value::Bool(true));
                text.push_str(match is("sound") {
                    true => "all that was read is as it was written\n",
                    false => "what is bad is not used any more; the origin is asked for it again\n",
                });
                if is("recovering") {
                    text.push_str(
                        "the node does not know yet all that an earlier one left: verify again later\n",
                    );
                }
            }
            CacheCommand::Clear(_) => {
                let tiers = json.get("cleared").and_then(Value::as_array);
                let tiers = tiers.into_iter().flatten().filter_map(Value::as_str);
                let tiers: Vec<&str> = tiers.collect();
                // Writing to a string does not fail.
                let _ = writeln!(text, "cleared: {}", tiers.join(" and "));
            }
        }
        text
    }
}

/// One line for each number: its path, and its value.
fn flatten(path: &str, value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                flatten(&path, member, text);
            }
        }
        Value::Null => {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{path:<24} none");
        }
        value => {
            let _ = writeln!(text, "{path:<24} {value}");
        }
    }
}

/// A progress bar on a terminal; elsewhere nothing is shown.
struct Bar {
    what: &'static str,
    is_terminal: bool,
    /// Filled characters that are shown.
    shown: Option<u64>,
}

impl Bar {
    fn new(what: &'static str) -> Self {
        Bar {
            what,
            is_terminal: stderr().is_terminal(),
            shown: None,
        }
    }

    /// Draws only what has changed, so that thousands of segments are not thousands of lines.
    fn show(&mut self, done: u64, total: u64) {
        let filled = (done * BAR_WIDTH).checked_div(total).unwrap_or(BAR_WIDTH);
        if !self.is_terminal || self.shown == Some(filled) {
            return;
        }
        self.shown = Some(filled);
        eprint!("\r{}", bar(self.what, filled, done, total));
    }

    fn end(&mut self) {
        if self.shown.take().is_some() {
            eprintln!();
        }
    }
}

fn bar(what: &str, filled: u64, done: u64, total: u64) -> String {
    // At most BAR_WIDTH each.
    let (full, empty) = (
        filled as usize,
        (BAR_WIDTH - filled.min(BAR_WIDTH)) as usize,
    );
    let (full, empty) = ("#".repeat(full), ".".repeat(empty));
    format!("{what} [{full}{empty}] {done} of {total} segments")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_empty_at_the_start_and_full_at_the_end() {
        let at = |filled| bar("read", filled, 1, 2);
        assert!(at(0).starts_with("read [...") && at(0).ends_with(".] 1 of 2 segments"));
        assert!(at(BAR_WIDTH).contains("##]") && !at(BAR_WIDTH).contains('.'));
    }

    #[test]
    fn numbers_are_told_one_by_one_with_their_path() {
        let mut text = String::new();
        flatten(
            "",
            &json!({ "a": { "b": 1, "c": null }, "d": "e" }),
            &mut text,
        );
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines, [["a.b", "1"], ["a.c", "none"], ["d", "\"e\""]]);
    }

    #[test]
    fn damage_that_a_node_tells_of_decides_the_exit_code() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9900));
        let told = |status, body: &str| {
            let body = body.as_bytes().to_vec();
            let outcome = read(address, &Answer { status, body });
            outcome
                .map(|outcome| outcome.is_sound)
                .map_err(|fault| fault.to_string())
        };
        assert_eq!(told(200, r#"{"sound":true}"#), Ok(true));
        assert_eq!(told(200, r#"{"sound":false}"#), Ok(false));
        assert_eq!(told(200, r#"{"cleared":["memory"]}"#), Ok(true));
        assert!(
            told(409, r#"{"error":"no"}"#)
                .unwrap_err()
                .contains("status 409: no")
        );
        assert!(told(200, "x").unwrap_err().contains("is not JSON"));
    }
}
