//! GetBucketLocation: `GET /bucket?location` (S3 API, GetBucketLocation). Clients ask it to choose a region.

use http::StatusCode;

use crate::origin::fault::Fault;
use crate::origin::names::BucketName;
use crate::origin::reply::{self, Reply};
use crate::origin::store::Store;
use crate::origin::xml::{Document, NAMESPACE};

/// Answers with the region; S3 writes us-east-1 as an empty element.
///
/// # Errors
/// [`Fault::NoSuchBucket`] or [`Fault::Meta`].
pub async fn run(store: &Store, name: &BucketName) -> Result<Reply, Fault> {
    store.bucket(name).await?;
    let mut document = Document::new("LocationConstraint", Some(NAMESPACE));
    let region = store.inner.region.as_str();
    if region != "us-east-1" {
        document.bare_text(region);
    }
    Ok(reply::xml(StatusCode::OK, document))
}
