//! The header of the PROXY protocol, versions 1 and 2 (haproxy.org, `proxy-protocol.txt`). Pure.
//!
//! Read more strictly than the specification asks for, since it decides who a client is: numbers without
//! leading zeros or signs, extensions that end where the header does, a checksum that is right when there is
//! one. Nothing behind the header is looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How every header of version 2 begins.
pub const SIGNATURE_V2: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// How every header of version 1 begins.
const START_V1: &[u8] = b"PROXY ";

/// The longest header of version 1, with its CRLF.
const LONGEST_V1: usize = 107;

/// What stands before the addresses of version 2.
const FIXED_V2: usize = 16;

/// The longest header of version 2 that is read: addresses, and extensions for which no proxy needs more.
const LONGEST_V2: usize = 4096;

/// The type of the extension that holds a CRC-32C of the header.
const EXTENSION_CHECKSUM: u8 = 0x03;

/// A header, read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client; `None` when the proxy speaks for itself (a health check) or does not know.
    pub client: Option<IpAddr>,
    /// The bytes that the header takes.
    pub bytes: usize,
}

/// What comes is no such header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderFault {
    /// It begins like neither version.
    #[error("the connection does not begin with a PROXY header")]
    NotAHeader,
    /// No end within the longest header there may be.
    #[error("the PROXY header is too long")]
    TooLong,
    /// A version, command, address family or transport that HTTP does not come by.
    #[error("the PROXY header announces what is not served here")]
    Unsupported,
    /// Addresses or ports that are none.
    #[error("the PROXY header's addresses are invalid")]
    Addresses,
    /// Extensions that do not end where the header does, or a checksum that is wrong.
    #[error("the PROXY header's extensions are invalid")]
    Extensions,
}

/// Reads the header that `bytes` begin with; `None` while more is needed to tell.
///
/// # Errors
/// [`ProxyHeaderFault`], as soon as it is clear.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderFault> {
    if begins_like(bytes, START_V1) {
        parse_v1(bytes)
    } else if begins_like(bytes, &SIGNATURE_V2) {
        parse_v2(bytes)
    } else {
        Err(ProxyHeaderFault::NotAHeader)
    }
}

/// Whether `bytes`, as far as they have come, are those of `start`.
fn begins_like(bytes: &[u8], start: &[u8]) -> bool {
    let common = bytes.len().min(start.len());
    bytes[..common] == start[..common]
}

fn parse_v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderFault> {
    let within = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return match bytes.len() < LONGEST_V1 {
            true => Ok(None),
            false => Err(ProxyHeaderFault::TooLong),
        };
    };
    let line = within[..end]
        .strip_suffix(b"\r")
        .and_then(|line| line.strip_prefix(START_V1))
        .and_then(|line| std::str::from_utf8(line).ok())
        .ok_or(ProxyHeaderFault::Addresses)?;
    let bytes = end + 1;
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // "The receiver must ignore anything presented before the CRLF is found."
        return Ok(Some(ProxyHeader {
            client: None,
            bytes,
        }));
    }
    if family != "TCP4" && family != "TCP6" {
        return Err(ProxyHeaderFault::Unsupported);
    }
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            _ => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        }
    };
    let (source, destination) = (address(), address());
    let ports = [words.next(), words.next()];
    let ports = ports.map(|port| port.filter(|port| is_port(port)));
    match (source, destination, ports, words.next()) {
        (Some(source), Some(_), [Some(_), Some(_)], None) => Ok(Some(ProxyHeader {
            client: Some(source.to_canonical()),
            bytes,
        })),
        _ => Err(ProxyHeaderFault::Addresses),
    }
}

fn is_port(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits && (text == "0" || !text.starts_with('0')) && text.parse::<u16>().is_ok()
}

