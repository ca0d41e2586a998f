//! The access log: one JSON line per request, written by a thread of its own.
//!
//! `requests-never-wait`: a request appends its line to a bounded queue in memory. When the
//! writer cannot keep up, lines are dropped and counted in `tidegate_access_log_dropped_total`.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;
use thiserror::Error;
use tracing::{error, info};

use super::access_record::AccessRecord;
use super::metrics::Metrics;
use crate::config;

/// The queue's limit: some thousands of lines, a second or so of a busy node.
const QUEUE_BYTES: usize = 4 << 20;

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
    queue: Option<Arc<Queue>>,
}

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    /// Signalled when lines arrive in an empty queue, when the log closes and when the writer
    /// has ended.
    changed: Condvar,
    dropped: IntCounter,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    count: u64,
    closing: bool,
    ended: bool,
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
            config::AccessLog::Off => Ok(AccessLog { queue: None }),
            config::AccessLog::Stdout => Self::start(io::stdout(), dropped),
            config::AccessLog::File(path) => Self::start(open_file(path)?, dropped),
        }
    }

    fn start(
        output: impl Write + Send + 'static,
        dropped: IntCounter,
    ) -> Result<Self, AccessLogError> {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            dropped,
        });
        let writer = Arc::clone(&queue);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.write_until_closed(output))
            .map_err(|source| AccessLogError::Thread { source })?;
        Ok(AccessLog { queue: Some(queue) })
    }

    /// Logs a request. Never waits for the output; a line that finds the queue full is dropped
    /// and counted.
    pub fn write(&self, record: &AccessRecord<'_>) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let Some(queue) = &self.queue else { return };
        // The line is made before the lock is taken, so that workers meet only for a copy.
        LINE.with_borrow_mut(|line| {
            line.clear();
            record.write_line(line);
            queue.push(line);
        });
    }

    /// Writes out everything that is queued and ends the writer. Lines logged afterwards are
    /// dropped and counted. Waits for at most two seconds and then gives the rest up; must not be
    /// called where waiting is forbidden.
    pub fn flush_and_close(&self) {
        let Some(queue) = &self.queue else { return };
        let mut state = queue.lock();
        state.closing = true;
        queue.changed.notify_all();
        let (state, waited) = queue
            .changed
            .wait_timeout_while(state, CLOSE_PATIENCE, |state| !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            error!(
                lines = state.count,
                "the access log did not take its last lines in time"
            );
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.closing || state.lines.len() + line.len() > QUEUE_BYTES {
            drop(state);
            self.dropped.inc();
            return;
        }
        // A writer that is still busy looks again before it sleeps.
        let wake = state.lines.is_empty();
        state.lines.extend_from_slice(line);
        state.count += 1;
        drop(state);
        if wake {
            self.changed.notify_all();
        }
    }

    /// Takes all that is queued whenever there is something: under load one write carries many
    /// lines, and no line waits while the writer has nothing to do.
    fn write_until_closed(&self, mut output: impl Write) {
        let mut batch = Vec::new();
        let mut failing = false;
        loop {
            let mut state = self
                .changed
                .wait_while(self.lock(), |state| {
                    state.lines.is_empty() && !state.closing
                })
                .unwrap_or_else(PoisonError::into_inner);
            if state.lines.is_empty() {
                state.ended = true;
                drop(state);
                self.changed.notify_all();
                return;
            }
            std::mem::swap(&mut batch, &mut state.lines);
            let count = std::mem::take(&mut state.count);
            drop(state);

            // After a failure the last line may be cut; a line feed keeps the next one whole.
            let start = if failing { b"\n".as_slice() } else { b"" };
            let written = output
                .write_all(start)
                .and_then(|()| output.write_all(&batch))
                .and_then(|()| output.flush());
            batch.clear();
            match written {
                Ok(()) if failing => {
                    failing = false;
                    info!("the access log is written again");
                }
                Ok(()) => {}
                Err(error) => {
                    self.dropped.inc_by(count);
                    if !failing {
                        error!(%error, "the access log cannot be written; lines are dropped");
                    }
                    failing = true;
                }
            }
        }
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
        let room = QUEUE_BYTES / line.len();
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
