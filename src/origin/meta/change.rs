//! What a commit may change, and what came of it.

use super::rows::{ChecksumType, ObjectChecksum, PartOfObject, PartRow, StorageClass, VersionKind};
use super::version_id::VersionId;
use crate::origin::blobs::{Content, StoredBlob};
use crate::origin::checksums::{Algorithm, Checksum};
use crate::origin::conditional::{Condition, WriteCondition};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::retention::{ObjectLock, Retention};

/// What became of a new bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketCreated {
    /// It is new.
    Created,
    /// There is one of that name.
    AlreadyExists,
}

/// What became of the removal of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketDeleted {
    /// It is gone, and with it the uploads under way.
    Deleted {
        /// Blobs that no row names any more.
        released: Vec<StoredBlob>,
    },
    /// There was none.
    NoSuchBucket,
    /// It has versions or delete markers.
    NotEmpty,
}

/// Why a change was not made. Nothing was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// There is no such bucket.
    NoSuchBucket,
    /// There is no such object: `If-Match` found none, or it was to be changed.
    NoSuchKey,
    /// There is no such version.
    NoSuchVersion,
    /// There is no such upload.
    NoSuchUpload,
    /// The version is a delete marker.
    DeleteMarker,
    /// The precondition failed.
    PreconditionFailed(Condition),
    /// A listed part is not there, or is another one.
    InvalidPart {
        /// Its number.
        number: u16,
    },
    /// An append at another place than the end.
    WrongOffset {
        /// Where the end is.
        length_bytes: u64,
    },
    /// The object is not one that may be appended to.
    NotAppendable,
    /// The version whose bytes were to be shared has come to another storage class meanwhile.
    Moved,
    /// The version is locked.
    Locked,
    /// A bucket that locks its versions keeps them all, and only one that does can lock them.
    VersionsOfLocked,
}

/// Where the bytes of a new version come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// They were just written (`durable-before-visible`).
    Written(Content),
    /// They are those of another version: blobs are shared, no byte moves.
    Version {
        /// Its number.
        number: i64,
    },
    /// They are those of the parts of an upload, which ends with the commit.
    Upload {
        /// Its number.
        number: i64,
        /// Number and entity tag of each, ascending.
        parts: Vec<(u16, String)>,
    },
}

/// A version about to be committed.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// What must hold of the object it replaces.
    pub condition: WriteCondition,
    /// Object or stream.
    pub kind: VersionKind,
    /// Length in bytes.
    pub size_bytes: u64,
    /// As [`super::VersionRow::etag`].
    pub etag: String,
    /// As [`super::VersionRow::modified_ms`].
    pub modified_ms: i64,
    /// As [`super::VersionRow::checksum`].
    pub checksum: ObjectChecksum,
    /// Who writes it.
    pub owner: String,
    /// As [`super::VersionRow::fields`].
    pub fields: Vec<u8>,
    /// As [`super::VersionRow::tags`].
    pub tags: String,
    /// As [`super::VersionRow::acl`].
    pub acl: Vec<u8>,
    /// As [`super::VersionRow::storage_class`]; what was written lies there already.
    pub storage_class: StorageClass,
    /// As [`super::VersionRow::lock`].
    pub lock: ObjectLock,
    /// As [`super::VersionRow::parts`].
    pub parts: Vec<PartOfObject>,
    /// Its bytes.
    pub source: Source,
    /// Sent after the commit.
    pub messages: Vec<Message>,
}

/// A message for the outbox, written in the transaction of the change that it tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who handles it.
    pub kind: &'static str,
    /// What it says, JSON; `{version}` stands for the version id that the commit gives.
    pub payload: String,
    /// When it is due, in milliseconds since 1970.
    pub run_at_ms: i64,
}

/// A version was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The number of its bucket.
    pub bucket: i64,
    /// How clients name it, `None` in a bucket that never kept versions.
    pub version_id: Option<VersionId>,
    /// Blobs that no row names any more.
    pub released: Vec<StoredBlob>,
}

