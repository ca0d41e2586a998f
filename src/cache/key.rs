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
    }
}
