//! Blobs: the bytes of objects, immutable, under ids that are never reused, spread over one or several disks.
//!
//! - `durable-before-visible`: [`DiskWriter::publish`] returns only after the bytes are synced on every disk of their
//!   set, and the names of their files too; its result is what a metadata row needs, so no row can be written earlier.
//! - `delete-needs-proof`: [`DiskBlobs::remove`] takes a blob that a committed transaction has just released,
//!   [`DiskBlobs::remove_pack`] a pack that no committed row names any more, and [`DiskBlobs::sweep`] removes only what no row
//!   names and whose writer is not the live one.
//! - `verify-on-read`: [`DiskReader`] hands out no block whose CRC32C it has not compared with the row's.
//!
//! [`Blobs`] is what the operations know of it. How many bytes there are decides where [`DiskBlobs`] puts them:
//!
//! | up to | where | one sync for |
//! |---|---|---|
//! | [`INLINE_MAX_BYTES`] | the metadata row | all rows of a commit |
//! | [`PACKED_MAX_BYTES`] | a record in a pack (`packs.rs`) | all records that wait |
//! | | files of at most [`EXTENT_MAX_BYTES`] (`writing.rs`) | each |
//!
//! With redundancy every disk of a set has the same bytes, or one shard of every block (`stripes.rs`). A read that meets
//! damage goes on with what the other disks have and reports the blob ([`Repairs`]), so that [`DiskBlobs::repair`] can mend it.
//!
//! Layout of a data folder:
//!
//! | file | |
//! |---|---|
//! | `identity` | which store's disk it is, and which of them (`identity.rs`) |
//! | `tmp/<id>` | a file of a blob while it is written; `<id>.mend` while it is written again |
//! | `big/<last two digits>/<id>` | a file of a blob: its bytes, or its shards one behind the other |
//! | `pack/<generation>/<number>.pack` | records: a header (`record.rs`) and the bytes, or the shards |

mod buffers;
mod compaction;
mod disks;
mod error;
mod folder;
mod identity;
mod ids;
mod open_packs;
mod packs;
mod parts;
mod pins;
mod place;
mod reading;
mod record;
mod repair;
mod seam;
mod stripes;
#[cfg(test)]
mod tests;
mod writing;

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crc_fast::CrcAlgorithm;

pub use compaction::NewPlace;
pub use disks::{DiskGroup, DiskState, Layout, LayoutError, Tier};
pub use error::BlobError;
pub use folder::{Amount, DiskUsage, PackOnDisk, Swept, make_private_folder};
pub use identity::StoreId;
pub use ids::{BlobId, GENERATION_MAX, PackId};
pub use place::Place;
pub use reading::DiskReader;
pub use repair::{RepairReport, Repairs, Verdict};
pub use seam::{BlobReader, BlobWriter, Blobs};
pub use writing::DiskWriter;

use super::disk::Disk;
use super::latch::WriteLatch;
use buffers::Buffers;
use bytes::Bytes;
use disks::Disks;
use ids::SEQUENCE_BITS;
use open_packs::OpenPacks;
use packs::Packs;
use pins::{Pin, Pins};
use place::Spot;

/// Bytes per checksummed block.
pub const BLOCK_BYTES: usize = 64 * 1024;
/// Bytes that a reader takes from the disk at a time: a multiple of [`BLOCK_BYTES`].
pub const READ_BYTES: usize = 4 * BLOCK_BYTES;
/// The longest content that [`DiskWriter::publish`] gives back instead of storing it.
pub const INLINE_MAX_BYTES: usize = 4 * 1024;
/// The longest content that goes into a pack. A writer keeps so much in memory.
pub const PACKED_MAX_BYTES: usize = 1024 * 1024;
/// The longest file of a blob: a multiple of [`BLOCK_BYTES`].
pub const EXTENT_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// What a short read takes at most.
const SHORT_READ_BYTES: usize = BLOCK_BYTES / 2;
/// Memory for reads and writes that is kept while nobody needs it: 8 and 16 MiB, and 1 MiB for short reads.
const READ_BUFFERS_KEPT: usize = 32;
const PACK_BUFFERS_KEPT: usize = 16;
/// Folders that blobs are spread over.
const SHARDS: u16 = 256;

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its length.
    pub length_bytes: u64,
    /// Its bytes.
    pub content: Content,
}

/// The bytes of what was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Too few to be stored here: they belong into the row.
    Inline(Bytes),
    /// Blobs whose concatenation it is, at least one.
    Blobs(Vec<NewBlob>),
}

/// A blob as a metadata row has it.
///
/// Keep what a publication returned until the row that names it is committed or refused: [`Place`] says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its id.
    pub id: BlobId,
    /// Its length, at least 1.
    pub length_bytes: u64,
    /// CRC32C of each block of [`BLOCK_BYTES`].
    pub block_crcs: BlockCrcs,
    /// Where it lies.
    pub place: Place,
}

/// A blob that was just published.
pub type NewBlob = StoredBlob;

impl StoredBlob {
    /// Bytes of its file, or of its record without the header, on each of its disks.
    pub fn stored_bytes(&self) -> u64 {
        self.place.form.stored_bytes(self.length_bytes)
    }
}

