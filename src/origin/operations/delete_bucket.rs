//! DeleteBucket: `DELETE /bucket` (S3 API, DeleteBucket).

use http::StatusCode;

use crate::origin::fault::Fault;
use crate::origin::meta::BucketDeleted;
use crate::origin::names::BucketName;
use crate::origin::reply::{self, Reply};
use crate::origin::store::Store;

/// Removes an empty bucket.
///
/// # Errors
/// [`Fault::NoSuchBucket`], [`Fault::BucketNotEmpty`] or [`Fault::Meta`].
pub async fn run(store: &Store, name: BucketName) -> Result<Reply, Fault> {
    match store.inner.meta.delete_bucket(&name).await? {
        BucketDeleted::Deleted { released } => {
            store.reclaim(released);
            Ok(reply::empty(StatusCode::NO_CONTENT))
        }
        BucketDeleted::NoSuchBucket => Err(Fault::NoSuchBucket),
        BucketDeleted::NotEmpty => Err(Fault::BucketNotEmpty),
    }
}
