//! GetObjectAcl, PutObjectAcl: `/bucket/key?acl` (S3 API), and whose objects are (S3 user guide, "Controlling ownership
//! of objects and disabling ACLs for your bucket").

use http::StatusCode;

use super::{add_version, find_version_in, told_version_in};
use crate::origin::access::{Acl, AskedAcl, Canned};
use crate::origin::ask::Ask;
use crate::origin::documents::Ownership;
use crate::origin::fault::Fault;
use crate::origin::fields::RequestFields;
use crate::origin::meta::{BucketRow, MetaError, UploadRow, VersionSetting, Versioning};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::permission;
use crate::origin::reply::{self, Reply};
use crate::origin::xml::{Document, NAMESPACE};

/// Whose a new object is, and its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// The access key id of the owner.
    pub owner: String,
    /// The list in the form that is stored; empty for the default.
    pub acl: Vec<u8>,
}

impl Owned {
    /// Reads it out of the fields of an upload of `writer` into a bucket.
    ///
    /// # Errors
    /// A list that cannot be honoured.
    pub fn of_upload(
        fields: &RequestFields<'_>,
        bucket: &BucketRow,
        writer: &str,
    ) -> Result<Self, Fault> {
        let asked = in_fields(fields)?;
        let is_handed_over = match bucket.ownership()? {
            Ownership::BucketOwnerEnforced => true,
            Ownership::BucketOwnerPreferred => {
                asked == Some(AskedAcl::Canned(Canned::BucketOwnerFullControl))
            }
            Ownership::ObjectWriter => false,
        };
        let owner = match bucket.owner.as_str() {
            "" => writer,
            bucket_owner if is_handed_over => bucket_owner,
            _ => writer,
        };
        let acl = match asked {
            // One that could be given where lists are off is what there is without one.
            Some(asked) if bucket.has_lists()? => to_row(&asked.acl(owner, &bucket.owner), owner),
            _ => Vec::new(),
        };
        Ok(Owned {
            owner: owner.to_owned(),
            acl,
        })
    }

    /// As [`Owned::of_upload`], with a list that names the owner also when it is the default: what an upload of parts
    /// keeps, whose row says who began it.
    ///
    /// # Errors
    /// A list that cannot be honoured.
    pub fn of_parts(
        fields: &RequestFields<'_>,
        bucket: &BucketRow,
        initiator: &str,
    ) -> Result<Self, Fault> {
        let mut owned = Owned::of_upload(fields, bucket, initiator)?;
        if owned.acl.is_empty() && owned.owner != initiator {
            owned.acl = to_row(&Acl::default(), &owned.owner);
        }
        Ok(owned)
    }
}

/// Whose the object of an upload of parts will be.
///
/// # Errors
/// [`Fault::Meta`] of a row that cannot have been written.
pub(super) fn owner_of_parts(bucket: &BucketRow, upload: &UploadRow) -> Result<String, Fault> {
    let kept = if upload.acl.is_empty() {
        None
    } else {
        Acl::owner_in(&upload.acl).map_err(|_| impossible())?
    };
    let owner = kept.as_deref().unwrap_or(&upload.owner);
    Ok(bucket.owner_of(owner)?.to_owned())
}

/// What the fields of a request say that a list is to be.
///
/// # Errors
/// One that cannot be honoured.
pub fn in_fields(fields: &RequestFields<'_>) -> Result<Option<AskedAcl>, Fault> {
    AskedAcl::from_fields(|name| fields.amz(name).map_err(Fault::from))
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
    Acl::parse(row).map_err(|_| impossible())
}

fn impossible() -> Fault {
    Fault::Meta(MetaError::ImpossibleRow { column: "acl" })
}

/// Answers with the list.
///
/// # Errors
/// As HeadObject.
pub async fn get(ask: &Ask<'_>, bucket: &BucketName, key: &ObjectKey) -> Result<Reply, Fault> {
    let version_id = ask.version_id()?;
    let row = ask.store.bucket(bucket).await?;
    let version = find_version_in(ask.store, &row, key, version_id).await?;
    let acl = if row.has_lists()? {
        of_row(&version.acl)?
    } else {
        Acl::default()
    };
    let mut document = Document::new("AccessControlPolicy", Some(NAMESPACE));
    acl.write(row.owner_of(&version.owner)?, &mut document);
    let mut reply = reply::xml(StatusCode::OK, document);
    add_version(reply.headers_mut(), told_version_in(&row, &version));
    Ok(reply)
}

/// Sets the list: out of the fields, or out of the document.
///
/// # Errors
/// As HeadObject, or what is wrong with the list.
pub async fn put(ask: &mut Ask<'_>, bucket: &BucketName, key: &ObjectKey) -> Result<Reply, Fault> {
    let document = ask.document().await?;
    let asked = in_fields(&ask.fields)?;
    if asked.is_some() && !document.is_empty() {
        return Err(Fault::AclTwice);
    }
    let row = ask.store.bucket(bucket).await?;
    let version_id = ask.version_id()?;
    let meta = &ask.store.inner.meta;
    let version = match version_id {
        None => meta.latest(row.id, key).await?,
        Some(id) => meta.version(row.id, key, id).await?,
    };
    // An object of the first stores has no owner, one that is not there has none either; the change says that.
    let owner = version.as_deref().map_or("", |version| &version.owner);
    let owner = match row.owner_of(owner)? {
        "" => ask.owner(),
        owner => owner,
    };
    let acl = match &asked {
        Some(asked) => asked.acl(owner, &row.owner),
        None => Acl::parse_of(&document, owner)?,
    };
    let is_bucket_owners = match &asked {
        Some(asked) => asked.is_bucket_owners(&row.owner),
        None => acl == Acl::default(),
    };
    permission::refuse_list(ask.store, &row, &acl, owner, is_bucket_owners)?;
    let told = if row.has_lists()? {
        let setting = VersionSetting::Acl(to_row(&acl, owner));
        let changed = meta.set(bucket, key, version_id, setting).await??;
        (row.versioning != Versioning::Off).then_some(changed)
    } else {
        // It changes nothing: the list that the object had before counts again when lists do.
        let version = find_version_in(ask.store, &row, key, version_id).await?;
        told_version_in(&row, &version)
    };
    let mut reply = reply::empty(StatusCode::OK);
    add_version(reply.headers_mut(), told);
    Ok(reply)
}

#[cfg(test)]
#[path = "object_acl_tests.rs"]
mod tests;
