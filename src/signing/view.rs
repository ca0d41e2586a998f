//! A request as the verifiers see it.

use std::borrow::Cow;
use std::iter;
use std::net::IpAddr;

use http::HeaderMap;
use http::header::COOKIE;
use percent_encoding::percent_decode_str;

use super::{CredentialRefusal, SignedRequest};

/// What is verified: a request, and what is known of it beyond its bytes.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// The request as received.
    pub request: SignedRequest<'a>,
    /// `http` or `https`: what the client has used.
    pub scheme: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// How much of the path the route's prefix takes, in bytes: a token in the path stands behind it.
    pub prefix_length: usize,
}

impl RequestView<'_> {
    /// The URL, with `query` in the place of its query; without one when that is empty.
    pub(super) fn url(&self, path: &str, query: &str) -> String {
        let (scheme, host) = (self.scheme, self.request.host);
        if query.is_empty() {
            format!("{scheme}://{host}{path}")
        } else {
            format!("{scheme}://{host}{path}?{query}")
        }
    }
}

/// One item of a raw query; a lone name has an empty value, and so has an empty item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item<'a> {
    /// What stands before the first `=`, raw.
    pub(super) name: &'a str,
    /// What stands behind it, raw.
    pub(super) value: &'a str,
}

impl<'a> Item<'a> {
    pub(super) fn of(raw: &'a str) -> Self {
        let (name, value) = match memchr::memchr(b'=', raw.as_bytes()) {
            Some(end) => (&raw[..end], &raw[end + 1..]),
            None => (raw, ""),
        };
        Item { name, value }
    }

    /// Whether the item has this name. Escapes count as what they mean: a name that is spelled in
    /// another way must not slip past as something else.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name == name
            || self.name.contains('%') && percent_decode_str(self.name).eq(name.bytes())
    }
}

/// The items of a raw query, in order.
pub(super) fn items(query: &str) -> impl Iterator<Item = Item<'_>> + Clone {
    raw_items(query).map(Item::of)
}

/// The same, not taken apart: what stands between `&` and `&`.
pub(super) fn raw_items(query: &str) -> impl Iterator<Item = &str> + Clone {
    let mut rest = Some(query);
    iter::from_fn(move || {
        let items = rest?;
        let item = match memchr::memchr(b'&', items.as_bytes()) {
            Some(end) => {
                rest = Some(&items[end + 1..]);
                &items[..end]
            }
            None => {
                rest = None;
                items
            }
        };
        Some(item)
    })
}

/// The raw value of a parameter that may be there once.
///
/// # Errors
/// [`CredentialRefusal::DuplicatePart`], with `part` as its name.
pub(super) fn parameter<'a>(
    query: &'a str,
    name: &str,
    part: &'static str,
) -> Result<Option<&'a str>, CredentialRefusal> {
    let mut found = items(query).filter(|item| item.is_named(name));
    let first = found.next();
    match found.next() {
        Some(_) => Err(CredentialRefusal::DuplicatePart { part }),
        None => Ok(first.map(|item| item.value)),
    }
}

/// The cookies of a request, in order: name and value as sent (RFC 6265 §4.2.1). A field that is not
/// ASCII has none.
pub(super) fn cookies(fields: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = fields.get_all(COOKIE).into_iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim_matches([' ', '\t']).split_once('='))
}

/// The value of a cookie that may be there once.
///
/// # Errors
/// [`CredentialRefusal::DuplicatePart`], with `part` as its name: which one a browser sends first
/// depends on paths and ages, and must not decide.
pub(super) fn cookie<'a>(
    fields: &'a HeaderMap,
    name: &str,
    part: &'static str,
) -> Result<Option<&'a str>, CredentialRefusal> {
    let mut found = cookies(fields).filter(|(known, _)| *known == name);
    let first = found.next();
    match found.next() {
        Some(_) => Err(CredentialRefusal::DuplicatePart { part }),
        None => Ok(first.map(|(_, value)| value)),
    }
}

/// What percent-escapes stand for; `None` when that is not UTF-8.
pub(super) fn decoded(raw: &str) -> Option<Cow<'_, str>> {
    if raw.contains('%') {
        percent_decode_str(raw).decode_utf8().ok()
    } else {
        Some(Cow::Borrowed(raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_parameter_is_found_once_however_its_name_is_spelled() {
        let twice = Err(CredentialRefusal::DuplicatePart { part: "p" });
        for (query, expected) in [
            ("", Ok(None)),
            ("a=1", Ok(None)),
            ("a=1&token=x%3D=y&b", Ok(Some("x%3D=y"))),
            ("token", Ok(Some(""))),
            ("t%6Fken=x", Ok(Some("x"))),
            ("Token=x", Ok(None)),
            ("token=x&token=x", twice),
            ("token=x&%74oken=y", twice),
        ] {
            assert_eq!(parameter(query, "token", "p"), expected, "{query}");
        }
    }

    #[test]
    fn a_cookie_is_found_in_every_field() {
        let mut fields = HeaderMap::new();
        for line in ["a=1;b=2", "c=x=y ; d", "\te=5; a=9"] {
            fields.append(COOKIE, HeaderValue::from_static(line));
        }
        fields.append(COOKIE, HeaderValue::from_bytes(b"f=\xff").unwrap());
        for (name, expected) in [
            ("b", Ok(Some("2"))),
            ("c", Ok(Some("x=y"))),
            ("d", Ok(None)),
            ("e", Ok(Some("5"))),
            ("f", Ok(None)),
            ("a", Err(CredentialRefusal::DuplicatePart { part: "p" })),
        ] {
            assert_eq!(cookie(&fields, name, "p"), expected, "{name}");
        }
    }
}
