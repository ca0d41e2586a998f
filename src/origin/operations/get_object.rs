//! GetObject and HeadObject: `GET` and `HEAD /bucket/key` (S3 API, GetObject, HeadObject).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    add_checksum, add_version, field_value, find_version_in, modified, parts_suffix,
    told_version_in,
};
use crate::byte_range::{self, ContentRange, RangeRequest};
use crate::origin::ask::Ask;
use crate::origin::blobs::{BlobError, Extent};
use crate::origin::conditional::{ReadDecision, Validators, decide_read, range_applies};
use crate::origin::fault::Fault;
use crate::origin::fields::{FieldError, RequestFields, StoredFields};
use crate::origin::jobs::lifecycle;
use crate::origin::meta::{BucketRow, MetaError, ObjectChecksum, Place, StorageClass, VersionRow};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::object_reader::ObjectReader;
use crate::origin::permission::Seen;
use crate::origin::reply::{self, BlobBody, Reply, ReplyBody};
use crate::origin::store::Store;

mod follow;

/// The `x-amz-*` fields that these operations know.
pub const KNOWN_FIELDS: [&str; 1] = ["x-amz-checksum-mode"];

/// Query parameters that replace a stored field. S3 takes them from signed requests only.
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

/// Answers with the object, a part of it, or 304. `seen` is what was looked up to let this request through.
///
/// # Errors
/// [`Fault`]; a blob of the wrong length or with a corrupt first block fails here, before any status is sent.
pub async fn run(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
    want: Want,
    seen: &Seen,
) -> Result<Reply, Fault> {
    if want == Want::Body && ask.fields.query.has("follow") {
        return follow::run(ask, bucket, key).await;
    }
    let mut missing = None;
    for round in 0..OVERTAKEN_MAX {
        // What was looked up to let the request through is as new as the request.
        let is_first = round == 0;
        let bucket_row = match seen.bucket.as_ref().filter(|_| is_first) {
            Some(bucket) => Arc::clone(bucket),
            None => ask.store.bucket(bucket).await?,
        };
        let row = match seen.object.as_ref().filter(|_| is_first) {
            Some(row) => Arc::clone(row),
            None => find_version_in(ask.store, &bucket_row, key, ask.version_id()?).await?,
        };
        match answer(ask, bucket, &bucket_row, &row, want).await {
            // An overwrite was committed after we read the row, or its bytes were moved; the new row has the
            // answer. The same row twice means that nobody removed them with our knowledge.
            Err(Fault::Blob(error @ BlobError::Missing { .. })) => {
                if missing == Some((row.number, row.place.clone())) {
                    return Err(Fault::Blob(error));
                }
                missing = Some((row.number, row.place.clone()));
            }
            outcome => return outcome,
        }
    }
    Err(Fault::Overtaken {
        times: OVERTAKEN_MAX,
    })
}

