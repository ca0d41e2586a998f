//! `tidegate origin verify` and `tidegate origin import`: work on the folders of a store that nobody serves.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use tokio::runtime::{Builder, Runtime};

use super::{Failure, start_log};
use crate::clock::{SharedClock, SystemClock};
use crate::config;
use crate::origin::check::{CheckError, Finding, Listener, Seen, check};
use crate::origin::{Created, Fault, OpenError, Store};

/// Between two lines that tell how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Files put at a time: they share commits and syncs.
const AT_ONCE: usize = 8;

/// Put every file of a folder into a bucket of a stopped store.
#[derive(Debug, Clone, Args)]
pub(super) struct ImportArgs {
    /// The store's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The bucket, which is made when it is not there.
    #[arg(long)]
    bucket: String,
    /// The folder; the path of a file inside it becomes the key.
    folder: PathBuf,
}

/// Why a command came to no end.
#[derive(Debug, thiserror::Error)]
enum StoppedFailure {
    #[error(transparent)]
    Command(#[from] Failure),
    #[error(
        "{0}\nnext: stop the node that runs on it; or ask that node, with tidegate origin scrub"
    )]
    Locked(OpenError),
    #[error(
        "{0}\nnext: look at the disks and at the rights on the folders; run this as the node's user"
    )]
    Check(CheckError),
    #[error("cannot open the store: {0}\nnext: look at the disks and at the rights on the folders")]
    Open(OpenError),
    #[error("the bucket {bucket}: {fault}\nnext: give the name of a bucket as S3 allows it")]
    Bucket { bucket: String, fault: Fault },
    #[error("cannot read {}: {error}\nnext: give a folder that can be read", .path.display())]
    Folder { path: PathBuf, error: io::Error },
    #[error("the system gives no threads: {0}")]
    System(io::Error),
}

impl StoppedFailure {
    fn exit_code(&self) -> ExitCode {
        match self {
            StoppedFailure::Command(failure) => failure.exit_code(),
            StoppedFailure::Bucket { .. } => ExitCode::from(2),
            _ => ExitCode::from(1),
        }
    }
}

fn finish(command: &str, outcome: Result<bool, StoppedFailure>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("tidegate origin {command}: {failure}");
            failure.exit_code()
        }
    }
}

fn section(file: &Path) -> Result<config::Origin, Failure> {
    let loaded = config::load(file).map_err(|problems| Failure::Config {
        file: file.to_owned(),
        problems,
    })?;
    start_log("warn")?;
    loaded.config.origin.ok_or(Failure::NoSection {
        file: file.to_owned(),
        section: "origin",
    })
}

fn runtime() -> Result<Runtime, StoppedFailure> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.map_err(StoppedFailure::System)
}

/// Says at most once a second how far something is.
struct Ticker {
    clock: SharedClock,
    next: Duration,
}

impl Ticker {
    fn new() -> Self {
        let clock = SystemClock::shared();
        let next = clock.monotonic() + PROGRESS_INTERVAL;
        Ticker { clock, next }
    }

    fn say(&mut self, how_far: impl FnOnce() -> String) {
        let now = self.clock.monotonic();
        if now >= self.next {
            eprintln!("{}", how_far());
            self.next = now + PROGRESS_INTERVAL;
        }
    }
}

/// Prints what is found at once, and how far it is now and then.
struct Teller(Ticker);

impl Listener for Teller {
    fn found(&mut self, finding: &Finding) {
        println!("{finding}");
    }

    fn seen(&mut self, seen: &Seen) {
        self.0.say(|| {
            let of = seen.blobs_in_all;
            format!("{} of {of} blobs, {} bytes", seen.blobs, seen.bytes)
        });
    }
}

/// Checks a stopped store and prints what it found.
pub(super) fn verify(file: &Path) -> ExitCode {
    finish("verify", run_check(file))
}

fn run_check(file: &Path) -> Result<bool, StoppedFailure> {
    let origin = section(file)?;
    let mut teller = Teller(Ticker::new());
    let seen = runtime()?.block_on(check(&origin, &mut teller));
    let seen = seen.map_err(|error| match error {
        CheckError::Open(error @ OpenError::Locked { .. }) => StoppedFailure::Locked(error),
        other => StoppedFailure::Check(other),
    })?;
    print!("{}", summary(&seen));
    Ok(seen.findings == 0)
}

