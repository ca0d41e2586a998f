//! UploadPartCopy: `PUT /bucket/key?partNumber=N&uploadId=ID` with `x-amz-copy-source` (S3 API, UploadPartCopy).
//!
//! Bytes are read for their digests, which the part needs, and stay where they are, unless the upload is of another
//! storage class.

use std::ops::Range;

use http::StatusCode;
use md5::{Digest as _, Md5};

use super::copy_source::CopySource;
use super::get_object::read_through;
use super::put_object::write_on;
use super::upload_part::part_number;
use super::{field_value, find_upload, told_version, xml_time};
use crate::byte_range::{self, RangeRequest};
use crate::origin::ask::Ask;
use crate::origin::blobs::{BlobWriter, Content};
use crate::origin::checksums::{Algorithm, Running};
use crate::origin::fault::Fault;
use crate::origin::meta::{NewPart, PartRow, PartSource};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::receive::{OBJECT_MAX_BYTES, UploadError};
use crate::origin::reply::{self, Reply};
use crate::origin::xml::{Document, NAMESPACE};

/// Copies a range of an object into a part.
///
/// # Errors
/// [`Fault::NoSuchUpload`], or as a read of the source.
pub async fn run(ask: &Ask<'_>, bucket: &BucketName, key: &ObjectKey) -> Result<Reply, Fault> {
    let number = part_number(ask.fields.query)?;
    let upload = find_upload(ask, bucket, key).await?;
    let source = CopySource::of(ask)?;
    let from = source.find(ask).await?;
    let range = range(ask, from.size_bytes)?;
    let size_bytes = range.end - range.start;
    if size_bytes > OBJECT_MAX_BYTES {
        return Err(Fault::Upload(UploadError::TooLarge {
            limit_bytes: OBJECT_MAX_BYTES,
            bytes: size_bytes,
        }));
    }
    let algorithm = upload
        .checksum
        .map_or(Algorithm::Crc64Nvme, |(algorithm, _)| algorithm);
    let rewritten = if from.storage_class == upload.storage_class {
        None
    } else {
        Some(ask.store.inner.blobs.writer(upload.storage_class.tier())?)
    };
    let taker = Taker {
        md5: Md5::new(),
        checksum: Running::new(algorithm),
        rewritten,
    };
    let taken = read_through(ask.store, &from, range.clone(), taker, Taker::take).await?;
    let md5 = hex::encode(taken.md5.finalize());
    let checksum = taken.checksum.finish();
    let modified_ms = ask.store.now_ms()?;
    let mut part = NewPart {
        upload: upload.number,
        row: PartRow {
            number,
            size_bytes,
            etag: md5.clone(),
            modified_ms,
            checksum: checksum.clone(),
        },
        source: PartSource::Version {
            number: from.number,
            start: range.start,
            end: range.end,
        },
    };
    let store = ask.store.clone();
    let task = tokio::spawn(async move {
        let commit = |written: Option<Content>| {
            if let Some(written) = written {
                part.source = PartSource::Written(written);
            }
            store.inner.meta.put_part(part)
        };
        let released = store.commit_rewritten(taken.rewritten, commit).await?;
        store.reclaim(released);
        Ok::<_, Fault>(())
    });
    task.await.map_err(|_| Fault::TaskDied)??;
    let mut document = Document::new("CopyPartResult", Some(NAMESPACE));
    document.text("LastModified", &xml_time(modified_ms)?);
    document.text("ETag", &format!("\"{md5}\""));
    document.text(algorithm.element_name(), &checksum.base64());
    let mut reply = reply::xml(StatusCode::OK, document);
    if let Some(id) = told_version(ask, &source.bucket, &from).await? {
        reply
            .headers_mut()
            .insert("x-amz-copy-source-version-id", field_value(&id.to_string()));
    }
    Ok(reply)
}

/// Reads `x-amz-copy-source-range`, of which S3 takes only `bytes=first-last`, both inside the object.
fn range(ask: &Ask<'_>, length_bytes: u64) -> Result<Range<u64>, Fault> {
    let name = "x-amz-copy-source-range";
    let Some(text) = ask.fields.amz(name)? else {
        return Ok(0..length_bytes);
    };
    let invalid = || Fault::CopySourceRange { length_bytes };
    let plain = text
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .and_then(|(_, last)| last.parse::<u64>().ok())
        .filter(|last| *last < length_bytes);
    match (plain, byte_range::parse(text.as_bytes())) {
        (Some(_), RangeRequest::Single(spec)) => {
            byte_range::resolve(spec, length_bytes).map_err(|_| invalid())
        }
        _ => Err(invalid()),
    }
}

/// What the bytes of the part go through.
struct Taker {
    md5: Md5,
    checksum: Running,
    /// Where they have to be written anew.
    rewritten: Option<Box<dyn BlobWriter>>,
}

impl Taker {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.md5.update(bytes);
        self.checksum.update(bytes);
        match &mut self.rewritten {
            Some(writer) => write_on(writer, bytes),
            None => Ok(()),
        }
    }
}
