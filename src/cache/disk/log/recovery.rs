//! Finding out what an earlier process has left (`newest-decides`).

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use tracing::{info, warn};

use super::{Log, LogSizes, PADDING, entry_of, location};
use crate::cache::disk::folder::{Folder, SegmentFile};
use crate::cache::disk::format::{
    Fault, FolderId, FooterEntry, Kind, RecordHeader, SegmentHeader, Trailer, UNIT_BYTES,
    decode_footer,
};
use crate::cache::disk::index::Index;
use crate::cache::disk::segments::{MAX_SEGMENTS, Segment};
use crate::cache::disk::shelf::{ReadFault, Shelf, count};
use crate::cache::disk::snapshot::Snapshot;

impl Log {
    /// Takes the segments in, and what a clean stop knew of them.
    pub(super) fn adopt(&mut self, files: Vec<SegmentOnDisk>, snapshot: Option<&[u8]>) {
        let sequences: Vec<u64> = files.iter().map(|file| file.header.sequence).collect();
        self.next_sequence = sequences.last().map_or(1, |newest| newest + 1);
        let snapshot = snapshot.and_then(|bytes| {
            let read = Snapshot::decode(bytes, self.identity, &sequences);
            read.inspect_err(|fault| warn!(%fault, "the index of the last stop is not used"))
                .ok()
        });
        let is_known = snapshot.is_some();
        // Without a snapshot any slot will do; there are fewer files than slots.
        let any_slots = || (0..files.len() as u16).collect();
        let (slots, index) = match snapshot {
            Some(snapshot) => (snapshot.slots, snapshot.index),
            None => (any_slots(), Index::new()),
        };
        let shelf = Shelf::of(index);
        for (slot, file) in slots.into_iter().zip(files) {
            let segments = &shelf.segments;
            segments.add(slot, file.name, file.header, file.file, file.bytes);
        }
        if !is_known {
            self.unread = shelf.segments.newest_first();
            self.unread.reverse();
        }
        self.shelf = Arc::new(shelf);
        self.erasures.set_recovering(self.is_recovering());
    }

