//! ListObjectsV2: `GET /bucket?list-type=2` (S3 API, ListObjectsV2). What a page holds is decided in
//! [`crate::origin::listing`]; this file asks the database and writes the document.

use http::StatusCode;

use super::{Encoding, page_bound, write_owner, xml_time};
use crate::origin::ask::Ask;
use crate::origin::fault::Fault;
use crate::origin::listing::{Offer, Page, Request, Seek, Token};
use crate::origin::meta::{BucketRow, ListedObject};
use crate::origin::names::BucketName;
use crate::origin::query::Query;
use crate::origin::reply::{self, Reply};
use crate::origin::store::Store;
use crate::origin::xml::{Document, NAMESPACE};

/// Answers with one page.
///
/// # Errors
/// [`Fault::NoSuchBucket`], a parameter that cannot be honoured, or [`Fault::Meta`].
pub async fn run(ask: &Ask<'_>, bucket: &BucketName) -> Result<Reply, Fault> {
    let (store, query) = (ask.store, ask.fields.query);
    let encoding = Encoding::of(query)?;
    let with_owner = match query.get("fetch-owner")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            return Err(Fault::InvalidParameter {
                name: "fetch-owner",
            });
        }
    };
    let request = request(query)?;
    let bucket = store.bucket(bucket).await?;
    let (page, objects) = fill(store, &bucket, request.clone()).await?;

    let mut document = Document::new("ListBucketResult", Some(NAMESPACE));
    document.text("Name", &bucket.name);
    document.text("Prefix", &encoding.write(&request.prefix));
    if !request.delimiter.is_empty() {
        document.text("Delimiter", &encoding.write(&request.delimiter));
    }
    if !request.start_after.is_empty() {
        document.text("StartAfter", &encoding.write(&request.start_after));
    }
    if let Some(token) = query.get("continuation-token")? {
        document.text("ContinuationToken", token);
    }
    encoding.tell(&mut document);
    document.text("KeyCount", &page.entries().to_string());
    document.text("MaxKeys", &request.max_entries.to_string());
    let truncated = page.next_token();
    document.text("IsTruncated", &truncated.is_some().to_string());
    if let Some(token) = truncated {
        document.text("NextContinuationToken", &token.encode());
    }
    write_objects(&mut document, &bucket, &objects, encoding, with_owner)?;
    write_prefixes(&mut document, page.common_prefixes(), encoding);
    Ok(reply::xml(StatusCode::OK, document))
}

/// Writes a page's objects, which are of `bucket`.
pub(super) fn write_objects(
    document: &mut Document,
    bucket: &BucketRow,
    objects: &[ListedObject],
    encoding: Encoding,
    with_owner: bool,
) -> Result<(), Fault> {
    for object in objects {
        let modified = xml_time(object.modified_ms)?;
        let owner = bucket.owner_of(&object.owner)?;
        document.element("Contents", |document| {
            document.text("Key", &encoding.write(object.key.as_str()));
            document.text("LastModified", &modified);
            write_bytes(document, object);
            if with_owner {
                write_owner(document, "Owner", owner);
            }
        });
    }
    Ok(())
}

/// Writes what a listing says of the bytes of an object.
pub(super) fn write_bytes(document: &mut Document, object: &ListedObject) {
    document.text("ETag", &format!("\"{}\"", object.etag));
    if let Some((algorithm, kind)) = object.checksum {
        document.text("ChecksumAlgorithm", algorithm.s3_name());
        document.text("ChecksumType", kind.name());
    }
    document.text("Size", &object.size_bytes.to_string());
    document.text("StorageClass", object.storage_class.name());
}

/// Writes a page's common prefixes.
pub(super) fn write_prefixes(document: &mut Document, prefixes: &[String], encoding: Encoding) {
    for prefix in prefixes {
        document.element("CommonPrefixes", |document| {
            document.text("Prefix", &encoding.write(prefix));
        });
    }
}

fn request(query: &Query) -> Result<Request, Fault> {
    let text =
        |name| -> Result<String, Fault> { Ok(query.get(name)?.unwrap_or_default().to_owned()) };
    let max_entries = page_bound(query, "max-keys")?;
    Ok(Request {
        prefix: text("prefix")?,
        delimiter: text("delimiter")?,
        start_after: text("start-after")?,
        resume: query
            .get("continuation-token")?
            .map(Token::decode)
            .transpose()?,
        max_entries,
    })
}

/// Fills a page.
pub(super) async fn fill(
    store: &Store,
    bucket: &BucketRow,
    request: Request,
) -> Result<(Page, Vec<ListedObject>), Fault> {
    let mut page = Page::new(request);
    let mut listed = Vec::new();
    while *page.seek() != Seek::End {
        let limit = page.batch();
        let batch = store.inner.meta.list(bucket.id, page.seek(), limit).await?;
        let is_last = batch.len() < limit;
        let mut grouped = false;
        for object in batch {
            match page.offer(object.key.as_str()) {
                Offer::Listed => listed.push(object),
                Offer::Grouped => {
                    grouped = true;
                    break;
                }
                Offer::BehindPrefix | Offer::Full => break,
            }
        }
        if is_last && !grouped {
            page.exhausted();
        }
    }
    Ok((page, listed))
}
