//! GetObject and HeadObject: `GET` and `HEAD /bucket/key` (S3 API, GetObject, HeadObject).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{field_value, modified};
use crate::byte_range::{self, ContentRange, RangeRequest};
use crate::origin::blobs::{BlobError, BlobReader, Content, Extent};
use crate::origin::conditional::{ReadDecision, Validators, decide_read, range_applies};
use crate::origin::fields::{FieldError, RequestFields, StoredFields};
use crate::origin::meta::{MetaError, ObjectRow};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::reply::{self, BlobBody, Reply, ReplyBody};
use crate::origin::reply_error::Fault;
use crate::origin::store::Store;

/// The `x-amz-*` fields that these operations know.
pub const KNOWN_FIELDS: [&str; 1] = ["x-amz-checksum-mode"];

/// Query parameters that replace a stored field. Only signed requests get this far, as S3 demands.
const OVERRIDES: [(&str, HeaderName); 6] = [
    ("response-cache-control", CACHE_CONTROL),
    ("response-content-disposition", CONTENT_DISPOSITION),
    ("response-content-encoding", CONTENT_ENCODING),
    ("response-content-language", CONTENT_LANGUAGE),
    ("response-content-type", CONTENT_TYPE),
    ("response-expires", EXPIRES),
];

/// Overwrites that a reader may meet between its look at the row and its opening of the blob.
const OVERTAKEN_MAX: u32 = 16;

/// Whether the client wants the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// GET.
    Body,
    /// HEAD.
    Head,
}

/// Answers with the object, a part of it, or 304.
///
/// # Errors
/// [`Fault`]; a blob of the wrong length or with a corrupt first block fails here, before any status is sent.
pub async fn run(
    store: &Store,
    bucket: &BucketName,
    key: &ObjectKey,
    fields: &RequestFields<'_>,
    want: Want,
) -> Result<Reply, Fault> {
    let bucket = store.bucket(bucket).await?;
    let mut missing = None;
    for _ in 0..OVERTAKEN_MAX {
        let row = store.inner.reader.object(bucket.id, key).await?;
        let row = row.ok_or(Fault::NoSuchKey)?;
        let content = row.content.clone();
        match answer(store, row, fields, want).await {
            // The row still names it, so nobody removed it with our knowledge.
            Err(Fault::Blob(BlobError::Missing { id })) if missing.as_ref() == Some(&content) => {
                return Err(Fault::Blob(BlobError::Missing { id }));
            }
            // An overwrite was committed after we read the row; the new row has the answer.
            Err(Fault::Blob(BlobError::Missing { .. })) => missing = Some(content),
            outcome => return outcome,
        }
    }
    Err(Fault::Overtaken {
        times: OVERTAKEN_MAX,
    })
}

