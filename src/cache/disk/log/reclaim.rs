//! Making room: what of the oldest segment is kept, and how a segment goes.

use std::sync::Arc;

use super::recovery::entries_of;
use super::{Log, Open, Record, WriteFault, location};
use crate::cache::disk::format::{FooterEntry, Kind, UNIT_BYTES};
use crate::cache::disk::policy::{Candidate, Policy};
use crate::cache::disk::segments::{Segment, Taken};
use crate::cache::disk::shelf::count;

/// Records that are copied at a time when a segment is reclaimed.
const REINSERTED_BATCH: usize = 64;

/// A file that is to be removed, and the room that it takes until then.
pub(super) struct Condemned {
    pub(super) name: String,
    pub(super) _room: StillTaken,
}

/// Held for what its drop does.
pub(super) enum StillTaken {
    Segment(#[expect(dead_code)] Arc<Segment>),
    Room(#[expect(dead_code)] Taken),
}

impl Log {
    /// Removes the oldest segment; what is worth keeping is written to the open one first, as far as
    /// a record of `bytes_wanted` still finds room there.
    pub(super) fn reclaim(&mut self, bytes_wanted: u64) -> Result<(), WriteFault> {
        let Some(oldest) = self.shelf.segments.oldest() else {
            return Ok(());
        };
        let kept = self.worth_keeping(&oldest);
        for batch in kept.chunks(REINSERTED_BATCH) {
            self.reinsert(&oldest, batch, bytes_wanted)?;
        }
        self.remove(&oldest)
    }

    /// The live records of a segment that are to be kept, with their hits.
    pub(super) fn worth_keeping(&self, segment: &Segment) -> Vec<(FooterEntry, u8)> {
        let mut live = Vec::new();
        let mut candidates = Vec::new();
        let mut updates = Vec::new();
        for entry in entries_of(segment).unwrap_or_default() {
            let hits = self.shelf.index.hits(entry.hash, location(segment, &entry));
            let Some(hits) = hits.filter(|_| entry.kind != Kind::Erasure) else {
                continue;
            };
            if entry.kind == Kind::Update {
                // What it brings up to date may outlive this segment, and must not be without it.
                if self.shelf.index.find(entry.hash).len() > 1 {
                    updates.push((entry, hits));
                }
                continue;
            }
            candidates.push(Candidate {
                hash: match entry.kind {
                    Kind::Block => entry.generation_or_place,
                    _ => entry.hash,
                },
                // At most MAX_RECORD_BYTES.
                bytes: u32::from(entry.length) * UNIT_BYTES as u32,
                hits,
            });
            live.push((entry, hits));
        }
        let survivors = self.policy.survivors(&candidates);
        let survivors = survivors.into_iter().map(|at| live[at]);
        updates.into_iter().chain(survivors).collect()
    }

    pub(super) fn reinsert(
        &mut self,
        from: &Segment,
        entries: &[(FooterEntry, u8)],
        bytes_wanted: u64,
    ) -> Result<(), WriteFault> {
        let mut records = Vec::with_capacity(entries.len());
        let mut sources = Vec::with_capacity(entries.len());
        for (entry, hits) in entries {
            let source = location(from, entry);
            if let Ok(found) = self.shelf.read(entry.hash, source) {
                records.push(Record {
                    kind: found.kind,
                    hash: entry.hash,
                    generation: found.generation,
                    number: found.number,
                    head: found.head,
                    body: found.body,
                    place: found.place,
                });
                sources.push((source, *hits));
            }
        }
        let bytes: u64 = records.iter().map(Record::bytes).sum();
        let has_room = |open: &Open| open.has_room(records.len() + 1, bytes + bytes_wanted);
        if records.is_empty() || !self.open.as_ref().is_some_and(has_room) {
            return Ok(());
        }
        let written = self.write_records(&records.iter().collect::<Vec<_>>())?;
        count(&self.shelf.counters.reinserted_bytes, written);
        let Some(open) = &self.open else {
            return Ok(());
        };
        let targets = &open.entries[open.entries.len() - sources.len()..];
        for ((source, hits), target) in sources.into_iter().zip(targets) {
            let place = location(&open.segment, target);
            self.shelf.index.relocate(target.hash, source, place);
            for _ in 0..Policy::hits_after_surviving(hits) {
                self.shelf.index.note_hit(target.hash, place);
            }
        }
        Ok(())
    }

    /// Removes a segment and all that the index knows of it.
    pub(super) fn remove(&mut self, segment: &Arc<Segment>) -> Result<(), WriteFault> {
        self.unread.retain(|unread| !Arc::ptr_eq(unread, segment));
        match entries_of(segment) {
            Ok(entries) => {
                let live = entries.iter().filter(|entry| {
                    let location = location(segment, entry);
                    entry.kind != Kind::Erasure && self.shelf.index.remove(entry.hash, location)
                });
                count(&self.shelf.counters.evicted_records, live.count() as u64);
            }
            Err(_) => {
                let live = self.shelf.index.remove_segment(segment.slot);
                count(&self.shelf.counters.evicted_records, live as u64);
            }
        }
        self.shelf.segments.remove(segment);
        self.condemned.push(Condemned {
            name: segment.name.clone(),
            _room: StillTaken::Segment(segment.clone()),
        });
        self.remove_condemned()
    }

    /// Removes the files that are to go.
    pub(super) fn remove_condemned(&mut self) -> Result<(), WriteFault> {
        while let Some(condemned) = self.condemned.first() {
            let removed = self.folder.remove_segment(&condemned.name);
            removed.map_err(|error| WriteFault {
                doing: "remove a segment",
                error,
            })?;
            self.condemned.remove(0);
        }
        Ok(())
    }
}
