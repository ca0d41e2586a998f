//! What happens after a commit.
//!
//! Messages of the outbox (`worker`) were committed with the change that they tell of, and are handled at least once
//! each. Rounds (`rounds`) look after what is stored:
//!
//! | what | file | when |
//! |---|---|---|
//! | files that no row names any more are removed | `garbage.rs` | every hour |
//! | packs that are mostly dead are written anew | `compaction.rs` | every hour |
//! | lifecycle rules | `lifecycle.rs`, `transition.rs` | every hour |
//! | everything is read and compared | `scrub.rs` | all the time, slowly |
//! | what a reader or the scrub has found damaged is mended | `repair.rs` | at once |
//!
//! Each of them can also be asked for: [`run_now`].

mod compaction;
mod delivery;
mod garbage;
pub mod lifecycle;
mod purge;
mod repair;
mod rounds;
mod scrub;
#[cfg(test)]
mod tests;
mod transition;
mod webhook;
mod worker;

use std::io;

use serde_json::json;
use tokio::sync::{Mutex, MutexGuard, Notify, watch};

pub use compaction::Compacted;
pub use delivery::Trust;
pub use lifecycle::Applied;
pub use purge::cache_tag;
pub use scrub::{Pass, Progress, Scrubbed};

use super::blobs::{Amount, BlobError};
use super::documents::Notifications;
use super::meta::{BucketRow, DocumentKind, Message, MetaError};
use super::names::ObjectKey;
use super::store::Store;

/// The kind of messages that tell an edge to forget an object.
const PURGE: &str = "purge";
/// The kind of messages that tell somebody's server of an event.
const WEBHOOK: &str = "webhook";

/// Wakes the worker when there is something to do.
#[derive(Debug, Default)]
pub struct Bell(Notify);

impl Bell {
    /// Says that a message was committed.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Returns when somebody has rung since the last call.
    ///
    /// # Cancel safety
    /// A ring that was not returned for is returned for by the next call.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}

/// A change to an object, in the words of S3's event notifications.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// S3's name of it without `s3:`, such as `ObjectCreated:Put`.
    pub name: &'static str,
    /// Of which object.
    pub key: &'a ObjectKey,
    /// Its length.
    pub size_bytes: u64,
    /// Its entity tag.
    pub etag: &'a str,
    /// Who did it.
    pub who: &'a str,
    /// The id of the request.
    pub request_id: &'a str,
    /// When, in milliseconds since 1970.
    pub now_ms: i64,
}

/// The messages that a change sends: to every edge that is to forget the object, to everybody who asked to be told.
pub fn messages_about(store: &Store, bucket: &BucketRow, event: &Event<'_>) -> Vec<Message> {
    let mut messages = Vec::new();
    let edges = store.edges();
    if !edges.is_empty() {
        let tag = cache_tag(&bucket.name, event.key.as_str());
        for edge in edges {
            let payload = json!({ "edge": edge.to_string(), "tag": tag });
            messages.push(message(PURGE, &payload, event));
        }
    }
    messages.extend(webhooks_about(store, bucket, event));
    messages
}

/// Those to everybody who asked to be told.
fn webhooks_about(store: &Store, bucket: &BucketRow, event: &Event<'_>) -> Vec<Message> {
    let Some(document) = bucket.document(DocumentKind::Notification) else {
        return Vec::new();
    };
    // It was understood when it was put.
    let Ok(notifications) = Notifications::parse(document) else {
        return Vec::new();
    };
    let name = format!("s3:{}", event.name);
    let told = notifications.told(&name, event.key.as_str());
    told.map(|target| {
        let record = webhook::record(&store.inner.region, bucket, event, &target.id);
        let payload = json!({ "url": target.url(), "body": { "Records": [record] } });
        message(WEBHOOK, &payload, event)
    })
    .collect()
}

fn message(kind: &'static str, payload: &serde_json::Value, event: &Event<'_>) -> Message {
    Message {
        kind,
        payload: payload.to_string(),
        run_at_ms: event.now_ms,
    }
}

