//! Changes to objects: the version rows (S3, "Versioning").

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::super::super::{
    Committed, Deleted, Deletion, NewVersion, ObjectChecksum, Refused, Source, StorageClass,
    Transition, VersionId, VersionKind, Versioning,
};
use super::super::columns::{
    kind, kind_number, lock, parts_to_row, signed, storage_class, storage_class_number,
    undecodable, version_id,
};
use super::super::outbox::enqueue;
use super::super::writer::Change;
use super::content::{self, RowPlace};
use super::{Changes, uploads};
use crate::origin::blobs::StoredBlob;
use crate::origin::conditional::{WriteCondition, WriteDecision};
use crate::origin::names::ObjectKey;
use crate::origin::retention::ObjectLock;

/// What a change needs to know of a version.
pub(super) struct Existing {
    pub(super) number: i64,
    pub(super) version_id: VersionId,
    pub(super) kind: VersionKind,
    pub(super) is_latest: bool,
    pub(super) size: i64,
    pub(super) etag: String,
    pub(super) storage_class: StorageClass,
    pub(super) lock: ObjectLock,
    pub(super) place: RowPlace,
}

macro_rules! existing_sql {
    ($rest:literal) => {
        concat!(
            "SELECT id, is_null, kind, is_latest, size, etag, storage_class, lock, inline, blob FROM versions ",
            $rest
        )
    };
}

fn existing(row: &SqliteRow) -> Result<Existing, sqlx::Error> {
    Ok(Existing {
        number: row.try_get("id")?,
        version_id: version_id(row).map_err(undecodable)?,
        kind: kind(row).map_err(undecodable)?,
        is_latest: row.try_get("is_latest")?,
        size: row.try_get("size")?,
        etag: row.try_get("etag")?,
        storage_class: storage_class(row).map_err(undecodable)?,
        lock: lock(row).map_err(undecodable)?,
        place: RowPlace::of(row)?,
    })
}

impl Existing {
    /// What conditions are decided against: a delete marker is no object.
    pub(super) fn object_etag(&self) -> Option<&str> {
        (self.kind != VersionKind::DeleteMarker).then_some(self.etag.as_str())
    }
}

pub(super) async fn latest(
    changes: &mut Changes<'_>,
    bucket: i64,
    key: &ObjectKey,
) -> Result<Option<Existing>, sqlx::Error> {
    let row = sqlx::query(existing_sql!(
        "WHERE bucket = ? AND key = ? ORDER BY id DESC LIMIT 1"
    ))
    .bind(bucket)
    .bind(key.as_str().as_bytes())
    .fetch_optional(changes.sql())
    .await?;
    row.as_ref().map(existing).transpose()
}

pub(super) async fn by_id(
    changes: &mut Changes<'_>,
    bucket: i64,
    key: &ObjectKey,
    version_id: VersionId,
) -> Result<Option<Existing>, sqlx::Error> {
    let query = match version_id {
        VersionId::Number(number) => sqlx::query(existing_sql!(
            "WHERE id = ? AND bucket = ? AND key = ? AND is_null = 0"
        ))
        .bind(number),
        VersionId::Null => sqlx::query(existing_sql!(
            "WHERE is_null = ? AND bucket = ? AND key = ?"
        ))
        .bind(1),
    };
    let row = query
        .bind(bucket)
        .bind(key.as_str().as_bytes())
        .fetch_optional(changes.sql())
        .await?;
    row.as_ref().map(existing).transpose()
}

pub(super) fn decide(
    condition: &WriteCondition,
    current: Option<&Existing>,
) -> Result<(), Refused> {
    match condition.decide(current.and_then(Existing::object_etag)) {
        WriteDecision::Proceed => Ok(()),
        WriteDecision::PreconditionFailed(condition) => Err(Refused::PreconditionFailed(condition)),
        WriteDecision::NoSuchKey => Err(Refused::NoSuchKey),
    }
}

pub(in super::super) struct Put(pub(in super::super) Box<NewVersion>);

