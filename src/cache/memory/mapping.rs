//! A sealed file of memory, as bytes.
//!
//! The measured need is in `benches/README.md`, "Large bodies out of memory": a body that lies in a file of memory
//! costs a third to send on a plain connection, and reading it into other memory for everybody else would
//! cost them a copy that they do not have now.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapOptions};
use rustix::fs::{SealFlags, fcntl_get_seals};

/// The bytes of a file that never change.
pub(super) struct Mapping(Mmap);

impl Mapping {
    /// All `length` bytes of `file`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when the file is not sealed against being written and shortened or has another
    /// length; else what the system says.
    pub(super) fn of(file: &File, length: usize) -> io::Result<Self> {
        let unchanging = SealFlags::WRITE | SealFlags::SHRINK;
        let is_sealed = fcntl_get_seals(file)?.contains(unchanging);
        if !is_sealed || file.metadata()?.len() != length as u64 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: what is mapped must neither change nor vanish while it is. The file has the seals
        // F_SEAL_WRITE and F_SEAL_SHRINK, as was just looked up: the system refuses every write to
        // it, through any handle and any mapping, now and later (a seal cannot be removed, and the first of
        // them is not granted while a writable mapping exists; memfd_create(2), fcntl(2)), and refuses
        // to make it shorter, so that every page of the mapping stays backed. The mapping keeps the
        // file's pages alive when its handle is closed.
        let map = unsafe { MmapOptions::new().len(length).map(file)? };
        Ok(Mapping(map))
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};

    use super::*;

    fn sealed(seals: SealFlags) -> File {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create(c"test", flags).unwrap());
        file.write_all(b"four").unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file
    }

    #[test]
    fn only_files_that_cannot_change_are_mapped() {
        let both = SealFlags::WRITE | SealFlags::SHRINK;
        assert_eq!(Mapping::of(&sealed(both), 4).unwrap().as_ref(), b"four");
        assert!(Mapping::of(&sealed(both), 5).is_err());
        assert!(Mapping::of(&sealed(both), 3).is_err());
        assert!(Mapping::of(&sealed(SealFlags::WRITE), 4).is_err());
        assert!(Mapping::of(&sealed(SealFlags::SHRINK), 4).is_err());
        assert!(Mapping::of(&tempfile::tempfile().unwrap(), 0).is_err());
    }
}
