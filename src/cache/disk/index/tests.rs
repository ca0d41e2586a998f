//! The index beside a plain multimap, and its limits.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn location(segment: u16, offset: u32, length: u16) -> Location {
    Location {
        segment,
        offset,
        length,
    }
}

/// A hash that is kept as this name.
fn hash_of(shard: u64, tag: u32, rest: u16) -> u64 {
    shard << 54 | u64::from(tag) << 22 | u64::from(rest) << 10
}

/// Numbers that look random, the same in every run.
fn scattered(count: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(|number| {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 31)
    })
}

fn snapshot_of(index: &Index) -> Vec<u8> {
    let mut bytes = Vec::new();
    index.write_to(&mut bytes).unwrap();
    bytes
}

fn check(index: &Index) {
    index.tables().for_each(|table| table.check());
}

#[test]
fn every_number_below_its_limit_comes_back() {
    let index = Index::new();
    let largest = location(SEGMENTS - 1, OFFSET_UNITS - 1, LENGTH_UNITS - 1);
    assert_eq!((SEGMENTS, LENGTH_UNITS), (4_096, 16_384));
    assert_eq!(OFFSET_UNITS, 16_777_216);
    for hash in [0, 1, 0x3ff, 0x400, u64::MAX, u64::MAX << 10, 1 << 54] {
        let index = Index::new();
        for location in [
            location(0, 0, 0),
            location(SEGMENTS - 1, 0, 0),
            location(0, OFFSET_UNITS - 1, 0),
            location(0, 0, LENGTH_UNITS - 1),
            largest,
        ] {
            index.insert(hash, location);
            index.note_hit(hash, location);
            assert_eq!(index.find(hash).first(), Some(&location), "{hash:x}");
            assert_eq!(index.hits(hash, location), Some(1));
        }
        assert_eq!(index.find(hash).len(), 5);
        assert_eq!(index.find(hash).into_iter().count(), 5);
        assert_eq!(index.remove_all(hash), 5);
        assert!(!index.contains(hash) && index.is_empty());
    }
    for beyond in [
        location(SEGMENTS, 0, 1),
        location(0, OFFSET_UNITS, 1),
        location(0, 0, LENGTH_UNITS),
    ] {
        // Packed without a look, it would be taken for a neighbour.
        index.insert(7, location(1, 0, 1));
        index.insert(7, location(0, 1, 1));
        index.insert(7, location(0, 1, 0));
        assert!(!beyond.is_addressable());
        assert!(!index.remove(7, beyond) && index.hits(7, beyond).is_none());
        assert!(!index.relocate(7, beyond, largest));
        let inserting = std::panic::AssertUnwindSafe(|| index.insert(7, beyond));
        assert!(std::panic::catch_unwind(inserting).is_err());
    }
}

#[test]
fn hashes_are_told_apart_by_each_of_their_first_54_bits() {
    let (hash, place) = (0x0123_4567_89ab_cdef, location(1, 2, 3));
    let index = Index::new();
    index.insert(hash, place);
    for bit in 0..64 {
        let is_kept = bit >= 10;
        assert_eq!(index.contains(hash ^ 1 << bit), !is_kept, "bit {bit}");
        assert_eq!(index.hits(hash ^ 1 << bit, place).is_none(), is_kept);
    }
}

#[test]
fn the_oldest_of_too_many_under_one_hash_gives_way() {
    // The last one: the run reaches over the end of the arrays.
    for hash in [0, hash_of(3, 1 << 31, 7), u64::MAX] {
        let index = Index::new();
        for number in 0..200 {
            index.insert(hash, location(1, number, 1));
            let found = index.find(hash);
            let expected = (0..=number).rev().take(MAX_CANDIDATES);
            assert!(found.iter().map(|found| found.offset).eq(expected));
            check(&index);
        }
        assert_eq!(index.len(), MAX_CANDIDATES);
    }
}

#[test]
fn a_hit_counter_stops_at_its_limit_and_a_relocated_record_begins_anew() {
    let index = Index::new();
    let (from, to) = (location(1, 1, 1), location(2, 2, 1));
    index.insert(5, from);
    for hits in 0..6 {
        assert_eq!(index.hits(5, from), Some(hits.min(HITS_LIMIT)));
        index.note_hit(5, from);
    }
    index.insert(5, from);
    assert_eq!(index.hits(5, from), Some(HITS_LIMIT), "it was there");
    assert!(index.relocate(5, from, to));
    assert_eq!((index.hits(5, from), index.hits(5, to)), (None, Some(0)));
    assert!(!index.relocate(5, from, to));
    index.note_hit(5, from);
    assert_eq!(&*index.find(5), [to]);
    index.insert(5, from);
    assert!(index.relocate(5, from, to));
    assert_eq!(&*index.find(5), [to], "once under its hash");
    assert!(index.relocate(5, to, to));
    assert_eq!(&*index.find(5), [to]);
}

