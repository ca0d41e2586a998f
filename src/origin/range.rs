//! Which bytes of an object a `Range` field asks for (RFC 9110 §14).

use std::ops::Range;

/// What to do about a `Range` field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeDecision {
    /// No range that we serve: the whole object, 200. RFC 9110 §14.2 lets a server ignore a field that is
    /// malformed, of another unit, or names several ranges, and S3 ignores all three.
    Whole,
    /// These bytes, 206. Never empty.
    Part(Range<u64>),
    /// The range begins behind the end of the object: 416.
    Unsatisfiable,
}

/// Decides what `field` selects from an object of `length_bytes`.
pub fn decide(field: Option<&str>, length_bytes: u64) -> RangeDecision {
    let Some(spec) = field.and_then(single_byte_range) else {
        return RangeDecision::Whole;
    };
    match spec {
        Spec::Suffix(0) => RangeDecision::Unsatisfiable,
        Spec::Suffix(_) if length_bytes == 0 => RangeDecision::Unsatisfiable,
        Spec::Suffix(count) => {
            RangeDecision::Part(length_bytes.saturating_sub(count)..length_bytes)
        }
        Spec::From { first, .. } if first >= length_bytes => RangeDecision::Unsatisfiable,
        Spec::From { first, last } => {
            let end = last.map_or(length_bytes, |last| {
                last.saturating_add(1).min(length_bytes)
            });
            RangeDecision::Part(first..end)
        }
    }
}

/// `Content-Range` of a 206.
pub fn content_range(part: &Range<u64>, length_bytes: u64) -> String {
    format!("bytes {}-{}/{length_bytes}", part.start, part.end - 1)
}

/// `Content-Range` of a 416.
pub fn unsatisfied_range(length_bytes: u64) -> String {
    format!("bytes */{length_bytes}")
}

enum Spec {
    From { first: u64, last: Option<u64> },
    Suffix(u64),
}

/// The one range of a well-formed `bytes=` field; `None` for everything that we ignore.
fn single_byte_range(field: &str) -> Option<Spec> {
    let (unit, set) = field.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim_matches([' ', '\t']).split_once('-')?;
    match (position(first), position(last)) {
        (Some(first), Some(last)) if first <= last => Some(Spec::From {
            first,
            last: Some(last),
        }),
        (Some(first), None) if last.is_empty() => Some(Spec::From { first, last: None }),
        (None, Some(count)) if first.is_empty() => Some(Spec::Suffix(count)),
        _ => None,
    }
}

/// Digits only. A number beyond `u64` is still a number, and behind the end of every object.
fn position(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::RangeDecision::{Part, Unsatisfiable, Whole};
    use super::*;

    #[test]
    fn a_single_range_is_decided_on_both_sides_of_each_boundary() {
        let huge = "bytes=0-99999999999999999999999";
        let huge_first = "bytes=99999999999999999999999-";
        let cases: &[(Option<&str>, u64, RangeDecision)] = &[
            (None, 10, Whole),
            (Some("bytes=0-0"), 10, Part(0..1)),
            (Some("bytes=0-9"), 10, Part(0..10)),
            (Some("bytes=0-10"), 10, Part(0..10)),
            (Some("bytes=9-9"), 10, Part(9..10)),
            (Some("bytes=9-"), 10, Part(9..10)),
            (Some("bytes=10-"), 10, Unsatisfiable),
            (Some("bytes=10-12"), 10, Unsatisfiable),
            (Some("bytes=0-"), 10, Part(0..10)),
            (Some("bytes=-1"), 10, Part(9..10)),
            (Some("bytes=-10"), 10, Part(0..10)),
            (Some("bytes=-11"), 10, Part(0..10)),
            (Some("bytes=-0"), 10, Unsatisfiable),
            (Some("bytes=0-"), 0, Unsatisfiable),
            (Some("bytes=-5"), 0, Unsatisfiable),
            (Some("Bytes=1-2"), 10, Part(1..3)),
            (Some(huge), 10, Part(0..10)),
            (Some(huge_first), 10, Unsatisfiable),
        ];
        for (field, length, expected) in cases {
            assert_eq!(&decide(*field, *length), expected, "{field:?} of {length}");
        }
    }

    #[test]
    fn fields_that_are_not_one_well_formed_byte_range_are_ignored() {
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=2-1",
            "bytes=a-b",
            "bytes=1-b",
            "bytes=+1-2",
            "bytes=0-1,4-5",
            "bytes= 1 - 2",
            "items=0-1",
            "bytes=--1",
            "bytes=1--2",
        ] {
            assert_eq!(decide(Some(field), 10), Whole, "{field:?}");
        }
    }

    #[test]
    fn content_range_counts_inclusively() {
        assert_eq!(content_range(&(2..5), 10), "bytes 2-4/10");
        assert_eq!(unsatisfied_range(10), "bytes */10");
    }
}
