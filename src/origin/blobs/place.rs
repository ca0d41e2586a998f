//! Where the bytes of a blob lie: on which disks, in what form, in a file of their own or in a pack.

use std::sync::Arc;

use super::disks::Tier;
use super::record::HEADER_BYTES;
use super::{BLOCK_BYTES, PackId};
use crate::config::Redundancy;

/// The version of [`Place::to_bytes`].
const VERSION: u8 = 1;
const FORM_COPIES: u8 = 0;
const FORM_SHARDS: u8 = 1;
const SPOT_FILE: u8 = 0;
const SPOT_PACK: u8 = 1;

/// How the blocks of a blob are spread over its disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Each disk has all of every block.
    Copies,
    /// Each disk has one shard of every block: the first `data` disks the block itself, cut into equal pieces, the
    /// others what Reed-Solomon coding makes of them.
    Shards {
        /// Shards that the block is cut into.
        data: u8,
        /// Shards that are computed.
        parity: u8,
    },
}

/// Where a blob lies. Opaque, but for the pack.
///
/// As a publication gives it out it also holds its pack: as long as a clone of it lives, the pack is not taken for
/// compaction, because a row that is about to name it may not be committed yet.
#[derive(Debug, Clone)]
pub struct Place {
    pub(super) form: Form,
    /// Numbers of the disks, in the order of copies or shards.
    pub(super) disks: Vec<u8>,
    pub(super) spot: Spot,
    /// Only counted; see [`super::packs`].
    #[allow(dead_code, reason = "it holds the pack by being there")]
    pub(super) hold: Option<Arc<()>>,
}

/// Where on each of the disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// In a file that has the blob's name.
    File,
    /// In a pack, whose record begins at `offset`.
    Pack { pack: PackId, offset: u64 },
}

impl Form {
    pub(super) fn of(redundancy: Redundancy) -> Self {
        match redundancy {
            Redundancy::None | Redundancy::Copies(_) => Form::Copies,
            Redundancy::Shards { data, parity } => Form::Shards { data, parity },
        }
    }

    /// Disks whose parts are enough to read a block.
    pub(super) fn needed(self) -> usize {
        match self {
            Form::Copies => 1,
            Form::Shards { data, .. } => usize::from(data),
        }
    }

    /// What one disk has of a block of this length. Shards have an even number of bytes, as the code wants them.
    pub(super) fn part_bytes(self, block_bytes: usize) -> usize {
        match self {
            Form::Copies => block_bytes,
            Form::Shards { data, .. } => {
                block_bytes.div_ceil(usize::from(data)).next_multiple_of(2)
            }
        }
    }

    /// Where the part of a block begins, counted from the part of the first.
    pub(super) fn part_offset(self, block: u64) -> u64 {
        block * self.part_bytes(BLOCK_BYTES) as u64
    }

    /// What one disk has of a blob of this length, without the header of a record.
    pub(super) fn stored_bytes(self, length_bytes: u64) -> u64 {
        let block_bytes = BLOCK_BYTES as u64;
        let whole = self.part_offset(length_bytes / block_bytes);
        match length_bytes % block_bytes {
            0 => whole,
            // Less than a block, so it fits every usize.
            rest => whole + self.part_bytes(rest as usize) as u64,
        }
    }
}

impl PartialEq for Place {
    /// Whether both mean the same bytes; holding the pack is not part of it.
    fn eq(&self, other: &Self) -> bool {
        (self.form, &self.disks, self.spot) == (other.form, &other.disks, other.spot)
    }
}

impl Eq for Place {}

impl Place {
    /// A file of its own on the first disk alone, where stores of the first version have every blob.
    pub fn first_disk() -> Self {
        Place {
            form: Form::Copies,
            disks: vec![0],
            spot: Spot::File,
            hold: None,
        }
    }

