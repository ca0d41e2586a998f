//! The one task that writes, and the handle on it.
//!
//! Changes that wait for it are committed together, at most [`BATCH_MAX`] at a time, in one transaction: that is the only
//! commit point (`row-is-truth`), and the row of this writer's generation is read inside it, so that a writer that
//! was declared dead cannot commit.
//!
//! `no-silent-checkpoint`: what is in the log of the database is written to the database itself here, and a failure of that
//! is a failed write like any other. SQLite would do it at the end of a commit and keep its failure to itself.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::sync::{mpsc, oneshot};

use super::super::MetaError;
use super::super::epochs::Epochs;
use super::changes::{Changes, Memo};
use crate::origin::latch::WriteLatch;

/// The most changes in one transaction.
const BATCH_MAX: usize = 256;
/// Pages that are in the log alone before they are written to the database: as many as SQLite would let come.
const LOG_MAX_PAGES: i64 = 1000;
/// Changes between two looks at the log: each is a way to another thread and back.
const LOOK_EVERY: usize = 64;
/// Changes that may wait; behind them the requests wait.
const QUEUE: usize = 1024;

/// Something that a transaction does.
pub(super) trait Change: Send + 'static {
    /// What it comes to, if the transaction is committed.
    type Outcome: Send + 'static;
    /// Decides against committed rows and those of the changes before it, then writes.
    fn apply(
        self,
        changes: &mut Changes<'_>,
    ) -> impl Future<Output = Result<Self::Outcome, sqlx::Error>> + Send;
}

/// A handle on the writing task.
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

enum Job {
    Change(Box<dyn Pending>),
    Close(oneshot::Sender<()>),
}

/// A change with whoever waits for it.
trait Pending: Send {
    fn apply<'t>(
        self: Box<Self>,
        changes: &'t mut Changes<'_>,
    ) -> BoxFuture<'t, (Settle, Option<sqlx::Error>)>;
    fn refuse(self: Box<Self>, error: MetaError);
}

/// Tells a waiting request what the transaction came to.
type Settle = Box<dyn FnOnce(Result<(), MetaError>) + Send>;

struct Waiting<C: Change> {
    change: C,
    answer: oneshot::Sender<Result<C::Outcome, MetaError>>,
}

impl<C: Change> Pending for Waiting<C> {
    fn apply<'t>(
        self: Box<Self>,
        changes: &'t mut Changes<'_>,
    ) -> BoxFuture<'t, (Settle, Option<sqlx::Error>)> {
        Box::pin(async move {
            let Waiting { change, answer } = *self;
            // Nobody waits any more when the client has gone, so nobody minds where an answer goes.
            match change.apply(changes).await {
                Ok(value) => {
                    let settle = move |committed: Result<(), MetaError>| {
                        let _ = answer.send(committed.map(|()| value));
                    };
                    (Box::new(settle) as Settle, None)
                }
                Err(error) => {
                    let settle = move |committed: Result<(), MetaError>| {
                        let error = committed.err().unwrap_or(MetaError::Closed);
                        let _ = answer.send(Err(error));
                    };
                    (Box::new(settle) as Settle, Some(error))
                }
            }
        })
    }

    fn refuse(self: Box<Self>, error: MetaError) {
        let _ = self.answer.send(Err(error));
    }
}

impl Writer {
    /// Makes the handle, and the task, which the caller spawns. The task ends when it is closed or every handle
    /// is gone.
    pub(super) fn start(
        connection: SqliteConnection,
        generation: i64,
        latch: Arc<WriteLatch>,
        epochs: Arc<Epochs>,
    ) -> (Writer, impl Future<Output = ()> + Send + use<>) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let task = Task {
            connection,
            generation,
            latch,
            epochs,
            memo: Memo::default(),
            changes: 0,
        };
        (Writer { jobs }, task.run(queue))
    }

    /// Hands over a change and waits for its commit.
    pub(super) async fn commit<C: Change>(&self, change: C) -> Result<C::Outcome, MetaError> {
        let (answer, outcome) = oneshot::channel();
        let waiting = Box::new(Waiting { change, answer });
        let sent = self.jobs.send(Job::Change(waiting)).await;
        sent.map_err(|_| MetaError::Closed)?;
        outcome.await.unwrap_or(Err(MetaError::Closed))
    }

    /// Commits what waits, refuses the rest and closes the connection.
    pub(super) async fn close(&self) {
        let (answer, closed) = oneshot::channel();
        if self.jobs.send(Job::Close(answer)).await.is_ok() {
            // An error means that the task is gone already, which is what we want.
            let _ = closed.await;
        }
    }
}

