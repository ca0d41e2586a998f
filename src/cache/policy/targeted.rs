//! Fields that speak to caches like this one in place of `Cache-Control` (RFC 9213), and their
//! forerunner `Surrogate-Control` (W3C Edge Architecture Specification).

use http::HeaderMap;
use http::header::HeaderName;
use sfv::{BareItem, ListEntry, Parser};

use super::cache_control::{MAX_DELTA_SECONDS, ResponseDirectives, list_items, name_and_argument};

/// Meant for Tidegate alone.
pub const TIDEGATE_CACHE_CONTROL: HeaderName = HeaderName::from_static("tidegate-cache-control");

/// Meant for every CDN (RFC 9213 §3.1).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// What origins that were set up for Varnish or Fastly send.
pub const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// How we announce ourselves to such origins, and the name by which they address us.
pub const SURROGATE_CAPABILITY: (HeaderName, &str) = (
    HeaderName::from_static("surrogate-capability"),
    "tidegate=\"Surrogate/1.0\"",
);
const SURROGATE_NAME: &str = "tidegate";

/// The directives of the most specific field that is there, valid and not empty.
pub fn directives(fields: &HeaderMap) -> Option<ResponseDirectives> {
    in_force(fields).map(|(_, directives)| directives)
}

/// The name of the field that [`directives`] reads.
pub fn field_in_force(fields: &HeaderMap) -> Option<HeaderName> {
    in_force(fields).map(|(name, _)| name)
}

fn in_force(fields: &HeaderMap) -> Option<(HeaderName, ResponseDirectives)> {
    [TIDEGATE_CACHE_CONTROL, CDN_CACHE_CONTROL]
        .into_iter()
        .find_map(|name| structured(fields, &name).map(|directives| (name, directives)))
        .or_else(|| surrogate(fields).map(|directives| (SURROGATE_CONTROL, directives)))
}

/// A Dictionary (RFC 9651 §3.2). A field that does not parse, or whose known directives are of the
/// wrong type, is ignored as a whole (RFC 9213 §2.1): half of what an origin meant may be the
/// opposite of it.
fn structured(fields: &HeaderMap, name: &HeaderName) -> Option<ResponseDirectives> {
    let mut joined = Vec::new();
    for value in fields.get_all(name) {
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(value.as_bytes());
    }
    if joined.is_empty() {
        return None;
    }
    let members = Parser::parse_dictionary(&joined).ok()?;
    if members.is_empty() {
        return None;
    }
    let mut directives = ResponseDirectives {
        targeted: true,
        ..ResponseDirectives::default()
    };
    for (key, member) in &members {
        let ListEntry::Item(item) = member else {
            if is_known(key) {
                return None;
            }
            continue;
        };
        match (key.as_str(), &item.bare_item) {
            (key, BareItem::Integer(seconds)) if counts_seconds(key) => {
                let seconds = (*seconds).clamp(0, i64::from(MAX_DELTA_SECONDS));
                directives.apply(key.as_bytes(), Some(seconds.to_string().as_bytes()));
            }
            (key, _) if counts_seconds(key) => return None,
            (key, BareItem::Boolean(true)) => directives.apply(key.as_bytes(), None),
            (_, BareItem::Boolean(false)) => {}
            ("no-cache" | "private", BareItem::String(names)) => {
                directives.apply(key.as_bytes(), Some(names.as_bytes()));
            }
            (key, _) if is_known(key) => return None,
            _ => {}
        }
    }
    Some(directives)
}

fn counts_seconds(key: &str) -> bool {
    [
        "max-age",
        "s-maxage",
        "stale-while-revalidate",
        "stale-if-error",
    ]
    .contains(&key)
}

fn is_known(key: &str) -> bool {
    counts_seconds(key)
        || [
            "no-cache",
            "private",
            "no-store",
            "public",
            "must-revalidate",
            "proxy-revalidate",
            "must-understand",
        ]
        .contains(&key)
}

