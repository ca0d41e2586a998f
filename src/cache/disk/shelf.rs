//! The reading side: from a hash to the records under it.
//!
//! Invariant `verified-or-missed`: a payload leaves here only when header and payload checksums are
//! right and it was written under the hash that was asked for. Everything else is a miss, counted,
//! and is not looked for again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::super::file_span::FileSpan;
use super::format::{Fault, Kind, RecordHeader, UNIT_BYTES};
use super::index::{Index, Location};
use super::segments::{Segment, Segments, VERIFIED_BYTES};

/// Between two bytes of a block by which we tell whether it lies in the page cache: what the system reads ahead at a time
/// unless it is told otherwise.
const PROBE_BYTES: usize = 128 * 1024;

/// How much is read of a response whose body is left in its file, before the length of its head is known: most are shorter.
pub const RESPONSE_BEGINNING_BYTES: usize = 1024;

/// How much is read of a block that is left in its file: it has no head.
pub const BLOCK_BEGINNING_BYTES: usize = UNIT_BYTES as usize;

/// A record that was verified: its body was read, or left in its file.
#[derive(Debug, Clone)]
pub struct Found<B = Bytes> {
    /// What it is.
    pub kind: Kind,
    /// See [`RecordHeader::generation`].
    pub generation: u64,
    /// See [`Kind`].
    pub number: u64,
    /// The stored head; empty for a block.
    pub head: Bytes,
    /// The body or the block.
    pub body: B,
    /// See [`RecordHeader::place`].
    pub place: u64,
}

impl<B> Found<B> {
    fn of(header: &RecordHeader, head: Bytes, body: B) -> Self {
        Found {
            kind: header.kind,
            generation: header.generation,
            number: header.number,
            head,
            body,
            place: header.place,
        }
    }

    /// The same record with another form of its body.
    pub fn map_body<C>(self, form: impl FnOnce(B) -> C) -> Found<C> {
        Found {
            kind: self.kind,
            generation: self.generation,
            number: self.number,
            head: self.head,
            body: form(self.body),
            place: self.place,
        }
    }
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// The disk failed.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error(transparent)]
    Format(#[from] Fault),
}

/// What is counted. Read by the metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes written for new records, overhead included.
    pub written_bytes: AtomicU64,
    /// Bytes written to keep records whose segment was reclaimed.
    pub reinserted_bytes: AtomicU64,
    /// Live records that were dropped with their segment.
    pub evicted_records: AtomicU64,
    /// Records read and verified.
    pub read_records: AtomicU64,
    /// Bytes of those.
    pub read_bytes: AtomicU64,
    /// Bytes of bodies that were sent from their files without being copied.
    pub sent_bytes: Arc<AtomicU64>,
    /// Records that could not be read for the disk's fault.
    pub read_errors: AtomicU64,
    /// Records, footers and segments that were not what was written.
    pub bad_records: AtomicU64,
}

/// Adds to a counter.
pub(in crate::cache) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// The index and the segments.
pub struct Shelf {
    /// Where records lie.
    pub index: Index,
    /// The files.
    pub segments: Segments,
    /// What is counted.
    pub counters: Counters,
}

impl Shelf {
    /// Without segments yet.
    pub fn of(index: Index) -> Self {
        Shelf {
            index,
            segments: Segments::default(),
            counters: Counters::default(),
        }
    }

    /// Reads the record at `location` if that needs no disk; `Ok(None)` when it would.
    pub fn read_cached(&self, hash: u64, location: Location) -> Result<Option<Found>, Missed> {
        let Some(segment) = self.segments.get(location.segment) else {
            return Err(Missed);
        };
        let mut buffer = buffer_for(location);
        match segment
            .file()
            .read_cached_at(&mut buffer, offset_of(location))
        {
            Ok(true) => self.verify(&segment, hash, location, buffer).map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(self.miss(hash, location, error.into())),
        }
    }

    /// Reads the record at `location`; may wait for the disk.
    pub fn read(&self, hash: u64, location: Location) -> Result<Found, Missed> {
        let Some(segment) = self.segments.get(location.segment) else {
            return Err(Missed);
        };
        let mut buffer = buffer_for(location);
        match segment.file().read_at(&mut buffer, offset_of(location)) {
            Ok(()) => self.verify(&segment, hash, location, buffer),
            Err(error) => Err(self.miss(hash, location, error.into())),
        }
    }

