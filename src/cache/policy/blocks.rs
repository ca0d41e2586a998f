//! Block arithmetic: which blocks of a body a span of bytes touches.

use std::ops::Range;

/// Bytes in one block of a stored body; only the last block of a body is shorter.
///
/// 256 KiB: a seek on a cold object costs the origin at most two blocks beyond what the player
/// asked for, while a hit on a large body still takes one look-up per 256 KiB.
pub const BLOCK_BYTES: u64 = Blocks::STANDARD.bytes();

/// How bodies are cut into blocks of one size, a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    shift: u32,
}

impl Blocks {
    /// Blocks of [`BLOCK_BYTES`].
    pub const STANDARD: Blocks = Blocks::of_two_to_the(18);

    /// Blocks of 2^`shift` bytes; `shift` is at most 63.
    pub const fn of_two_to_the(shift: u32) -> Self {
        assert!(shift < u64::BITS, "a block's size fits 64 bits");
        Blocks { shift }
    }

    /// Bytes in one block.
    pub const fn bytes(self) -> u64 {
        1 << self.shift
    }

    /// The block that holds the byte at `offset`.
    pub fn block_of(self, offset: u64) -> u64 {
        offset >> self.shift
    }

    /// Where block `number` starts.
    pub fn start_of(self, number: u64) -> u64 {
        number.saturating_mul(self.bytes())
    }

    /// Where block `number` ends in a body of `length` bytes.
    pub fn end_of(self, number: u64, length: u64) -> u64 {
        self.start_of(number.saturating_add(1)).min(length)
    }

    /// The smallest run of whole blocks that holds the bytes `span` (which must not be empty).
    pub fn covering(self, span: &Range<u64>) -> Range<u64> {
        self.block_of(span.start)..self.block_of(span.end.saturating_sub(1)) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: Blocks = Blocks::STANDARD;

    #[test]
    fn a_span_is_rounded_out_to_whole_blocks() {
        let b = BLOCK_BYTES;
        for (span, blocks) in [
            (0..1, 0..1),
            (0..b, 0..1),
            (0..b + 1, 0..2),
            (b - 1..b + 1, 0..2),
            (b..b + 1, 1..2),
            (3 * b + 7..5 * b, 3..5),
        ] {
            assert_eq!(BLOCKS.covering(&span), blocks, "{span:?}");
        }
    }

    #[test]
    fn the_last_block_ends_with_the_body() {
        assert_eq!(BLOCKS.end_of(0, 10), 10);
        assert_eq!(BLOCKS.end_of(0, BLOCK_BYTES), BLOCK_BYTES);
        assert_eq!(BLOCKS.end_of(1, BLOCK_BYTES + 3), BLOCK_BYTES + 3);
        assert_eq!(BLOCKS.end_of(u64::MAX / BLOCK_BYTES, u64::MAX), u64::MAX);
    }
}
