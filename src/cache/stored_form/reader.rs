//! Reading from the front of a form, never beyond its end.

use std::time::Duration;

use super::MAX_SECONDS;
use super::fault::{DecodeError, Place};

const NANOSECONDS_PER_SECOND: u32 = 1_000_000_000;

/// What is left of a form.
pub(super) struct Reader<'f> {
    left: &'f [u8],
    length: usize,
}

impl<'f> Reader<'f> {
    pub(super) fn new(form: &'f [u8]) -> Self {
        Reader {
            left: form,
            length: form.len(),
        }
    }

    fn truncated(&self, wanted_bytes: usize) -> DecodeError {
        DecodeError::Truncated {
            offset: self.length - self.left.len(),
            wanted_bytes,
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (first, rest) = (self.left.split_first_chunk()).ok_or_else(|| self.truncated(N))?;
        self.left = rest;
        Ok(*first)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn time(&mut self, place: Place) -> Result<Duration, DecodeError> {
        let seconds = self.u64()?;
        let nanoseconds = u32::from_le_bytes(self.array()?);
        if seconds >= MAX_SECONDS || nanoseconds >= NANOSECONDS_PER_SECOND {
            return Err(DecodeError::Time {
                place,
                seconds,
                nanoseconds,
            });
        }
        Ok(Duration::new(seconds, nanoseconds))
    }

    pub(super) fn string(&mut self) -> Result<&'f [u8], DecodeError> {
        let length = u32::from_le_bytes(self.array()?);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (string, rest) =
            (self.left.split_at_checked(length)).ok_or_else(|| self.truncated(length))?;
        self.left = rest;
        Ok(string)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        match self.left.len() {
            0 => Ok(()),
            bytes => Err(DecodeError::Trailing { bytes }),
        }
    }
}
