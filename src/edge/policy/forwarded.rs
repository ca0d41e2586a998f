//! Who the client is, from what trusted proxies say. Pure.
//!
//! Each proxy appends the address that it was connected from. Read from the end, every address that is a
//! trusted proxy's own vouches for the one before it; the first that is not is the client's, and what stands
//! further left is that client's own invention. Where the chain breaks off in something that is no address,
//! the last one that was vouched for counts.
//!
//! The scheme that the client used stands in `proto` of the element that is about it, or in
//! `X-Forwarded-Proto`, which goes with `X-Forwarded-For`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

use crate::cache::Scheme;
use crate::config::{ClientAddressField, Networks};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A client as trusted proxies tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardedClient {
    /// Its address.
    pub address: IpAddr,
    /// The scheme that it used towards the first of them; `None` when they do not say, or not clearly.
    pub scheme: Option<Scheme>,
}

/// The client of a request that the trusted proxy at `proxy` forwarded with `fields`.
pub fn forwarded_client(
    fields: &HeaderMap,
    field: ClientAddressField,
    trusted: &Networks,
    proxy: IpAddr,
) -> ForwardedClient {
    let mut client = ForwardedClient {
        address: proxy,
        scheme: None,
    };
    let mut vouch = |hop: Option<IpAddr>| {
        let Some(hop) = hop else { return false };
        client.address = hop;
        trusted.contains(hop)
    };
    match field {
        ClientAddressField::XForwardedFor => {
            let lines = fields.get_all(X_FORWARDED_FOR).iter().rev();
            let mut hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
            while hops
                .next()
                .is_some_and(|hop| vouch(address(hop.trim_ascii())))
            {}
            client.scheme = forwarded_proto(fields);
        }
        ClientAddressField::Forwarded => {
            let lines = fields.get_all(FORWARDED).iter().rev();
            let elements = lines.flat_map(|line| {
                // A line that is cut wrong vouches for nothing.
                let elements =
                    elements(line.as_bytes()).unwrap_or_else(|| vec![Element::default()]);
                elements.into_iter().rev()
            });
            let mut scheme = None;
            for element in elements {
                // Whoever wrote the element was vouched for, whether it names an address or not.
                scheme = element.scheme;
                if !vouch(element.node) {
                    break;
                }
            }
            client.scheme = scheme;
        }
    }
    client
}

/// What `X-Forwarded-Proto` says. Of several values it is open which hop each is about: they say nothing.
fn forwarded_proto(fields: &HeaderMap) -> Option<Scheme> {
    let mut lines = fields.get_all(X_FORWARDED_PROTO).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => scheme(line.as_bytes().trim_ascii()),
        _ => None,
    }
}

/// A scheme that is served here; schemes compare without case (RFC 3986 §3.1).
fn scheme(text: &[u8]) -> Option<Scheme> {
    let schemes = [Scheme::Http, Scheme::Https];
    let mut named = schemes.into_iter();
    named.find(|scheme| text.eq_ignore_ascii_case(scheme.as_str().as_bytes()))
}

/// An address, with a port or without, IPv6 in brackets or without.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bracketed = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    let parsed = text
        .parse::<Ipv4Addr>()
        .map(IpAddr::V4)
        .or_else(|_| text.parse::<Ipv6Addr>().map(IpAddr::V6))
        .ok()
        .or_else(bracketed)
        .or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()));
    parsed.map(|address| address.to_canonical())
}

/// What one proxy says in `Forwarded` (RFC 7239 §4).
#[derive(Debug, Clone, Copy, Default)]
struct Element {
    /// The address in `for`, if it names one.
    node: Option<IpAddr>,
    /// The scheme in `proto`, if it is one that is served here.
    scheme: Option<Scheme>,
}

/// The elements of a `Forwarded` line; `None` when its quotes or parameters are not well-formed.
fn elements(line: &[u8]) -> Option<Vec<Element>> {
    let mut elements = Vec::new();
    for element in split_outside_quotes(line, b',')? {
        let mut said = Element::default();
        let (mut has_for, mut has_proto) = (false, false);
        for pair in split_outside_quotes(element, b';')? {
            let pair = pair.trim_ascii();
            if pair.is_empty() {
                continue;
            }
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (&pair[..equals], unquoted(&pair[equals + 1..]));
            let repeated = if name.eq_ignore_ascii_case(b"for") {
                // IPv6 stands in brackets (RFC 7239 §6).
                said.node = value.and_then(address);
                std::mem::replace(&mut has_for, true)
            } else if name.eq_ignore_ascii_case(b"proto") {
                said.scheme = value.and_then(scheme);
                std::mem::replace(&mut has_proto, true)
            } else {
                false
            };
            if repeated {
                // Each parameter occurs at most once (RFC 7239 §4).
                return None;
            }
        }
        elements.push(said);
    }
    Some(elements)
}

