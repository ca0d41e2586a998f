//! Blocks as stripes of Reed-Solomon shards.
//!
//! The code restores shards that are known to be missing; it does not tell which of those that are there is wrong.
//! That is told by the checksum of the block: [`decode`] tries one choice of shards after the other until it fits.

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::crc32c;
use super::place::Form;

/// Cuts a block into `data` shards of equal length, zeros behind its end, and computes `parity` more.
pub(super) fn encode(block: &[u8], data: u8, parity: u8) -> Vec<Vec<u8>> {
    let part_bytes = Form::Shards { data, parity }.part_bytes(block.len());
    let mut parts: Vec<Vec<u8>> = (0..usize::from(data))
        .map(|index| {
            let from = (index * part_bytes).min(block.len());
            let to = (from + part_bytes).min(block.len());
            let mut part = Vec::with_capacity(part_bytes);
            part.extend_from_slice(&block[from..to]);
            part.resize(part_bytes, 0);
            part
        })
        .collect();
    let mut encoder = ReedSolomonEncoder::new(data.into(), parity.into(), part_bytes)
        .expect("shards-are-few-and-even");
    for part in &parts {
        encoder.add_original_shard(part).expect("every-shard-fits");
    }
    let encoded = encoder.encode().expect("no-shard-is-left-out");
    parts.extend(encoded.recovery_iter().map(<[u8]>::to_vec));
    parts
}

/// The block of `block_bytes` with the checksum `expected`, from whichever `data` of the shards give it. `None` when
/// no choice does.
pub(super) fn decode(
    parts: &[Option<Vec<u8>>],
    data: u8,
    parity: u8,
    block_bytes: usize,
    expected: u32,
) -> Option<Vec<u8>> {
    let there: Vec<usize> = (0..parts.len())
        .filter(|index| parts[*index].is_some())
        .collect();
    let mut chosen: Vec<usize> = (0..usize::from(data)).collect();
    if there.len() < chosen.len() {
        return None;
    }
    loop {
        let choice = chosen.iter().map(|at| there[*at]);
        let block = join(parts, choice, data, parity, block_bytes);
        if crc32c(&block) == expected {
            return Some(block);
        }
        if !next_choice(&mut chosen, there.len()) {
            return None;
        }
    }
}

/// The block that follows from exactly `data` of the shards.
fn join(
    parts: &[Option<Vec<u8>>],
    choice: impl Iterator<Item = usize>,
    data: u8,
    parity: u8,
    block_bytes: usize,
) -> Vec<u8> {
    let data_count = usize::from(data);
    let part_bytes = Form::Shards { data, parity }.part_bytes(block_bytes);
    let mut block = vec![0; part_bytes * data_count];
    let mut decoder = ReedSolomonDecoder::new(data.into(), parity.into(), part_bytes)
        .expect("shards-are-few-and-even");
    let mut computed = 0;
    for index in choice {
        let part = parts[index]
            .as_deref()
            .expect("only-what-is-there-is-chosen");
        if index < data_count {
            block[index * part_bytes..][..part_bytes].copy_from_slice(part);
            decoder
                .add_original_shard(index, part)
                .expect("every-shard-fits");
        } else {
            computed += 1;
            decoder
                .add_recovery_shard(index - data_count, part)
                .expect("every-shard-fits");
        }
    }
    if computed > 0 {
        let restored = decoder.decode().expect("there-are-enough-shards");
        for (index, part) in restored.restored_original_iter() {
            block[index * part_bytes..][..part_bytes].copy_from_slice(part);
        }
    }
    block.truncate(block_bytes);
    block
}

/// Steps to the next choice out of `count`, in the order of their numbers; false behind the last.
fn next_choice(chosen: &mut [usize], count: usize) -> bool {
    let size = chosen.len();
    let Some(step) = (0..size).rfind(|at| chosen[*at] + size - at < count) else {
        return false;
    };
    let first = chosen[step] + 1;
    for (number, slot) in (first..).zip(&mut chosen[step..]) {
        *slot = number;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_all_there_once() {
        let mut chosen = vec![0, 1, 2];
        let mut seen = vec![chosen.clone()];
        while next_choice(&mut chosen, 5) {
            seen.push(chosen.clone());
        }
        assert_eq!(seen.len(), 10);
        assert_eq!(seen.last().unwrap(), &[2, 3, 4]);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 10);
    }

    /// Every way to lose or to garble up to `parity` shards, and one more than that.
    #[test]
    fn a_block_comes_back_from_any_data_shards_and_from_no_fewer() {
        for block_bytes in [1, 7, 8, 1000, 65_536] {
            let block: Vec<u8> = (0..block_bytes).map(|n| (n * 31 % 251) as u8).collect();
            let expected = crc32c(&block);
            let parts = encode(&block, 4, 2);
            assert_eq!(parts.len(), 6);
            for mask in 0u32..64 {
                for garble in [false, true] {
                    let mut damaged: Vec<Option<Vec<u8>>> =
                        parts.iter().cloned().map(Some).collect();
                    for (index, part) in damaged.iter_mut().enumerate() {
                        if mask & (1 << index) != 0 {
                            match part {
                                Some(bytes) if garble => bytes[0] ^= 0x55,
                                _ => *part = None,
                            }
                        }
                    }
                    let found = decode(&damaged, 4, 2, block_bytes, expected);
                    // A block of one byte is whole in its first shard.
                    let lost = mask.count_ones() > 2;
                    let whole_in_first = block_bytes == 1 && garble && mask & 1 == 0;
                    if !lost || whole_in_first {
                        assert_eq!(found.as_ref(), Some(&block), "{block_bytes} {mask:b}");
                    } else {
                        assert!(found.is_none_or(|found| found == block));
                    }
                    if lost && !garble {
                        assert_eq!(decode(&damaged, 4, 2, block_bytes, expected), None);
                    }
                }
            }
        }
    }
}
