//! The bytes of an object in its row: themselves when they are few, else the blobs that they are made of.

use bytes::Bytes;

use crate::origin::blobs::{BlobId, BlockCrcs, Content, Place, StoredBlob};

const INLINE: u8 = 0;
const BLOBS: u8 = 1;

/// 0 and the bytes; or 1 and for each blob its id and length, then its checksums and its place, each behind its length
/// (all numbers big-endian).
pub(super) fn to_bytes(content: &Content) -> Vec<u8> {
    match content {
        Content::Inline(bytes) => [&[INLINE], bytes.as_ref()].concat(),
        Content::Blobs(blobs) => {
            let mut row = vec![BLOBS];
            for blob in blobs {
                row.extend_from_slice(&blob.id.row().to_be_bytes());
                row.extend_from_slice(&blob.length_bytes.to_be_bytes());
                for part in [blob.block_crcs.to_bytes(), blob.place.to_bytes()] {
                    let length = u32::try_from(part.len()).expect("a blob has few blocks");
                    row.extend_from_slice(&length.to_be_bytes());
                    row.extend_from_slice(&part);
                }
            }
            row
        }
    }
}

/// Reads [`to_bytes`]; `None` when that cannot have written it.
pub(super) fn from_bytes(row: &[u8]) -> Option<Content> {
    let (kind, mut rest) = row.split_first()?;
    match *kind {
        INLINE => Some(Content::Inline(Bytes::copy_from_slice(rest))),
        BLOBS => {
            let mut blobs = Vec::new();
            while !rest.is_empty() {
                let id = i64::from_be_bytes(take(&mut rest)?);
                let length_bytes = u64::from_be_bytes(take(&mut rest)?);
                blobs.push(StoredBlob {
                    id: BlobId::from_row(id),
                    length_bytes,
                    block_crcs: BlockCrcs::from_bytes(take_part(&mut rest)?)?,
                    place: Place::from_bytes(take_part(&mut rest)?)?,
                });
            }
            Some(Content::Blobs(blobs))
        }
        _ => None,
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

fn take_part<'r>(rest: &mut &'r [u8]) -> Option<&'r [u8]> {
    let length = u32::from_be_bytes(take(rest)?);
    let (part, left) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = left;
    Some(part)
}
