//! HeadBucket: `HEAD /bucket` (S3 API, HeadBucket).

use http::StatusCode;

use super::field_value;
use crate::origin::names::BucketName;
use crate::origin::reply::{self, Reply};
use crate::origin::reply_error::Fault;
use crate::origin::store::Store;

/// Answers 200 with the region when the bucket exists.
///
/// # Errors
/// [`Fault::NoSuchBucket`] or [`Fault::Meta`].
pub async fn run(store: &Store, name: &BucketName) -> Result<Reply, Fault> {
    store.bucket(name).await?;
    let mut reply = reply::empty(StatusCode::OK);
    reply
        .headers_mut()
        .insert("x-amz-bucket-region", field_value(&store.inner.region));
    Ok(reply)
}
