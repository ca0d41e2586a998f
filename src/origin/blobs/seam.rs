//! What the operations know of where bytes lie: [`Blobs`], and what it hands out. [`DiskBlobs`] is the implementation for
//! the disks of one machine; what looks after those disks ([`crate::origin::jobs`]) knows it by its own name.
//!
//! Calls that block are made on threads that may; an implementation behind a network waits there for its answers. What does
//! not block says so, and costs the path of a request no thread.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use super::{BlobError, DiskBlobs, DiskReader, DiskWriter, Extent, Published, StoredBlob, Tier};

/// The bytes of objects, immutable, under ids that are never reused.
///
/// - `durable-before-visible`: what [`BlobWriter::publish`] gives back is durable.
/// - `delete-needs-proof`: [`Blobs::remove`] is told of nothing but what a committed transaction has released, or what was
///   published for a change that was certainly not made.
/// - `verify-on-read`: no byte is handed out that was not compared with its checksum in the row.
pub trait Blobs: Send + Sync + 'static {
    /// Begins to take bytes in, for a tier. Does not block.
    ///
    /// # Errors
    /// [`BlobError::WritesRefused`], also when there is no such tier.
    fn writer(&self, tier: Tier) -> Result<Box<dyn BlobWriter>, BlobError>;

    /// Whether there is a cold tier.
    fn has_cold(&self) -> bool;

    /// Opens the concatenation of parts of blobs, which stay as long as the reader does. Blocks.
    ///
    /// # Errors
    /// [`BlobError`]: [`BlobError::Missing`] when it may have been removed since its row was read.
    fn open(&self, extents: Vec<Extent>) -> Result<Box<dyn BlobReader>, BlobError>;

    /// As [`Blobs::open`] for a part of one blob, if nobody has to wait; `None` = open it in the other way. Does not block.
    fn open_at_once(&self, extent: &Extent) -> Option<Box<dyn BlobReader>>;

    /// Reads `range` of a blob if one read is enough for all of it and nobody has to wait; `None` = open it. Does not block.
    fn read_at_once(&self, blob: &StoredBlob, range: Range<u64>) -> Option<Bytes>;

    /// Removes a blob when its last reader is done. Whether its bytes take up no room any more, or will not when the readers
    /// are done; `false` = that is for somebody who looks after them. Blocks.
    ///
    /// # Errors
    /// [`BlobError::Write`]: it costs space, not truth, and is tried again.
    fn remove(&self, released: &StoredBlob) -> Result<bool, BlobError>;
}

/// Bytes on their way in. Dropped before [`BlobWriter::publish`] they leave nothing behind.
#[async_trait]
pub trait BlobWriter: Send + Sync + 'static {
    /// Appends. Blocks unless [`BlobWriter::is_in_memory`] and there are few.
    ///
    /// # Errors
    /// [`BlobError::NoSpace`], [`BlobError::WritesRefused`] or [`BlobError::Write`]; the bytes are lost either way.
    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError>;

    /// Bytes so far.
    fn length_bytes(&self) -> u64;

    /// Whether so few have come that they are only kept in memory.
    fn is_in_memory(&self) -> bool;

    /// Makes the bytes durable. Few come back as they are, to be put into the row.
    ///
    /// # Errors
    /// As [`BlobWriter::write`].
    async fn publish(self: Box<Self>) -> Result<Published, BlobError>;
}

/// Bytes on their way out.
pub trait BlobReader: Send + Sync + 'static {
    /// Reads the beginning of `range`, as far as one read goes, all of it verified. Blocks.
    ///
    /// # Errors
    /// [`BlobError::Read`], [`BlobError::Corrupt`], or another that says why nobody has it.
    fn read(&self, range: Range<u64>) -> Result<Bytes, BlobError>;

    /// As [`BlobReader::read`], if nobody has to wait; `None` = read it in the other way. Does not block.
    fn read_at_once(&self, range: Range<u64>) -> Option<Bytes>;
}

impl Blobs for DiskBlobs {
    fn writer(&self, tier: Tier) -> Result<Box<dyn BlobWriter>, BlobError> {
        DiskBlobs::writer(self, tier).map(|writer| Box::new(writer) as Box<dyn BlobWriter>)
    }

    fn has_cold(&self) -> bool {
        DiskBlobs::has_cold(self)
    }

    fn open(&self, extents: Vec<Extent>) -> Result<Box<dyn BlobReader>, BlobError> {
        DiskBlobs::open(self, extents).map(|reader| Box::new(reader) as Box<dyn BlobReader>)
    }

    fn open_at_once(&self, extent: &Extent) -> Option<Box<dyn BlobReader>> {
        let reader = DiskBlobs::open_at_once(self, extent)?;
        Some(Box::new(reader))
    }

    fn read_at_once(&self, blob: &StoredBlob, range: Range<u64>) -> Option<Bytes> {
        DiskBlobs::read_at_once(self, blob, range)
    }

    fn remove(&self, released: &StoredBlob) -> Result<bool, BlobError> {
        DiskBlobs::remove(self, released)?;
        // Of what lies in a pack nothing goes until the pack is compacted.
        Ok(released.place.pack().is_none())
    }
}

#[async_trait]
impl BlobWriter for DiskWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        DiskWriter::write(self, bytes)
    }

    fn length_bytes(&self) -> u64 {
        DiskWriter::length_bytes(self)
    }

    fn is_in_memory(&self) -> bool {
        self.buffers_only()
    }

    async fn publish(self: Box<Self>) -> Result<Published, BlobError> {
        DiskWriter::publish(*self).await
    }
}

impl BlobReader for DiskReader {
    fn read(&self, range: Range<u64>) -> Result<Bytes, BlobError> {
        DiskReader::read(self, range)
    }

    fn read_at_once(&self, range: Range<u64>) -> Option<Bytes> {
        DiskReader::read_at_once(self, range)
    }
}
