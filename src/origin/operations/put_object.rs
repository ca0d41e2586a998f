//! PutObject: `PUT /bucket/key` (S3 API, PutObject).
//!
//! A 200 means: the blob was written, synced and named, its folder synced, and then the row committed
//! (`durable-before-visible`, `row-is-truth`).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_LENGTH, ETAG, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{add_checksum, add_version, field_value};
use crate::origin::ask::Ask;
use crate::origin::blobs::{BlobWriter, Content, Tier};
use crate::origin::checksums::{Algorithm, Checksum};
use crate::origin::conditional::{WriteCondition, WriteDecision};
use crate::origin::fault::Fault;
use crate::origin::fields::{FieldError, RequestFields, StoredFields};
use crate::origin::meta::{
    Append, BucketRow, ChecksumType, Message, NewVersion, ObjectChecksum, Source, StorageClass,
    VersionId, VersionKind,
};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::receive::{Arrived, ChecksumPlan, OBJECT_MAX_BYTES, Plan, UploadError, receive};
use crate::origin::reply::{self, Reply};
use crate::origin::retention::ObjectLock;
use crate::origin::store::Store;
use crate::origin::upload_body::Framing;
use crate::signing::Payload;

use super::object_acl::Owned;

/// The `x-amz-*` fields that this operation knows.
pub const KNOWN_FIELDS: [&str; 13] = [
    "x-amz-acl",
    "x-amz-checksum-",
    "x-amz-decoded-content-length",
    "x-amz-grant-",
    "x-amz-meta-",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-trailer",
    "x-amz-write-offset-bytes",
];

/// Says that bytes come at the end of an object that grows (S3 Express One Zone, PutObject).
const WRITE_OFFSET: &str = "x-amz-write-offset-bytes";
/// Says that these are the last bytes of an object that grows.
const SEAL: &str = "x-tidegate-seal";

/// What is to be committed, except for the bytes.
pub struct Upload {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// What must hold of the object it replaces.
    pub condition: WriteCondition,
    /// Where the bytes go in an object that grows; `None` = they are the whole object.
    pub append: Option<AppendAt>,
    /// The fields stored with it.
    pub fields: StoredFields,
    /// As [`crate::origin::meta::VersionRow::tags`].
    pub tags: String,
    /// As [`crate::origin::meta::VersionRow::acl`].
    pub acl: Vec<u8>,
    /// The storage class, to whose disks the bytes come.
    pub storage_class: StorageClass,
    /// As [`crate::origin::meta::VersionRow::lock`].
    pub lock: ObjectLock,
    /// Whose it is.
    pub owner: String,
    /// When, in milliseconds since 1970.
    pub modified_ms: i64,
    /// What to tell of it, once length and entity tag are known.
    pub messages: Messages,
}

impl Upload {
    /// Of something that the program itself puts: nobody is told of it.
    ///
    /// # Errors
    /// [`Fault::NoSuchBucket`], [`Fault::Meta`].
    pub(in crate::origin) async fn of_own(
        store: &Store,
        bucket: BucketName,
        key: ObjectKey,
        fields: StoredFields,
        modified_ms: i64,
    ) -> Result<Self, Fault> {
        let row = store.bucket(&bucket).await?;
        let lock = super::object_lock::or_default(ObjectLock::default(), &row, store.now_ms()?)?;
        Ok(Upload {
            bucket,
            key,
            condition: WriteCondition::default(),
            append: None,
            fields,
            tags: String::new(),
            acl: Vec::new(),
            storage_class: StorageClass::default(),
            lock,
            owner: row.owner_of(&store.inner.owner)?.to_owned(),
            modified_ms,
            messages: Box::new(|_, _| Vec::new()),
        })
    }
}

/// A place in an object that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendAt {
    /// The length that the object must have.
    pub offset_bytes: u64,
    /// Whether these are the last bytes.
    pub seal: bool,
}

/// Makes the messages about an object of this length and entity tag.
pub type Messages = Box<dyn FnOnce(u64, &str) -> Vec<Message> + Send>;

/// What was committed.
#[derive(Debug)]
pub struct Committed {
    /// The entity tag of the object without quotes: MD5 in hexadecimal, unless it has grown.
    pub etag: String,
    /// The additional checksum of what was sent.
    pub checksum: Checksum,
    /// The version, in a bucket that keeps them.
    pub version_id: Option<VersionId>,
    /// The length of an object that has grown.
    pub grown_to_bytes: Option<u64>,
}

