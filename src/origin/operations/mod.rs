//! One file per operation. Each takes the store and what it needs of a verified request, and answers or fails.

pub mod abort_multipart_upload;
pub mod bucket_document;
pub mod bucket_versioning;
pub mod complete_multipart_upload;
pub mod copy_object;
mod copy_source;
pub mod create_bucket;
pub mod create_multipart_upload;
pub mod delete_bucket;
pub mod delete_object;
pub mod delete_objects;
pub mod get_bucket_location;
pub mod get_bucket_policy_status;
pub mod get_bucket_unset;
pub mod get_object;
pub mod get_object_attributes;
pub mod head_bucket;
pub mod list_buckets;
pub mod list_multipart_uploads;
pub mod list_object_versions;
pub mod list_objects;
pub mod list_objects_v2;
pub mod list_parts;
pub mod object_acl;
pub mod object_lock;
pub mod object_tagging;
pub mod post_object;
pub mod preflight;
pub mod put_object;
pub mod upload_part;
pub mod upload_part_copy;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use time::OffsetDateTime;
use time::macros::format_description;

use super::ask::Ask;
use super::fault::Fault;
use super::meta::{
    BucketRow, MetaError, ObjectChecksum, PartRow, UploadRow, VersionId, VersionKind, VersionRow,
};
use super::names::{BucketName, ObjectKey};
use super::opaque_number::OpaqueNumbers;
use super::query::Query;
use super::store::Store;
use super::xml::Document;

/// `2009-10-12T17:50:30.000Z`, as S3's documents write times.
fn xml_time(ms: i64) -> Result<String, Fault> {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&format).ok())
        .ok_or(Fault::Meta(MetaError::ImpossibleRow {
            column: "modified_ms",
        }))
}

/// The time in an event message; what cannot be written is the beginning of 1970.
pub(super) fn event_time(ms: i64) -> String {
    xml_time(ms).unwrap_or_else(|_| "1970-01-01T00:00:00.000Z".to_owned())
}

/// The whole second in which an object was written: an HTTP date is no finer.
fn modified(modified_ms: i64) -> Result<SystemTime, Fault> {
    let seconds = u64::try_from(modified_ms.div_euclid(1000)).ok();
    seconds
        .filter(|seconds| *seconds < 253_402_300_800)
        .map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))
        .ok_or(Fault::Meta(MetaError::ImpossibleRow {
            column: "modified_ms",
        }))
}

/// A field value made of text that we wrote ourselves, so it is visible ASCII.
fn field_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a field value of ours is visible ASCII")
}

/// Names the version in a reply, in a bucket that keeps them.
fn add_version(headers: &mut HeaderMap, version_id: Option<VersionId>) {
    if let Some(id) = version_id {
        headers.insert("x-amz-version-id", field_value(&id.to_string()));
    }
}

/// Tells the checksum of an object in a reply; `suffix` is `-N` for one over the checksums of N parts.
fn add_checksum(headers: &mut HeaderMap, checksum: &ObjectChecksum, suffix: &str) {
    let value = format!("{}{suffix}", checksum.checksum.base64());
    headers.insert(
        checksum.checksum.algorithm().field_name(),
        field_value(&value),
    );
    headers.insert(
        "x-amz-checksum-type",
        HeaderValue::from_static(checksum.kind.name()),
    );
}

/// `-N` behind a checksum over those of N parts.
fn parts_suffix(row: &VersionRow) -> String {
    let kind = row.checksum.as_ref().map(|checksum| checksum.kind);
    kind.map_or(String::new(), |kind| parts_suffix_of(kind, row.parts.len()))
}

/// As [`parts_suffix`], for a checksum of this type over this many parts.
fn parts_suffix_of(kind: super::meta::ChecksumType, parts: usize) -> String {
    match kind {
        super::meta::ChecksumType::Composite => format!("-{parts}"),
        super::meta::ChecksumType::FullObject => String::new(),
    }
}

/// The group that a marker stands behind, when it is a common prefix: then it stands behind all of its keys.
fn marker_group(prefix: &str, delimiter: &str, marker: &str) -> Option<super::listing::Token> {
    if delimiter.is_empty() {
        return None;
    }
    let tail = marker.strip_prefix(prefix)?;
    let group_end = tail.find(delimiter)? + delimiter.len();
    (group_end == tail.len()).then(|| super::listing::Token::Prefix(marker.to_owned()))
}

