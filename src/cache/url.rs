//! URLs as text, read as the gate and the cache key read a request. Pure.

use std::fmt;

use super::key::{CacheKey, KeyParts, Scheme, normal_authority};
use crate::request_target::{TargetFault, check_target, is_authority};

/// An absolute `http` or `https` URL that a request could carry.
///
/// The authority is in lower case and without the port that its scheme implies; path and query are
/// kept byte for byte (RFC 9111 §2: the cache key is the target URI).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    /// The scheme.
    pub scheme: Scheme,
    /// `host` or `host:port`.
    pub authority: String,
    /// The raw path; begins with `/`.
    pub path: String,
    /// The raw query without `?`; empty and absent are two things.
    pub query: Option<String>,
}

/// Why a text is not a URL that a request could carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// It begins with neither `http://` nor `https://`.
    #[error("it must begin with http:// or https://")]
    Scheme,
    /// What follows the scheme is not `host` or `host:port`.
    #[error("{0:?} is not host or host:port, in ASCII and without user name")]
    Authority(String),
    /// A query follows the authority without a path.
    #[error("a path must stand before the query")]
    NoPath,
    /// The gate would refuse path or query.
    #[error("path or query holds {0}, so no request is let in with it")]
    Target(#[from] TargetFault),
}

impl Url {
    /// Reads an absolute URL.
    ///
    /// # Errors
    /// [`UrlFault`] for what the gate would refuse.
    pub fn parse(text: &str) -> Result<Self, UrlFault> {
        let (scheme, rest) = split_scheme(text).ok_or(UrlFault::Scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if !is_authority(authority.as_bytes()) {
            return Err(UrlFault::Authority(authority.to_owned()));
        }
        let target = match target.as_bytes().first() {
            None => "/",
            Some(b'/') => target,
            Some(b'?') => return Err(UrlFault::NoPath),
            Some(_) => return Err(TargetFault::Syntax.into()),
        };
        check_target(target.as_bytes())?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Ok(Url {
            scheme,
            authority: normal_authority(scheme, authority),
            path: path.to_owned(),
            query: query.map(str::to_owned),
        })
    }

    /// The primary cache key of a request for this URL.
    pub fn key(&self) -> CacheKey {
        CacheKey::new(
            self.scheme,
            &self.authority,
            &self.path,
            self.query.as_deref(),
        )
    }
}

impl From<KeyParts<'_>> for Url {
    fn from(parts: KeyParts<'_>) -> Self {
        Url {
            scheme: parts.scheme,
            authority: parts.authority.to_owned(),
            path: parts.path.to_owned(),
            query: parts.query.map(str::to_owned),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            self.scheme.as_str(),
            self.authority,
            self.path
        )?;
        match &self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

/// Schemes are compared without case (RFC 9110 §4.2.3).
fn split_scheme(text: &str) -> Option<(Scheme, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    [Scheme::Http, Scheme::Https]
        .into_iter()
        .find(|known| known.as_str().eq_ignore_ascii_case(scheme))
        .map(|scheme| (scheme, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_url_has_the_key_of_the_request_that_carries_it() {
        use Scheme::{Http, Https};
        for (text, scheme, authority, path, query) in [
            ("http://h", Http, "h", "/", None),
            (
                "HTTPS://Example.COM:443/A",
                Https,
                "example.com",
                "/A",
                None,
            ),
            ("http://h:80/a?b=%2F", Http, "h", "/a", Some("b=%2F")),
            ("https://h:80/a?", Https, "h:80", "/a", Some("")),
            ("http://[::1]:8080//", Http, "[::1]:8080", "//", None),
            ("http://h/a?b?c", Http, "h", "/a", Some("b?c")),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.key(), CacheKey::new(scheme, authority, path, query));
            assert_eq!(Url::from(url.key().parts()), url, "{text}");
        }
    }

    #[test]
    fn what_the_gate_refuses_is_no_url() {
        let authority = |text: &str| UrlFault::Authority(text.to_owned());
        for (text, expected) in [
            ("", UrlFault::Scheme),
            ("h/a", UrlFault::Scheme),
            ("ftp://h/a", UrlFault::Scheme),
            ("http:///a", authority("")),
            ("http://u@h/", authority("u@h")),
            ("http://h:x/", authority("h:x")),
            ("http://bücher.example/", authority("bücher.example")),
            ("http://h?a", UrlFault::NoPath),
            ("http://h#a", UrlFault::Target(TargetFault::Syntax)),
            ("http://h/a b", UrlFault::Target(TargetFault::Syntax)),
            ("http://h/a#b", UrlFault::Target(TargetFault::Syntax)),
            ("http://h/ü", UrlFault::Target(TargetFault::Syntax)),
            ("http://h/a/../b", UrlFault::Target(TargetFault::DotSegment)),
            (
                "http://h/a%2Fb",
                UrlFault::Target(TargetFault::EncodedSeparator),
            ),
            ("http://h/a%", UrlFault::Target(TargetFault::Escape)),
        ] {
            assert_eq!(Url::parse(text), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_url_that_is_read_is_written_the_same_way(text in "https?://[a-c]{1,2}(:[0-9]{1,3})?/[a%2?/=]{0,6}") {
            if let Ok(url) = Url::parse(&text) {
                prop_assert_eq!(Url::parse(&url.to_string()), Ok(url));
            }
        }
    }
}
