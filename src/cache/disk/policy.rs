//! What is worth a place on disk: which records are written, and which survive when a segment is
//! reclaimed. Pure: no disk, no clock, nothing that waits.
//!
//! More than half of a CDN's objects are asked for once, so a cache that writes whatever it fetched
//! spends its disk and the disk's life on bytes that nobody wants again. While there is room
//! everything is written. Once the disk is full a record must have been seen before: memory is where
//! it waits for its second request, and [`Sightings`] remembers it when it had left memory by then.
//! Segments are reclaimed in the order they were written, and what was hit meanwhile is written
//! again. Together this is S3-FIFO (Yang et al., SOSP 2023) with memory as its small queue and the
//! log as its main one.
//!
//! Invariants:
//! - `writes-are-rationed`: of each byte fetched while the disk is full, [`WRITTEN_PERCENT`] may be
//!   written, survivors included. A balance is kept; the further it is overdrawn, the more sightings
//!   a newcomer needs, and a survivor needs every hit that can be counted.
//! - `newcomers-beat-victims`: while reclaiming drops records that were hit, for want of room,
//!   newcomers need more sightings.
//! - `no-bar-for-ever`: what a newcomer needs falls with what is turned away, as a tier that admits
//!   nothing reclaims nothing and would never learn that its victims are not wanted any more.
//! - `reclaiming-makes-room`: survivors take at most [`SURVIVORS_PERCENT`] of a segment.
//!
//! Hashes must be those of a record's place in the cache (cache key and block number), not of one
//! stored version: what is asked for again after its eviction is fetched as a new generation.
//!
//! The numbers were chosen by simulation: `benches/README.md` has the tables, and what failed.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::cache::sightings::Sightings;

/// Of the bytes fetched while the disk is full, the share that may be written, in percent.
pub const WRITTEN_PERCENT: u32 = 45;

/// The part of a segment that survivors of a reclaimed one may fill, in percent.
pub const SURVIVORS_PERCENT: u32 = 75;

/// The most hits that a record's counter in the index tells apart (two bits).
pub const MOST_HITS: u8 = 3;

/// Sightings that a record needs once the disk is full, when nothing asks for more.
const SIGHTINGS_NEEDED: u64 = 2;

/// What is saved of the ration is worth at most this part of the disk, as a divisor: enough for a
/// burst, not for days of it.
const SAVED_SHARE: u64 = 8;

/// One more sighting is needed for each overdraft of this part of the disk, as a divisor.
const OVERDRAFT_STEP_SHARE: u64 = 32;

/// Hits lost at one reclaiming are kept in thousandths of a hit for each byte of a segment.
const LOST_UNIT: u64 = 1000;

/// One more sighting is needed for each one and a half hits lost a byte.
const LOST_STEP: u64 = LOST_UNIT * 3 / 2;

/// The newest reclaiming weighs this part of the average, as a divisor.
const LOST_AVERAGE: u64 = 5;

/// Whether a record can be written without evicting another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// No segment has been reclaimed yet, nor must be.
    Free,
    /// Each segment written costs another.
    Full,
}

/// Whether a record is written to disk now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Yes: there is room.
    RoomIsFree,
    /// Yes: it was asked for often enough.
    SeenBefore,
    /// No: it was asked for this often, which is fewer than needed.
    TooRare {
        /// Sightings, this one included.
        seen: u8,
    },
}

/// A live record of a segment that is being reclaimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Hash of its cache key and block number.
    pub hash: u64,
    /// Its length on disk in bytes.
    pub bytes: u32,
    /// Disk hits since it was written, up to [`MOST_HITS`].
    pub hits: u8,
}

/// The policy's memory. Any number of threads may ask it at once.
pub struct Policy {
    segment_bytes: u64,
    /// What may be saved of the ration, in bytes.
    saved_bytes: i64,
    overdraft_step_bytes: i64,
    sightings: ArcSwap<Sightings>,
    /// What is left of the ration in bytes; less than zero is overdrawn.
    balance_bytes: AtomicI64,
    /// Hits that reclaiming dropped for want of room, on average, by [`LOST_UNIT`].
    lost: AtomicU64,
    /// Bytes of newcomers that nothing but `lost` has turned away.
    turned_away_bytes: AtomicU64,
}

impl Admission {
    /// Whether the record is to be written.
    pub fn writes(self) -> bool {
        match self {
            Admission::RoomIsFree | Admission::SeenBefore => true,
            Admission::TooRare { .. } => false,
        }
    }
}

impl Policy {
    /// A policy for a disk tier of `disk_bytes` in segments of `segment_bytes`.
    pub fn new(disk_bytes: u64, segment_bytes: u64) -> Self {
        let part = |share| i64::try_from(disk_bytes / share).unwrap_or(i64::MAX);
        Policy {
            segment_bytes,
            saved_bytes: part(SAVED_SHARE),
            overdraft_step_bytes: part(OVERDRAFT_STEP_SHARE).max(1),
            sightings: ArcSwap::from_pointee(Sightings::for_records(0)),
            balance_bytes: AtomicI64::new(0),
            lost: AtomicU64::new(0),
            turned_away_bytes: AtomicU64::new(0),
        }
    }

    /// A fill has brought a record that was neither in memory nor on disk: write it now? The answer
    /// charges the ration for what it admits.
    pub fn filled(&self, hash: u64, bytes: u32, room: Room) -> Admission {
        if room == Room::Full {
            self.credit(i64::from(bytes) * i64::from(WRITTEN_PERCENT) / 100);
        }
        self.seen(hash, bytes, room)
    }

