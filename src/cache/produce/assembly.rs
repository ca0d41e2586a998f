//! A block of a body while its bytes come in.

use bytes::{Bytes, BytesMut};

/// The first bytes of a block, gathered where the block will lie.
///
/// Whoever waits for them may be shown what is here at any time. A block of which nothing was shown before it
/// was whole is never copied; one that was shown in parts is put together once, since parts that others hold
/// cannot be joined in place.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// What was shown, in order.
    shown: Vec<Bytes>,
    shown_bytes: usize,
    /// What follows that, and nobody has seen.
    hidden: BytesMut,
}

/// A whole block, or a body's last one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assembled {
    /// All of it.
    pub(super) whole: Bytes,
    /// Its end, as far as it was not shown yet; of the same memory.
    pub(super) rest: Bytes,
}

impl Assembly {
    /// Bytes that are here, shown or not.
    pub(super) fn len(&self) -> u64 {
        self.shown_bytes as u64 + self.hidden_bytes()
    }

    /// Bytes that were not shown yet.
    pub(super) fn hidden_bytes(&self) -> u64 {
        self.hidden.len() as u64
    }

    /// Adds `part`, of a block that will have `expected` bytes, where that is known. Where it is not, room is
    /// made as for a vector.
    pub(super) fn add(&mut self, part: &[u8], expected: Option<usize>) {
        if self.hidden.capacity() - self.hidden.len() < part.len() {
            let here = self.shown_bytes + self.hidden.len();
            let room = expected.map_or(here, |expected| expected.saturating_sub(here));
            self.hidden.reserve(room.max(part.len()));
        }
        self.hidden.extend_from_slice(part);
    }

    /// Gives what was not shown yet to be shown.
    pub(super) fn show(&mut self) -> Bytes {
        let part = self.hidden.split().freeze();
        if !part.is_empty() {
            self.shown_bytes += part.len();
            self.shown.push(part.clone());
        }
        part
    }

    /// Ends the block and leaves room for the next.
    pub(super) fn finish(&mut self) -> Assembled {
        let Assembly {
            shown,
            shown_bytes,
            hidden,
        } = std::mem::take(self);
        let length = shown_bytes + hidden.len();
        // Room that was made in vain would be kept as long as the block.
        let is_in_place = shown.is_empty() && hidden.capacity() <= length + length / 8;
        let whole = if is_in_place {
            hidden.freeze()
        } else {
            let mut whole = BytesMut::with_capacity(length);
            for part in &shown {
                whole.extend_from_slice(part);
            }
            whole.extend_from_slice(&hidden);
            whole.freeze()
        };
        let rest = whole.slice(shown_bytes..);
        Assembled { whole, rest }
    }

    /// Forgets what is here; what was not shown must have been.
    pub(super) fn clear(&mut self) {
        debug_assert!(
            self.hidden.is_empty(),
            "bytes that nobody has seen are lost"
        );
        *self = Assembly::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_nobody_saw_before_it_was_whole_stays_where_it_was_gathered() {
        let mut assembly = Assembly::default();
        assembly.add(&[b'a'; 3000], Some(6000));
        let place = assembly.hidden.as_ptr();
        assembly.add(&[b'b'; 3000], Some(6000));
        assert_eq!((assembly.len(), assembly.hidden_bytes()), (6000, 6000));
        let Assembled { whole, rest } = assembly.finish();
        let expected = [[b'a'; 3000], [b'b'; 3000]].concat();
        assert_eq!(
            (&whole, &rest),
            (&expected.clone().into(), &expected.into())
        );
        assert_eq!((whole.as_ptr(), rest.as_ptr()), (place, place));
        assert_eq!(assembly.len(), 0);
    }

    #[test]
    fn what_was_shown_is_not_shown_again() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.show(), "");
        assembly.add(b"abc", Some(8));
        assert_eq!(assembly.show(), "abc");
        assert_eq!(assembly.show(), "");
        assembly.add(b"de", Some(8));
        assert_eq!((assembly.len(), assembly.hidden_bytes()), (5, 2));
        assert_eq!(assembly.show(), "de");
        assembly.add(b"fgh", Some(8));
        let Assembled { whole, rest } = assembly.finish();
        assert_eq!((&whole[..], &rest[..]), (&b"abcdefgh"[..], &b"fgh"[..]));
    }

    #[test]
    fn a_block_of_unknown_length_keeps_no_room_that_it_does_not_fill() {
        let mut assembly = Assembly::default();
        for _ in 0..33 {
            assembly.add(&[b'a'; 1024], None);
        }
        assert!(assembly.hidden.capacity() >= 64 * 1024);
        let Assembled { whole, .. } = assembly.finish();
        assert_eq!(whole.len(), 33 * 1024);
        let vector: Vec<u8> = whole.into();
        assert!(vector.capacity() <= 34 * 1024, "{}", vector.capacity());
    }
}
