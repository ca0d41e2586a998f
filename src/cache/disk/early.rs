//! What was erased before the folder could be opened for the first time.
//!
//! Invariant `erased-before-open`: a key that was erased while nobody knew what lies under it is
//! erased before the first response is found.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Keys that are remembered. Of more, none is: everything in the folder goes.
const KEPT_KEYS: usize = 100_000;

/// Keys erased so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// These.
    Known(HashSet<Box<[u8]>>),
    /// More than are remembered.
    TooMany,
}

/// The keys, until the folder is open.
pub(super) struct Early(Mutex<Option<Keys>>);

impl Default for Early {
    fn default() -> Self {
        Early(Mutex::new(Some(Keys::Known(HashSet::new()))))
    }
}

impl Early {
    /// Remembers a key; `false` when the folder is open by now.
    pub(super) fn keep(&self, key: &[u8]) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(keys) = &mut *kept else { return false };
        if let Keys::Known(known) = keys {
            if known.len() < KEPT_KEYS {
                known.insert(key.into());
            } else {
                *keys = Keys::TooMany;
            }
        }
        true
    }

    /// Gives the keys to `open`, which is to erase them and to open the folder. Whoever erases
    /// meanwhile waits, and then finds it open.
    pub(super) fn end(&self, open: impl FnOnce(Keys)) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let none = Keys::Known(HashSet::new());
        open(kept.take().unwrap_or(none));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_until_the_end_and_up_to_a_number() {
        let early = Early::default();
        assert!(early.keep(b"a") && early.keep(b"b") && early.keep(b"a"));
        let expected = HashSet::from([Box::from(&b"a"[..]), Box::from(&b"b"[..])]);
        early.end(|keys| assert_eq!(keys, Keys::Known(expected)));
        assert!(!early.keep(b"c"));
        early.end(|keys| assert_eq!(keys, Keys::Known(HashSet::new())));

        let early = Early::default();
        for number in 0..=KEPT_KEYS {
            assert!(early.keep(&number.to_le_bytes()));
        }
        early.end(|keys| assert_eq!(keys, Keys::TooMany));
    }
}
