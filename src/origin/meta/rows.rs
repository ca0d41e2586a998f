//! What the metadata holds, as the operations see it.

use bytes::Bytes;

use super::understood::Understood;
use super::version_id::VersionId;
use crate::origin::blobs::{StoredBlob, Tier};
use crate::origin::checksums::{Algorithm, Checksum};
use crate::origin::names::ObjectKey;
use crate::origin::retention::ObjectLock;

/// Whether a bucket keeps versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versioning {
    /// It never has: every object is its `null` version.
    #[default]
    Off,
    /// Every write makes a version.
    Enabled,
    /// It has: writes replace the `null` version, and the others stay.
    Suspended,
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketRow {
    /// The bucket's number, never reused.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The access key id that made it.
    pub owner: String,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: i64,
    /// Whether it keeps versions.
    pub versioning: Versioning,
    /// What was configured, as it was sent, by kind.
    pub documents: Vec<(DocumentKind, Bytes)>,
    /// What has been read of them.
    pub understood: Understood,
}

impl BucketRow {
    /// The document of a kind.
    pub fn document(&self, kind: DocumentKind) -> Option<&Bytes> {
        let mut all = self.documents.iter();
        all.find(|(k, _)| *k == kind).map(|(_, document)| document)
    }
}

/// A sub-resource of a bucket that is kept as a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentKind {
    /// `?acl`
    Acl,
    /// `?cors`
    Cors,
    /// `?lifecycle`
    Lifecycle,
    /// `?notification`
    Notification,
    /// `?object-lock`
    ObjectLock,
    /// `?ownershipControls`
    OwnershipControls,
    /// `?policy`
    Policy,
    /// `?publicAccessBlock`
    PublicAccessBlock,
    /// `?tagging`
    Tagging,
}

impl DocumentKind {
    /// Every kind.
    pub const ALL: [DocumentKind; 9] = [
        DocumentKind::Acl,
        DocumentKind::Cors,
        DocumentKind::Lifecycle,
        DocumentKind::Notification,
        DocumentKind::ObjectLock,
        DocumentKind::OwnershipControls,
        DocumentKind::Policy,
        DocumentKind::PublicAccessBlock,
        DocumentKind::Tagging,
    ];

    /// The word for it in a row: the name of the query parameter.
    pub fn name(self) -> &'static str {
        match self {
            DocumentKind::Acl => "acl",
            DocumentKind::Cors => "cors",
            DocumentKind::Lifecycle => "lifecycle",
            DocumentKind::Notification => "notification",
            DocumentKind::ObjectLock => "object-lock",
            DocumentKind::OwnershipControls => "ownershipControls",
            DocumentKind::Policy => "policy",
            DocumentKind::PublicAccessBlock => "publicAccessBlock",
            DocumentKind::Tagging => "tagging",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        DocumentKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// What a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionKind {
    /// An object.
    Object,
    /// The sign that it was deleted.
    DeleteMarker,
    /// An object that may still be appended to.
    Stream,
}

/// The storage class of a version: on which of the store's disks its bytes lie, unless they are few and lie in its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StorageClass {
    /// The data disks.
    #[default]
    Standard,
    /// The cold disks.
    StandardIa,
}

impl StorageClass {
    /// S3's word.
    pub fn name(self) -> &'static str {
        match self {
            StorageClass::Standard => "STANDARD",
            StorageClass::StandardIa => "STANDARD_IA",
        }
    }

    /// The disks of the class.
    pub fn tier(self) -> Tier {
        match self {
            StorageClass::Standard => Tier::Data,
            StorageClass::StandardIa => Tier::Cold,
        }
    }
}

/// Over what a checksum was computed (S3, `x-amz-checksum-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumType {
    /// The bytes of the whole object.
    FullObject,
    /// The checksums of its parts.
    Composite,
}

impl ChecksumType {
    /// S3's word.
    pub fn name(self) -> &'static str {
        match self {
            ChecksumType::FullObject => "FULL_OBJECT",
            ChecksumType::Composite => "COMPOSITE",
        }
    }

    /// Reads S3's word.
    pub fn from_name(name: &str) -> Option<Self> {
        [ChecksumType::FullObject, ChecksumType::Composite]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// The additional checksum of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectChecksum {
    /// The value.
    pub checksum: Checksum,
    /// Over what.
    pub kind: ChecksumType,
}