#[test]
fn no_entry_costs_more_than_seventeen_bytes_and_a_half_whatever_comes_and_goes() {
    let index = Index::new();
    let costs = |index: &Index| index.memory_bytes() as f64 / index.len() as f64;
    let place = location(9, 9, 9);
    let (mut lowest, mut highest) = (f64::MAX, 0.0_f64);
    let mut note = |number: usize| {
        if number >= 150_000 && number.is_multiple_of(1_000) {
            lowest = lowest.min(costs(&index));
            highest = highest.max(costs(&index));
        }
    };
    for (number, hash) in scattered(400_000).enumerate() {
        index.insert(hash, place);
        note(number);
    }
    let full = index.memory_bytes();
    for (number, hash) in scattered(400_000).enumerate() {
        assert!(index.remove(hash, place));
        note(400_000 - number);
    }
    assert!(highest < 17.5 && lowest > 13.0, "{lowest} to {highest}");
    assert!(index.memory_bytes() * 30 < full, "the memory is given back");
}

#[test]
fn the_shards_grow_at_different_times() {
    let sizes = (0..SHARDS as u64).step_by(8).map(|phase| {
        let mut table = Table::new(phase);
        for tag in 1..=5_000 {
            table.insert(tag * 800_000, 0, location(0, 0, 0));
        }
        table.memory_bytes()
    });
    let sizes: std::collections::BTreeSet<usize> = sizes.collect();
    // Between the largest and the smallest lies one step, and they fill it.
    let (smallest, largest) = (sizes.first().unwrap(), sizes.last().unwrap());
    assert!(largest * 100 <= smallest * 116, "{smallest} to {largest}");
    assert!(sizes.len() > 100, "{}", sizes.len());
}

#[test]
fn a_segment_goes_with_all_of_its_records_and_no_others() {
    let index = Index::new();
    for (number, hash) in (0..).zip(scattered(30_000)) {
        index.insert(hash, location(number % 3, u32::from(number), 1));
    }
    let before = index.memory_bytes();
    assert_eq!(index.remove_segment(1), 10_000);
    assert_eq!(index.remove_segment(1), 0);
    assert_eq!(index.remove_segment(SEGMENTS), 0);
    check(&index);
    assert!(index.memory_bytes() < before);
    for (number, hash) in (0..).zip(scattered(30_000)) {
        assert_eq!(index.contains(hash), number % 3 != 1);
    }
    index.clear();
    assert!(index.is_empty() && !index.contains(scattered(1).next().unwrap()));
    assert_eq!(index.memory_bytes(), Index::new().memory_bytes());
}

#[test]
fn a_snapshot_with_a_bit_turned_or_its_end_missing_is_refused() {
    let index = Index::new();
    for (number, hash) in (0..).zip(scattered(40)) {
        index.insert(hash, location(number, 1, 1));
    }
    let whole = snapshot_of(&index);
    assert_eq!(Index::read_from(&whole[..]).unwrap().len(), 40);
    for length in (0..whole.len()).step_by(5).chain([whole.len() - 1]) {
        let error = Index::read_from(&whole[..length]).unwrap_err();
        assert!(
            matches!(error, SnapshotError::Truncated { .. }),
            "{length}: {error}"
        );
    }
    let mut turned = whole.clone();
    // 7 and 8 have no common factor: each byte is met, and each bit of a byte somewhere.
    for bit in (0..whole.len() * 8).step_by(7) {
        turned[bit / 8] ^= 1 << (bit % 8);
        assert!(Index::read_from(&turned[..]).is_err(), "bit {bit}");
        turned[bit / 8] ^= 1 << (bit % 8);
    }
    // What follows belongs to somebody else.
    let mut followed = &[&whole[..], b"more"].concat()[..];
    assert!(Index::read_from(&mut followed).is_ok());
    assert_eq!(followed, b"more");
}

