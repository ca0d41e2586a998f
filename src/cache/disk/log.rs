//! The writing side: one log over all segments, appended to by one writer.
//!
//! Invariants:
//! - `never-over-the-limit`: a segment's bytes are reserved before it is written to, and the sum of
//!   all segments, those that a reader still holds open included, never passes the limit.
//! - `written-before-index`: a record is found only after the call that wrote it has returned.
//! - `newest-decides`: recovery reads from the newest segment to the oldest; an erasure takes back
//!   only what lies before it in the log.
//! - `reclaim-oldest-first`: a segment goes when it is the oldest, so an erasure outlives all that
//!   it takes back.

mod reclaim;
mod recovery;

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use super::erasures::Erasures;
use super::folder::Folder;
use super::format::{
    FOOTER_ENTRY_BYTES, FolderId, FooterEntry, Kind, MAX_RECORD_BYTES, RecordHeader, SegmentHeader,
    UNIT_BYTES, crc32c_of, encode_footer, record_bytes,
};
use super::identity::Identity;
use super::index::{Index, Location};
use super::policy::Policy;
use super::segments::{MAX_SEGMENTS, Segment};
use super::shelf::{Shelf, count};
use super::snapshot;
use reclaim::{Condemned, StillTaken};
use recovery::find_segments;

pub(super) use recovery::{entries_of, read_record_at};

/// Records that go out in one system call: each takes four slices, and Linux takes 1,024.
const BATCH_RECORDS: usize = 256;

/// Zeros up to the next unit.
const PADDING: [u8; UNIT_BYTES as usize] = [0; UNIT_BYTES as usize];

/// A record that is to be written.
#[derive(Debug, Clone)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// See [`RecordHeader::hash`].
    pub hash: u64,
    /// See [`RecordHeader::generation`].
    pub generation: u64,
    /// See [`Kind`].
    pub number: u64,
    /// The stored head; empty for a block.
    pub head: Bytes,
    /// The body or the block.
    pub body: Bytes,
    /// See [`RecordHeader::place`].
    pub place: u64,
}

impl Record {
    /// Takes back the responses under `hash` up to `generation`.
    pub fn erasure(hash: u64, generation: u64) -> Self {
        Record {
            kind: Kind::Erasure,
            hash,
            generation,
            number: 0,
            head: Bytes::new(),
            body: Bytes::new(),
            place: 0,
        }
    }

    /// Bytes that it takes in a segment.
    pub fn bytes(&self) -> u64 {
        record_bytes(self.payload_bytes())
    }

    fn payload_bytes(&self) -> u64 {
        self.head.len() as u64 + self.body.len() as u64
    }
}

/// Why nothing can be written. The caller counts, drops, and tries again later.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}: {error}")]
pub struct WriteFault {
    /// What was tried.
    pub doing: &'static str,
    /// What the system said.
    pub error: io::Error,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenFault {
    /// Another process holds its lock.
    #[error("another process uses the folder")]
    Locked,
    /// The system said no.
    #[error("cannot {doing}: {error}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

/// The sizes of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSizes {
    /// What all segments together may take.
    pub limit_bytes: u64,
    /// What one takes.
    pub segment_bytes: u64,
}

/// The log of a cache folder. Appended to by whoever owns it; read through [`Log::shelf`].
pub struct Log {
    folder: Arc<dyn Folder>,
    shelf: Arc<Shelf>,
    identity: FolderId,
    sizes: LogSizes,
    policy: Arc<Policy>,
    next_sequence: u64,
    open: Option<Open>,
    /// Files that could not be removed. Until they are, no segment is begun: none may outlive
    /// a newer one (`reclaim-oldest-first`).
    condemned: Vec<Condemned>,
    /// Segments that recovery has not read yet; the next one last.
    unread: Vec<Arc<Segment>>,
    /// What the erasures that recovery has found take back: for a hash, the generation up to which
    /// responses are gone.
    erased: HashMap<u64, u64>,
    erasures: Arc<Erasures>,
}

struct Open {
    segment: Arc<Segment>,
    /// Where the next record begins, in bytes.
    next: u64,
    entries: Vec<FooterEntry>,
}

impl Open {
    /// Whether `bytes` more in `records` records leave room for the footer.
    fn has_room(&self, records: usize, bytes: u64) -> bool {
        let entries = (self.entries.len() + records) as u64;
        let end = self.next + bytes + entries * FOOTER_ENTRY_BYTES + UNIT_BYTES;
        end <= self.segment.bytes
    }
}

/// A record with its place and its header, ready to be written.
struct Placed<'r> {
    record: &'r Record,
    header: [u8; UNIT_BYTES as usize],
    padding: usize,
}

