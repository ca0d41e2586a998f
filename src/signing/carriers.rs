//! Where the credentials of a route stand in its requests, and how they are taken out.
//!
//! They are for the edge alone: nothing behind the step that verifies them sees them, so that they
//! are neither keyed nor forwarded nor logged (`credentials-go-no-further`). The parameters of AWS
//! signatures are not among them, because the origin may verify those again: see
//! [`super::query_without_signature`].

use std::borrow::Cow;
use std::ops::Range;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue};

use super::view::{Item, items, raw_items};

/// Where the credentials of a route may stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carriers {
    parameters: Vec<ParameterGroup>,
    cookies: Vec<Box<str>>,
    path_tokens: Vec<Box<str>>,
    path_parameters: Vec<Box<str>>,
    bearer: bool,
}

/// Query parameters that belong together when one of them is there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ParameterGroup {
    /// Without this one the others are a URL's own: `Expires` and `md5` are words that anybody uses.
    marker: Box<str>,
    others: Vec<Box<str>>,
}

impl Carriers {
    /// Nothing is taken out.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
            && self.cookies.is_empty()
            && self.path_tokens.is_empty()
            && self.path_parameters.is_empty()
            && !self.bearer
    }

    pub(super) fn add_parameters(&mut self, marker: &str, others: &[&str]) {
        let group = ParameterGroup {
            marker: marker.into(),
            others: others.iter().map(|name| (*name).into()).collect(),
        };
        if !self.parameters.contains(&group) {
            self.parameters.push(group);
        }
    }

    pub(super) fn add_cookie(&mut self, name: &str) {
        add(&mut self.cookies, name);
    }

    pub(super) fn add_path_token(&mut self, name: &str) {
        add(&mut self.path_tokens, name);
    }

    pub(super) fn add_path_parameter(&mut self, name: &str) {
        add(&mut self.path_parameters, name);
    }

    pub(super) fn add_bearer(&mut self) {
        self.bearer = true;
    }

    /// A raw query without credentials; everything else stays byte for byte and in order. Borrowed
    /// when there is nothing to take out.
    pub fn query_without<'q>(&self, query: &'q str) -> Cow<'q, str> {
        let carrying = |group: &&ParameterGroup| items(query).any(|i| i.is_named(&group.marker));
        let groups: Vec<_> = self.parameters.iter().filter(carrying).collect();
        if groups.is_empty() {
            return Cow::Borrowed(query);
        }
        let belongs = |item: &Item| {
            groups.iter().any(|group| {
                item.is_named(&group.marker) || group.others.iter().any(|name| item.is_named(name))
            })
        };
        Cow::Owned(joined(query, |item| !belongs(item)))
    }

    /// A raw path without credentials; borrowed when it holds none. `prefix_length` is what the
    /// route's prefix takes of it.
    pub fn path_without<'p>(&self, path: &'p str, prefix_length: usize) -> Cow<'p, str> {
        let token = (self.path_tokens.iter()).find_map(|name| token_in(path, prefix_length, name));
        let mut path = match token {
            Some(token) => Cow::Owned(without(path, token.whole)),
            None => Cow::Borrowed(path),
        };
        for name in &self.path_parameters {
            // A request with two of them is refused, but has a line in the log.
            while let Some(found) = parameter_in(&path, name) {
                path = Cow::Owned(without(&path, found.whole));
            }
        }
        path
    }

    /// Path and query without credentials; `None` when the target holds none.
    pub fn target_without(
        &self,
        path: &str,
        query: Option<&str>,
        prefix_length: usize,
    ) -> Option<String> {
        let path = self.path_without(path, prefix_length);
        let kept = query.map(|query| self.query_without(query));
        if matches!(path, Cow::Borrowed(_)) && !matches!(kept, Some(Cow::Owned(_))) {
            return None;
        }
        Some(match kept {
            // A query that held nothing but credentials is no query.
            Some(kept) if !kept.is_empty() || query == Some("") => format!("{path}?{kept}"),
            _ => path.into_owned(),
        })
    }

    /// Takes the credentials out of the fields; whether there were any.
    pub fn strip_fields(&self, fields: &mut HeaderMap) -> bool {
        let bearer = self.bearer && fields.get(AUTHORIZATION).is_some_and(is_bearer);
        if bearer {
            fields.remove(AUTHORIZATION);
        }
        self.strip_cookies(fields) || bearer
    }

    fn strip_cookies(&self, fields: &mut HeaderMap) -> bool {
        let is_ours = |pair: &str| {
            let pair = pair.trim_matches([' ', '\t']);
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            self.cookies.iter().any(|known| **known == *name)
        };
        let holds_ours =
            |line: &HeaderValue| line.to_str().is_ok_and(|line| line.split(';').any(is_ours));
        if self.cookies.is_empty() || !fields.get_all(COOKIE).iter().any(holds_ours) {
            return false;
        }
        let kept: Vec<HeaderValue> = (fields.get_all(COOKIE).iter())
            .filter_map(|line| {
                let Ok(text) = line.to_str() else {
                    return Some(line.clone());
                };
                let pairs = text.split(';').filter(|pair| !is_ours(pair));
                let pairs: Vec<&str> = pairs.map(|pair| pair.trim_matches([' ', '\t'])).collect();
                HeaderValue::try_from(pairs.join("; ")).ok()
            })
            .filter(|line| !line.is_empty())
            .collect();
        fields.remove(COOKIE);
        for line in kept {
            fields.append(COOKIE, line);
        }
        true
    }
}