async fn answer(
    ask: &Ask<'_>,
    name: &BucketName,
    bucket: &BucketRow,
    row: &VersionRow,
    want: Want,
) -> Result<Reply, Fault> {
    let fields = &ask.fields;
    let modified = modified(row.modified_ms)?;
    let validators = Validators {
        etag: &row.etag,
        modified,
    };
    let length_bytes = row.size_bytes;
    let mut headers = HeaderMap::new();
    headers.insert(ETAG, field_value(&format!("\"{}\"", row.etag)));
    headers.insert(
        LAST_MODIFIED,
        field_value(&httpdate::fmt_http_date(modified)),
    );
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    stored_fields(row)?.apply(&mut headers);
    if ask.caller.access_key_id.is_some() {
        override_fields(fields, &mut headers)?;
    } else if OVERRIDES.iter().any(|(name, _)| fields.query.has(name)) {
        return Err(Fault::OverrideUnsigned);
    }
    add_version(&mut headers, told_version_in(bucket, row));
    if !row.tags.is_empty() {
        let count = row.tags.split('&').count();
        headers.insert("x-amz-tagging-count", HeaderValue::from(count));
    }
    // S3 does not say it of the default.
    if row.storage_class != StorageClass::Standard {
        let class = HeaderValue::from_static(row.storage_class.name());
        headers.insert("x-amz-storage-class", class);
    }
    lifecycle::add_expiration(bucket, row, &mut headers);
    super::object_lock::tell(ask, name, &row.key, &row.lock, &mut headers).await?;
    match decide_read(fields.headers, validators)? {
        ReadDecision::Proceed => {}
        ReadDecision::NotModified => return Ok(not_modified(headers)),
        ReadDecision::PreconditionFailed(condition) => {
            return Err(Fault::PreconditionFailed(condition));
        }
    }
    let part = part_asked_for(fields, row)?;
    // A field that is malformed, of another unit, or names several ranges is ignored: RFC 9110 §14.2 allows
    // it, and S3 does so.
    let asked = match fields.headers.get(RANGE) {
        Some(_) if part.is_some() => return Err(Fault::PartAndRange),
        Some(value) if range_applies(fields.headers, validators) => {
            byte_range::parse(value.as_bytes())
        }
        _ => RangeRequest::Whole,
    };
    let (status, range) = match (part, asked) {
        (Some(part), _) => {
            headers.insert("x-amz-mp-parts-count", HeaderValue::from(part.count));
            if !part.bytes.is_empty() {
                let value = ContentRange::part(part.bytes.clone(), length_bytes).to_string();
                headers.insert(CONTENT_RANGE, field_value(&value));
            }
            match part.index {
                None => tell_checksum(fields, row, &mut headers)?,
                Some(index) => tell_part_checksum(fields, row, index, &mut headers)?,
            }
            (StatusCode::PARTIAL_CONTENT, part.bytes)
        }
        (None, RangeRequest::Whole | RangeRequest::Several(_)) => {
            tell_checksum(fields, row, &mut headers)?;
            (StatusCode::OK, 0..length_bytes)
        }
        (None, RangeRequest::Single(spec)) => {
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
        Want::Body => open_body(ask.store, row, range).await?,
    };
    let mut reply = reply::empty(status);
    *reply.headers_mut() = headers;
    *reply.body_mut() = body;
    Ok(reply)
}

/// A part that a request asks for by its number.
struct AskedPart {
    bytes: Range<u64>,
    /// Its place among the parts of an object that has several, counted from 0.
    index: Option<usize>,
    /// How many there are.
    count: u64,
}

/// Reads `partNumber`. An object that was not uploaded in parts has one.
fn part_asked_for(
    fields: &RequestFields<'_>,
    row: &VersionRow,
) -> Result<Option<AskedPart>, Fault> {
    let name = "partNumber";
    let Some(text) = fields.query.get(name)? else {
        return Ok(None);
    };
    let number: u16 = text
        .parse()
        .ok()
        .filter(|number| (1..=10_000).contains(number))
        .ok_or(Fault::InvalidParameter { name })?;
    let length_bytes = row.size_bytes;
    if row.parts.is_empty() {
        return match number {
            1 => Ok(Some(AskedPart {
                bytes: 0..length_bytes,
                index: None,
                count: 1,
            })),
            _ => Err(Fault::NoSuchPart),
        };
    }
    let mut start = 0;
    // By place and not by the number that it was uploaded under, as S3 counts them.
    for part in row.parts.iter().take(usize::from(number) - 1) {
        start += part.size_bytes;
    }
    let index = usize::from(number) - 1;
    let part = row.parts.get(index).ok_or(Fault::NoSuchPart)?;
    Ok(Some(AskedPart {
        bytes: start..start + part.size_bytes,
        index: (row.parts.len() > 1).then_some(index),
        count: row.parts.len() as u64,
    }))
}

/// Opens the bytes and reads the first of them, so that the status can be trusted.
pub(super) async fn open_body(
    store: &Store,
    row: &VersionRow,
    range: Range<u64>,
) -> Result<ReplyBody, Fault> {
    if range.is_empty() {
        return Ok(ReplyBody::Empty);
    }
    if let Place::Inline(bytes) = &row.place {
        // A few KiB, so its ends fit every usize.
        let (start, end) = (range.start as usize, range.end as usize);
        let bytes = bytes
            .get(start..end)
            .ok_or(Fault::Meta(MetaError::ImpossibleRow { column: "size" }))?;
        return Ok(ReplyBody::Whole(Some(Bytes::copy_from_slice(bytes))));
    }
    if let Place::Blob(blob) = &row.place
        && let Some(bytes) = store.inner.blobs.read_at_once(blob, range.clone())
    {
        return Ok(ReplyBody::Whole(Some(bytes)));
    }
    let (reader, first) = open_range(store, row, range.clone()).await?;
    let stats = Arc::clone(&store.inner.stats);
    Ok(ReplyBody::Blob(BlobBody::new(
        Arc::new(reader),
        range,
        first,
        stats,
    )))
}

/// Opens what lies in blobs, and reads the beginning of `range`.
pub(super) async fn open_range(
    store: &Store,
    row: &VersionRow,
    range: Range<u64>,
) -> Result<(ObjectReader, Bytes), Fault> {
    let blobs = Arc::clone(&store.inner.blobs);
    let pieces = match &row.place {
        Place::Extents => {
            let meta = &store.inner.meta;
            meta.extents(row.number, range.start, range.end).await?
        }
        Place::Inline(bytes) => vec![crate::origin::meta::Piece {
            position: 0,
            bytes: crate::origin::meta::PieceBytes::Inline(bytes.clone()),
        }],
        Place::Blob(blob) => {
            let extent = Extent {
                blob: blob.clone(),
                skip_bytes: 0,
                length_bytes: row.size_bytes,
            };
            // What is in memory anyway needs no other thread, and the way there and back costs more than the reading.
            if let Some(opened) = ObjectReader::open_at_once(blobs.as_ref(), &extent, range.clone())
            {
                return Ok(opened);
            }
            vec![crate::origin::meta::Piece {
                position: 0,
                bytes: crate::origin::meta::PieceBytes::Extent(extent),
            }]
        }
    };
    let task = tokio::task::spawn_blocking(move || {
        let reader = ObjectReader::open(blobs.as_ref(), pieces)?;
        let first = reader.read(range.clone())?;
        if first.is_empty() {
            // The row went between the two looks at it.
            return Err(BlobError::Missing { id: 0 });
        }
        Ok::<_, BlobError>((reader, first))
    });
    Ok(task.await.map_err(|_| Fault::TaskDied)??)
}

/// Takes in a range of a version, piece by piece, on a thread that may block. Gives back what took it in.
///
/// # Errors
/// That of a read, or of a taker that takes no more.
pub(in crate::origin) async fn read_through<T: Send + 'static>(
    store: &Store,
    row: &VersionRow,
    range: Range<u64>,
    mut taker: T,
    take: fn(&mut T, &[u8]) -> Result<(), Fault>,
) -> Result<T, Fault> {
    if range.is_empty() {
        return Ok(taker);
    }
    let (reader, first) = open_range(store, row, range.clone()).await?;
    let task = tokio::task::spawn_blocking(move || {
        take(&mut taker, &first)?;
        let mut position = range.start + first.len() as u64;
        while position < range.end {
            let bytes = reader.read(position..range.end)?;
            take(&mut taker, &bytes)?;
            position += bytes.len() as u64;
        }
        Ok::<_, Fault>(taker)
    });
    task.await.map_err(|_| Fault::TaskDied)?
}

