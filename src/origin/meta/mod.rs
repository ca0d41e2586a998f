//! Metadata: buckets, versions of objects, uploads, blobs, and the outbox.
//!
//! - `row-is-truth`: an object version exists exactly when its row is committed. Each change is one transaction, or
//!   part of one with others, and that is the only commit point.
//! - Readers see committed rows only, and never rows older than a commit that somebody has been told of.
//! - A message of the outbox is committed together with the change that it tells of.
//!
//! [`Meta`] is what the operations know. [`sqlite`] is the implementation for one machine.

mod change;
mod epochs;
mod rows;
pub mod sqlite;
mod understood;
mod version_id;

use std::sync::Arc;

use async_trait::async_trait;

use super::blobs::{BlobId, Extent, PackId, Place as BlobPlace, StoredBlob};
use super::listing::Seek;
use super::names::{BucketName, ObjectKey};

pub use change::{
    Append, Appended, BucketCreated, BucketDeleted, Committed, Deleted, Deletion, Grown, Message,
    NewPart, NewUpload, NewVersion, PartSource, Refused, RetentionChange, Source, Transition,
    VersionSetting,
};
pub use rows::{
    BucketRow, ChecksumType, DeadLetter, DocumentKind, ListedObject, ListedVersion, ObjectChecksum,
    PartOfObject, PartRow, Place, StorageClass, TaskRow, UploadRow, VersionKind, VersionRow,
    Versioning,
};
pub use understood::Understood;
pub use version_id::{ForeignVersionId, VersionId};

/// Trouble with the metadata.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MetaError {
    /// The database failed.
    #[error("the metadata database failed")]
    Sql(#[source] Arc<sqlx::Error>),
    /// There is no room for the commit; nothing was changed.
    #[error("no space for the metadata")]
    NoSpace(#[source] Arc<sqlx::Error>),
    /// The store refuses writes since an earlier write or sync failed.
    #[error("writes are refused since an earlier one failed")]
    WritesRefused,
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
    /// Another process has declared this writer dead.
    #[error("writer generation {generation} is no longer live")]
    Fenced {
        /// The generation.
        generation: i64,
    },
    /// A row holds something that this code cannot have written.
    #[error("a row has an impossible {column}")]
    ImpossibleRow {
        /// The column.
        column: &'static str,
    },
}

impl MetaError {
    /// Whether it is certain that the change was not made.
    pub fn has_changed_nothing(&self) -> bool {
        matches!(self, MetaError::NoSpace(_) | MetaError::WritesRefused)
    }
}

/// What came of a change: the outer error is trouble, the inner one a decision against it.
pub type Changed<T> = Result<Result<T, Refused>, MetaError>;

/// Where a listing of versions goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionSeek {
    /// From here in the order of keys.
    pub from: Seek,
    /// In addition, before those: the versions of this key that are older than this number.
    pub older_than: Option<(ObjectKey, i64)>,
}

/// Rows for a person or a job to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Buckets.
    pub buckets: u64,
    /// Versions that are objects.
    pub versions: u64,
    /// Delete markers.
    pub delete_markers: u64,
    /// Bytes of the versions together.
    pub version_bytes: u64,
    /// Those of the versions that are of the class [`StorageClass::StandardIa`].
    pub cold_versions: u64,
    /// Bytes of those together.
    pub cold_version_bytes: u64,
    /// Blobs that rows name.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Blobs that no row names and that are not removed yet.
    pub garbage: u64,
    /// Their bytes.
    pub garbage_bytes: u64,
    /// Uploads under way.
    pub uploads: u64,
    /// Messages that wait.
    pub tasks: u64,
    /// Messages that nobody could handle.
    pub dead_letters: u64,
}

