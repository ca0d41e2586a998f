//! CreateBucket: `PUT /bucket` (S3 API, CreateBucket).

use http::StatusCode;
use http::header::LOCATION;

use super::{field_value, object_acl};
use crate::origin::ask::Ask;
use crate::origin::documents::CreateBucket;
use crate::origin::documents::{ObjectLockConfiguration, Ownership};
use crate::origin::fault::Fault;
use crate::origin::meta::{BucketCreated, BucketRow, DocumentKind};
use crate::origin::names::BucketName;
use crate::origin::permission;
use crate::origin::reply::{self, Reply};
use crate::origin::xml::{Document, NAMESPACE};

/// The `x-amz-*` fields that this operation knows.
pub const KNOWN_FIELDS: [&str; 4] = [
    "x-amz-acl",
    "x-amz-bucket-object-lock-enabled",
    "x-amz-grant-",
    "x-amz-object-ownership",
];

/// In the first of its regions S3 lets an owner make a bucket again that is there already (S3, CreateBucket,
/// `BucketAlreadyOwnedByYou`).
const FIRST_REGION: &str = "us-east-1";

/// Makes the bucket.
///
/// # Errors
/// [`Fault::BucketExists`], [`Fault::BucketTaken`], [`Fault::OtherRegion`], or what is wrong with the document.
pub async fn run(ask: &mut Ask<'_>, name: BucketName) -> Result<Reply, Fault> {
    let locks_versions = ask.fields.amz_flag("x-amz-bucket-object-lock-enabled")?;
    let asked = object_acl::in_fields(&ask.fields)?;
    let acl = asked
        .as_ref()
        .map(|asked| asked.acl(ask.owner(), ask.owner()));
    if let Some(acl) = &acl {
        permission::refuse_unknown_grantees(ask.store, acl, &[])?;
    }
    let bytes = ask.document().await?;
    let mut documents = Vec::new();
    if !bytes.is_empty() {
        let wanted = CreateBucket::parse(&bytes)?;
        if let Some(region) = &wanted.location
            && *region != ask.store.inner.region
        {
            return Err(Fault::OtherRegion);
        }
        if !wanted.tags.is_empty() {
            let mut tags = Document::new("Tagging", Some(NAMESPACE));
            wanted.tags.write(&mut tags);
            documents.push((DocumentKind::Tagging, tags.finish()));
        }
    }
    if let Some(word) = ask.fields.amz("x-amz-object-ownership")? {
        let ownership = Ownership::from_word(&word)?;
        if !ownership.has_lists() && acl.as_ref().is_some_and(|acl| !acl.grants.is_empty()) {
            return Err(Fault::AclOfEnforced);
        }
        let mut controls = Document::new("OwnershipControls", Some(NAMESPACE));
        ownership.write(&mut controls);
        documents.push((DocumentKind::OwnershipControls, controls.finish()));
    }
    if locks_versions {
        let mut configuration = Document::new("ObjectLockConfiguration", Some(NAMESPACE));
        ObjectLockConfiguration::default().write(&mut configuration);
        documents.push((DocumentKind::ObjectLock, configuration.finish()));
    }
    if let Some(acl) = acl {
        documents.push((DocumentKind::Acl, object_acl::to_row(&acl, ask.owner())));
    }
    let now_ms = ask.store.now_ms()?;
    let path = format!("/{name}");
    let meta = &ask.store.inner.meta;
    let wanted = documents.clone();
    let created = meta.create_bucket(&name, ask.owner(), now_ms, documents);
    match created.await? {
        BucketCreated::Created => Ok(made(&path)),
        BucketCreated::AlreadyExists => {
            // One that has just gone was anybody's.
            let row = meta.bucket(&name).await?.ok_or(Fault::BucketExists)?;
            let is_ours = row.owner == ask.owner() || row.owner.is_empty();
            match is_ours {
                true if ask.store.inner.region == FIRST_REGION && has_just(&row, &wanted) => {
                    Ok(made(&path))
                }
                true => Err(Fault::BucketExists),
                false => Err(Fault::BucketTaken),
            }
        }
    }
}

fn made(path: &str) -> Reply {
    let mut reply = reply::empty(StatusCode::OK);
    reply.headers_mut().insert(LOCATION, field_value(path));
    reply
}

/// Whether a bucket is as if it had been made with these documents, so that making it again changes nothing. S3 would
/// give one the list of the second request; here it is not lost by that.
fn has_just(row: &BucketRow, wanted: &[(DocumentKind, Vec<u8>)]) -> bool {
    let of_creation = [
        DocumentKind::Acl,
        DocumentKind::Tagging,
        DocumentKind::ObjectLock,
        DocumentKind::OwnershipControls,
    ];
    of_creation.into_iter().all(|kind| {
        let wanted = wanted.iter().find(|(of, _)| *of == kind);
        row.document(kind).map(|document| &document[..])
            == wanted.map(|(_, document)| &document[..])
    })
}
