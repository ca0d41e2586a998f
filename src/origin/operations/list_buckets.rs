//! ListBuckets: `GET /` (S3 API, ListBuckets).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;

use super::{write_owner, xml_time};
use crate::origin::ask::Ask;
use crate::origin::fault::Fault;
use crate::origin::listing::ForeignToken;
use crate::origin::permission;
use crate::origin::reply::{self, Reply};
use crate::origin::xml::{Document, NAMESPACE};

/// The most buckets on a page (S3, ListBuckets `max-buckets`).
const PAGE_MAX_BUCKETS: usize = 10_000;

/// Answers with the buckets that the caller may use, in the order of names.
///
/// # Errors
/// [`Fault::Meta`], or a parameter that cannot be honoured.
pub async fn run(ask: &Ask<'_>) -> Result<Reply, Fault> {
    let query = ask.fields.query;
    let name = "max-buckets";
    let most = match query.get(name)? {
        None => PAGE_MAX_BUCKETS,
        Some(number) => number
            .parse()
            .ok()
            .filter(|number| (1..=PAGE_MAX_BUCKETS).contains(number))
            .ok_or(Fault::InvalidParameter { name })?,
    };
    let prefix = query.get("prefix")?.unwrap_or_default();
    let after = match query.get("continuation-token")? {
        None => String::new(),
        Some(token) => URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|name| String::from_utf8(name).ok())
            .ok_or(ForeignToken)?,
    };
    // All buckets are in one region: of another one there are none.
    let region = query.get("bucket-region")?;
    let is_elsewhere = region.is_some_and(|region| region != ask.store.inner.region);
    let mut buckets = ask.store.inner.meta.buckets().await?;
    buckets.retain(|bucket| {
        !is_elsewhere
            && bucket.name > after
            && bucket.name.starts_with(prefix)
            && permission::sees(ask.store, ask.caller, bucket)
    });
    let token = (buckets.len() > most).then(|| buckets[most - 1].name.clone());
    buckets.truncate(most);
    let mut document = Document::new("ListAllMyBucketsResult", Some(NAMESPACE));
    write_owner(&mut document, "Owner", ask.owner());
    let mut lines = Vec::with_capacity(buckets.len());
    for bucket in buckets {
        lines.push((bucket.name, xml_time(bucket.created_ms)?));
    }
    document.element("Buckets", |document| {
        for (name, created) in &lines {
            document.element("Bucket", |document| {
                document.text("Name", name);
                document.text("CreationDate", created);
                document.text("BucketRegion", &ask.store.inner.region);
            });
        }
    });
    if let Some(last) = token {
        document.text("ContinuationToken", &URL_SAFE_NO_PAD.encode(last));
    }
    if !prefix.is_empty() {
        document.text("Prefix", prefix);
    }
    Ok(reply::xml(StatusCode::OK, document))
}
