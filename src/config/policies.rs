//! The checked values of the gate's policies: who may come in, how often, and what is said to
//! browsers. All of them are off unless they are given.

use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::network::Networks;

/// Whose word is taken for where a client is.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// `edge.trusted_proxies`; empty = nobody.
    pub proxies: Networks,
    /// `edge.client_address_field`.
    pub field: ClientAddressField,
}

/// `edge.client_address_field`: the one field that trusted proxies name their client in.
///
/// One and not both: a proxy that writes one of them passes the other on as its client sent it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAddressField {
    /// `x-forwarded-for` (default).
    #[default]
    XForwardedFor,
    /// `forwarded` (RFC 7239).
    Forwarded,
}

/// `edge.listeners[].proxy_protocol`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// `off` (default): connections begin with TLS or HTTP.
    #[default]
    Off,
    /// `required`: connections come from `edge.trusted_proxies` only and begin with a header of the PROXY
    /// protocol, version 1 or 2.
    Required,
}

/// `edge.listeners[].tls.client_certificates`: clients show who they are in the handshake (RFC 8446 §4.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// `ca_file`: PEM certificates of the authorities that clients' certificates come from.
    pub ca_file: PathBuf,
    /// `required`: whether a client without one is turned away, default true.
    pub required: bool,
    /// `forward_as`: the request field in which the origin gets the subject; absent = it does not.
    pub forward_as: Option<HeaderName>,
}

/// `allow` and `deny` of a listener or a route. What is in `deny` is kept out; where there is an `allow`, so
/// is what is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// `allow`; absent = everybody.
    pub allow: Option<Networks>,
    /// `deny`; empty = nobody.
    pub deny: Networks,
}

impl AddressRules {
    /// Whether a client at `address` may come in.
    pub fn admit(&self, address: std::net::IpAddr) -> bool {
        !self.deny.contains(address)
            && self
                .allow
                .as_ref()
                .is_none_or(|allow| allow.contains(address))
    }

    /// Whether everybody may.
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }
}

/// `edge.listeners[].limits`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerLimits {
    /// `connections`: open at a time; absent = no limit.
    pub connections: Option<usize>,
    /// `connections_per_client`: open at a time, of one client; absent = no limit.
    pub connections_per_client: Option<usize>,
    /// `requests_per_client`; absent = no limit.
    pub requests_per_client: Option<RequestLimit>,
}

/// `edge.routes[].limits`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// `requests_per_client`; absent = no limit.
    pub requests_per_client: Option<RequestLimit>,
    /// `request_body` in bytes; absent = no limit.
    pub request_body_bytes: Option<u64>,
}

/// `edge.limits.min_receive_rate` and `min_send_rate`: how slow a client may be, on average over the time
/// that is spent waiting for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinRate {
    /// `bytes` per second.
    pub bytes: NonZeroU64,
    /// `patience`: how long it may do nothing at all; default 10s.
    pub patience: Duration,
}

/// `requests_per_client` of a listener or a route: a token bucket for each client, which is an IPv4
/// address or an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimit {
    /// `rate`, as the time in which one request is earned.
    pub interval: Duration,
    /// `burst`: requests that may come at once, at least one.
    pub burst: u32,
}

/// `edge.routes[].cors`: the edge answers for the origin what browsers ask about other origins (Fetch
/// standard, "CORS protocol"). What the origin says of that itself is not passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// `origins`: who may read responses.
    pub origins: Listed<CorsOrigin>,
    /// `methods`: default [GET, HEAD].
    pub methods: Vec<Method>,
    /// `headers`: request fields that scripts may send; absent = those that need no permission.
    pub headers: Listed<HeaderName>,
    /// `expose`: response fields that scripts may read; absent = those that need no permission.
    pub expose: Vec<HeaderName>,
    /// `credentials`: whether cookies and the like may go along; default false. Never with all origins.
    pub credentials: bool,
    /// `max_age`: how long a browser may remember a preflight, default 10m.
    pub max_age: Duration,
}

/// All there are, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed<T> {
    /// `'*'`.
    All,
    /// These.
    These(Vec<T>),
}

/// An origin as browsers spell it, or all below one domain: `https://a.example`, `https://*.a.example:8443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsOrigin {
    /// With what it begins: all of it, or what stands before the star.
    start: String,
    /// What stands behind the star.
    end: Option<String>,
}

impl CorsOrigin {
    /// Reads one; `None` when no browser would ever send it.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let default_port = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return None,
        };
        let host_of = |authority: &str| {
            let host = authority.strip_prefix("*.").unwrap_or(authority).to_owned();
            match host.rsplit_once(':') {
                Some((host, port)) if !port.ends_with(']') => {
                    let number = port.parse::<u16>().is_ok_and(|number| number > 0);
                    let plain = !port.starts_with(['0', '+']);
                    (number && plain).then(|| host.to_owned())
                }
                _ => Some(host),
            }
        };
        let host = host_of(authority)?;
        let lower_case = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        if !lower_case
            || !super::parsers::is_server_host(&host)
            || authority.ends_with(default_port)
        {
            return None;
        }
        Some(match authority.strip_prefix('*') {
            None => CorsOrigin {
                start: text.to_owned(),
                end: None,
            },
            Some(end) => CorsOrigin {
                start: format!("{scheme}://"),
                end: Some(end.to_owned()),
            },
        })
    }

    /// Whether this is the `Origin` of a request.
    pub fn matches(&self, origin: &[u8]) -> bool {
        let Some(end) = &self.end else {
            return origin == self.start.as_bytes();
        };
        let label = origin
            .strip_prefix(self.start.as_bytes())
            .and_then(|rest| rest.strip_suffix(end.as_bytes()));
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        label.is_some_and(|label| !label.is_empty() && label.iter().all(fits))
    }

    /// The one origin that it stands for; `None` when there may be many.
    pub fn only(&self) -> Option<&str> {
        match self.end {
            None => Some(&self.start),
            Some(_) => None,
        }
    }
}

