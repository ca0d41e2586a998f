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
    without_default_port(scheme, authority).to_ascii_lowercase()
}

fn without_default_port(scheme: Scheme, authority: &str) -> &str {
    authority
        .strip_suffix(scheme.default_port())
        .unwrap_or(authority)
}

/// Scheme, authority, path and query, each with its length before it, so that unequal parts can
/// never make equal keys. Path and query are the bytes that are forwarded, except that the
/// parameters of a presignature are left out: all signers share one stored response.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey(Arc<[u8]>);

impl CacheKey {
    /// The primary key of a GET or HEAD. `path` and `query` are raw; `query` is already without
    /// signature parameters.
    pub fn new(scheme: Scheme, authority: &str, path: &str, query: Option<&str>) -> Self {
        let authority = without_default_port(scheme, authority);
        // The lengths of three parts and two bytes more.
        let capacity = authority.len() + path.len() + query.map_or(0, str::len) + 14;
        let mut key = Vec::with_capacity(capacity);
        key.push(match scheme {
            Scheme::Http => 0,
            Scheme::Https => 1,
        });
        push_part(&mut key, authority.as_bytes());
        let authority_starts = key.len() - authority.len();
        key[authority_starts..].make_ascii_lowercase();
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

    /// The primary key that was encoded as `bytes` (see [`CacheKey::as_bytes`]), from a file, say.
    ///
    /// # Errors
    /// Unless [`CacheKey::new`] makes exactly these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAKey> {
        let refused = NotAKey { bytes: bytes.len() };
        let (parts, _) = read_parts(bytes).ok_or(refused)?;
        let key = Self::new(parts.scheme, parts.authority, parts.path, parts.query);
        if *key.0 == *bytes {
            Ok(key)
        } else {
            Err(refused)
        }
    }

    /// What the key was made of; of a variant's key, what its primary key was made of.
    pub fn parts(&self) -> KeyParts<'_> {
        read_parts(&self.0).expect(WELL_FORMED).0
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

/// Bytes that are no encoded primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these {bytes} bytes are no cache key")]
pub struct NotAKey {
    /// How many they are.
    pub bytes: usize,
}

/// The parts of an encoded primary key, and what follows them.
fn read_parts(key: &[u8]) -> Option<(KeyParts<'_>, &[u8])> {
    let (scheme, rest) = key.split_first()?;
    let (authority, rest) = read_part(rest)?;
    let (path, rest) = read_part(rest)?;
    let (has_query, rest) = rest.split_first()?;
    let (query, rest) = read_part(rest)?;
    let parts = KeyParts {
        scheme: match scheme {
            0 => Scheme::Http,
            1 => Scheme::Https,
            _ => return None,
        },
        authority,
        path,
        query: (*has_query == 1).then_some(query),
    };
    Some((parts, rest))
}

/// The first part of an encoded key, and what follows it.
fn read_part(key: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = key.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (part, rest) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(part).ok()?, rest))
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

    #[test]
    fn bytes_that_no_key_has_are_refused() {
        let key = CacheKey::new(Scheme::Https, "h:1", "/é", Some("q"));
        let bytes = key.as_bytes();
        assert_eq!(CacheKey::from_bytes(bytes), Ok(key.clone()));
        for length in 0..bytes.len() {
            let refused = NotAKey { bytes: length };
            assert_eq!(CacheKey::from_bytes(&bytes[..length]), Err(refused));
        }
        let query_at = bytes.len() - 6;
        for (what, at, byte) in [
            ("scheme", 0, 2),
            ("a length beyond the end", 1, 0xff),
            ("an authority in upper case", 5, b'H'),
            ("not UTF-8", 13, 0xff),
            ("a query that there is not", query_at, 0),
            ("neither a query nor none", query_at, 2),
        ] {
            let mut other = bytes.to_vec();
            assert_ne!(other[at], byte);
            other[at] = byte;
            assert!(CacheKey::from_bytes(&other).is_err(), "{what}");
        }
        let variant = key.with_variant(|key| key.push(1));
        assert!(CacheKey::from_bytes(variant.as_bytes()).is_err());
        let default_port = [&[1, 0, 0, 0, 5], &b"h:443"[..], &[0; 9]].concat();
        assert!(CacheKey::from_bytes(&default_port).is_err());
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
            let is_primary = variant.is_none();
            if let Some(variant) = variant {
                key = key.with_variant(|key| key.extend_from_slice(variant.as_bytes()));
            }
            prop_assert_eq!(CacheKey::from_bytes(key.as_bytes()).is_ok(), is_primary);
            let query = query.as_deref();
            let expected = KeyParts { scheme, authority: &authority, path: &path, query };
            prop_assert_eq!(key.parts(), expected);
        }
    }
}