impl Change for Put {
    type Outcome = Result<Committed, Refused>;
    async fn apply(self, changes: &mut Changes<'_>) -> Result<Self::Outcome, sqlx::Error> {
        let new = *self.0;
        let Some((bucket, versioning)) = changes.bucket(&new.bucket).await? else {
            return Ok(Err(Refused::NoSuchBucket));
        };
        let current = latest(changes, bucket, &new.key).await?;
        if let Err(refused) = decide(&new.condition, current.as_ref()) {
            return Ok(Err(refused));
        }
        // Everything that can refuse comes before the first write: the rest of the batch goes on.
        let size = signed(new.size_bytes);
        let source = match resolve(
            changes,
            new.source,
            bucket,
            &new.key,
            size,
            new.storage_class,
        )
        .await?
        {
            Ok(source) => source,
            Err(refused) => return Ok(Err(refused)),
        };
        changes.touch_object(bucket, &new.key);
        let number = changes.next_row().await?;
        let (place, mut released) = match source {
            Resolved::Written(content) => {
                let place = content::name_written(changes, number, content).await?;
                (place, Vec::new())
            }
            Resolved::Extents(extents) => (
                content::share_all(changes, number, extents).await?,
                Vec::new(),
            ),
            Resolved::Upload(upload) => uploads::complete(changes, upload, number).await?,
        };
        released.extend(step_aside(changes, bucket, &new.key, current, versioning).await?);
        let row = NewRow {
            number,
            bucket,
            key: &new.key,
            is_null: versioning != Versioning::Enabled,
            kind: new.kind,
            size,
            etag: &new.etag,
            modified_ms: new.modified_ms,
            checksum: Some(&new.checksum),
            owner: &new.owner,
            fields: &new.fields,
            tags: &new.tags,
            acl: &new.acl,
            storage_class: new.storage_class,
            lock: new.lock,
            parts: parts_to_row(&new.parts),
            place,
        };
        let id = insert(changes, row).await?;
        enqueue(changes, &new.messages, &id.to_string()).await?;
        Ok(Ok(Committed {
            bucket,
            version_id: (versioning != Versioning::Off).then_some(id),
            released,
        }))
    }
}

pub(in super::super) struct Move(pub(in super::super) Box<Transition>);

impl Change for Move {
    type Outcome = Result<Vec<StoredBlob>, Refused>;
    async fn apply(self, changes: &mut Changes<'_>) -> Result<Self::Outcome, sqlx::Error> {
        let new = *self.0;
        let row = sqlx::query(existing_sql!("WHERE id = ?"))
            .bind(new.number)
            .fetch_optional(changes.sql())
            .await?;
        let Some(version) = row.as_ref().map(existing).transpose()? else {
            return Ok(Err(Refused::NoSuchVersion));
        };
        // An object's bytes never change, so those that were written are still its own.
        if version.kind != VersionKind::Object || version.storage_class != new.from {
            return Ok(Err(Refused::NoSuchVersion));
        }
        changes.touch_object(new.bucket, &new.key);
        let (place, released) = match new.content {
            None => (version.place, Vec::new()),
            Some(content) => {
                let released = content::release(changes, new.number, &version.place).await?;
                let place = content::name_written(changes, new.number, content).await?;
                (place, released)
            }
        };
        sqlx::query("UPDATE versions SET storage_class = ?, inline = ?, blob = ? WHERE id = ?")
            .bind(storage_class_number(new.to))
            .bind(place.inline)
            .bind(place.blob)
            .bind(new.number)
            .execute(changes.sql())
            .await?;
        enqueue(changes, &new.messages, &version.version_id.to_string()).await?;
        Ok(Ok(released))
    }
}

/// A source that was found to be there.
enum Resolved {
    Written(crate::origin::blobs::Content),
    Extents(Vec<content::RowExtent>),
    Upload(uploads::Completion),
}

