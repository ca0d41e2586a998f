//! CompleteMultipartUpload: `POST /bucket/key?uploadId=ID` (S3 API, CompleteMultipartUpload). No byte moves: the object
//! names the blobs of its parts.

use std::sync::Arc;

use http::StatusCode;
use md5::{Digest as _, Md5};

use super::{
    add_checksum, add_version, find_upload, parts_of, parts_suffix, parts_suffix_of, put_object,
    told_version_in, upload_number,
};
use crate::origin::ask::Ask;
use crate::origin::checksums::{Algorithm, Checksum, Running};
use crate::origin::conditional::WriteCondition;
use crate::origin::documents::{CompleteMultipart, CompletePart};
use crate::origin::fault::Fault;
use crate::origin::fields::FieldError;
use crate::origin::meta::{
    ChecksumType, MetaError, NewVersion, ObjectChecksum, PartOfObject, PartRow, Source, UploadRow,
    VersionKind, VersionRow,
};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::receive::UploadError;
use crate::origin::reply::{self, Reply};
use crate::origin::store::Store;
use crate::origin::xml::{Document, NAMESPACE};

/// The smallest part but the last (S3, "Amazon S3 multipart upload limits"): 5 MiB.
const PART_MIN_BYTES: u64 = 5 * 1024 * 1024;
/// Parts of an upload at most.
const PARTS_MAX: usize = 10_000;

/// Makes an object of the parts. Who asks again, because the answer was lost on its way, is told the same again as long as
/// the object is the newest under its key.
///
/// # Errors
/// [`Fault::NoSuchUpload`], [`Fault::InvalidPart`], [`Fault::PartTooSmall`], a precondition or checksum that does not
/// hold, or what is wrong with the document.
pub async fn run(ask: &mut Ask<'_>, bucket: BucketName, key: ObjectKey) -> Result<Reply, Fault> {
    let condition = WriteCondition::from_fields(ask.fields.headers)?;
    let is_unconditional = condition.is_unconditional();
    let document = ask.document_unchecked().await?;
    let wanted = CompleteMultipart::parse(&document)?;
    match complete(ask, &bucket, &key, condition, &wanted).await {
        Err(Fault::NoSuchUpload) if is_unconditional => {
            completed_before(ask, &bucket, &key, &wanted).await
        }
        outcome => outcome,
    }
}

async fn complete(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
    condition: WriteCondition,
    wanted: &CompleteMultipart,
) -> Result<Reply, Fault> {
    let upload = find_upload(ask, bucket, key).await?;
    let row = put_object::refuse_early(ask.store, bucket, key, &condition).await?;
    let parts = chosen(ask.store, &upload, &wanted.parts).await?;
    let size_bytes = parts.iter().map(|part| part.size_bytes).sum();
    expect_size(ask, size_bytes)?;
    let etag = etag_of(parts.iter().map(|part| &part.etag))
        .ok_or(Fault::Meta(MetaError::ImpossibleRow { column: "etag" }))?;
    let checksum = checksum_of(&upload, &parts)?;
    expect_checksum(ask, &checksum, parts.len())?;
    let messages = put_object::messages(ask, &row, key, "ObjectCreated:CompleteMultipartUpload")?(
        size_bytes, &etag,
    );
    let modified_ms = ask.store.now_ms()?;
    let version = NewVersion {
        bucket: bucket.clone(),
        key: key.clone(),
        condition,
        kind: VersionKind::Object,
        size_bytes,
        etag: etag.clone(),
        modified_ms,
        checksum: checksum.clone(),
        owner: super::object_acl::owner_of_parts(&row, &upload)?,
        fields: upload.fields.clone(),
        tags: upload.tags.clone(),
        acl: upload.acl.clone(),
        storage_class: upload.storage_class,
        lock: super::object_lock::or_default(upload.lock, &row, modified_ms)?,
        parts: parts
            .iter()
            .map(|part| PartOfObject {
                number: part.number,
                size_bytes: part.size_bytes,
                checksum: upload.checksum.map(|_| part.checksum.clone()),
            })
            .collect(),
        source: Source::Upload {
            number: upload.number,
            parts: parts
                .iter()
                .map(|part| (part.number, part.etag.clone()))
                .collect(),
        },
        messages,
    };
    let version_id = put_object::commit_version(ask.store.clone(), version, None).await?;
    let suffix = parts_suffix_of(checksum.kind, parts.len());
    let mut reply = answer(ask, bucket, key, &etag, Some((&checksum, &suffix)));
    add_version(reply.headers_mut(), version_id);
    Ok(reply)
}

/// The answer about an object that these parts of an upload that is gone have made.
async fn completed_before(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
    wanted: &CompleteMultipart,
) -> Result<Reply, Fault> {
    let upload = upload_number(ask)?;
    let row = ask.store.bucket(bucket).await?;
    let object = ask.store.inner.meta.latest(row.id, key).await?;
    let etag = etag_of(wanted.parts.iter().map(|part| &part.etag));
    let is_made_of_them = |object: &Arc<VersionRow>| {
        let numbers = object.parts.iter().map(|part| part.number);
        // Uploads and versions are counted together, so it is younger than the upload.
        object.number > upload
            && Some(&object.etag) == etag.as_ref()
            && numbers.eq(wanted.parts.iter().map(|part| part.number))
    };
    let object = object.filter(is_made_of_them).ok_or(Fault::NoSuchUpload)?;
    let suffix = parts_suffix(&object);
    let checksum = object
        .checksum
        .as_ref()
        .map(|checksum| (checksum, &*suffix));
    let mut reply = answer(ask, bucket, key, &object.etag, checksum);
    add_version(reply.headers_mut(), told_version_in(&row, &object));
    Ok(reply)
}

