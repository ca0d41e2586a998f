//! DeleteObject: `DELETE /bucket/key` (S3 API, DeleteObject). 204 also when there was nothing to delete.

use http::{HeaderValue, StatusCode};

use super::{add_version, put_object};
use crate::origin::ask::Ask;
use crate::origin::conditional::WriteCondition;
use crate::origin::fault::Fault;
use crate::origin::meta::{Deleted, Deletion, VersionId, Versioning};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::permission::{self, Brought};
use crate::origin::reply::{self, Reply};
use crate::origin::store::Store;

/// Removes the object, or the version that is named.
///
/// # Errors
/// [`Fault::NoSuchBucket`], a failed precondition, or [`Fault::Meta`].
pub async fn run(ask: &Ask<'_>, bucket: BucketName, key: ObjectKey) -> Result<Reply, Fault> {
    let condition = WriteCondition::from_fields(ask.fields.headers)?;
    let version_id = ask.version_id()?;
    let row = ask.store.bucket(&bucket).await?;
    let event = removal(version_id, row.versioning);
    let deletion = Deletion {
        version_id,
        condition,
        only_if_latest: None,
        bypasses_governance: permission::bypasses_governance(
            ask,
            &bucket,
            &key,
            &Brought::default(),
        )
        .await?,
        owner: ask.owner().to_owned(),
        now_ms: ask.store.now_ms()?,
        messages: put_object::messages(ask, &row, &key, event)?(0, ""),
        bucket,
        key,
    };
    let store = ask.store.clone();
    let number = row.id;
    // A task of its own: once asked for, the removal and the release of the blobs run to their end even when the client
    // goes away.
    let task = tokio::spawn(async move { delete(&store, number, deletion).await });
    let deleted = task.await.map_err(|_| Fault::TaskDied)??;
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    let headers = reply.headers_mut();
    add_version(headers, deleted.version_id);
    if deleted.delete_marker {
        headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    }
    Ok(reply)
}

/// What S3 calls a deletion in its events: for good, or by a delete marker.
pub(super) fn removal(version_id: Option<VersionId>, versioning: Versioning) -> &'static str {
    match (version_id, versioning) {
        (Some(_), _) | (None, Versioning::Off) => "ObjectRemoved:Delete",
        (None, _) => "ObjectRemoved:DeleteMarkerCreated",
    }
}

/// Commits a deletion and frees what it released.
///
/// # Errors
/// As [`run`].
pub async fn delete(
    store: &Store,
    bucket_number: i64,
    deletion: Deletion,
) -> Result<Deleted, Fault> {
    let key = deletion.key.clone();
    let has_messages = !deletion.messages.is_empty();
    let mut deleted = store.inner.meta.delete(deletion).await??;
    let released = std::mem::take(&mut deleted.released);
    store.after_commit(bucket_number, &key, released, has_messages);
    Ok(deleted)
}