    /// The record at `location`, its body to be sent from its file, if that needs no disk and is worth it. It
    /// is read once since this process has the file, to find out whether it is right. `BEGINNING` is how much of it is
    /// read at first: its header at least, and for a response best its head too.
    pub fn in_file<const BEGINNING: usize>(
        &self,
        hash: u64,
        location: Location,
    ) -> Option<Found<FileSpan>> {
        if !is_long(location) {
            return None;
        }
        let segment = self.segments.get(location.segment)?;
        let start = offset_of(location);
        if !segment.is_verified(start) {
            // Notes it when it is right.
            self.read_cached(hash, location).ok()??;
        }
        let file = segment.file();
        let is_cached = |buffer: &mut [u8], offset| {
            // A disk that fails will say so again when the record is read.
            file.read_cached_at(buffer, offset).unwrap_or(false)
        };
        // A long record is longer than its beginning.
        let mut beginning = [0; BEGINNING];
        if !is_cached(&mut beginning, start) {
            return None;
        }
        let (header, payload) = beginning.split_at(UNIT_BYTES as usize);
        let header = RecordHeader::decode(header, segment.header.sequence).ok()?;
        if header.hash != hash {
            return None;
        }
        let head_bytes = header.head_bytes as usize;
        let head = match payload.get(..head_bytes) {
            Some(head) => Bytes::copy_from_slice(head),
            None => {
                let mut head = vec![0; head_bytes];
                if !is_cached(&mut head, start + UNIT_BYTES) {
                    return None;
                }
                head.into()
            }
        };
        let offset = start + UNIT_BYTES + u64::from(header.head_bytes);
        let length = u64::from(header.payload_bytes - header.head_bytes);
        // The system reads and forgets neighbouring pages together.
        let mut probes = (offset..offset + length)
            .step_by(PROBE_BYTES)
            .skip(1)
            .chain([offset + length - 1]);
        if length == 0 || !probes.all(|probe| is_cached(&mut [0], probe)) {
            return None;
        }
        let sent = self.counters.sent_bytes.clone();
        let body = FileSpan::on_disk(segment, offset, length, sent);
        Some(Found::of(&header, head, body))
    }

    fn verify(
        &self,
        segment: &Segment,
        hash: u64,
        location: Location,
        buffer: Vec<u8>,
    ) -> Result<Found, Missed> {
        let header = RecordHeader::decode(&buffer, segment.header.sequence)
            .map_err(|fault| self.miss(hash, location, fault.into()))?;
        if header.hash != hash {
            // The index knows fewer bits than a hash has.
            return Err(Missed);
        }
        let payload = Bytes::from(buffer).slice(UNIT_BYTES as usize..);
        let length = header.payload_bytes as usize;
        if payload.len() < length {
            let fault = Fault::Short {
                expected: length as u64,
                found: payload.len() as u64,
            };
            return Err(self.miss(hash, location, fault.into()));
        }
        let payload = payload.slice(..length);
        header
            .check_payload(&payload)
            .map_err(|fault| self.miss(hash, location, fault.into()))?;
        if is_long(location) {
            segment.note_verified(offset_of(location));
        }
        count(&self.counters.read_records, 1);
        count(&self.counters.read_bytes, header.record_bytes());
        let head_bytes = header.head_bytes as usize;
        let (head, body) = (payload.slice(..head_bytes), payload.slice(head_bytes..));
        Ok(Found::of(&header, head, body))
    }

    /// Takes a record that cannot be used out of the index.
    fn miss(&self, hash: u64, location: Location, fault: ReadFault) -> Missed {
        let was_there = self.index.remove(hash, location);
        // A segment that was removed under the reader is no fault.
        if was_there {
            let counter = match &fault {
                ReadFault::Io(_) => &self.counters.read_errors,
                ReadFault::Format(_) => &self.counters.bad_records,
            };
            count(counter, 1);
            tracing::debug!(
                segment = location.segment,
                offset = u64::from(location.offset) * UNIT_BYTES,
                %fault,
                "a record of the disk tier is not used"
            );
        }
        Missed
    }
}

/// The record is not to be had; why has been counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed;

/// Whether that a record was found right is noted, for it to be sent from its file.
fn is_long(location: Location) -> bool {
    u64::from(location.length) * UNIT_BYTES >= VERIFIED_BYTES + UNIT_BYTES
}

fn offset_of(location: Location) -> u64 {
    u64::from(location.offset) * UNIT_BYTES
}

fn buffer_for(location: Location) -> Vec<u8> {
    vec![0; usize::from(location.length) * UNIT_BYTES as usize]
}
