//! Applies the lifecycle rules of buckets (S3, "Managing the lifecycle of objects"). The rules themselves are in
//! [`crate::origin::documents`].

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};

use super::transition::Mover;
use super::{Event, messages_about};
use crate::origin::Fault;
use crate::origin::conditional::WriteCondition;
use crate::origin::documents::Tags;
use crate::origin::documents::{
    LifecycleRules, LifecycleVerdict as Verdict, UploadFacts, VersionFacts, VersionKind,
};
use crate::origin::listing::Seek;
use crate::origin::meta::{
    BucketRow, Deletion, ListedVersion, StorageClass, VersionRow, VersionSeek, Versioning,
};
use crate::origin::names::BucketName;
use crate::origin::operations::delete_object::delete;
use crate::origin::store::Store;

/// Versions and uploads read at a time.
const BATCH: usize = 1000;
/// The storage class that rules move versions to.
const COLD: StorageClass = StorageClass::StandardIa;
/// Who deletes what a rule ends, in the words of S3's event messages.
const WHO: &str = "s3.amazonaws.com";

/// Says when a rule will end the object: `x-amz-expiration`.
pub fn add_expiration(bucket: &BucketRow, row: &VersionRow, headers: &mut HeaderMap) {
    let Some(rules) = rules(bucket) else { return };
    let Ok(tags) = crate::origin::operations::object_tagging::of_row(row) else {
        return;
    };
    if !row.is_latest {
        return;
    }
    let facts = VersionFacts {
        key: row.key.as_str(),
        size_bytes: row.size_bytes,
        tags: &tags,
        modified: time(row.modified_ms),
        kind: VersionKind::Current,
    };
    if let Some(value) = rules.expiration_header(&facts)
        && let Ok(value) = HeaderValue::try_from(value)
    {
        headers.insert("x-amz-expiration", value);
    }
}

fn rules(bucket: &BucketRow) -> Option<&LifecycleRules> {
    // It was understood when it was put.
    let rules = bucket.lifecycle().ok().flatten();
    rules.filter(|rules| rules.is_any_enabled())
}

fn time(ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// What the rules did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Versions and uploads that were ended.
    pub ended: u64,
    /// Versions that came to another storage class.
    pub moved: u64,
    /// Their bytes.
    pub moved_bytes: u64,
}

/// Applies the rules of every bucket once.
///
/// # Errors
/// Trouble with the metadata; what was done before stays done.
pub(super) async fn apply(store: &Store) -> Result<Applied, Fault> {
    let mut applied = Applied::default();
    for bucket in store.inner.meta.buckets().await? {
        if let Some(rules) = rules(&bucket) {
            let round = Round {
                store,
                name: BucketName::new(bucket.name.as_str())?,
                rules: rules.clone(),
                bucket: Arc::new(bucket),
                now: store.inner.clock.wall(),
                now_ms: store.now_ms()?,
            };
            let mut mover = Mover::new(store, Arc::clone(&round.bucket), COLD, WHO, round.now_ms);
            let ended = round.versions(&mut mover).await;
            let moved = mover.finish().await;
            applied.moved += moved.versions;
            applied.moved_bytes += moved.bytes;
            applied.ended += ended? + round.uploads().await?;
        }
    }
    Ok(applied)
}

struct Round<'a> {
    store: &'a Store,
    name: BucketName,
    bucket: Arc<BucketRow>,
    rules: LifecycleRules,
    now: SystemTime,
    now_ms: i64,
}