impl Log {
    /// Opens the log in `folder`, which is prepared already; what lies in it is found once
    /// [`Log::recover_segment`] has been called until it says that it is done.
    ///
    /// # Errors
    /// [`OpenFault::Io`].
    pub fn open(
        folder: Arc<dyn Folder>,
        identity: &Identity,
        sizes: LogSizes,
        policy: Arc<Policy>,
        erasures: Arc<Erasures>,
    ) -> Result<Self, OpenFault> {
        let io = |doing| move |error| OpenFault::Io { doing, error };
        let segments = find_segments(&*folder, identity.folder, sizes);
        let segments = segments.map_err(io("read the segments"))?;
        let snapshot = folder
            .read(snapshot::FILE_NAME)
            .map_err(io("read the index"))?;
        // It is right only as long as nothing is written.
        folder
            .remove(snapshot::FILE_NAME)
            .map_err(io("remove the index"))?;
        let shelf = Arc::new(Shelf::of(Index::new()));
        let mut log = Log {
            folder,
            shelf,
            identity: identity.folder,
            sizes,
            policy,
            next_sequence: 1,
            open: None,
            condemned: Vec::new(),
            unread: Vec::new(),
            erased: HashMap::new(),
            erasures,
        };
        log.adopt(segments, snapshot.as_deref());
        Ok(log)
    }

    /// Whose folder it is.
    pub fn identity(&self) -> FolderId {
        self.identity
    }

    /// Finds out whether a disk that has failed can be written to: begins a segment unless one is open.
    ///
    /// # Errors
    /// [`WriteFault`].
    pub fn probe(&mut self) -> Result<(), WriteFault> {
        match self.open {
            Some(_) => Ok(()),
            None => self.open_segment(0),
        }
    }

    /// The reading side.
    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// Writes records, in their order. Returns how many were too long to be written at all.
    ///
    /// # Errors
    /// [`WriteFault`]: of those that follow, none is on disk or in the index. The next call begins
    /// in a new segment.
    pub fn append(&mut self, records: &[Record]) -> Result<usize, WriteFault> {
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        let mut too_long = 0;
        for record in records {
            let bytes = record.bytes();
            let alone = UNIT_BYTES + bytes + FOOTER_ENTRY_BYTES + UNIT_BYTES;
            if bytes > MAX_RECORD_BYTES || alone > self.sizes.segment_bytes {
                too_long += 1;
                continue;
            }
            let fits = |open: &Open, batch: &[&Record]| {
                batch.len() < BATCH_RECORDS && open.has_room(batch.len() + 1, batch_bytes + bytes)
            };
            if !self.open.as_ref().is_some_and(|open| fits(open, &batch)) {
                self.write(&mem::take(&mut batch))?;
                batch_bytes = 0;
                self.make_room(bytes)?;
            }
            batch.push(record);
            batch_bytes += bytes;
        }
        self.write(&batch)?;
        Ok(too_long)
    }

    /// Sees to it that the open segment has room for a record.
    fn make_room(&mut self, bytes: u64) -> Result<(), WriteFault> {
        while !self
            .open
            .as_ref()
            .is_some_and(|open| open.has_room(1, bytes))
        {
            self.seal()?;
            self.open_segment(bytes)?;
        }
        Ok(())
    }

