//! The access log: one JSON line per request, written by a thread of its own.
//!
//! `requests-never-wait`: a request appends its line to a bounded buffer of its worker's
//! ([`super::line_queue`]). When the writer cannot keep up, lines are dropped and counted in
//! `tidegate_access_log_dropped_total`.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use prometheus::IntCounter;
use thiserror::Error;
use tracing::{error, info};

use super::access_record::{AccessRecord, SecondText};
use super::line_queue::{Batch, LineQueue, Taken};
use super::metrics::Metrics;
use crate::config;

/// How long the first line after a pause waits for company. Waking the writer and writing costs about
/// as much as answering a request from memory, so a busy node must not do it for every line.
const GATHERING: Duration = Duration::from_millis(20);

/// How long a stop waits for the writer: its reader (a pipe, a hung disk) may never come back.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// Why the access log could not be opened.
#[derive(Debug, Error)]
pub enum AccessLogError {
    /// The file cannot be opened for appending.
    #[error("cannot open the access log {path}: {source}")]
    Open {
        /// The file as configured.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The writer thread could not be started.
    #[error("cannot start the access-log thread: {source}")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
}

/// The access log. Cheap to share; every worker writes to the same one.
#[derive(Debug)]
pub struct AccessLog {
    /// Absent when the log is off.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    writer: Thread,
}

#[derive(Debug)]
struct Shared {
    queue: LineQueue,
    /// Set after the queue was closed.
    closing: AtomicBool,
    /// The writer has ended.
    ended: Mutex<bool>,
    /// Signalled with it.
    end: Condvar,
    dropped: IntCounter,
}

/// Where a thread makes its lines.
#[derive(Default)]
struct Desk {
    line: Vec<u8>,
    seconds: SecondText,
}

impl AccessLog {
    /// Opens the log and starts its writer. Lines that are lost are counted in `metrics`.
    ///
    /// # Errors
    ///
    /// [`AccessLogError`] when the file or the thread cannot be had.
    pub fn open(config: &config::AccessLog, metrics: &Metrics) -> Result<Self, AccessLogError> {
        let dropped = metrics.access_log_dropped();
        match config {
            config::AccessLog::Off => Ok(AccessLog { running: None }),
            config::AccessLog::Stdout => Self::start(io::stdout(), dropped),
            config::AccessLog::File(path) => Self::start(open_file(path)?, dropped),
        }
    }

    fn start(
        output: impl Write + Send + 'static,
        dropped: IntCounter,
    ) -> Result<Self, AccessLogError> {
        let shared = Arc::new(Shared {
            queue: LineQueue::new(),
            closing: AtomicBool::new(false),
            ended: Mutex::new(false),
            end: Condvar::new(),
            dropped,
        });
        let of_writer = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || of_writer.write_until_closed(output))
            .map_err(|source| AccessLogError::Thread { source })?;
        let writer = writer.thread().clone();
        let running = Some(Running { shared, writer });
        Ok(AccessLog { running })
    }

    /// Whether lines are written at all, so that nobody need make them.
    pub fn is_on(&self) -> bool {
        self.running.is_some()
    }

    /// Logs a request. Never waits for the output; a line that finds its buffer full is dropped and
    /// counted. The line is written within some hundredths of a second.
    pub fn write(&self, record: &AccessRecord<'_>) {
        thread_local! {
            static DESK: RefCell<Desk> = RefCell::default();
        }
        let Some(Running { shared, writer }) = &self.running else {
            return;
        };
        DESK.with_borrow_mut(|Desk { line, seconds }| {
            line.clear();
            record.write_line(line, seconds);
            match shared.queue.push(line, record.ended()) {
                Taken::In => {}
                Taken::InWakeWriter => writer.unpark(),
                Taken::Not => shared.dropped.inc(),
            }
        });
    }

    /// Writes out everything that is queued and ends the writer. Lines logged afterwards are
    /// dropped and counted. Waits for at most two seconds and then gives the rest up; must not be
    /// called where waiting is forbidden.
    pub fn flush_and_close(&self) {
        let Some(Running { shared, writer }) = &self.running else {
            return;
        };
        shared.queue.close();
        shared.closing.store(true, Ordering::Release);
        writer.unpark();
        let ended = shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, waited) = shared
            .end
            .wait_timeout_while(ended, CLOSE_PATIENCE, |ended| !*ended)
            .unwrap_or_else(PoisonError::into_inner);
        drop(ended);
        if waited.timed_out() {
            error!(
                lines = shared.queue.waiting(),
                "the access log did not take its last lines in time"
            );
        }
    }
}

