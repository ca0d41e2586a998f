//! The bytes of a version on their way out, wherever they lie.

use std::ops::Range;

use bytes::Bytes;

use super::blobs::{BlobError, BlobReader, Blobs, Extent};
use super::meta::{Piece, PieceBytes};

/// Some or all bytes of a version, open for reading: what was open stays readable when the version goes.
pub struct ObjectReader {
    parts: Vec<Part>,
}

struct Part {
    bytes: Range<u64>,
    source: Source,
}

enum Source {
    Inline(Bytes),
    Blob(Box<dyn BlobReader>),
}

impl ObjectReader {
    /// Opens the pieces, which follow one another. Blocks.
    ///
    /// # Errors
    /// As [`Blobs::open`].
    pub fn open(blobs: &dyn Blobs, pieces: Vec<Piece>) -> Result<Self, BlobError> {
        let open = |piece: Piece| {
            let end = piece.position + piece.length_bytes();
            let source = match piece.bytes {
                PieceBytes::Inline(bytes) => Source::Inline(bytes),
                PieceBytes::Extent(extent) => Source::Blob(blobs.open(vec![extent])?),
            };
            Ok(Part {
                bytes: piece.position..end,
                source,
            })
        };
        let parts: Result<Vec<Part>, BlobError> = pieces.into_iter().map(open).collect();
        Ok(ObjectReader { parts: parts? })
    }

    /// Opens a part of one blob and reads the beginning of `range`, if nobody has to wait for a disk; `None` = do it in the
    /// other way. Does not block.
    pub fn open_at_once(
        blobs: &dyn Blobs,
        extent: &Extent,
        range: Range<u64>,
    ) -> Option<(Self, Bytes)> {
        let part = Part {
            bytes: 0..extent.length_bytes,
            source: Source::Blob(blobs.open_at_once(extent)?),
        };
        let reader = ObjectReader { parts: vec![part] };
        let first = reader.read_at_once(range)?;
        Some((reader, first))
    }

    /// As [`ObjectReader::read`], if nobody has to wait for a disk; `None` = do it in the other way. Does not block.
    pub fn read_at_once(&self, range: Range<u64>) -> Option<Bytes> {
        match self.parts.as_slice() {
            [
                Part {
                    bytes,
                    source: Source::Blob(reader),
                },
            ] if bytes.start == 0 => reader.read_at_once(range),
            _ => None,
        }
    }

    /// Reads the beginning of `range`, as far as one read goes; empty where nothing was opened. Blocks.
    ///
    /// # Errors
    /// As [`BlobReader::read`].
    pub fn read(&self, range: Range<u64>) -> Result<Bytes, BlobError> {
        let behind = self
            .parts
            .partition_point(|part| part.bytes.end <= range.start);
        let Some(part) = self.parts.get(behind) else {
            return Ok(Bytes::new());
        };
        if range.start < part.bytes.start {
            return Ok(Bytes::new());
        }
        let start = range.start - part.bytes.start;
        let end = range
            .end
            .min(part.bytes.end)
            .saturating_sub(part.bytes.start);
        match &part.source {
            Source::Blob(reader) => reader.read(start..end),
            // An inline piece is a few KiB long.
            Source::Inline(bytes) => Ok(bytes.slice(start as usize..end.max(start) as usize)),
        }
    }
}
