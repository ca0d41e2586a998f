//! The one writer of the metadata.
//!
//! Requests hand their changes to this task and wait. It takes whatever has gathered, up to [`BATCH_MAX`], and
//! commits it in one transaction, so that many small writes share one sync. A request that goes away while
//! it waits changes nothing: the change is committed or it is not, and its blob is either named by a row or
//! swept later (`delete-needs-proof`).

use std::future::Future;
use std::sync::Arc;

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

use super::MetaError;
use super::changes::{create_bucket, delete, delete_bucket, put};
use crate::origin::blobs::{Content, StoredBlob};
use crate::origin::checksums::Checksum;
use crate::origin::conditional::{Condition, WriteCondition};
use crate::origin::latch::WriteLatch;
use crate::origin::names::{BucketName, ObjectKey};

/// The most changes in one transaction.
const BATCH_MAX: usize = 128;
/// Changes that may wait before senders wait too.
const QUEUE: usize = 256;

/// A handle on the writing task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
}

/// What became of a request for a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketCreated {
    /// It is new.
    Created,
    /// It was there.
    AlreadyExists,
}

/// What became of the removal of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketDeleted {
    /// It is gone.
    Deleted,
    /// It never was.
    NoSuchBucket,
    /// It still has objects.
    NotEmpty,
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectPut {
    /// Committed. `released` are the blobs that no row names any more.
    Committed {
        /// The blobs of the object that was replaced.
        released: Vec<StoredBlob>,
    },
    /// The bucket went away.
    NoSuchBucket,
    /// The precondition failed.
    PreconditionFailed(Condition),
    /// `If-Match`, but there is no object.
    NoSuchKey,
}

/// What became of the removal of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectDeleted {
    /// There is no such object now. `released` are the blobs that no row names any more.
    Deleted {
        /// The blobs of the object that was removed.
        released: Vec<StoredBlob>,
    },
    /// There is no such bucket.
    NoSuchBucket,
    /// The precondition failed.
    PreconditionFailed(Condition),
    /// `If-Match`, but there is no object.
    NoSuchKey,
}

/// An object about to be committed. Its blob is durable already (`durable-before-visible`).
#[derive(Debug, Clone)]
pub struct NewObject {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// What must hold of the object it replaces.
    pub condition: WriteCondition,
    /// As [`super::ObjectRow::etag`].
    pub etag: String,
    /// As [`super::ObjectRow::modified_ms`].
    pub modified_ms: i64,
    /// As [`super::ObjectRow::checksum`].
    pub checksum: Checksum,
    /// As [`super::ObjectRow::fields`].
    pub fields: Vec<u8>,
    /// Its length.
    pub length_bytes: u64,
    /// Its bytes.
    pub content: Content,
}

type Answer<T> = oneshot::Sender<Result<T, MetaError>>;
/// Tells a waiting request what the transaction came to.
type Settle = Box<dyn FnOnce(Result<(), MetaError>) + Send>;

enum Job {
    CreateBucket {
        name: BucketName,
        created_ms: i64,
        answer: Answer<BucketCreated>,
    },
    DeleteBucket {
        name: BucketName,
        answer: Answer<BucketDeleted>,
    },
    Put {
        object: Box<NewObject>,
        answer: Answer<ObjectPut>,
    },
    Delete {
        bucket: BucketName,
        key: ObjectKey,
        condition: WriteCondition,
        answer: Answer<ObjectDeleted>,
    },
    Close {
        answer: oneshot::Sender<()>,
    },
}

impl Writer {
    /// Makes the handle, and the task, which the caller spawns. The task ends when it is closed or every handle
    /// is gone.
    pub fn start(
        connection: SqliteConnection,
        generation: i64,
        latch: Arc<WriteLatch>,
    ) -> (Writer, impl Future<Output = ()> + Send) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        (Writer { jobs }, run(connection, generation, latch, queue))
    }

    /// Makes a bucket unless it exists.
    ///
    /// # Errors
    /// [`MetaError`]; the outcome of [`MetaError::Sql`] is unknown.
    pub async fn create_bucket(
        &self,
        name: BucketName,
        created_ms: i64,
    ) -> Result<BucketCreated, MetaError> {
        self.ask(|answer| Job::CreateBucket {
            name,
            created_ms,
            answer,
        })
        .await
    }

    /// Removes an empty bucket.
    ///
    /// # Errors
    /// As [`Writer::create_bucket`].
    pub async fn delete_bucket(&self, name: BucketName) -> Result<BucketDeleted, MetaError> {
        self.ask(|answer| Job::DeleteBucket { name, answer }).await
    }

    /// Commits an object, replacing the one under its key.
    ///
    /// # Errors
    /// As [`Writer::create_bucket`].
    pub async fn put(&self, object: NewObject) -> Result<ObjectPut, MetaError> {
        let object = Box::new(object);
        self.ask(|answer| Job::Put { object, answer }).await
    }

    /// Removes an object if there is one.
    ///
    /// # Errors
    /// As [`Writer::create_bucket`].
    pub async fn delete(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        condition: WriteCondition,
    ) -> Result<ObjectDeleted, MetaError> {
        self.ask(|answer| Job::Delete {
            bucket,
            key,
            condition,
            answer,
        })
        .await
    }

    /// Commits what waits, refuses the rest and closes the connection.
    pub async fn close(&self) {
        let (answer, closed) = oneshot::channel();
        if self.jobs.send(Job::Close { answer }).await.is_ok() {
            // An error means that the task is gone already, which is what we want.
            let _ = closed.await;
        }
    }

    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, MetaError> {
        let (answer, outcome) = oneshot::channel();
        self.jobs
            .send(job(answer))
            .await
            .map_err(|_| MetaError::Closed)?;
        outcome.await.unwrap_or(Err(MetaError::Closed))
    }
}

