//! The few things that the store asks of a file system, behind a trait so that a test can fail any of them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Every write of the store to its blob folder. All calls block.
pub trait Disk: Send + Sync + 'static {
    /// Makes a file that did not exist, readable by its owner alone.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Appends all of `bytes`.
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()>;
    /// Returns when the file's bytes and length are on stable storage.
    fn sync_file(&self, file: &File) -> io::Result<()>;
    /// Gives the file its final name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Returns when the names in the folder are on stable storage.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Removes a name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        let mut file = file;
        file.write_all(bytes)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}
