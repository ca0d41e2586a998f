//! A blob on its disks: what each of them has of it, and what its blocks really are.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::disks::{DiskState, Disks};
use super::place::{Form, Spot};
use super::record::HEADER_BYTES;
use super::{BLOCK_BYTES, BlobError, StoredBlob, crc32c, same_error, stripes};

/// The files of one blob, each opened when it is first needed.
pub(super) struct Parts {
    pub(super) blob: StoredBlob,
    disks: Arc<Disks>,
    files: Vec<OnceLock<Result<File, Fault>>>,
}

/// Why a disk does not give its part.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is no file.
    Missing,
    /// The disk is absent, or is none that is configured.
    Absent,
    /// The file is not as long as it must be.
    Length {
        /// How long it is.
        actual_bytes: u64,
    },
    /// The system's word for it.
    Io(io::Error),
    /// It was read, and is not what was written.
    Wrong {
        /// CRC32C of what was read.
        actual: u32,
    },
}

/// What is known of a block after all its parts have been read.
pub(super) struct Examined {
    /// The bytes, compared with their checksum; `None` when they are lost.
    pub(super) bytes: Option<Vec<u8>>,
    /// For each disk of the set, why its part is no good.
    pub(super) faults: Vec<Option<Fault>>,
}

impl Parts {
    /// Opens nothing yet.
    pub(super) fn new(blob: StoredBlob, disks: Arc<Disks>) -> Self {
        let files = blob.place.disks.iter().map(|_| OnceLock::new()).collect();
        Parts { blob, disks, files }
    }

    pub(super) fn form(&self) -> Form {
        self.blob.place.form
    }

    /// Disks of the set.
    pub(super) fn count(&self) -> usize {
        self.files.len()
    }

    pub(super) fn blocks(&self) -> Range<u64> {
        0..self.blob.block_crcs.0.len() as u64
    }

    /// Length of a block.
    pub(super) fn block_bytes(&self, block: u64) -> usize {
        let left = self.blob.length_bytes - block * BLOCK_BYTES as u64;
        // At most a block, so it fits every usize.
        left.min(BLOCK_BYTES as u64) as usize
    }

    fn expected(&self, block: u64) -> u32 {
        self.blob.block_crcs.0[block as usize]
    }

    /// Where the parts of the blob begin in their files.
    pub(super) fn base(&self) -> u64 {
        match self.blob.place.spot {
            Spot::File => 0,
            Spot::Pack { offset, .. } => offset + HEADER_BYTES as u64,
        }
    }

    /// Whether the disk at `index` of the set can be written.
    pub(super) fn is_writable(&self, index: usize) -> bool {
        self.disks.is_ready(self.blob.place.disks[index])
    }

    /// The file on the disk at `index` of the set.
    pub(super) fn path(&self, index: usize) -> Option<PathBuf> {
        let disk = self.disks.get(self.blob.place.disks[index])?;
        match (disk.state(), self.blob.place.spot) {
            (DiskState::Absent, _) => None,
            (_, Spot::File) => Some(disk.blob_file(self.blob.id)),
            (_, Spot::Pack { pack, .. }) => Some(disk.pack_file(pack)),
        }
    }

    /// Opens enough files to read the blob, and compares the lengths of those that are its own.
    ///
    /// # Errors
    /// [`BlobError`] when too few are there; else whether a file that can be mended was found missing or wrong.
    pub(super) fn check(&self) -> Result<bool, BlobError> {
        let expected = self.blob.length_bytes.div_ceil(BLOCK_BYTES as u64);
        let actual = self.blob.block_crcs.0.len() as u64;
        if expected != actual || actual == 0 {
            return Err(BlobError::ChecksumCount {
                id: self.blob.id.0,
                expected,
                actual,
            });
        }
        let mut good = 0;
        for index in self.order() {
            good += usize::from(self.file(index).is_ok());
            if good == self.form().needed() {
                return Ok(self.is_mendable());
            }
        }
        let faults = (0..self.count()).map(|index| self.file(index).err());
        Err(self.lost(0, faults))
    }

    /// Opens the file that is read first, if nobody has to wait for the disk and nothing is wrong with it. Does not block.
    pub(super) fn open_at_once(&self) -> bool {
        if self.form() != Form::Copies {
            return false;
        }
        let Some(index) = self.order().next() else {
            return false;
        };
        let opened = (self.path(index)).and_then(|path| self.disks.io.open_at_once(&path));
        let Some(file) = opened else { return false };
        if self.blob.place.spot == Spot::File {
            let length = file.metadata().map(|metadata| metadata.len()).ok();
            if length != Some(self.blob.length_bytes) {
                return false;
            }
        }
        self.files[index].set(Ok(file)).is_ok()
    }