    /// Whether there are segments that are not in the index yet.
    pub fn is_recovering(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Puts the newest segment that is not in the index there. Does nothing when all are.
    pub fn recover_segment(&mut self) {
        let Some(segment) = self.unread.pop() else {
            return;
        };
        let entries = match read_footer(&segment) {
            Ok(Some(entries)) => entries,
            Ok(None) => self.scan(&segment),
            Err(fault) => {
                count(&self.shelf.counters.bad_records, 1);
                warn!(segment = segment.name, %fault, "read record by record for its bad footer");
                self.scan(&segment)
            }
        };
        // From the newest on: an erasure takes back what lies before it, in other segments too.
        for entry in entries.iter().rev() {
            let insert = || {
                let location = location(&segment, entry);
                self.shelf.index.insert(entry.hash, location);
            };
            match entry.kind {
                Kind::Erasure => {
                    let up_to = self.erased.entry(entry.hash).or_default();
                    *up_to = entry.generation_or_place.max(*up_to);
                }
                Kind::Response | Kind::Variant | Kind::Update => {
                    let generation = entry.generation_or_place;
                    if self.erased.get(&entry.hash) < Some(&generation) {
                        self.erasures.recover(entry.hash, generation, insert);
                    }
                }
                Kind::Block => insert(),
            }
        }
        if self.unread.is_empty() {
            self.erased = HashMap::new();
            self.erasures.set_recovering(false);
            let segments = self.shelf.segments.len();
            let records = self.shelf.index.len();
            info!(segments, records, "the disk tier knows all that it holds");
        }
    }

    /// Reads a segment without footer, record by record, up to the first that is not whole.
    pub(super) fn scan(&self, segment: &Segment) -> Vec<FooterEntry> {
        let mut entries = Vec::new();
        let mut offset = UNIT_BYTES;
        let fault = loop {
            match read_record_at(segment, offset) {
                Ok(header) => {
                    entries.push(entry_of(&header, offset));
                    offset += header.record_bytes();
                }
                Err(fault) => break fault,
            }
        };
        let records = entries.len();
        // What was never written has no magic; everything else is what a crash has torn.
        match fault {
            ReadFault::Format(Fault::Magic) => {
                info!(
                    segment = segment.name,
                    records, "read a segment without footer"
                );
            }
            fault => {
                count(&self.shelf.counters.bad_records, 1);
                warn!(segment = segment.name, records, %fault, "read a segment that ends in a torn record");
            }
        }
        segment.set_unsealed(entries.clone());
        entries
    }
}

/// A segment file that was found.
pub(super) struct SegmentOnDisk {
    pub(super) header: SegmentHeader,
    pub(super) name: String,
    pub(super) file: Arc<dyn SegmentFile>,
    pub(super) bytes: u64,
}

/// Opens every segment file that is ours, the oldest first, and removes what a crash has left of
/// others, and the oldest if they do not fit.
pub(super) fn find_segments(
    folder: &dyn Folder,
    identity: FolderId,
    sizes: LogSizes,
) -> io::Result<Vec<SegmentOnDisk>> {
    let mut found = Vec::new();
    for name in folder.segments()? {
        let file = folder.open_segment(&name)?;
        let bytes = file.bytes()?;
        match read_header(&*file, bytes) {
            Ok(header) if header.folder == identity => found.push(SegmentOnDisk {
                header,
                name,
                file,
                bytes,
            }),
            // Never written: the process stopped right after it was made.
            Err(ReadFault::Format(Fault::Magic)) if is_blank(&*file)? => {
                folder.remove_segment(&name)?;
            }
            other => {
                let fault = other.err().unwrap_or(Fault::Foreign.into());
                warn!(segment = name, %fault, "removed a file that is no segment of this cache");
                folder.remove_segment(&name)?;
            }
        }
    }
    found.sort_by_key(|file| file.header.sequence);
    let mut total: u64 = found.iter().map(|file| file.bytes).sum();
    // A limit that was lowered holds before anything is served.
    while total > sizes.limit_bytes || found.len() >= MAX_SEGMENTS {
        let oldest = found.remove(0);
        folder.remove_segment(&oldest.name)?;
        total -= oldest.bytes;
    }
    Ok(found)
}

pub(super) fn read_header(file: &dyn SegmentFile, bytes: u64) -> Result<SegmentHeader, ReadFault> {
    if bytes < 2 * UNIT_BYTES {
        let expected = 2 * UNIT_BYTES;
        let found = bytes;
        return Err(Fault::Short { expected, found }.into());
    }
    let mut header = [0; UNIT_BYTES as usize];
    file.read_at(&mut header, 0)?;
    Ok(SegmentHeader::decode(&header)?)
}

pub(super) fn is_blank(file: &dyn SegmentFile) -> io::Result<bool> {
    let mut header = [0; UNIT_BYTES as usize];
    file.read_at(&mut header, 0)?;
    Ok(header == PADDING)
}

/// The entries of a segment, from wherever they are.
pub(in crate::cache::disk) fn entries_of(segment: &Segment) -> Result<Vec<FooterEntry>, ReadFault> {
    if let Some(entries) = segment.unsealed_entries() {
        return Ok(entries);
    }
    match read_footer(segment)? {
        Some(entries) => Ok(entries),
        None => Err(Fault::Magic.into()),
    }
}

/// The footer of a segment; `None` when it was never sealed.
pub(super) fn read_footer(segment: &Segment) -> Result<Option<Vec<FooterEntry>>, ReadFault> {
    let mut trailer = [0; UNIT_BYTES as usize];
    segment
        .file()
        .read_at(&mut trailer, segment.bytes - UNIT_BYTES)?;
    if trailer == PADDING {
        return Ok(None);
    }
    let trailer = Trailer::decode(&trailer, &segment.header, segment.bytes)?;
    // No longer than the file.
    let mut footer = vec![0; trailer.footer_bytes() as usize];
    segment.file().read_at(&mut footer, trailer.footer_offset)?;
    Ok(Some(decode_footer(&footer, &trailer)?))
}

/// The header of the record at `offset`, if the record is whole.
pub(in crate::cache::disk) fn read_record_at(
    segment: &Segment,
    offset: u64,
) -> Result<RecordHeader, ReadFault> {
    let end = segment.bytes - UNIT_BYTES;
    if offset + UNIT_BYTES > end {
        return Err(Fault::Magic.into());
    }
    let mut header = [0; UNIT_BYTES as usize];
    segment.file().read_at(&mut header, offset)?;
    let header = RecordHeader::decode(&header, segment.header.sequence)?;
    if offset + header.record_bytes() > end {
        let found = end - offset;
        let expected = header.record_bytes();
        return Err(Fault::Short { expected, found }.into());
    }
    let mut payload = vec![0; header.payload_bytes as usize];
    segment.file().read_at(&mut payload, offset + UNIT_BYTES)?;
    header.check_payload(&payload)?;
    Ok(header)
}
