//! `Cache-Control` (RFC 9111 §5.2) and the fields that stand in for it at a CDN (RFC 9213).

use http::HeaderMap;
use http::header::{CACHE_CONTROL, HeaderName, PRAGMA};

use super::targeted;

/// The largest delta-seconds we count with: RFC 9111 §1.2.2 asks for 2^31 on overflow.
pub const MAX_DELTA_SECONDS: u32 = 1 << 31;

/// The directives of a request that we obey. Unknown ones are ignored (RFC 9111 §5.2.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `max-age`, seconds.
    pub max_age: Option<u32>,
    /// `min-fresh`, seconds.
    pub min_fresh: Option<u32>,
    /// `max-stale`: seconds, or [`MAX_DELTA_SECONDS`] when it stands without a number.
    pub max_stale: Option<u32>,
    /// `stale-if-error` (RFC 5861 §4), seconds.
    pub stale_if_error: Option<u32>,
    /// `no-cache`.
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
}

impl RequestDirectives {
    /// Reads every `Cache-Control` line; `Pragma: no-cache` counts when there is none
    /// (RFC 9111 §5.4).
    pub fn of(fields: &HeaderMap) -> Self {
        let mut directives = RequestDirectives::default();
        if !fields.contains_key(CACHE_CONTROL) {
            directives.no_cache = fields
                .get_all(PRAGMA)
                .iter()
                .flat_map(|value| list_items(value.as_bytes()))
                .any(|item| item.eq_ignore_ascii_case(b"no-cache"));
            return directives;
        }
        for value in fields.get_all(CACHE_CONTROL) {
            for item in list_items(value.as_bytes()) {
                directives.apply(item);
            }
        }
        directives
    }

    fn apply(&mut self, item: &[u8]) {
        let (name, argument) = name_and_argument(item);
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        if is("max-age") {
            strictest(&mut self.max_age, delta_seconds(argument));
        } else if is("min-fresh") {
            // Without a usable number nothing is fresh enough.
            self.min_fresh = Some(delta_seconds(argument).unwrap_or(MAX_DELTA_SECONDS));
        } else if is("max-stale") {
            self.max_stale = Some(match argument {
                None => MAX_DELTA_SECONDS,
                some => delta_seconds(some).unwrap_or(0),
            });
        } else if is("stale-if-error") {
            strictest(&mut self.stale_if_error, delta_seconds(argument));
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        }
    }
}

/// How far `no-cache` or `private` reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// The directive is absent.
    #[default]
    Nothing,
    /// It names these fields (RFC 9111 §5.2.2.4, §5.2.2.7).
    Fields(Vec<HeaderName>),
    /// It concerns the whole response.
    Response,
}

impl Scope {
    /// Whether it concerns the whole response.
    pub fn is_response(&self) -> bool {
        *self == Scope::Response
    }

    /// The fields it names.
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Scope::Fields(names) => names,
            Scope::Nothing | Scope::Response => &[],
        }
    }

    /// Takes in one more directive: without names, or with something that is no list of names, it
    /// concerns the whole response, which is the stricter reading.
    fn widen(&mut self, argument: Option<&[u8]>) {
        let names: Option<Vec<HeaderName>> = argument.and_then(|argument| {
            list_items(unquoted(argument))
                .map(|name| HeaderName::from_bytes(name).ok())
                .collect()
        });
        let names = names.filter(|names| !names.is_empty());
        match (self, names) {
            (Scope::Response, _) => {}
            (Scope::Fields(known), Some(names)) => known.extend(names),
            (scope, Some(names)) => *scope = Scope::Fields(names),
            (scope, None) => *scope = Scope::Response,
        }
    }
}

/// The directives of a response that we obey. Unknown ones are ignored (RFC 9111 §5.2.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// `max-age`, seconds.
    pub max_age: Option<u32>,
    /// `s-maxage`, seconds.
    pub s_maxage: Option<u32>,
    /// `stale-while-revalidate` (RFC 5861 §3), seconds.
    pub stale_while_revalidate: Option<u32>,
    /// `stale-if-error` (RFC 5861 §4), seconds.
    pub stale_if_error: Option<u32>,
    /// `no-cache`.
    pub no_cache: Scope,
    /// `private`.
    pub private: Scope,
    /// `no-store`.
    pub no_store: bool,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// They came in a field that is meant for caches like this one, so `Cache-Control` and
    /// `Expires` do not count (RFC 9213 §2.2).
    pub targeted: bool,
}

impl ResponseDirectives {
    /// Reads the first targeted field that is valid, else every `Cache-Control` line.
    pub fn of(fields: &HeaderMap) -> Self {
        if let Some(directives) = targeted::directives(fields) {
            return directives;
        }
        let mut directives = ResponseDirectives::default();
        for value in fields.get_all(CACHE_CONTROL) {
            for item in list_items(value.as_bytes()) {
                let (name, argument) = name_and_argument(item);
                directives.apply(name, argument);
            }
        }
        directives
    }