    /// A record that is in memory and not on disk was asked for: write it now? Not to be called
    /// once it has been written.
    pub fn asked_again(&self, hash: u64, bytes: u32, room: Room) -> Admission {
        self.seen(hash, bytes, room)
    }

    /// A record was admitted and could not be written after all: the ration gets its bytes back.
    pub fn not_written(&self, bytes: u32, room: Room) {
        if room == Room::Full {
            self.credit(i64::from(bytes));
        }
    }

    /// Which records of a reclaimed segment are written again, as ascending positions in `records`,
    /// the live records of that segment. Charges the ration; what is dropped will be written at the
    /// next fill, unless by then more is asked of newcomers.
    pub fn survivors(&self, records: &[Candidate]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..records.len())
            .filter(|at| records[*at].hits > 0)
            .collect();
        order.sort_by(|a, b| worth(&records[*b]).total_cmp(&worth(&records[*a])));
        let limit_bytes = self.segment_bytes * u64::from(SURVIVORS_PERCENT) / 100;
        let balance_bytes = self.balance_bytes.load(Ordering::Relaxed);
        let (mut kept_bytes, mut lost) = (0u64, 0u64);
        let mut survives = vec![false; records.len()];
        for at in order {
            let Candidate { bytes, hits, .. } = records[at];
            let bytes = u64::from(bytes);
            let fits = kept_bytes + bytes <= limit_bytes;
            let is_rationed = hits < MOST_HITS
                && i64::try_from(kept_bytes).is_ok_and(|kept| kept > balance_bytes);
            if fits && !is_rationed {
                kept_bytes += bytes;
                survives[at] = true;
            } else {
                lost += bytes * u64::from(hits);
            }
        }
        self.note_lost(lost);
        self.credit(-i64::try_from(kept_bytes).unwrap_or(i64::MAX));
        let sightings = self.sightings.load();
        for (record, survives) in records.iter().zip(&survives) {
            if !survives {
                sightings.keep(record.hash);
            }
        }
        (0..records.len()).filter(|at| survives[*at]).collect()
    }

    /// The hits that a record starts with when it is written again: popularity is forgotten one
    /// pass at a time, not at once.
    pub fn hits_after_surviving(hits: u8) -> u8 {
        hits.saturating_sub(1)
    }

    /// Fits the memory of sightings to `records`, the number of records on disk. For one thread, at
    /// each new segment.
    pub fn fit(&self, records: u64) {
        if let Some(larger) = self.sightings.load().fitted(records) {
            self.sightings.store(larger.into());
        }
    }

    /// Bytes of memory that the policy takes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.sightings.load().memory_bytes()
    }

    fn seen(&self, hash: u64, bytes: u32, room: Room) -> Admission {
        let seen = self.sightings.load().raise(hash);
        if room == Room::Free {
            return Admission::RoomIsFree;
        }
        let affordable = self.affordable_sightings();
        if u64::from(seen) >= affordable + self.lost_sightings() {
            self.credit(-i64::from(bytes));
            return Admission::SeenBefore;
        }
        if u64::from(seen) >= affordable {
            self.note_turned_away(bytes);
        }
        Admission::TooRare { seen }
    }

    /// Sightings that a newcomer needs for what the ration allows.
    fn affordable_sightings(&self) -> u64 {
        let overdraft_bytes = self.balance_bytes.load(Ordering::Relaxed).min(0);
        SIGHTINGS_NEEDED
            + overdraft_bytes
                .unsigned_abs()
                .div_ceil(self.overdraft_step_bytes.unsigned_abs())
    }

    /// Sightings that it needs on top of them to be worth more than what it drives out.
    fn lost_sightings(&self) -> u64 {
        (self.lost.load(Ordering::Relaxed) + LOST_STEP / 2) / LOST_STEP
    }

    /// Only what is written brings a reclaiming about, and only a reclaiming tells what is lost now.
    /// So a segment of newcomers turned away counts as one reclaimed without a loss.
    fn note_turned_away(&self, bytes: u32) {
        let before_bytes = self
            .turned_away_bytes
            .fetch_add(u64::from(bytes), Ordering::Relaxed);
        let segments = |bytes: u64| bytes / self.segment_bytes.max(1);
        if segments(before_bytes + u64::from(bytes)) > segments(before_bytes) {
            self.note_lost(0);
        }
    }

    fn credit(&self, bytes: i64) {
        let add = |balance: i64| Some(balance.saturating_add(bytes).min(self.saved_bytes));
        // The closure always gives a value, so there is no failure to look at.
        let _ = self
            .balance_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn note_lost(&self, lost: u64) {
        let now = lost * LOST_UNIT / self.segment_bytes.max(1);
        let average = |before: u64| Some((before * (LOST_AVERAGE - 1) + now) / LOST_AVERAGE);
        // The closure always gives a value, so there is no failure to look at.
        let _ = self
            .lost
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, average);
    }
}

/// What keeping a record is worth: hits for its bytes. Large records are not punished in full, as
/// the byte hit ratio counts too.
fn worth(record: &Candidate) -> f64 {
    f64::from(record.hits) / f64::from(record.bytes.max(1)).sqrt()
}

#[cfg(test)]
mod tests;
