//! Validators and conditional requests (RFC 9110 §8.8, §13).

use std::time::{Duration, SystemTime};

use http::header::{
    DATE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED,
};
use http::{HeaderMap, HeaderValue};

use super::cache_control::list_items;
use super::freshness::date_field;

/// An entity tag that is known to be well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag(HeaderValue);

impl EntityTag {
    /// The `ETag` of a response; `None` when absent or not an entity tag.
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let value = fields.get(ETAG)?;
        let inner = opaque(value.as_bytes())
            .strip_prefix(b"\"")
            .and_then(|rest| rest.strip_suffix(b"\""));
        // A quote inside would make it a list of tags, or nothing at all (RFC 9110 §8.8.3).
        let well_formed = inner.is_some_and(|inner| !inner.contains(&b'"'));
        well_formed.then(|| EntityTag(value.clone()))
    }

    /// Whether two equal tags promise equal bytes (RFC 9110 §8.8.1).
    pub fn is_strong(&self) -> bool {
        !self.0.as_bytes().starts_with(b"W/")
    }

    /// The field value.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Weak comparison (RFC 9110 §8.8.3.2).
pub fn weakly_equal(a: &[u8], b: &[u8]) -> bool {
    opaque(a) == opaque(b)
}

/// What a request's preconditions make of a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Answer as if there were none.
    Proceed,
    /// Answer 304.
    NotModified,
}

/// Evaluates `If-None-Match` and `If-Modified-Since` against a stored response
/// (RFC 9110 §13.2.2, RFC 9111 §4.3.2).
pub fn evaluate(request: &HeaderMap, stored: &HeaderMap, now: SystemTime) -> Precondition {
    if request.contains_key(IF_NONE_MATCH) {
        // If-Modified-Since must be ignored beside If-None-Match (RFC 9110 §13.1.3).
        let etag = stored.get(ETAG).map(HeaderValue::as_bytes);
        let matched = request.get_all(IF_NONE_MATCH).iter().any(|value| {
            value.as_bytes().trim_ascii() == b"*"
                || list_items(value.as_bytes())
                    .any(|tag| etag.is_some_and(|etag| weakly_equal(tag, etag)))
        });
        return if matched {
            Precondition::NotModified
        } else {
            Precondition::Proceed
        };
    }
    let Some(since) = date_field(request, IF_MODIFIED_SINCE, now) else {
        return Precondition::Proceed;
    };
    match date_field(stored, LAST_MODIFIED, now).or_else(|| date_field(stored, DATE, now)) {
        Some(modified) if modified <= since => Precondition::NotModified,
        _ => Precondition::Proceed,
    }
}

/// Whether the request carries a precondition that only an origin can judge (RFC 9111 §4.3.2).
pub fn needs_origin(request: &HeaderMap) -> bool {
    request.contains_key(IF_MATCH) || request.contains_key(IF_UNMODIFIED_SINCE)
}

/// Whether a `Range` may be honoured given `If-Range` (RFC 9110 §13.1.5): strong comparison for
/// tags, exact and strong for dates.
pub fn if_range_holds(request: &HeaderMap, stored: &HeaderMap, now: SystemTime) -> bool {
    let Some(condition) = request.get(IF_RANGE) else {
        return true;
    };
    let text = condition.as_bytes().trim_ascii();
    if text.starts_with(b"\"") {
        return stored
            .get(ETAG)
            .is_some_and(|etag| !etag.as_bytes().starts_with(b"W/") && etag.as_bytes() == text);
    }
    if text.starts_with(b"W/") {
        return false;
    }
    let (Some(wanted), Some(modified)) = (
        date_field(request, IF_RANGE, now),
        date_field(stored, LAST_MODIFIED, now),
    ) else {
        return false;
    };
    wanted == modified && is_strong_date(modified, stored, now)
}

/// How far before `Date` a modification must lie to be a strong validator. A second would do if both were read from
/// the same clock; a `Date` may be that of a cache on the way, or our own where the origin sent none.
const CLOCKS_DIFFER_BY: Duration = Duration::from_secs(60);