fn parse_v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderFault> {
    let Some(fixed) = bytes.first_chunk::<FIXED_V2>() else {
        return Ok(None);
    };
    let [.., version_command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let end = FIXED_V2 + length;
    let is_local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyHeaderFault::Unsupported),
    };
    let addresses = match (is_local, family) {
        // Whatever it says there, it means nothing.
        (true, _) => None,
        (false, 0x00) => Some(0),
        (false, 0x11) => Some(12),
        (false, 0x21) => Some(36),
        (false, 0x31) => Some(216),
        (false, _) => return Err(ProxyHeaderFault::Unsupported),
    };
    if end > LONGEST_V2 {
        return Err(ProxyHeaderFault::TooLong);
    }
    if addresses.is_some_and(|addresses| addresses > length) {
        return Err(ProxyHeaderFault::Addresses);
    }
    let Some(header) = bytes.get(..end) else {
        return Ok(None);
    };
    let rest = &header[FIXED_V2..];
    let client = match family {
        _ if is_local => None,
        0x11 => rest.first_chunk::<4>().copied().map(IpAddr::from),
        0x21 => rest.first_chunk::<16>().copied().map(IpAddr::from),
        _ => None,
    };
    if let Some(addresses) = addresses {
        check_extensions(header, FIXED_V2 + addresses)?;
    }
    Ok(Some(ProxyHeader {
        client: client.map(|client| client.to_canonical()),
        bytes: end,
    }))
}

/// Walks the extensions from `at` on.
fn check_extensions(header: &[u8], mut at: usize) -> Result<(), ProxyHeaderFault> {
    while at < header.len() {
        let Some([kind, high, low]) = header[at..].first_chunk::<3>().copied() else {
            return Err(ProxyHeaderFault::Extensions);
        };
        let value = at + 3;
        let end = value + usize::from(u16::from_be_bytes([high, low]));
        let Some(bytes) = header.get(value..end) else {
            return Err(ProxyHeaderFault::Extensions);
        };
        if kind == EXTENSION_CHECKSUM && !is_checksum(header, value, bytes) {
            return Err(ProxyHeaderFault::Extensions);
        }
        at = end;
    }
    Ok(())
}