    /// The fields that are kept from other clients than the one whose request brought them
    /// (RFC 9111 §5.2.2.4, §5.2.2.7).
    pub fn withheld(&self) -> impl Iterator<Item = &HeaderName> {
        self.no_cache.fields().iter().chain(self.private.fields())
    }

    /// Takes in one directive.
    pub(super) fn apply(&mut self, name: &[u8], argument: Option<&[u8]>) {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        if is("max-age") {
            strictest(&mut self.max_age, delta_seconds(argument));
        } else if is("s-maxage") {
            strictest(&mut self.s_maxage, delta_seconds(argument));
        } else if is("stale-while-revalidate") {
            strictest(&mut self.stale_while_revalidate, delta_seconds(argument));
        } else if is("stale-if-error") {
            strictest(&mut self.stale_if_error, delta_seconds(argument));
        } else if is("no-cache") {
            self.no_cache.widen(argument);
        } else if is("private") {
            self.private.widen(argument);
        } else if is("no-store") {
            self.no_store = true;
        } else if is("public") {
            self.public = true;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand = true;
        }
    }
}

/// A directive's name, and its argument if it has one.
pub(super) fn name_and_argument(item: &[u8]) -> (&[u8], Option<&[u8]>) {
    match item.iter().position(|b| *b == b'=') {
        // Blanks around the `=` are not in the grammar; such a directive has another name.
        Some(at) => (&item[..at], Some(&item[at + 1..])),
        None => (item, None),
    }
}

/// RFC 9111 §4.2.1: of two conflicting values the smaller one, so that nothing is served for
/// longer than any of them allows. What is not a number means "already stale".
fn strictest(slot: &mut Option<u32>, value: Option<u32>) {
    let value = value.unwrap_or(0);
    *slot = Some(slot.map_or(value, |known| known.min(value)));
}

fn unquoted(argument: &[u8]) -> &[u8] {
    argument
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(argument)
}

/// Delta-seconds, quoted or not (RFC 9111 §1.2.2, §5.2).
fn delta_seconds(argument: Option<&[u8]>) -> Option<u32> {
    let digits = unquoted(argument?);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u32, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(u32::from(digit - b'0'))
            .min(MAX_DELTA_SECONDS)
    }))
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

    fn fields(lines: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(CACHE_CONTROL, HeaderValue::from_str(line).unwrap());
        }
        fields
    }

    fn response(lines: &[&str]) -> ResponseDirectives {
        ResponseDirectives::of(&fields(lines))
    }

    fn request(line: &str) -> RequestDirectives {
        RequestDirectives::of(&fields(&[line]))
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
            (&["max-age= 60"], Some(0)),
            (&["max-age"], Some(0)),
            (&["max-age="], Some(0)),
            (&["a=\"max-age=60\""], None),
            (&["a=\"x, max-age=60\", b"], None),
            (&["max-age =60"], None),
            (&["xmax-age=60"], None),
            (&[""], None),
        ] {
            assert_eq!(response(lines).max_age, expected, "{lines:?}");
        }
    }

    #[test]
    fn directives_may_name_the_fields_they_concern() {
        let name = HeaderName::from_static;
        for (line, expected) in [
            ("private", Scope::Response),
            ("private=", Scope::Response),
            ("private=\"\"", Scope::Response),
            ("private=\"a b\"", Scope::Response),
            ("private=\"x-a\"", Scope::Fields(vec![name("x-a")])),
            ("private=x-a", Scope::Fields(vec![name("x-a")])),
            (
                "private=\"X-A, set-cookie\"",
                Scope::Fields(vec![name("x-a"), name("set-cookie")]),
            ),
            ("private=\"x-a\", private", Scope::Response),
            ("private, private=\"x-a\"", Scope::Response),
            (
                "private=x-a, private=x-b",
                Scope::Fields(vec![name("x-a"), name("x-b")]),
            ),
            ("public", Scope::Nothing),
        ] {
            assert_eq!(response(&[line]).private, expected, "{line}");
        }
        assert_eq!(
            response(&["no-cache=\"x-a\""]).no_cache.fields(),
            [name("x-a")]
        );
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        let mut fields = HeaderMap::new();
        fields.insert(PRAGMA, HeaderValue::from_static("foo, No-Cache"));
        assert!(RequestDirectives::of(&fields).no_cache);
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        assert!(!RequestDirectives::of(&fields).no_cache);
    }

    #[test]
    fn what_a_request_tolerates_is_read_on_the_strict_side() {
        assert_eq!(request("max-stale").max_stale, Some(MAX_DELTA_SECONDS));
        assert_eq!(request("max-stale=7").max_stale, Some(7));
        assert_eq!(request("max-stale=x").max_stale, Some(0));
        assert_eq!(request("min-fresh=7").min_fresh, Some(7));
        assert_eq!(request("min-fresh=x").min_fresh, Some(MAX_DELTA_SECONDS));
        assert_eq!(request("max-age=x").max_age, Some(0));
        assert_eq!(request("stale-if-error=9").stale_if_error, Some(9));
    }
}
