//! Several ranges in one request: which parts they come to (RFC 9110 §14.2, §15.3.7.2).
//!
//! Invariants:
//! - `parts-are-disjoint`: no byte is sent twice, so a request cannot make a response longer than
//!   the representation (but for the parts' heads), however its ranges overlap.
//! - `in-the-order-asked`: parts follow the order of the request; merged ranges stand where the
//!   first of them stood.

use std::ops::Range;

use super::{RangeSpec, Unsatisfiable, resolve};

/// A request for more ranges than this gets the whole: no player or reader asks for so many, and
/// each may cost the origin a block.
pub const MOST_RANGES: usize = 64;

/// What a part costs beside its bytes, as RFC 9110 §15.3.7.2 reckons: ranges with a gap of fewer
/// bytes between them are sent as one, gap included.
pub const PART_OVERHEAD_BYTES: u64 = 80;

/// Two to [`MOST_RANGES`] ranges as the client spelled them, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeveralRanges(Box<[RangeSpec]>);

impl SeveralRanges {
    /// Takes ranges that the parser has counted.
    pub(super) fn new(specs: Vec<RangeSpec>) -> Self {
        SeveralRanges(specs.into_boxed_slice())
    }

    /// The ranges.
    pub fn specs(&self) -> &[RangeSpec] {
        &self.0
    }

    /// The range to ask an origin for when the length is not known yet: one that is satisfiable
    /// if any of them is, so that a 416 to it is a 416 to all.
    pub fn probe(&self) -> RangeSpec {
        let from = |spec: &&RangeSpec| match spec {
            RangeSpec::From { first, .. } => Some(*first),
            RangeSpec::Suffix { .. } => None,
        };
        let length = |spec: &&RangeSpec| match spec {
            RangeSpec::Suffix { length } if *length > 0 => Some(*length),
            RangeSpec::Suffix { .. } | RangeSpec::From { .. } => None,
        };
        let earliest = self.0.iter().filter(|spec| from(spec).is_some());
        let earliest = earliest.min_by_key(from);
        let shortest = self.0.iter().filter(|spec| length(spec).is_some());
        let shortest = shortest.min_by_key(length);
        // A suffix lies inside every representation that is not empty; of the others, only one
        // that starts at 0 does for certain.
        let certain = earliest.filter(|spec| from(spec) == Some(0)).or(shortest);
        *certain.or(earliest).unwrap_or(&self.0[0])
    }

