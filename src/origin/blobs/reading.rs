//! Blobs on their way out.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::buffers::Buffer;
use super::parts::Parts;
use super::pins::Pin;
use super::place::{Form, Spot};
use super::record::HEADER_BYTES;
use super::{
    BLOCK_BYTES, BlobError, DiskState, Extent, Inner, PackId, READ_BYTES, SHORT_READ_BYTES,
    StoredBlob, crc32c,
};

/// An open concatenation of parts of blobs.
pub struct DiskReader {
    inner: Arc<Inner>,
    extents: Vec<Placed>,
    length_bytes: u64,
    /// The files of the extent that was read last, by its index: a body reads one after the other.
    current: Mutex<Option<(usize, Arc<Parts>)>>,
    pins: Vec<Pin>,
}

/// Whole blocks of one blob.
struct Span {
    blocks: Range<u64>,
    /// Length of the blocks together.
    stored_bytes: usize,
    /// Which of their bytes are asked for.
    wanted: Range<usize>,
}

impl Span {
    /// What one read takes from the beginning of `asked`, which lies in a blob of this length.
    fn of(asked: Range<u64>, length_bytes: u64) -> Self {
        let block_bytes = BLOCK_BYTES as u64;
        let first_block = asked.start / block_bytes;
        let start = first_block * block_bytes;
        let end = (asked.end)
            .next_multiple_of(block_bytes)
            .min(start + READ_BYTES as u64)
            .min(length_bytes);
        Span {
            blocks: first_block..end.div_ceil(block_bytes),
            // At most READ_BYTES, so these fit every usize.
            stored_bytes: (end - start) as usize,
            wanted: (asked.start - start) as usize..(asked.end.min(end) - start) as usize,
        }
    }
}

/// An extent and where it begins in the concatenation.
struct Placed {
    start: u64,
    extent: Extent,
}

impl DiskReader {
    pub(super) fn open(inner: Arc<Inner>, extents: Vec<Extent>) -> Result<Self, BlobError> {
        let mut placed = Vec::with_capacity(extents.len());
        let mut length_bytes = 0;
        for extent in extents {
            let end = extent.skip_bytes.checked_add(extent.length_bytes);
            if end.is_none_or(|end| end > extent.blob.length_bytes) {
                return Err(BlobError::Length {
                    id: extent.blob.id.0,
                    expected_bytes: end.unwrap_or(u64::MAX),
                    actual_bytes: extent.blob.length_bytes,
                });
            }
            if extent.length_bytes > 0 {
                let start = length_bytes;
                length_bytes += extent.length_bytes;
                placed.push(Placed { start, extent });
            }
        }
        let pins: Vec<Pin> = placed
            .iter()
            .map(|placed| pin_of(&placed.extent.blob))
            .collect();
        inner.pins.hold(&pins).map_err(|pin| BlobError::Missing {
            id: match pin {
                Pin::Blob(id) => id.0,
                Pin::Pack(pack) => pack.0,
            },
        })?;
        let reader = DiskReader {
            current: Mutex::new(None),
            inner,
            extents: placed,
            length_bytes,
            pins,
        };
        // From the last to the first, whose files stay open.
        for index in (0..reader.extents.len()).rev() {
            let parts = reader.parts(index);
            if parts.check()? {
                reader.inner.repairs.report(parts.blob.id);
            }
        }
        Ok(reader)
    }

    /// Opens a part of one blob if nobody has to wait for a disk. Does not block.
    pub(super) fn open_at_once(inner: &Arc<Inner>, extent: &Extent) -> Option<Self> {
        let end = extent.skip_bytes.checked_add(extent.length_bytes)?;
        let length_bytes = extent.blob.length_bytes;
        let blocks = length_bytes.div_ceil(BLOCK_BYTES as u64);
        let is_sound = end <= length_bytes && blocks == extent.blob.block_crcs.0.len() as u64;
        if !is_sound || extent.length_bytes == 0 {
            return None;
        }
        let pins = vec![pin_of(&extent.blob)];
        inner.pins.hold(&pins).ok()?;
        // From here on the pins go with the reader.
        let parts = Arc::new(Parts::new(extent.blob.clone(), Arc::clone(&inner.disks)));
        let reader = DiskReader {
            current: Mutex::new(Some((0, Arc::clone(&parts)))),
            inner: Arc::clone(inner),
            length_bytes: extent.length_bytes,
            extents: vec![Placed {
                start: 0,
                extent: extent.clone(),
            }],
            pins,
        };
        parts.open_at_once().then_some(reader)
    }

