//! CreateMultipartUpload: `POST /bucket/key?uploads` (S3 API, CreateMultipartUpload).

use http::{HeaderValue, StatusCode};

use super::UPLOAD_IDS;
use super::object_acl::Owned;
use crate::origin::ask::Ask;
use crate::origin::checksums::Algorithm;
use crate::origin::fault::Fault;
use crate::origin::fields::{FieldError, RequestFields, StoredFields};
use crate::origin::meta::{ChecksumType, NewUpload};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::reply::{self, Reply};
use crate::origin::xml::{Document, NAMESPACE};

/// The `x-amz-*` fields that this operation knows.
pub const KNOWN_FIELDS: [&str; 10] = [
    "x-amz-acl",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-type",
    "x-amz-grant-",
    "x-amz-meta-",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-storage-class",
    "x-amz-tagging",
];

/// Begins an upload.
///
/// # Errors
/// [`Fault::NoSuchBucket`], or a field that cannot be honoured.
pub async fn run(ask: &Ask<'_>, bucket: BucketName, key: ObjectKey) -> Result<Reply, Fault> {
    let fields = &ask.fields;
    let storage_class = super::put_object::storage_class(ask.store, fields)?;
    let checksum = checksum(fields)?;
    let started_ms = ask.store.now_ms()?;
    let row = ask.store.bucket(&bucket).await?;
    // The bucket's retention counts from the completion.
    let lock = super::object_lock::brought(fields, &row, started_ms)?;
    let upload = NewUpload {
        bucket: bucket.clone(),
        key: key.clone(),
        started_ms,
        owner: ask.owner().to_owned(),
        fields: StoredFields::from_request(fields)?.to_row(),
        tags: super::object_tagging::from_header(fields)?,
        acl: Owned::of_parts(fields, &row, ask.owner())?.acl,
        checksum,
        storage_class,
        lock,
    };
    let number = ask.store.inner.meta.create_upload(upload).await??;
    let mut document = Document::new("InitiateMultipartUploadResult", Some(NAMESPACE));
    document.text("Bucket", bucket.as_str());
    document.text("Key", key.as_str());
    document.text("UploadId", &UPLOAD_IDS.write(number));
    let mut reply = reply::xml(StatusCode::OK, document);
    if let Some((algorithm, kind)) = checksum {
        let headers = reply.headers_mut();
        headers.insert(
            "x-amz-checksum-algorithm",
            HeaderValue::from_static(algorithm.s3_name()),
        );
        headers.insert("x-amz-checksum-type", HeaderValue::from_static(kind.name()));
    }
    Ok(reply)
}

/// What checksum the upload shall have, and over what (S3, "Checking object integrity", multipart table).
fn checksum(fields: &RequestFields<'_>) -> Result<Option<(Algorithm, ChecksumType)>, Fault> {
    let name = "x-amz-checksum-algorithm";
    let algorithm = match fields.amz(name)? {
        None => None,
        Some(text) => Some(
            Algorithm::from_s3_name(&text)
                .map_err(|_| Fault::Field(FieldError::Invalid { name }))?,
        ),
    };
    let name = "x-amz-checksum-type";
    let kind = match fields.amz(name)? {
        None => None,
        Some(text) => Some(
            ChecksumType::from_name(&text.to_ascii_uppercase())
                .ok_or(Fault::Field(FieldError::Invalid { name }))?,
        ),
    };
    match (algorithm, kind) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Fault::ChecksumFields),
        (Some(Algorithm::Crc64Nvme), Some(ChecksumType::Composite))
        | (Some(Algorithm::Sha1 | Algorithm::Sha256), Some(ChecksumType::FullObject)) => {
            Err(Fault::ChecksumType)
        }
        (Some(algorithm), Some(kind)) => Ok(Some((algorithm, kind))),
        (Some(algorithm @ Algorithm::Crc64Nvme), None) => {
            Ok(Some((algorithm, ChecksumType::FullObject)))
        }
        (Some(algorithm), None) => Ok(Some((algorithm, ChecksumType::Composite))),
    }
}
