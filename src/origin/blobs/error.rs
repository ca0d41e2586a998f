//! What can go wrong with a blob.

use std::io;

/// Trouble with a blob.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The store refuses writes since earlier ones failed, or too few disks can be written.
    #[error("writes are refused since an earlier one failed")]
    WritesRefused,
    /// This writer has used up its ids.
    #[error("writer generation {generation} has no ids left")]
    IdsExhausted {
        /// The generation.
        generation: i64,
    },
    /// There is no room for the upload.
    #[error("no space to write blob {id:x}")]
    NoSpace {
        /// The blob.
        id: i64,
        /// The system's word for it.
        source: io::Error,
    },
    /// A write, sync, rename or removal failed. [`io::ErrorKind::ResourceBusy`] when a pack is still in use.
    #[error("cannot write blob {id:x}")]
    Write {
        /// The blob, or the pack.
        id: i64,
        /// The system's word for it.
        source: io::Error,
    },
    /// A read failed.
    #[error("cannot read blob {id:x} at byte {offset}")]
    Read {
        /// The blob.
        id: i64,
        /// Where.
        offset: u64,
        /// The system's word for it.
        source: io::Error,
    },
    /// There is no file. Also the ordinary sight of a reader that lost against an overwrite or a compaction: the
    /// row, read again, tells which.
    #[error("blob {id:x} has no file")]
    Missing {
        /// The blob.
        id: i64,
    },
    /// The file is not as long as its row says, or an extent reaches beyond its blob.
    #[error("blob {id:x} has {actual_bytes} bytes, its row says {expected_bytes}")]
    Length {
        /// The blob.
        id: i64,
        /// What the row says.
        expected_bytes: u64,
        /// What the file has.
        actual_bytes: u64,
    },
    /// A block is not what was written, on none of its disks.
    #[error("block {block} of blob {id:x} has CRC32C {actual:08x}, written was {expected:08x}")]
    Corrupt {
        /// The blob.
        id: i64,
        /// Number of the block.
        block: u64,
        /// CRC32C beside the row.
        expected: u32,
        /// CRC32C of what was read: of a shard, where the block is kept in shards.
        actual: u32,
    },
    /// The row holds another number of block checksums than the length calls for.
    #[error("blob {id:x} needs {expected} block checksums, its row has {actual}")]
    ChecksumCount {
        /// The blob.
        id: i64,
        /// Number that the length calls for.
        expected: u64,
        /// Number in the row.
        actual: u64,
    },
}
