//! GetObjectAttributes: `GET /bucket/key?attributes` (S3 API, GetObjectAttributes).

use http::StatusCode;
use http::header::LAST_MODIFIED;

use super::{add_version, field_value, find_version, modified, parts_suffix, told_version};
use crate::origin::ask::Ask;
use crate::origin::documents::ObjectAttributes;
use crate::origin::fault::Fault;
use crate::origin::fields::FieldError;
use crate::origin::meta::VersionRow;
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::reply::{self, Reply};
use crate::origin::xml::{Document, NAMESPACE};

/// The `x-amz-*` fields that this operation knows.
pub const KNOWN_FIELDS: [&str; 3] = [
    "x-amz-max-parts",
    "x-amz-object-attributes",
    "x-amz-part-number-marker",
];

/// Parts on a page at most.
const PARTS_PAGE: usize = 1000;

/// Answers with what is asked for.
///
/// # Errors
/// As HeadObject, or a field that cannot be honoured.
pub async fn run(ask: &Ask<'_>, bucket: &BucketName, key: &ObjectKey) -> Result<Reply, Fault> {
    let asked = ObjectAttributes::from_headers(ask.fields.headers)?;
    let row = find_version(ask, bucket, key).await?;
    let mut document = Document::new("GetObjectAttributesResponse", Some(NAMESPACE));
    if asked.etag {
        document.text("ETag", &row.etag);
    }
    if let (true, Some(checksum)) = (asked.checksum, &row.checksum) {
        document.element("Checksum", |document| {
            let value = format!("{}{}", checksum.checksum.base64(), parts_suffix(&row));
            let element = checksum.checksum.algorithm().element_name();
            document.text(element, &value);
            document.text("ChecksumType", checksum.kind.name());
        });
    }
    if asked.parts && !row.parts.is_empty() {
        write_parts(ask, &row, &mut document)?;
    }
    if asked.storage_class {
        document.text("StorageClass", row.storage_class.name());
    }
    if asked.size {
        document.text("ObjectSize", &row.size_bytes.to_string());
    }
    let mut reply = reply::xml(StatusCode::OK, document);
    let headers = reply.headers_mut();
    let date = httpdate::fmt_http_date(modified(row.modified_ms)?);
    headers.insert(LAST_MODIFIED, field_value(&date));
    add_version(headers, told_version(ask, bucket, &row).await?);
    Ok(reply)
}

fn number(ask: &Ask<'_>, name: &'static str) -> Result<Option<usize>, Fault> {
    match ask.fields.amz(name)? {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| Fault::Field(FieldError::Invalid { name })),
    }
}

fn write_parts(ask: &Ask<'_>, row: &VersionRow, document: &mut Document) -> Result<(), Fault> {
    let marker = number(ask, "x-amz-part-number-marker")?.unwrap_or(0);
    let most = number(ask, "x-amz-max-parts")?
        .unwrap_or(PARTS_PAGE)
        .min(PARTS_PAGE);
    let behind = row
        .parts
        .iter()
        .filter(|part| usize::from(part.number) > marker);
    let page: Vec<_> = behind.clone().take(most).collect();
    let is_truncated = behind.count() > page.len();
    document.element("ObjectParts", |document| {
        document.text("PartsCount", &row.parts.len().to_string());
        document.text("PartNumberMarker", &marker.to_string());
        let next = page.last().map_or(marker, |part| usize::from(part.number));
        document.text("NextPartNumberMarker", &next.to_string());
        document.text("MaxParts", &most.to_string());
        document.text("IsTruncated", &is_truncated.to_string());
        // S3 lists the parts themselves only where each has a checksum.
        for part in page.iter().filter(|part| part.checksum.is_some()) {
            document.element("Part", |document| {
                document.text("PartNumber", &part.number.to_string());
                document.text("Size", &part.size_bytes.to_string());
                if let Some(checksum) = &part.checksum {
                    document.text(checksum.algorithm().element_name(), &checksum.base64());
                }
            });
        }
    });
    Ok(())
}