/// Whether the representation cannot have changed again in the second of `modified` (RFC 9110 §8.8.2.2).
fn is_strong_date(modified: SystemTime, stored: &HeaderMap, now: SystemTime) -> bool {
    date_field(stored, DATE, now)
        .and_then(|date| date.duration_since(modified).ok())
        .is_some_and(|gap| gap >= CLOCKS_DIFFER_BY)
}

/// The conditional fields that validate a stored response (RFC 9111 §4.3.1); empty when it carries
/// no validator.
pub fn validators(stored: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::new();
    if let Some(etag) = EntityTag::of(stored) {
        fields.insert(IF_NONE_MATCH, etag.0);
    }
    if let Some(modified) = stored.get(LAST_MODIFIED) {
        fields.insert(IF_MODIFIED_SINCE, modified.clone());
    }
    fields
}

/// Whether a response has any of [`validators`].
pub fn has_validators(fields: &HeaderMap) -> bool {
    EntityTag::of(fields).is_some() || fields.contains_key(LAST_MODIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:50:37 GMT";
    const SOON: &str = "Sun, 06 Nov 1994 08:50:36 GMT";
    const NOW: SystemTime = SystemTime::UNIX_EPOCH;
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn if_none_match_uses_weak_comparison_and_beats_dates() {
        let stored = fields(&[(ETAG, "\"a\""), (LAST_MODIFIED, MODIFIED)]);
        for (lines, not_modified) in [
            (vec![(IF_NONE_MATCH, "\"a\"")], true),
            (vec![(IF_NONE_MATCH, "W/\"a\"")], true),
            (vec![(IF_NONE_MATCH, "\"b\", W/\"a\"")], true),
            (
                vec![(IF_NONE_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")],
                true,
            ),
            (vec![(IF_NONE_MATCH, "*")], true),
            (vec![(IF_NONE_MATCH, "\"a,\"")], false),
            (vec![(IF_NONE_MATCH, "a")], false),
            (
                vec![(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, LATER)],
                false,
            ),
            (vec![(IF_MODIFIED_SINCE, MODIFIED)], true),
            (vec![(IF_MODIFIED_SINCE, LATER)], true),
            (vec![(IF_MODIFIED_SINCE, EARLIER)], false),
            (vec![(IF_MODIFIED_SINCE, "yesterday")], false),
            (vec![], false),
        ] {
            let decision = evaluate(&fields(&lines), &stored, NOW);
            assert_eq!(
                decision == Precondition::NotModified,
                not_modified,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn if_range_wants_a_strong_match() {
        let strong = fields(&[(ETAG, "\"a\""), (LAST_MODIFIED, MODIFIED), (DATE, LATER)]);
        let weak = fields(&[(ETAG, "W/\"a\""), (LAST_MODIFIED, MODIFIED), (DATE, SOON)]);
        for (condition, stored, holds) in [
            ("\"a\"", &strong, true),
            ("\"b\"", &strong, false),
            ("W/\"a\"", &strong, false),
            ("W/\"a\"", &weak, false),
            (MODIFIED, &strong, true),
            (LATER, &strong, false),
            (EARLIER, &strong, false),
            (MODIFIED, &weak, false),
            ("nonsense", &strong, false),
        ] {
            let request = fields(&[(IF_RANGE, condition)]);
            assert_eq!(if_range_holds(&request, stored, NOW), holds, "{condition}");
        }
        assert!(if_range_holds(&HeaderMap::new(), &strong, NOW));
    }

    #[test]
    fn only_a_quoted_tag_is_an_entity_tag() {
        for (value, strong) in [
            ("\"\"", Some(true)),
            ("\"a\"", Some(true)),
            ("W/\"a\"", Some(false)),
            ("a", None),
            ("\"", None),
            ("w/\"a\"", None),
            ("\"a\",\"b\"", None),
        ] {
            let tag = EntityTag::of(&fields(&[(ETAG, value)]));
            assert_eq!(tag.map(|tag| tag.is_strong()), strong, "{value}");
        }
    }
}
