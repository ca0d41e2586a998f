//! GetObjectAcl, PutObjectAcl: `/bucket/key?acl` (S3 API).

use http::StatusCode;

use super::{add_version, find_version, told_version};
use crate::origin::access::Acl;
use crate::origin::ask::Ask;
use crate::origin::fields::RequestFields;
use crate::origin::meta::{MetaError, VersionSetting, Versioning};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::permission;
use crate::origin::reply::{self, Reply};
use crate::origin::reply_error::Fault;
use crate::origin::xml::{Document, NAMESPACE};

/// Reads the list that an upload brings in its fields into the form that is stored; empty for the default.
///
/// # Errors
/// A list that cannot be honoured.
pub(super) fn from_fields(ask: &Ask<'_>) -> Result<Vec<u8>, Fault> {
    match in_fields(&ask.fields)? {
        None => Ok(Vec::new()),
        Some(acl) => Ok(to_row(&acl, ask.owner())),
    }
}

/// The list that stands in the fields of a request.
///
/// # Errors
/// One that cannot be honoured.
pub fn in_fields(fields: &RequestFields<'_>) -> Result<Option<Acl>, Fault> {
    Acl::from_fields(|name| fields.amz(name).map_err(Fault::from))
}

/// The form that is stored: the document itself.
pub(super) fn to_row(acl: &Acl, owner: &str) -> Vec<u8> {
    let mut document = Document::new("AccessControlPolicy", Some(NAMESPACE));
    acl.write(owner, &mut document);
    document.finish()
}

/// Reads the form that is stored.
///
/// # Errors
/// [`Fault::Meta`] when that cannot have written it.
pub fn of_row(row: &[u8]) -> Result<Acl, Fault> {
    if row.is_empty() {
        return Ok(Acl::default());
    }
    Acl::parse(row).map_err(|_| Fault::Meta(MetaError::ImpossibleRow { column: "acl" }))
}

/// Answers with the list.
///
/// # Errors
/// As HeadObject.
pub async fn get(ask: &Ask<'_>, bucket: &BucketName, key: &ObjectKey) -> Result<Reply, Fault> {
    let row = find_version(ask, bucket, key).await?;
    let mut document = Document::new("AccessControlPolicy", Some(NAMESPACE));
    of_row(&row.acl)?.write(&row.owner, &mut document);
    let mut reply = reply::xml(StatusCode::OK, document);
    add_version(reply.headers_mut(), told_version(ask, bucket, &row).await?);
    Ok(reply)
}

/// Sets the list: out of the fields, or out of the document.
///
/// # Errors
/// As HeadObject, or what is wrong with the list.
pub async fn put(ask: &mut Ask<'_>, bucket: &BucketName, key: &ObjectKey) -> Result<Reply, Fault> {
    let document = ask.document().await?;
    let acl = match in_fields(&ask.fields)? {
        Some(_) if !document.is_empty() => return Err(Fault::AclTwice),
        Some(acl) => acl,
        None => Acl::parse(&document)?,
    };
    let row = ask.store.bucket(bucket).await?;
    permission::refuse_public_acl(&row, &acl)?;
    let version_id = ask.version_id()?;
    let setting = VersionSetting::Acl(to_row(&acl, ask.owner()));
    let meta = &ask.store.inner.meta;
    let changed = meta.set(bucket, key, version_id, setting).await??;
    let mut reply = reply::empty(StatusCode::OK);
    let keeps = row.versioning != Versioning::Off;
    add_version(reply.headers_mut(), keeps.then_some(changed));
    Ok(reply)
}
