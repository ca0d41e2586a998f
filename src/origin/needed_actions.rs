//! Which actions a call needs the right to (IAM, "Actions, resources, and condition keys for Amazon S3").

use super::access::Action;
use super::call::{BucketCall, Call, ObjectCall, Verb};
use super::fault::Fault;
use super::fields::RequestFields;
use super::meta::{DocumentKind, VersionId};
use super::operations::object_acl;
use super::retention::ObjectLock;
use super::stats::Operation;

/// The actions that a call needs; all of them. An upload brings `lock`.
///
/// # Errors
/// A field that cannot be read, or a list that cannot be.
pub fn actions(
    call: &Call,
    fields: &RequestFields<'_>,
    lock: &ObjectLock,
    version_id: Option<VersionId>,
) -> Result<Vec<Action>, Fault> {
    let action = match call {
        Call::Preflight(_) => return Ok(Vec::new()),
        Call::ListBuckets => Action::ListAllMyBuckets,
        Call::Bucket(_, call) => match call {
            // Each object is asked about by itself, and a form by its signature.
            BucketCall::DeleteObjects | BucketCall::PostObject => return Ok(Vec::new()),
            BucketCall::Create => Action::CreateBucket,
            BucketCall::Head | BucketCall::ListObjects | BucketCall::ListObjectsV2 => {
                Action::ListBucket
            }
            BucketCall::Delete => Action::DeleteBucket,
            BucketCall::Location => Action::GetBucketLocation,
            BucketCall::Versioning(Verb::Get) => Action::GetBucketVersioning,
            BucketCall::Versioning(_) => Action::PutBucketVersioning,
            BucketCall::Document(kind, verb) => document_action(*kind, *verb),
            BucketCall::PolicyStatus => Action::GetBucketPolicyStatus,
            BucketCall::Unset(operation) => unset_action(*operation),
            BucketCall::ListObjectVersions => Action::ListBucketVersions,
            BucketCall::ListMultipartUploads => Action::ListBucketMultipartUploads,
        },
        Call::Object(_, _, call) => match call {
            ObjectCall::Put | ObjectCall::Copy | ObjectCall::CreateMultipartUpload => {
                let has_tags = fields.amz("x-amz-tagging")?.is_some();
                return actions_of_upload(fields, has_tags, lock);
            }
            ObjectCall::UploadPart
            | ObjectCall::UploadPartCopy
            | ObjectCall::CompleteMultipartUpload => Action::PutObject,
            ObjectCall::Get | ObjectCall::Head => Action::GetObject,
            ObjectCall::Delete => Action::DeleteObject,
            ObjectCall::Attributes => {
                return Ok(vec![
                    of_version(Action::GetObject, version_id),
                    of_version(Action::GetObjectAttributes, version_id),
                ]);
            }
            ObjectCall::Tagging(Verb::Get) => Action::GetObjectTagging,
            // Asked when it is known what the document brings.
            ObjectCall::Tagging(Verb::Put) => return Ok(Vec::new()),
            ObjectCall::Tagging(Verb::Delete) => Action::DeleteObjectTagging,
            ObjectCall::Acl(Verb::Get) => Action::GetObjectAcl,
            ObjectCall::Acl(_) => Action::PutObjectAcl,
            ObjectCall::Retention(Verb::Get) => Action::GetObjectRetention,
            ObjectCall::LegalHold(Verb::Get) => Action::GetObjectLegalHold,
            // As with tags.
            ObjectCall::Retention(_) | ObjectCall::LegalHold(_) => return Ok(Vec::new()),
            ObjectCall::ListParts => Action::ListMultipartUploadParts,
            ObjectCall::AbortMultipartUpload => Action::AbortMultipartUpload,
        },
    };
    Ok(vec![of_version(action, version_id)])
}

/// What an upload needs. A list that grants nobody anything but the bucket's owner, such as `private`, needs nothing more.
///
/// # Errors
/// A list that cannot be read.
pub fn actions_of_upload(
    fields: &RequestFields<'_>,
    has_tags: bool,
    lock: &ObjectLock,
) -> Result<Vec<Action>, Fault> {
    let mut needed = vec![Action::PutObject];
    if has_tags {
        needed.push(Action::PutObjectTagging);
    }
    if object_acl::in_fields(fields)?.is_some_and(|asked| asked.grants_to_others()) {
        needed.push(Action::PutObjectAcl);
    }
    if lock.retention.is_some() {
        needed.push(Action::PutObjectRetention);
    }
    if lock.legal_hold.is_some() {
        needed.push(Action::PutObjectLegalHold);
    }
    Ok(needed)
}

/// The action as it is called when a version is named.
pub fn of_version(action: Action, version_id: Option<VersionId>) -> Action {
    match version_id {
        Some(_) => action.of_version().unwrap_or(action),
        None => action,
    }
}

fn document_action(kind: DocumentKind, verb: Verb) -> Action {
    match (kind, verb) {
        (DocumentKind::Acl, Verb::Get) => Action::GetBucketAcl,
        (DocumentKind::Acl, _) => Action::PutBucketAcl,
        (DocumentKind::Cors, Verb::Get) => Action::GetBucketCors,
        (DocumentKind::Cors, _) => Action::PutBucketCors,
        (DocumentKind::Lifecycle, Verb::Get) => Action::GetLifecycleConfiguration,
        (DocumentKind::Lifecycle, _) => Action::PutLifecycleConfiguration,
        (DocumentKind::Notification, Verb::Get) => Action::GetBucketNotification,
        (DocumentKind::Notification, _) => Action::PutBucketNotification,
        (DocumentKind::ObjectLock, Verb::Get) => Action::GetBucketObjectLockConfiguration,
        (DocumentKind::ObjectLock, _) => Action::PutBucketObjectLockConfiguration,
        (DocumentKind::OwnershipControls, Verb::Get) => Action::GetBucketOwnershipControls,
        (DocumentKind::OwnershipControls, _) => Action::PutBucketOwnershipControls,
        (DocumentKind::Policy, Verb::Get) => Action::GetBucketPolicy,
        (DocumentKind::Policy, Verb::Put) => Action::PutBucketPolicy,
        (DocumentKind::Policy, Verb::Delete) => Action::DeleteBucketPolicy,
        (DocumentKind::PublicAccessBlock, Verb::Get) => Action::GetBucketPublicAccessBlock,
        (DocumentKind::PublicAccessBlock, _) => Action::PutBucketPublicAccessBlock,
        (DocumentKind::Tagging, Verb::Get) => Action::GetBucketTagging,
        (DocumentKind::Tagging, _) => Action::PutBucketTagging,
    }
}

fn unset_action(operation: Operation) -> Action {
    match operation {
        Operation::GetBucketAccelerateConfiguration => Action::GetAccelerateConfiguration,
        Operation::GetBucketEncryption => Action::GetEncryptionConfiguration,
        Operation::GetBucketLogging => Action::GetBucketLogging,
        Operation::GetBucketReplication => Action::GetReplicationConfiguration,
        Operation::GetBucketRequestPayment => Action::GetBucketRequestPayment,
        _ => Action::GetBucketWebsite,
    }
}
