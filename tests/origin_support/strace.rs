//! System calls of the real binary that a test stops or fails by way of strace(1), so that the product knows nothing of
//! it: SQLite's calls and those that pass the C library by are met like all others.

use std::path::Path;
use std::process::{Command, Stdio};

/// What happens to a call instead of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The process is killed before it.
    Kill,
    /// It fails with this error, such as `EIO`.
    Fail(&'static str),
}

/// Which calls, and what happens to them.
#[derive(Debug, Clone)]
pub struct Injection<'a> {
    /// Names of calls with commas between them.
    pub calls: &'a str,
    /// Those that deal with these files; without any, all.
    pub paths: &'a [String],
    /// Which of them, counted for each thread by itself from 1 on: `3`, `3+`, `3..5`.
    pub when: &'a str,
    pub effect: Effect,
}

/// Whether this machine lets one process watch another.
///
/// # Errors
/// Why not.
pub fn usable() -> Result<(), String> {
    let tried = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "true"])
        .stdin(Stdio::null())
        .output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!(
            "strace: {error} (scripts/deps.sh test installs it)"
        )),
    }
}

/// strace on a program that is yet to be named. It writes the calls down in `log`.
pub fn command(injection: &Injection<'_>, log: &Path) -> Command {
    let Injection {
        calls, paths, when, ..
    } = injection;
    let effect = match injection.effect {
        Effect::Kill => "signal=SIGKILL".to_owned(),
        Effect::Fail(error) => format!("error={error}"),
    };
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-y", "-s", "0", "-e", "signal=none", "-o"])
        .arg(log)
        .arg(format!("--trace={calls}"))
        .arg(format!("--inject={calls}:{effect}:when={when}"));
    for path in *paths {
        command.args(["-P", path]);
    }
    command
}

/// The call that is the last in a log of [`command`], and the kind of file that it dealt with.
pub fn last_call(log: &Path) -> Option<(String, &'static str)> {
    let log = std::fs::read_to_string(log).ok()?;
    log.lines().rev().find_map(call_in)
}

/// The calls in a log of [`command`] that were made to fail, in their order.
pub fn failed_calls(log: &Path) -> Vec<(String, &'static str)> {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let injected = log.lines().filter(|line| line.ends_with("(INJECTED)"));
    injected.filter_map(call_in).collect()
}

fn call_in(line: &str) -> Option<(String, &'static str)> {
    // The number of a thread comes first. A call that another thread interrupts is told of twice, the second time without
    // its arguments.
    let (_, line) = line.split_once(' ')?;
    let (call, arguments) = line.trim_start().split_once('(')?;
    let is_name = call.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_name.then(|| (call.to_owned(), kind_of(arguments)))
}

/// What kind of file a call deals with, by its arguments: the path behind a descriptor, or a path.
fn kind_of(arguments: &str) -> &'static str {
    let of_descriptor = arguments
        .split_once('<')
        .filter(|_| !arguments.starts_with("AT_FDCWD"))
        .and_then(|(_, rest)| rest.split_once('>'))
        .map(|(path, _)| path);
    let path = of_descriptor.or_else(|| arguments.split('"').nth(1));
    let path = path.unwrap_or_default();
    match path {
        _ if path.ends_with("tg.db") => "the database",
        _ if path.ends_with("tg.db-wal") => "the database's log",
        _ if path.ends_with("tg.db-shm") => "the index of the database's log",
        _ if path.ends_with(".pack") => "a pack",
        _ if path.contains("/blobs/d0/pack") => "a folder of packs",
        _ if path.contains("/blobs/d0/tmp/") => "an upload's file",
        _ if path.contains("/blobs/d0/big") => match path.rsplit('/').next().map(str::len) {
            Some(16) => "a blob's file",
            _ => "a folder of blobs",
        },
        _ if path.starts_with("socket:") || path.starts_with("TCP") => "a connection",
        _ if path.ends_with("/LOCK") => "the lock file",
        _ if path.starts_with("anon_inode") || path.starts_with("pipe:") => "no file at all",
        _ => "another file",
    }
}