    /// The form in a metadata row, at most 32 bytes for sets of up to ten disks: version, form, data, parity, number
    /// of disks, the disks, then 0 for a file, or 1, the pack and the offset, both big-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (form, data, parity) = match self.form {
            Form::Copies => (FORM_COPIES, 0, 0),
            Form::Shards { data, parity } => (FORM_SHARDS, data, parity),
        };
        let disks = u8::try_from(self.disks.len()).expect("a-set-has-few-disks");
        let mut bytes = vec![VERSION, form, data, parity, disks];
        bytes.extend_from_slice(&self.disks);
        match self.spot {
            Spot::File => bytes.push(SPOT_FILE),
            Spot::Pack { pack, offset } => {
                bytes.push(SPOT_PACK);
                bytes.extend_from_slice(&pack.row().to_be_bytes());
                bytes.extend_from_slice(&offset.to_be_bytes());
            }
        }
        bytes
    }

    /// Reads [`Place::to_bytes`]; `None` when that cannot have written it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([version, form, data, parity, count], rest) = bytes.split_first_chunk::<5>()?;
        let (disks, rest) = rest.split_at_checked(usize::from(*count))?;
        let form = match (*form, *data, *parity) {
            (FORM_COPIES, 0, 0) => Form::Copies,
            (FORM_SHARDS, data, parity)
                if data > 0
                    && parity > 0
                    && usize::from(data) + usize::from(parity) == disks.len() =>
            {
                Form::Shards { data, parity }
            }
            _ => return None,
        };
        let distinct = (disks.iter().enumerate()).all(|(at, disk)| !disks[..at].contains(disk));
        if *version != VERSION || disks.is_empty() || !distinct {
            return None;
        }
        let spot = match rest.split_first()? {
            (&SPOT_FILE, []) => Spot::File,
            (&SPOT_PACK, rest) => {
                let (pack, offset) = rest.split_first_chunk::<8>()?;
                Spot::Pack {
                    pack: PackId::from_row(i64::from_be_bytes(*pack)),
                    offset: u64::from_be_bytes(offset.try_into().ok()?),
                }
            }
            _ => return None,
        };
        Some(Place {
            form,
            disks: disks.to_vec(),
            spot,
            hold: None,
        })
    }

    /// The pack that the blob lies in; `None` for one with files of its own.
    pub fn pack(&self) -> Option<PackId> {
        match self.spot {
            Spot::File => None,
            Spot::Pack { pack, .. } => Some(pack),
        }
    }

    /// Which of the store's disks it lies on.
    pub fn tier(&self) -> Tier {
        // No set is empty, and none has disks of two tiers.
        self.disks
            .first()
            .map_or(Tier::Data, |disk| Tier::of_disk(*disk))
    }

    /// Numbers of the disks that it lies on.
    pub fn disks(&self) -> &[u8] {
        &self.disks
    }

    /// Bytes that a blob of this length takes on each of its disks, the header of a record included.
    pub fn bytes_on_each_disk(&self, length_bytes: u64) -> u64 {
        let header = match self.spot {
            Spot::File => 0,
            Spot::Pack { .. } => HEADER_BYTES as u64,
        };
        header + self.form.stored_bytes(length_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Vec<Place> {
        let place = |form, disks: &[u8], spot| Place {
            form,
            disks: disks.to_vec(),
            spot,
            hold: None,
        };
        let pack = Spot::Pack {
            pack: PackId::from_row(0x0102_0304_0506_0708),
            offset: 0x1122_3344,
        };
        let shards = Form::Shards { data: 4, parity: 2 };
        vec![
            place(Form::Copies, &[0], Spot::File),
            place(Form::Copies, &[2, 1], pack),
            place(shards, &[5, 0, 1, 2, 3, 4], Spot::File),
            place(shards, &[5, 0, 1, 2, 3, 4], pack),
        ]
    }

    #[test]
    fn a_place_comes_back_from_its_row_and_nothing_else_is_taken_for_one() {
        for place in places() {
            let bytes = place.to_bytes();
            assert_eq!(Place::from_bytes(&bytes), Some(place));
            for length in 0..bytes.len() {
                assert_eq!(Place::from_bytes(&bytes[..length]), None, "{length} bytes");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(Place::from_bytes(&longer), None);
            let other_version = [&[VERSION + 1], &bytes[1..]].concat();
            assert_eq!(Place::from_bytes(&other_version), None);
        }
        for impossible in [
            // No disk; a disk twice; shards that are more than the disks; copies with parity.
            &[1, 0, 0, 0, 0, 0][..],
            &[1, 0, 0, 0, 2, 3, 3, 0],
            &[1, 1, 4, 2, 2, 0, 1, 0],
            &[1, 0, 0, 1, 1, 0, 0],
        ] {
            assert_eq!(Place::from_bytes(impossible), None, "{impossible:?}");
        }
    }

    #[test]
    fn shards_are_even_and_make_up_the_block() {
        let four = Form::Shards { data: 4, parity: 2 };
        let three = Form::Shards { data: 3, parity: 1 };
        for (form, block_bytes, expected) in [
            (Form::Copies, 1, 1),
            (Form::Copies, BLOCK_BYTES, BLOCK_BYTES),
            (four, 1, 2),
            (four, 8, 2),
            (four, 9, 4),
            (four, BLOCK_BYTES, 16 * 1024),
            (three, BLOCK_BYTES, 21_846),
        ] {
            assert_eq!(
                form.part_bytes(block_bytes),
                expected,
                "{form:?} {block_bytes}"
            );
        }
        let block = BLOCK_BYTES as u64;
        for (length, expected) in [
            (0, 0),
            (1, 2),
            (block - 1, 16_384),
            (block, 16_384),
            (block + 1, 16_386),
            (3 * block, 3 * 16_384),
        ] {
            assert_eq!(four.stored_bytes(length), expected, "{length}");
        }
    }
}