fn add(names: &mut Vec<Box<str>>, name: &str) {
    if !names.iter().any(|known| **known == *name) {
        names.push(name.into());
    }
}

/// The items of a query that are kept, in order and byte for byte; empty ones are.
pub(super) fn joined(query: &str, keeps: impl Fn(&Item) -> bool) -> String {
    let kept = raw_items(query).filter(|raw| keeps(&Item::of(raw)));
    kept.collect::<Vec<_>>().join("&")
}

/// Whether an `Authorization` field carries a bearer token (RFC 6750 §2.1).
pub(super) fn is_bearer(value: &HeaderValue) -> bool {
    let scheme = value.as_bytes().get(..7);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
}

/// Something in a path: its value, and all that is taken out with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InPath<'p> {
    pub(super) value: &'p str,
    pub(super) whole: Range<usize>,
}

/// A token in a path: a segment `name=…~hmac=…` right behind the route's prefix. Its access list may
/// hold slashes, so it ends with the segment in which its hash stands.
pub(super) fn token_in<'p>(path: &'p str, prefix_length: usize, name: &str) -> Option<InPath<'p>> {
    const HASH: &str = "~hmac=";
    let (prefix, rest) = path.split_at_checked(prefix_length)?;
    let value = rest.strip_prefix(name)?.strip_prefix('=')?;
    if !prefix.ends_with('/') {
        return None;
    }
    let hash = value.find(HASH)? + HASH.len();
    let length = value[hash..]
        .find('/')
        .map_or(value.len(), |end| hash + end);
    let end = path.len() - value.len() + length;
    Some(InPath {
        value: &value[..length],
        // With the slash behind it: the one before it is the prefix's.
        whole: prefix_length..(end + 1).min(path.len()),
    })
}

/// A JWT as a parameter of a path, `;name=…` (RFC 6570 §3.2.7), and what RFC 9246 §2.1.15 removes
/// with it: what delimits it on its right when that is a sub-delimiter (RFC 3986 §2.2), else what
/// does on its left.
pub(super) fn parameter_in<'p>(path: &'p str, name: &str) -> Option<InPath<'p>> {
    let (start, _) = path.match_indices(';').find(|(at, _)| {
        let rest = path[at + 1..].strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('='))
    })?;
    let value_start = start + 1 + name.len() + 1;
    let rest = &path[value_start..];
    let in_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let length = rest.bytes().position(|byte| !in_token(byte));
    let length = length.unwrap_or(rest.len());
    let end = value_start + length;
    let sub_delimiter = rest[length..].starts_with(|c| "!$&'()*+,;=".contains(c));
    Some(InPath {
        value: &rest[..length],
        whole: if sub_delimiter {
            start + 1..end + 1
        } else {
            start..end
        },
    })
}

