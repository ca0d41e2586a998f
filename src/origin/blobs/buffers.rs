//! Memory for reads and writes, used again and again: fresh memory for each would be cleared by the kernel, and for reads
//! by us too.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers of one length.
#[derive(Debug)]
pub(super) struct Buffers {
    length: usize,
    /// How many are kept while nobody needs them.
    keep: usize,
    kept: Mutex<Vec<Vec<u8>>>,
}

/// Bytes in a lent buffer, or a few in memory of their own. The buffer goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    /// A buffer with anything in it behind the bytes, or the bytes alone.
    memory: Vec<u8>,
    /// How many of its bytes count.
    length: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// Buffers of `length`, of which at most `keep` are kept.
    pub(super) fn new(length: usize, keep: usize) -> Arc<Self> {
        Arc::new(Buffers {
            length,
            keep,
            kept: Mutex::default(),
        })
    }

    /// `length` bytes to be read into, at most as many as the buffers have, with anything in them. A few have memory of
    /// their own, or a few bytes that somebody keeps would hold a whole buffer.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let memory = if length < self.length / 2 {
            vec![0; length]
        } else {
            self.lend()
        };
        Buffer {
            memory,
            length,
            home: Arc::clone(self),
        }
    }

    /// No bytes yet, to be gathered one behind the other, together at most as many as the buffers have.
    pub(super) fn gather(self: &Arc<Self>) -> Buffer {
        Buffer {
            memory: Vec::new(),
            length: 0,
            home: Arc::clone(self),
        }
    }

    fn lend(&self) -> Vec<u8> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.pop();
        drop(kept);
        known.unwrap_or_else(|| vec![0; self.length])
    }

    /// Takes memory back, if it is one of the buffers.
    fn take_back(&self, memory: Vec<u8>) {
        if memory.len() < self.length {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < self.keep {
            kept.push(memory);
        }
    }
}

impl Buffer {
    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[..self.length]
    }

    /// The bytes, to be read into.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.length]
    }

    /// Appends.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let length = self.length + bytes.len();
        if length > self.memory.len() && length <= self.home.length / 8 {
            self.memory.extend_from_slice(bytes);
            self.length = length;
            return;
        }
        if length > self.memory.len() {
            let mut lent = self.home.lend();
            lent[..self.length].copy_from_slice(self.bytes());
            self.memory = lent;
        }
        self.memory[self.length..length].copy_from_slice(bytes);
        self.length = length;
    }

    /// Forgets the bytes, and gives the buffer back.
    pub(super) fn clear(&mut self) {
        self.length = 0;
        self.home.take_back(std::mem::take(&mut self.memory));
    }

    /// The bytes, as they stand now. The buffer goes back with the last of their clones.
    pub(super) fn into_bytes(mut self) -> Bytes {
        if self.memory.len() < self.home.length {
            return Bytes::from(std::mem::take(&mut self.memory));
        }
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: usize = 1000;

    fn kept(buffers: &Buffers) -> usize {
        buffers.kept.lock().unwrap().len()
    }

    #[test]
    fn a_long_buffer_is_used_again_when_the_last_of_its_bytes_is_gone() {
        let buffers = Buffers::new(LENGTH, 2);
        let mut first = buffers.take(LENGTH / 2);
        first.bytes_mut().fill(7);
        let bytes = first.into_bytes();
        let rest = bytes.slice(1..3);
        assert_eq!(bytes.len(), LENGTH / 2);
        drop(bytes);
        assert_eq!((kept(&buffers), &rest[..]), (0, &[7, 7][..]));
        drop(rest);
        assert_eq!(kept(&buffers), 1);
        let second = buffers.take(LENGTH);
        assert_eq!((kept(&buffers), second.as_ref().len()), (0, LENGTH));
        drop(second);
        drop(buffers.take(LENGTH / 2 - 1));
        assert_eq!(kept(&buffers), 1, "a short one is not kept");
    }

    #[test]
    fn no_more_are_kept_than_that() {
        let buffers = Buffers::new(LENGTH, 2);
        let many: Vec<Buffer> = (0..5).map(|_| buffers.take(LENGTH)).collect();
        drop(many);
        assert_eq!(kept(&buffers), 2);
    }

    #[test]
    fn what_is_gathered_takes_a_buffer_when_it_is_long_and_gives_it_back() {
        let buffers = Buffers::new(LENGTH, 2);
        let mut few = buffers.gather();
        few.extend(&[1; LENGTH / 8]);
        drop(few.into_bytes());
        assert_eq!(kept(&buffers), 0);

        let mut many = buffers.gather();
        let mut expected = Vec::new();
        for part in [&[1; 100][..], &[2; 100], &[3; 800]] {
            many.extend(part);
            expected.extend_from_slice(part);
            assert_eq!((many.bytes(), many.len()), (&expected[..], expected.len()));
        }
        let bytes = many.into_bytes();
        let end = bytes.slice(999..);
        drop(bytes);
        assert_eq!((kept(&buffers), &end[..]), (0, &[3][..]));
        drop(end);
        assert_eq!(kept(&buffers), 1);

        // The same memory again, with nothing of what was in it.
        let mut again = buffers.gather();
        again.extend(&[4; 200]);
        assert_eq!((kept(&buffers), again.bytes()), (0, &[4; 200][..]));
        again.clear();
        assert_eq!((kept(&buffers), again.len()), (1, 0));
    }
}
