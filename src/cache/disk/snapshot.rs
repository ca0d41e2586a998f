//! The index as a clean stop leaves it in the file `index`, so that the next start need not read the
//! segments.
//!
//! | bytes | |
//! |---|---|
//! | 8 | `TIDEINDX` |
//! | 2 | version |
//! | 2 | zero |
//! | 4 | segments |
//! | 16 | folder id |
//! | 16 each | of a segment, the oldest first: sequence (8), slot (2), zero (6) |
//! | … | the index: see [`Index::write_to`] |
//! | 4 | checksum of all bytes before |

use std::io;

use super::format::{Fault, FolderId, VERSION, crc32c};
use super::index::{Index, SnapshotError};
use super::segments::MAX_SEGMENTS;

/// The name of the file.
pub const FILE_NAME: &str = "index";

const MAGIC: [u8; 8] = *b"TIDEINDX";
const HEAD_BYTES: usize = 32;
const SEGMENT_BYTES: usize = 16;

/// What a clean stop knew.
pub struct Snapshot {
    /// The slots of the segments, the oldest first.
    pub slots: Vec<u16>,
    /// The index.
    pub index: Index,
}

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFault {
    /// The file is not what was written.
    #[error(transparent)]
    Format(#[from] Fault),
    /// It was written for other segments.
    #[error("it was written for other segments than those that are here")]
    OtherSegments,
    /// The index in it is not one.
    #[error(transparent)]
    Index(#[from] SnapshotError),
}

/// The bytes of the file; `segments` are sequence and slot, the oldest first.
///
/// # Errors
/// None that memory cannot cause.
pub fn encode(
    folder: FolderId,
    segments: impl ExactSizeIterator<Item = (u64, u16)>,
    index: &Index,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    // At most 2^12.
    bytes.extend_from_slice(&(segments.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&folder.0);
    for (sequence, slot) in segments {
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&slot.to_le_bytes());
        bytes.extend_from_slice(&[0; 6]);
    }
    index.write_to(&mut bytes)?;
    let checksum = crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

impl Snapshot {
    /// Reads the file, for a folder that holds segments with these sequences, the oldest first.
    ///
    /// # Errors
    /// [`SnapshotFault`].
    pub fn decode(
        bytes: &[u8],
        folder: FolderId,
        sequences: &[u64],
    ) -> Result<Self, SnapshotFault> {
        let short = Fault::Short {
            expected: (HEAD_BYTES + 4) as u64,
            found: bytes.len() as u64,
        };
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(short)?;
        let (head, rest) = body.split_first_chunk::<HEAD_BYTES>().ok_or(short)?;
        if head[0..8] != MAGIC {
            return Err(Fault::Magic.into());
        }
        let version = u16::from_le_bytes([head[8], head[9]]);
        if version != VERSION {
            return Err(Fault::Version(version).into());
        }
        if *checksum != crc32c(body).to_le_bytes() {
            return Err(Fault::Checksum("index").into());
        }
        if head[16..32] != folder.0 {
            return Err(Fault::Foreign.into());
        }
        let count = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
        let table_bytes = sequences.len() * SEGMENT_BYTES;
        if count as usize != sequences.len() || rest.len() < table_bytes {
            return Err(SnapshotFault::OtherSegments);
        }
        let (table, index) = rest.split_at(table_bytes);
        let mut slots = Vec::with_capacity(sequences.len());
        let mut is_taken = [false; MAX_SEGMENTS];
        for (entry, sequence) in table.as_chunks::<SEGMENT_BYTES>().0.iter().zip(sequences) {
            if entry[0..8] != sequence.to_le_bytes() {
                return Err(SnapshotFault::OtherSegments);
            }
            let slot = u16::from_le_bytes([entry[8], entry[9]]);
            let is_taken = is_taken.get_mut(usize::from(slot));
            // Two segments in one slot would be read as one.
            if is_taken.is_none_or(|is_taken| std::mem::replace(is_taken, true)) {
                let value = u64::from(slot);
                let field = "slot";
                return Err(Fault::Range { field, value }.into());
            }
            slots.push(slot);
        }
        let index = Index::read_from(index)?;
        Ok(Snapshot { slots, index })
    }
}
