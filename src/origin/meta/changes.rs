//! What each change does inside the transaction: it decides against committed rows, then writes.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use super::content;
use super::writer::{BucketCreated, BucketDeleted, NewObject, ObjectDeleted, ObjectPut};
use crate::origin::blobs::{Content, StoredBlob};
use crate::origin::conditional::{WriteCondition, WriteDecision};
use crate::origin::names::{BucketName, ObjectKey};

/// The transaction of a batch.
pub(super) type Changes<'c> = Transaction<'c, Sqlite>;

async fn bucket_id(
    changes: &mut Changes<'_>,
    name: &BucketName,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT id FROM buckets WHERE name = ?")
        .bind(name.as_str())
        .fetch_optional(&mut **changes)
        .await
}

/// Makes a bucket unless it exists.
pub(super) async fn create_bucket(
    changes: &mut Changes<'_>,
    name: &BucketName,
    created_ms: i64,
) -> Result<BucketCreated, sqlx::Error> {
    if bucket_id(changes, name).await?.is_some() {
        return Ok(BucketCreated::AlreadyExists);
    }
    sqlx::query("INSERT INTO buckets (name, created_ms) VALUES (?, ?)")
        .bind(name.as_str())
        .bind(created_ms)
        .execute(&mut **changes)
        .await?;
    Ok(BucketCreated::Created)
}

/// Removes a bucket unless it has objects.
pub(super) async fn delete_bucket(
    changes: &mut Changes<'_>,
    name: &BucketName,
) -> Result<BucketDeleted, sqlx::Error> {
    let Some(bucket) = bucket_id(changes, name).await? else {
        return Ok(BucketDeleted::NoSuchBucket);
    };
    let occupied: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1")
            .bind(bucket)
            .fetch_optional(&mut **changes)
            .await?;
    if occupied.is_some() {
        return Ok(BucketDeleted::NotEmpty);
    }
    sqlx::query("DELETE FROM buckets WHERE id = ?")
        .bind(bucket)
        .execute(&mut **changes)
        .await?;
    Ok(BucketDeleted::Deleted)
}

/// Names a durable blob: the object exists once the transaction is committed.
pub(super) async fn put(
    changes: &mut Changes<'_>,
    object: NewObject,
) -> Result<ObjectPut, sqlx::Error> {
    let Some(bucket) = bucket_id(changes, &object.bucket).await? else {
        return Ok(ObjectPut::NoSuchBucket);
    };
    let current = current_object(changes, bucket, &object.key).await?;
    match object
        .condition
        .decide(current.as_ref().map(|c| c.etag.as_str()))
    {
        WriteDecision::Proceed => {}
        WriteDecision::PreconditionFailed(condition) => {
            return Ok(ObjectPut::PreconditionFailed(condition));
        }
        WriteDecision::NoSuchKey => return Ok(ObjectPut::NoSuchKey),
    }
    let length = i64::try_from(object.length_bytes).expect("an object has at most 5 GiB");
    for blob in blobs_of(&object.content) {
        sqlx::query("INSERT INTO blobs (id, pack) VALUES (?, ?)")
            .bind(blob.id.row())
            .bind(blob.place.pack().map(|pack| pack.row()))
            .execute(&mut **changes)
            .await?;
    }
    sqlx::query(
        "INSERT OR REPLACE INTO objects
         (bucket, key, size, etag, modified_ms, checksum_algorithm, checksum, content, fields)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(bucket)
    .bind(object.key.as_str().as_bytes())
    .bind(length)
    .bind(&object.etag)
    .bind(object.modified_ms)
    .bind(object.checksum.algorithm().s3_name())
    .bind(object.checksum.bytes())
    .bind(content::to_bytes(&object.content))
    .bind(&object.fields)
    .execute(&mut **changes)
    .await?;
    let released = current.map_or(Vec::new(), |current| current.blobs);
    release(changes, &released).await?;
    Ok(ObjectPut::Committed { released })
}

/// Takes the row of an object away.
pub(super) async fn delete(
    changes: &mut Changes<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
    condition: &WriteCondition,
) -> Result<ObjectDeleted, sqlx::Error> {
    let Some(bucket) = bucket_id(changes, bucket).await? else {
        return Ok(ObjectDeleted::NoSuchBucket);
    };
    let current = current_object(changes, bucket, key).await?;
    match condition.decide(current.as_ref().map(|c| c.etag.as_str())) {
        WriteDecision::Proceed => {}
        WriteDecision::PreconditionFailed(condition) => {
            return Ok(ObjectDeleted::PreconditionFailed(condition));
        }
        WriteDecision::NoSuchKey => return Ok(ObjectDeleted::NoSuchKey),
    }
    sqlx::query("DELETE FROM objects WHERE bucket = ? AND key = ?")
        .bind(bucket)
        .bind(key.as_str().as_bytes())
        .execute(&mut **changes)
        .await?;
    let released = current.map_or(Vec::new(), |current| current.blobs);
    release(changes, &released).await?;
    Ok(ObjectDeleted::Deleted { released })
}

struct Current {
    etag: String,
    blobs: Vec<StoredBlob>,
}

fn blobs_of(content: &Content) -> &[StoredBlob] {
    match content {
        Content::Inline(_) => &[],
        Content::Blobs(blobs) => blobs,
    }
}

async fn current_object(
    changes: &mut Changes<'_>,
    bucket: i64,
    key: &ObjectKey,
) -> Result<Option<Current>, sqlx::Error> {
    sqlx::query("SELECT etag, content FROM objects WHERE bucket = ? AND key = ?")
        .bind(bucket)
        .bind(key.as_str().as_bytes())
        .try_map(|row: SqliteRow| {
            Ok(Current {
                etag: row.try_get("etag")?,
                blobs: content::from_bytes(row.try_get("content")?)
                    .map_or(Vec::new(), |content| blobs_of(&content).to_vec()),
            })
        })
        .fetch_optional(&mut **changes)
        .await
}

/// Forgets blobs in the transaction that takes away their last names: the proof that their files may go.
async fn release(changes: &mut Changes<'_>, blobs: &[StoredBlob]) -> Result<(), sqlx::Error> {
    for blob in blobs {
        sqlx::query("DELETE FROM blobs WHERE id = ?")
            .bind(blob.id.row())
            .execute(&mut **changes)
            .await?;
    }
    Ok(())
}