fn summary(seen: &Seen) -> String {
    let dead = (seen.pack_capacity_bytes).saturating_sub(seen.pack_live_bytes);
    let (left, left_bytes) = (seen.left_files, seen.left_file_bytes);
    let mut lines = vec![
        format!(
            "{} blobs with {} bytes were compared",
            seen.blobs, seen.bytes
        ),
        format!(
            "files: {} bytes named, {} bytes of garbage, {left_bytes} bytes left behind by a stop in {left} files",
            seen.named_file_bytes, seen.garbage_file_bytes
        ),
        format!(
            "packs: {} bytes named, {dead} bytes dead",
            seen.pack_live_bytes
        ),
    ];
    if seen.foreign_files > 0 {
        lines.push(format!(
            "{} files are none of the store's",
            seen.foreign_files
        ));
    }
    lines.push(match seen.findings {
        0 => "sound".to_owned(),
        findings => format!("{findings} things are not as they should be"),
    });
    lines.join("\n") + "\n"
}

impl ImportArgs {
    /// Puts the files, and says how many.
    pub(super) fn run(&self) -> ExitCode {
        finish("import", self.import())
    }

    fn import(&self) -> Result<bool, StoppedFailure> {
        let origin = section(&self.config)?;
        let files = files(&self.folder)?;
        runtime()?.block_on(async {
            let store = Store::open(&origin, SystemClock::shared()).await;
            let store = store.map_err(|error| match error {
                OpenError::Locked { .. } => StoppedFailure::Locked(error),
                other => StoppedFailure::Open(other),
            })?;
            let outcome = self.put_all(&store, files).await;
            store.close().await;
            outcome
        })
    }

    async fn put_all(&self, store: &Store, files: Found) -> Result<bool, StoppedFailure> {
        let created = store.create_bucket(&self.bucket).await;
        let created = created.map_err(|fault| StoppedFailure::Bucket {
            bucket: self.bucket.clone(),
            fault,
        })?;
        if created == Created::Created {
            eprintln!("made the bucket {}", self.bucket);
        }
        let all = files.files.len();
        let mut puts = futures_util::stream::iter(files.files)
            .map(|(key, path)| async move {
                let outcome = store.import(&self.bucket, &key, &path).await;
                (path, outcome)
            })
            .buffer_unordered(AT_ONCE);
        let (mut put, mut bytes, mut failed) = (0, 0, files.passed_over);
        let mut ticker = Ticker::new();
        while let Some((path, outcome)) = puts.next().await {
            match outcome {
                Ok(length_bytes) => {
                    put += 1;
                    bytes += length_bytes;
                }
                Err(error) => {
                    eprintln!("{}: {error}", path.display());
                    failed += 1;
                }
            }
            ticker.say(|| format!("{put} of {all} files, {bytes} bytes"));
        }
        println!(
            "{put} objects with {bytes} bytes were put into {}",
            self.bucket
        );
        if failed > 0 {
            println!("{failed} files were not");
        }
        Ok(failed == 0)
    }
}

/// What a folder holds.
#[derive(Debug, Default)]
struct Found {
    /// Keys and files.
    files: Vec<(String, PathBuf)>,
    /// What was told and left out.
    passed_over: u64,
}

/// Every file below a folder, in the order of names. Links to files count as files, links to folders are not followed:
/// they may lead in circles.
fn files(folder: &Path) -> Result<Found, StoppedFailure> {
    let mut found = Found::default();
    let mut folders = VecDeque::from([(String::new(), folder.to_owned())]);
    while let Some((prefix, folder)) = folders.pop_front() {
        let failed = |error| StoppedFailure::Folder {
            path: folder.clone(),
            error,
        };
        let entries = fs::read_dir(&folder).map_err(failed)?;
        let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                eprintln!(
                    "{}: its name is not UTF-8, so it can be no key",
                    path.display()
                );
                found.passed_over += 1;
                continue;
            };
            let key = format!("{prefix}{name}");
            if entry.file_type().map_err(failed)?.is_dir() {
                folders.push_back((format!("{key}/"), path));
            } else if fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
                found.files.push((key, path));
            } else {
                eprintln!("{}: it is no file", path.display());
                found.passed_over += 1;
            }
        }
    }
    Ok(found)
}
