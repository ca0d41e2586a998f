//! ListObjectsV2: `GET /bucket?list-type=2` (S3 API, ListObjectsV2). What a page holds is decided in
//! [`crate::origin::listing`]; this file asks the database and writes the document.

use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::xml_time;
use crate::origin::listing::{Offer, PAGE_MAX_ENTRIES, Page, Request, Seek, Token};
use crate::origin::meta::{BucketRow, ListedObject};
use crate::origin::names::BucketName;
use crate::origin::query::Query;
use crate::origin::reply::{self, Reply};
use crate::origin::reply_error::Fault;
use crate::origin::store::Store;
use crate::origin::xml::{Document, NAMESPACE};

/// What `encoding-type=url` leaves alone: unreserved characters and the slash.
const URL_KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// How keys are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Plain,
    Url,
}

impl Encoding {
    fn write(self, text: &str) -> String {
        match self {
            Encoding::Plain => text.to_owned(),
            Encoding::Url => utf8_percent_encode(text, URL_KEPT).to_string(),
        }
    }
}

/// Answers with one page.
///
/// # Errors
/// [`Fault::NoSuchBucket`], a parameter that cannot be honoured, or [`Fault::Meta`].
pub async fn run(
    store: &Store,
    bucket: &BucketName,
    query: &Query,
    access_key_id: &str,
) -> Result<Reply, Fault> {
    let encoding = match query.get("encoding-type")? {
        None => Encoding::Plain,
        Some("url") => Encoding::Url,
        Some(_) => {
            return Err(Fault::InvalidParameter {
                name: "encoding-type",
            });
        }
    };
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
    if encoding == Encoding::Url {
        document.text("EncodingType", "url");
    }
    document.text("KeyCount", &page.entries().to_string());
    document.text("MaxKeys", &request.max_entries.to_string());
    let truncated = page.next_token();
    document.text("IsTruncated", &truncated.is_some().to_string());
    if let Some(token) = truncated {
        document.text("NextContinuationToken", &token.encode());
    }
    for object in &objects {
        let modified = xml_time(object.modified_ms)?;
        document.element("Contents", |document| {
            document.text("Key", &encoding.write(object.key.as_str()));
            document.text("LastModified", &modified);
            document.text("ETag", &format!("\"{}\"", object.etag));
            document.text("ChecksumAlgorithm", object.checksum_algorithm.s3_name());
            document.text("ChecksumType", "FULL_OBJECT");
            document.text("Size", &object.size_bytes.to_string());
            document.text("StorageClass", "STANDARD");
            if with_owner {
                document.element("Owner", |document| {
                    document.text("ID", access_key_id);
                    document.text("DisplayName", access_key_id);
                });
            }
        });
    }
    for prefix in page.common_prefixes() {
        document.element("CommonPrefixes", |document| {
            document.text("Prefix", &encoding.write(prefix));
        });
    }
    Ok(reply::xml(StatusCode::OK, document))
}

fn request(query: &Query) -> Result<Request, Fault> {
    let text =
        |name| -> Result<String, Fault> { Ok(query.get(name)?.unwrap_or_default().to_owned()) };
    let max_entries = match query.get("max-keys")? {
        None => PAGE_MAX_ENTRIES,
        // S3 documents that a page never holds more than 1000, and the document says so in `MaxKeys`.
        Some(number) => number
            .parse::<u32>()
            .ok()
            .filter(|number| i32::try_from(*number).is_ok())
            .map(|number| (number as usize).min(PAGE_MAX_ENTRIES))
            .ok_or(Fault::InvalidParameter { name: "max-keys" })?,
    };
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

async fn fill(
    store: &Store,
    bucket: &BucketRow,
    request: Request,
) -> Result<(Page, Vec<ListedObject>), Fault> {
    let mut page = Page::new(request);
    let mut listed = Vec::new();
    while *page.seek() != Seek::End {
        let limit = page.batch();
        let batch = store
            .inner
            .reader
            .list(bucket.id, page.seek(), limit)
            .await?;
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