fn answer(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
    etag: &str,
    checksum: Option<(&ObjectChecksum, &str)>,
) -> Reply {
    let mut document = Document::new("CompleteMultipartUploadResult", Some(NAMESPACE));
    document.text("Location", &location(ask, bucket, key));
    document.text("Bucket", bucket.as_str());
    document.text("Key", key.as_str());
    document.text("ETag", &format!("\"{etag}\""));
    if let Some((checksum, suffix)) = checksum {
        document.text(
            checksum.checksum.algorithm().element_name(),
            &format!("{}{suffix}", checksum.checksum.base64()),
        );
        document.text("ChecksumType", checksum.kind.name());
    }
    let mut reply = reply::xml(StatusCode::OK, document);
    if let Some((checksum, suffix)) = checksum {
        add_checksum(reply.headers_mut(), checksum, suffix);
    }
    reply
}

/// The stored parts that the client lists, each as the client knows it.
async fn chosen(
    store: &Store,
    upload: &UploadRow,
    wanted: &[CompletePart],
) -> Result<Vec<PartRow>, Fault> {
    let stored = parts_of(store, upload, 0, PARTS_MAX).await?;
    let mut chosen = Vec::with_capacity(wanted.len());
    for (index, part) in wanted.iter().enumerate() {
        let number = part.number;
        let found = stored
            .binary_search_by_key(&number, |row| row.number)
            .map(|at| &stored[at])
            .map_err(|_| Fault::InvalidPart { number })?;
        let checksums_agree = part.checksums.iter().all(|checksum| {
            // One of another kind than was kept was verified when the part came.
            checksum.algorithm() != found.checksum.algorithm() || *checksum == found.checksum
        });
        if found.etag != part.etag || !checksums_agree {
            return Err(Fault::InvalidPart { number });
        }
        let is_last = index + 1 == wanted.len();
        if !is_last && found.size_bytes < PART_MIN_BYTES {
            return Err(Fault::PartTooSmall {
                number,
                bytes: found.size_bytes,
            });
        }
        chosen.push(found.clone());
    }
    Ok(chosen)
}

fn expect_size(ask: &Ask<'_>, size_bytes: u64) -> Result<(), Fault> {
    let name = "x-amz-mp-object-size";
    match ask.fields.amz(name)? {
        None => Ok(()),
        Some(text) => match text.parse::<u64>() {
            Ok(expected) if expected == size_bytes => Ok(()),
            Ok(_) => Err(Fault::ObjectSize),
            Err(_) => Err(Fault::Field(FieldError::Invalid { name })),
        },
    }
}

/// MD5 over the MD5s of the parts, and how many there are.
fn etag_of<'e>(parts: impl Iterator<Item = &'e String>) -> Option<String> {
    let mut md5 = Md5::new();
    let mut count = 0;
    for etag in parts {
        md5.update(hex::decode(etag).ok()?);
        count += 1;
    }
    Some(format!("{}-{count}", hex::encode(md5.finalize())))
}

/// The checksum of the whole, out of those of its parts.
fn checksum_of(upload: &UploadRow, parts: &[PartRow]) -> Result<ObjectChecksum, Fault> {
    let (algorithm, kind) = upload
        .checksum
        .unwrap_or((Algorithm::Crc64Nvme, ChecksumType::FullObject));
    let impossible = Fault::Meta(MetaError::ImpossibleRow { column: "checksum" });
    let checksum = match kind {
        ChecksumType::Composite => {
            let mut running = Running::new(algorithm);
            for part in parts {
                running.update(part.checksum.bytes());
            }
            running.finish()
        }
        ChecksumType::FullObject => {
            let mut joined: Option<Checksum> = None;
            for part in parts {
                joined = Some(match joined {
                    None => part.checksum.clone(),
                    Some(before) => before
                        .joined(&part.checksum, part.size_bytes)
                        .map_err(|_| Fault::ChecksumFields)?,
                });
            }
            joined.ok_or(impossible)?
        }
    };
    Ok(ObjectChecksum { checksum, kind })
}

/// Compares the checksum that the client gives of the whole.
fn expect_checksum(ask: &Ask<'_>, actual: &ObjectChecksum, parts: usize) -> Result<(), Fault> {
    let algorithm = actual.checksum.algorithm();
    if let Some(given) = ask.fields.amz("x-amz-checksum-type")?
        && given != actual.kind.name()
    {
        return Err(Fault::ChecksumType);
    }
    let Some(given) = ask.fields.amz(algorithm.field_name())? else {
        return Ok(());
    };
    let suffix = parts_suffix_of(actual.kind, parts);
    let value = given.strip_suffix(suffix.as_str()).unwrap_or(&given);
    match Checksum::parse(algorithm, value) {
        Ok(given) if given == actual.checksum => Ok(()),
        Ok(_) => Err(UploadError::ChecksumMismatch { algorithm }.into()),
        Err(_) => Err(Fault::InvalidDigest {
            name: algorithm.field_name(),
        }),
    }
}

fn location(ask: &Ask<'_>, bucket: &BucketName, key: &ObjectKey) -> String {
    let host = crate::origin::authorize::host(ask.request).unwrap_or_default();
    let path = percent_encoding::utf8_percent_encode(key.as_str(), super::URL_KEPT);
    format!("http://{host}/{bucket}/{path}")
}