#[test]
fn a_snapshot_says_what_is_wrong_with_it() {
    let entries = |shards: &[(usize, &[(u32, u64)])], announced: u64| {
        let mut bytes = snapshot_of(&Index::new());
        bytes.truncate(16);
        for shard in 0..SHARDS {
            let listed = shards.iter().find(|(number, _)| *number == shard);
            let listed = listed.map_or(&[][..], |(_, entries)| entries);
            bytes.extend_from_slice(&(listed.len() as u64).to_le_bytes());
            for (tag, place) in listed {
                bytes.extend_from_slice(&tag.to_le_bytes());
                bytes.extend_from_slice(&place.to_le_bytes());
            }
        }
        bytes.extend_from_slice(&announced.to_le_bytes());
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes) as u32;
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    };
    let index = Index::read_from(&entries(&[(3, &[(5, 6)])], 1)[..]).unwrap();
    assert!(index.contains(hash_of(3, 5, 6)));
    let many: Vec<(u32, u64)> = (0..65).map(|number| (9, number << 28)).collect();
    for (bytes, expected) in [
        (
            entries(&[(3, &[(0, 6)])], 1),
            "tag 0 stands after tag 0 in shard 3",
        ),
        (
            entries(&[(3, &[(5, 6), (4, 6)])], 2),
            "tag 4 stands after tag 5 in shard 3",
        ),
        (
            entries(&[(3, &[(5, 6), (5, 7), (5, 6)])], 3),
            "an entry of tag 5 in shard 3 is repeated",
        ),
        (
            entries(&[(1023, &many)], 65),
            "tag 9 in shard 1023 has more than 64 entries",
        ),
        (
            entries(&[(0, &[(5, 6)])], 2),
            "1 entries were read and 2 are announced",
        ),
        (
            b"PK\x03\x04, something else".to_vec(),
            "it begins with [50, 4b, 03, 04, 2c, 20, 73, 6f], which is not how an index begins",
        ),
        (
            b"TGINDEX\n\x02\0\0\0\0\x04\0\0".to_vec(),
            "it has version 2; this program reads version 1",
        ),
        (
            b"TGINDEX\n\x01\0\0\0\x01\0\0\0".to_vec(),
            "it has 1 shards instead of 1024",
        ),
        (
            b"TGINDEX\n\x01\0\0\0\0\x04\0\0\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
            "it ends within the 196608 bytes from byte 24 on",
        ),
    ] {
        let error = Index::read_from(&bytes[..]).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn the_bytes_of_a_snapshot_are_those_of_the_documented_format() {
    let index = Index::new();
    index.insert(
        hash_of(1, 0xa1b2_c3d4, 0x123),
        location(0xabc, 0x56_789a, 0x1234),
    );
    index.note_hit(
        hash_of(1, 0xa1b2_c3d4, 0x123),
        location(0xabc, 0x56_789a, 0x1234),
    );
    let bytes = snapshot_of(&index);
    assert_eq!(bytes.len(), 16 + SHARDS * 8 + 12 + 12);
    assert_eq!(&bytes[..16], b"TGINDEX\n\x01\0\0\0\0\x04\0\0");
    assert_eq!(&bytes[24..32], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&bytes[32..36], [0xd4, 0xc3, 0xb2, 0xa1]);
    let place = 0xabc_u64 << 52 | 0x56_789a << 28 | 0x1234 << 14 | 1 << 12 | 0x123;
    assert_eq!(&bytes[36..44], place.to_le_bytes());
    assert_eq!(&bytes[bytes.len() - 12..][..8], [1, 0, 0, 0, 0, 0, 0, 0]);
}

/// Rests, locations and hits in the order in which they came.
type Run = Vec<(u16, Location, u8)>;

/// What the index is compared with: for each shard and tag what was stored.
#[derive(Debug, Default)]
struct Model(HashMap<(usize, u32), Run>);

impl Model {
    fn run(&mut self, hash: u64) -> (u16, &mut Run) {
        let name = Name::of(hash);
        (name.rest, self.0.entry((name.shard, name.tag)).or_default())
    }

    fn insert(&mut self, hash: u64, location: Location) {
        let (rest, run) = self.run(hash);
        if run.iter().any(|(r, l, _)| (*r, *l) == (rest, location)) {
            return;
        }
        if run.len() == MAX_CANDIDATES {
            run.remove(0);
        }
        run.push((rest, location, 0));
    }

    fn remove_if(&mut self, hash: u64, is_wanted: impl Fn(Location) -> bool) -> usize {
        let (rest, run) = self.run(hash);
        let before = run.len();
        run.retain(|(r, l, _)| *r != rest || !is_wanted(*l));
        before - run.len()
    }

    fn entry(&mut self, hash: u64, location: Location) -> Option<&mut (u16, Location, u8)> {
        let (rest, run) = self.run(hash);
        run.iter_mut()
            .find(|(r, l, _)| (*r, *l) == (rest, location))
    }

    fn relocate(&mut self, hash: u64, from: Location, to: Location) -> bool {
        if self.entry(hash, from).is_none() {
            return false;
        }
        if from != to && self.entry(hash, to).is_some() {
            self.remove_if(hash, |location| location == from);
        } else {
            let entry = self.entry(hash, from).unwrap();
            (entry.1, entry.2) = (to, 0);
        }
        true
    }

    fn remove_segment(&mut self, segment: u16) -> usize {
        let before = self.len();
        for run in self.0.values_mut() {
            run.retain(|(_, location, _)| location.segment != segment);
        }
        before - self.len()
    }

    fn find(&mut self, hash: u64) -> Vec<Location> {
        let (rest, run) = self.run(hash);
        let named = run.iter().rev().filter(|(r, ..)| *r == rest);
        named.map(|(_, location, _)| *location).collect()
    }

    fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u64, Location),
    Remove(u64, Location),
    RemoveAll(u64),
    Relocate(u64, Location, Location),
    Hit(u64, Location),
    RemoveSegment(u16),
    Snapshot,
    Clear,
}