/// What to delete.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// Where.
    pub bucket: BucketName,
    /// Which object.
    pub key: ObjectKey,
    /// Which version; `None` as S3 does without: in a bucket that keeps versions this writes a delete marker.
    pub version_id: Option<VersionId>,
    /// What must hold of the object.
    pub condition: WriteCondition,
    /// Only when this is the number of the newest version: for jobs that decided on what they saw.
    pub only_if_latest: Option<i64>,
    /// Whether a retention under governance does not count.
    pub bypasses_governance: bool,
    /// Who deletes.
    pub owner: String,
    /// The time, in milliseconds since 1970.
    pub now_ms: i64,
    /// Sent after the commit.
    pub messages: Vec<Message>,
}

/// What a deletion came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deleted {
    /// The version that was removed or the delete marker that was written.
    pub version_id: Option<VersionId>,
    /// Whether that is a delete marker.
    pub delete_marker: bool,
    /// Blobs that no row names any more.
    pub released: Vec<StoredBlob>,
}

/// An upload about to begin.
#[derive(Debug, Clone)]
pub struct NewUpload {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// When, in milliseconds since 1970.
    pub started_ms: i64,
    /// Who begins it.
    pub owner: String,
    /// As [`super::VersionRow::fields`].
    pub fields: Vec<u8>,
    /// As [`super::VersionRow::tags`].
    pub tags: String,
    /// As [`super::VersionRow::acl`].
    pub acl: Vec<u8>,
    /// The checksum that it announces.
    pub checksum: Option<(Algorithm, ChecksumType)>,
    /// The storage class of its parts and of the object.
    pub storage_class: StorageClass,
    /// As [`super::UploadRow::lock`].
    pub lock: ObjectLock,
}

/// A part about to be committed.
#[derive(Debug, Clone)]
pub struct NewPart {
    /// Of which upload.
    pub upload: i64,
    /// What it is.
    pub row: PartRow,
    /// Its bytes.
    pub source: PartSource,
}

/// Where the bytes of a part come from.
#[derive(Debug, Clone)]
pub enum PartSource {
    /// They were just written.
    Written(Content),
    /// A range of a version: blobs are shared, no byte moves.
    Version {
        /// The version's number.
        number: i64,
        /// The first byte.
        start: u64,
        /// Behind the last byte.
        end: u64,
    },
}

/// Bytes to be put at the end of a stream.
#[derive(Debug, Clone)]
pub struct Append {
    /// What the object becomes when there is none yet and the offset is 0. Of a stream that is there only its length, its
    /// entity tag (then it tells the MD5 of the bytes) and its time count, its condition, its bytes, which were just
    /// written, and its messages.
    pub new: NewVersion,
    /// The length that the object must have.
    pub offset_bytes: u64,
    /// CRC-64/NVME of the bytes.
    pub crc64: Checksum,
    /// Whether these are the last ones.
    pub seal: bool,
}

/// What an append came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The object's bucket, version and what was released.
    pub committed: Committed,
    /// What there is now, when there was something before.
    pub grown: Option<Grown>,
}

/// A stream that took more bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grown {
    /// The entity tag that the object has now.
    pub etag: String,
    /// Its length now.
    pub length_bytes: u64,
}

/// A version about to change its storage class: all but that and where its bytes lie stays as it is.
#[derive(Debug, Clone)]
pub struct Transition {
    /// The number of its bucket.
    pub bucket: i64,
    /// Of which object.
    pub key: ObjectKey,
    /// The version's number, which no other version ever has.
    pub number: i64,
    /// The storage class that it must still have.
    pub from: StorageClass,
    /// The one that it comes to.
    pub to: StorageClass,
    /// Its bytes, just written there; `None` = they stay in the row.
    pub content: Option<Content>,
    /// Sent after the commit.
    pub messages: Vec<Message>,
}

/// A setting of one version.
#[derive(Debug, Clone)]
pub enum VersionSetting {
    /// As [`super::VersionRow::tags`].
    Tags(String),
    /// As [`super::VersionRow::acl`].
    Acl(Vec<u8>),
    /// That of [`super::VersionRow::lock`].
    Retention(RetentionChange),
    /// As [`ObjectLock::legal_hold`].
    LegalHold(bool),
}

/// A retention about to be set, if the one that there is allows it.
#[derive(Debug, Clone)]
pub struct RetentionChange {
    /// The new one; `None` takes it away.
    pub retention: Option<Retention>,
    /// The time, in milliseconds since 1970.
    pub now_ms: i64,
    /// Whether a retention under governance does not count.
    pub bypasses: bool,
}
