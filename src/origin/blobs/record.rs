//! The header of a record in a pack.
//!
//! Reads do not need it: where a record lies, and what its bytes must be, stands in the metadata row. It is there so
//! that what a pack holds can be told without the rows, and it is checked, and mended, with the record.
//!
//! `docs/FORMATS.md` has every byte of it.

use super::place::Form;
use super::{BlobId, crc32c};

/// Length of the header.
pub(super) const HEADER_BYTES: usize = 64;

const MAGIC: [u8; 4] = *b"TGrc";
const VERSION: u16 = 1;

/// The header of the record of a blob on the disk at `index` of its set.
pub(super) fn header(
    id: BlobId,
    length_bytes: u64,
    form: Form,
    index: usize,
) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[0..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
    if let Form::Shards { data, parity } = form {
        bytes[6..8].copy_from_slice(&1u16.to_le_bytes());
        bytes[32] = u8::try_from(index).expect("a-set-has-few-disks");
        bytes[33] = data;
        bytes[34] = parity;
    }
    bytes[8..16].copy_from_slice(&id.row().to_le_bytes());
    bytes[16..24].copy_from_slice(&length_bytes.to_le_bytes());
    bytes[24..32].copy_from_slice(&form.stored_bytes(length_bytes).to_le_bytes());
    let checksum = crc32c(&bytes[..HEADER_BYTES - 4]);
    bytes[HEADER_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The shards that the blocks of a record are cut into: 1 for copies. `None` when this is no header.
pub(super) fn data_shards(header: &[u8; HEADER_BYTES]) -> Option<u8> {
    let (content, checksum) = header.split_at(HEADER_BYTES - 4);
    if header[0..4] != MAGIC || checksum != crc32c(content).to_le_bytes() {
        return None;
    }
    match header[33] {
        0 => Some(1),
        data => Some(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_header_is_where_its_table_says() {
        let form = Form::Shards { data: 4, parity: 2 };
        let bytes = header(BlobId::from_row(0x0102), 65_537, form, 5);
        assert_eq!(bytes[..8], *b"TGrc\x01\0\x01\0");
        assert_eq!(bytes[8..16], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..24], [1, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[24..32], [2, 0x40, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[32..35], [5, 4, 2]);
        assert_eq!(bytes[35..60], [0; 25]);
        assert_eq!(bytes[60..], crc32c(&bytes[..60]).to_le_bytes());
        // Copies are the same on every disk.
        let copy = |index| header(BlobId::from_row(7), 9, Form::Copies, index);
        assert_eq!(copy(0), copy(1));
        assert_eq!(
            (data_shards(&bytes), data_shards(&copy(0))),
            (Some(4), Some(1))
        );
        let mut damaged = bytes;
        damaged[33] ^= 1;
        assert_eq!(data_shards(&damaged), None);
    }
}