    /// The parts to send of a representation of `length` bytes: disjoint, at least one, in the
    /// order of the request. Ranges outside of the representation are left out; those that overlap
    /// or lie closer than [`PART_OVERHEAD_BYTES`] are merged.
    ///
    /// # Errors
    /// [`Unsatisfiable`] when all of them lie outside.
    pub fn parts(&self, length: u64) -> Result<Vec<Range<u64>>, Unsatisfiable> {
        let resolved = self.0.iter().enumerate();
        let mut spans: Vec<(usize, Range<u64>)> = resolved
            .filter_map(|(place, spec)| Some((place, resolve(*spec, length).ok()?)))
            .collect();
        spans.sort_by_key(|(_, span)| span.start);
        let mut parts: Vec<(usize, Range<u64>)> = Vec::with_capacity(spans.len());
        for (place, span) in spans {
            match parts.last_mut() {
                Some((first_place, part))
                    if span.start < part.end.saturating_add(PART_OVERHEAD_BYTES) =>
                {
                    *first_place = place.min(*first_place);
                    part.end = part.end.max(span.end);
                }
                _ => parts.push((place, span)),
            }
        }
        if parts.is_empty() {
            return Err(Unsatisfiable);
        }
        parts.sort_by_key(|(place, _)| *place);
        Ok(parts.into_iter().map(|(_, part)| part).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{RangeRequest, parse};
    use super::*;

    fn several(set: &str) -> SeveralRanges {
        match parse(format!("bytes={set}").as_bytes()) {
            RangeRequest::Several(several) => several,
            other => panic!("{set}: {other:?}"),
        }
    }

    #[test]
    fn ranges_come_to_disjoint_parts_in_the_order_asked() {
        for (set, parts) in [
            ("0-0,-1", "0-0,999-999"),
            ("500-599,0-99", "500-599,0-99"),
            // Overlapping, contained, adjacent, the same.
            ("0-99,50-149,300-309", "0-149,300-309"),
            ("0-99,10-19", "0-99"),
            ("100-199,0-99", "0-199"),
            ("7-7,7-7,7-7", "7-7"),
            ("0-,0-,0-", "0-999"),
            ("-1,-2,-3", "997-999"),
            ("0-,-1000", "0-999"),
            // A gap of 79 bytes is cheaper than a part, one of 80 is not.
            ("0-9,89-99", "0-99"),
            ("0-9,90-99", "0-9,90-99"),
            // What is merged stands where the first of it stood.
            ("900-909,0-9,300-309,910-919", "900-919,0-9,300-309"),
            ("0-9,900-909,20-29", "0-29,900-909"),
            // A range that joins two that were apart.
            ("0-9,200-209,5-205", "0-209"),
            // Those outside are left out.
            ("0-9,1000-,-0", "0-9"),
            ("2000-,500-5000", "500-999"),
        ] {
            let sent = several(set).parts(1000).unwrap();
            let spell = |part: &Range<u64>| format!("{}-{}", part.start, part.end - 1);
            let sent: Vec<_> = sent.iter().map(spell).collect();
            assert_eq!(sent.join(","), parts, "{set}");
        }
    }

    #[test]
    fn several_ranges_are_unsatisfiable_only_when_all_are() {
        for (set, length, satisfiable) in [
            ("1000-,2000-3000", 1000, false),
            ("999-,2000-3000", 1000, true),
            ("1000-,-0", 1000, false),
            ("1000-,-1", 1000, true),
            ("0-,-1", 0, false),
        ] {
            assert_eq!(several(set).parts(length).is_ok(), satisfiable, "{set}");
        }
    }

    #[test]
    fn origin_is_asked_first_for_a_range_that_is_satisfiable_if_any_is() {
        for (set, probe) in [
            ("5-9,0-0", "0-0"),
            ("0-0,-1", "0-0"),
            ("5-9,-7,-3", "-3"),
            ("50-59,10-,20-29", "10-"),
            ("5-9,-0", "5-9"),
            ("-0,-0", "-0"),
        ] {
            let probe = parse(format!("bytes={probe}").as_bytes());
            assert_eq!(RangeRequest::Single(several(set).probe()), probe, "{set}");
        }
    }

    fn any_spec() -> impl Strategy<Value = RangeSpec> {
        let position = || prop_oneof![0..300_u64, 0..3000_u64, Just(u64::MAX)];
        prop_oneof![
            (position(), proptest::option::of(position())).prop_map(|(first, last)| {
                RangeSpec::From {
                    first,
                    last: last.map(|last| last.max(first)),
                }
            }),
            position().prop_map(|length| RangeSpec::Suffix { length }),
        ]
    }

    proptest! {
        #[test]
        fn parts_hold_what_was_asked_and_no_byte_twice(
            specs in proptest::collection::vec(any_spec(), 2..=MOST_RANGES),
            length in prop_oneof![Just(0_u64), Just(1), 0..3000_u64],
        ) {
            let several = SeveralRanges::new(specs.clone());
            let is_asked = |at: u64| {
                let mut asked = specs.iter().filter_map(|spec| resolve(*spec, length).ok());
                asked.any(|span| span.contains(&at))
            };
            let Ok(parts) = several.parts(length) else {
                prop_assert!((0..length).all(|at| !is_asked(at)));
                return Ok(());
            };
            // What answers the probe answers for all of them.
            prop_assert!(resolve(several.probe(), length).is_ok());
            let mut sent = vec![0_u32; length as usize];
            for part in &parts {
                prop_assert!(part.start < part.end && part.end <= length);
                prop_assert!(is_asked(part.start) && is_asked(part.end - 1));
                for at in part.clone() {
                    sent[at as usize] += 1;
                }
            }
            let mut unasked_run = 0;
            for (at, times) in sent.into_iter().enumerate() {
                prop_assert!(times <= 1, "byte {at} is sent {times} times");
                let asked = is_asked(at as u64);
                prop_assert!(times == 1 || !asked, "byte {at} is missing");
                unasked_run = if asked || times == 0 { 0 } else { unasked_run + 1 };
                prop_assert!(unasked_run < PART_OVERHEAD_BYTES, "a gap up to {at}");
            }
        }
    }
}
