//! Block arithmetic: which blocks of a body a span of bytes touches.

use std::ops::Range;

/// Bytes in one block of a stored body; only the last block of a body is shorter.
///
/// 256 KiB: a seek on a cold object costs the origin at most two blocks beyond what the player
/// asked for, while a hit on a large body still takes one look-up per 256 KiB.
pub const BLOCK_BYTES: u64 = 256 * 1024;

/// The block that holds the byte at `offset`.
pub fn block_of(offset: u64) -> u64 {
    offset / BLOCK_BYTES
}

/// Where block `number` starts.
pub fn start_of(number: u64) -> u64 {
    number.saturating_mul(BLOCK_BYTES)
}

/// Where block `number` ends in a body of `length` bytes.
pub fn end_of(number: u64, length: u64) -> u64 {
    start_of(number.saturating_add(1)).min(length)
}

/// The smallest run of whole blocks that holds the bytes `span` (which must not be empty).
pub fn covering(span: &Range<u64>) -> Range<u64> {
    block_of(span.start)..block_of(span.end.saturating_sub(1)) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(covering(&span), blocks, "{span:?}");
        }
    }

    #[test]
    fn the_last_block_ends_with_the_body() {
        assert_eq!(end_of(0, 10), 10);
        assert_eq!(end_of(0, BLOCK_BYTES), BLOCK_BYTES);
        assert_eq!(end_of(1, BLOCK_BYTES + 3), BLOCK_BYTES + 3);
        assert_eq!(end_of(u64::MAX / BLOCK_BYTES, u64::MAX), u64::MAX);
    }
}
