use super::*;

const SEGMENT: u64 = 1_000_000;
const DISK: u64 = 64 * SEGMENT;

fn policy() -> Policy {
    let policy = Policy::new(DISK, SEGMENT);
    policy.fit(10_000);
    policy
}

fn sightings_needed(policy: &Policy) -> u64 {
    policy.affordable_sightings() + policy.lost_sightings()
}

/// A hash whose bits are well spread, as those of the keyed hash are.
fn hash(number: u64) -> u64 {
    let bits = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (bits ^ bits >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn candidates(kinds: &[(u32, u8)]) -> Vec<Candidate> {
    let candidate = |(number, (bytes, hits)): (usize, &(u32, u8))| Candidate {
        hash: hash(number as u64),
        bytes: *bytes,
        hits: *hits,
    };
    kinds.iter().enumerate().map(candidate).collect()
}

/// Fills that nobody asks for again: they add to the ration and take nothing.
fn earn(policy: &Policy, fills: u64) {
    for number in 0..fills {
        policy.filled(hash(1 << 40 | number), 10_000, Room::Full);
    }
}

#[test]
fn while_there_is_room_everything_is_written_and_the_ration_is_left_alone() {
    let policy = policy();
    for number in 0..1_000 {
        let admission = policy.filled(hash(number), 100_000, Room::Free);
        assert_eq!(admission, Admission::RoomIsFree);
    }
    assert_eq!(policy.balance_bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn a_full_disk_wants_a_second_sighting_wherever_the_first_was() {
    type Asked = fn(&Policy, u64, u32, Room) -> Admission;
    let ways: [[Asked; 2]; 3] = [
        [Policy::filled, Policy::filled],
        [Policy::filled, Policy::asked_again],
        [Policy::asked_again, Policy::filled],
    ];
    for [first, second] in ways {
        let policy = policy();
        earn(&policy, 100);
        let first = first(&policy, hash(1), 1_000, Room::Full);
        assert_eq!(first, Admission::TooRare { seen: 1 });
        assert!(!first.writes());
        let second = second(&policy, hash(1), 1_000, Room::Full);
        assert_eq!(second, Admission::SeenBefore);
        assert!(second.writes());
    }
}

#[test]
fn the_ration_is_charged_for_what_is_admitted_and_only_for_that() {
    let policy = policy();
    let balance = || policy.balance_bytes.load(Ordering::Relaxed);
    policy.filled(hash(1), 1_000, Room::Full);
    assert_eq!(balance(), 450);
    policy.asked_again(hash(1), 1_000, Room::Full);
    assert_eq!(balance(), -550);
    policy.not_written(1_000, Room::Full);
    assert_eq!(balance(), 450);
    policy.not_written(1_000, Room::Free);
    assert_eq!(balance(), 450);
}

#[test]
fn what_is_saved_of_the_ration_is_bounded() {
    let policy = policy();
    earn(&policy, 10_000);
    let balance = policy.balance_bytes.load(Ordering::Relaxed);
    assert_eq!(balance, i64::try_from(DISK / SAVED_SHARE).unwrap());
}

#[test]
fn an_overdrawn_ration_asks_newcomers_for_more_sightings() {
    let step = i64::try_from(DISK / OVERDRAFT_STEP_SHARE).unwrap();
    for (balance, needed) in [
        (1, 2),
        (0, 2),
        (-1, 3),
        (-step, 3),
        (-step - 1, 4),
        (-5 * step, 7),
        (-5 * step - 1, 8),
        (
            i64::MIN,
            2 + i64::MIN.unsigned_abs().div_ceil(step.unsigned_abs()),
        ),
    ] {
        let policy = policy();
        policy.balance_bytes.store(balance, Ordering::Relaxed);
        assert_eq!(sightings_needed(&policy), needed, "{balance}");
    }
}

#[test]
fn writes_are_rationed_however_popular_the_newcomers_are() {
    let policy = policy();
    let (mut fetched, mut written) = (0u64, 0u64);
    for _ in 0..20 {
        for number in 0..2_000 {
            fetched += 100_000;
            let admission = policy.filled(hash(number), 100_000, Room::Full);
            written += if admission.writes() { 100_000 } else { 0 };
        }
    }
    let most = fetched * u64::from(WRITTEN_PERCENT) / 100 + 6 * DISK / OVERDRAFT_STEP_SHARE;
    assert!(written <= most, "{written} of {fetched}");
    assert!(written > most / 2, "{written} of {fetched}");
}

#[test]
fn survivors_were_hit_and_the_most_hits_for_the_bytes_go_first() {
    for (kinds, expected) in [
        (&[][..], &[][..]),
        (&[(1_000, 0), (1_000, 1), (1_000, 3)], &[1, 2]),
        // Three quarters of a segment, and not a byte more.
        (&[(750_000, 3)], &[0]),
        (&[(750_001, 3)], &[]),
        (&[(400_000, 1), (400_000, 2)], &[1]),
        (&[(400_000, 2), (1_000, 1), (350_000, 2)], &[1, 2]),
        // A large record that does not fit leaves room to smaller ones.
        (&[(749_000, 3), (500_000, 2), (1_000, 1)], &[0, 2]),
        (&[(0, 1)], &[0]),
    ] {
        let policy = policy();
        earn(&policy, 2_000);
        assert_eq!(policy.survivors(&candidates(kinds)), expected, "{kinds:?}");
    }
}

#[test]
fn an_overdrawn_ration_keeps_only_what_was_hit_most() {
    let policy = policy();
    policy.balance_bytes.store(-1, Ordering::Relaxed);
    let records = candidates(&[(1_000, 1), (1_000, 2), (1_000, MOST_HITS), (1_000, 0)]);
    assert_eq!(policy.survivors(&records), [2]);
    assert_eq!(policy.balance_bytes.load(Ordering::Relaxed), -1_001);
}

#[test]
fn what_was_dropped_is_written_at_its_next_fill() {
    let policy = policy();
    earn(&policy, 2_000);
    let records = candidates(&[(1_000, 0), (1_000, 1)]);
    assert_eq!(policy.survivors(&records), [1]);
    let admission = policy.filled(records[0].hash, 1_000, Room::Full);
    assert_eq!(admission, Admission::SeenBefore);
}

#[test]
fn newcomers_need_more_sightings_while_reclaiming_loses_hits() {
    let policy = policy();
    earn(&policy, 2_000);
    let crowded = candidates(&[(300_000, 3); 4]);
    for _ in 0..20 {
        assert_eq!(policy.survivors(&crowded).len(), 2);
        policy.balance_bytes.store(1, Ordering::Relaxed);
    }
    // Six tenths of the segment with three hits each: 1.8 hits a byte.
    assert_eq!(sightings_needed(&policy), 3);
    let quiet = candidates(&[(300_000, 0); 4]);
    for _ in 0..20 {
        assert!(policy.survivors(&quiet).is_empty());
    }
    assert_eq!(sightings_needed(&policy), 2);
}

#[test]
fn newcomers_get_in_again_when_all_that_was_lost_is_long_ago() {
    for lost_hits in [1, 2, MOST_HITS] {
        let policy = policy();
        earn(&policy, 2_000);
        for _ in 0..100 {
            policy.survivors(&candidates(&[(1_000_000, lost_hits)]));
        }
        // Nothing is admitted, so nothing is reclaimed, which alone would tell that times have
        // changed.
        let admitted_of = |pairs: std::ops::Range<u64>| {
            let is_admitted = |number: &u64| {
                let first = policy.filled(hash(*number), 10_000, Room::Full);
                let second = policy.asked_again(hash(*number), 10_000, Room::Full);
                first.writes() || second.writes()
            };
            pairs.filter(is_admitted).count()
        };
        // Some strangers look known.
        let at_first = admitted_of(1_000_000..1_000_100);
        assert!(at_first < 5, "{lost_hits}: {at_first} of 100");
        let later = admitted_of(2_000_000..2_002_000);
        assert!(later > 500, "{lost_hits}: {later} of 2,000");
    }
}

#[test]
fn hits_are_forgotten_one_at_a_time() {
    for (hits, after) in [(0, 0), (1, 0), (2, 1), (3, 2)] {
        assert_eq!(Policy::hits_after_surviving(hits), after);
    }
}

#[test]
fn memory_of_sightings_grows_with_the_records_and_is_bounded_by_them() {
    let policy = Policy::new(DISK, SEGMENT);
    let empty = policy.memory_bytes();
    assert!(empty < 1_024, "{empty}");
    policy.filled(hash(1), 1_000, Room::Full);
    policy.fit(1_000_000);
    assert!(policy.memory_bytes() < 7_000_000);
    assert!(policy.filled(hash(1), 1_000, Room::Full).writes());
    policy.fit(10);
    assert!(policy.memory_bytes() < 7_000_000);
}