impl Round<'_> {
    async fn versions(&self, mover: &mut Mover<'_>) -> Result<u64, Fault> {
        let mut ended = 0;
        let mut of_key: Vec<ListedVersion> = Vec::new();
        let mut seek = VersionSeek {
            from: Seek::From(Vec::new()),
            older_than: None,
        };
        loop {
            let meta = &self.store.inner.meta;
            let batch = meta.list_versions(self.bucket.id, &seek, BATCH).await?;
            let is_last = batch.len() < BATCH;
            if let Some(last) = batch.last() {
                let key = last.object.key.clone();
                seek = VersionSeek {
                    from: Seek::After(key.as_str().as_bytes().to_vec()),
                    older_than: Some((key, last.number)),
                };
            }
            for version in batch {
                if of_key
                    .last()
                    .is_some_and(|last| last.object.key != version.object.key)
                {
                    ended += self.judge(&std::mem::take(&mut of_key), mover).await?;
                }
                of_key.push(version);
            }
            if is_last {
                return Ok(ended + self.judge(&of_key, mover).await?);
            }
        }
    }

    /// Judges the versions of one key, newest first.
    async fn judge(&self, versions: &[ListedVersion], mover: &mut Mover<'_>) -> Result<u64, Fault> {
        let mut ended = 0;
        let mut newer = 0;
        for (index, version) in versions.iter().enumerate() {
            let kind = match (index.checked_sub(1), version.is_delete_marker) {
                (None, false) => VersionKind::Current,
                (None, true) => VersionKind::CurrentMarker {
                    is_alone: versions.len() == 1,
                },
                (Some(before), is_marker) => VersionKind::Noncurrent {
                    is_marker,
                    since: time(versions[before].object.modified_ms),
                    newer,
                },
            };
            if index > 0 {
                newer += 1;
            }
            let tags = Tags::from_header(&version.tags).unwrap_or_default();
            let facts = VersionFacts {
                key: version.object.key.as_str(),
                size_bytes: version.object.size_bytes,
                tags: &tags,
                modified: time(version.object.modified_ms),
                kind,
            };
            if let Some(verdict) = self.rules.verdict(&facts, self.now) {
                ended += u64::from(self.end(version, verdict).await?);
            } else if version.object.storage_class != COLD
                && self.rules.moves(COLD.name(), &facts, self.now)
            {
                mover.add(version).await;
            }
        }
        Ok(ended)
    }

    /// Does what a rule says, unless the object has changed since it was looked at.
    async fn end(&self, version: &ListedVersion, verdict: Verdict<'_>) -> Result<bool, Fault> {
        let keeps = self.bucket.versioning != Versioning::Off;
        let (version_id, only_if_latest, event) = match verdict {
            Verdict::Expire { .. } if keeps => (
                None,
                Some(version.number),
                "LifecycleExpiration:DeleteMarkerCreated",
            ),
            Verdict::Expire { .. } => (None, Some(version.number), "LifecycleExpiration:Delete"),
            Verdict::RemoveMarker { .. } => (
                Some(version.version_id),
                Some(version.number),
                "LifecycleExpiration:Delete",
            ),
            Verdict::RemoveNoncurrent { .. } => {
                (Some(version.version_id), None, "LifecycleExpiration:Delete")
            }
        };
        let event = Event {
            name: event,
            key: &version.object.key,
            size_bytes: version.object.size_bytes,
            etag: &version.object.etag,
            who: WHO,
            request_id: "",
            now_ms: self.now_ms,
        };
        let deletion = Deletion {
            bucket: self.name.clone(),
            key: version.object.key.clone(),
            version_id,
            condition: WriteCondition::default(),
            only_if_latest,
            bypasses_governance: false,
            owner: version.object.owner.clone(),
            now_ms: self.now_ms,
            messages: messages_about(self.store, &self.bucket, &event),
        };
        match delete(self.store, self.bucket.id, deletion).await {
            Ok(_) => Ok(true),
            // A lock outlasts what the rules say.
            Err(Fault::NoSuchVersion | Fault::NoSuchBucket | Fault::ObjectLocked) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    async fn uploads(&self) -> Result<u64, Fault> {
        let mut ended = 0;
        let mut seek = Seek::From(Vec::new());
        let mut after = None;
        loop {
            let meta = &self.store.inner.meta;
            let batch = meta
                .uploads(self.bucket.id, &seek, after.take(), BATCH)
                .await?;
            let is_last = batch.len() < BATCH;
            if let Some(last) = batch.last() {
                seek = Seek::After(last.key.as_str().as_bytes().to_vec());
                after = Some((last.key.clone(), last.number));
            }
            for upload in batch {
                let facts = UploadFacts {
                    key: upload.key.as_str(),
                    initiated: time(upload.started_ms),
                };
                let end = self.rules.abort_at(&facts);
                if end.is_some_and(|(end, _)| end <= self.now)
                    && let Ok(released) = meta.abort_upload(upload.number).await?
                {
                    self.store.reclaim(released);
                    ended += 1;
                }
            }
            if is_last {
                return Ok(ended);
            }
        }
    }
}
