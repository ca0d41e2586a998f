//! Moves versions to another storage class: their bytes are written to its disks, and one commit gives the version the new
//! bytes and takes the old ones from it. All else of it stays as it is.
//!
//! The order is that of an upload (`durable-before-visible`): write, sync, commit, remove. A version that was overwritten
//! or deleted in between is not brought back: the commit finds no row of its number. Who reads the old bytes keeps them
//! until the end of the read.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Event, webhooks_about};
use crate::origin::Fault;
use crate::origin::blobs::BlobError;
use crate::origin::meta::{
    BucketRow, ListedVersion, Place, StorageClass, Transition, VersionId, VersionKind,
};
use crate::origin::names::ObjectKey;
use crate::origin::operations::get_object::read_through;
use crate::origin::operations::put_object::write_on;
use crate::origin::stats::Care;
use crate::origin::store::Store;

/// Versions that are moved at a time, so that small ones share syncs and commits.
const BATCH_VERSIONS: usize = 32;
/// Bytes of a batch, behind which it takes no further version.
const BATCH_BYTES: u64 = 16 * 1024 * 1024;

/// What was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) versions: u64,
    pub(super) bytes: u64,
}

/// Versions of a bucket that move to a storage class, a batch at a time.
pub(super) struct Mover<'a> {
    store: &'a Store,
    bucket: Arc<BucketRow>,
    to: StorageClass,
    who: &'static str,
    now_ms: i64,
    batch: Vec<Due>,
    batch_bytes: u64,
    moved: Moved,
    /// Whether the disks take no more: the rest waits for another round.
    is_stopped: bool,
}

/// A version that is to move, as a listing saw it.
#[derive(Debug)]
struct Due {
    key: ObjectKey,
    version_id: VersionId,
    number: i64,
}

impl<'a> Mover<'a> {
    pub(super) fn new(
        store: &'a Store,
        bucket: Arc<BucketRow>,
        to: StorageClass,
        who: &'static str,
        now_ms: i64,
    ) -> Self {
        Mover {
            store,
            bucket,
            to,
            who,
            now_ms,
            batch: Vec::new(),
            batch_bytes: 0,
            moved: Moved::default(),
            is_stopped: false,
        }
    }

    /// Moves a version, now or with others that come. What keeps it where it is stands in the log.
    pub(super) async fn add(&mut self, version: &ListedVersion) {
        if self.is_stopped {
            return;
        }
        self.batch.push(Due {
            key: version.object.key.clone(),
            version_id: version.version_id,
            number: version.number,
        });
        self.batch_bytes += version.object.size_bytes;
        if self.batch.len() >= BATCH_VERSIONS || self.batch_bytes >= BATCH_BYTES {
            self.move_batch().await;
        }
    }

    /// Moves what waits. Gives back all that was moved.
    pub(super) async fn finish(mut self) -> Moved {
        self.move_batch().await;
        self.moved
    }

    async fn move_batch(&mut self) {
        self.batch_bytes = 0;
        let mut moves = JoinSet::new();
        for due in std::mem::take(&mut self.batch) {
            let one = Move {
                store: self.store.clone(),
                bucket: Arc::clone(&self.bucket),
                to: self.to,
                who: self.who,
                now_ms: self.now_ms,
            };
            moves.spawn(async move {
                let outcome = one.run(&due).await;
                (due, outcome)
            });
        }
        while let Some(joined) = moves.join_next().await {
            match joined {
                Ok((_, Ok(Some(bytes)))) => {
                    self.moved.versions += 1;
                    self.moved.bytes += bytes;
                    self.store.stats().add(Care::TransitionedBytes, bytes);
                }
                Ok((_, Ok(None))) => {}
                Ok((due, Err(fault))) => {
                    let (bucket, key) = (self.bucket.name.as_str(), due.key.as_str());
                    tracing::warn!(bucket, key, version = %due.version_id, fault = ?fault,
                        "a version stays in its storage class for now");
                    self.is_stopped |= takes_no_more(&fault);
                }
                // Its panic has been told already.
                Err(_) => {}
            }
        }
    }
}

/// Whether the next version would do no better.
fn takes_no_more(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Meta(_)
            | Fault::Blob(
                BlobError::WritesRefused | BlobError::NoSpace { .. } | BlobError::Write { .. }
            )
    )
}

/// One version on its way.
struct Move {
    store: Store,
    bucket: Arc<BucketRow>,
    to: StorageClass,
    who: &'static str,
    now_ms: i64,
}

impl Move {
    /// Gives back how many bytes were moved; `None` when there is nothing to move any more.
    async fn run(self, due: &Due) -> Result<Option<u64>, Fault> {
        let inner = &self.store.inner;
        let bucket = self.bucket.id;
        let found = inner.meta.version(bucket, &due.key, due.version_id).await?;
        let Some(row) = found.filter(|row| {
            row.number == due.number
                && row.kind == VersionKind::Object
                && row.storage_class != self.to
        }) else {
            return Ok(None);
        };
        let writer = match row.place {
            Place::Inline(_) => None,
            Place::Blob(_) | Place::Extents => {
                let writer = inner.blobs.writer(self.to.tier())?;
                let whole = 0..row.size_bytes;
                match read_through(&self.store, &row, whole, writer, write_on).await {
                    Ok(writer) => Some(writer),
                    // It was overwritten, or its bytes lie elsewhere by now; the next round sees.
                    Err(Fault::Blob(BlobError::Missing { .. })) => return Ok(None),
                    Err(fault) => return Err(fault),
                }
            }
        };
        let event = Event {
            name: "LifecycleTransition",
            key: &row.key,
            size_bytes: row.size_bytes,
            etag: &row.etag,
            who: self.who,
            request_id: "",
            now_ms: self.now_ms,
        };
        // Edges need not forget it: what they hold of it is what there is.
        let messages = webhooks_about(&self.store, &self.bucket, &event);
        let mut transition = Transition {
            bucket,
            key: row.key.clone(),
            number: row.number,
            from: row.storage_class,
            to: self.to,
            content: None,
            messages,
        };
        // In a task of its own: what was published is either named or removed, also when the round ends now.
        let store = self.store.clone();
        let task = tokio::spawn(async move {
            let has_messages = !transition.messages.is_empty();
            let commit = |written| {
                transition.content = written;
                store.inner.meta.transition(transition)
            };
            match store.commit_rewritten(writer, commit).await {
                Ok(released) => store.reclaim(released),
                Err(Fault::NoSuchVersion) => return Ok(false),
                Err(fault) => return Err(fault),
            }
            if has_messages {
                store.inner.jobs.ring();
            }
            Ok(true)
        });
        let is_moved = task.await.map_err(|_| Fault::TaskDied)??;
        Ok(is_moved.then_some(row.size_bytes))
    }
}
