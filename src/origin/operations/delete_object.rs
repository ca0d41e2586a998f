//! DeleteObject: `DELETE /bucket/key` (S3 API, DeleteObject). 204 also when there was nothing to delete.

use http::StatusCode;

use crate::origin::conditional::WriteCondition;
use crate::origin::fields::RequestFields;
use crate::origin::meta::ObjectDeleted;
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::reply::{self, Reply};
use crate::origin::reply_error::Fault;
use crate::origin::store::Store;

/// Removes the object.
///
/// # Errors
/// [`Fault::NoSuchBucket`], a failed precondition, or [`Fault::Meta`].
pub async fn run(
    store: &Store,
    bucket: BucketName,
    key: ObjectKey,
    fields: &RequestFields<'_>,
) -> Result<Reply, Fault> {
    let condition = WriteCondition::from_fields(fields.headers)?;
    let store = store.clone();
    // A task of its own: once asked for, the removal and the release of the blob run to their end even when
    // the client goes away.
    let task = tokio::spawn(async move {
        let inner = &store.inner;
        match inner.writer.delete(bucket, key, condition).await? {
            ObjectDeleted::Deleted { released } => {
                store.remove_blobs(released).await;
                Ok(reply::empty(StatusCode::NO_CONTENT))
            }
            ObjectDeleted::NoSuchBucket => Err(Fault::NoSuchBucket),
            ObjectDeleted::PreconditionFailed(condition) => {
                Err(Fault::PreconditionFailed(condition))
            }
            ObjectDeleted::NoSuchKey => Err(Fault::NoSuchKey),
        }
    });
    task.await.map_err(|_| Fault::TaskDied)?
}