    /// Reads the beginning of `range`: up to [`READ_BYTES`], less when it ends, or a blob or a block of it does. Every
    /// block it touches is read whole and verified; one that is wrong on a disk comes from the others. Blocks.
    ///
    /// # Errors
    /// [`BlobError::Read`], [`BlobError::Corrupt`], or another that says why no disk has it.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes, BlobError> {
        let Some((index, span)) = self.span(range) else {
            return Ok(Bytes::new());
        };
        let mut buffer = self.inner.reading_buffer(&span);
        let parts = self.parts(index);
        let rescued = parts
            .read(span.blocks, buffer.bytes_mut())
            .inspect_err(|_| {
                self.inner.lost_blocks.fetch_add(1, Ordering::Relaxed);
            })?;
        if rescued.blocks > 0 {
            let counted = &self.inner.rescued_blocks;
            counted.fetch_add(rescued.blocks, Ordering::Relaxed);
        }
        if rescued.is_mendable {
            let blob = &self.extents[index].extent.blob;
            self.inner.repairs.report(blob.id);
        }
        Ok(buffer.into_bytes().slice(span.wanted))
    }

    /// As [`DiskReader::read`], if all of it is in memory and right; `None` = read it in the other way, which also finds
    /// out what is wrong. Does not block.
    pub fn read_at_once(&self, range: Range<u64>) -> Option<Bytes> {
        let (index, span) = self.span(range)?;
        let mut buffer = self.inner.reading_buffer(&span);
        let parts = self.parts(index);
        parts
            .read_at_once(span.blocks, buffer.bytes_mut())
            .then(|| buffer.into_bytes().slice(span.wanted))
    }

    /// What one read takes from the beginning of `range`, and of which extent; `None` where there is nothing.
    fn span(&self, range: Range<u64>) -> Option<(usize, Span)> {
        let end = range.end.min(self.length_bytes);
        if range.start >= end {
            return None;
        }
        let index = self
            .extents
            .partition_point(|placed| placed.start <= range.start)
            - 1;
        let Placed { start, extent } = &self.extents[index];
        let from = range.start - start + extent.skip_bytes;
        let to = (end - start).min(extent.length_bytes) + extent.skip_bytes;
        Some((index, Span::of(from..to, extent.blob.length_bytes)))
    }

    /// Length of the concatenation.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn parts(&self, index: usize) -> Arc<Parts> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match current.as_ref() {
            Some((known, parts)) if *known == index => Arc::clone(parts),
            Some(_) | None => {
                let blob = self.extents[index].extent.blob.clone();
                let parts = Arc::new(Parts::new(blob, Arc::clone(&self.inner.disks)));
                *current = Some((index, Arc::clone(&parts)));
                parts
            }
        }
    }
}

impl Drop for DiskReader {
    fn drop(&mut self) {
        self.inner.unpin(&self.pins);
    }
}

impl Inner {
    fn reading_buffer(&self, span: &Span) -> Buffer {
        match span.stored_bytes {
            0..=SHORT_READ_BYTES => self.reading_short.take(span.stored_bytes),
            _ => self.reading.take(span.stored_bytes),
        }
    }

    /// A pack on a disk, opened and kept; `None` when it is not kept and somebody would have to wait. Does not block.
    fn open_pack_at_once(&self, number: u8, pack: PackId) -> Option<Arc<File>> {
        if let Some(kept) = self.open_packs.get(number, pack) {
            return Some(kept);
        }
        let pins = [Pin::Pack(pack)];
        self.pins.hold(&pins).ok()?;
        let disk = (self.disks.get(number)).filter(|disk| disk.state() != DiskState::Absent);
        let opened = disk.and_then(|disk| self.disks.io.open_at_once(&disk.pack_file(pack)));
        let file = opened.map(Arc::new);
        if let Some(file) = &file {
            self.open_packs.keep(number, pack, Arc::clone(file));
        }
        self.unpin(&pins);
        file
    }
}

/// See [`super::DiskBlobs::read_at_once`].
pub(super) fn read_at_once(inner: &Inner, blob: &StoredBlob, range: Range<u64>) -> Option<Bytes> {
    let (Form::Copies, Spot::Pack { pack, offset }) = (blob.place.form, blob.place.spot) else {
        return None;
    };
    let length_bytes = blob.length_bytes;
    if range.is_empty() || range.end > length_bytes {
        return None;
    }
    let span = Span::of(range.clone(), length_bytes);
    let crcs = (blob.block_crcs.0).get(span.blocks.start as usize..span.blocks.end as usize)?;
    if span.wanted.len() as u64 != range.end - range.start {
        return None;
    }
    let disk = super::parts::first_copy(blob)?;
    let file = inner.open_pack_at_once(disk, pack)?;
    let mut buffer = inner.reading_buffer(&span);
    let start = offset + HEADER_BYTES as u64 + span.blocks.start * BLOCK_BYTES as u64;
    let io = &inner.disks.io;
    let is_right = io.read_at_once(&file, buffer.bytes_mut(), start)
        && (crcs.iter().zip(buffer.bytes().chunks(BLOCK_BYTES)))
            .all(|(expected, bytes)| crc32c(bytes) == *expected);
    is_right.then(|| buffer.into_bytes().slice(span.wanted))
}

/// What keeps a blob where it is.
pub(super) fn pin_of(blob: &StoredBlob) -> Pin {
    match blob.place.spot {
        Spot::File => Pin::Blob(blob.id),
        Spot::Pack { pack, .. } => Pin::Pack(pack),
    }
}
