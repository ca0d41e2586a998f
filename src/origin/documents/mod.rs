//! S3's documents: what clients send and what they get, one file each, as pure code.
//!
//! Every document that is read has a bound on its bytes, its depth and its elements, knows all of its elements, and
//! refuses what nothing here could honour. Namespaces are accepted and not asked for, as S3 does.
//!
//! | document | file |
//! |---|---|
//! | `AccessControlPolicy` | [`super::access::Acl`] |
//! | a bucket's policy | [`super::access::Policy`] |
//! | `CompleteMultipartUpload` | [`CompleteMultipart`] |
//! | `CORSConfiguration` | [`CorsRules`] |
//! | `CreateBucketConfiguration` | [`CreateBucket`] |
//! | `Delete`, `DeleteResult` | [`DeleteRequest`], [`DeleteResult`] |
//! | `LifecycleConfiguration` | [`LifecycleRules`] |
//! | `NotificationConfiguration` | [`Notifications`] |
//! | `ObjectLockConfiguration`, `Retention`, `LegalHold` | [`ObjectLockConfiguration`] |
//! | `OwnershipControls` | [`Ownership`] |
//! | `PublicAccessBlockConfiguration` | [`PublicAccessBlock`] |
//! | `Tagging`, `x-amz-tagging` | [`Tags`] |
//! | `VersioningConfiguration` | [`Versioning`] |
//! | `x-amz-object-attributes` | [`ObjectAttributes`] |

mod attributes;
mod complete_multipart;
mod cors;
mod create_bucket;
mod delete;
pub(super) mod element;
mod error;
mod lifecycle;
mod notification;
mod object_lock;
mod ownership_controls;
mod public_access_block;
mod tagging;
mod times;
mod versioning;

pub use attributes::ObjectAttributes;
pub use complete_multipart::{
    COMPLETE_MULTIPART_MAX_BYTES, CompleteMultipart, CompletePart, PART_NUMBER_MAX,
};
pub use cors::{CORS_MAX_BYTES, CorsAnswer, CorsRule, CorsRules};
pub use create_bucket::{CREATE_BUCKET_MAX_BYTES, CreateBucket};
pub use delete::{
    DELETE_MAX_BYTES, DeleteCondition, DeleteError, DeleteKey, DeleteRequest, DeleteResult, Deleted,
};
pub use error::{AclFault, DocumentError};
pub use lifecycle::{
    Expiration, LIFECYCLE_MAX_BYTES, LifecycleFilter, LifecycleRule, LifecycleRules,
    NoncurrentExpiration, NoncurrentTransition, Transition, TransitionTime, UploadFacts,
    Verdict as LifecycleVerdict, VersionFacts, VersionKind,
};
pub use notification::{NOTIFICATION_MAX_BYTES, NotificationTarget, Notifications};
pub use object_lock::{
    OBJECT_LOCK_MAX_BYTES, ObjectLockConfiguration, parse_legal_hold, parse_retention, time_of,
    time_text, write_legal_hold, write_retention,
};
pub use ownership_controls::{OWNERSHIP_MAX_BYTES, Ownership};
pub use public_access_block::{PUBLIC_ACCESS_BLOCK_MAX_BYTES, PublicAccessBlock};
pub use tagging::{BUCKET_TAGS_MAX, OBJECT_TAGS_MAX, TAGGING_MAX_BYTES, Tag, TagOwner, Tags};
pub use versioning::{VERSIONING_MAX_BYTES, Versioning};
