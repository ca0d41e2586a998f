//! Which fields travel: hop-by-hop fields, fields of one message only, fields that poison caches.

use std::time::SystemTime;

use http::HeaderMap;
use http::header::{
    AGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderName,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use super::cache_control::{ResponseDirectives, list_items};
use super::http_date;

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// Request fields that change what is asked for behind the back of routing, signatures and cache key:
/// they are never forwarded (field hazard "unkeyed headers").
pub const UNKEYED: [&str; 8] = [
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// Request fields from which origins read whom they serve. Only what the edge itself says of that is
/// forwarded, in `X-Forwarded-For` and `X-Forwarded-Proto`.
const CLAIMS: [&str; 9] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-real-ip",
];

/// Removes, of a request that is passed on, what would change its meaning behind the back of routing and
/// signatures, and what claims to tell who sent it.
pub fn remove_claims(fields: &mut HeaderMap) {
    remove_named(fields, |name| {
        UNKEYED.contains(&name) || CLAIMS.contains(&name) || name.starts_with("x-forwarded-")
    });
}

fn remove_named(fields: &mut HeaderMap, is_removed: impl Fn(&str) -> bool) {
    let removed: Vec<HeaderName> = fields
        .keys()
        .filter(|name| is_removed(name.as_str()))
        .cloned()
        .collect();
    for name in removed {
        fields.remove(name);
    }
}

/// Removes what concerns this connection only (RFC 9110 §7.6.1), including every field that
/// `Connection` lists.
pub fn remove_hop_by_hop(fields: &mut HeaderMap) {
    let listed: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| list_items(value.as_bytes()))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    for name in listed {
        fields.remove(name);
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        fields.remove(name);
    }
}

/// Keeps of a response's fields what a cache stores (RFC 9111 §3.1): no hop-by-hop field, and
/// nothing that describes this one message (length, age), which delivery computes anew.
pub fn stored(mut fields: HeaderMap) -> HeaderMap {
    remove_hop_by_hop(&mut fields);
    for name in [
        AGE,
        CONTENT_LENGTH,
        PROXY_AUTHENTICATE,
        PROXY_AUTHENTICATION_INFO,
        PROXY_AUTHORIZATION,
    ] {
        fields.remove(name);
    }
    fields
}

/// Takes out the fields that `no-cache` or `private` keep from other clients
/// (RFC 9111 §5.2.2.4, §5.2.2.7).
pub fn withhold(fields: &mut HeaderMap, directives: &ResponseDirectives) -> HeaderMap {
    let mut withheld = HeaderMap::new();
    for name in directives.withheld() {
        for value in fields.get_all(name) {
            withheld.append(name.clone(), value.clone());
        }
        fields.remove(name);
    }
    withheld
}

/// Gives a response that came without a `Date` the time at which it was received (RFC 9110 §6.6.1).
pub fn date(fields: &mut HeaderMap, received: SystemTime) {
    if !fields.contains_key(DATE) {
        fields.extend(http_date::value(received).map(|value| (DATE, value)));
    }
}

/// Takes the fields of a 304, or of a 200 to a HEAD, into a stored response (RFC 9111 §3.2, §4.3.4):
/// each field it names replaces the stored one, except those on which the integrity of the stored
/// bytes rests.
pub fn freshen(stored_fields: &HeaderMap, validation: HeaderMap) -> HeaderMap {
    let mut fields = stored_fields.clone();
    let update = stored(validation);
    let kept = [CONTENT_ENCODING, CONTENT_MD5, CONTENT_RANGE, ETAG];
    for name in update.keys() {
        if !kept.contains(name) {
            fields.remove(name);
        }
    }
    for (name, value) in &update {
        if !kept.contains(name) {
            fields.append(name.clone(), value.clone());
        }
    }
    fields
}

/// Removes request fields that would let one client shape what others are served: [`UNKEYED`], and
/// whatever proxies and frameworks read an address, a host, a scheme or a path from.
pub fn remove_unkeyed(fields: &mut HeaderMap) {
    remove_named(fields, is_unkeyed);
}

fn is_unkeyed(name: &str) -> bool {
    const PREFIXES: [&str; 6] = [
        "x-forwarded-",
        "x-invoke-",
        "x-middleware-",
        "x-original-",
        "x-override-",
        "x-rewrite-",
    ];
    const NAMES: [&str; 11] = [
        "base-url",
        "front-end-https",
        "max-forwards",
        "proxy",
        "via",
        "x-amz-website-redirect-location",
        "x-host",
        "x-http-host-override",
        "x-url-scheme",
        "surrogate-capability",
        "tidegate-debug",
    ];
    UNKEYED.contains(&name)
        || CLAIMS.contains(&name)
        || NAMES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_fields::fields;

    #[test]
    fn fields_listed_by_connection_are_never_stored() {
        let kept = stored(fields(&[
            ("connection", "keep-alive, X-Hop"),
            ("connection", "x-other"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("age", "3"),
            ("content-length", "10"),
            ("content-type", "text/plain"),
        ]));
        assert_eq!(kept, fields(&[("content-type", "text/plain")]));
    }

    #[test]
    fn fields_that_other_clients_must_not_see_are_set_apart() {
        let mut all = fields(&[
            (
                "cache-control",
                "max-age=9, no-cache=\"x-a\", private=\"Set-Cookie\"",
            ),
            ("x-a", "1"),
            ("x-a", "2"),
            ("set-cookie", "a=b"),
            ("x-b", "3"),
        ]);
        let directives = ResponseDirectives::of(&all);
        let withheld = withhold(&mut all, &directives);
        let apart = fields(&[("x-a", "1"), ("x-a", "2"), ("set-cookie", "a=b")]);
        assert_eq!(withheld, apart);
        assert!(!all.contains_key("x-a") && !all.contains_key("set-cookie"));
        assert!(all.contains_key("x-b"));
    }

    #[test]
    fn a_304_updates_what_does_not_describe_the_stored_bytes() {
        let stored_fields = fields(&[
            ("etag", "\"a\""),
            ("content-type", "text/plain"),
            ("cache-control", "max-age=1"),
            ("x-old", "1"),
            ("x-two", "1"),
        ]);
        let validation = fields(&[
            ("etag", "W/\"a\""),
            ("content-type", "text/html"),
            ("cache-control", "max-age=9"),
            ("x-two", "2"),
            ("x-two", "3"),
            ("content-encoding", "gzip"),
            ("content-range", "bytes 0-1/2"),
            ("content-length", "0"),
            ("connection", "close"),
        ]);
        let expected = fields(&[
            ("etag", "\"a\""),
            ("content-type", "text/html"),
            ("cache-control", "max-age=9"),
            ("x-old", "1"),
            ("x-two", "2"),
            ("x-two", "3"),
        ]);
        assert_eq!(freshen(&stored_fields, validation), expected);
    }
}
