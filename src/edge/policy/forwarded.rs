//! Who the client is, from what trusted proxies say. Pure.
//!
//! Each proxy appends the address that it was connected from. Read from the end, every address that is a
//! trusted proxy's own vouches for the one before it; the first that is not is the client's, and what stands
//! further left is that client's own invention. Where the chain breaks off in something that is no address,
//! the last one that was vouched for counts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

use crate::config::{ClientAddressField, Networks};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client of a request that the trusted proxy at `proxy` forwarded with `fields`.
pub fn client_address(
    fields: &HeaderMap,
    field: ClientAddressField,
    trusted: &Networks,
    proxy: IpAddr,
) -> IpAddr {
    let mut client = proxy;
    let mut vouch = |hop: Option<IpAddr>| {
        let Some(hop) = hop else { return false };
        client = hop;
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
        }
        ClientAddressField::Forwarded => {
            let lines = fields.get_all(FORWARDED).iter().rev();
            let mut hops = lines.flat_map(|line| {
                // A line that is cut wrong vouches for nothing.
                let hops = forwarded_hops(line.as_bytes()).unwrap_or_else(|| vec![None]);
                hops.into_iter().rev()
            });
            while hops.next().is_some_and(&mut vouch) {}
        }
    }
    client
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

/// The `for` of each element of a `Forwarded` line (RFC 7239 §4); `None` for one that has none or names no
/// address. `None` for the line when its quotes or parameters are not well-formed.
fn forwarded_hops(line: &[u8]) -> Option<Vec<Option<IpAddr>>> {
    let mut hops = Vec::new();
    for element in split_outside_quotes(line, b',')? {
        let mut hop = None;
        let mut named = false;
        for pair in split_outside_quotes(element, b';')? {
            let pair = pair.trim_ascii();
            if pair.is_empty() {
                continue;
            }
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (&pair[..equals], &pair[equals + 1..]);
            if name.eq_ignore_ascii_case(b"for") {
                if named {
                    // Each parameter occurs at most once (RFC 7239 §4).
                    return None;
                }
                named = true;
                hop = node_address(value);
            }
        }
        hops.push(hop);
    }
    Some(hops)
}

/// The address of a node (RFC 7239 §6): IPv6 stands in brackets and, as every value with a colon, in quotes.
fn node_address(value: &[u8]) -> Option<IpAddr> {
    let value = match value {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => inner,
        [b'"', ..] => return None,
        token => token,
    };
    address(value)
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
        client_address(&fields(name, &lines), field, &trusted(), proxy).to_string()
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
        ] {
            let found = client_of(ClientAddressField::Forwarded, lines);
            assert_eq!(found, client, "{lines:?}");
        }
    }

    #[test]
    fn the_field_that_is_not_configured_means_nothing() {
        let both = |name: HeaderName, line: &'static str| fields(name, &[line.as_bytes()]);
        let proxy = PROXY.parse().unwrap();
        let xff = both(X_FORWARDED_FOR, "192.0.2.7");
        let found = client_address(&xff, ClientAddressField::Forwarded, &trusted(), proxy);
        assert_eq!(found, proxy);
        let forwarded = both(FORWARDED, "for=192.0.2.7");
        let field = ClientAddressField::XForwardedFor;
        assert_eq!(client_address(&forwarded, field, &trusted(), proxy), proxy);
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
