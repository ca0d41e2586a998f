//! Whose a folder is: a short text, so that an operator can read it too. `docs/FORMATS.md` shows it.

use std::fmt;
use std::io;
use std::path::Path;

use super::crc32c;
use crate::origin::disk::Disk;

/// The name of the file.
pub(super) const FILE_NAME: &str = "identity";
const NEW_FILE_NAME: &str = "identity.new";
const TITLE: &str = "tidegate-blobs 1";

/// The store that a folder belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreId([u8; 16]);

/// What a folder is of its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The one above the disks; so many data disks and cold disks have an identity.
    Home { disks: u8, cold: u8 },
    /// The disk of this number.
    Disk { number: u8 },
}

/// The contents of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) store: StoreId,
    pub(super) role: Role,
}

impl StoreId {
    pub(super) fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(StoreId(bytes))
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Identity {
    fn to_text(self) -> String {
        let role = match self.role {
            Role::Home { disks, cold: 0 } => format!("disks {disks}"),
            Role::Home { disks, cold } => format!("disks {disks} cold {cold}"),
            Role::Disk { number } => format!("disk {number}"),
        };
        let body = format!("{TITLE}\nstore {}\n{role}\n", self.store);
        let checksum = crc32c(body.as_bytes());
        format!("{body}crc32c {checksum:08x}\n")
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let title = lines.next()?;
        let store = lines.next()?.strip_prefix("store ")?;
        let role = lines.next()?;
        let mut bytes = [0; 16];
        hex::decode_to_slice(store, &mut bytes).ok()?;
        let role = match role.split_once(' ')? {
            ("disks", counts) => {
                let (disks, cold) = counts.split_once(" cold ").unwrap_or((counts, "0"));
                Role::Home {
                    disks: disks.parse().ok()?,
                    cold: cold.parse().ok()?,
                }
            }
            ("disk", number) => Role::Disk {
                number: number.parse().ok()?,
            },
            _ => return None,
        };
        let identity = Identity {
            store: StoreId(bytes),
            role,
        };
        // The one way to write it is the one way to read it, the checksum included.
        (title == TITLE && identity.to_text() == text).then_some(identity)
    }

    /// The identity of a folder; `None` when it has none.
    ///
    /// # Errors
    /// What the system says, or [`io::ErrorKind::InvalidData`] for a text that is not one.
    pub(super) fn read(folder: &Path) -> io::Result<Option<Self>> {
        match std::fs::read_to_string(folder.join(FILE_NAME)) {
            Ok(text) => match Identity::from_text(&text) {
                Some(identity) => Ok(Some(identity)),
                None => Err(io::ErrorKind::InvalidData.into()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the file whole and durably.
    pub(super) fn write(self, folder: &Path, disk: &dyn Disk) -> io::Result<()> {
        let new = folder.join(NEW_FILE_NAME);
        match disk.unlink(&new) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = disk.create(&new)?;
        disk.write(&file, self.to_text().as_bytes())?;
        disk.sync_file(&file)?;
        disk.rename(&new, &folder.join(FILE_NAME))?;
        disk.sync_folder(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::disk::RealDisk;

    #[test]
    fn an_identity_is_read_as_it_was_written_and_one_flipped_bit_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = StoreId::random().unwrap();
        assert_eq!(Identity::read(folder.path()).unwrap(), None);
        for role in [
            Role::Home { disks: 6, cold: 0 },
            Role::Home { disks: 6, cold: 2 },
            Role::Disk { number: 2 },
        ] {
            let identity = Identity { store, role };
            identity.write(folder.path(), &RealDisk).unwrap();
            assert_eq!(Identity::read(folder.path()).unwrap(), Some(identity));
            let text = identity.to_text().into_bytes();
            for bit in 0..text.len() * 8 {
                let mut flipped = text.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let read = String::from_utf8(flipped).ok();
                assert_eq!(
                    read.and_then(|text| Identity::from_text(&text)),
                    None,
                    "bit {bit}"
                );
            }
        }
    }
}
