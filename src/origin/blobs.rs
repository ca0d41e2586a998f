//! Blobs: the bytes of objects, one immutable file each, under ids that are never reused.
//!
//! - `durable-before-visible`: [`BlobWriter::publish`] returns only after the file and its folder have been
//!   synced; its result is what a metadata row needs, so no row can be written earlier.
//! - `delete-needs-proof`: [`Blobs::remove`] takes an id that a committed transaction has just released, and
//!   [`sweep`] removes only what no row names and whose writer is not the live one.
//! - `verify-on-read`: [`BlobReader`] hands out no block whose CRC32C it has not compared.
//!
//! Layout: `tmp/<id>` while a blob is written, `d0/big/<last two digits>/<id>` afterwards.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use crc_fast::CrcAlgorithm;

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

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Uploads of dead writers that never got their name.
    pub unfinished: u64,
    /// Named blobs of dead writers that no row names.
    pub orphans: u64,
    /// Files that are none of ours; they stay.
    pub foreign: u64,
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

/// Makes the folders of a blob root that does not have them yet.
pub fn prepare(root: &Path, disk: &dyn Disk) -> io::Result<()> {
    let big = root.join("d0/big");
    for folder in [root.join("tmp"), big.clone()] {
        create_private_folder(&folder)?;
    }
    for shard in 0..SHARDS {
        create_private_folder(&big.join(format!("{shard:02x}")))?;
    }
    for folder in [&big, &root.join("d0"), root] {
        disk.sync_folder(folder)?;
    }
    Ok(())
}

/// Makes a folder, and those above it, that only its owner may enter.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Removes what dead writers left behind. `named` holds every id that a row names, in ascending order.
///
/// Files of the live generation stay whatever the rows say: their commit may be under way. Files whose names we
/// did not make stay too.
pub fn sweep(
    root: &Path,
    live_generation: i64,
    named: &[i64],
    disk: &dyn Disk,
) -> io::Result<Swept> {
    let mut swept = Swept::default();
    let dead = |id: BlobId| id.generation() != live_generation;
    for_each_file(&root.join("tmp"), |path, id| {
        match id {
            Some(id) if dead(id) => {
                disk.unlink(path)?;
                swept.unfinished += 1;
            }
            Some(_) => {}
            None => swept.foreign += 1,
        }
        Ok(())
    })?;
    for shard in 0..SHARDS {
        for_each_file(&root.join(format!("d0/big/{shard:02x}")), |path, id| {
            match id {
                Some(id) if dead(id) && named.binary_search(&id.row()).is_err() => {
                    disk.unlink(path)?;
                    swept.orphans += 1;
                }
                Some(_) => {}
                None => swept.foreign += 1,
            }
            Ok(())
        })?;
    }
    Ok(swept)
}

fn for_each_file(
    folder: &Path,
    mut visit: impl FnMut(&Path, Option<BlobId>) -> io::Result<()>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let id = entry.file_name().to_str().and_then(BlobId::parse);
        visit(&entry.path(), id)?;
    }
    Ok(())
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
        Ok(BlobWriter {
            id,
            file,
            temporary: Some(temporary),
            root: self.root.clone(),
            disk: Arc::clone(&self.disk),
            latch: Arc::clone(&self.latch),
            length_bytes: 0,
            block: Vec::new(),
            block_crcs: BlockCrcs::default(),
        })
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
        Ok(BlobReader {
            id,
            file,
            length_bytes,
            block_crcs,
        })
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

/// A blob being written. Dropped before [`BlobWriter::publish`] it leaves nothing behind.
pub struct BlobWriter {
    id: BlobId,
    file: File,
    /// `None` once the file has its final name.
    temporary: Option<PathBuf>,
    root: PathBuf,
    disk: Arc<dyn Disk>,
    latch: Arc<WriteLatch>,
    length_bytes: u64,
    /// The unfinished block, kept for its checksum and to write in whole blocks.
    block: Vec<u8>,
    block_crcs: BlockCrcs,
}

