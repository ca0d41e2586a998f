//! Numbers as clients see them: hexadecimal, without an order that could be read out of them.

/// A one-to-one mapping of 64-bit numbers; each kind of id has its own, so that one is no other.
#[derive(Debug, Clone, Copy)]
pub struct OpaqueNumbers {
    /// Odd, so that multiplying by it modulo 2^64 can be undone.
    spread: u64,
    /// Its inverse.
    gather: u64,
}

impl OpaqueNumbers {
    /// The mapping that multiplies by `spread`, which must be odd.
    pub const fn new(spread: u64) -> Self {
        assert!(spread % 2 == 1);
        // Newton's iteration: an odd number is its own inverse modulo 8, and each step doubles the bits.
        let mut gather = spread;
        let mut bits = 3;
        while bits < 64 {
            gather = gather.wrapping_mul(2u64.wrapping_sub(spread.wrapping_mul(gather)));
            bits *= 2;
        }
        OpaqueNumbers { spread, gather }
    }

    /// Sixteen digits.
    pub fn write(self, number: i64) -> String {
        format!("{:016x}", number.cast_unsigned().wrapping_mul(self.spread))
    }

    /// Reads [`OpaqueNumbers::write`]; `None` when that cannot have written it.
    pub fn read(self, text: &str) -> Option<i64> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(is_digit) {
            return None;
        }
        let spread = u64::from_str_radix(text, 16).ok()?;
        i64::try_from(spread.wrapping_mul(self.gather)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_as_it_went_out_and_is_none_of_another_kind() {
        let (own, other) = (
            OpaqueNumbers::new(0x9E37_79B9_7F4A_7C15),
            OpaqueNumbers::new(3),
        );
        for number in [0, 1, 99, 1 << 40, i64::MAX] {
            assert_eq!(own.read(&own.write(number)), Some(number));
            assert_eq!(other.read(&other.write(number)), Some(number));
        }
        assert_ne!(own.write(1), other.write(1));
        for text in [
            "",
            "x",
            "00000000000000A0",
            "+00000000000000a",
            "00000000000000000",
        ] {
            assert_eq!(own.read(text), None, "{text}");
        }
    }
}
