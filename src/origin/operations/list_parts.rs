//! ListParts: `GET /bucket/key?uploadId=ID` (S3 API, ListParts).

use http::StatusCode;

use super::object_acl::owner_of_parts;
use super::{UPLOAD_IDS, find_upload, page_bound, parts_of, write_owner, xml_time};
use crate::origin::ask::Ask;
use crate::origin::fault::Fault;
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::reply::{self, Reply};
use crate::origin::xml::{Document, NAMESPACE};

/// Answers with one page of parts in the order of their numbers.
///
/// # Errors
/// [`Fault::NoSuchUpload`], a parameter that cannot be honoured, or [`Fault::Meta`].
pub async fn run(ask: &Ask<'_>, bucket: &BucketName, key: &ObjectKey) -> Result<Reply, Fault> {
    let query = ask.fields.query;
    let name = "part-number-marker";
    let marker: u16 = match query.get(name)? {
        None | Some("") => 0,
        Some(text) => text
            .parse::<u32>()
            .map(|number| u16::try_from(number).unwrap_or(u16::MAX))
            .map_err(|_| Fault::InvalidParameter { name })?,
    };
    let most = page_bound(query, "max-parts")?;
    let upload = find_upload(ask, bucket, key).await?;
    let owner = owner_of_parts(&*ask.store.bucket(bucket).await?, &upload)?;
    let mut parts = parts_of(ask.store, &upload, marker, most + 1).await?;
    let is_truncated = parts.len() > most;
    parts.truncate(most);
    let mut document = Document::new("ListPartsResult", Some(NAMESPACE));
    document.text("Bucket", bucket.as_str());
    document.text("Key", key.as_str());
    document.text("UploadId", &UPLOAD_IDS.write(upload.number));
    write_owner(&mut document, "Initiator", &upload.owner);
    write_owner(&mut document, "Owner", &owner);
    document.text("StorageClass", upload.storage_class.name());
    document.text("PartNumberMarker", &marker.to_string());
    let next = parts.last().map_or(marker, |part| part.number);
    document.text("NextPartNumberMarker", &next.to_string());
    document.text("MaxParts", &most.to_string());
    document.text("IsTruncated", &is_truncated.to_string());
    if let Some((algorithm, kind)) = upload.checksum {
        document.text("ChecksumAlgorithm", algorithm.s3_name());
        document.text("ChecksumType", kind.name());
    }
    for part in &parts {
        let modified = xml_time(part.modified_ms)?;
        document.element("Part", |document| {
            document.text("PartNumber", &part.number.to_string());
            document.text("LastModified", &modified);
            document.text("ETag", &format!("\"{}\"", part.etag));
            document.text("Size", &part.size_bytes.to_string());
            let element = part.checksum.algorithm().element_name();
            document.text(element, &part.checksum.base64());
        });
    }
    Ok(reply::xml(StatusCode::OK, document))
}