    /// Writes what fits the open segment, in one go.
    fn write(&mut self, records: &[&Record]) -> Result<(), WriteFault> {
        if records.is_empty() {
            return Ok(());
        }
        let written = self.write_records(records)?;
        count(&self.shelf.counters.written_bytes, written);
        let Some(open) = &self.open else {
            return Ok(());
        };
        let entries = &open.entries[open.entries.len() - records.len()..];
        for entry in entries {
            match entry.kind {
                // It left the index when it was asked for.
                Kind::Erasure => {}
                Kind::Response | Kind::Variant | Kind::Update => {
                    let insert = || {
                        if entry.kind == Kind::Response {
                            self.shelf.index.remove_all(entry.hash);
                        }
                        let location = location(&open.segment, entry);
                        self.shelf.index.insert(entry.hash, location);
                    };
                    let generation = entry.generation_or_place;
                    self.erasures.unless_erased(entry.hash, generation, insert);
                }
                Kind::Block => {
                    let location = location(&open.segment, entry);
                    self.shelf.index.insert(entry.hash, location);
                }
            }
        }
        Ok(())
    }

    /// Writes records into the open segment and adds their entries to its footer. The index does not
    /// know of them yet. Returns the bytes.
    fn write_records(&mut self, records: &[&Record]) -> Result<u64, WriteFault> {
        let open = self.open.as_mut().expect("make-room-before-writing");
        let sequence = open.segment.header.sequence;
        let mut entries = Vec::with_capacity(records.len());
        let mut placed = Vec::with_capacity(records.len());
        let start = open.next;
        let mut next = start;
        for record in records {
            let payload_bytes = record.payload_bytes();
            let header = RecordHeader {
                kind: record.kind,
                hash: record.hash,
                generation: record.generation,
                number: record.number,
                sequence,
                // No longer than MAX_RECORD_BYTES.
                payload_bytes: payload_bytes as u32,
                payload_crc: crc32c_of(&[&record.head, &record.body]),
                head_bytes: record.head.len() as u32,
                place: record.place,
            };
            entries.push(entry_of(&header, next));
            placed.push(Placed {
                record,
                header: header.encode(),
                padding: (payload_bytes.next_multiple_of(UNIT_BYTES) - payload_bytes) as usize,
            });
            next += header.record_bytes();
        }
        let mut slices: Vec<IoSlice<'_>> = placed
            .iter()
            .flat_map(|placed| {
                [
                    &placed.header[..],
                    &placed.record.head[..],
                    &placed.record.body[..],
                    &PADDING[..placed.padding],
                ]
            })
            .filter(|slice| !slice.is_empty())
            .map(IoSlice::new)
            .collect();
        if let Err(error) = open.segment.file().write_at(&mut slices, start) {
            self.abandon_open();
            let doing = "write to a segment";
            return Err(WriteFault { doing, error });
        }
        open.next = next;
        open.entries.extend(entries);
        Ok(next - start)
    }

    /// Leaves the open segment without a footer: what it holds stays readable.
    fn abandon_open(&mut self) {
        if let Some(open) = self.open.take() {
            open.segment.set_unsealed(open.entries);
        }
    }

    /// Writes the footer of the open segment and makes all of it durable.
    ///
    /// # Errors
    /// [`WriteFault`]; the segment is left without footer.
    pub fn seal(&mut self) -> Result<(), WriteFault> {
        let Some(open) = self.open.as_ref() else {
            return Ok(());
        };
        let segment = open.segment.clone();
        if open.entries.is_empty() {
            self.open = None;
            return self.remove(&segment);
        }
        let (footer, trailer) = encode_footer(segment.header, open.next, &open.entries);
        let write =
            |bytes: &[u8], offset: u64| segment.file().write_at(&mut [IoSlice::new(bytes)], offset);
        let outcome = write(&footer, open.next)
            .and_then(|()| write(&trailer.encode(), segment.bytes - UNIT_BYTES))
            .and_then(|()| segment.file().sync());
        match outcome {
            Ok(()) => {
                self.open = None;
                Ok(())
            }
            Err(error) => {
                self.abandon_open();
                let doing = "seal a segment";
                Err(WriteFault { doing, error })
            }
        }
    }