    /// Reads whole blocks into `buffer` if they are in memory and right; false = [`Parts::read`] finds out. Does not block.
    pub(super) fn read_at_once(&self, blocks: Range<u64>, buffer: &mut [u8]) -> bool {
        let opened = self
            .order()
            .find_map(|index| match self.files[index].get() {
                Some(Ok(file)) if self.form() == Form::Copies => Some(file),
                _ => None,
            });
        let offset = self.base() + self.form().part_offset(blocks.start);
        let is_read = opened.is_some_and(|file| self.disks.io.read_at_once(file, buffer, offset));
        is_read
            && (blocks.zip(buffer.chunks(BLOCK_BYTES)))
                .all(|(block, bytes)| crc32c(bytes) == self.expected(block))
    }

    /// Whether a file that turned out to be no good lies on a disk that can be written.
    fn is_mendable(&self) -> bool {
        (0..self.count())
            .any(|index| matches!(self.files[index].get(), Some(Err(_))) && self.is_writable(index))
    }

    /// Reads whole blocks into `buffer`, each compared with its checksum.
    ///
    /// # Errors
    /// [`BlobError`] when a block is lost.
    pub(super) fn read(&self, blocks: Range<u64>, buffer: &mut [u8]) -> Result<Rescued, BlobError> {
        let is_read = self.read_plainly(&blocks, buffer);
        let mut rescued = Rescued::default();
        for (block, bytes) in blocks.zip(buffer.chunks_mut(BLOCK_BYTES)) {
            if is_read && crc32c(bytes) == self.expected(block) {
                continue;
            }
            let examined = self.examine(block);
            match examined.bytes {
                Some(found) => bytes.copy_from_slice(&found),
                None => return Err(self.lost(block, examined.faults.iter().map(Option::as_ref))),
            }
            rescued.blocks += 1;
            rescued.is_mendable |= (0..self.count())
                .any(|index| examined.faults[index].is_some() && self.is_writable(index));
        }
        Ok(rescued)
    }

    /// Reads in the quickest way, which is right when nothing is wrong; false when a read failed.
    fn read_plainly(&self, blocks: &Range<u64>, buffer: &mut [u8]) -> bool {
        let offset = self.base() + self.form().part_offset(blocks.start);
        let Form::Shards { data, .. } = self.form() else {
            let copy = self.order().find(|index| self.file(*index).is_ok());
            return copy.is_some_and(|index| self.read_file(index, buffer, offset).is_ok());
        };
        let part_bytes = self.form().part_bytes(BLOCK_BYTES);
        let stored: usize = (buffer.chunks(BLOCK_BYTES))
            .map(|block| self.form().part_bytes(block.len()))
            .sum();
        let mut shard = vec![0; stored];
        for index in 0..usize::from(data) {
            if self.file(index).is_err() || self.read_file(index, &mut shard, offset).is_err() {
                return false;
            }
            for (block, part) in buffer.chunks_mut(BLOCK_BYTES).zip(shard.chunks(part_bytes)) {
                // The last shards of a short block may lie behind its end, in whole or in part.
                let from = (index * part.len()).min(block.len());
                let to = (from + part.len()).min(block.len());
                block[from..to].copy_from_slice(&part[..to - from]);
            }
        }
        true
    }

    /// Reads every part of a block, finds out what the block is, and which parts are wrong.
    pub(super) fn examine(&self, block: u64) -> Examined {
        let block_bytes = self.block_bytes(block);
        let expected = self.expected(block);
        let mut faults: Vec<Option<Fault>> = Vec::with_capacity(self.count());
        let mut parts: Vec<Option<Vec<u8>>> = Vec::with_capacity(self.count());
        for index in 0..self.count() {
            match self.read_part(index, block) {
                Ok(part) => {
                    parts.push(Some(part));
                    faults.push(None);
                }
                Err(fault) => {
                    parts.push(None);
                    faults.push(Some(fault));
                }
            }
        }
        let (bytes, right) = match self.form() {
            Form::Copies => {
                let right = (parts.iter().flatten())
                    .find(|part| crc32c(part) == expected)
                    .cloned();
                let same = vec![right.clone(); parts.len()];
                (right, same)
            }
            Form::Shards { data, parity } => {
                let block = stripes::decode(&parts, data, parity, block_bytes, expected);
                let right = block.as_ref().map_or(vec![None; parts.len()], |block| {
                    let parts = stripes::encode(block, data, parity);
                    parts.into_iter().map(Some).collect()
                });
                (block, right)
            }
        };
        for ((part, right), fault) in parts.iter().zip(&right).zip(&mut faults) {
            if let Some(part) = part
                && Some(part) != right.as_ref()
            {
                *fault = Some(Fault::Wrong {
                    actual: crc32c(part),
                });
            }
        }
        Examined { bytes, faults }
    }

    /// What the disk at `index` must have of a block.
    pub(super) fn part_of(&self, bytes: Vec<u8>, index: usize) -> Vec<u8> {
        match self.form() {
            Form::Copies => bytes,
            Form::Shards { data, parity } => {
                stripes::encode(&bytes, data, parity).swap_remove(index)
            }
        }
    }

