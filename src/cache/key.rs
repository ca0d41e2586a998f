//! The cache key: what makes two requests ask for the same thing.

use std::fmt;
use std::sync::Arc;

/// The scheme the client used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port that an authority without one means, with its colon.
    fn default_port(self) -> &'static str {
        match self {
            Scheme::Http => ":80",
            Scheme::Https => ":443",
        }
    }

    /// The port that an authority without one means (RFC 9110 §4.2).
    pub fn default_port_number(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// What a primary cache key was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyParts<'k> {
    /// The scheme.
    pub scheme: Scheme,
    /// The authority in lower case, without its scheme's default port; empty for an HTTP/1.0
    /// request without `Host`.
    pub authority: &'k str,
    /// The raw path.
    pub path: &'k str,
    /// The raw query.
    pub query: Option<&'k str>,
}

/// An authority as it is keyed and as fills send it: in lower case, without the default port.
pub fn normal_authority(scheme: Scheme, authority: &str) -> String {
    authority
        .strip_suffix(scheme.default_port())
        .unwrap_or(authority)
        .to_ascii_lowercase()
}

/// Scheme, authority, path and query, each with its length before it, so that unequal parts can
/// never make equal keys. Path and query are the bytes that are forwarded, except that the
/// parameters of a presignature are left out: all signers share one stored response.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CacheKey(Arc<[u8]>);

impl CacheKey {
    /// The primary key of a GET or HEAD. `path` and `query` are raw; `query` is already without
    /// signature parameters.
    pub fn new(scheme: Scheme, authority: &str, path: &str, query: Option<&str>) -> Self {
        let authority = normal_authority(scheme, authority);
        let capacity = authority.len() + path.len() + query.map_or(0, str::len) + 16;
        let mut key = Vec::with_capacity(capacity);
        key.push(match scheme {
            Scheme::Http => 0,
            Scheme::Https => 1,
        });
        push_part(&mut key, authority.as_bytes());
        push_part(&mut key, path.as_bytes());
        key.push(u8::from(query.is_some()));
        push_part(&mut key, query.unwrap_or_default().as_bytes());
        CacheKey(key.into())
    }

    /// This key extended by a secondary key (RFC 9111 §4.1).
    pub fn with_variant(&self, append: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut key = self.0.to_vec();
        key.push(b'V');
        append(&mut key);
        CacheKey(key.into())
    }

    /// What the key was made of; of a variant's key, what its primary key was made of.
    pub fn parts(&self) -> KeyParts<'_> {
        let (scheme, rest) = self.0.split_first().expect(WELL_FORMED);
        let (authority, rest) = pop_part(rest);
        let (path, rest) = pop_part(rest);
        let (has_query, rest) = rest.split_first().expect(WELL_FORMED);
        let (query, _) = pop_part(rest);
        KeyParts {
            scheme: match scheme {
                0 => Scheme::Http,
                _ => Scheme::Https,
            },
            authority,
            path,
            query: (*has_query == 1).then_some(query),
        }
    }

    /// The encoded key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn push_part(key: &mut Vec<u8>, part: &[u8]) {
    // A request head is bounded far below 4 GiB.
    key.extend_from_slice(&(part.len() as u32).to_be_bytes());
    key.extend_from_slice(part);
}

const WELL_FORMED: &str = "a cache key is made by CacheKey::new only";

/// The first part of an encoded key, and what follows it.
fn pop_part(key: &[u8]) -> (&str, &[u8]) {
    let (length, rest) = key.split_first_chunk().expect(WELL_FORMED);
    let (part, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
    (std::str::from_utf8(part).expect(WELL_FORMED), rest)
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKey({})", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_authority_is_normalised_and_nothing_else() {
        let key = |authority: &str| CacheKey::new(Scheme::Http, authority, "/A", Some("b"));
        assert_eq!(key("Example.com:80"), key("example.com"));
        assert_ne!(key("example.com:443"), key("example.com"));
        assert_ne!(
            CacheKey::new(Scheme::Http, "h", "/A", None),
            CacheKey::new(Scheme::Http, "h", "/a", None)
        );
        assert_ne!(
            CacheKey::new(Scheme::Http, "h", "/a", None),
            CacheKey::new(Scheme::Http, "h", "/a", Some(""))
        );
    }

    proptest! {
        #[test]
        fn unequal_requests_have_unequal_keys(
            a in (any::<bool>(), "[a-c.]{0,3}", "/[ab/?]{0,3}", proptest::option::of("[ab?]{0,3}")),
            b in (any::<bool>(), "[a-c.]{0,3}", "/[ab/?]{0,3}", proptest::option::of("[ab?]{0,3}")),
        ) {
            let key = |(tls, authority, path, query): &(bool, String, String, Option<String>)| {
                let scheme = if *tls { Scheme::Https } else { Scheme::Http };
                CacheKey::new(scheme, authority, path, query.as_deref())
            };
            prop_assert_eq!(a == b, key(&a) == key(&b));
        }

        #[test]
        fn a_key_tells_what_it_was_made_of(
            tls in any::<bool>(), authority in "[a-c.:8]{0,4}", path in "/[ab/?]{0,3}",
            query in proptest::option::of("[ab?]{0,3}"), variant in proptest::option::of("[a-c]{0,3}"),
        ) {
            let scheme = if tls { Scheme::Https } else { Scheme::Http };
            let mut key = CacheKey::new(scheme, &authority, &path, query.as_deref());
            if let Some(variant) = variant {
                key = key.with_variant(|key| key.extend_from_slice(variant.as_bytes()));
            }
            let query = query.as_deref();
            let expected = KeyParts { scheme, authority: &authority, path: &path, query };
            prop_assert_eq!(key.parts(), expected);
        }
    }
}
