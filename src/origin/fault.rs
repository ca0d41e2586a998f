//! Why a request was not done: every module's errors meet here, and [`super::reply_error`] says how each is told.

use std::time::SystemTime;

use super::blobs::BlobError;
use super::conditional::{Condition, ConditionError};
use super::documents::DocumentError;
use super::fields::FieldError;
use super::form_data::FormError;
use super::listing::ForeignToken;
use super::meta::{ForeignVersionId, MetaError, Refused, VersionId};
use super::names::NameError;
use super::post_policy::PolicyError;
use super::query::Repeated;
use super::receive::UploadError;
use super::xml::XmlError;
use crate::signing::Refusal;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The signature grants nothing.
    #[error("{refusal}")]
    Refused {
        /// Why.
        refusal: Refusal,
        /// Whether the signature is in the query: S3 names its form errors after the place.
        presigned: bool,
    },
    /// A bucket name, key or encoding is not acceptable.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A query parameter appears twice.
    #[error(transparent)]
    Repeated(#[from] Repeated),
    /// A field cannot be honoured.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A precondition cannot be evaluated.
    #[error(transparent)]
    Condition(#[from] ConditionError),
    /// A precondition does not hold.
    #[error("{} does not hold", .0.name())]
    PreconditionFailed(Condition),
    /// There is no such bucket.
    #[error("no such bucket")]
    NoSuchBucket,
    /// There is no such object.
    #[error("no such object")]
    NoSuchKey,
    /// There is no such version.
    #[error("no such version")]
    NoSuchVersion,
    /// There is no such upload: it was completed, aborted, or never begun.
    #[error("no such upload")]
    NoSuchUpload,
    /// The object has no such part.
    #[error("the object has no such part")]
    NoSuchPart,
    /// What is asked for is a delete marker.
    #[error("it is a delete marker")]
    DeleteMarker {
        /// Which version.
        version_id: VersionId,
        /// When it was made.
        modified: SystemTime,
        /// Whether the request named the version.
        was_named: bool,
    },
    /// Text that names no version of ours.
    #[error(transparent)]
    ForeignVersionId(#[from] ForeignVersionId),
    /// Rights, policy and lists do not allow it.
    #[error("access denied ({reason})")]
    AccessDenied {
        /// Why, for the log.
        reason: &'static str,
    },
    /// Somebody else has the bucket.
    #[error("the bucket belongs to somebody else")]
    BucketTaken,
    /// A setting that the bucket does not have.
    #[error("the bucket has no such configuration")]
    NotConfigured {
        /// S3's word for that.
        code: &'static str,
    },
    /// A document cannot be honoured.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A document that must come with its digest came without.
    #[error("Content-MD5 or a checksum of the document is missing")]
    DigestMissing,
    /// A list in the fields and another in the document.
    #[error("an access control list is given in the fields and in the document")]
    AclTwice,
    /// A webhook that the configuration does not allow.
    #[error(
        "Unable to validate the following destination configurations: origin.webhooks does not allow them"
    )]
    WebhookNotAllowed,
    /// No CORS rule matches.
    #[error("no CORS rule allows this")]
    CorsRefused,
    /// An OPTIONS that is no preflight.
    #[error("Origin or Access-Control-Request-Method is missing")]
    CorsIncomplete,
    /// `response-*` by a stranger.
    #[error("response-* parameters need a signature")]
    OverrideUnsigned,
    /// A part and a range.
    #[error("partNumber and Range exclude each other")]
    PartAndRange,
    /// A listed part is not there, or is another one.
    #[error("part {number} is not there or is another one")]
    InvalidPart {
        /// Its number.
        number: u16,
    },
    /// A part that is not the last one has less than 5 MiB.
    #[error("part {number} has {bytes} bytes, less than 5 MiB, and is not the last one")]
    PartTooSmall {
        /// Its number.
        number: u16,
        /// Its length.
        bytes: u64,
    },
    /// The parts have not the announced length together.
    #[error("the parts do not have the length of x-amz-mp-object-size")]
    ObjectSize,
    /// A checksum type that the algorithm does not have.
    #[error("the algorithm has no checksum of this type")]
    ChecksumType,
    /// A part has a checksum of another algorithm than its upload.
    #[error("the upload was begun with {expected}")]
    ChecksumOfOtherKind {
        /// The upload's.
        expected: &'static str,
    },
    /// `x-amz-copy-source` names no object.
    #[error("x-amz-copy-source is not bucket/key")]
    CopySource,
    /// `x-amz-copy-source-range` is none inside the source.
    #[error("x-amz-copy-source-range is not bytes=first-last within {length_bytes} bytes")]
    CopySourceRange {
        /// The source's length.
        length_bytes: u64,
    },
    /// `x-amz-copy-source` names a delete marker by its version.
    #[error("the source of a copy cannot be a delete marker")]
    CopyOfMarker,
    /// A copy that changes nothing.
    #[error("this copies an object onto itself and changes nothing of it")]
    CopyOntoItself,
    /// Bytes for another place than the end.
    #[error("the object has {length_bytes} bytes: x-amz-write-offset-bytes must say so")]
    WrongOffset {
        /// Where the end is.
        length_bytes: u64,
    },
    /// The object was not begun with `x-amz-write-offset-bytes: 0`, or is sealed.
    #[error("nothing can be appended to this object")]
    NotAppendable,
    /// The bucket is there already.
    #[error("the bucket exists")]
    BucketExists,
    /// The bucket has objects.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// The version is locked.
    #[error("Access Denied because object protected by object lock.")]
    ObjectLocked,
    /// A lock for a version of a bucket that locks none.
    #[error("Bucket is missing Object Lock Configuration")]
    NoObjectLock,
    /// A retention that would be over before it began.
    #[error("The retain until date must be in the future!")]
    RetainedUntilPast,
    /// Object lock without versions, or in a bucket that has it, versions that do not stay.
    #[error(
        "An Object Lock configuration is present on this bucket, or is to be, so versioning must be enabled"
    )]
    VersionsOfLocked,
    /// The range begins behind the end.
    #[error("the range begins behind the end of {length_bytes} bytes")]
    RangeUnsatisfiable {
        /// The object's length.
        length_bytes: u64,
    },
    /// S3 has it, we do not.
    #[error("{what} is not implemented")]
    NotImplemented {
        /// The sub-resource or method.
        what: &'static str,
    },
    /// The target knows no such method.
    #[error("the target takes only {allow}")]
    MethodNotAllowed {
        /// The methods it knows.
        allow: &'static str,
    },
    /// A parameter has no acceptable value.
    #[error("{name} has no valid value")]
    InvalidParameter {
        /// The parameter.
        name: &'static str,
    },
    /// The continuation token is none of ours.
    #[error(transparent)]
    ForeignToken(#[from] ForeignToken),
    /// The request document is malformed.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// A bucket is asked for in a region that is not ours.
    #[error("the store is in another region")]
    OtherRegion,
    /// A form breaks its own framing.
    #[error(transparent)]
    Form(#[from] FormError),
    /// A form lacks a field.
    #[error("the form has no field {name}")]
    FormFieldMissing {
        /// The field.
        name: &'static str,
    },
    /// A policy does not let a form through.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// An upload without length.
    #[error("neither a length nor a chunked transfer coding")]
    LengthMissing,
    /// A `Content-MD5` or checksum field that cannot be one.
    #[error("{name} is not a digest")]
    InvalidDigest {
        /// The field.
        name: &'static str,
    },
    /// More than one checksum, a trailer nobody can read, or an algorithm without a value.
    #[error("the checksum fields contradict each other")]
    ChecksumFields,
    /// An access control list, where ownership controls have turned lists off.
    #[error("The bucket does not allow ACLs")]
    AclNotSupported,
    /// Lists are to be off for a bucket whose own list grants something to others.
    #[error("Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting")]
    AclOfEnforced,
    /// A storage class that there is not, or that objects of the kind do not have.
    #[error(
        "the store has the class STANDARD and, where its settings name cold disks, STANDARD_IA; an object that grows is STANDARD"
    )]
    StorageClass,
    /// An upload failed.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// A blob failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The metadata failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A reader met one overwrite after another.
    #[error("the object was replaced {times} times while it was being opened")]
    Overtaken {
        /// How often.
        times: u32,
    },
    /// The machine's clock is outside the years 1970 to 9999.
    #[error("the clock stands outside the years 1970 to 9999")]
    ClockOutOfRange,
    /// A task of ours died: a bug.
    #[error("a task died")]
    TaskDied,
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoSuchBucket => Fault::NoSuchBucket,
            Refused::NoSuchKey => Fault::NoSuchKey,
            Refused::NoSuchVersion => Fault::NoSuchVersion,
            Refused::NoSuchUpload => Fault::NoSuchUpload,
            Refused::DeleteMarker => Fault::MethodNotAllowed { allow: "DELETE" },
            Refused::PreconditionFailed(condition) => Fault::PreconditionFailed(condition),
            Refused::InvalidPart { number } => Fault::InvalidPart { number },
            Refused::WrongOffset { length_bytes } => Fault::WrongOffset { length_bytes },
            Refused::NotAppendable => Fault::NotAppendable,
            Refused::Moved => Fault::Overtaken { times: 1 },
            Refused::Locked => Fault::ObjectLocked,
            Refused::VersionsOfLocked => Fault::VersionsOfLocked,
        }
    }
}