/// The version that a request means, which is an object.
///
/// # Errors
/// [`Fault::NoSuchBucket`], [`Fault::NoSuchKey`], [`Fault::NoSuchVersion`], [`Fault::DeleteMarker`].
async fn find_version(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<std::sync::Arc<VersionRow>, Fault> {
    let version_id = ask.version_id()?;
    find_version_of(ask.store, bucket, key, version_id).await
}

/// As [`find_version`], with the version id that a request names.
async fn find_version_of(
    store: &Store,
    bucket: &BucketName,
    key: &ObjectKey,
    version_id: Option<VersionId>,
) -> Result<std::sync::Arc<VersionRow>, Fault> {
    let bucket = store.bucket(bucket).await?;
    find_version_in(store, &bucket, key, version_id).await
}

/// As [`find_version_of`], in a bucket that has been found.
async fn find_version_in(
    store: &Store,
    bucket: &BucketRow,
    key: &ObjectKey,
    version_id: Option<VersionId>,
) -> Result<std::sync::Arc<VersionRow>, Fault> {
    let meta = &store.inner.meta;
    let row = match version_id {
        None => meta.latest(bucket.id, key).await?.ok_or(Fault::NoSuchKey)?,
        Some(id) => meta
            .version(bucket.id, key, id)
            .await?
            .ok_or(Fault::NoSuchVersion)?,
    };
    if row.kind == VersionKind::DeleteMarker {
        return Err(Fault::DeleteMarker {
            version_id: row.version_id,
            modified: modified(row.modified_ms)?,
            was_named: version_id.is_some(),
        });
    }
    Ok(row)
}

/// The version id to tell of, in a bucket that has ever kept versions.
async fn told_version(
    ask: &Ask<'_>,
    bucket: &BucketName,
    row: &VersionRow,
) -> Result<Option<VersionId>, Fault> {
    let bucket = ask.store.bucket(bucket).await?;
    Ok(told_version_in(&bucket, row))
}

/// As [`told_version`], of a bucket that has been found.
fn told_version_in(bucket: &BucketRow, row: &VersionRow) -> Option<VersionId> {
    (bucket.versioning != super::meta::Versioning::Off).then_some(row.version_id)
}

/// What `encoding-type=url` leaves alone: unreserved characters and the slash.
const URL_KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// How keys are written in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Plain,
    Url,
}

impl Encoding {
    /// Reads `encoding-type`.
    fn of(query: &Query) -> Result<Self, Fault> {
        let name = "encoding-type";
        match query.get(name)? {
            None => Ok(Encoding::Plain),
            Some("url") => Ok(Encoding::Url),
            Some(_) => Err(Fault::InvalidParameter { name }),
        }
    }

    fn write(self, text: &str) -> String {
        match self {
            Encoding::Plain => text.to_owned(),
            Encoding::Url => utf8_percent_encode(text, URL_KEPT).to_string(),
        }
    }

    /// Says so in the document.
    fn tell(self, document: &mut Document) {
        if self == Encoding::Url {
            document.text("EncodingType", "url");
        }
    }
}

/// A bound on the entries of a page: `name` of the query, at most 1000, which is also the default.
fn page_bound(query: &Query, name: &'static str) -> Result<usize, Fault> {
    let most = super::listing::PAGE_MAX_ENTRIES;
    match query.get(name)? {
        None => Ok(most),
        // S3 documents that a page never holds more than 1000, and the document says so.
        Some(number) => number
            .parse::<u32>()
            .ok()
            .filter(|number| i32::try_from(*number).is_ok())
            .map(|number| (number as usize).min(most))
            .ok_or(Fault::InvalidParameter { name }),
    }
}

/// Writes who owns something.
fn write_owner(document: &mut Document, element: &'static str, owner: &str) {
    document.element(element, |document| {
        document.text("ID", owner);
        document.text("DisplayName", owner);
    });
}

/// The ids of uploads, as clients see them.
const UPLOAD_IDS: OpaqueNumbers = OpaqueNumbers::new(0xD6E8_FEB8_6659_FD93);

/// The upload that a request means.
///
/// # Errors
/// [`Fault::NoSuchBucket`], [`Fault::NoSuchUpload`].
async fn find_upload(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<UploadRow, Fault> {
    let bucket = ask.store.bucket(bucket).await?;
    let upload = ask.store.inner.meta.upload(upload_number(ask)?).await?;
    upload
        .filter(|upload| upload.bucket == bucket.id && upload.key == *key)
        .ok_or(Fault::NoSuchUpload)
}

/// The number of the upload that `uploadId` names, be it that it has ended.
fn upload_number(ask: &Ask<'_>) -> Result<i64, Fault> {
    let text = ask.fields.query.get("uploadId")?.unwrap_or_default();
    UPLOAD_IDS.read(text).ok_or(Fault::NoSuchUpload)
}

/// Parts of an upload behind the number `after`. They go with the upload, so those of one that has just ended are no
/// answer: it is looked for again behind them.
async fn parts_of(
    store: &Store,
    upload: &UploadRow,
    after: u16,
    most: usize,
) -> Result<Vec<PartRow>, Fault> {
    let meta = &store.inner.meta;
    let parts = meta.parts(upload.number, after, most).await?;
    match meta.upload(upload.number).await? {
        Some(_) => Ok(parts),
        None => Err(Fault::NoSuchUpload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_id_comes_back_as_it_went_out() {
        for number in [0, 1, 99, i64::MAX] {
            assert_eq!(UPLOAD_IDS.read(&UPLOAD_IDS.write(number)), Some(number));
        }
        assert_eq!(UPLOAD_IDS.read("x"), None);
    }
}