impl BlobWriter {
    /// Appends. Blocks.
    ///
    /// # Errors
    /// [`BlobError::NoSpace`] or [`BlobError::Write`]; the blob is lost either way.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), BlobError> {
        self.length_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.block.is_empty() && bytes.len() >= BLOCK_BYTES {
                let whole = bytes.len() - bytes.len() % BLOCK_BYTES;
                let (blocks, rest) = bytes.split_at(whole);
                self.block_crcs
                    .0
                    .extend(blocks.chunks(BLOCK_BYTES).map(crc32c));
                self.append(blocks)?;
                bytes = rest;
                continue;
            }
            let take = (BLOCK_BYTES - self.block.len()).min(bytes.len());
            self.block.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if self.block.len() == BLOCK_BYTES {
                self.flush_block()?;
            }
        }
        Ok(())
    }

    /// Bytes so far.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Makes the blob durable and gives it its final name. Blocks until file and folder are synced.
    ///
    /// # Errors
    /// [`BlobError::NoSpace`], or [`BlobError::Write`], after which the store refuses writes.
    pub fn publish(mut self) -> Result<Published, BlobError> {
        if !self.block.is_empty() {
            self.flush_block()?;
        }
        if self.latch.has_fallen() {
            return Err(BlobError::WritesRefused);
        }
        let outcome = self.settle();
        outcome.map_err(|source| write_failed(self.id, source, &self.latch))?;
        Ok(Published {
            id: self.id,
            length_bytes: self.length_bytes,
            block_crcs: std::mem::take(&mut self.block_crcs),
        })
    }

    fn settle(&mut self) -> io::Result<()> {
        self.disk.sync_file(&self.file)?;
        if let Some(temporary) = &self.temporary {
            self.disk.rename(temporary, &self.id.path(&self.root))?;
            self.temporary = None;
        }
        self.disk.sync_folder(&self.id.folder(&self.root))
    }

    fn flush_block(&mut self) -> Result<(), BlobError> {
        let mut block = std::mem::take(&mut self.block);
        self.block_crcs.0.push(crc32c(&block));
        self.append(&block)?;
        block.clear();
        self.block = block;
        Ok(())
    }

    fn append(&self, bytes: &[u8]) -> Result<(), BlobError> {
        self.disk
            .write(&self.file, bytes)
            .map_err(|source| write_failed(self.id, source, &self.latch))
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        let Some(temporary) = self.temporary.take() else {
            return;
        };
        // This writer made the file and nobody else knows its name: proof enough.
        if let Err(error) = self.disk.unlink(&temporary) {
            tracing::warn!(path = %temporary.display(), %error, "an abandoned upload stays until the next start");
        }
    }
}

/// An open blob of the right length.
#[derive(Debug)]
pub struct BlobReader {
    id: BlobId,
    file: File,
    length_bytes: u64,
    block_crcs: BlockCrcs,
}

impl BlobReader {
    /// Reads the beginning of `range`: up to [`READ_BYTES`], less when it ends or a block boundary comes
    /// sooner. Every block it touches is read whole and verified. Blocks.
    ///
    /// # Errors
    /// [`BlobError::Read`] or [`BlobError::Corrupt`].
    pub fn read(&self, range: Range<u64>) -> Result<Bytes, BlobError> {
        let block_bytes = BLOCK_BYTES as u64;
        let end = range.end.min(self.length_bytes);
        if range.start >= end {
            return Ok(Bytes::new());
        }
        let first_block = range.start / block_bytes;
        let aligned_start = first_block * block_bytes;
        let aligned_end = end
            .next_multiple_of(block_bytes)
            .min(aligned_start + READ_BYTES as u64)
            .min(self.length_bytes);
        // At most READ_BYTES, so the sizes below fit every usize.
        let mut buffer = vec![0; (aligned_end - aligned_start) as usize];
        self.file
            .read_exact_at(&mut buffer, aligned_start)
            .map_err(|source| BlobError::Read {
                id: self.id.0,
                offset: aligned_start,
                source,
            })?;
        for (block, bytes) in (first_block..).zip(buffer.chunks(BLOCK_BYTES)) {
            let expected = self.block_crcs.0[block as usize];
            let actual = crc32c(bytes);
            if actual != expected {
                return Err(BlobError::Corrupt {
                    id: self.id.0,
                    block,
                    expected,
                    actual,
                });
            }
        }
        let skip = (range.start - aligned_start) as usize;
        let keep = (end.min(aligned_end) - aligned_start) as usize;
        Ok(Bytes::from(buffer).slice(skip..keep))
    }

    /// The blob's length.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }
}