impl fmt::Display for CorsOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.start)?;
        match &self.end {
            Some(end) => write!(f, "*{end}"),
            None => Ok(()),
        }
    }
}

/// `response_headers` or `request_headers` of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// `set`: in place of what is there; default {}.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// `add`: besides what is there; default {}.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// `remove`; absent = none.
    pub remove: Vec<HeaderName>,
}

impl HeaderEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// Who a field belongs to that no edit may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldOwner {
    /// Hop-by-hop (RFC 9110 §7.6.1).
    Connection,
    /// It tells where a message ends, or which part of a body it is.
    Framing,
    /// The cache computes it, or decides by it what is the same.
    Cache,
    /// It tells the origin whom the edge serves, or the client who answered.
    Edge,
    /// `cors` of the same route.
    Cors,
}

impl fmt::Display for FieldOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FieldOwner::Connection => "it belongs to one connection",
            FieldOwner::Framing => "it frames the message",
            FieldOwner::Cache => "the cache owns it",
            FieldOwner::Edge => "the edge says it itself",
            FieldOwner::Cors => "cors of this route says it",
        })
    }
}

/// Who owns `name` in every message.
fn owner_everywhere(name: &str) -> Option<FieldOwner> {
    Some(match name {
        "connection"
        | "keep-alive"
        | "proxy-authenticate"
        | "proxy-authentication-info"
        | "proxy-authorization"
        | "proxy-connection"
        | "te"
        | "trailer"
        | "upgrade" => FieldOwner::Connection,
        "content-length" | "transfer-encoding" => FieldOwner::Framing,
        "via" | "x-request-id" => FieldOwner::Edge,
        _ => return None,
    })
}

/// Who owns `name` in responses; `None`: an operator may change it.
pub(super) fn response_field_owner(name: &str, has_cors: bool) -> Option<FieldOwner> {
    Some(match name {
        // A response to several ranges has a type of its own.
        "content-range" | "content-type" | "content-encoding" => FieldOwner::Framing,
        "age" | "cache-status" | "date" | "etag" | "last-modified" | "vary" => FieldOwner::Cache,
        _ if has_cors && name.starts_with("access-control-") => FieldOwner::Cors,
        _ => return owner_everywhere(name),
    })
}

/// Who owns `name` in requests to the origin; `None`: an operator may change it.
pub(super) fn request_field_owner(name: &str) -> Option<FieldOwner> {
    Some(match name {
        "content-encoding" | "content-type" | "expect" => FieldOwner::Framing,
        "if-match"
        | "if-modified-since"
        | "if-none-match"
        | "if-range"
        | "if-unmodified-since"
        | "range"
        | "surrogate-capability" => FieldOwner::Cache,
        "host" | "forwarded" | "x-forwarded-for" | "x-forwarded-proto" => FieldOwner::Edge,
        _ => return owner_everywhere(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_spelled_as_browsers_send_them() {
        for text in [
            "https://a.example",
            "http://localhost:8080",
            "https://a.example:8443",
            "http://127.0.0.1:80/x".strip_suffix(":80/x").unwrap(),
            "http://[::1]:8080",
            "http://[::1]",
            "https://*.a.example",
            "https://*.a.example:8443",
        ] {
            assert_eq!(
                CorsOrigin::read(text).map(|origin| origin.to_string()),
                Some(text.to_owned())
            );
        }
        for text in [
            "a.example",
            "https://",
            "https://a.example/",
            "https://A.example",
            "https://a.example:443",
            "http://a.example:80",
            "https://a.example:0",
            "https://a.example:08443",
            "https://a.example:+8443",
            "https://a.example:",
            "https://*",
            "https://*a.example",
            "https://a.*.example",
            "*",
            "null",
            "file://",
            "ftp://a.example",
        ] {
            assert_eq!(CorsOrigin::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_star_stands_for_what_is_below_and_for_nothing_else() {
        for (pattern, origin, expected) in [
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "https://A.example", false),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example.evil.example", false),
            ("https://*.a.example", "https://b.a.example", true),
            ("https://*.a.example", "https://c.b.a.example", true),
            ("https://*.a.example", "https://a.example", false),
            ("https://*.a.example", "https://.a.example", false),
            ("https://*.a.example", "https://evila.example", false),
            ("https://*.a.example", "https://b.a.example:8443", false),
            ("https://*.a.example", "http://b.a.example", false),
            (
                "https://*.a.example",
                "https://evil.example/.a.example",
                false,
            ),
            (
                "https://*.a.example",
                "https://evil.example:1@b.a.example",
                false,
            ),
            ("https://*.a.example:8443", "https://b.a.example:8443", true),
        ] {
            let found = CorsOrigin::read(pattern)
                .unwrap()
                .matches(origin.as_bytes());
            assert_eq!(found, expected, "{pattern} {origin}");
        }
    }
}
