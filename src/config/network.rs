//! Blocks of addresses in CIDR notation (RFC 4632, RFC 4291 §2.3). Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A block of addresses: `192.0.2.0/24`, `2001:db8::/32`, or a single address.
///
/// A block belongs to one family: `::/0` holds no IPv4 address. An IPv4-mapped IPv6 address (RFC 4291
/// §2.5.5.2), which is what a dual-stack listener sees of an IPv4 client, is that IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix_bits: u32,
}

/// Why a text is not a block of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkFault {
    /// Not an address, or no number of bits behind the slash that the address has.
    Syntax,
    /// The address lies inside the block and does not begin it: probably a slip of the pen.
    HostBits {
        /// The block that it lies in.
        meant: Network,
    },
}

impl Network {
    /// The first and the last address as a number.
    fn bounds(&self) -> (u128, u128) {
        let first = number(self.first);
        let rest = bits(self.first) - self.prefix_bits;
        let free = u128::MAX.checked_shr(128 - rest).unwrap_or(0);
        (first, first | free)
    }
}

impl FromStr for Network {
    type Err = NetworkFault;

    fn from_str(text: &str) -> Result<Self, NetworkFault> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkFault::Syntax)?;
        let mapped = matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
        if mapped {
            // Whether its bits count from the front of 32 or of 128 would be a guess.
            return Err(NetworkFault::Syntax);
        }
        let prefix_bits = match prefix {
            None => bits(address),
            Some(digits) => {
                let plain = digits.bytes().all(|byte| byte.is_ascii_digit())
                    && (digits == "0" || !digits.starts_with('0'));
                let prefix = digits.parse().ok().filter(|_| plain);
                prefix
                    .filter(|prefix| *prefix <= bits(address))
                    .ok_or(NetworkFault::Syntax)?
            }
        };
        let rest = bits(address) - prefix_bits;
        let free = u128::MAX.checked_shr(128 - rest).unwrap_or(0);
        let first = number(address) & !free;
        let network = Network {
            first: match address {
                // The upper bits of the number are zero: it was made of 32 bits.
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(first as u32)),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(first)),
            },
            prefix_bits,
        };
        if network.first == address {
            Ok(network)
        } else {
            Err(NetworkFault::HostBits { meant: network })
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix_bits)
    }
}

fn bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Many blocks, asked as one. A look-up takes time in the logarithm of their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Ranges,
    v6: Ranges,
}

impl Networks {
    /// Whether `address` lies in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let ranges = match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        ranges.contains(number(address))
    }

    /// Whether there is no block at all.
    pub fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let (v4, v6) = networks
            .into_iter()
            .partition::<Vec<_>, _>(|network| network.first.is_ipv4());
        Networks {
            v4: Ranges::of(&v4),
            v6: Ranges::of(&v6),
        }
    }
}

/// First and last of each range, in order, none touching the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    fn of(networks: &[Network]) -> Self {
        let mut bounds: Vec<_> = networks.iter().map(Network::bounds).collect();
        bounds.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::with_capacity(bounds.len());
        for (first, last) in bounds {
            match ranges.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => ranges.push((first, last)),
            }
        }
        Ranges(ranges)
    }

    fn contains(&self, address: u128) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= address);
        after
            .checked_sub(1)
            .is_some_and(|index| address <= self.0[index].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_are_an_address_and_a_number_of_bits() {
        for (text, shown) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:DB8:0::1", "2001:db8::1/128"),
            ("::/0", "::/0"),
        ] {
            let network: Network = text.parse().unwrap();
            assert_eq!(network.to_string(), shown);
        }
        for text in [
            "",
            "/",
            "192.0.2.0/",
            "192.0.2.0/33",
            "192.0.2.0/+8",
            "192.0.2.0/08",
            "192.0.2.0/255.255.255.0",
            "192.0.2/24",
            "192.0.02.0/24",
            "2001:db8::/129",
            "[2001:db8::]/32",
            "::ffff:192.0.2.0/120",
            "localhost",
            "192.0.2.0/24 ",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NetworkFault::Syntax), "{text}");
        }
        let meant = "10.0.0.0/8".parse().unwrap();
        assert_eq!(
            "10.1.0.0/8".parse::<Network>(),
            Err(NetworkFault::HostBits { meant })
        );
    }

    #[test]
    fn a_block_holds_its_family_only_and_mapped_addresses_are_ipv4() {
        let networks = |texts: &[&str]| -> Networks {
            texts
                .iter()
                .map(|text| text.parse::<Network>().unwrap())
                .collect()
        };
        let cases: [(&[&str], &str, bool); 13] = [
            (&[], "192.0.2.1", false),
            (&["192.0.2.0/24"], "192.0.2.0", true),
            (&["192.0.2.0/24"], "192.0.2.255", true),
            (&["192.0.2.0/24"], "192.0.3.0", false),
            (&["192.0.2.0/24"], "192.0.1.255", false),
            (&["192.0.2.0/24"], "::ffff:192.0.2.9", true),
            (&["::/0"], "192.0.2.9", false),
            (&["::/0"], "::ffff:192.0.2.9", false),
            (&["0.0.0.0/0"], "255.255.255.255", true),
            (&["0.0.0.0/0"], "2001:db8::1", false),
            (
                &["10.0.0.0/9", "10.128.0.0/9", "10.1.2.3"],
                "10.200.0.0",
                true,
            ),
            (&["2001:db8::/48", "::1"], "2001:db8:0:ffff::1", true),
            (&["2001:db8::/48", "::1"], "2001:db8:1::", false),
        ];
        for (blocks, address, expected) in cases {
            let found = networks(blocks).contains(address.parse().unwrap());
            assert_eq!(found, expected, "{blocks:?} {address}");
        }
    }

    proptest! {
        #[test]
        fn many_blocks_hold_what_one_of_them_holds(
            blocks in proptest::collection::vec((any::<u32>(), 0_u32..=32), 0..20),
            address: u32,
        ) {
            let blocks: Vec<Network> = blocks
                .into_iter()
                .map(|(address, prefix)| {
                    let first = address & u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                    format!("{}/{prefix}", Ipv4Addr::from_bits(first)).parse().unwrap()
                })
                .collect();
            let inside = blocks.iter().any(|block| {
                let (first, last) = block.bounds();
                (first..=last).contains(&address.into())
            });
            let networks: Networks = blocks.into_iter().collect();
            let address = IpAddr::V4(Ipv4Addr::from_bits(address));
            prop_assert_eq!(networks.contains(address), inside);
        }
    }
}