async fn resolve(
    changes: &mut Changes<'_>,
    source: Source,
    bucket: i64,
    key: &ObjectKey,
    size: i64,
    class: StorageClass,
) -> Result<Result<Resolved, Refused>, sqlx::Error> {
    Ok(match source {
        Source::Written(content) => Ok(Resolved::Written(content)),
        Source::Version { number } => {
            let row = sqlx::query(existing_sql!("WHERE id = ?"))
                .bind(number)
                .fetch_optional(changes.sql())
                .await?;
            match row.as_ref().map(existing).transpose()? {
                None => Err(Refused::NoSuchVersion),
                Some(version) if version.storage_class != class => Err(Refused::Moved),
                Some(version) => {
                    // A stream may have grown since it was looked at.
                    let extents = content::extents_of(
                        changes,
                        version.number,
                        &version.place,
                        0,
                        size.min(version.size),
                    )
                    .await?;
                    Ok(Resolved::Extents(extents))
                }
            }
        }
        Source::Upload { number, parts } => {
            uploads::find_parts(changes, number, bucket, key, parts)
                .await?
                .map(Resolved::Upload)
        }
    })
}

/// Makes room for a new newest version: in a bucket that keeps versions the old ones stay, else the `null` version
/// goes. Gives back what was released.
async fn step_aside(
    changes: &mut Changes<'_>,
    bucket: i64,
    key: &ObjectKey,
    current: Option<Existing>,
    versioning: Versioning,
) -> Result<Vec<StoredBlob>, sqlx::Error> {
    let Some(current) = current else {
        return Ok(Vec::new());
    };
    let current_stays = versioning == Versioning::Enabled
        || (versioning == Versioning::Suspended && current.version_id != VersionId::Null);
    if !current_stays {
        return remove(changes, &current).await;
    }
    sqlx::query("UPDATE versions SET is_latest = 0 WHERE id = ?")
        .bind(current.number)
        .execute(changes.sql())
        .await?;
    if versioning == Versioning::Suspended
        && let Some(null) = by_id(changes, bucket, key, VersionId::Null).await?
    {
        return remove(changes, &null).await;
    }
    Ok(Vec::new())
}

async fn remove(
    changes: &mut Changes<'_>,
    version: &Existing,
) -> Result<Vec<StoredBlob>, sqlx::Error> {
    sqlx::query("DELETE FROM versions WHERE id = ?")
        .bind(version.number)
        .execute(changes.sql())
        .await?;
    if version.kind == VersionKind::DeleteMarker {
        return Ok(Vec::new());
    }
    content::release(changes, version.number, &version.place).await
}

struct NewRow<'a> {
    number: i64,
    bucket: i64,
    key: &'a ObjectKey,
    is_null: bool,
    kind: VersionKind,
    size: i64,
    etag: &'a str,
    modified_ms: i64,
    checksum: Option<&'a ObjectChecksum>,
    owner: &'a str,
    fields: &'a [u8],
    tags: &'a str,
    acl: &'a [u8],
    storage_class: StorageClass,
    lock: ObjectLock,
    parts: Vec<u8>,
    place: RowPlace,
}

async fn insert(changes: &mut Changes<'_>, row: NewRow<'_>) -> Result<VersionId, sqlx::Error> {
    let checksum = row.checksum;
    sqlx::query(
        "INSERT INTO versions (id, bucket, key, is_null, kind, is_latest, size, etag, modified_ms,
            checksum_algorithm, checksum_type, checksum, owner, fields, tags, acl, storage_class, lock, parts, inline, blob)
         VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(row.number)
    .bind(row.bucket)
    .bind(row.key.as_str().as_bytes())
    .bind(row.is_null)
    .bind(kind_number(row.kind))
    .bind(row.size)
    .bind(row.etag)
    .bind(row.modified_ms)
    .bind(checksum.map(|c| c.checksum.algorithm().s3_name()))
    .bind(checksum.map(|c| c.kind.name()))
    .bind(checksum.map(|c| c.checksum.bytes()))
    .bind(row.owner)
    .bind(row.fields)
    .bind(row.tags)
    .bind(row.acl)
    .bind(storage_class_number(row.storage_class))
    .bind(row.lock.to_row())
    .bind(row.parts)
    .bind(row.place.inline)
    .bind(row.place.blob)
    .execute(changes.sql())
    .await?;
    Ok(if row.is_null {
        VersionId::Null
    } else {
        VersionId::Number(row.number)
    })
}

