//! ListObjectVersions: `GET /bucket?versions` (S3 API, ListObjectVersions).

use http::StatusCode;

use super::list_objects_v2::{write_bytes, write_prefixes};
use super::{Encoding, marker_group, page_bound, write_owner, xml_time};
use crate::origin::ask::Ask;
use crate::origin::fault::Fault;
use crate::origin::listing::Request;
use crate::origin::listing_markers::{End, Entry, MarkerPage};
use crate::origin::meta::{BucketRow, ListedVersion, VersionId, VersionSeek};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::reply::{self, Reply};
use crate::origin::store::Store;
use crate::origin::xml::{Document, NAMESPACE};

/// Versions fetched at a time.
const BATCH: usize = 256;

/// Answers with one page.
///
/// # Errors
/// [`Fault::NoSuchBucket`], a parameter that cannot be honoured, or [`Fault::Meta`].
pub async fn run(ask: &Ask<'_>, bucket: &BucketName) -> Result<Reply, Fault> {
    let query = ask.fields.query;
    let encoding = Encoding::of(query)?;
    let text =
        |name| -> Result<String, Fault> { Ok(query.get(name)?.unwrap_or_default().to_owned()) };
    let (prefix, delimiter) = (text("prefix")?, text("delimiter")?);
    let (key_marker, version_marker) = (text("key-marker")?, text("version-id-marker")?);
    let max_entries = page_bound(query, "max-keys")?;
    if key_marker.is_empty() && !version_marker.is_empty() {
        return Err(Fault::InvalidParameter {
            name: "version-id-marker",
        });
    }
    let row = ask.store.bucket(bucket).await?;
    let older_than = older_than(ask.store, row.id, &key_marker, &version_marker).await?;
    let request = Request {
        prefix: prefix.clone(),
        delimiter: delimiter.clone(),
        start_after: key_marker.clone(),
        resume: marker_group(&prefix, &delimiter, &key_marker),
        max_entries,
    };
    let mut page: MarkerPage<ListedVersion> = MarkerPage::new(request, older_than);
    while !page.is_done() {
        let seek = VersionSeek {
            from: page.seek().clone(),
            older_than: page.behind(),
        };
        let meta = &ask.store.inner.meta;
        let batch = meta.list_versions(row.id, &seek, BATCH).await?;
        let is_last = batch.len() < BATCH;
        page.take_in(batch, is_last);
    }
    let mut document = Document::new("ListVersionsResult", Some(NAMESPACE));
    document.text("Name", &row.name);
    document.text("Prefix", &encoding.write(&prefix));
    document.text("KeyMarker", &encoding.write(&key_marker));
    document.text("VersionIdMarker", &version_marker);
    if !delimiter.is_empty() {
        document.text("Delimiter", &encoding.write(&delimiter));
    }
    encoding.tell(&mut document);
    document.text("MaxKeys", &max_entries.to_string());
    document.text("IsTruncated", &page.next().is_some().to_string());
    match (page.next(), page.entries().last()) {
        (Some(End::Entry), Some(last)) => {
            document.text("NextKeyMarker", &encoding.write(last.key().as_str()));
            document.text("NextVersionIdMarker", &last.version_id.to_string());
        }
        (Some(End::Prefix(prefix)), _) => document.text("NextKeyMarker", &encoding.write(prefix)),
        (Some(End::Entry) | None, _) => {}
    }
    for version in page.entries() {
        write_version(&mut document, &row, version, encoding)?;
    }
    write_prefixes(&mut document, page.common_prefixes(), encoding);
    Ok(reply::xml(StatusCode::OK, document))
}

/// The version that the markers name, as a place to go on behind.
async fn older_than(
    store: &Store,
    bucket: i64,
    key_marker: &str,
    version_marker: &str,
) -> Result<Option<(ObjectKey, i64)>, Fault> {
    if version_marker.is_empty() {
        return Ok(None);
    }
    let key = ObjectKey::new(key_marker)?;
    let number = match VersionId::parse(version_marker)? {
        VersionId::Number(number) => number,
        VersionId::Null => {
            let version = store.inner.meta.version(bucket, &key, VersionId::Null);
            match version.await? {
                Some(version) => version.number,
                // It went in between: nothing of the key is listed twice, and what is older stays unseen.
                None => return Ok(None),
            }
        }
    };
    Ok(Some((key, number)))
}

impl Entry for ListedVersion {
    fn key(&self) -> &ObjectKey {
        &self.object.key
    }

    fn number(&self) -> i64 {
        self.number
    }
}

fn write_version(
    document: &mut Document,
    bucket: &BucketRow,
    version: &ListedVersion,
    encoding: Encoding,
) -> Result<(), Fault> {
    let object = &version.object;
    let modified = xml_time(object.modified_ms)?;
    let owner = bucket.owner_of(&object.owner)?;
    let element = if version.is_delete_marker {
        "DeleteMarker"
    } else {
        "Version"
    };
    document.element(element, |document| {
        document.text("Key", &encoding.write(object.key.as_str()));
        document.text("VersionId", &version.version_id.to_string());
        document.text("IsLatest", &version.is_latest.to_string());
        document.text("LastModified", &modified);
        if !version.is_delete_marker {
            write_bytes(document, object);
        }
        write_owner(document, "Owner", owner);
    });
    Ok(())
}