async fn run(
    mut connection: SqliteConnection,
    generation: i64,
    latch: Arc<WriteLatch>,
    mut queue: mpsc::Receiver<Job>,
) {
    let mut closing = None;
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while closing.is_none() && queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let mut settles: Vec<Settle> = Vec::with_capacity(batch.len());
        let outcome = if latch.has_fallen() {
            Err(MetaError::WritesRefused)
        } else {
            commit(
                &mut connection,
                generation,
                &latch,
                &mut batch,
                &mut settles,
                &mut closing,
            )
            .await
        };
        // Jobs that the transaction never reached share its fate.
        for job in batch.drain(..) {
            match job.into_refusal() {
                Refused::Change(settle) => settles.push(settle),
                Refused::Close(answer) => closing = Some(answer),
            }
        }
        for settle in settles {
            settle(outcome.clone());
        }
    }
    queue.close();
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "the metadata connection did not close cleanly");
    }
    if let Some(answer) = closing {
        // The closer may have stopped waiting.
        let _ = answer.send(());
    }
}

/// Applies the batch and commits it: the only commit point (`row-is-truth`).
async fn commit(
    connection: &mut SqliteConnection,
    generation: i64,
    latch: &WriteLatch,
    batch: &mut Vec<Job>,
    settles: &mut Vec<Settle>,
    closing: &mut Option<oneshot::Sender<()>>,
) -> Result<(), MetaError> {
    let failed = |error| MetaError::from_write(error, latch);
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(failed)?;
    let live: Option<i64> = sqlx::query_scalar("SELECT live FROM writers WHERE generation = ?")
        .bind(generation)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
    if live != Some(1) {
        latch.fall();
        return Err(MetaError::Fenced { generation });
    }
    // `pop` from the reversed batch keeps what is left in `batch` when a statement fails.
    batch.reverse();
    while let Some(job) = batch.pop() {
        match job {
            Job::CreateBucket {
                name,
                created_ms,
                answer,
            } => {
                let done = create_bucket(&mut transaction, &name, created_ms).await;
                settles.push(settle(answer, done, latch)?);
            }
            Job::DeleteBucket { name, answer } => {
                let done = delete_bucket(&mut transaction, &name).await;
                settles.push(settle(answer, done, latch)?);
            }
            Job::Put { object, answer } => {
                let done = put(&mut transaction, *object).await;
                settles.push(settle(answer, done, latch)?);
            }
            Job::Delete {
                bucket,
                key,
                condition,
                answer,
            } => {
                let done = delete(&mut transaction, &bucket, &key, &condition).await;
                settles.push(settle(answer, done, latch)?);
            }
            Job::Close { answer } => *closing = Some(answer),
        }
    }
    transaction.commit().await.map_err(failed)
}

/// Pairs a change with whoever waits for it; a failed statement ends the batch.
fn settle<T: Send + 'static>(
    answer: Answer<T>,
    done: Result<T, sqlx::Error>,
    latch: &WriteLatch,
) -> Result<Settle, MetaError> {
    match done {
        Ok(value) => Ok(Box::new(move |outcome| {
            // Nobody waits any more when the client has gone.
            let _ = answer.send(outcome.map(|()| value));
        })),
        Err(error) => {
            let error = MetaError::from_write(error, latch);
            let _ = answer.send(Err(error.clone()));
            Err(error)
        }
    }
}

enum Refused {
    Change(Settle),
    Close(oneshot::Sender<()>),
}

impl Job {
    fn into_refusal(self) -> Refused {
        fn fail<T: Send + 'static>(answer: Answer<T>) -> Refused {
            Refused::Change(Box::new(move |outcome| {
                let error = outcome.err().unwrap_or(MetaError::Closed);
                let _ = answer.send(Err(error));
            }))
        }
        match self {
            Job::CreateBucket { answer, .. } => fail(answer),
            Job::DeleteBucket { answer, .. } => fail(answer),
            Job::Put { answer, .. } => fail(answer),
            Job::Delete { answer, .. } => fail(answer),
            Job::Close { answer } => Refused::Close(answer),
        }
    }
}
