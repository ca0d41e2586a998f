//! Whose a cache folder is, and by which key its hashes are made.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::format::{Fault, FolderId, UNIT_BYTES, VERSION, crc32c};

/// The name of the file.
pub const FILE_NAME: &str = "identity";

const MAGIC: [u8; 8] = *b"TIDECACH";
const LENGTH: usize = UNIT_BYTES as usize;

/// The contents of the file `identity`.
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 8 | `TIDECACH` |
/// | 8 | 2 | version |
/// | 10 | 2 | zero |
/// | 12 | 4 | epoch: raised at each start |
/// | 16 | 16 | folder id |
/// | 32 | 16 | key of the hash |
/// | 48 | 12 | zero |
/// | 60 | 4 | checksum of the bytes before |
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Every file of the folder carries it.
    pub folder: FolderId,
    /// Generations of one epoch are never given out in another.
    pub epoch: u32,
    hash_key: [u8; 16],
}

impl Identity {
    /// A new one out of 32 random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        let (folder, hash_key) = random.split_at(16);
        let sixteen = |bytes: &[u8]| *bytes.first_chunk().expect("thirty-two-is-twice-sixteen");
        Identity {
            folder: FolderId(sixteen(folder)),
            epoch: 0,
            hash_key: sixteen(hash_key),
        }
    }

    /// The bytes of the file.
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.folder.0);
        bytes[32..48].copy_from_slice(&self.hash_key);
        let checksum = crc32c(&bytes[..LENGTH - 4]);
        bytes[LENGTH - 4..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the bytes of the file.
    ///
    /// # Errors
    /// [`Fault`]; nothing in the folder can be used then.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let Ok(bytes) = <&[u8; LENGTH]>::try_from(bytes) else {
            return Err(Fault::Short {
                expected: UNIT_BYTES,
                found: bytes.len() as u64,
            });
        };
        let (body, checksum) = bytes.split_at(LENGTH - 4);
        if body[0..8] != MAGIC {
            return Err(Fault::Magic);
        }
        let version = u16::from_le_bytes([body[8], body[9]]);
        if version != VERSION {
            return Err(Fault::Version(version));
        }
        if *checksum != crc32c(body).to_le_bytes() {
            return Err(Fault::Checksum("identity"));
        }
        let sixteen = |at: usize| {
            *body[at..]
                .first_chunk()
                .expect("fixed-layouts-have-fixed-places")
        };
        Ok(Identity {
            folder: FolderId(sixteen(16)),
            epoch: u32::from_le_bytes([body[12], body[13], body[14], body[15]]),
            hash_key: sixteen(32),
        })
    }

    /// Makes hashes that a stranger cannot foresee.
    pub fn hasher(&self) -> RecordHasher {
        RecordHasher {
            sip: SipHasher13::new_with_key(&self.hash_key),
        }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Who knows the key can make keys collide.
        f.debug_struct("Identity")
            .field("folder", &self.folder)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// The keyed hash (SipHash-1-3) by which records are found.
#[derive(Clone, Copy)]
pub struct RecordHasher {
    sip: SipHasher13,
}

impl RecordHasher {
    /// Of a cache key.
    pub fn of_key(&self, key: &[u8]) -> u64 {
        let mut sip = self.sip;
        sip.write_u8(b'K');
        sip.write(key);
        sip.finish()
    }

    /// Of the place of a block: the same in every generation. The first place is also that of a body
    /// that is kept with its head, and so of the key.
    pub fn of_place(&self, key: &[u8], number: u64) -> u64 {
        if number == 0 {
            return self.of_key(key);
        }
        let mut sip = self.sip;
        sip.write_u8(b'P');
        sip.write(key);
        sip.write_u64(number);
        sip.finish()
    }

    /// Of a block.
    pub fn of_block(&self, generation: u64, number: u64) -> u64 {
        let mut sip = self.sip;
        sip.write_u8(b'B');
        sip.write_u64(generation);
        sip.write_u64(number);
        sip.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_was_written_or_not_at_all() {
        let mut identity = Identity::new([7; 32]);
        identity.epoch = 9;
        let bytes = identity.encode();
        assert_eq!(Identity::decode(&bytes), Ok(identity));
        for bit in 0..LENGTH * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::decode(&flipped).is_err(), "bit {bit}");
        }
        assert!(Identity::decode(&bytes[..63]).is_err());
    }

    #[test]
    fn hashes_depend_on_the_key_of_the_folder_and_on_what_is_hashed() {
        let one = Identity::new([1; 32]).hasher();
        let two = Identity::new([2; 32]).hasher();
        assert_ne!(one.of_key(b"a"), two.of_key(b"a"));
        assert_ne!(one.of_key(b"a"), one.of_key(b"b"));
        assert_ne!(one.of_block(1, 2), one.of_block(2, 1));
    }
}