/// Whether `sum`, which lies at `at`, is the CRC-32C of the header with zeros in its own place.
fn is_checksum(header: &[u8], at: usize, sum: &[u8]) -> bool {
    let Ok(sum) = <[u8; 4]>::try_from(sum) else {
        return false;
    };
    let mut zeroed = header.to_vec();
    zeroed[at..at + 4].fill(0);
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &zeroed)
        == u64::from(u32::from_be_bytes(sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header of version 2.
    fn v2(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE_V2.to_vec();
        header.extend([version_command, family]);
        header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        header.extend(rest);
        header
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 1, 0xc3, 0x50, 0x01, 0xbb];

    #[test]
    fn headers_of_version_1_name_their_client() {
        for (line, client) in [
            (
                "PROXY TCP4 192.0.2.7 192.0.2.1 50000 443\r\n",
                Some("192.0.2.7"),
            ),
            (
                "PROXY TCP4 192.0.2.7 192.0.2.1 0 65535\r\n",
                Some("192.0.2.7"),
            ),
            (
                "PROXY TCP6 2001:db8::7 2001:db8::1 50000 443\r\n",
                Some("2001:db8::7"),
            ),
            (
                "PROXY TCP6 ::ffff:192.0.2.7 ::1 50000 443\r\n",
                Some("192.0.2.7"),
            ),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n", None),
        ] {
            let client = client.map(|client| client.parse().unwrap());
            let expected = Ok(Some(ProxyHeader {
                client,
                bytes: line.len(),
            }));
            assert_eq!(parse(line.as_bytes()), expected, "{line}");
            let followed = format!("{line}GET / HTTP/1.1\r\n");
            assert_eq!(parse(followed.as_bytes()), expected, "{line}");
            for cut in 0..line.len() {
                assert_eq!(
                    parse(&line.as_bytes()[..cut]),
                    Ok(None),
                    "{line} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_header_of_version_1_is_refused() {
        use ProxyHeaderFault::{Addresses, NotAHeader, TooLong, Unsupported};
        let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(92));
        for (line, fault) in [
            ("GET / HTTP/1.1\r\n", NotAHeader),
            ("proxy TCP4 192.0.2.7 192.0.2.1 50000 443\r\n", NotAHeader),
            ("PROXY  TCP4 192.0.2.7 192.0.2.1 50000 443\r\n", Unsupported),
            ("PROXY UDP4 192.0.2.7 192.0.2.1 50000 443\r\n", Unsupported),
            ("PROXY UNKNOWNS\r\n", Unsupported),
            ("PROXY \r\n", Unsupported),
            ("PROXY TCP4 192.0.2.7 192.0.2.1 50000 443\n", Addresses),
            ("PROXY TCP4 192.0.2.7 192.0.2.1 50000\r\n", Addresses),
            ("PROXY TCP4 192.0.2.7 192.0.2.1 50000 443 \r\n", Addresses),
            ("PROXY TCP4 192.0.2.7  192.0.2.1 50000 443\r\n", Addresses),
            ("PROXY TCP4 192.0.2.07 192.0.2.1 50000 443\r\n", Addresses),
            ("PROXY TCP4 192.0.2.7 192.0.2.1 050000 443\r\n", Addresses),
            ("PROXY TCP4 192.0.2.7 192.0.2.1 +5 443\r\n", Addresses),
            ("PROXY TCP4 192.0.2.7 192.0.2.1 65536 443\r\n", Addresses),
            (
                "PROXY TCP4 2001:db8::7 2001:db8::1 50000 443\r\n",
                Addresses,
            ),
            ("PROXY TCP6 192.0.2.7 192.0.2.1 50000 443\r\n", Addresses),
            ("PROXY TCP4 192.0.2.7 192.0.2.1 50000 443\r\r\n", Addresses),
            (&long, TooLong),
            // Nothing that comes can end it in time.
            (&long[..107], TooLong),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(fault), "{line}");
        }
        assert_eq!(parse(&long.as_bytes()[..106]), Ok(None));
    }

    #[test]
    fn headers_of_version_2_name_their_client() {
        let mut v6 = [0_u8; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        let extended = [&V4[..], &[0x04, 0, 1, 0xff, 0x20, 0, 0]].concat();
        for (header, client) in [
            (v2(0x21, 0x11, &V4), Some("192.0.2.7")),
            (v2(0x21, 0x11, &extended), Some("192.0.2.7")),
            (v2(0x21, 0x21, &v6), Some("2001:db8::7")),
            (v2(0x21, 0x31, &[0; 216]), None),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &V4), None),
            (v2(0x20, 0xff, b"anything"), None),
        ] {
            let client = client.map(|client| client.parse().unwrap());
            let expected = Ok(Some(ProxyHeader {
                client,
                bytes: header.len(),
            }));
            assert_eq!(parse(&header), expected, "{header:?}");
            assert_eq!(parse(&[&header[..], b"\x16\x03"].concat()), expected);
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut]), Ok(None), "{header:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_header_of_version_2_is_refused() {
        use ProxyHeaderFault::{Addresses, Extensions, NotAHeader, TooLong, Unsupported};
        let with = |more: &[u8]| v2(0x21, 0x11, &[&V4[..], more].concat());
        for (header, fault) in [
            (b"\r\n\r\n\0\r\nQUIX".to_vec(), NotAHeader),
            (v2(0x11, 0x11, &V4), Unsupported),
            (v2(0x22, 0x11, &V4), Unsupported),
            (v2(0x21, 0x12, &V4), Unsupported),
            (v2(0x21, 0x10, &V4), Unsupported),
            (v2(0x21, 0x11, &V4[..11]), Addresses),
            (v2(0x21, 0x21, &V4), Addresses),
            (v2(0x21, 0x11, &[0; 4081]), TooLong),
            (with(&[0x04, 0]), Extensions),
            (with(&[0x04, 0, 2, 0]), Extensions),
            (with(&[EXTENSION_CHECKSUM, 0, 4, 0, 0, 0, 0]), Extensions),
            (with(&[EXTENSION_CHECKSUM, 0, 1, 0]), Extensions),
        ] {
            assert_eq!(parse(&header), Err(fault), "{header:?}");
        }
    }

    #[test]
    fn a_checksum_counts() {
        let mut header = v2(
            0x21,
            0x11,
            &[&V4[..], &[EXTENSION_CHECKSUM, 0, 4, 0, 0, 0, 0]].concat(),
        );
        let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &header) as u32;
        let at = header.len() - 4;
        header[at..].copy_from_slice(&sum.to_be_bytes());
        assert!(parse(&header).unwrap().is_some());
        header[FIXED_V2] ^= 1;
        assert_eq!(parse(&header), Err(ProxyHeaderFault::Extensions));
    }

    proptest! {
        #[test]
        fn a_verdict_does_not_change_with_what_follows(bytes: Vec<u8>, cut: usize, follows: Vec<u8>) {
            for start in [&b""[..], START_V1, &SIGNATURE_V2, b"PROXY TCP4 1.2.3.4 5.6.7.8 1 "] {
                let all = [start, &bytes, &follows].concat();
                let part = &all[..cut % (all.len() + 1)];
                match parse(part) {
                    Ok(None) => {}
                    verdict => prop_assert_eq!(parse(&all), verdict),
                }
            }
        }
    }
}
