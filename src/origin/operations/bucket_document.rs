//! The settings of a bucket that are documents: policy, access control list, CORS, lifecycle, tags, notifications,
//! object lock, ownership and public access (S3 API, `GetBucket…`, `PutBucket…`, `DeleteBucket…`).
//!
//! A document is kept as it was sent, once it has been understood: what comes back is what was put. Where S3 adds to one,
//! it is kept as it was understood.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use super::object_acl;
use crate::origin::access::Acl;
use crate::origin::access::Policy;
use crate::origin::ask::Ask;
use crate::origin::documents::CorsRules;
use crate::origin::documents::LifecycleRules;
use crate::origin::documents::Notifications;
use crate::origin::documents::ObjectLockConfiguration;
use crate::origin::documents::Ownership;
use crate::origin::documents::PublicAccessBlock;
use crate::origin::documents::{TagOwner, Tags};
use crate::origin::meta::{BucketRow, DocumentKind, StorageClass};
use crate::origin::names::BucketName;
use crate::origin::permission;
use crate::origin::reply::{self, Reply, ReplyBody};
use crate::origin::reply_error::Fault;
use crate::origin::xml::{Document, NAMESPACE};

/// Answers with the document.
///
/// # Errors
/// [`Fault::NoSuchBucket`]; [`Fault::NotConfigured`] where S3 says that there is none.
pub async fn get(ask: &Ask<'_>, bucket: &BucketName, kind: DocumentKind) -> Result<Reply, Fault> {
    let row = ask.store.bucket(bucket).await?;
    if let Some(document) = row.document(kind) {
        let mut reply = reply::empty(StatusCode::OK);
        let content_type = match kind {
            DocumentKind::Policy => "application/json",
            _ => "application/xml",
        };
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        *reply.body_mut() = ReplyBody::Whole(Some(document.clone()));
        return Ok(reply);
    }
    let code = match kind {
        DocumentKind::Acl => {
            let owner = if row.owner.is_empty() {
                ask.owner()
            } else {
                &row.owner
            };
            let mut document = Document::new("AccessControlPolicy", Some(NAMESPACE));
            Acl::default().write(owner, &mut document);
            return Ok(reply::xml(StatusCode::OK, document));
        }
        DocumentKind::Notification => {
            let document = Document::new("NotificationConfiguration", Some(NAMESPACE));
            return Ok(reply::xml(StatusCode::OK, document));
        }
        DocumentKind::Cors => "NoSuchCORSConfiguration",
        DocumentKind::Lifecycle => "NoSuchLifecycleConfiguration",
        DocumentKind::ObjectLock => "ObjectLockConfigurationNotFoundError",
        DocumentKind::OwnershipControls => "OwnershipControlsNotFoundError",
        DocumentKind::Policy => "NoSuchBucketPolicy",
        DocumentKind::PublicAccessBlock => "NoSuchPublicAccessBlockConfiguration",
        DocumentKind::Tagging => "NoSuchTagSet",
    };
    Err(Fault::NotConfigured { code })
}

/// Keeps the document, when it can be honoured.
///
/// # Errors
/// [`Fault::NoSuchBucket`], or what is wrong with the document.
pub async fn put(
    ask: &mut Ask<'_>,
    bucket: &BucketName,
    kind: DocumentKind,
) -> Result<Reply, Fault> {
    let document = ask.document().await?;
    let row = ask.store.bucket(bucket).await?;
    let kept = understood(ask, &row, bucket, kind, document)?;
    let meta = &ask.store.inner.meta;
    meta.set_document(bucket, kind, kept).await??;
    let status = match kind {
        DocumentKind::Policy | DocumentKind::Tagging => StatusCode::NO_CONTENT,
        _ => StatusCode::OK,
    };
    Ok(reply::empty(status))
}

/// What is kept of a document; `None` when it says what would be without it.
fn understood(
    ask: &Ask<'_>,
    row: &BucketRow,
    bucket: &BucketName,
    kind: DocumentKind,
    document: Bytes,
) -> Result<Option<Vec<u8>>, Fault> {
    match kind {
        DocumentKind::Acl => {
            let acl = match object_acl::in_fields(&ask.fields)? {
                Some(_) if !document.is_empty() => return Err(Fault::AclTwice),
                Some(acl) => acl,
                None => Acl::parse(&document)?,
            };
            permission::refuse_public_acl(row, &acl)?;
            return Ok(Some(object_acl::to_row(&acl, ask.owner())));
        }
        DocumentKind::Cors => {
            CorsRules::parse(&document)?;
        }
        DocumentKind::Lifecycle => {
            let rules = LifecycleRules::parse(&document)?;
            let has_cold = ask.store.inner.blobs.has_cold();
            let cold = StorageClass::StandardIa.name();
            if !rules
                .storage_classes()
                .all(|class| has_cold && class == cold)
            {
                return Err(Fault::StorageClass);
            }
            // Rules without an id have been given one, and are told under it.
            let mut whole = Document::new("LifecycleConfiguration", Some(NAMESPACE));
            rules.write(&mut whole);
            return Ok(Some(whole.finish()));
        }
        DocumentKind::Notification => {
            let notifications = Notifications::parse(&document)?;
            if notifications.targets.is_empty() {
                return Ok(None);
            }
            let allowed = &ask.store.inner.webhooks;
            let mut targets = notifications.targets.iter();
            if !targets.all(|target| allowed.iter().any(|own| target.url().starts_with(own))) {
                return Err(Fault::WebhookNotAllowed);
            }
        }
        DocumentKind::ObjectLock => {
            ObjectLockConfiguration::parse(&document)?;
        }
        DocumentKind::OwnershipControls => {
            Ownership::parse(&document)?;
        }
        DocumentKind::Policy => {
            let policy = Policy::parse(&document, bucket)?;
            policy.refuse_open_ends()?;
            if row.public_access_block()?.refuses_policy(&policy) {
                return Err(Fault::AccessDenied {
                    reason: "public_access_block",
                });
            }
        }
        DocumentKind::PublicAccessBlock => {
            // What the document leaves out is off, and S3 says so to who asks.
            let block = PublicAccessBlock::parse(&document)?;
            let mut whole = Document::new("PublicAccessBlockConfiguration", Some(NAMESPACE));
            block.write(&mut whole);
            return Ok(Some(whole.finish()));
        }
        DocumentKind::Tagging => {
            Tags::parse(&document, TagOwner::Bucket)?;
        }
    }
    Ok(Some(document.to_vec()))
}

/// Forgets the document. 204 also when there was none.
///
/// # Errors
/// [`Fault::NoSuchBucket`], [`Fault::Meta`].
pub async fn delete(
    ask: &Ask<'_>,
    bucket: &BucketName,
    kind: DocumentKind,
) -> Result<Reply, Fault> {
    let meta = &ask.store.inner.meta;
    meta.set_document(bucket, kind, None).await??;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
