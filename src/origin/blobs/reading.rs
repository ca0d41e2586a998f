//! A blob on its way out.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;

use super::{BLOCK_BYTES, BlobError, BlobId, BlockCrcs, READ_BYTES, crc32c};

/// An open blob of the right length.
#[derive(Debug)]
pub struct BlobReader {
    id: BlobId,
    file: File,
    length_bytes: u64,
    block_crcs: BlockCrcs,
}

impl BlobReader {
    /// Takes a file whose length and number of checksums have been compared.
    pub(super) fn new(id: BlobId, file: File, length_bytes: u64, block_crcs: BlockCrcs) -> Self {
        BlobReader {
            id,
            file,
            length_bytes,
            block_crcs,
        }
    }

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::origin::blobs::{Blobs, prepare};
    use crate::origin::disk::RealDisk;
    use crate::origin::latch::WriteLatch;

    #[test]
    fn a_range_comes_back_whole_however_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path(), &RealDisk).unwrap();
        let latch = Arc::new(WriteLatch::default());
        let blobs = Blobs::new(folder.path().to_owned(), 1, Arc::new(RealDisk), latch);
        let bytes: Vec<u8> = (0..700_001u32).map(|n| (n / 251) as u8).collect();
        for piece in [
            1,
            1000,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            bytes.len(),
        ] {
            // One byte at a time would be slow for nothing: a few blocks show the same.
            let bytes = if piece == 1 {
                &bytes[..BLOCK_BYTES + 2]
            } else {
                &bytes[..]
            };
            let mut writer = blobs.create().unwrap();
            for part in bytes.chunks(piece) {
                writer.write(part).unwrap();
            }
            let reader = blobs.open(writer.publish().unwrap()).unwrap();
            let length = bytes.len() as u64;
            let block = BLOCK_BYTES as u64;
            for range in [
                0..length,
                0..1,
                block - 1..block + 1,
                block..block + 1,
                length - 1..length,
            ] {
                let mut read = Vec::new();
                let mut at = range.start;
                while at < range.end {
                    let part = reader.read(at..range.end).unwrap();
                    assert!(!part.is_empty() && part.len() <= READ_BYTES);
                    at += part.len() as u64;
                    read.extend_from_slice(&part);
                }
                let expected = &bytes[range.start as usize..range.end as usize];
                assert!(read == expected, "{range:?} written by {piece}");
            }
            assert!(reader.read(length..length + 1).unwrap().is_empty());
        }
    }
}
