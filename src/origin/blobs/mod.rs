//! Blobs: the bytes of objects, one immutable file each, under ids that are never reused.
//!
//! - `durable-before-visible`: [`BlobWriter::publish`] returns only after the file and its folder have been
//!   synced; its result is what a metadata row needs, so no row can be written earlier.
//! - `delete-needs-proof`: [`Blobs::remove`] takes an id that a committed transaction has just released, and
//!   [`sweep`] removes only what no row names and whose writer is not the live one.
//! - `verify-on-read`: [`BlobReader`] hands out no block whose CRC32C it has not compared.
//!
//! Layout: `tmp/<id>` while a blob is written, `d0/big/<last two digits>/<id>` afterwards.

mod folder;
mod reading;
mod writing;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crc_fast::CrcAlgorithm;

pub use folder::{Swept, make_private_folder, prepare, sweep};
pub use reading::BlobReader;
pub use writing::BlobWriter;

use super::disk::Disk;
use super::latch::WriteLatch;

/// Bytes per checksummed block.
pub const BLOCK_BYTES: usize = 64 * 1024;
/// Bytes that a reader takes from the disk at a time: a multiple of [`BLOCK_BYTES`].
pub const READ_BYTES: usize = 4 * BLOCK_BYTES;

/// Bits of an id that count within one writer generation; the bits above are the generation.
const SEQUENCE_BITS: u32 = 40;
/// The last generation whose ids are positive 64-bit integers, the range of a SQLite rowid.
pub const GENERATION_MAX: i64 = (1 << (63 - SEQUENCE_BITS)) - 1;
/// Folders that blobs are spread over.
const SHARDS: u16 = 256;

/// A blob's name: writer generation and a count within it. Never reused, because a generation never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(i64);

/// What a published blob consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its id.
    pub id: BlobId,
    /// Its length.
    pub length_bytes: u64,
    /// CRC32C of each block of [`BLOCK_BYTES`].
    pub block_crcs: BlockCrcs,
}

/// The CRC32C of each block, the last of which may be short.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockCrcs(Vec<u32>);

