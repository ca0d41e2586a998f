//! ListMultipartUploads: `GET /bucket?uploads` (S3 API, ListMultipartUploads).

use http::StatusCode;

use super::list_objects_v2::write_prefixes;
use super::{Encoding, marker_group, page_bound, upload_id, upload_number, write_owner, xml_time};
use crate::origin::ask::Ask;
use crate::origin::listing::{Offer, Page, Request, Seek};
use crate::origin::meta::UploadRow;
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::reply::{self, Reply};
use crate::origin::reply_error::Fault;
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
    let mut after = match (key_marker.is_empty(), upload_number(&upload_marker)) {
        (false, Some(number)) => Some((ObjectKey::new(key_marker.as_str())?, number)),
        _ => None,
    };
    let row = ask.store.bucket(bucket).await?;
    let mut page = Page::new(Request {
        prefix: prefix.clone(),
        delimiter: delimiter.clone(),
        start_after: key_marker.clone(),
        resume: marker_group(&prefix, &delimiter, &key_marker),
        max_entries: if most == 0 { 0 } else { usize::MAX },
    });
    let mut uploads: Vec<UploadRow> = Vec::new();
    let mut is_truncated = false;
    let mut last: Option<(String, String)> = None;
    'pages: while *page.seek() != Seek::End {
        let meta = &ask.store.inner.meta;
        let batch = meta
            .uploads(row.id, page.seek(), after.take(), BATCH)
            .await?;
        let is_last = batch.len() < BATCH;
        for upload in batch {
            let is_full = uploads.len() + page.common_prefixes().len() == most;
            match page.offer(upload.key.as_str()) {
                Offer::Listed | Offer::Grouped if is_full => {
                    is_truncated = true;
                    break 'pages;
                }
                Offer::Listed => {
                    last = Some((upload.key.as_str().to_owned(), upload_id(upload.number)));
                    after = Some((upload.key.clone(), upload.number));
                    uploads.push(upload);
                }
                Offer::Grouped => {
                    let group = page.common_prefixes().last().cloned();
                    last = Some((group.unwrap_or_default(), String::new()));
                    after = None;
                    continue 'pages;
                }
                Offer::BehindPrefix | Offer::Full => break 'pages,
            }
        }
        if is_last {
            break;
        }
    }
    let groups = page.common_prefixes();
    let groups = &groups[..groups.len().min(most.saturating_sub(uploads.len()))];
    let mut document = Document::new("ListMultipartUploadsResult", Some(NAMESPACE));
    document.text("Bucket", &row.name);
    document.text("KeyMarker", &encoding.write(&key_marker));
    document.text("UploadIdMarker", &upload_marker);
    if let (Some((key, upload)), true) = (&last, is_truncated) {
        document.text("NextKeyMarker", &encoding.write(key));
        document.text("NextUploadIdMarker", upload);
    }
    document.text("Prefix", &encoding.write(&prefix));
    if !delimiter.is_empty() {
        document.text("Delimiter", &encoding.write(&delimiter));
    }
    encoding.tell(&mut document);
    document.text("MaxUploads", &most.to_string());
    document.text("IsTruncated", &is_truncated.to_string());
    for upload in &uploads {
        let started = xml_time(upload.started_ms)?;
        document.element("Upload", |document| {
            document.text("Key", &encoding.write(upload.key.as_str()));
            document.text("UploadId", &upload_id(upload.number));
            write_owner(document, "Initiator", &upload.owner);
            write_owner(document, "Owner", &upload.owner);
            document.text("StorageClass", "STANDARD");
            document.text("Initiated", &started);
            if let Some((algorithm, kind)) = upload.checksum {
                document.text("ChecksumAlgorithm", algorithm.s3_name());
                document.text("ChecksumType", kind.name());
            }
        });
    }
    write_prefixes(&mut document, groups, encoding);
    Ok(reply::xml(StatusCode::OK, document))
}