/// Takes in the body and commits the object.
///
/// # Errors
/// [`Fault`]; nothing was committed unless the fault is [`Fault::Meta`] with an unknown outcome.
pub async fn run(mut ask: Ask<'_>, bucket: BucketName, key: ObjectKey) -> Result<Reply, Fault> {
    let fields = ask.fields;
    let storage_class = storage_class(ask.store, &fields)?;
    let condition = WriteCondition::from_fields(fields.headers)?;
    let plan = plan(
        &fields,
        std::mem::replace(&mut ask.payload, Payload::Unsigned),
    )?;
    let stored = StoredFields::from_request(&fields)?;
    let tags = super::object_tagging::from_header(&fields)?;
    let append = append_at(&fields)?;
    if append.is_some() && storage_class != StorageClass::Standard {
        return Err(Fault::StorageClass);
    }
    // Everything that can be refused is refused before the first byte of the body is asked for.
    let row = refuse_early(ask.store, &bucket, &key, &condition).await?;
    let modified_ms = ask.store.now_ms()?;
    let lock = super::object_lock::of_upload(&fields, &row, modified_ms)?;
    let owned = Owned::of_upload(&fields, &row, ask.owner())?;
    if append.is_some() && row.object_lock()?.is_some() {
        return Err(Fault::NotAppendable);
    }
    let plan = Plan {
        // Joined with that of what is there or comes later, which only this one can be without reading.
        also: append.map(|_| Algorithm::Crc64Nvme),
        tier: storage_class.tier(),
        ..plan
    };
    let upload = Upload {
        append,
        condition,
        fields: stored,
        tags,
        acl: owned.acl,
        storage_class,
        lock,
        owner: owned.owner,
        modified_ms,
        messages: messages(&ask, &row, &key, "ObjectCreated:Put")?,
        bucket,
        key,
    };
    let inner = &ask.store.inner;
    let arrived = receive(Arc::clone(&inner.blobs), ask.body, plan, &inner.stats).await?;
    let committed = commit(ask.store.clone(), upload, arrived).await?;
    let mut reply = reply::empty(StatusCode::OK);
    let headers = reply.headers_mut();
    headers.insert(ETAG, field_value(&format!("\"{}\"", committed.etag)));
    if let Some(length_bytes) = committed.grown_to_bytes {
        headers.insert("x-amz-object-size", HeaderValue::from(length_bytes));
        return Ok(reply);
    }
    add_version(headers, committed.version_id);
    let checksum = ObjectChecksum {
        checksum: committed.checksum,
        kind: ChecksumType::FullObject,
    };
    add_checksum(headers, &checksum, "");
    Ok(reply)
}

/// Messages about an object whose length and tag are not known yet.
pub(super) fn messages(
    ask: &Ask<'_>,
    bucket: &Arc<BucketRow>,
    key: &ObjectKey,
    event: &'static str,
) -> Result<Messages, Fault> {
    messages_of(ask.store, ask.owner(), ask.request_id, bucket, key, event)
}

/// As [`messages`], of a request whose sender is known otherwise.
pub(super) fn messages_of(
    store: &Store,
    who: &str,
    request_id: &str,
    bucket: &Arc<BucketRow>,
    key: &ObjectKey,
    event: &'static str,
) -> Result<Messages, Fault> {
    let store = store.clone();
    let (bucket, key) = (Arc::clone(bucket), key.clone());
    let (who, request_id) = (who.to_owned(), request_id.to_owned());
    let now_ms = store.now_ms()?;
    Ok(Box::new(move |size_bytes, etag| {
        let event = crate::origin::jobs::Event {
            name: event,
            key: &key,
            size_bytes,
            etag,
            who: &who,
            request_id: &request_id,
            now_ms,
        };
        crate::origin::jobs::messages_about(&store, &bucket, &event)
    }))
}

