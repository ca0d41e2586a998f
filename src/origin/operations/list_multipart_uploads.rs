//! ListMultipartUploads: `GET /bucket?uploads` (S3 API, ListMultipartUploads).

use http::StatusCode;

use super::list_objects_v2::write_prefixes;
use super::object_acl::owner_of_parts;
use super::{Encoding, UPLOAD_IDS, marker_group, page_bound, write_owner, xml_time};
use crate::origin::ask::Ask;
use crate::origin::fault::Fault;
use crate::origin::listing::Request;
use crate::origin::listing_markers::{End, Entry, MarkerPage};
use crate::origin::meta::UploadRow;
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::reply::{self, Reply};
use crate::origin::xml::{Document, NAMESPACE};

/// Uploads fetched at a time.
const BATCH: usize = 256;

/// Answers with one page of uploads in the order of keys, oldest first.
///
/// # Errors
/// [`Fault::NoSuchBucket`], a parameter that cannot be honoured, or [`Fault::Meta`].
pub async fn run(ask: &Ask<'_>, bucket: &BucketName) -> Result<Reply, Fault> {
    let query = ask.fields.query;
    let encoding = Encoding::of(query)?;
    let text =
        |name| -> Result<String, Fault> { Ok(query.get(name)?.unwrap_or_default().to_owned()) };
    let (prefix, delimiter) = (text("prefix")?, text("delimiter")?);
    let (key_marker, upload_marker) = (text("key-marker")?, text("upload-id-marker")?);
    let most = page_bound(query, "max-uploads")?;
    // Without a key marker S3 ignores it.
    let after = match (key_marker.is_empty(), UPLOAD_IDS.read(&upload_marker)) {
        (false, Some(number)) => Some((ObjectKey::new(key_marker.as_str())?, number)),
        _ => None,
    };
    let row = ask.store.bucket(bucket).await?;
    let request = Request {
        prefix: prefix.clone(),
        delimiter: delimiter.clone(),
        start_after: key_marker.clone(),
        resume: marker_group(&prefix, &delimiter, &key_marker),
        max_entries: most,
    };
    let mut page: MarkerPage<UploadRow> = MarkerPage::new(request, after);
    while !page.is_done() {
        let meta = &ask.store.inner.meta;
        let batch = meta.uploads(row.id, page.seek(), page.behind(), BATCH);
        let batch = batch.await?;
        let is_last = batch.len() < BATCH;
        page.take_in(batch, is_last);
    }
    let mut document = Document::new("ListMultipartUploadsResult", Some(NAMESPACE));
    document.text("Bucket", &row.name);
    document.text("KeyMarker", &encoding.write(&key_marker));
    document.text("UploadIdMarker", &upload_marker);
    let next = match (page.next(), page.entries().last()) {
        (Some(End::Entry), Some(last)) => Some((last.key.as_str(), UPLOAD_IDS.write(last.number))),
        (Some(End::Prefix(prefix)), _) => Some((prefix.as_str(), String::new())),
        (Some(End::Entry) | None, _) => None,
    };
    if let Some((key, upload)) = &next {
        document.text("NextKeyMarker", &encoding.write(key));
        document.text("NextUploadIdMarker", upload);
    }
    document.text("Prefix", &encoding.write(&prefix));
    if !delimiter.is_empty() {
        document.text("Delimiter", &encoding.write(&delimiter));
    }
    encoding.tell(&mut document);
    document.text("MaxUploads", &most.to_string());
    document.text("IsTruncated", &next.is_some().to_string());
    for upload in page.entries() {
        let started = xml_time(upload.started_ms)?;
        let owner = owner_of_parts(&row, upload)?;
        document.element("Upload", |document| {
            document.text("Key", &encoding.write(upload.key.as_str()));
            document.text("UploadId", &UPLOAD_IDS.write(upload.number));
            write_owner(document, "Initiator", &upload.owner);
            write_owner(document, "Owner", &owner);
            document.text("StorageClass", upload.storage_class.name());
            document.text("Initiated", &started);
            if let Some((algorithm, kind)) = upload.checksum {
                document.text("ChecksumAlgorithm", algorithm.s3_name());
                document.text("ChecksumType", kind.name());
            }
        });
    }
    write_prefixes(&mut document, page.common_prefixes(), encoding);
    Ok(reply::xml(StatusCode::OK, document))
}

impl Entry for UploadRow {
    fn key(&self) -> &ObjectKey {
        &self.key
    }

    fn number(&self) -> i64 {
        self.number
    }
}