/// Trouble with a blob.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The store refuses writes since an earlier write or sync failed.
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
    /// A write, sync or rename failed.
    #[error("cannot write blob {id:x}")]
    Write {
        /// The blob.
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
    /// There is no file. Also the ordinary sight of a reader that lost against an overwrite.
    #[error("blob {id:x} has no file")]
    Missing {
        /// The blob.
        id: i64,
    },
    /// The file is not as long as its row says.
    #[error("blob {id:x} has {actual_bytes} bytes, its row says {expected_bytes}")]
    Length {
        /// The blob.
        id: i64,
        /// What the row says.
        expected_bytes: u64,
        /// What the file has.
        actual_bytes: u64,
    },
    /// A block is not what was written.
    #[error("block {block} of blob {id:x} has CRC32C {actual:08x}, written was {expected:08x}")]
    Corrupt {
        /// The blob.
        id: i64,
        /// Number of the block.
        block: u64,
        /// CRC32C beside the row.
        expected: u32,
        /// CRC32C of what was read.
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

/// The blob folder.
pub struct Blobs {
    root: PathBuf,
    generation: i64,
    next_sequence: AtomicI64,
    disk: Arc<dyn Disk>,
    latch: Arc<WriteLatch>,
}

impl BlobId {
    /// Takes an id from a metadata row.
    pub fn from_row(id: i64) -> Self {
        BlobId(id)
    }

    /// The form in a metadata row.
    pub fn row(self) -> i64 {
        self.0
    }

    fn new(generation: i64, sequence: i64) -> Self {
        BlobId((generation << SEQUENCE_BITS) | sequence)
    }

    fn generation(self) -> i64 {
        self.0 >> SEQUENCE_BITS
    }

    fn file_name(self) -> String {
        format!("{:016x}", self.0)
    }

    fn parse(name: &str) -> Option<Self> {
        if name.len() != 16 || name.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        i64::from_str_radix(name, 16).ok().map(BlobId)
    }

    fn folder(self, root: &Path) -> PathBuf {
        root.join("d0/big").join(format!("{:02x}", self.0 & 0xff))
    }

    fn path(self, root: &Path) -> PathBuf {
        self.folder(root).join(self.file_name())
    }
}

impl BlockCrcs {
    /// Big-endian, four bytes a block.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|crc| crc.to_be_bytes()).collect()
    }

    /// Reads [`BlockCrcs::to_bytes`]; `None` when the length is not a multiple of four.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (quads, rest) = bytes.as_chunks::<4>();
        rest.is_empty()
            .then(|| BlockCrcs(quads.iter().map(|quad| u32::from_be_bytes(*quad)).collect()))
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    // The algorithm yields 32 bits in a wider integer.
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

impl Blobs {
    /// A blob folder whose new ids belong to `generation`, which must never have written here before.
    pub fn new(
        root: PathBuf,
        generation: i64,
        disk: Arc<dyn Disk>,
        latch: Arc<WriteLatch>,
    ) -> Self {
        Blobs {
            root,
            generation,
            next_sequence: AtomicI64::new(0),
            disk,
            latch,
        }
    }

    /// Begins a blob. Blocks.
    ///
    /// # Errors
    /// [`BlobError::WritesRefused`], or why the file cannot be made.
    pub fn create(&self) -> Result<BlobWriter, BlobError> {
        if self.latch.has_fallen() {
            return Err(BlobError::WritesRefused);
        }
        let sequence = self.next_sequence.fetch_add(1, Ordering::Relaxed);
        if sequence >> SEQUENCE_BITS != 0 {
            return Err(BlobError::IdsExhausted {
                generation: self.generation,
            });
        }
        let id = BlobId::new(self.generation, sequence);
        let temporary = self.root.join("tmp").join(id.file_name());
        let file = self
            .disk
            .create(&temporary)
            .map_err(|source| write_failed(id, source, &self.latch))?;
        Ok(BlobWriter::new(
            id,
            file,
            temporary,
            self.root.clone(),
            Arc::clone(&self.disk),
            Arc::clone(&self.latch),
        ))
    }

    /// Opens a blob and compares its length. Blocks.
    ///
    /// # Errors
    /// [`BlobError::Missing`], [`BlobError::Length`], [`BlobError::ChecksumCount`] or [`BlobError::Read`].
    pub fn open(&self, blob: Published) -> Result<BlobReader, BlobError> {
        let Published {
            id,
            length_bytes,
            block_crcs,
        } = blob;
        let read_failed = |source| BlobError::Read {
            id: id.0,
            offset: 0,
            source,
        };
        let expected = length_bytes.div_ceil(BLOCK_BYTES as u64);
        let actual = block_crcs.0.len() as u64;
        if expected != actual {
            return Err(BlobError::ChecksumCount {
                id: id.0,
                expected,
                actual,
            });
        }
        let file = match File::open(id.path(&self.root)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BlobError::Missing { id: id.0 });
            }
            Err(error) => return Err(read_failed(error)),
        };
        let actual_bytes = file.metadata().map_err(read_failed)?.len();
        if actual_bytes != length_bytes {
            return Err(BlobError::Length {
                id: id.0,
                expected_bytes: length_bytes,
                actual_bytes,
            });
        }
        Ok(BlobReader::new(id, file, length_bytes, block_crcs))
    }

    /// Removes a blob that a committed transaction has released (`delete-needs-proof`). Blocks. Readers that
    /// have it open keep its bytes. A failure costs space, not truth, and the next sweep repeats it.
    pub fn remove(&self, released: BlobId) {
        if let Err(error) = self.disk.unlink(&released.path(&self.root)) {
            tracing::warn!(blob = %released.file_name(), %error, "a released blob stays until the next start");
        }
    }
}

/// Sorts a failed write: a full disk fails this upload alone, anything else lets the latch fall.
fn write_failed(id: BlobId, source: io::Error, latch: &WriteLatch) -> BlobError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            BlobError::NoSpace { id: id.0, source }
        }
        _ => {
            latch.fall();
            BlobError::Write { id: id.0, source }
        }
    }
}
