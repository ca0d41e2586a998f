//! CreateBucket: `PUT /bucket` (S3 API, CreateBucket).

use http::StatusCode;
use http::header::LOCATION;

use super::field_value;
use crate::origin::ask::Ask;
use crate::origin::documents::CreateBucket;
use crate::origin::documents::Ownership;
use crate::origin::meta::{BucketCreated, DocumentKind};
use crate::origin::names::BucketName;
use crate::origin::reply::{self, Reply};
use crate::origin::reply_error::Fault;
use crate::origin::xml::{Document, NAMESPACE};

/// The `x-amz-*` fields that this operation knows.
pub const KNOWN_FIELDS: [&str; 4] = [
    "x-amz-acl",
    "x-amz-bucket-object-lock-enabled",
    "x-amz-grant-",
    "x-amz-object-ownership",
];

/// Makes the bucket.
///
/// # Errors
/// [`Fault::BucketExists`], [`Fault::OtherRegion`], or what is wrong with the document.
pub async fn run(ask: &mut Ask<'_>, name: BucketName) -> Result<Reply, Fault> {
    if let Some(locked) = ask.fields.amz("x-amz-bucket-object-lock-enabled")?
        && !locked.eq_ignore_ascii_case("false")
    {
        return Err(Fault::NotImplemented {
            what: "x-amz-bucket-object-lock-enabled",
        });
    }
    let acl = super::object_acl::from_fields(ask)?;
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
        let mut controls = Document::new("OwnershipControls", Some(NAMESPACE));
        Ownership::from_word(&word)?.write(&mut controls);
        documents.push((DocumentKind::OwnershipControls, controls.finish()));
    }
    if !acl.is_empty() {
        documents.push((DocumentKind::Acl, acl));
    }
    let now_ms = ask.store.now_ms()?;
    let path = format!("/{name}");
    let meta = &ask.store.inner.meta;
    let created = meta.create_bucket(&name, ask.owner(), now_ms, documents);
    match created.await? {
        BucketCreated::Created => {
            let mut reply = reply::empty(StatusCode::OK);
            reply.headers_mut().insert(LOCATION, field_value(&path));
            Ok(reply)
        }
        BucketCreated::AlreadyExists => {
            let row = meta.bucket(&name).await?;
            let is_ours = row.is_none_or(|row| row.owner == ask.owner() || row.owner.is_empty());
            Err(if is_ours {
                Fault::BucketExists
            } else {
                Fault::BucketTaken
            })
        }
    }
}