/// `Surrogate-Control` is spelled like `Cache-Control`; a directive may end in `;name`, which makes
/// it count for the surrogate of that name only. Of `max-age=60+30` the second number is how long a
/// stale response may be served.
fn surrogate(fields: &HeaderMap) -> Option<ResponseDirectives> {
    let mut directives = ResponseDirectives {
        targeted: true,
        ..ResponseDirectives::default()
    };
    let mut found = false;
    for value in fields.get_all(SURROGATE_CONTROL) {
        for item in list_items(value.as_bytes()) {
            let mut parts = item.split(|b| *b == b';');
            let directive = parts.next().unwrap_or_default().trim_ascii();
            let target = parts.next().map(<[u8]>::trim_ascii);
            if target.is_some_and(|name| !name.eq_ignore_ascii_case(SURROGATE_NAME.as_bytes())) {
                continue;
            }
            let (name, argument) = name_and_argument(directive);
            let is_max_age = name.eq_ignore_ascii_case(b"max-age");
            let plus = argument.and_then(|argument| argument.iter().position(|b| *b == b'+'));
            match (argument, plus) {
                (Some(argument), Some(at)) if is_max_age => {
                    directives.apply(name, Some(&argument[..at]));
                    directives.apply(b"stale-if-error", Some(&argument[at + 1..]));
                }
                _ => directives.apply(name, argument),
            }
            // `content="ESI/1.0"` says nothing about caching.
            found |= is_max_age || name.eq_ignore_ascii_case(b"no-store");
        }
    }
    found.then_some(directives)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(lines: &[(&HeaderName, &str)]) -> Option<ResponseDirectives> {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append((*name).clone(), HeaderValue::from_str(value).unwrap());
        }
        directives(&fields)
    }

    #[test]
    fn an_invalid_field_is_ignored_as_a_whole() {
        for (value, max_age) in [
            ("max-age=60", Some(60)),
            ("foobar, max-age=60", Some(60)),
            ("foo=(1 2), max-age=60;a=b", Some(60)),
            ("max-age=99999999999", Some(MAX_DELTA_SECONDS)),
            ("max-age=-1", Some(0)),
            ("max-age=60, no-store=?0", Some(60)),
            ("", None),
            (" ", None),
            ("max-age=60, &&&&&", None),
            ("max-age=\"60\"", None),
            ("max-age=60.5", None),
            ("max-age", None),
            ("max-age=60, no-store=1", None),
            ("max-age=60, private=(a)", None),
            ("MaX-aGe=60", None),
            ("max-age =60", None),
        ] {
            let read = read(&[(&CDN_CACHE_CONTROL, value)]);
            assert_eq!(read.and_then(|read| read.max_age), max_age, "{value}");
        }
    }

    #[test]
    fn the_most_specific_field_wins_if_it_is_valid() {
        let (ours, cdn) = (&TIDEGATE_CACHE_CONTROL, &CDN_CACHE_CONTROL);
        let old = &SURROGATE_CONTROL;
        for (lines, max_age) in [
            (&[(cdn, "max-age=1"), (ours, "max-age=2")][..], Some(2)),
            (&[(cdn, "max-age=1"), (ours, "max-age=x")], Some(1)),
            (&[(cdn, "max-age=1"), (old, "max-age=3")], Some(1)),
            (&[(old, "max-age=3")], Some(3)),
            (&[(cdn, "a"), (cdn, "max-age=4")], Some(4)),
            (&[], None),
        ] {
            let read = read(lines);
            assert!(read.as_ref().is_none_or(|read| read.targeted));
            assert_eq!(read.and_then(|read| read.max_age), max_age, "{lines:?}");
        }
    }

    #[test]
    fn surrogate_control_may_address_one_surrogate() {
        for (value, max_age) in [
            ("max-age=60", Some(60)),
            ("MaX-aGe=60, foo", Some(60)),
            ("max-age=60;tidegate", Some(60)),
            ("max-age=60;elsewhere", None),
            ("content=\"ESI/1.0\"", None),
        ] {
            let read = read(&[(&SURROGATE_CONTROL, value)]);
            assert_eq!(read.and_then(|read| read.max_age), max_age, "{value}");
        }
        let read = read(&[(&SURROGATE_CONTROL, "max-age=60+30")]).unwrap();
        assert_eq!((read.max_age, read.stale_if_error), (Some(60), Some(30)));
    }
}