/// Handles messages and makes rounds until `shutdown` holds true or its sender is gone.
pub async fn run(store: Store, mut shutdown: watch::Receiver<bool>) {
    let work = async {
        tokio::join!(
            worker::run(&store),
            rounds::run(&store),
            scrub::run(&store),
            repair::run(&store),
        );
    };
    tokio::select! {
        () = work => {}
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// One round of the lifecycle rules.
    Lifecycle,
    /// One pass over everything, from the first blob on, as fast as the disks read.
    Scrub,
    /// Every pack that is mostly dead.
    Compact,
    /// Everything that waits to be removed.
    Garbage,
}

impl Job {
    /// Every one.
    pub const ALL: [Job; 4] = [Job::Lifecycle, Job::Scrub, Job::Compact, Job::Garbage];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Job::Lifecycle => "lifecycle",
            Job::Scrub => "scrub",
            Job::Compact => "compact",
            Job::Garbage => "garbage",
        }
    }

    /// Reads [`Job::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Job::ALL.into_iter().find(|job| job.name() == name)
    }
}

/// Whose turn it is: each job runs once at a time. The scrub in the background stands aside from this, so that an hour
/// of it does not keep an operator waiting.
#[derive(Debug, Default)]
pub struct Turns([Mutex<()>; Job::ALL.len()]);

impl Turns {
    async fn wait(&self, job: Job) -> MutexGuard<'_, ()> {
        self.0[job as usize].lock().await
    }
}

/// What a job has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// What became of versions and uploads.
    Lifecycle(Applied),
    /// What there was.
    Scrub(Scrubbed),
    /// What was moved and removed.
    Compact(Compacted),
    /// What was removed.
    Garbage(Amount),
}

impl Done {
    /// For a person: an object of counts.
    pub fn to_json(self) -> serde_json::Value {
        match self {
            Done::Lifecycle(applied) => json!({
                "ended": applied.ended,
                "moved": applied.moved,
                "bytes_moved": applied.moved_bytes,
            }),
            Done::Scrub(found) => found.to_json(),
            Done::Compact(done) => json!({
                "packs_removed": done.packs,
                "blobs_moved": done.blobs,
                "bytes_moved": done.bytes,
                "bytes_freed": done.freed_bytes,
                "packs_left": done.left,
            }),
            Done::Garbage(amount) => json!({ "blobs": amount.files, "bytes": amount.bytes }),
        }
    }
}

/// Why a job came to no end. What it did before stays done.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It is under way already.
    #[error("it is under way already")]
    UnderWay,
    /// Trouble with the metadata.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// Trouble with a blob.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A data folder cannot be read.
    #[error("a data folder cannot be read")]
    Folder(#[source] io::Error),
    /// An operation of the store failed.
    #[error(transparent)]
    Fault(#[from] super::Fault),
    /// The thread that worked on the disks died: a bug of ours.
    #[error("the thread that works on the disks died")]
    Died,
}

/// Does one job, now, and returns when it is done.
///
/// # Errors
/// See [`JobError`].
///
/// # Cancel safety
/// Dropped, it ends early; what was done stays done.
pub async fn run_now(store: &Store, job: Job) -> Result<Done, JobError> {
    let _turn = match job {
        // It takes as long as the disks take to be read.
        Job::Scrub => {
            let turn = store.inner.turns.0[job as usize].try_lock();
            turn.map_err(|_| JobError::UnderWay)?
        }
        Job::Lifecycle | Job::Compact | Job::Garbage => store.inner.turns.wait(job).await,
    };
    match job {
        Job::Lifecycle => Ok(Done::Lifecycle(lifecycle::apply(store).await?)),
        Job::Scrub => Ok(Done::Scrub(scrub::pass(store).await?)),
        Job::Compact => Ok(Done::Compact(compaction::compact(store).await?)),
        Job::Garbage => Ok(Done::Garbage(garbage::collect(store).await?)),
    }
}

/// Where the scrub in the background is, and what the last whole pass has found.
///
/// # Errors
/// Trouble with the metadata.
pub async fn scrub_progress(store: &Store) -> Result<(Option<Progress>, Option<Pass>), MetaError> {
    Ok((
        scrub::progress(store).await?,
        scrub::last_pass(store).await?,
    ))
}

/// Work on the disks, on a thread that may block.
async fn on_disks<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JobError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| JobError::Died)
}
