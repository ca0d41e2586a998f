//! CopyObject: `PUT /bucket/key` with `x-amz-copy-source` (S3 API, CopyObject). No byte moves, both objects name the
//! same blobs, unless the copy is of another storage class.

use http::StatusCode;

use super::copy_source::CopySource;
use super::get_object::read_through;
use super::object_acl::Owned;
use super::{add_version, field_value, parts_suffix, put_object, told_version, xml_time};
use crate::origin::ask::Ask;
use crate::origin::checksums::{Algorithm, Running};
use crate::origin::conditional::WriteCondition;
use crate::origin::fault::Fault;
use crate::origin::fields::{FieldError, RequestFields, StoredFields};
use crate::origin::meta::{
    ChecksumType, MetaError, NewVersion, ObjectChecksum, Source, VersionKind, VersionRow,
};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::receive::{OBJECT_MAX_BYTES, UploadError};
use crate::origin::reply::{self, Reply};
use crate::origin::store::Store;
use crate::origin::xml::{Document, NAMESPACE};

/// The `x-amz-*` fields that this operation knows.
pub const KNOWN_FIELDS: [&str; 13] = [
    "x-amz-acl",
    "x-amz-checksum-algorithm",
    "x-amz-copy-source",
    "x-amz-copy-source-if-",
    "x-amz-grant-",
    "x-amz-meta-",
    "x-amz-metadata-directive",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-tagging-directive",
];

/// Where something of the copy comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Directive {
    Copy,
    Replace,
}

/// Copies.
///
/// # Errors
/// As a read of the source and a write of the object.
pub async fn run(ask: &Ask<'_>, bucket: BucketName, key: ObjectKey) -> Result<Reply, Fault> {
    let fields = &ask.fields;
    let storage_class = put_object::storage_class(ask.store, fields)?;
    let condition = WriteCondition::from_fields(fields.headers)?;
    let metadata = directive(fields, "x-amz-metadata-directive")?;
    let tagging = directive(fields, "x-amz-tagging-directive")?;
    let algorithm = algorithm(fields)?;
    let source = CopySource::of(ask)?;
    let row = put_object::refuse_early(ask.store, &bucket, &key, &condition).await?;
    let from = source.find(ask).await?;
    if from.size_bytes > OBJECT_MAX_BYTES {
        return Err(Fault::Upload(UploadError::TooLarge {
            limit_bytes: OBJECT_MAX_BYTES,
            bytes: from.size_bytes,
        }));
    }
    let onto_itself = source.bucket == bucket && source.key == key && source.version_id.is_none();
    let changes_something = metadata == Directive::Replace
        || tagging == Directive::Replace
        || algorithm.is_some()
        || fields.amz("x-amz-storage-class")?.is_some();
    if onto_itself && !changes_something {
        return Err(Fault::CopyOntoItself);
    }
    let stored = match metadata {
        Directive::Copy => from.fields.clone(),
        Directive::Replace => StoredFields::from_request(fields)?.to_row(),
    };
    let tags = match tagging {
        Directive::Copy => from.tags.clone(),
        Directive::Replace => super::object_tagging::from_header(fields)?,
    };
    let (checksum, parts) = match algorithm {
        Some(algorithm) if differs(&from, algorithm) => {
            (computed(ask.store, &from, algorithm).await?, Vec::new())
        }
        _ => (stored_checksum(&from)?, from.parts.clone()),
    };
    let rewritten = if from.storage_class == storage_class {
        None
    } else {
        let writer = ask.store.inner.blobs.writer(storage_class.tier())?;
        let whole = 0..from.size_bytes;
        Some(read_through(ask.store, &from, whole, writer, put_object::write_on).await?)
    };
    let modified_ms = ask.store.now_ms()?;
    let lock = super::object_lock::of_upload(fields, &row, modified_ms)?;
    let owned = Owned::of_upload(fields, &row, ask.owner())?;
    let messages =
        put_object::messages(ask, &row, &key, "ObjectCreated:Copy")?(from.size_bytes, &from.etag);
    let told_source = told_version(ask, &source.bucket, &from).await?;
    let version = NewVersion {
        bucket,
        key,
        condition,
        kind: VersionKind::Object,
        size_bytes: from.size_bytes,
        etag: from.etag.clone(),
        modified_ms,
        checksum: checksum.clone(),
        owner: owned.owner,
        fields: stored,
        tags,
        acl: owned.acl,
        storage_class,
        lock,
        parts,
        source: Source::Version {
            number: from.number,
        },
        messages,
    };
    let version_id = put_object::commit_version(ask.store.clone(), version, rewritten).await?;
    let mut document = Document::new("CopyObjectResult", Some(NAMESPACE));
    document.text("LastModified", &xml_time(modified_ms)?);
    document.text("ETag", &format!("\"{}\"", from.etag));
    document.text(
        checksum.checksum.algorithm().element_name(),
        &format!("{}{}", checksum.checksum.base64(), parts_suffix(&from)),
    );
    document.text("ChecksumType", checksum.kind.name());
    let mut reply = reply::xml(StatusCode::OK, document);
    let headers = reply.headers_mut();
    add_version(headers, version_id);
    if let Some(id) = told_source {
        headers.insert("x-amz-copy-source-version-id", field_value(&id.to_string()));
    }
    Ok(reply)
}

fn directive(fields: &RequestFields<'_>, name: &'static str) -> Result<Directive, Fault> {
    match fields.amz(name)?.as_deref() {
        None | Some("COPY") => Ok(Directive::Copy),
        Some("REPLACE") => Ok(Directive::Replace),
        Some(_) => Err(Fault::Field(FieldError::Invalid { name })),
    }
}

fn algorithm(fields: &RequestFields<'_>) -> Result<Option<Algorithm>, Fault> {
    let name = "x-amz-checksum-algorithm";
    match fields.amz(name)? {
        None => Ok(None),
        Some(text) => Algorithm::from_s3_name(&text)
            .map(Some)
            .map_err(|_| Fault::Field(FieldError::Invalid { name })),
    }
}

fn stored_checksum(row: &VersionRow) -> Result<ObjectChecksum, Fault> {
    row.checksum
        .clone()
        .ok_or(Fault::Meta(MetaError::ImpossibleRow { column: "checksum" }))
}

/// Whether the copy is to have another checksum than the source: one over the parts does not do for an object that was
/// not uploaded in parts.
fn differs(row: &VersionRow, algorithm: Algorithm) -> bool {
    row.checksum.as_ref().is_none_or(|checksum| {
        checksum.checksum.algorithm() != algorithm || checksum.kind == ChecksumType::Composite
    })
}

/// Reads the source for a checksum that it does not have.
async fn computed(
    store: &Store,
    row: &VersionRow,
    algorithm: Algorithm,
) -> Result<ObjectChecksum, Fault> {
    let whole = 0..row.size_bytes;
    let running = Running::new(algorithm);
    let update = |running: &mut Running, bytes: &[u8]| {
        running.update(bytes);
        Ok(())
    };
    let running = read_through(store, row, whole, running, update).await?;
    Ok(ObjectChecksum {
        checksum: running.finish(),
        kind: ChecksumType::FullObject,
    })
}
