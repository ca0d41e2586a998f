//! Blocks of IP addresses, as policies name clients.

use std::net::IpAddr;

/// Whether `client` lies in `block`: an address, or an address and the length of its prefix. An IPv4
/// address that is mapped into IPv6 counts as what it maps. `None` when `block` is neither.
pub(crate) fn contains(block: &str, client: IpAddr) -> Option<bool> {
    let (address, prefix) = match block.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (block, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let bits: u32 = if address.is_ipv4() { 32 } else { 128 };
    let length = match prefix {
        None => bits,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|length| *length <= bits)?
        }
        Some(_) => return None,
    };
    let in_prefix = |one: u128, other: u128| {
        let differing = one ^ other;
        length == 0 || differing >> (bits - length) == 0
    };
    Some(match (address, client.to_canonical()) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            in_prefix(u32::from(one).into(), u32::from(other).into())
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => in_prefix(one.into(), other.into()),
        (IpAddr::V6(one), IpAddr::V4(other)) => {
            in_prefix(one.into(), other.to_ipv6_mapped().into())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_what_shares_their_prefix() {
        for (block, client, expected) in [
            ("192.0.2.7", "192.0.2.7", Some(true)),
            ("192.0.2.7", "192.0.2.8", Some(false)),
            ("192.0.2.0/24", "192.0.2.255", Some(true)),
            ("192.0.2.0/24", "192.0.3.0", Some(false)),
            ("192.0.2.9/31", "192.0.2.8", Some(true)),
            ("192.0.2.9/31", "192.0.2.10", Some(false)),
            ("0.0.0.0/0", "203.0.113.1", Some(true)),
            ("0.0.0.0/0", "2001:db8::1", Some(false)),
            ("192.0.2.7", "::ffff:192.0.2.7", Some(true)),
            ("2001:db8::/32", "2001:db8:ffff::1", Some(true)),
            ("2001:db8::/32", "2001:db9::", Some(false)),
            ("::/0", "2001:db9::", Some(true)),
            ("::/0", "192.0.2.7", Some(true)),
            ("::ffff:192.0.2.0/120", "192.0.2.7", Some(true)),
            ("192.0.2.0/33", "192.0.2.0", None),
            ("192.0.2.0/", "192.0.2.0", None),
            ("192.0.2.0/+8", "192.0.2.0", None),
            ("192.0.2", "192.0.2.0", None),
            ("", "192.0.2.0", None),
            ("2001:db8::/129", "2001:db8::", None),
        ] {
            assert_eq!(
                contains(block, client.parse().unwrap()),
                expected,
                "{block}"
            );
        }
    }
}
