//! ListBuckets: `GET /` (S3 API, ListBuckets). Every credential sees every bucket.

use http::StatusCode;

use super::xml_time;
use crate::origin::reply::{self, Reply};
use crate::origin::reply_error::Fault;
use crate::origin::store::Store;
use crate::origin::xml::{Document, NAMESPACE};

/// Answers with every bucket in the order of names.
///
/// # Errors
/// [`Fault::Meta`].
pub async fn run(store: &Store, access_key_id: &str) -> Result<Reply, Fault> {
    let buckets = store.inner.reader.buckets().await?;
    let mut document = Document::new("ListAllMyBucketsResult", Some(NAMESPACE));
    document.element("Owner", |document| {
        document.text("ID", access_key_id);
        document.text("DisplayName", access_key_id);
    });
    let mut lines = Vec::with_capacity(buckets.len());
    for bucket in buckets {
        lines.push((bucket.name, xml_time(bucket.created_ms)?));
    }
    document.element("Buckets", |document| {
        for (name, created) in &lines {
            document.element("Bucket", |document| {
                document.text("Name", name);
                document.text("CreationDate", created);
            });
        }
    });
    Ok(reply::xml(StatusCode::OK, document))
}