pub(in super::super) struct Delete(pub(in super::super) Box<Deletion>);

impl Change for Delete {
    type Outcome = Result<Deleted, Refused>;
    async fn apply(self, changes: &mut Changes<'_>) -> Result<Self::Outcome, sqlx::Error> {
        let deletion = *self.0;
        let Some((bucket, versioning)) = changes.bucket(&deletion.bucket).await? else {
            return Ok(Err(Refused::NoSuchBucket));
        };
        let current = latest(changes, bucket, &deletion.key).await?;
        if let Some(seen) = deletion.only_if_latest
            && current.as_ref().map(|current| current.number) != Some(seen)
        {
            return Ok(Err(Refused::NoSuchVersion));
        }
        let deleted = match deletion.version_id {
            Some(id) => delete_version(changes, bucket, &deletion, id).await?,
            None => delete_latest(changes, bucket, versioning, &deletion, current).await?,
        };
        if let Ok(deleted) = &deleted {
            let version = deleted.version_id.map(|id| id.to_string());
            enqueue(changes, &deletion.messages, &version.unwrap_or_default()).await?;
        }
        Ok(deleted)
    }
}

/// Removes one version for good. The next older one becomes the newest.
async fn delete_version(
    changes: &mut Changes<'_>,
    bucket: i64,
    deletion: &Deletion,
    id: VersionId,
) -> Result<Result<Deleted, Refused>, sqlx::Error> {
    let version = by_id(changes, bucket, &deletion.key, id).await?;
    if let Err(refused) = decide(&deletion.condition, version.as_ref()) {
        return Ok(Err(refused));
    }
    let mut deleted = Deleted {
        version_id: Some(id),
        ..Deleted::default()
    };
    // S3 says yes to a version that is gone.
    let Some(version) = version else {
        return Ok(Ok(deleted));
    };
    if version
        .lock
        .keeps(deletion.now_ms, deletion.bypasses_governance)
    {
        return Ok(Err(Refused::Locked));
    }
    changes.touch_object(bucket, &deletion.key);
    deleted.delete_marker = version.kind == VersionKind::DeleteMarker;
    deleted.released = remove(changes, &version).await?;
    if version.is_latest {
        sqlx::query(
            "UPDATE versions SET is_latest = 1 WHERE id =
                (SELECT id FROM versions WHERE bucket = ? AND key = ? ORDER BY id DESC LIMIT 1)",
        )
        .bind(bucket)
        .bind(deletion.key.as_str().as_bytes())
        .execute(changes.sql())
        .await?;
    }
    Ok(Ok(deleted))
}

/// Deletes as S3 does without a version id.
async fn delete_latest(
    changes: &mut Changes<'_>,
    bucket: i64,
    versioning: Versioning,
    deletion: &Deletion,
    current: Option<Existing>,
) -> Result<Result<Deleted, Refused>, sqlx::Error> {
    if let Err(refused) = decide(&deletion.condition, current.as_ref()) {
        return Ok(Err(refused));
    }
    if versioning == Versioning::Off && current.is_none() {
        return Ok(Ok(Deleted::default()));
    }
    changes.touch_object(bucket, &deletion.key);
    let released = step_aside(changes, bucket, &deletion.key, current, versioning).await?;
    if versioning == Versioning::Off {
        return Ok(Ok(Deleted {
            released,
            ..Deleted::default()
        }));
    }
    let number = changes.next_row().await?;
    let marker = NewRow {
        number,
        bucket,
        key: &deletion.key,
        is_null: versioning != Versioning::Enabled,
        kind: VersionKind::DeleteMarker,
        size: 0,
        etag: "",
        modified_ms: deletion.now_ms,
        checksum: None,
        owner: &deletion.owner,
        fields: &[],
        tags: "",
        acl: &[],
        storage_class: StorageClass::default(),
        lock: ObjectLock::default(),
        parts: Vec::new(),
        place: RowPlace::default(),
    };
    let id = insert(changes, marker).await?;
    Ok(Ok(Deleted {
        version_id: Some(id),
        delete_marker: true,
        released,
    }))
}