async fn answer(
    store: &Store,
    row: ObjectRow,
    fields: &RequestFields<'_>,
    want: Want,
) -> Result<Reply, Fault> {
    let modified = modified(&row)?;
    let validators = Validators {
        etag: &row.etag,
        modified,
    };
    let length_bytes = row.length_bytes;
    let mut headers = HeaderMap::new();
    headers.insert(ETAG, field_value(&format!("\"{}\"", row.etag)));
    headers.insert(
        LAST_MODIFIED,
        field_value(&httpdate::fmt_http_date(modified)),
    );
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    stored_fields(&row)?.apply(&mut headers);
    override_fields(fields, &mut headers)?;
    match decide_read(fields.headers, validators)? {
        ReadDecision::Proceed => {}
        ReadDecision::NotModified => return Ok(not_modified(headers)),
        ReadDecision::PreconditionFailed(condition) => {
            return Err(Fault::PreconditionFailed(condition));
        }
    }
    // A field that is malformed, of another unit, or names several ranges is ignored: RFC 9110 §14.2 allows
    // it, and S3 does so.
    let asked = match fields.headers.get(RANGE) {
        Some(value) if range_applies(fields.headers, validators) => {
            byte_range::parse(value.as_bytes())
        }
        _ => RangeRequest::Whole,
    };
    let (status, range) = match asked {
        RangeRequest::Whole | RangeRequest::Several(_) => {
            add_checksum(fields, &row, &mut headers)?;
            (StatusCode::OK, 0..length_bytes)
        }
        RangeRequest::Single(spec) => {
            let part = byte_range::resolve(spec, length_bytes)
                .map_err(|_| Fault::RangeUnsatisfiable { length_bytes })?;
            let value = ContentRange::part(part.clone(), length_bytes).to_string();
            headers.insert(CONTENT_RANGE, field_value(&value));
            (StatusCode::PARTIAL_CONTENT, part)
        }
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    let body = match want {
        Want::Head => ReplyBody::Empty,
        Want::Body => open_body(store, row, range).await?,
    };
    let mut reply = reply::empty(status);
    *reply.headers_mut() = headers;
    *reply.body_mut() = body;
    Ok(reply)
}

/// Opens the blob, compares its length and reads the first bytes, so that the status can be trusted.
async fn open_body(store: &Store, row: ObjectRow, range: Range<u64>) -> Result<ReplyBody, Fault> {
    let extents = match row.content {
        Content::Inline(bytes) => {
            // The row has passed SQLite; a range was resolved against its length.
            let range = range.start as usize..range.end as usize;
            return Ok(ReplyBody::Whole(Some(bytes.slice(range))));
        }
        Content::Blobs(blobs) => blobs
            .into_iter()
            .map(|blob| Extent {
                length_bytes: blob.length_bytes,
                skip_bytes: 0,
                blob,
            })
            .collect(),
    };
    let blobs = Arc::clone(&store.inner.blobs);
    let wanted = range.clone();
    let task = tokio::task::spawn_blocking(move || -> Result<(BlobReader, Bytes), BlobError> {
        let reader = blobs.open(extents)?;
        let first = reader.read(wanted)?;
        Ok((reader, first))
    });
    let (reader, first) = task.await.map_err(|_| Fault::TaskDied)??;
    let stats = Arc::clone(&store.inner.stats);
    Ok(ReplyBody::Blob(BlobBody::new(
        Arc::new(reader),
        range,
        first,
        stats,
    )))
}

fn stored_fields(row: &ObjectRow) -> Result<StoredFields, Fault> {
    StoredFields::from_row(&row.fields)
        .ok_or(Fault::Meta(MetaError::ImpossibleRow { column: "fields" }))
}

fn override_fields(fields: &RequestFields<'_>, headers: &mut HeaderMap) -> Result<(), Fault> {
    for (parameter, name) in OVERRIDES {
        if let Some(value) = fields.query.get(parameter)? {
            let value = HeaderValue::from_str(value)
                .map_err(|_| Fault::InvalidParameter { name: parameter })?;
            headers.insert(name, value);
        }
    }
    Ok(())
}

/// 304 with the fields that RFC 9110 §15.4.5 asks for, and none that describe a body.
fn not_modified(mut headers: HeaderMap) -> Reply {
    for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE] {
        headers.remove(name);
    }
    let mut reply = reply::empty(StatusCode::NOT_MODIFIED);
    *reply.headers_mut() = headers;
    reply
}

/// The checksum of the whole object, for a client that asked for it; it would not fit a part.
fn add_checksum(
    fields: &RequestFields<'_>,
    row: &ObjectRow,
    headers: &mut HeaderMap,
) -> Result<(), Fault> {
    let name = "x-amz-checksum-mode";
    match fields.amz(name)?.as_deref() {
        None => return Ok(()),
        Some(mode) if mode.eq_ignore_ascii_case("ENABLED") => {}
        Some(_) => return Err(Fault::Field(FieldError::Invalid { name })),
    }
    let checksum = &row.checksum;
    headers.insert(
        checksum.algorithm().field_name(),
        field_value(&checksum.base64()),
    );
    headers.insert(
        "x-amz-checksum-type",
        HeaderValue::from_static("FULL_OBJECT"),
    );
    Ok(())
}
