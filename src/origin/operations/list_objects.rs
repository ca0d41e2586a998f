//! ListObjects: `GET /bucket` (S3 API, ListObjects): the first version of the listing, with markers instead of tokens.

use http::StatusCode;

use super::list_objects_v2::{fill, write_objects, write_prefixes};
use super::{Encoding, marker_group, page_bound};
use crate::origin::ask::Ask;
use crate::origin::fault::Fault;
use crate::origin::listing::{Request, Token};
use crate::origin::names::BucketName;
use crate::origin::reply::{self, Reply};
use crate::origin::xml::{Document, NAMESPACE};

/// Answers with one page.
///
/// # Errors
/// [`Fault::NoSuchBucket`], a parameter that cannot be honoured, or [`Fault::Meta`].
pub async fn run(ask: &Ask<'_>, bucket: &BucketName) -> Result<Reply, Fault> {
    let query = ask.fields.query;
    let encoding = Encoding::of(query)?;
    let prefix = query.get("prefix")?.unwrap_or_default().to_owned();
    let delimiter = query.get("delimiter")?.unwrap_or_default().to_owned();
    let marker = query.get("marker")?.unwrap_or_default().to_owned();
    let request = Request {
        prefix: prefix.clone(),
        delimiter: delimiter.clone(),
        start_after: marker.clone(),
        resume: marker_group(&prefix, &delimiter, &marker),
        max_entries: page_bound(query, "max-keys")?,
    };
    let row = ask.store.bucket(bucket).await?;
    let max_entries = request.max_entries;
    let (page, objects) = fill(ask.store, &row, request).await?;
    let mut document = Document::new("ListBucketResult", Some(NAMESPACE));
    document.text("Name", &row.name);
    document.text("Prefix", &encoding.write(&prefix));
    document.text("Marker", &encoding.write(&marker));
    if !delimiter.is_empty() {
        document.text("Delimiter", &encoding.write(&delimiter));
    }
    encoding.tell(&mut document);
    document.text("MaxKeys", &max_entries.to_string());
    let next = page.next_token();
    document.text("IsTruncated", &next.is_some().to_string());
    // S3 tells it only with a delimiter; without one clients take the last key, which it is as well.
    if let Some(Token::Key(last) | Token::Prefix(last)) = &next {
        document.text("NextMarker", &encoding.write(last));
    }
    write_objects(&mut document, &row, &objects, encoding, true)?;
    write_prefixes(&mut document, page.common_prefixes(), encoding);
    Ok(reply::xml(StatusCode::OK, document))
}