/// A text without a part of it.
pub(super) fn without(text: &str, part: Range<usize>) -> String {
    [&text[..part.start], &text[part.end..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_fields::fields;

    fn carriers() -> Carriers {
        let mut carriers = Carriers::default();
        carriers.add_parameters("Key-Pair-Id", &["Expires", "Signature"]);
        carriers.add_parameters("hdnts", &[]);
        carriers.add_cookie("hdnts");
        carriers.add_cookie("CloudFront-Policy");
        carriers.add_path_token("hdnts");
        carriers.add_path_parameter("URISigningPackage");
        carriers.add_bearer();
        carriers
    }

    #[test]
    fn a_group_of_parameters_is_taken_out_with_its_marker_only() {
        for (query, kept) in [
            ("", ""),
            ("a=1&Expires=2", "a=1&Expires=2"),
            ("Expires=2&a=1&Key-Pair-Id=k&Signature=s&&b", "a=1&&b"),
            ("%4Bey-Pair-Id=k&Expire%73=2&a", "a"),
            ("hdnts=x", ""),
            ("hdnts=x&Signature=s", "Signature=s"),
            ("a=1&hdnts=x&hdnts=y", "a=1"),
        ] {
            assert_eq!(carriers().query_without(query), kept, "{query}");
        }
        let kept = carriers().query_without("a&&b").into_owned();
        assert_eq!(kept, "a&&b", "what holds no credential is not touched");
    }

    #[test]
    fn a_target_is_told_without_its_credentials() {
        let token = "hdnts=exp=1~acl=/m/*~hmac=00";
        for (path, query, prefix_length, expected) in [
            ("/m/a", None, 1, None),
            ("/m/a", Some("b=1"), 1, None),
            ("/m/a", Some(""), 1, None),
            ("/m/a", Some("hdnts=x"), 1, Some("/m/a".to_owned())),
            ("/m/a", Some("hdnts=x&c"), 1, Some("/m/a?c".to_owned())),
            (&format!("/{token}/m/a"), None, 1, Some("/m/a".to_owned())),
            (
                &format!("/m/{token}/a/b"),
                Some("c"),
                3,
                Some("/m/a/b?c".to_owned()),
            ),
            (&format!("/m/{token}"), None, 3, Some("/m/".to_owned())),
            // Not where it belongs, or not whole: no token.
            (&format!("/m/{token}/a"), None, 1, None),
            (&format!("/m{token}/a"), None, 2, None),
            ("/hdnts=exp=1/a", None, 1, None),
            ("/hdnts/a", None, 1, None),
            ("/", None, 9, None),
        ] {
            let found = carriers().target_without(path, query, prefix_length);
            assert_eq!(found, expected, "{path} {query:?}");
        }
    }

    #[test]
    fn a_parameter_of_a_path_is_taken_out_as_rfc_9246_says() {
        for (path, expected) in [
            ("/a;URISigningPackage=x.y.z", "/a"),
            ("/a;URISigningPackage=x.y.z/b", "/a/b"),
            ("/a;URISigningPackage=x.y.z;b=1/c", "/a;b=1/c"),
            ("/a;b=1;URISigningPackage=x.y.z", "/a;b=1"),
            ("/a;URISigningPackage=x,b", "/a;b"),
            ("/a;URISigningPackage=x;URISigningPackage=y/b", "/a/b"),
            ("/a;URISigningPackage", "/a;URISigningPackage"),
            ("/a;XURISigningPackage=x", "/a;XURISigningPackage=x"),
            ("/a/URISigningPackage=x", "/a/URISigningPackage=x"),
        ] {
            assert_eq!(carriers().path_without(path, 1), expected, "{path}");
        }
    }

    #[test]
    fn fields_keep_what_is_no_credential() {
        for (sent, kept) in [
            (&[][..], &[][..]),
            (&[("cookie", "a=1;b=2")], &[("cookie", "a=1;b=2")]),
            (&[("cookie", "hdnts=x")], &[]),
            (
                &[
                    ("cookie", "a=1;hdnts=x; b=2"),
                    ("cookie", "CloudFront-Policy=y"),
                ],
                &[("cookie", "a=1; b=2")],
            ),
            (&[("cookie", "xhdnts=x")], &[("cookie", "xhdnts=x")]),
            (&[("authorization", "bEARER t")], &[]),
            (
                &[("authorization", "Basic t")],
                &[("authorization", "Basic t")],
            ),
        ] {
            let mut left = fields(sent);
            let stripped = carriers().strip_fields(&mut left);
            assert_eq!(left, fields(kept), "{sent:?}");
            assert_eq!(stripped, sent != kept, "{sent:?}");
        }
        let mut basic = fields(&[("authorization", "Bearer t"), ("cookie", "hdnts=x")]);
        assert!(!Carriers::default().strip_fields(&mut basic));
        assert_eq!(basic.len(), 2);
    }
}
