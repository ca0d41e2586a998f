//! GetObjectTagging, PutObjectTagging, DeleteObjectTagging: `/bucket/key?tagging` (S3 API).

use http::StatusCode;

use super::{add_version, find_version, told_version};
use crate::origin::access::Action;
use crate::origin::ask::Ask;
use crate::origin::documents::{TagOwner, Tags};
use crate::origin::fault::Fault;
use crate::origin::fields::RequestFields;
use crate::origin::meta::{MetaError, VersionRow, VersionSetting, Versioning};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::permission::{self, Brought};
use crate::origin::reply::{self, Reply};
use crate::origin::xml::{Document, NAMESPACE};

/// Reads `x-amz-tagging` into the form that is stored; empty without tags.
///
/// # Errors
/// Tags that break a rule.
pub(super) fn from_header(fields: &RequestFields<'_>) -> Result<String, Fault> {
    let tags = in_fields(fields)?;
    Ok(tags.map_or_else(String::new, |tags| tags.to_header()))
}

/// The tags that stand in the fields of a request.
///
/// # Errors
/// Tags that break a rule.
pub fn in_fields(fields: &RequestFields<'_>) -> Result<Option<Tags>, Fault> {
    match fields.amz("x-amz-tagging")? {
        None => Ok(None),
        Some(text) => Ok(Some(Tags::from_header(&text)?)),
    }
}

/// The tags of a version.
///
/// # Errors
/// [`Fault::Meta`] when the row holds none that we could have written.
pub fn of_row(row: &VersionRow) -> Result<Tags, Fault> {
    if row.tags.is_empty() {
        return Ok(Tags::default());
    }
    Tags::from_header(&row.tags)
        .map_err(|_| Fault::Meta(MetaError::ImpossibleRow { column: "tags" }))
}

/// Answers with the tags.
///
/// # Errors
/// As HeadObject.
pub async fn get(ask: &Ask<'_>, bucket: &BucketName, key: &ObjectKey) -> Result<Reply, Fault> {
    let row = find_version(ask, bucket, key).await?;
    let mut document = Document::new("Tagging", Some(NAMESPACE));
    of_row(&row)?.write(&mut document);
    let mut reply = reply::xml(StatusCode::OK, document);
    add_version(reply.headers_mut(), told_version(ask, bucket, &row).await?);
    Ok(reply)
}

/// Sets the tags.
///
/// # Errors
/// As HeadObject, or what is wrong with the document.
pub async fn put(ask: &mut Ask<'_>, bucket: &BucketName, key: &ObjectKey) -> Result<Reply, Fault> {
    let document = ask.document().await?;
    let tags = Tags::parse(&document, TagOwner::Object)?;
    let brought = Brought {
        tags,
        ..Brought::default()
    };
    permission::check_setting(ask, Action::PutObjectTagging, bucket, key, &brought).await?;
    let stored = brought.tags.to_header();
    set(ask, bucket, key, stored, StatusCode::OK).await
}

/// Takes the tags away.
///
/// # Errors
/// As HeadObject.
pub async fn delete(ask: &Ask<'_>, bucket: &BucketName, key: &ObjectKey) -> Result<Reply, Fault> {
    set(ask, bucket, key, String::new(), StatusCode::NO_CONTENT).await
}

async fn set(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
    tags: String,
    status: StatusCode,
) -> Result<Reply, Fault> {
    let version_id = ask.version_id()?;
    let setting = VersionSetting::Tags(tags);
    let meta = &ask.store.inner.meta;
    let changed = meta.set(bucket, key, version_id, setting).await??;
    let keeps = ask.store.bucket(bucket).await?.versioning != Versioning::Off;
    let mut reply = reply::empty(status);
    add_version(reply.headers_mut(), keeps.then_some(changed));
    Ok(reply)
}
