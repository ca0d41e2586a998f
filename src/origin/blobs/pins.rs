//! What is being read stays: a blob or pack that is released meanwhile goes when its last reader is done.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{BlobId, PackId};

/// What can be held in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Pin {
    Blob(BlobId),
    Pack(PackId),
}

/// Everything that is held.
#[derive(Debug, Default)]
pub(super) struct Pins(Mutex<HashMap<Pin, Pinned>>);

#[derive(Debug, Default)]
struct Pinned {
    readers: usize,
    /// The disks of what was released; empty for a pack. Without readers it is being removed.
    doomed: Option<Vec<u8>>,
}

impl Pins {
    /// Holds all of them, or none when one is being removed.
    pub(super) fn hold(&self, pins: &[Pin]) -> Result<(), Pin> {
        let mut held = self.lock();
        for pin in pins {
            if held.get(pin).is_some_and(|pinned| pinned.readers == 0) {
                return Err(*pin);
            }
        }
        for pin in pins {
            held.entry(*pin).or_default().readers += 1;
        }
        Ok(())
    }

    /// Lets go, and gives back what has to be removed now; [`Pins::forget`] follows.
    pub(super) fn release(&self, pins: &[Pin]) -> Vec<(Pin, Vec<u8>)> {
        let mut held = self.lock();
        let mut doomed = Vec::new();
        for pin in pins {
            let pinned = held.get_mut(pin).expect("what-is-released-was-held");
            pinned.readers -= 1;
            if pinned.readers == 0 {
                match &pinned.doomed {
                    Some(disks) => doomed.push((*pin, disks.clone())),
                    None => {
                        held.remove(pin);
                    }
                }
            }
        }
        doomed
    }

    /// Whether something that was released is to be removed at once, after which [`Pins::forget`] follows; else that
    /// is left to its last reader.
    pub(super) fn doom(&self, pin: Pin, disks: &[u8]) -> bool {
        let mut held = self.lock();
        let pinned = held.entry(pin).or_default();
        pinned.doomed = Some(disks.to_vec());
        pinned.readers == 0
    }

    /// What was doomed has been removed.
    pub(super) fn forget(&self, pin: Pin) {
        self.lock().remove(&pin);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Pin, Pinned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_goes_with_its_last_reader_and_takes_no_new_ones_then() {
        let pins = Pins::default();
        let (blob, pack) = (Pin::Blob(BlobId(1)), Pin::Pack(PackId(1)));
        pins.hold(&[blob, blob, pack]).unwrap();
        assert!(!pins.doom(blob, &[3]));
        pins.hold(&[blob]).unwrap();
        assert_eq!(pins.release(&[blob, pack, blob]), []);
        assert_eq!(pins.release(&[blob]), [(blob, vec![3])]);
        assert_eq!(pins.hold(&[pack, blob]), Err(blob));
        pins.forget(blob);
        pins.hold(&[pack, blob]).unwrap();
        assert_eq!(pins.release(&[pack, blob]), []);
        assert!(pins.doom(pack, &[]), "nobody reads it any more");
        assert_eq!(pins.hold(&[pack]), Err(pack));
    }
}
