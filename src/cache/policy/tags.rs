//! The tags by which an origin lets its responses be purged together.

use http::header::{HeaderMap, HeaderName};

const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// The most tags kept of one response. Every one of them is probed when the response is judged.
pub const MAX_TAGS: usize = 1_000;

/// The longest tag in bytes.
pub const MAX_TAG_BYTES: usize = 1_024;

/// The tags of one response, compared byte for byte.
///
/// A response whose tags could not all be kept is not [complete](Tags::is_complete), and a purge of
/// any tag then touches it: purged too often, never too seldom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags {
    names: Box<[Box<str>]>,
    complete: bool,
}

impl Tags {
    /// The tags of a response whose fields are not known yet: a purge of any tag touches it.
    pub fn unknown() -> Self {
        Tags {
            names: Box::default(),
            complete: false,
        }
    }

    /// Those that were kept, in order, each once.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// False when a tag was left out: one too many, too long, or one that [`check_tag`] refuses.
    pub fn is_complete(&self) -> bool {
        self.complete
    }
}

/// Reads `Cache-Tag` (separated by commas) and `Surrogate-Key` (separated by white space) of a
/// response. Empty list members are no tags (RFC 9110 §5.6.1.2).
pub fn tags_of(fields: &HeaderMap) -> Tags {
    let listed = fields.get_all(CACHE_TAG).iter().flat_map(|value| {
        let members = value.as_bytes().split(|byte| *byte == b',');
        members.map(<[u8]>::trim_ascii)
    });
    let spaced = fields.get_all(SURROGATE_KEY).iter().flat_map(|value| {
        let words = value.as_bytes().split(u8::is_ascii_whitespace);
        words.map(<[u8]>::trim_ascii)
    });
    let mut names: Vec<Box<str>> = Vec::new();
    let mut complete = true;
    for member in listed.chain(spaced).filter(|member| !member.is_empty()) {
        match std::str::from_utf8(member) {
            Ok(tag) if check_tag(tag).is_ok() => names.push(tag.into()),
            _ => complete = false,
        }
    }
    names.sort_unstable();
    names.dedup();
    if names.len() > MAX_TAGS {
        names.truncate(MAX_TAGS);
        complete = false;
    }
    Tags {
        names: names.into(),
        complete,
    }
}

/// Why a text is no tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TagFault {
    /// It is empty.
    #[error("a tag must not be empty")]
    Empty,
    /// It has more than [`MAX_TAG_BYTES`].
    #[error("a tag of {bytes} bytes is longer than {MAX_TAG_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// White space stands around it.
    #[error("a tag must not begin or end with white space")]
    Padded,
    /// It holds a control character, which no field can.
    #[error("a tag must not hold control characters")]
    Control,
}

/// Whether `tag` may name responses, in a field or in a purge. Both are asked the same, so that
/// every tag that is kept can be purged.
///
/// # Errors
/// The first [`TagFault`] that applies.
pub fn check_tag(tag: &str) -> Result<(), TagFault> {
    if tag.is_empty() {
        Err(TagFault::Empty)
    } else if tag.len() > MAX_TAG_BYTES {
        Err(TagFault::TooLong { bytes: tag.len() })
    } else if tag.trim() != tag {
        Err(TagFault::Padded)
    } else if tag.chars().any(char::is_control) {
        Err(TagFault::Control)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn tags(lines: &[(&'static str, &[u8])]) -> Tags {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_bytes(value).unwrap();
            fields.append(HeaderName::from_static(name), value);
        }
        tags_of(&fields)
    }

    #[test]
    fn commas_part_cache_tags_and_spaces_part_surrogate_keys() {
        for (lines, expected) in [
            (&[][..], &[][..]),
            (&[("cache-tag", b"a, b,c" as &[u8])], &["a", "b", "c"]),
            (&[("cache-tag", b" ,, a b ,")], &["a b"]),
            (&[("cache-tag", b"b"), ("cache-tag", b"a,b")], &["a", "b"]),
            (&[("surrogate-key", b" a  b,c\td ")], &["a", "b,c", "d"]),
            (
                &[("cache-tag", b"x"), ("surrogate-key", b"y x")],
                &["x", "y"],
            ),
            (&[("cache-tag", b"A,a")], &["A", "a"]),
            (&[("cache-tag", "ü".as_bytes())], &["ü"]),
        ] {
            let found = tags(lines);
            let names: Vec<&str> = found.names().iter().map(|name| &**name).collect();
            assert_eq!((names.as_slice(), found.is_complete()), (expected, true));
        }
    }

    #[test]
    fn what_cannot_be_kept_makes_the_tags_incomplete() {
        let long = |bytes: usize| "t".repeat(bytes).into_bytes();
        let many = |count: usize| {
            let names: Vec<String> = (0..count).map(|number| number.to_string()).collect();
            names.join(",").into_bytes()
        };
        for (value, kept, complete) in [
            (long(MAX_TAG_BYTES), 1, true),
            (long(MAX_TAG_BYTES + 1), 0, false),
            (many(MAX_TAGS), MAX_TAGS, true),
            (many(MAX_TAGS + 1), MAX_TAGS, false),
            ([many(MAX_TAGS), b",0".to_vec()].concat(), MAX_TAGS, true),
            (b"a,\xff".to_vec(), 1, false),
            (b"a,b\tc".to_vec(), 1, false),
        ] {
            let found = tags(&[("cache-tag", &value)]);
            assert_eq!((found.names().len(), found.is_complete()), (kept, complete));
        }
        assert!(!Tags::unknown().is_complete());
    }
}