/// A part of a completed multipart upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartOfObject {
    /// Its number.
    pub number: u16,
    /// Its length.
    pub size_bytes: u64,
    /// Its checksum, when the upload had one.
    pub checksum: Option<Checksum>,
}

/// Where the bytes of a version are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the row.
    Inline(Bytes),
    /// One blob.
    Blob(StoredBlob),
    /// Several; ask [`super::Meta::extents`].
    Extents,
}

/// A version of an object, or a delete marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// Its number: later versions have higher ones.
    pub number: i64,
    /// Of which object.
    pub key: ObjectKey,
    /// How clients name it.
    pub version_id: VersionId,
    /// What it is.
    pub kind: VersionKind,
    /// Whether it is the one that a request without version id means.
    pub is_latest: bool,
    /// Length in bytes.
    pub size_bytes: u64,
    /// The entity tag without quotes.
    pub etag: String,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: i64,
    /// The additional checksum; a delete marker has none.
    pub checksum: Option<ObjectChecksum>,
    /// Who wrote it.
    pub owner: String,
    /// The stored fields, as [`crate::origin::fields`] writes them.
    pub fields: Vec<u8>,
    /// Its tags in the form of a query; empty for none.
    pub tags: String,
    /// Its access control list as a document; empty for the default.
    pub acl: Vec<u8>,
    /// Its storage class; a delete marker has the default.
    pub storage_class: StorageClass,
    /// What keeps it from being deleted.
    pub lock: ObjectLock,
    /// The parts it was uploaded in; empty when it was not.
    pub parts: Vec<PartOfObject>,
    /// Where its bytes are.
    pub place: Place,
}

/// A line of a bucket listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// The key.
    pub key: ObjectKey,
    /// Length in bytes.
    pub size_bytes: u64,
    /// As [`VersionRow::etag`].
    pub etag: String,
    /// As [`VersionRow::modified_ms`].
    pub modified_ms: i64,
    /// The algorithm of its additional checksum and over what it is.
    pub checksum: Option<(Algorithm, ChecksumType)>,
    /// Who wrote it.
    pub owner: String,
    /// As [`VersionRow::storage_class`].
    pub storage_class: StorageClass,
}

/// A line of a listing of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVersion {
    /// As in a listing of objects.
    pub object: ListedObject,
    /// As [`VersionRow::number`].
    pub number: i64,
    /// As [`VersionRow::version_id`].
    pub version_id: VersionId,
    /// Whether it is a delete marker.
    pub is_delete_marker: bool,
    /// As [`VersionRow::is_latest`].
    pub is_latest: bool,
    /// As [`VersionRow::tags`].
    pub tags: String,
}

/// A multipart upload under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRow {
    /// Its number, never reused.
    pub number: i64,
    /// The bucket's number.
    pub bucket: i64,
    /// The key it will have.
    pub key: ObjectKey,
    /// When it began, in milliseconds since 1970.
    pub started_ms: i64,
    /// Who began it.
    pub owner: String,
    /// What will be stored with it.
    pub fields: Vec<u8>,
    /// As [`VersionRow::tags`].
    pub tags: String,
    /// As [`VersionRow::acl`].
    pub acl: Vec<u8>,
    /// The checksum that it announced.
    pub checksum: Option<(Algorithm, ChecksumType)>,
    /// The storage class that the object will have, and its parts have.
    pub storage_class: StorageClass,
    /// The lock that it was begun with.
    pub lock: ObjectLock,
}

/// A part of an upload under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRow {
    /// Its number.
    pub number: u16,
    /// Its length.
    pub size_bytes: u64,
    /// MD5 in hexadecimal.
    pub etag: String,
    /// When it came, in milliseconds since 1970.
    pub modified_ms: i64,
    /// Its additional checksum.
    pub checksum: Checksum,
}

/// A message of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRow {
    /// Its number, in the order of commits.
    pub id: i64,
    /// Who handles it.
    pub kind: String,
    /// What it says, JSON.
    pub payload: String,
    /// Tries so far.
    pub attempts: u32,
    /// When it was committed, in milliseconds since 1970.
    pub created_ms: i64,
    /// When it is due, in milliseconds since 1970.
    pub run_at_ms: i64,
    /// What the last try said.
    pub last_error: Option<String>,
}

/// A message that nobody could handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// As it was.
    pub task: TaskRow,
    /// When it was given up, in milliseconds since 1970.
    pub died_ms: i64,
}
