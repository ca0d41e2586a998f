//! Memory for reads, used again and again: fresh memory for each read would be cleared twice, by the kernel and by us.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::READ_BYTES;

/// Buffers kept while nobody needs them: 8 MiB.
const KEPT: usize = 32;
/// Shorter reads get memory of their own, or a few bytes that somebody keeps would hold a whole buffer.
const LENT_MIN_BYTES: usize = READ_BYTES / 2;

/// Buffers of [`READ_BYTES`].
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

/// A buffer of a length that was asked for, which goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Vec<u8>,
    length: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// A buffer of `length`, at most [`READ_BYTES`], with anything in it.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let memory = if length < LENT_MIN_BYTES {
            vec![0; length]
        } else {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.pop().unwrap_or_else(|| vec![0; READ_BYTES])
        };
        Buffer {
            memory,
            length,
            home: Arc::clone(self),
        }
    }
}

impl Buffer {
    /// The bytes to be read into.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.length]
    }

    /// The bytes, as they stand now. The buffer goes back with the last of their clones.
    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.memory.len() == READ_BYTES {
            let memory = std::mem::take(&mut self.memory);
            let mut kept = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < KEPT {
                kept.push(memory);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(buffers: &Buffers) -> usize {
        buffers.0.lock().unwrap().len()
    }

    #[test]
    fn a_long_buffer_is_used_again_when_the_last_of_its_bytes_is_gone() {
        let buffers = Arc::new(Buffers::default());
        let mut first = buffers.take(LENT_MIN_BYTES);
        first.bytes_mut().fill(7);
        let bytes = first.into_bytes();
        let rest = bytes.slice(1..3);
        assert_eq!(bytes.len(), LENT_MIN_BYTES);
        drop(bytes);
        assert_eq!((kept(&buffers), &rest[..]), (0, &[7, 7][..]));
        drop(rest);
        assert_eq!(kept(&buffers), 1);
        let second = buffers.take(READ_BYTES);
        assert_eq!((kept(&buffers), second.as_ref().len()), (0, READ_BYTES));
        drop(second);
        drop(buffers.take(LENT_MIN_BYTES - 1));
        assert_eq!(kept(&buffers), 1, "a short one is not kept");
    }

    #[test]
    fn no_more_are_kept_than_that() {
        let buffers = Arc::new(Buffers::default());
        let many: Vec<Buffer> = (0..KEPT + 3).map(|_| buffers.take(READ_BYTES)).collect();
        drop(many);
        assert_eq!(kept(&buffers), KEPT);
    }
}
