//! PutObject: `PUT /bucket/key` (S3 API, PutObject).
//!
//! A 200 means: the blob was written, synced and named, its folder synced, and then the row committed
//! (`durable-before-visible`, `row-is-truth`).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ETAG, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Body;

use super::field_value;
use crate::origin::blobs::Content;
use crate::origin::checksums::{Algorithm, Checksum};
use crate::origin::conditional::{WriteCondition, WriteDecision};
use crate::origin::fields::{FieldError, RequestFields, StoredFields};
use crate::origin::meta::{NewObject, ObjectPut};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::receive::{Arrived, ChecksumPlan, OBJECT_MAX_BYTES, Plan, UploadError, receive};
use crate::origin::reply::{self, Reply};
use crate::origin::reply_error::Fault;
use crate::origin::store::Store;
use crate::origin::upload_body::Framing;
use crate::signing::Payload;

/// The `x-amz-*` fields that this operation knows.
pub const KNOWN_FIELDS: [&str; 7] = [
    "x-amz-acl",
    "x-amz-checksum-",
    "x-amz-decoded-content-length",
    "x-amz-meta-",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-storage-class",
    "x-amz-trailer",
];

/// What is to be committed, except for the bytes.
#[derive(Debug)]
pub struct Upload {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// What must hold of the object it replaces.
    pub condition: WriteCondition,
    /// The fields stored with it.
    pub fields: StoredFields,
    /// When, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// What was committed.
#[derive(Debug)]
pub struct Committed {
    /// MD5 in hexadecimal, without quotes.
    pub etag: String,
    /// The additional checksum.
    pub checksum: Checksum,
}

/// Takes in the body and commits the object.
///
/// # Errors
/// [`Fault`]; nothing was committed unless the fault is [`Fault::Meta`] with an unknown outcome.
pub async fn run<B>(
    store: &Store,
    bucket: BucketName,
    key: ObjectKey,
    fields: &RequestFields<'_>,
    payload: Payload,
    body: B,
) -> Result<Reply, Fault>
where
    B: Body<Data = Bytes> + Unpin,
{
    refuse_other_acl(fields)?;
    refuse_other_storage_class(fields)?;
    let condition = WriteCondition::from_fields(fields.headers)?;
    let plan = plan(fields, payload)?;
    let stored = StoredFields::from_request(fields)?;
    // Everything that can be refused is refused before the first byte of the body is asked for.
    refuse_early(store, &bucket, &key, &condition).await?;
    let upload = Upload {
        bucket,
        key,
        condition,
        fields: stored,
        modified_ms: store.now_ms()?,
    };
    let inner = &store.inner;
    let arrived = receive(Arc::clone(&inner.blobs), body, plan, &inner.stats).await?;
    let committed = commit(store.clone(), upload, arrived).await?;
    let mut reply = reply::empty(StatusCode::OK);
    let headers = reply.headers_mut();
    headers.insert(ETAG, field_value(&format!("\"{}\"", committed.etag)));
    let checksum = committed.checksum;
    headers.insert(
        checksum.algorithm().field_name(),
        field_value(&checksum.base64()),
    );
    headers.insert(
        "x-amz-checksum-type",
        HeaderValue::from_static("FULL_OBJECT"),
    );
    Ok(reply)
}

/// Publishes the blob and commits the row, in a task of its own: a client that goes away now changes nothing.
///
/// # Errors
/// [`Fault`], as [`run`].
pub async fn commit(store: Store, upload: Upload, arrived: Arrived) -> Result<Committed, Fault> {
    let task = tokio::spawn(async move {
        let verified = tokio::task::spawn_blocking(move || arrived.finish())
            .await
            .map_err(|_| Fault::TaskDied)??;
        let received = verified.publish().await?;
        let inner = &store.inner;
        // Kept until the commit is settled, as the blobs ask.
        let blobs = match &received.content {
            Content::Inline(_) => Vec::new(),
            Content::Blobs(blobs) => blobs.clone(),
        };
        let outcome = inner
            .writer
            .put(NewObject {
                bucket: upload.bucket,
                key: upload.key,
                condition: upload.condition,
                etag: received.etag.clone(),
                modified_ms: upload.modified_ms,
                checksum: received.checksum.clone(),
                fields: upload.fields.to_row(),
                length_bytes: received.length_bytes,
                content: received.content,
            })
            // After an error the outcome may be unknown, so the blob stays for the sweep to judge.
            .await?;
        let (released, outcome) = match outcome {
            ObjectPut::Committed { released } => (
                released,
                Ok(Committed {
                    etag: received.etag,
                    checksum: received.checksum,
                }),
            ),
            // The transaction decided against these blobs, so no row will ever name them.
            ObjectPut::NoSuchBucket => (blobs, Err(Fault::NoSuchBucket)),
            ObjectPut::NoSuchKey => (blobs, Err(Fault::NoSuchKey)),
            ObjectPut::PreconditionFailed(condition) => {
                (blobs, Err(Fault::PreconditionFailed(condition)))
            }
        };
        store.remove_blobs(released).await;
        outcome
    });
    task.await.map_err(|_| Fault::TaskDied)?
}

/// Refuses what the commit would refuse anyway. The commit decides; this only spares the upload.
pub(super) async fn refuse_early(
    store: &Store,
    bucket: &BucketName,
    key: &ObjectKey,
    condition: &WriteCondition,
) -> Result<(), Fault> {
    let bucket = store.bucket(bucket).await?;
    if condition.is_unconditional() {
        return Ok(());
    }
    let current = store.inner.reader.object(bucket.id, key).await?;
    match condition.decide(current.as_ref().map(|row| row.etag.as_str())) {
        WriteDecision::Proceed => Ok(()),
        WriteDecision::PreconditionFailed(condition) => Err(Fault::PreconditionFailed(condition)),
        WriteDecision::NoSuchKey => Err(Fault::NoSuchKey),
    }
}

/// Reads every promise about the body out of the head.
fn plan(fields: &RequestFields<'_>, payload: Payload) -> Result<Plan, Fault> {
    let (framing, signer, sha256) = match payload {
        Payload::Unsigned => (None, None, None),
        Payload::Sha256(sha256) => (None, None, Some(sha256)),
        Payload::StreamingSigned(signer) => (Some((true, false)), Some(signer), None),
        Payload::StreamingSignedTrailer(signer) => (Some((true, true)), Some(signer), None),
        Payload::StreamingUnsignedTrailer => (Some((false, true)), None, None),
    };
    let framing = framing.map(|(signed, trailer)| Framing { signed, trailer });
    let length_bytes = length(fields, framing.is_some())?;
    if let Some(bytes) = length_bytes.filter(|bytes| *bytes > OBJECT_MAX_BYTES) {
        return Err(Fault::Upload(UploadError::TooLarge {
            limit_bytes: OBJECT_MAX_BYTES,
            bytes,
        }));
    }
    let has_trailer = framing.is_some_and(|framing| framing.trailer);
    Ok(Plan {
        length_bytes,
        framing,
        signer,
        sha256,
        md5: content_md5(fields.headers)?,
        checksum: checksum_plan(fields, has_trailer)?,
    })
}

/// The length of the object's bytes; `None` only in a chunked transfer coding.
fn length(fields: &RequestFields<'_>, aws_chunked: bool) -> Result<Option<u64>, Fault> {
    if aws_chunked {
        let name = "x-amz-decoded-content-length";
        let text = fields.amz(name)?.ok_or(Fault::LengthMissing)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        return match text.parse() {
            Ok(length) if digits => Ok(Some(length)),
            Ok(_) | Err(_) => Err(Fault::Field(FieldError::Invalid { name })),
        };
    }
    if fields.headers.contains_key(TRANSFER_ENCODING) {
        return Ok(None);
    }
    let length = fields
        .headers
        .get(CONTENT_LENGTH)
        .ok_or(Fault::LengthMissing)?;
    // The HTTP server has read it already, so this only fails on what it would not have let through.
    length
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .map(Some)
        .ok_or(Fault::Field(FieldError::Invalid {
            name: "content-length",
        }))
}

/// Reads `Content-MD5` (RFC 1864, which S3 still honours).
///
/// # Errors
/// [`Fault::InvalidDigest`] when it is not base64 of 16 bytes.
pub fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, Fault> {
    let Some(value) = headers.get("content-md5") else {
        return Ok(None);
    };
    STANDARD
        .decode(value.as_bytes())
        .ok()
        .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
        .map(Some)
        .ok_or(Fault::InvalidDigest {
            name: "Content-MD5",
        })
}

/// Reads which additional checksum the head promises, and where its value comes from.
pub(super) fn checksum_plan(
    fields: &RequestFields<'_>,
    has_trailer: bool,
) -> Result<ChecksumPlan, Fault> {
    let mut given = None;
    for algorithm in Algorithm::ALL {
        let Some(value) = fields.amz(algorithm.field_name())? else {
            continue;
        };
        let checksum = Checksum::parse(algorithm, &value).map_err(|_| Fault::InvalidDigest {
            name: algorithm.field_name(),
        })?;
        if given.replace(checksum).is_some() {
            return Err(Fault::ChecksumFields);
        }
    }
    let in_trailer = match fields.amz("x-amz-trailer")? {
        None => None,
        Some(name) => {
            let algorithm =
                Algorithm::from_field_name(name.trim()).map_err(|_| Fault::ChecksumFields)?;
            Some(algorithm)
        }
    };
    let announced = match fields.amz("x-amz-sdk-checksum-algorithm")? {
        None => None,
        Some(name) => Some(Algorithm::from_s3_name(&name).map_err(|_| Fault::ChecksumFields)?),
    };
    let plan = match (given, in_trailer) {
        (Some(_), Some(_)) => return Err(Fault::ChecksumFields),
        (None, Some(algorithm)) if has_trailer => ChecksumPlan::InTrailer(algorithm),
        (None, Some(_)) => return Err(Fault::ChecksumFields),
        (Some(checksum), None) => ChecksumPlan::Given(checksum),
        (None, None) if announced.is_some() => return Err(Fault::ChecksumFields),
        (None, None) => ChecksumPlan::Compute(Algorithm::Crc64Nvme),
    };
    let agrees = |algorithm: Algorithm| announced.is_none_or(|announced| announced == algorithm);
    match &plan {
        ChecksumPlan::Given(checksum) if !agrees(checksum.algorithm()) => {
            Err(Fault::ChecksumFields)
        }
        ChecksumPlan::InTrailer(algorithm) if !agrees(*algorithm) => Err(Fault::ChecksumFields),
        ChecksumPlan::Given(_) | ChecksumPlan::InTrailer(_) | ChecksumPlan::Compute(_) => Ok(plan),
    }
}

/// Every object belongs to the bucket's owner and is private; the two lists that say so are accepted.
///
/// # Errors
/// [`Fault::AclNotSupported`].
pub fn refuse_other_acl(fields: &RequestFields<'_>) -> Result<(), Fault> {
    match fields.amz("x-amz-acl")?.as_deref() {
        None | Some("private" | "bucket-owner-full-control") => Ok(()),
        Some(_) => Err(Fault::AclNotSupported),
    }
}

/// There is one storage class.
///
/// # Errors
/// [`Fault::StorageClass`].
pub(super) fn refuse_other_storage_class(fields: &RequestFields<'_>) -> Result<(), Fault> {
    match fields.amz("x-amz-storage-class")?.as_deref() {
        None | Some("STANDARD") => Ok(()),
        Some(_) => Err(Fault::StorageClass),
    }
}