/// A value without its quotes, in which every value with a colon stands (RFC 7239 §4); `None` for one that
/// is cut wrong. Escapes stay in it: no address and no scheme needs one.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    match value {
        [b'"', inner @ .., b'"'] => Some(inner),
        [b'"', ..] => None,
        token => Some(token),
    }
}

/// The parts between `separator`s that stand outside of quotes; `None` when a quote is not closed.
fn split_outside_quotes(text: &[u8], separator: u8) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if *byte == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const PROXY: &str = "10.0.0.1";

    fn trusted() -> Networks {
        let blocks = ["10.0.0.0/8", "fd00::/8"];
        let blocks = blocks.map(|block| block.parse::<crate::config::Network>().unwrap());
        blocks.into_iter().collect()
    }

    fn fields(name: HeaderName, lines: &[&[u8]]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(name.clone(), HeaderValue::from_bytes(line).unwrap());
        }
        fields
    }

    fn client_of(field: ClientAddressField, lines: &[&str]) -> String {
        let name = match field {
            ClientAddressField::XForwardedFor => X_FORWARDED_FOR,
            ClientAddressField::Forwarded => FORWARDED,
        };
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        let proxy = PROXY.parse().unwrap();
        let client = forwarded_client(&fields(name, &lines), field, &trusted(), proxy);
        client.address.to_string()
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxys_is_the_clients() {
        for (lines, client) in [
            (&[][..], PROXY),
            (&["192.0.2.7"], "192.0.2.7"),
            (&["203.0.113.1, 192.0.2.7"], "192.0.2.7"),
            (&["203.0.113.1", "192.0.2.7"], "192.0.2.7"),
            (&["203.0.113.1, 192.0.2.7, 10.9.9.9"], "192.0.2.7"),
            (&["192.0.2.7", "10.1.1.1,10.9.9.9"], "192.0.2.7"),
            (&["10.1.1.1, 10.9.9.9"], "10.1.1.1"),
            (&["192.0.2.7:4711"], "192.0.2.7"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["[2001:db8::7]:4711, fd00::1"], "2001:db8::7"),
            (&["::ffff:192.0.2.7"], "192.0.2.7"),
            (&["192.0.2.7, ::ffff:10.0.0.9"], "192.0.2.7"),
            // Broken off: who is vouched for last.
            (&["192.0.2.7, unknown"], PROXY),
            (&["192.0.2.7, unknown, 10.9.9.9"], "10.9.9.9"),
            (&["192.0.2.7,"], PROXY),
            (&["192.0.2.7, 10.9.9.9, "], PROXY),
            (&["192.0.2.07"], PROXY),
            (&["192.0.2.7 10.9.9.9"], PROXY),
            (&["\"192.0.2.7\""], PROXY),
        ] {
            let found = client_of(ClientAddressField::XForwardedFor, lines);
            assert_eq!(found, client, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (lines, client) in [
            (&["for=192.0.2.7"][..], "192.0.2.7"),
            (&["For=192.0.2.7;Proto=https;by=10.0.0.1"], "192.0.2.7"),
            (&["proto=https; for=\"192.0.2.7:4711\""], "192.0.2.7"),
            (&["for=\"[2001:db8::7]:4711\""], "2001:db8::7"),
            (&["for=203.0.113.1, for=192.0.2.7"], "192.0.2.7"),
            (&["for=192.0.2.7, for=10.9.9.9;host=\"a,b;c\""], "192.0.2.7"),
            (&["for=192.0.2.7", "for=10.9.9.9"], "192.0.2.7"),
            // Broken off.
            (&["for=192.0.2.7, proto=https"], PROXY),
            (&["for=192.0.2.7, for=unknown"], PROXY),
            (&["for=192.0.2.7, for=_hidden, for=10.9.9.9"], "10.9.9.9"),
            (&["for=192.0.2.7;for=10.9.9.9"], PROXY),
            (&["for=192.0.2.7, for=\"10.9.9.9"], PROXY),
            (&["for=\"192.0.2.\\7\""], PROXY),
            (&["for=192.0.2.7, 10.9.9.9"], PROXY),
            (&["for=\"x, for=192.0.2.7"], PROXY),
            (&["for=192.0.2.7;host=\"a"], PROXY),
        ] {
            let found = client_of(ClientAddressField::Forwarded, lines);
            assert_eq!(found, client, "{lines:?}");
        }
    }

    #[test]
    fn the_field_that_is_not_configured_means_nothing() {
        let both = |name: HeaderName, line: &'static str| fields(name, &[line.as_bytes()]);
        let proxy = PROXY.parse().unwrap();
        let found = |fields: HeaderMap, field| {
            let client = forwarded_client(&fields, field, &trusted(), proxy);
            (client.address, client.scheme)
        };
        let mut by_names = both(X_FORWARDED_FOR, "192.0.2.7");
        by_names.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
        assert_eq!(
            found(by_names, ClientAddressField::Forwarded),
            (proxy, None)
        );
        let forwarded = both(FORWARDED, "for=192.0.2.7;proto=https");
        let field = ClientAddressField::XForwardedFor;
        assert_eq!(found(forwarded, field), (proxy, None));
    }

    #[test]
    fn the_scheme_is_that_of_the_client_and_never_a_guess() {
        use ClientAddressField::{Forwarded, XForwardedFor};
        let (http, https) = (Some(Scheme::Http), Some(Scheme::Https));
        for (field, lines, scheme) in [
            (XForwardedFor, &[][..], None),
            (XForwardedFor, &["https"], https),
            (XForwardedFor, &[" HTTPS "], https),
            (XForwardedFor, &["http"], http),
            (XForwardedFor, &["https, http"], None),
            (XForwardedFor, &["https", "https"], None),
            (XForwardedFor, &["wss"], None),
            (XForwardedFor, &["\"https\""], None),
            (XForwardedFor, &[""], None),
            (Forwarded, &[], None),
            (Forwarded, &["for=192.0.2.7;proto=https"], https),
            (Forwarded, &["for=192.0.2.7;Proto=\"HTTP\""], http),
            (Forwarded, &["for=192.0.2.7"], None),
            // What stands before the client's own element is its invention.
            (
                Forwarded,
                &["for=203.0.113.1;proto=https, for=192.0.2.7"],
                None,
            ),
            (
                Forwarded,
                &["for=192.0.2.7;proto=https, for=10.9.9.9;proto=http"],
                https,
            ),
            (
                Forwarded,
                &["for=192.0.2.7;proto=https", "for=10.9.9.9;proto=http"],
                https,
            ),
            (
                Forwarded,
                &["for=10.1.1.1;proto=https, for=10.9.9.9;proto=http"],
                https,
            ),
            // A client that is not named.
            (Forwarded, &["proto=http, proto=https"], https),
            (
                Forwarded,
                &["for=192.0.2.7;proto=http, for=_hidden;proto=https"],
                https,
            ),
            (Forwarded, &["for=192.0.2.7;proto=ftp"], None),
            (Forwarded, &["for=192.0.2.7;proto=https;proto=https"], None),
            (Forwarded, &["for=192.0.2.7;proto=\"https"], None),
            (Forwarded, &["for=192.0.2.7;proto=\"ht\\tps\""], None),
        ] {
            let name = match field {
                XForwardedFor => X_FORWARDED_PROTO,
                Forwarded => FORWARDED,
            };
            let bytes: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            let proxy = PROXY.parse().unwrap();
            let client = forwarded_client(&fields(name, &bytes), field, &trusted(), proxy);
            assert_eq!(client.scheme, scheme, "{field:?} {lines:?}");
        }
    }

    proptest! {
        /// What a client writes before its proxies append what they see changes nothing.
        #[test]
        fn nothing_in_front_of_the_client_counts(
            invention in "[ -~]{0,40}",
            hops in proptest::collection::vec(0_u8..=255, 0..4),
        ) {
            let mut chain = "192.0.2.7".to_owned();
            for hop in &hops {
                chain.push_str(&format!(", 10.0.1.{hop}"));
            }
            let forged = format!("{invention}, {chain}");
            let found = client_of(ClientAddressField::XForwardedFor, &[&forged]);
            prop_assert_eq!(found, "192.0.2.7");
            let found = client_of(ClientAddressField::XForwardedFor, &[&invention, &chain]);
            prop_assert_eq!(found, "192.0.2.7");
        }
    }
}
