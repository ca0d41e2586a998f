//! The `Range` and `Content-Range` fields (RFC 9110 §14), byte ranges only. Pure; the cache and the
//! store read and write them by the same rules.

mod several;

use std::fmt;
use std::ops::Range;

pub use several::{MOST_RANGES, PART_OVERHEAD_BYTES, SeveralRanges};

/// One range as the client spelled it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeSpec {
    /// `first-` or `first-last` (inclusive).
    From {
        /// First byte position.
        first: u64,
        /// Last byte position, when given.
        last: Option<u64>,
    },
    /// `-length`: the last `length` bytes.
    Suffix {
        /// How many bytes of the end.
        length: u64,
    },
}

/// What a `Range` field asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeRequest {
    /// No field, another unit, not the RFC's syntax, or more than [`MOST_RANGES`] ranges: the field
    /// is ignored (RFC 9110 §14.2).
    Whole,
    /// Exactly one range.
    Single(RangeSpec),
    /// Two to [`MOST_RANGES`] ranges.
    Several(SeveralRanges),
}

impl RangeRequest {
    /// What to ask an origin for first when nothing is known of the representation: of several
    /// ranges the one that [`SeveralRanges::probe`] names.
    pub fn first_fetch(self) -> RangeRequest {
        match self {
            RangeRequest::Several(several) => RangeRequest::Single(several.probe()),
            one_or_none => one_or_none,
        }
    }
}

/// No range lies inside the representation: 416 with `Content-Range: bytes */length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsatisfiable;

/// Reads a `Range` field's value.
pub fn parse(value: &[u8]) -> RangeRequest {
    let Ok(text) = std::str::from_utf8(value) else {
        return RangeRequest::Whole;
    };
    let Some((unit, set)) = text.split_once('=') else {
        return RangeRequest::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return RangeRequest::Whole;
    }
    let mut specs = set
        .split(',')
        .map(|spec| spec.trim_matches([' ', '\t']))
        .filter(|spec| !spec.is_empty())
        .map(parse_spec);
    match (specs.next(), specs.next()) {
        (Some(Some(only)), None) => RangeRequest::Single(only),
        (Some(Some(first)), Some(Some(second))) => {
            let mut several = vec![first, second];
            for spec in specs {
                match spec {
                    Some(spec) if several.len() < MOST_RANGES => several.push(spec),
                    _ => return RangeRequest::Whole,
                }
            }
            RangeRequest::Several(SeveralRanges::new(several))
        }
        _ => RangeRequest::Whole,
    }
}

fn parse_spec(spec: &str) -> Option<RangeSpec> {
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        return Some(RangeSpec::Suffix {
            length: position(last)?,
        });
    }
    let first = position(first)?;
    if last.is_empty() {
        return Some(RangeSpec::From { first, last: None });
    }
    let last = position(last)?;
    // RFC 9110 §14.1.1: a last position before the first makes the range invalid.
    (last >= first).then_some(RangeSpec::From {
        first,
        last: Some(last),
    })
}

/// Digits only; a number beyond 64 bits means "past any end".
fn position(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// The bytes `spec` selects of a representation of `length` bytes; never empty.
///
/// # Errors
/// [`Unsatisfiable`] when it selects none.
pub fn resolve(spec: RangeSpec, length: u64) -> Result<Range<u64>, Unsatisfiable> {
    match spec {
        RangeSpec::From { first, last } if first < length => {
            let end = last.map_or(length, |last| last.saturating_add(1).min(length));
            Ok(first..end)
        }
        RangeSpec::Suffix { length: suffix } if suffix > 0 && length > 0 => {
            Ok(length.saturating_sub(suffix)..length)
        }
        _ => Err(Unsatisfiable),
    }
}

/// A `Content-Range` field (RFC 9110 §14.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentRange {
    /// Of a 206: the bytes that follow.
    Part {
        /// The bytes; never empty.
        span: Range<u64>,
        /// The complete length; absent when it is not known (`*`).
        complete: Option<u64>,
    },
    /// Of a 416: none of the range lies inside.
    Unsatisfied {
        /// The complete length.
        complete: u64,
    },
}

impl ContentRange {
    /// The field of a 206 that carries `span` of `complete` bytes.
    pub fn part(span: Range<u64>, complete: u64) -> Self {
        ContentRange::Part {
            span,
            complete: Some(complete),
        }
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContentRange::Part { span, complete } => {
                write!(f, "bytes {}-{}/", span.start, span.end.saturating_sub(1))?;
                match complete {
                    Some(complete) => complete.fmt(f),
                    None => f.write_str("*"),
                }
            }
            ContentRange::Unsatisfied { complete } => write!(f, "bytes */{complete}"),
        }
    }
}

/// A parsed `bytes first-last/complete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedPart {
    /// The bytes that follow; never empty.
    pub span: Range<u64>,
    /// The complete length; absent for `*`.
    pub complete: Option<u64>,
}

