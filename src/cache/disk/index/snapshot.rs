//! The index as one stream of bytes, for a clean stop and the start after it. `docs/FORMATS.md` has the
//! layout.

use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};

use crc_fast::{CrcAlgorithm, Digest};

use super::table::{Added, MAX_CANDIDATES, Place, Table};
use super::{Index, SHARDS};

const MAGIC: [u8; 8] = *b"TGINDEX\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 12;
const TRAILER_BYTES: usize = 12;

/// Entries are read in pieces of this many, and room is made for no more than this many on the word
/// of a count alone.
const PIECE: usize = 16 * 1024;

/// Why a snapshot cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The system does not let us read it.
    #[error("cannot read: {0}")]
    Read(io::Error),
    /// It ends before all of it was read.
    #[error("it ends within the {wanted_bytes} bytes from byte {offset} on")]
    Truncated {
        /// Where the part begins that is not all there.
        offset: u64,
        /// How long that part is.
        wanted_bytes: usize,
    },
    /// It does not begin like a snapshot.
    #[error("it begins with {found:02x?}, which is not how an index begins")]
    Foreign {
        /// How it begins.
        found: [u8; 8],
    },
    /// It has a version that is not ours.
    #[error("it has version {found}; this program reads version {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// It has another number of shards.
    #[error("it has {found} shards instead of {SHARDS}")]
    Shards {
        /// Its number of shards.
        found: u32,
    },
    /// An entry that is never written: its tag is zero or below the one before.
    #[error("tag {found} stands after tag {previous} in shard {shard}")]
    Order {
        /// The shard.
        shard: usize,
        /// The tag before; zero at the beginning of a shard.
        previous: u32,
        /// The tag.
        found: u32,
    },
    /// An entry stands there twice.
    #[error("an entry of tag {tag} in shard {shard} is repeated")]
    Repeated {
        /// The shard.
        shard: usize,
        /// The tag.
        tag: u32,
    },
    /// One tag has more than [`MAX_CANDIDATES`] entries.
    #[error("tag {tag} in shard {shard} has more than {MAX_CANDIDATES} entries")]
    TooMany {
        /// The shard.
        shard: usize,
        /// The tag.
        tag: u32,
    },
    /// The count at its end is not what was read.
    #[error("{found} entries were read and {announced} are announced")]
    Count {
        /// The count at its end.
        announced: u64,
        /// What was read.
        found: u64,
    },
    /// The checksum at its end is not that of what was read.
    #[error("CRC32C {computed:08x} was read and {stored:08x} is announced")]
    Checksum {
        /// The checksum at its end.
        stored: u32,
        /// That of what was read.
        computed: u32,
    },
}

pub(super) fn write(index: &Index, destination: &mut impl Write) -> io::Result<()> {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(SHARDS as u32).to_le_bytes());
    let mut total = 0;
    for shard in &index.shards {
        copy_shard(shard, &mut bytes, &mut total);
        digest.update(&bytes);
        destination.write_all(&bytes)?;
        bytes.clear();
    }
    bytes.extend_from_slice(&total.to_le_bytes());
    digest.update(&bytes);
    bytes.extend_from_slice(&crc_of(&digest).to_le_bytes());
    destination.write_all(&bytes)
}

/// Appends a shard to `bytes`, and its number of entries to `total`, while its lock is held.
fn copy_shard(shard: &Mutex<Table>, bytes: &mut Vec<u8>, total: &mut u64) {
    let table = shard.lock().unwrap_or_else(PoisonError::into_inner);
    bytes.reserve(8 + table.len() * ENTRY_BYTES);
    bytes.extend_from_slice(&(table.len() as u64).to_le_bytes());
    for (tag, place) in table.walk() {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&place.to_le_bytes());
    }
    *total += table.len() as u64;
}

pub(super) fn read(source: impl Read) -> Result<Index, SnapshotError> {
    let mut source = Source {
        source,
        offset: 0,
        digest: Digest::new(CrcAlgorithm::Crc32Iscsi),
        bytes: vec![0; PIECE * ENTRY_BYTES],
    };
    let header = source.take(HEADER_BYTES)?;
    let (magic, rest) = split::<8>(header);
    let (version, rest) = split(rest);
    let (shards, _) = split(rest);
    if magic != MAGIC {
        return Err(SnapshotError::Foreign { found: magic });
    }
    match u32::from_le_bytes(version) {
        VERSION => {}
        found => return Err(SnapshotError::Version { found }),
    }
    match u32::from_le_bytes(shards) {
        found if found as usize == SHARDS => {}
        found => return Err(SnapshotError::Shards { found }),
    }
    let index = Index::new();
    let mut total = 0;
    for (number, shard) in index.shards.iter().enumerate() {
        let mut table = shard.lock().unwrap_or_else(PoisonError::into_inner);
        total += read_shard(&mut source, number, &mut table)?;
    }
    let (announced, _) = split(source.take(8)?);
    let computed = crc_of(&source.digest);
    let (stored, _) = split(source.take(TRAILER_BYTES - 8)?);
    let (announced, stored) = (u64::from_le_bytes(announced), u32::from_le_bytes(stored));
    if announced != total {
        let found = total;
        return Err(SnapshotError::Count { announced, found });
    }
    if stored != computed {
        return Err(SnapshotError::Checksum { stored, computed });
    }
    Ok(index)
}

/// Reads one shard into its empty table, and tells how many entries it has.
fn read_shard(
    source: &mut Source<impl Read>,
    shard: usize,
    table: &mut Table,
) -> Result<u64, SnapshotError> {
    let (count, _) = split(source.take(8)?);
    let count = u64::from_le_bytes(count);
    let mut left = count;
    let mut previous = 0;
    while left > 0 {
        let piece = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        let mut entries = source.take(piece * ENTRY_BYTES)?;
        table.reserve(piece);
        while !entries.is_empty() {
            let (tag, rest) = split(entries);
            let (place, rest) = split(rest);
            entries = rest;
            let tag = u32::from_le_bytes(tag);
            if tag == 0 || tag < previous {
                return Err(SnapshotError::Order {
                    shard,
                    previous,
                    found: tag,
                });
            }
            match table.add(tag, Place(u64::from_le_bytes(place))) {
                Added::New => {}
                Added::Already => return Err(SnapshotError::Repeated { shard, tag }),
                Added::InPlaceOfOldest => return Err(SnapshotError::TooMany { shard, tag }),
            }
            previous = tag;
        }
        left -= piece as u64;
    }
    Ok(count)
}

/// What is read, its place and its checksum.
struct Source<R> {
    source: R,
    offset: u64,
    digest: Digest,
    bytes: Vec<u8>,
}

impl<R: Read> Source<R> {
    /// The next `count` bytes, at most those of [`PIECE`] entries.
    fn take(&mut self, count: usize) -> Result<&[u8], SnapshotError> {
        let bytes = &mut self.bytes[..count];
        self.source
            .read_exact(bytes)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => SnapshotError::Truncated {
                    offset: self.offset,
                    wanted_bytes: count,
                },
                _ => SnapshotError::Read(error),
            })?;
        self.offset += count as u64;
        self.digest.update(bytes);
        Ok(bytes)
    }
}

/// The first `N` bytes and what follows them.
fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    let (first, rest) = bytes
        .split_first_chunk()
        .expect("as many bytes were taken as are split off");
    (*first, rest)
}

fn crc_of(digest: &Digest) -> u32 {
    // A CRC of 32 bits, in a wider type.
    digest.finalize() as u32
}
