//! HeadBucket: `HEAD /bucket` (S3 API, HeadBucket).

use http::StatusCode;

use super::field_value;
use crate::origin::fault::Fault;
use crate::origin::names::BucketName;
use crate::origin::reply::{self, Reply};
use crate::origin::store::Store;

/// Says whether the bucket is there, and in which region.
///
/// # Errors
/// [`Fault::NoSuchBucket`] or [`Fault::Meta`].
pub async fn run(store: &Store, bucket: &BucketName) -> Result<Reply, Fault> {
    store.bucket(bucket).await?;
    let mut reply = reply::empty(StatusCode::OK);
    let region = field_value(&store.inner.region);
    reply.headers_mut().insert("x-amz-bucket-region", region);
    Ok(reply)
}