/// Publishes the bytes and commits the row, in a task of its own: a client that goes away now changes nothing.
///
/// # Errors
/// [`Fault`], as [`run`].
pub async fn commit(store: Store, upload: Upload, arrived: Arrived) -> Result<Committed, Fault> {
    let task = tokio::spawn(async move {
        let received = arrived.finish().await?;
        let published = received.published;
        let size_bytes = published.length_bytes;
        // Kept until the commit is settled, as the blobs ask.
        let written = published.content.clone();
        let before_bytes = upload.append.map_or(0, |append| append.offset_bytes);
        let messages = (upload.messages)(before_bytes + size_bytes, &received.etag);
        let has_messages = !messages.is_empty();
        let (kind, checksum) = match (upload.append, &received.also) {
            (Some(AppendAt { seal: false, .. }), Some(crc64)) => {
                (VersionKind::Stream, crc64.clone())
            }
            _ => (VersionKind::Object, received.checksum),
        };
        let key = upload.key.clone();
        let new = NewVersion {
            bucket: upload.bucket,
            key: upload.key,
            condition: upload.condition,
            kind,
            size_bytes,
            etag: received.etag.clone(),
            modified_ms: upload.modified_ms,
            checksum: ObjectChecksum {
                checksum: checksum.clone(),
                kind: ChecksumType::FullObject,
            },
            owner: upload.owner,
            fields: upload.fields.to_row(),
            tags: upload.tags,
            acl: upload.acl,
            storage_class: upload.storage_class,
            lock: upload.lock,
            parts: Vec::new(),
            source: Source::Written(published.content),
            messages,
        };
        let changed = match (upload.append, received.also) {
            (Some(AppendAt { offset_bytes, seal }), Some(crc64)) => {
                let append = Append {
                    new,
                    offset_bytes,
                    crc64,
                    seal,
                };
                let appended = store.inner.meta.append(append).await;
                appended.map(|made| made.map(|appended| (appended.committed, appended.grown)))
            }
            _ => {
                let committed = store.inner.meta.put(new).await;
                committed.map(|made| made.map(|committed| (committed, None)))
            }
        };
        let (committed, grown) = store.settled(changed, written).await?;
        store.after_commit(committed.bucket, &key, committed.released, has_messages);
        let grown_to_bytes = grown.as_ref().map(|grown| grown.length_bytes);
        Ok(Committed {
            etag: grown.map_or(received.etag, |grown| grown.etag),
            checksum,
            version_id: committed.version_id,
            grown_to_bytes,
        })
    });
    task.await.map_err(|_| Fault::TaskDied)?
}

/// Commits a version whose bytes are there already, or have been `rewritten` and are published now, and does what
/// follows from it, in a task of its own.
///
/// # Errors
/// What the commit decided, or trouble with it.
pub(super) async fn commit_version(
    store: Store,
    mut version: NewVersion,
    rewritten: Option<Box<dyn BlobWriter>>,
) -> Result<Option<VersionId>, Fault> {
    let task = tokio::spawn(async move {
        let key = version.key.clone();
        let has_messages = !version.messages.is_empty();
        let commit = |written: Option<Content>| {
            if let Some(written) = written {
                version.source = Source::Written(written);
            }
            store.inner.meta.put(version)
        };
        let committed = store.commit_rewritten(rewritten, commit).await?;
        store.after_commit(committed.bucket, &key, committed.released, has_messages);
        Ok::<_, Fault>(committed.version_id)
    });
    task.await.map_err(|_| Fault::TaskDied)?
}

/// Takes bytes of another version in, on a thread that may block.
pub(in crate::origin) fn write_on(
    writer: &mut Box<dyn BlobWriter>,
    bytes: &[u8],
) -> Result<(), Fault> {
    Ok(writer.write(bytes)?)
}

/// Reads where the bytes go in an object that grows.
fn append_at(fields: &RequestFields<'_>) -> Result<Option<AppendAt>, Fault> {
    let invalid = FieldError::Invalid { name: WRITE_OFFSET };
    match fields.amz(WRITE_OFFSET)? {
        None => Ok(None),
        Some(text) => Ok(Some(AppendAt {
            offset_bytes: text.parse().map_err(|_| Fault::Field(invalid))?,
            seal: fields.headers.contains_key(SEAL),
        })),
    }
}

/// Refuses what the commit would refuse anyway. The commit decides; this only spares the upload.
pub(super) async fn refuse_early(
    store: &Store,
    bucket: &BucketName,
    key: &ObjectKey,
    condition: &WriteCondition,
) -> Result<Arc<BucketRow>, Fault> {
    let bucket = store.bucket(bucket).await?;
    if condition.is_unconditional() {
        return Ok(bucket);
    }
    let current = store.inner.meta.latest(bucket.id, key).await?;
    let current = current.filter(|row| row.kind != VersionKind::DeleteMarker);
    match condition.decide(current.as_ref().map(|row| row.etag.as_str())) {
        WriteDecision::Proceed => Ok(bucket),
        WriteDecision::PreconditionFailed(condition) => Err(Fault::PreconditionFailed(condition)),
        WriteDecision::NoSuchKey => Err(Fault::NoSuchKey),
    }
}

/// Reads every promise about the body out of the head.
pub(super) fn plan(fields: &RequestFields<'_>, payload: Payload) -> Result<Plan, Fault> {
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
        also: None,
        tier: Tier::Data,
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

/// The storage class that is asked for.
///
/// # Errors
/// [`Fault::StorageClass`] for one that the store does not have.
pub(super) fn storage_class(
    store: &Store,
    fields: &RequestFields<'_>,
) -> Result<StorageClass, Fault> {
    match fields.amz("x-amz-storage-class")?.as_deref() {
        None | Some("STANDARD" | "REDUCED_REDUNDANCY") => Ok(StorageClass::Standard),
        Some("STANDARD_IA") if store.inner.blobs.has_cold() => Ok(StorageClass::StandardIa),
        Some(_) => Err(Fault::StorageClass),
    }
}