/// The metadata of a store.
///
/// Every change is durable when its method returns `Ok`. After an error the outcome is unknown unless the error
/// says otherwise, so nothing that the change named may be removed. Dropping the future of a change that was
/// handed over does not undo it.
#[async_trait]
pub trait Meta: Send + Sync + 'static {
    /// Every bucket in the order of names.
    async fn buckets(&self) -> Result<Vec<BucketRow>, MetaError>;
    /// One bucket with its documents.
    async fn bucket(&self, name: &BucketName) -> Result<Option<Arc<BucketRow>>, MetaError>;
    /// The newest version of an object, be it a delete marker.
    async fn latest(
        &self,
        bucket: i64,
        key: &ObjectKey,
    ) -> Result<Option<Arc<VersionRow>>, MetaError>;
    /// A version by its id.
    async fn version(
        &self,
        bucket: i64,
        key: &ObjectKey,
        version_id: VersionId,
    ) -> Result<Option<Arc<VersionRow>>, MetaError>;
    /// The extents of a version with [`Place::Extents`] that hold `start..end`, with the position of the first byte of
    /// the first one. Bytes that lie in rows come as themselves.
    async fn extents(&self, version: i64, start: u64, end: u64) -> Result<Vec<Piece>, MetaError>;
    /// At most `limit` objects from `seek` on, in byte order of their keys.
    async fn list(
        &self,
        bucket: i64,
        seek: &Seek,
        limit: usize,
    ) -> Result<Vec<ListedObject>, MetaError>;
    /// At most `limit` versions from `seek` on, in byte order of their keys, newest first.
    async fn list_versions(
        &self,
        bucket: i64,
        seek: &VersionSeek,
        limit: usize,
    ) -> Result<Vec<ListedVersion>, MetaError>;
    /// An upload under way.
    async fn upload(&self, number: i64) -> Result<Option<UploadRow>, MetaError>;
    /// At most `limit` uploads of a bucket from `seek` on; `after` are those of the seek's key with a higher number.
    async fn uploads(
        &self,
        bucket: i64,
        seek: &Seek,
        after: Option<(ObjectKey, i64)>,
        limit: usize,
    ) -> Result<Vec<UploadRow>, MetaError>;
    /// At most `limit` parts of an upload with numbers above `after`.
    async fn parts(&self, upload: i64, after: u16, limit: usize)
    -> Result<Vec<PartRow>, MetaError>;
    /// At most `limit` blobs with ids above `after`, for those who look after all of them.
    async fn blobs(
        &self,
        after: Option<BlobId>,
        limit: usize,
    ) -> Result<Vec<StoredBlob>, MetaError>;
    /// Every blob in a pack.
    async fn blobs_in_pack(&self, pack: PackId) -> Result<Vec<StoredBlob>, MetaError>;
    /// The packs that rows name, with the bytes of their live blobs.
    async fn packs(&self) -> Result<Vec<(PackId, u64)>, MetaError>;
    /// At most `limit` blobs that no row names and that are to be removed.
    async fn garbage(&self, limit: usize) -> Result<Vec<StoredBlob>, MetaError>;
    /// What there is.
    async fn census(&self) -> Result<Census, MetaError>;
    /// At most `limit` messages that are due, oldest first.
    async fn due(&self, now_ms: i64, limit: usize) -> Result<Vec<TaskRow>, MetaError>;
    /// When the next message is due, in milliseconds since 1970.
    async fn next_due_ms(&self) -> Result<Option<i64>, MetaError>;
    /// At most `limit` messages, whether due or not.
    async fn tasks(&self, limit: usize) -> Result<Vec<TaskRow>, MetaError>;
    /// At most `limit` messages that nobody could handle, newest first.
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, MetaError>;
    /// A note of a job to itself.
    async fn note(&self, name: &'static str) -> Result<Option<String>, MetaError>;

    /// Makes a bucket unless it exists.
    async fn create_bucket(
        &self,
        name: &BucketName,
        owner: &str,
        created_ms: i64,
        documents: Vec<(DocumentKind, Vec<u8>)>,
    ) -> Result<BucketCreated, MetaError>;
    /// Removes an empty bucket.
    async fn delete_bucket(&self, name: &BucketName) -> Result<BucketDeleted, MetaError>;
    /// Sets whether a bucket keeps versions.
    async fn set_versioning(&self, name: &BucketName, versioning: Versioning) -> Changed<()>;
    /// Keeps a document of a bucket, or removes it.
    async fn set_document(
        &self,
        name: &BucketName,
        kind: DocumentKind,
        document: Option<Vec<u8>>,
    ) -> Changed<()>;
    /// Commits a version.
    async fn put(&self, version: NewVersion) -> Changed<Committed>;
    /// Deletes an object or a version.
    async fn delete(&self, deletion: Deletion) -> Changed<Deleted>;
    /// Changes a setting of a version; `None` = of the newest.
    async fn set(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        version_id: Option<VersionId>,
        setting: VersionSetting,
    ) -> Changed<VersionId>;
    /// Moves an object to another storage class, if it is still there, of the class that it was seen in, and does not
    /// grow any more; else [`Refused::NoSuchVersion`]. Gives back what was released.
    async fn transition(&self, transition: Transition) -> Changed<Vec<StoredBlob>>;
    /// Appends to a stream, or begins one at offset 0.
    async fn append(&self, append: Append) -> Changed<Appended>;
    /// Begins an upload. Gives back its number.
    async fn create_upload(&self, upload: NewUpload) -> Changed<i64>;
    /// Commits a part, replacing the one of its number. Gives back what was released.
    async fn put_part(&self, part: NewPart) -> Changed<Vec<StoredBlob>>;
    /// Ends an upload without an object. Gives back what was released.
    async fn abort_upload(&self, number: i64) -> Changed<Vec<StoredBlob>>;
    /// Forgets garbage whose files are gone.
    async fn forget_garbage(&self, blobs: Vec<BlobId>) -> Result<(), MetaError>;
    /// Says that blobs lie elsewhere now. Those that are gone in between are passed over.
    async fn move_blobs(&self, moved: Vec<(BlobId, BlobPlace)>) -> Result<(), MetaError>;
    /// Puts messages into the outbox.
    async fn send(&self, messages: Vec<Message>) -> Result<(), MetaError>;
    /// Takes messages that were handled out of the outbox.
    async fn done(&self, tasks: Vec<i64>) -> Result<(), MetaError>;
    /// Puts a message off after a try that failed.
    async fn put_off(&self, task: i64, run_at_ms: i64, error: String) -> Result<(), MetaError>;
    /// Gives a message up.
    async fn give_up(&self, task: i64, now_ms: i64, error: String) -> Result<(), MetaError>;
    /// Puts a message that was given up into the outbox again. Whether there was one.
    async fn revive(&self, task: i64, now_ms: i64) -> Result<bool, MetaError>;
    /// Keeps a note of a job to itself.
    async fn set_note(&self, name: &'static str, text: String) -> Result<(), MetaError>;
    /// Commits what waits, refuses the rest and closes the database.
    async fn close(&self);
}

/// Bytes of a version with several extents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where in the version the first byte is.
    pub position: u64,
    /// The bytes.
    pub bytes: PieceBytes,
}

/// Where the bytes of a [`Piece`] are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PieceBytes {
    /// In a row.
    Inline(bytes::Bytes),
    /// In a blob.
    Extent(Extent),
}

impl Piece {
    /// How many.
    pub fn length_bytes(&self) -> u64 {
        match &self.bytes {
            PieceBytes::Inline(bytes) => bytes.len() as u64,
            PieceBytes::Extent(extent) => extent.length_bytes,
        }
    }
}