/// Reads the `Content-Range` of a 206; `None` when it is anything else than
/// `bytes first-last/complete` or contradicts itself.
pub fn parse_content_range(value: &[u8]) -> Option<ReceivedPart> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let (unit, rest) = text.split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (positions, complete) = rest.trim().split_once('/')?;
    let (first, last) = positions.split_once('-')?;
    let first: u64 = position(first)?;
    let last: u64 = position(last)?;
    let end = last.checked_add(1)?;
    let complete = match complete {
        "*" => None,
        digits => Some(position(digits)?),
    };
    let consistent = first <= last && complete.is_none_or(|complete| end <= complete);
    consistent.then_some(ReceivedPart {
        span: first..end,
        complete,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(first: u64, last: Option<u64>) -> RangeRequest {
        RangeRequest::Single(RangeSpec::From { first, last })
    }

    fn several(ranges: &[(u64, u64)]) -> RangeRequest {
        let spec = |&(first, last)| RangeSpec::From {
            first,
            last: Some(last),
        };
        RangeRequest::Several(SeveralRanges::new(ranges.iter().map(spec).collect()))
    }

    #[test]
    fn more_ranges_than_the_limit_are_ignored_whole() {
        let field = |count: usize| format!("bytes={}", vec!["0-0"; count].join(","));
        assert_eq!(
            parse(field(MOST_RANGES).as_bytes()),
            several(&[(0, 0); MOST_RANGES])
        );
        assert_eq!(
            parse(field(MOST_RANGES + 1).as_bytes()),
            RangeRequest::Whole
        );
    }

    #[test]
    fn range_fields_are_read_as_rfc_9110_spells_them() {
        for (field, expected) in [
            ("bytes=0-0", from(0, Some(0))),
            ("bytes=0-", from(0, None)),
            ("Bytes=5-9", from(5, Some(9))),
            ("bytes= 5-9 ", from(5, Some(9))),
            ("bytes=,5-9,", from(5, Some(9))),
            (
                "bytes=-5",
                RangeRequest::Single(RangeSpec::Suffix { length: 5 }),
            ),
            ("bytes=0-1,3-4", several(&[(0, 1), (3, 4)])),
            ("bytes=3-4 ,\t, 0-1,", several(&[(3, 4), (0, 1)])),
            ("bytes=99999999999999999999999-", from(u64::MAX, None)),
            ("bytes=9-5", RangeRequest::Whole),
            ("bytes=0-1,9-5", RangeRequest::Whole),
            ("bytes=9-5,0-1", RangeRequest::Whole),
            ("bytes=0-1,3-4,x", RangeRequest::Whole),
            ("bytes=-", RangeRequest::Whole),
            ("bytes=", RangeRequest::Whole),
            ("bytes", RangeRequest::Whole),
            ("bytes=a-b", RangeRequest::Whole),
            ("bytes=+1-2", RangeRequest::Whole),
            ("bytes=1 -2", RangeRequest::Whole),
            ("bytes=--1", RangeRequest::Whole),
            ("lines=0-1", RangeRequest::Whole),
            ("\u{e9}=0-1", RangeRequest::Whole),
        ] {
            assert_eq!(parse(field.as_bytes()), expected, "{field}");
        }
    }

    #[test]
    fn ranges_resolve_at_each_edge_of_the_representation() {
        let open = |first| RangeSpec::From { first, last: None };
        let closed = |first, last| RangeSpec::From {
            first,
            last: Some(last),
        };
        let suffix = |length| RangeSpec::Suffix { length };
        for (spec, length, expected) in [
            (closed(0, 0), 10, Ok(0..1)),
            (closed(0, 9), 10, Ok(0..10)),
            (closed(0, 10), 10, Ok(0..10)),
            (closed(9, u64::MAX), 10, Ok(9..10)),
            (closed(10, 11), 10, Err(Unsatisfiable)),
            (open(9), 10, Ok(9..10)),
            (open(10), 10, Err(Unsatisfiable)),
            (open(0), 0, Err(Unsatisfiable)),
            (suffix(1), 10, Ok(9..10)),
            (suffix(10), 10, Ok(0..10)),
            (suffix(11), 10, Ok(0..10)),
            (suffix(0), 10, Err(Unsatisfiable)),
            (suffix(1), 0, Err(Unsatisfiable)),
        ] {
            assert_eq!(resolve(spec, length), expected, "{spec:?} of {length}");
        }
    }

    #[test]
    fn content_range_is_spelled_as_it_is_read() {
        assert_eq!(ContentRange::part(5..10, 20).to_string(), "bytes 5-9/20");
        let unsatisfied = ContentRange::Unsatisfied { complete: 20 };
        assert_eq!(unsatisfied.to_string(), "bytes */20");
    }

    #[test]
    fn content_range_must_be_consistent() {
        let ok = |span, complete| Some(ReceivedPart { span, complete });
        for (field, expected) in [
            ("bytes 0-0/1", ok(0..1, Some(1))),
            ("bytes 5-9/10", ok(5..10, Some(10))),
            ("bytes 5-9/*", ok(5..10, None)),
            ("bytes 5-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("bytes 0-18446744073709551615/*", None),
            ("items 0-0/1", None),
            ("bytes=0-0/1", None),
        ] {
            assert_eq!(parse_content_range(field.as_bytes()), expected, "{field}");
        }
    }
}