    /// Begins a segment for a record of `bytes`; then makes room for the segment after it, so that
    /// there is always room to copy what is to be kept.
    fn open_segment(&mut self, bytes_wanted: u64) -> Result<(), WriteFault> {
        self.remove_condemned()?;
        while !self.has_room_for_segment() {
            // A reader may still hold one that was removed; it will let go, and then there is room.
            let is_held = self.shelf.segments.bytes() < self.shelf.segments.room().taken_bytes();
            let Some(oldest) = self.shelf.segments.oldest().filter(|_| !is_held) else {
                return Err(no_room());
            };
            // Without an open segment there is nowhere to copy to.
            self.remove(&oldest)?;
        }
        let header = SegmentHeader {
            folder: self.identity,
            sequence: self.next_sequence,
        };
        self.next_sequence += 1;
        let name = format!("{:016x}.seg", header.sequence);
        let bytes = self.sizes.segment_bytes;
        let fault = |doing| move |error| WriteFault { doing, error };
        let file = self.folder.create_segment(&name, bytes);
        let file = file.map_err(fault("make a segment"))?;
        if let Err(error) = file.write_at(&mut [IoSlice::new(&header.encode())], 0) {
            let _room = StillTaken::Room(self.shelf.segments.room().take(bytes));
            self.condemned.push(Condemned { name, _room });
            return Err(fault("begin a segment")(error));
        }
        let segments = &self.shelf.segments;
        let slot = segments.free_slot().ok_or_else(no_room)?;
        self.open = Some(Open {
            segment: segments.add(slot, name, header, file, bytes),
            next: UNIT_BYTES,
            entries: Vec::new(),
        });
        self.policy.fit(self.shelf.index.len() as u64);
        // One at a time: more are in the way only after the limit was lowered.
        if !self.has_room_for_segment() && self.shelf.segments.len() > 1 {
            self.reclaim(bytes_wanted)?;
        }
        Ok(())
    }

    fn has_room_for_segment(&self) -> bool {
        let taken = self.shelf.segments.room().taken_bytes();
        taken + self.sizes.segment_bytes <= self.sizes.limit_bytes
            && self.shelf.segments.len() < MAX_SEGMENTS
    }

    /// Whether reserving the next segment means that an old one goes.
    pub fn is_full(&self) -> bool {
        let taken = self.shelf.segments.room().taken_bytes();
        taken + 2 * self.sizes.segment_bytes > self.sizes.limit_bytes
    }

    /// Seals the open segment and leaves the index for the next start.
    ///
    /// # Errors
    /// [`WriteFault`]; the next start then reads the segments.
    pub fn close(&mut self) -> Result<(), WriteFault> {
        self.seal()?;
        if self.is_recovering() {
            // It does not know all yet.
            return Ok(());
        }
        let slots = self.shelf.segments.newest_first();
        let slots = slots.iter().rev().map(|s| (s.header.sequence, s.slot));
        let fault = |error| WriteFault {
            doing: "write the index",
            error,
        };
        let contents = snapshot::encode(self.identity, slots, &self.shelf.index);
        let contents = contents.map_err(fault)?;
        self.folder
            .replace(snapshot::FILE_NAME, &contents)
            .map_err(fault)
    }

    /// Removes everything.
    ///
    /// # Errors
    /// [`WriteFault`]; the index is empty all the same.
    pub fn clear(&mut self) -> Result<(), WriteFault> {
        self.abandon_open();
        self.shelf.index.clear();
        let mut outcome = Ok(());
        for segment in self.shelf.segments.newest_first() {
            outcome = outcome.and(self.remove(&segment));
        }
        // None is left that recovery could read.
        self.erased = HashMap::new();
        self.erasures.set_recovering(false);
        outcome
    }
}

fn no_room() -> WriteFault {
    WriteFault {
        doing: "make a segment",
        error: io::ErrorKind::QuotaExceeded.into(),
    }
}

fn entry_of(header: &RecordHeader, offset: u64) -> FooterEntry {
    FooterEntry {
        hash: header.hash,
        generation_or_place: match header.kind {
            Kind::Block => header.place,
            Kind::Response | Kind::Variant | Kind::Update | Kind::Erasure => header.generation,
        },
        kind: header.kind,
        // A segment is at most 1 GiB, a record at most MAX_RECORD_BYTES.
        offset: (offset / UNIT_BYTES) as u32,
        length: (header.record_bytes() / UNIT_BYTES) as u16,
    }
}

pub(super) fn location(segment: &Segment, entry: &FooterEntry) -> Location {
    Location {
        segment: segment.slot,
        offset: entry.offset,
        length: entry.length,
    }
}
