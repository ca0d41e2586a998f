//! Reading everything to see what is bad.

use std::ops::ControlFlow;

use super::format::{Fault, FooterEntry, Kind, UNIT_BYTES};
use super::log::{entries_of, location, read_record_at};
use super::segments::Segment;
use super::shelf::{ReadFault, Shelf};

/// What reading everything has shown so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Segments read.
    pub segments: u64,
    /// Segments there are.
    pub segments_total: u64,
    /// Segments that were not read for want of a footer: one that is still written to, and those
    /// that a fault of the disk has left without.
    pub segments_skipped: u64,
    /// Segments that were not read because their footer is not what was written.
    pub bad_footers: u64,
    /// Records that are what was written.
    pub good_records: u64,
    /// Records that are not; they are not used any more.
    pub bad_records: u64,
    /// Bytes of the records read.
    pub bytes: u64,
}

impl Verified {
    /// Whether all that was read is as it was written.
    pub fn is_sound(&self) -> bool {
        self.bad_records == 0 && self.bad_footers == 0
    }
}

/// Reads every record that the index leads to. `progress` is called after each segment and may end
/// it.
pub fn verify(shelf: &Shelf, mut progress: impl FnMut(&Verified) -> ControlFlow<()>) -> Verified {
    let segments = shelf.segments.newest_first();
    let mut verified = Verified {
        segments_total: segments.len() as u64,
        ..Verified::default()
    };
    for segment in segments {
        match entries_of(&segment) {
            Ok(entries) => verify_segment(shelf, &segment, &entries, &mut verified),
            Err(ReadFault::Format(Fault::Magic)) => verified.segments_skipped += 1,
            Err(_) => verified.bad_footers += 1,
        }
        verified.segments += 1;
        if progress(&verified).is_break() {
            break;
        }
    }
    verified
}

fn verify_segment(
    shelf: &Shelf,
    segment: &Segment,
    entries: &[FooterEntry],
    verified: &mut Verified,
) {
    for entry in entries {
        let location = location(segment, entry);
        let is_live = || shelf.index.hits(entry.hash, location).is_some();
        if entry.kind == Kind::Erasure || !is_live() {
            continue;
        }
        match shelf.read(entry.hash, location) {
            Ok(_) => {
                verified.good_records += 1;
                verified.bytes += u64::from(entry.length) * UNIT_BYTES;
            }
            // Another record with the same bits of its hash.
            Err(_) if is_live() => {}
            // It may have been evicted or erased while we looked; then its bytes are right.
            Err(_) => {
                let offset = u64::from(entry.offset) * UNIT_BYTES;
                let is_bad = read_record_at(segment, offset).is_err();
                verified.bad_records += u64::from(is_bad);
            }
        }
    }
}
