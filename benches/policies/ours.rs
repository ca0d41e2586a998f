//! Our two tiers: memory over a log of segments whose policy is the real one.
//!
//! Simpler than production in three ways: heads weigh nothing but their bytes, a record may lie
//! across the end of a segment, and nothing is dropped because the disk is slow.

use std::collections::VecDeque;

use tidegate::cache::disk::policy::{Candidate, MOST_HITS, Policy, Room};
use tidegate::cache::memory::queues::NEWCOMERS_BEFORE_DISK;

use super::compare::Cache;
use super::memory::{Memory, Shape};
use super::workload::{Workload, spread};

/// Memory as it is in production.
const SHAPE: Shape = Shape::Queues(NEWCOMERS_BEFORE_DISK);

/// Memory is this part of the disk, as a divisor.
const MEMORY_SHARE: u64 = 16;

/// Segments that the disk is divided into, unless that makes them shorter than four blocks.
const SEGMENTS: u64 = 256;

/// The shortest segment.
const SEGMENT_BYTES: u64 = 1024 * 1024;

/// The disk has at least this many segments.
const LEAST_SEGMENTS: u64 = 8;

struct Segment {
    number: u32,
    units: Vec<u32>,
    bytes: u64,
}

/// The two tiers.
pub struct Tiers<'a> {
    bytes: &'a [u32],
    /// The memory tier.
    pub memory: Box<dyn Memory + 'a>,
    policy: Policy,
    disk_bytes: u64,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    segment_bytes_held: u64,
    next_number: u32,
    room: Room,
    /// The segment that holds a unit's live record; 0 = not on disk.
    place: Vec<u32>,
    hits: Vec<u8>,
    records: u64,
    written: u64,
}

impl<'a> Tiers<'a> {
    /// Memory and disk of `limit` bytes together.
    pub fn new(workload: &'a Workload, limit: u64) -> Self {
        Self::with_memory(workload, limit, SHAPE)
    }

    /// The same with memory of another shape.
    pub fn with_memory(workload: &'a Workload, limit: u64, shape: Shape) -> Self {
        let disk_bytes = limit / (MEMORY_SHARE + 1) * MEMORY_SHARE;
        let segment_bytes = (disk_bytes / SEGMENTS)
            .max(SEGMENT_BYTES)
            .min(disk_bytes / LEAST_SEGMENTS);
        let units = workload.unit_bytes.len();
        Tiers {
            bytes: &workload.unit_bytes,
            memory: shape.memory(workload, limit - disk_bytes),
            policy: Policy::new(disk_bytes, segment_bytes),
            disk_bytes,
            segment_bytes,
            segments: VecDeque::new(),
            segment_bytes_held: 0,
            next_number: 0,
            room: Room::Free,
            place: vec![0; units],
            hits: vec![0; units],
            records: 0,
            written: 0,
        }
    }

    fn candidate(&self, unit: u32) -> Candidate {
        Candidate {
            hash: spread(u64::from(unit) + 1),
            bytes: self.bytes[unit as usize],
            hits: self.hits[unit as usize],
        }
    }

    fn write(&mut self, unit: u32) {
        let bytes = u64::from(self.bytes[unit as usize]);
        let is_full = self
            .segments
            .back()
            .is_none_or(|segment| segment.bytes > 0 && segment.bytes + bytes > self.segment_bytes);
        if is_full {
            self.begin_segment();
        }
        self.hits[unit as usize] = 0;
        self.append(unit);
    }

    fn append(&mut self, unit: u32) {
        let bytes = u64::from(self.bytes[unit as usize]);
        let segment = self
            .segments
            .back_mut()
            .expect("a segment was begun before");
        segment.units.push(unit);
        segment.bytes += bytes;
        self.segment_bytes_held += bytes;
        self.place[unit as usize] = segment.number;
        self.records += 1;
        self.written += bytes;
    }

    fn begin_segment(&mut self) {
        let mut survivors = Vec::new();
        while self.segment_bytes_held + self.segment_bytes > self.disk_bytes {
            let Some(oldest) = self.segments.pop_front() else {
                break;
            };
            self.room = Room::Full;
            self.segment_bytes_held -= oldest.bytes;
            survivors.extend(self.reclaim(oldest));
        }
        self.next_number += 1;
        self.segments.push_back(Segment {
            number: self.next_number,
            units: Vec::new(),
            bytes: 0,
        });
        for unit in survivors {
            self.append(unit);
        }
        self.policy.fit(self.records);
    }

    fn reclaim(&mut self, segment: Segment) -> Vec<u32> {
        let is_live = |unit: &u32| self.place[*unit as usize] == segment.number;
        let live: Vec<u32> = segment.units.into_iter().filter(is_live).collect();
        let candidates: Vec<Candidate> = live.iter().map(|unit| self.candidate(*unit)).collect();
        let survivors = self.policy.survivors(&candidates);
        self.records -= live.len() as u64;
        for unit in &live {
            self.place[*unit as usize] = 0;
        }
        let survivors: Vec<u32> = survivors.into_iter().map(|at| live[at]).collect();
        for unit in &survivors {
            let hits = &mut self.hits[*unit as usize];
            *hits = Policy::hits_after_surviving(*hits);
        }
        survivors
    }
}

impl Cache for Tiers<'_> {
    fn ask(&mut self, unit: u32) -> bool {
        let is_on_disk = self.place[unit as usize] != 0;
        let Candidate { hash, bytes, .. } = self.candidate(unit);
        if self.memory.get(unit) {
            if !is_on_disk && self.policy.asked_again(hash, bytes, self.room).writes() {
                self.write(unit);
            }
            return true;
        }
        if is_on_disk {
            let hits = &mut self.hits[unit as usize];
            *hits = (*hits + 1).min(MOST_HITS);
            if self.memory.wants(unit) {
                self.memory.put(unit);
            }
            return true;
        }
        self.memory.put(unit);
        if self.policy.filled(hash, bytes, self.room).writes() {
            self.write(unit);
        }
        false
    }

    fn written_bytes(&self) -> u64 {
        self.written
    }
}
