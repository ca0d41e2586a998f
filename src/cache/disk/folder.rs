//! The system calls of the disk tier, behind two small traits so that a test can make the nth one
//! fail.
//!
//! A cache folder holds
//!
//! ```text
//! LOCK             held by the process that uses the folder
//! identity         whose folder it is; replaced at each start
//! segments/*.seg   the log, one file per segment
//! index            a clean stop's copy of the index; removed when it is read
//! hot              a clean stop's list of what the memory tier held; likewise
//! purges.jsonl     see [`crate::cache::purge`]
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags};

use crate::cache::file_span::send_file;

/// The folder of a cache. All names are plain file names.
pub trait Folder: Send + Sync {
    /// Makes what is missing and takes the lock.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process holds the lock.
    fn prepare(&self) -> io::Result<()>;
    /// The names of all segment files, in no order.
    ///
    /// # Errors
    /// What the system says.
    fn segments(&self) -> io::Result<Vec<String>>;
    /// Makes a segment file whose bytes are all reserved.
    ///
    /// # Errors
    /// What the system says; nothing is left behind then.
    fn create_segment(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn SegmentFile>>;
    /// Opens a segment file.
    ///
    /// # Errors
    /// What the system says.
    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>>;
    /// Removes a segment file; one that is not there is no error.
    ///
    /// # Errors
    /// What the system says.
    fn remove_segment(&self, name: &str) -> io::Result<()>;
    /// The contents of a file beside the segments; `None` when it is not there.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Puts a file beside the segments, at once and durably.
    ///
    /// # Errors
    /// What the system says; the file is then as it was.
    fn replace(&self, name: &str, contents: &[u8]) -> io::Result<()>;
    /// Removes a file beside the segments; one that is not there is no error.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// An open segment file. Reads and writes may come from several threads.
pub trait SegmentFile: Send + Sync {
    /// Its length.
    ///
    /// # Errors
    /// What the system says.
    fn bytes(&self) -> io::Result<u64>;
    /// Fills `buffer`.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::UnexpectedEof`] when the file ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Fills `buffer` if that needs no disk; `false` when it would.
    ///
    /// # Errors
    /// As [`SegmentFile::read_at`].
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<bool>;
    /// Sends up to `bytes` from `offset` on to a socket, without copying them through this process,
    /// and says how many: none at the end of the file.
    ///
    /// # Errors
    /// What the system says of the file or of the socket: [`io::ErrorKind::WouldBlock`] when the socket
    /// takes no more now.
    fn send_at(&self, socket: BorrowedFd<'_>, offset: u64, bytes: usize) -> io::Result<usize>;
    /// Writes all slices, one after the other.
    ///
    /// # Errors
    /// What the system says; what the file then holds there is not known.
    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the system says; what was written since the last success may then be lost.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the machine.
#[derive(Debug)]
pub struct RealFolder {
    path: PathBuf,
    /// The open lock file; closing it lets the lock go.
    lock: Mutex<Option<File>>,
}

impl RealFolder {
    /// The folder at `path`; nothing is done yet.
    pub fn new(path: &Path) -> Self {
        RealFolder {
            path: path.to_owned(),
            lock: Mutex::new(None),
        }
    }

    fn segment_path(&self, name: &str) -> PathBuf {
        self.path.join("segments").join(name)
    }

    /// Makes a change of the names in `folder` durable.
    fn sync_names(folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

impl Folder for RealFolder {
    fn prepare(&self) -> io::Result<()> {
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(self.path.join("segments"))?;
        let path = self.path.join("LOCK");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)?;
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // The folder may be another one than before: the old lock says nothing about it.
        *lock = None;
        file.try_lock().map_err(io::Error::from)?;
        *lock = Some(file);
        Ok(())
    }

    fn segments(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path.join("segments"))? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string()
                && name.ends_with(".seg")
                // What is no file cannot be opened, and would keep the whole folder from being used.
                && entry.file_type()?.is_file()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create_segment(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let path = self.segment_path(name);
        let file = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(Arc::new(RealFile { file })),
            // A file system that cannot reserve: its free space may run out while we write.
            Err(Errno::OPNOTSUPP) => {
                file.set_len(bytes)?;
                Ok(Arc::new(RealFile { file }))
            }
            Err(error) => {
                // What was reserved so far must not stay; the first error is the one to report.
                let _ = fs::remove_file(&path);
                Err(error.into())
            }
        }
    }

    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.segment_path(name));
        let file = match file {
            // A file system that has become read-only can still be read.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                File::open(self.segment_path(name))?
            }
            other => other?,
        };
        Ok(Arc::new(RealFile { file }))
    }

    fn remove_segment(&self, name: &str) -> io::Result<()> {
        ignore_missing(fs::remove_file(self.segment_path(name)))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(contents) => Ok(Some(contents)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        let new = self.path.join(format!("{name}.new"));
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        RealFolder::sync_names(&self.path)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        ignore_missing(fs::remove_file(self.path.join(name)))?;
        RealFolder::sync_names(&self.path)
    }
}

fn ignore_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
}

impl SegmentFile for RealFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
        let wanted = buffer.len();
        let mut slices = [IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.file, &mut slices, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(read == wanted),
            // Not in the page cache, or a file system that cannot tell.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn send_at(&self, socket: BorrowedFd<'_>, offset: u64, bytes: usize) -> io::Result<usize> {
        send_file(&self.file, socket, offset, bytes)
    }

    fn write_at(&self, mut slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        while !slices.is_empty() {
            let written = match rustix::io::pwritev(&self.file, slices, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            offset += written as u64;
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
