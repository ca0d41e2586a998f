//! Who counts as one client, wherever clients are counted.

use std::net::{IpAddr, Ipv4Addr};

/// An IPv4 address, or the /64 that an IPv6 host picks its addresses from (RFC 4291 §2.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ClientNetwork {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl ClientNetwork {
    /// A number that no other client has, and never zero.
    pub(super) fn number(self) -> u64 {
        /// No host has an address in ::/8 but ::1 (RFC 4291 §2.4, §2.5), so that there is room for others.
        const V4: u64 = 1 << 32;
        const LOOPBACK: u64 = 1 << 33;
        match self {
            ClientNetwork::V4(address) => V4 | u64::from(address.to_bits()),
            ClientNetwork::V6(segments) => {
                let prefix = segments
                    .iter()
                    .fold(0, |number, segment| number << 16 | u64::from(*segment));
                if prefix == 0 { LOOPBACK } else { prefix }
            }
        }
    }
}

impl From<IpAddr> for ClientNetwork {
    fn from(client: IpAddr) -> Self {
        match client.to_canonical() {
            IpAddr::V4(address) => ClientNetwork::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                ClientNetwork::V6([a, b, c, d])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_64() {
        let client = |text: &str| ClientNetwork::from(text.parse::<IpAddr>().unwrap());
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("0.0.0.0", "::1", false),
            ("0.0.0.1", "::1", false),
        ] {
            let (one, other) = (client(one), client(other));
            assert_eq!(one == other, same, "{one:?} {other:?}");
            assert_eq!(one.number() == other.number(), same, "{one:?} {other:?}");
            assert!(one.number() != 0 && other.number() != 0);
        }
    }
}