fn stored_fields(row: &VersionRow) -> Result<StoredFields, Fault> {
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

/// The checksum of the whole object, for a client that asked for it; it would not fit a range.
fn tell_checksum(
    fields: &RequestFields<'_>,
    row: &VersionRow,
    headers: &mut HeaderMap,
) -> Result<(), Fault> {
    if wants_checksum(fields)?
        && let Some(checksum) = &row.checksum
    {
        add_checksum(headers, checksum, &parts_suffix(row));
    }
    Ok(())
}

/// That of one of several parts, if they were uploaded with one, beside the type of the whole object's.
fn tell_part_checksum(
    fields: &RequestFields<'_>,
    row: &VersionRow,
    index: usize,
    headers: &mut HeaderMap,
) -> Result<(), Fault> {
    let of_part = row.parts.get(index).and_then(|part| part.checksum.clone());
    if wants_checksum(fields)?
        && let (Some(checksum), Some(whole)) = (of_part, &row.checksum)
    {
        let kind = whole.kind;
        add_checksum(headers, &ObjectChecksum { checksum, kind }, "");
    }
    Ok(())
}

fn wants_checksum(fields: &RequestFields<'_>) -> Result<bool, Fault> {
    let name = "x-amz-checksum-mode";
    match fields.amz(name)?.as_deref() {
        None => Ok(false),
        Some(mode) if mode.eq_ignore_ascii_case("ENABLED") => Ok(true),
        Some(_) => Err(Fault::Field(FieldError::Invalid { name })),
    }
}