/// A part of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The blob.
    pub blob: StoredBlob,
    /// Bytes of it that come before the part.
    pub skip_bytes: u64,
    /// Length of the part.
    pub length_bytes: u64,
}

/// The CRC32C of each block, the last of which may be short.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockCrcs(Vec<u32>);

/// What reads have met since the start, in blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadDamage {
    /// Blocks that were wrong or missing on a disk and were served from the others.
    pub rescued_blocks: u64,
    /// Blocks that could not be served.
    pub lost_blocks: u64,
}

/// The blobs of a store.
pub struct DiskBlobs {
    inner: Arc<Inner>,
}

/// What readers and writers share with [`DiskBlobs`].
struct Inner {
    disks: Arc<Disks>,
    generation: i64,
    next_sequence: AtomicI64,
    /// Counts what is written, to take the disks in turn.
    turn: AtomicUsize,
    packs: Packs,
    pins: Pins,
    open_packs: OpenPacks,
    /// Memory for reads, and for short ones.
    reading: Arc<Buffers>,
    reading_short: Arc<Buffers>,
    /// Memory for what may go into a pack.
    gathering: Arc<Buffers>,
    repairs: Arc<Repairs>,
    rescued_blocks: AtomicU64,
    lost_blocks: AtomicU64,
    /// Held by whoever mends: two of them could write one file.
    mending: Mutex<()>,
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

    /// Those of bytes in memory.
    fn of(bytes: &[u8]) -> Self {
        BlockCrcs(bytes.chunks(BLOCK_BYTES).map(crc32c).collect())
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    // The algorithm yields 32 bits in a wider integer.
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// A second copy of an error, for one more of those that wait.
fn same_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}

impl DiskBlobs {
    /// Recognises the data folders, makes those that are new, and begins to take blobs. New ids belong to
    /// `generation`, which must never have written here before. Blocks.
    ///
    /// # Errors
    /// [`LayoutError`]; nothing on the disks was changed.
    pub fn start(
        layout: &Layout,
        generation: i64,
        disk: Arc<dyn Disk>,
        latch: Arc<WriteLatch>,
    ) -> Result<Self, LayoutError> {
        let disks = Arc::new(Disks::open(layout, disk, latch)?);
        Ok(DiskBlobs {
            inner: Arc::new(Inner {
                packs: Packs::new(Arc::clone(&disks), generation),
                disks,
                generation,
                next_sequence: AtomicI64::new(0),
                turn: AtomicUsize::new(0),
                pins: Pins::default(),
                open_packs: OpenPacks::default(),
                reading: Buffers::new(READ_BYTES, READ_BUFFERS_KEPT),
                reading_short: Buffers::new(SHORT_READ_BYTES, READ_BUFFERS_KEPT),
                gathering: Buffers::new(PACKED_MAX_BYTES, PACK_BUFFERS_KEPT),
                repairs: Arc::default(),
                rescued_blocks: AtomicU64::new(0),
                lost_blocks: AtomicU64::new(0),
                mending: Mutex::new(()),
            }),
        })
    }

    /// Removes what dead writers left behind: unfinished files, files that no row names, packs in which no row
    /// names a blob. To be called once, before anything is written. Blocks.
    ///
    /// # Errors
    /// What the system says.
    pub fn sweep(
        &self,
        named: &dyn Fn(BlobId) -> bool,
        named_packs: &dyn Fn(PackId) -> bool,
    ) -> io::Result<Swept> {
        let inner = &self.inner;
        folder::sweep(&inner.disks, inner.generation, named, named_packs)
    }

    /// Begins to take bytes in, for the disks of a tier.
    ///
    /// # Errors
    /// [`BlobError::WritesRefused`], also when the tier has no disks.
    pub fn writer(&self, tier: Tier) -> Result<DiskWriter, BlobError> {
        if self.inner.disks.refuses_writes(tier) {
            return Err(BlobError::WritesRefused);
        }
        Ok(DiskWriter::new(Arc::clone(&self.inner), tier))
    }

    /// Whether there are cold disks.
    pub fn has_cold(&self) -> bool {
        self.inner.disks.has(Tier::Cold)
    }

    /// Opens the concatenation of parts of blobs. Until the reader is dropped, none of the blobs is removed. Blocks.
    ///
    /// # Errors
    /// [`BlobError::Missing`], [`BlobError::Length`], [`BlobError::ChecksumCount`] or [`BlobError::Read`].
    pub fn open(&self, extents: Vec<Extent>) -> Result<DiskReader, BlobError> {
        DiskReader::open(Arc::clone(&self.inner), extents)
    }

    /// As [`DiskBlobs::open`] for a part of one blob, if nobody has to wait for a disk; `None` = open it in the other way, which
    /// also says what is wrong with it. Does not block.
    pub fn open_at_once(&self, extent: &Extent) -> Option<DiskReader> {
        DiskReader::open_at_once(&self.inner, extent)
    }

