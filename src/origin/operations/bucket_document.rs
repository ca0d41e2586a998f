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
use crate::origin::fault::Fault;
use crate::origin::meta::{BucketRow, DocumentKind, StorageClass};
use crate::origin::names::BucketName;
use crate::origin::permission;
use crate::origin::reply::{self, Reply, ReplyBody};
use crate::origin::xml::{Document, NAMESPACE};

/// Answers with the document.
///
/// # Errors
/// [`Fault::NoSuchBucket`]; [`Fault::NotConfigured`] where S3 says that there is none.
pub async fn get(ask: &Ask<'_>, bucket: &BucketName, kind: DocumentKind) -> Result<Reply, Fault> {
    let row = ask.store.bucket(bucket).await?;
    // A list is told with the owner that the bucket has, and where lists are off as what counts then.
    let stored = row.document(kind).filter(|_| kind != DocumentKind::Acl);
    if let Some(document) = stored {
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
            let lists = row.has_lists()?;
            let (acl, none) = (row.acl()?.filter(|_| lists), Acl::default());
            let mut document = Document::new("AccessControlPolicy", Some(NAMESPACE));
            let owner = owner_of(ask, &row);
            acl.unwrap_or(&none).write(owner, &mut document);
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
            let owner = owner_of(ask, row);
            let asked = object_acl::in_fields(&ask.fields)?;
            let (acl, is_owners) = match &asked {
                Some(_) if !document.is_empty() => return Err(Fault::AclTwice),
                Some(asked) => (asked.acl(owner, owner), asked.is_bucket_owners(owner)),
                None => {
                    let acl = Acl::parse_of(&document, owner)?;
                    let is_owners = acl == Acl::default();
                    (acl, is_owners)
                }
            };
            permission::refuse_list(ask.store, row, &acl, owner, is_owners)?;
            if !row.has_lists()? {
                // It changes nothing: the list that the bucket had before counts again when lists do.
                return Ok(row.document(kind).map(|document| document.to_vec()));
            }
            return Ok(Some(object_acl::to_row(&acl, owner)));
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
            let ownership = Ownership::parse(&document)?;
            if !ownership.has_lists() && row.acl()?.is_some_and(|acl| grants_to_others(acl, row)) {
                return Err(Fault::AclOfEnforced);
            }
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

/// Whose a bucket is. One of the first stores has no owner, and is anybody's who asks.
fn owner_of<'o>(ask: &'o Ask<'_>, row: &'o BucketRow) -> &'o str {
    match row.owner.as_str() {
        "" => ask.owner(),
        owner => owner,
    }
}

fn grants_to_others(acl: &Acl, row: &BucketRow) -> bool {
    acl.is_public() || acl.key_ids().any(|id| id != row.owner)
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