/// Few shards, and tags that stand close together, at both ends above all.
fn any_hash() -> impl Strategy<Value = u64> {
    let tag = prop_oneof![0..6_u32, (u32::MAX - 6)..=u32::MAX, any::<u32>()];
    let named = (0..2_u64, tag, 0..3_u16, 0..1024_u64);
    prop_oneof![
        9 => named.prop_map(|(shard, tag, rest, low)| hash_of(shard, tag, rest) | low),
        1 => any::<u64>(),
    ]
}

fn any_location() -> impl Strategy<Value = Location> {
    let segment = prop_oneof![9 => 0..4_u16, 1 => Just(SEGMENTS - 1)];
    let offset = prop_oneof![9 => 0..6_u32, 1 => 0..OFFSET_UNITS];
    let length = prop_oneof![9 => 1..3_u16, 1 => 0..LENGTH_UNITS];
    (segment, offset, length).prop_map(|(s, o, l)| location(s, o, l))
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        600 => (any_hash(), any_location()).prop_map(|(h, l)| Step::Insert(h, l)),
        150 => (any_hash(), any_location()).prop_map(|(h, l)| Step::Remove(h, l)),
        30 => any_hash().prop_map(Step::RemoveAll),
        100 => (any_hash(), any_location(), any_location())
            .prop_map(|(h, from, to)| Step::Relocate(h, from, to)),
        100 => (any_hash(), any_location()).prop_map(|(h, l)| Step::Hit(h, l)),
        8 => (0..5_u16).prop_map(Step::RemoveSegment),
        4 => Just(Step::Snapshot),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_index_is_a_multimap(steps in proptest::collection::vec(any_step(), 1..1_500)) {
        let mut index = Index::new();
        let mut model = Model::default();
        for (number, step) in steps.into_iter().enumerate() {
            let touched = match step {
                Step::Insert(hash, location) => {
                    index.insert(hash, location);
                    model.insert(hash, location);
                    Some(hash)
                }
                Step::Remove(hash, location) => {
                    let removed = model.remove_if(hash, |stored| stored == location);
                    prop_assert_eq!(index.remove(hash, location), removed > 0);
                    Some(hash)
                }
                Step::RemoveAll(hash) => {
                    prop_assert_eq!(index.remove_all(hash), model.remove_if(hash, |_| true));
                    Some(hash)
                }
                Step::Relocate(hash, from, to) => {
                    let is_there = model.relocate(hash, from, to);
                    prop_assert_eq!(index.relocate(hash, from, to), is_there);
                    Some(hash)
                }
                Step::Hit(hash, location) => {
                    index.note_hit(hash, location);
                    if let Some((.., hits)) = model.entry(hash, location) {
                        *hits = (*hits + 1).min(HITS_LIMIT);
                    }
                    Some(hash)
                }
                Step::RemoveSegment(segment) => {
                    prop_assert_eq!(index.remove_segment(segment), model.remove_segment(segment));
                    None
                }
                Step::Snapshot => {
                    index = Index::read_from(&snapshot_of(&index)[..]).unwrap();
                    None
                }
                Step::Clear => {
                    index.clear();
                    model.0.clear();
                    None
                }
            };
            if let Some(hash) = touched {
                let found = model.find(hash);
                prop_assert_eq!(index.contains(hash), !found.is_empty());
                prop_assert_eq!(index.find(hash).into_iter().collect::<Vec<_>>(), found);
            }
            if number % 32 == 0 {
                check(&index);
            }
        }
        check(&index);
        prop_assert_eq!(index.len(), model.len());
        for ((shard, tag), run) in &model.0 {
            for (rest, location, hits) in run {
                let hash = hash_of(*shard as u64, *tag, *rest);
                prop_assert_eq!(index.hits(hash, *location), Some(*hits));
            }
        }
    }
}