struct Task {
    connection: SqliteConnection,
    generation: i64,
    latch: Arc<WriteLatch>,
    epochs: Arc<Epochs>,
    memo: Memo,
    /// Since the last look at the log.
    changes: usize,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut closing = None;
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while closing.is_none() && queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let mut pending = Vec::with_capacity(batch.len());
            for job in batch.drain(..) {
                match job {
                    Job::Change(change) => pending.push(change),
                    Job::Close(answer) => closing = Some(answer),
                }
            }
            self.changes += pending.len();
            self.settle(pending).await;
            self.checkpoint().await;
        }
        queue.close();
        while let Ok(job) = queue.try_recv() {
            if let Job::Change(change) = job {
                change.refuse(MetaError::Closed);
            }
        }
        self.empty_log().await;
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the metadata connection did not close cleanly");
        }
        if let Some(answer) = closing {
            // The closer may have stopped waiting.
            let _ = answer.send(());
        }
    }

    /// Commits a batch and tells everybody.
    async fn settle(&mut self, pending: Vec<Box<dyn Pending>>) {
        if pending.is_empty() {
            return;
        }
        let mut waiting = pending.into_iter();
        let mut settles: Vec<Settle> = Vec::with_capacity(waiting.len());
        let outcome = if self.latch.has_fallen() {
            Err(MetaError::WritesRefused)
        } else {
            self.commit(&mut waiting, &mut settles).await
        };
        if outcome.is_err() {
            // It may hold what was rolled back.
            self.memo = Memo::default();
        }
        // Changes that the transaction never reached share its fate.
        for change in waiting {
            change.refuse(outcome.clone().err().unwrap_or(MetaError::Closed));
        }
        for settle in settles {
            settle(outcome.clone());
        }
    }

    /// Writes what is in the log to the database, when that is much. Everybody has been answered by then.
    async fn checkpoint(&mut self) {
        if self.changes < LOOK_EVERY || self.latch.has_fallen() {
            return;
        }
        self.changes = 0;
        let outcome = match log_pages(&mut self.connection, "NOOP").await {
            Ok(pages) if pages < LOG_MAX_PAGES => return,
            Ok(_) => log_pages(&mut self.connection, "PASSIVE").await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            // Without room the log grows on, and the next look finds it.
            let error = MetaError::from_write(error, &self.latch);
            tracing::warn!(%error, "the log of the metadata stays as long as it is");
        }
    }

    /// Writes all of the log to the database, so that its file alone is all of it: SQLite does that with the last
    /// connection, but not when it meets another one that is about to be closed.
    async fn empty_log(&mut self) {
        if self.latch.has_fallen() {
            return;
        }
        if let Err(error) = log_pages(&mut self.connection, "TRUNCATE").await {
            tracing::warn!(%error, "the log of the metadata stays; the next start reads it");
        }
    }

    /// Applies the batch and commits it: the only commit point (`row-is-truth`).
    ///
    /// The transaction is begun and ended by statements and not by sqlx's type for it: where there is no room SQLite undoes
    /// a transaction by itself, and sqlx would take it for open from then on and begin no other.
    async fn commit(
        &mut self,
        waiting: &mut std::vec::IntoIter<Box<dyn Pending>>,
        settles: &mut Vec<Settle>,
    ) -> Result<(), MetaError> {
        let begun = run(&mut self.connection, "BEGIN IMMEDIATE").await;
        begun.map_err(|error| MetaError::from_write(error, &self.latch))?;
        let outcome = self.apply(waiting, settles).await;
        if outcome.is_err() {
            // An error says that SQLite was here before. Were it another one, the next transaction would not begin.
            let _ = run(&mut self.connection, "ROLLBACK").await;
        }
        outcome
    }

    async fn apply(
        &mut self,
        waiting: &mut std::vec::IntoIter<Box<dyn Pending>>,
        settles: &mut Vec<Settle>,
    ) -> Result<(), MetaError> {
        let Task {
            connection,
            generation,
            latch,
            epochs,
            memo,
            changes: _,
        } = self;
        let failed = |error| MetaError::from_write(error, latch);
        let live: Option<i64> = sqlx::query_scalar("SELECT live FROM writers WHERE generation = ?")
            .bind(*generation)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?;
        if live != Some(1) {
            latch.fall();
            return Err(MetaError::Fenced {
                generation: *generation,
            });
        }
        let mut changes = Changes::begin(connection, memo, epochs);
        for change in waiting.by_ref() {
            let (settle, error) = change.apply(&mut changes).await;
            settles.push(settle);
            if let Some(error) = error {
                return Err(failed(error));
            }
        }
        let touched = changes.finish().await.map_err(failed)?;
        epochs.begin(&touched);
        let committed = run(connection, "COMMIT").await;
        epochs.end(&touched);
        committed.map_err(failed)
    }
}

async fn run(
    connection: &mut SqliteConnection,
    statement: &'static str,
) -> Result<(), sqlx::Error> {
    sqlx::query(statement).execute(connection).await.map(|_| ())
}

/// Checkpoints in one of SQLite's modes. Gives back how many pages are in the log alone.
async fn log_pages(connection: &mut SqliteConnection, mode: &str) -> Result<i64, sqlx::Error> {
    let pragma = AssertSqlSafe(format!("PRAGMA wal_checkpoint({mode})"));
    let (_busy, logged, written): (i64, i64, i64) =
        sqlx::query_as(pragma).fetch_one(connection).await?;
    Ok(logged - written)
}
