//! The few things that the store asks of a file system, behind a trait so that a test can fail any of them.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// What the store does with its blob folders. All calls block, but for those that say otherwise.
///
/// Each has the machine's file system as its body, so that a test writes only those that it wants to fail.
pub trait Disk: Send + Sync + 'static {
    /// Makes a file that did not exist, readable by its owner alone.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    }

    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<File> {
        File::open(path)
    }

    /// Opens a file whose damaged parts are to be written again.
    fn open_to_mend(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }

    /// Appends all of `bytes`.
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        let mut file = file;
        file.write_all(bytes)
    }

    /// Writes all of `slices`, one behind the other, from `offset` on.
    fn write_at(&self, file: &File, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut slices = slices;
        let mut offset = offset;
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match rustix::io::pwritev(file, slices, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    IoSlice::advance_slices(&mut slices, written);
                    offset += written as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Fills `buffer` from `offset` on; a file that ends sooner is an error.
    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        file.read_exact_at(buffer, offset)
    }

    /// Opens a file for reading if that can be done without waiting for the disk; `None` = whether or how it can be opened
    /// is for [`Disk::open`] to find out. Does not block.
    fn open_at_once(&self, _path: &Path) -> Option<File> {
        None
    }

    /// Fills `buffer` from `offset` on if all of it is in memory; false = it is for [`Disk::read_at`] to find out what is
    /// there. Does not block.
    fn read_at_once(&self, _file: &File, _buffer: &mut [u8], _offset: u64) -> bool {
        false
    }

    /// Cuts a file to `length_bytes`.
    fn truncate(&self, file: &File, length_bytes: u64) -> io::Result<()> {
        file.set_len(length_bytes)
    }

    /// Returns when the file's bytes and length are on stable storage.
    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// As [`Disk::sync_file`], without the times of the file.
    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Gives the file its final name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    /// Returns when the names in the folder are on stable storage.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    /// Removes a name.
    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open_at_once(&self, path: &Path) -> Option<File> {
        use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
        // Since Linux 5.12; an older kernel refuses the flag.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED);
        opened.ok().map(File::from)
    }

    fn read_at_once(&self, file: &File, buffer: &mut [u8], offset: u64) -> bool {
        use rustix::io::{ReadWriteFlags, preadv2};
        let wanted = buffer.len();
        let mut slices = [IoSliceMut::new(buffer)];
        preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT).is_ok_and(|read| read == wanted)
    }
}
