//! AbortMultipartUpload: `DELETE /bucket/key?uploadId=ID` (S3 API, AbortMultipartUpload).

use http::StatusCode;

use super::find_upload;
use crate::origin::ask::Ask;
use crate::origin::fault::Fault;
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::reply::{self, Reply};

/// Ends an upload and frees its parts.
///
/// # Errors
/// [`Fault::NoSuchUpload`], [`Fault::Meta`].
pub async fn run(ask: &Ask<'_>, bucket: &BucketName, key: &ObjectKey) -> Result<Reply, Fault> {
    let upload = find_upload(ask, bucket, key).await?;
    let store = ask.store.clone();
    // A task of its own: the client may go, the parts are freed.
    let task = tokio::spawn(async move {
        let released = store.inner.meta.abort_upload(upload.number).await??;
        store.reclaim(released);
        Ok::<_, Fault>(())
    });
    task.await.map_err(|_| Fault::TaskDied)??;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