impl Shared {
    /// Takes all that is queued whenever there is something: under load one write carries many
    /// lines.
    fn write_until_closed(&self, mut output: impl Write) {
        let mut batch = Batch::default();
        let mut failing = false;
        loop {
            let closing = self.gather();
            self.queue.take(&mut batch);
            if batch.count() == 0 {
                if closing {
                    *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
                    self.end.notify_all();
                    return;
                }
                continue;
            }

            // After a failure the last line may be cut; a line feed keeps the next one whole.
            let start = if failing { b"\n".as_slice() } else { b"" };
            let written = output
                .write_all(start)
                .and_then(|()| output.write_all(batch.text()))
                .and_then(|()| output.flush());
            match written {
                Ok(()) if failing => {
                    failing = false;
                    info!("the access log is written again");
                }
                Ok(()) => {}
                Err(error) => {
                    self.dropped.inc_by(batch.count() as u64);
                    if !failing {
                        error!(%error, "the access log cannot be written; lines are dropped");
                    }
                    failing = true;
                }
            }
            batch.clear();
        }
    }

    /// Sleeps until there is a line, and then until there is a batch or [`GATHERING`] has passed. Gives
    /// whether the queue is closed, so that all that will ever be in it is there.
    fn gather(&self) -> bool {
        let closing = || self.closing.load(Ordering::Acquire);
        while !closing() && self.queue.may_sleep() {
            thread::park();
        }
        self.queue.stay_awake();
        if closing() {
            return true;
        }
        // Waking early, for whatever reason, makes a smaller batch and nothing worse.
        thread::park_timeout(GATHERING);
        closing()
    }
}

fn open_file(path: &PathBuf) -> Result<File, AccessLogError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|source| AccessLogError::Open {
            path: path.clone(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::super::access_record::tests::record;
    use super::super::line_queue::BUFFER_BYTES;
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

    #[test]
    fn file_holds_every_line_after_closing_and_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let metrics = Metrics::new();
        for run in 1..=2 {
            let log = Arc::new(
                AccessLog::open(&config::AccessLog::File(path.clone()), &metrics).unwrap(),
            );
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    let log = Arc::clone(&log);
                    thread::spawn(move || (0..500).for_each(|_| log.write(&record())))
                })
                .collect();
            workers
                .into_iter()
                .for_each(|worker| worker.join().unwrap());
            log.flush_and_close();
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().count(), run * 2_000);
            for line in text.lines() {
                serde_json::from_str::<serde_json::Value>(line).unwrap();
            }
        }
        assert_eq!(metrics.access_log_dropped().get(), 0);
    }

    #[test]
    fn unusable_file_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/access.log");
        let error = AccessLog::open(&config::AccessLog::File(path), &Metrics::new()).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("cannot open the access log "),
            "{message}"
        );
        assert!(message.contains("missing/access.log"), "{message}");
    }

    #[test]
    fn log_that_is_off_takes_lines_and_closes() {
        let log = AccessLog::open(&config::AccessLog::Off, &Metrics::new()).unwrap();
        log.write(&record());
        log.flush_and_close();
    }

    /// Says that a write has begun, then waits for the test's word on how it ends.
    struct Gate {
        begun: Sender<Vec<u8>>,
        verdicts: Receiver<io::Result<()>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.begun.send(bytes.to_vec()).unwrap();
            self.verdicts.recv().unwrap().map(|()| bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (
        AccessLog,
        IntCounter,
        Receiver<Vec<u8>>,
        SyncSender<io::Result<()>>,
    ) {
        let (begun, writes) = channel();
        let (answer, verdicts) = sync_channel(8);
        let dropped = Metrics::new().access_log_dropped();
        let log = AccessLog::start(Gate { begun, verdicts }, dropped.clone()).unwrap();
        (log, dropped, writes, answer)
    }

    #[test]
    fn full_queue_drops_and_counts_instead_of_waiting() {
        let (log, dropped, writes, answer) = gated();
        log.write(&record());
        let line = writes.recv().unwrap();
        // The writer hangs in its first write; these fill the queue behind it.
        let room = BUFFER_BYTES / line.len();
        for _ in 0..room + 3 {
            log.write(&record());
        }
        assert_eq!(dropped.get(), 3);
        answer.send(Ok(())).unwrap();
        answer.send(Ok(())).unwrap();
        log.flush_and_close();
        assert_eq!(writes.recv().unwrap().len(), room * line.len());
        log.write(&record());
        assert_eq!(dropped.get(), 4, "a closed log counts what it is given");
    }

    #[test]
    fn failed_write_counts_its_lines_and_the_next_line_stays_whole() {
        let (log, dropped, writes, answer) = gated();
        log.write(&record());
        writes.recv().unwrap();
        log.write(&record());
        log.write(&record());
        answer.send(Err(io::Error::other("disk full"))).unwrap();
        assert_eq!(writes.recv().unwrap(), b"\n");
        assert_eq!(dropped.get(), 1);
        answer.send(Err(io::Error::other("disk full"))).unwrap();
        log.write(&record());
        assert_eq!(writes.recv().unwrap(), b"\n");
        assert_eq!(dropped.get(), 3);
        answer.send(Ok(())).unwrap();
        answer.send(Ok(())).unwrap();
        let line = writes.recv().unwrap();
        assert!(line.starts_with(b"{\"time\":") && line.ends_with(b"}\n"));
        log.flush_and_close();
        assert_eq!(dropped.get(), 3);
    }
}