    /// Reads `range` of a blob in a pack if one read is enough for all of it, nobody has to wait for a disk, and it is right;
    /// `None` = open it, which also says what is wrong. Does not block.
    pub fn read_at_once(&self, blob: &StoredBlob, range: Range<u64>) -> Option<Bytes> {
        reading::read_at_once(&self.inner, blob, range)
    }

    /// Removes the files of a blob that a committed transaction has released (`delete-needs-proof`), when its last
    /// reader is done; of one in a pack nothing, which is for compaction. Blocks.
    ///
    /// # Errors
    /// [`BlobError::Write`]: it costs space, not truth, and the next sweep repeats it.
    pub fn remove(&self, released: &StoredBlob) -> Result<(), BlobError> {
        match released.place.spot {
            Spot::Pack { .. } => Ok(()),
            Spot::File
                if !self
                    .inner
                    .pins
                    .doom(Pin::Blob(released.id), &released.place.disks) =>
            {
                Ok(())
            }
            Spot::File => {
                let outcome = self.inner.unlink_blob(released.id, &released.place.disks);
                self.inner.pins.forget(Pin::Blob(released.id));
                outcome.map_err(|source| BlobError::Write {
                    id: released.id.0,
                    source,
                })
            }
        }
    }

    /// Bytes on disk by kind, to compare with what the rows name. Blocks.
    ///
    /// # Errors
    /// What the system says.
    pub fn usage(&self) -> io::Result<Vec<DiskUsage>> {
        folder::usage(&self.inner.disks)
    }

    /// The packs that lie on disks that can be written, by id. Blocks.
    ///
    /// # Errors
    /// What the system says.
    pub fn packs(&self) -> io::Result<Vec<PackOnDisk>> {
        folder::packs(&self.inner.disks)
    }

    /// Visits the files of blobs that have files of their own: the number of the disk, the blob, the bytes. Blocks.
    ///
    /// # Errors
    /// What the system says.
    pub fn blob_files(&self, visit: &mut dyn FnMut(u8, BlobId, u64)) -> io::Result<()> {
        folder::blob_files(&self.inner.disks, visit)
    }

    /// Blobs that readers have found damaged.
    pub fn repairs(&self) -> &Arc<Repairs> {
        &self.inner.repairs
    }

    /// What reads have met since the start.
    pub fn read_damage(&self) -> ReadDamage {
        ReadDamage {
            rescued_blocks: self.inner.rescued_blocks.load(Ordering::Relaxed),
            lost_blocks: self.inner.lost_blocks.load(Ordering::Relaxed),
        }
    }

    /// What may be done with each disk, by number.
    pub fn disk_states(&self) -> Vec<DiskState> {
        (self.inner.disks.all.iter())
            .map(disks::DataDisk::state)
            .collect()
    }
}

impl Inner {
    fn next_id(&self) -> Result<BlobId, BlobError> {
        let sequence = self.next_sequence.fetch_add(1, Ordering::Relaxed);
        if sequence >> SEQUENCE_BITS != 0 {
            return Err(BlobError::IdsExhausted {
                generation: self.generation,
            });
        }
        Ok(BlobId::new(self.generation, sequence))
    }

    /// The disks of the next file of a blob: they take turns.
    fn next_set(&self, tier: Tier) -> Result<Vec<u8>, BlobError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.disks.choose(tier, turn)
    }

    /// The disks of the next record: as many packs are written at a time as there are disks for, each on disks of its
    /// own, so that what waits shares as few syncs as possible. Which disks those are changes with each full pack.
    fn next_pack_set(&self, tier: Tier) -> Result<Vec<u8>, BlobError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let width = self.disks.width(tier);
        let lanes = (self.disks.ready_count(tier) / width).max(1);
        self.disks
            .choose(tier, turn % lanes * width + self.packs.full_packs())
    }

    /// Removes the files of a blob; one that is not there is as good as removed. A disk that is not to be written
    /// keeps its file until a sweep.
    fn unlink_blob(&self, id: BlobId, disks: &[u8]) -> io::Result<()> {
        let paths = (disks.iter())
            .filter(|number| self.disks.is_ready(**number))
            .map(|number| self.disks.of_set(*number).blob_file(id));
        self.unlink_all(paths)
    }

    fn unlink_pack(&self, pack: PackId) -> io::Result<()> {
        self.open_packs.forget(pack);
        self.unlink_all(self.disks.ready().map(|disk| disk.pack_file(pack)))
    }

    fn unlink_all(&self, paths: impl Iterator<Item = std::path::PathBuf>) -> io::Result<()> {
        let mut outcome = Ok(());
        for path in paths {
            match self.disks.io.unlink(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "a released file stays until the next start");
                    outcome = Err(error);
                }
                Ok(()) | Err(_) => {}
            }
        }
        outcome
    }

    /// Removes what was released while it was being read.
    fn unpin(&self, pins: &[Pin]) {
        for (pin, disks) in self.pins.release(pins) {
            // Each failure has been logged, and a sweep repeats it.
            let _ = match pin {
                Pin::Blob(id) => self.unlink_blob(id, &disks),
                Pin::Pack(pack) => self.unlink_pack(pack),
            };
            self.pins.forget(pin);
        }
    }
}