    fn read_part(&self, index: usize, block: u64) -> Result<Vec<u8>, Fault> {
        let mut part = vec![0; self.form().part_bytes(self.block_bytes(block))];
        let offset = self.base() + self.form().part_offset(block);
        self.file(index).map_err(Fault::again)?;
        self.read_file(index, &mut part, offset)
            .map_err(Fault::Io)?;
        Ok(part)
    }

    /// The header of the record on the disk at `index`; only for a blob in a pack.
    pub(super) fn read_header(&self, index: usize) -> Result<[u8; HEADER_BYTES], Fault> {
        let mut header = [0; HEADER_BYTES];
        self.file(index).map_err(Fault::again)?;
        self.read_file(index, &mut header, self.base() - HEADER_BYTES as u64)
            .map_err(Fault::Io)?;
        Ok(header)
    }

    fn read_file(&self, index: usize, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self.file(index) {
            Ok(file) => self.disks.io.read_at(file, buffer, offset),
            Err(_) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The file on the disk at `index`, of the right length if it is the blob's own.
    pub(super) fn file(&self, index: usize) -> Result<&File, &Fault> {
        let opened = self.files[index].get_or_init(|| {
            let path = self.path(index).ok_or(Fault::Absent)?;
            let file = self.disks.io.open(&path).map_err(Fault::from_open)?;
            if self.blob.place.spot == Spot::File {
                let expected_bytes = self.form().stored_bytes(self.blob.length_bytes);
                let actual_bytes = file.metadata().map_err(Fault::Io)?.len();
                if actual_bytes != expected_bytes {
                    return Err(Fault::Length { actual_bytes });
                }
            }
            Ok(file)
        });
        opened.as_ref()
    }

    /// The disks of the set, in the order in which they are read: copies take turns by the blob's id, of shards the
    /// data come first.
    fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let count = self.count();
        let first = match self.form() {
            Form::Copies => first_index(&self.blob),
            Form::Shards { .. } => 0,
        };
        (0..count).map(move |step| (first + step) % count)
    }

    /// The error for a block that no disk has.
    pub(super) fn lost<'f>(
        &self,
        block: u64,
        faults: impl Iterator<Item = Option<&'f Fault>>,
    ) -> BlobError {
        let id = self.blob.id.0;
        let faults: Vec<&Fault> = faults.flatten().collect();
        let missing = (faults.iter())
            .filter(|fault| matches!(fault, Fault::Missing))
            .count();
        // So few are left that somebody may be removing the blob.
        if self.count() - missing < self.form().needed() {
            return BlobError::Missing { id };
        }
        let corrupt = |actual| BlobError::Corrupt {
            id,
            block,
            expected: self.expected(block),
            actual,
        };
        let read = |source| BlobError::Read {
            id,
            offset: block * BLOCK_BYTES as u64,
            source,
        };
        let mut error = None;
        for fault in faults {
            let (rank, this) = match fault {
                Fault::Wrong { actual } => (3, corrupt(*actual)),
                Fault::Length { actual_bytes } => (
                    2,
                    BlobError::Length {
                        id,
                        expected_bytes: self.form().stored_bytes(self.blob.length_bytes),
                        actual_bytes: *actual_bytes,
                    },
                ),
                Fault::Io(source) => (1, read(same_error(source))),
                Fault::Missing | Fault::Absent => (0, read(io::ErrorKind::NotFound.into())),
            };
            if error.as_ref().is_none_or(|(known, _)| rank > *known) {
                error = Some((rank, this));
            }
        }
        error.map_or(corrupt(0), |(_, error)| error)
    }
}

/// Which copy of a blob is read first: they take turns by its id.
fn first_index(blob: &StoredBlob) -> usize {
    blob.id.0 as usize % blob.place.disks.len()
}

/// The disk whose copy of a blob is read first; `None` of a blob without disks, which is none.
pub(super) fn first_copy(blob: &StoredBlob) -> Option<u8> {
    let disks = &blob.place.disks;
    (!disks.is_empty()).then(|| disks[first_index(blob)])
}

/// What became of a read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rescued {
    /// Blocks that came from elsewhere than usual.
    pub(super) blocks: u64,
    /// Whether a disk with a part that is no good can be written.
    pub(super) is_mendable: bool,
}

impl Fault {
    fn from_open(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Fault::Missing,
            _ => Fault::Io(error),
        }
    }

    fn again(&self) -> Self {
        match self {
            Fault::Missing => Fault::Missing,
            Fault::Absent => Fault::Absent,
            Fault::Length { actual_bytes } => Fault::Length {
                actual_bytes: *actual_bytes,
            },
            Fault::Io(error) => Fault::Io(same_error(error)),
            Fault::Wrong { actual } => Fault::Wrong { actual: *actual },
        }
    }
}
