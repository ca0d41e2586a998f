//! The `Cache-Control` field (RFC 9111 §5.2), of requests and of responses.

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

/// The largest delta-seconds we count with: RFC 9111 §1.2.2 asks for 2^31 on overflow.
pub const MAX_DELTA_SECONDS: u32 = 1 << 31;

/// The directives that we obey. Unknown ones are ignored (RFC 9111 §5.2.3).
///
/// `no-cache` and `private` with field names are treated as if they stood without: the stricter
/// reading is always allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// `max-age`, seconds.
    pub max_age: Option<u32>,
    /// `s-maxage`, seconds.
    pub s_maxage: Option<u32>,
    /// `no-cache`.
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `private`.
    pub private: bool,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `only-if-cached` (request).
    pub only_if_cached: bool,
    /// `min-fresh` (request), seconds.
    pub min_fresh: Option<u32>,
    /// `max-stale` (request): seconds, or [`MAX_DELTA_SECONDS`] when it stands without a number.
    pub max_stale: Option<u32>,
}

impl CacheControl {
    /// Reads every `Cache-Control` line of a response.
    pub fn of_response(fields: &HeaderMap) -> Self {
        Self::read(fields)
    }

    /// Reads every `Cache-Control` line of a request; `Pragma: no-cache` counts when there is none
    /// (RFC 9111 §5.4).
    pub fn of_request(fields: &HeaderMap) -> Self {
        let mut directives = Self::read(fields);
        if !fields.contains_key(CACHE_CONTROL) {
            directives.no_cache = fields
                .get_all(PRAGMA)
                .iter()
                .flat_map(|value| value.as_bytes().split(|b| *b == b','))
                .any(|item| item.trim_ascii().eq_ignore_ascii_case(b"no-cache"));
        }
        directives
    }

    fn read(fields: &HeaderMap) -> Self {
        let mut directives = CacheControl::default();
        for value in fields.get_all(CACHE_CONTROL) {
            for item in list_items(value.as_bytes()) {
                directives.apply(item);
            }
        }
        directives
    }

    fn apply(&mut self, item: &[u8]) {
        let (name, argument) = match item.iter().position(|b| *b == b'=') {
            Some(at) => (&item[..at], Some(&item[at + 1..])),
            None => (item, None),
        };
        let name = name.trim_ascii();
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        if is("max-age") {
            strictest(&mut self.max_age, delta_seconds(argument));
        } else if is("s-maxage") {
            strictest(&mut self.s_maxage, delta_seconds(argument));
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("private") {
            self.private = true;
        } else if is("public") {
            self.public = true;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("min-fresh") {
            self.min_fresh = Some(delta_seconds(argument));
        } else if is("max-stale") {
            self.max_stale = Some(match argument {
                None => MAX_DELTA_SECONDS,
                some => delta_seconds(some),
            });
        }
    }
}

/// RFC 9111 §4.2.1: of two conflicting values the smaller one, so that nothing is served for
/// longer than any of them allows.
fn strictest(slot: &mut Option<u32>, value: u32) {
    *slot = Some(slot.map_or(value, |known| known.min(value)));
}

/// Delta-seconds, quoted or not. What is not a number means "already stale" (RFC 9111 §4.2.1).
fn delta_seconds(argument: Option<&[u8]>) -> u32 {
    let Some(argument) = argument else { return 0 };
    let argument = argument.trim_ascii();
    let digits = argument
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(argument);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    digits.iter().fold(0_u32, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(u32::from(digit - b'0'))
            .min(MAX_DELTA_SECONDS)
    })
}

/// The items of a comma-separated list; a comma inside a quoted string does not separate.
pub fn list_items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        loop {
            let whole = rest.take()?;
            let mut quoted = false;
            let mut escaped = false;
            let end = whole.iter().position(|b| {
                if escaped {
                    escaped = false;
                } else if quoted && *b == b'\\' {
                    escaped = true;
                } else if *b == b'"' {
                    quoted = !quoted;
                } else if *b == b',' && !quoted {
                    return true;
                }
                false
            });
            let item = match end {
                Some(end) => {
                    rest = Some(&whole[end + 1..]);
                    &whole[..end]
                }
                None => whole,
            };
            let item = item.trim_ascii();
            if !item.is_empty() {
                return Some(item);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn response(lines: &[&str]) -> CacheControl {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(CACHE_CONTROL, HeaderValue::from_str(line).unwrap());
        }
        CacheControl::of_response(&fields)
    }

    #[test]
    fn max_age_is_read_in_every_spelling() {
        for (lines, expected) in [
            (&["max-age=60"][..], Some(60)),
            (&["MAX-AGE=60"], Some(60)),
            (&["max-age=\"60\""], Some(60)),
            (&["max-age=060"], Some(60)),
            (&["public, max-age=60 , foo=bar"], Some(60)),
            (&["max-age=4294967296"], Some(MAX_DELTA_SECONDS)),
            (&["max-age=99999999999999999999"], Some(MAX_DELTA_SECONDS)),
            (&["max-age=60, max-age=5"], Some(5)),
            (&["max-age=60", "max-age=5"], Some(5)),
            (&["max-age=-1"], Some(0)),
            (&["max-age=1.5"], Some(0)),
            (&["max-age"], Some(0)),
            (&["max-age="], Some(0)),
            (&["a=\"max-age=60\""], None),
            (&["a=\"x, max-age=60\", b"], None),
            (&["xmax-age=60"], None),
            (&[""], None),
        ] {
            assert_eq!(response(lines).max_age, expected, "{lines:?}");
        }
    }

    #[test]
    fn directives_with_field_names_take_the_stricter_reading() {
        let read = response(&["private=\"set-cookie\", no-cache=\"x-a, x-b\", max-age=3"]);
        assert!(read.private && read.no_cache);
        assert_eq!(read.max_age, Some(3));
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        let mut fields = HeaderMap::new();
        fields.insert(PRAGMA, HeaderValue::from_static("foo, No-Cache"));
        assert!(CacheControl::of_request(&fields).no_cache);
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        assert!(!CacheControl::of_request(&fields).no_cache);
    }

    #[test]
    fn max_stale_may_stand_alone() {
        assert_eq!(response(&["max-stale"]).max_stale, Some(MAX_DELTA_SECONDS));
        assert_eq!(response(&["max-stale=7"]).max_stale, Some(7));
    }
}
