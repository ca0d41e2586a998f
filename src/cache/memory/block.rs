//! Bytes of bodies in memory, and the files of memory that long ones lie in.
//!
//! A plain connection is sent what lies in a file without a copy (`sendfile(2)`), whether that file is on a
//! disk or in memory (`memfd_create(2)`). Everybody else reads the same pages through a mapping. To make such a file
//! costs what five or six copies do, so a block gets one when it is sent on a plain connection again.
//!
//! Invariant `sealed-before-shared`: a file of memory is sealed against every change before anybody but its maker
//! sees it, and is closed with its last reader. Pages that a socket still holds then stay what they were:
//! none is ever written a second time.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::mapping::Mapping;
use crate::cache::file_span::{FileSpan, send_file};

/// Shorter blocks are copied: a file and its mapping cost the system about as much to hold as they would save.
const SHORTEST_IN_FILE_BYTES: usize = 32 * 1024;

/// What the system holds for a file of memory beside its pages: inode, handle, mapping.
const FILE_BYTES: u64 = 2048;

const PAGE_BYTES: u64 = 4096;

/// Sent so often on plain connections by copying before it gets a file.
const COPIED_BEFORE: u8 = 1;

/// What `vm.max_map_count` is where nobody has raised it.
const MAP_COUNT: usize = 65_530;

/// The files of memory that blocks may lie in.
#[derive(Debug)]
pub struct MemoryFiles {
    limit: usize,
    taken: AtomicUsize,
}

impl MemoryFiles {
    /// At most `limit` at a time; what comes beyond them lies in memory as everything short does.
    pub fn at_most(limit: usize) -> Arc<Self> {
        Arc::new(MemoryFiles {
            limit,
            taken: AtomicUsize::new(0),
        })
    }

    /// None: for who has no plain connections to send from them.
    pub fn none() -> Arc<Self> {
        Self::at_most(0)
    }

    /// As many as leave a process enough for everything else: a quarter of the files that it may open
    /// (`RLIMIT_NOFILE`), and of the mappings that it may have (`vm.max_map_count`).
    pub fn for_this_process() -> Arc<Self> {
        let files = getrlimit(Resource::Nofile).current;
        let files = files.map_or(usize::MAX, |files| {
            usize::try_from(files).unwrap_or(usize::MAX)
        });
        let maps = std::fs::read_to_string("/proc/sys/vm/max_map_count");
        let maps = maps.ok().and_then(|text| text.trim().parse().ok());
        Self::at_most(files.min(maps.unwrap_or(MAP_COUNT)) / 4)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// `None` when there may be no more.
    fn file_of(self: &Arc<Self>, bytes: &[u8]) -> io::Result<Option<MemoryFile>> {
        let Some(permit) = self.permit() else {
            return Ok(None);
        };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
        let file = match memfd_create(c"tidegate-block", flags) {
            // Before Linux 6.3.
            Err(Errno::INVAL) => memfd_create(
                c"tidegate-block",
                MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
            )?,
            other => other?,
        };
        let mut file = File::from(file);
        file.write_all(bytes)?;
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        let mapping = Mapping::of(&file, bytes.len())?;
        Ok(Some(MemoryFile {
            file,
            mapping,
            _permit: permit,
        }))
    }

    fn permit(self: &Arc<Self>) -> Option<Permit> {
        let more = |taken| (taken < self.limit).then_some(taken + 1);
        let taken = (self.taken).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Permit(self.clone()))
    }
}

#[derive(Debug)]
struct Permit(Arc<MemoryFiles>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A sealed file of memory.
pub struct MemoryFile {
    file: File,
    mapping: Mapping,
    _permit: Permit,
}

impl MemoryFile {
    /// As [`send_file`].
    ///
    /// # Errors
    /// Those of [`send_file`].
    pub(in crate::cache) fn send_at(
        &self,
        socket: BorrowedFd<'_>,
        offset: u64,
        bytes: usize,
    ) -> io::Result<usize> {
        send_file(&self.file, socket, offset, bytes)
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes in memory", self.mapping.as_ref().len())
    }
}

/// What [`Bytes`] of a file's mapping keep alive.
struct Mapped(Arc<MemoryFile>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.mapping.as_ref()
    }
}

/// A block of a body in memory, or a whole body that is no longer than one.
#[derive(Debug, Clone)]
pub struct MemoryBlock(Length);

#[derive(Debug, Clone)]
enum Length {
    Short(Bytes),
    Long(Arc<LongBlock>),
}

#[derive(Debug)]
struct LongBlock {
    length: usize,
    /// Never other bytes, but they may come to lie in a file.
    held: ArcSwap<Held>,
    /// How often it was sent by copying where a file would have done, up to [`COPIED_BEFORE`].
    copied: AtomicU8,
}

#[derive(Debug)]
struct Held {
    bytes: Bytes,
    file: Option<Arc<MemoryFile>>,
}

impl MemoryBlock {
    /// All of it.
    pub fn bytes(&self) -> Bytes {
        match &self.0 {
            Length::Short(bytes) => bytes.clone(),
            Length::Long(long) => long.held.load().bytes.clone(),
        }
    }

    /// Its length.
    pub fn len(&self) -> usize {
        match &self.0 {
            Length::Short(bytes) => bytes.len(),
            Length::Long(long) => long.length,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, to be sent from its file; it gets one of `files` when it is asked for again. `None` when it lies in none.
    pub fn in_file(&self, files: &Arc<MemoryFiles>) -> Option<FileSpan> {
        let Length::Long(long) = &self.0 else {
            return None;
        };
        let held = long.held.load();
        let file = match &held.file {
            Some(file) => file.clone(),
            None => long.put_in_file(&held.bytes, files)?,
        };
        Some(FileSpan::in_memory(file, long.length as u64))
    }

    /// Bytes of memory that it takes; of a long one as if it lay in a file: in whole pages, with what the system needs
    /// for that.
    pub fn memory_bytes(&self) -> u64 {
        match &self.0 {
            Length::Short(bytes) => bytes.len() as u64,
            Length::Long(long) => (long.length as u64).next_multiple_of(PAGE_BYTES) + FILE_BYTES,
        }
    }
}

impl LongBlock {
    fn put_in_file(&self, bytes: &Bytes, files: &Arc<MemoryFiles>) -> Option<Arc<MemoryFile>> {
        if files.count() >= files.limit {
            return None;
        }
        let copied = self.copied.load(Ordering::Relaxed);
        if copied < COPIED_BEFORE {
            self.copied.store(copied + 1, Ordering::Relaxed);
            return None;
        }
        let file = match files.file_of(bytes) {
            Ok(file) => Arc::new(file?),
            // Of memory or handles: who comes next may find some again.
            Err(error) => {
                tracing::debug!(%error, "a block is kept without a file");
                return None;
            }
        };
        // Of two that do this at once one file is gone as soon as it was sent.
        self.held.store(Arc::new(Held {
            bytes: Bytes::from_owner(Mapped(file.clone())),
            file: Some(file.clone()),
        }));
        Some(file)
    }
}

/// Bytes that lie in no file yet.
impl From<Bytes> for MemoryBlock {
    fn from(bytes: Bytes) -> Self {
        if bytes.len() < SHORTEST_IN_FILE_BYTES {
            return MemoryBlock(Length::Short(bytes));
        }
        MemoryBlock(Length::Long(Arc::new(LongBlock {
            length: bytes.len(),
            held: ArcSwap::from_pointee(Held { bytes, file: None }),
            copied: AtomicU8::new(0),
        })))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use super::*;

    fn sample(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    /// One that was copied as often as it must be.
    fn block(length: usize, files: &Arc<MemoryFiles>) -> MemoryBlock {
        let block = MemoryBlock::from(Bytes::from(sample(length)));
        for _ in 0..COPIED_BEFORE {
            assert!(block.in_file(files).is_none());
        }
        block
    }

    #[test]
    fn a_long_block_is_the_same_as_bytes_and_in_its_file() {
        let files = MemoryFiles::at_most(1);
        // No whole number of pages.
        let expected = sample(100_001);
        let block = block(expected.len(), &files);
        let before = block.bytes();
        let mut span = block.in_file(&files).unwrap();
        assert_eq!((files.count(), block.len()), (1, expected.len()));
        assert!(before == expected && block.bytes() == expected);
        assert_eq!(block.memory_bytes(), 25 * 4096 + FILE_BYTES);

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut client, _) = listener.accept().unwrap();
        let receive = std::thread::spawn(move || {
            let mut received = Vec::new();
            client.read_to_end(&mut received).unwrap();
            received
        });
        span.skip(5);
        span.truncate(90_000);
        drop(block);
        while span.remaining() > 0 {
            span.send_some(socket.as_fd()).unwrap();
        }
        drop((span, socket));
        assert_eq!(receive.join().unwrap(), expected[5..90_005]);
    }

    #[test]
    fn what_is_short_or_too_much_lies_in_no_file() {
        let files = MemoryFiles::at_most(1);
        let short = block(SHORTEST_IN_FILE_BYTES - 1, &files);
        assert!(short.in_file(&files).is_none());
        let first = block(SHORTEST_IN_FILE_BYTES, &files);
        assert!(first.in_file(&files).is_some());
        let second = block(SHORTEST_IN_FILE_BYTES, &files);
        assert!(second.in_file(&files).is_none());
        assert!(second.bytes() == first.bytes());
        drop(first);
        // There may be one more now, and it was copied once already.
        assert!(
            block(SHORTEST_IN_FILE_BYTES, &files)
                .in_file(&files)
                .is_some()
        );
    }

    #[test]
    fn a_file_counts_until_its_last_reader_is_gone() {
        let files = MemoryFiles::at_most(8);
        let block = block(50_000, &files);
        let span = block.in_file(&files);
        let bytes = block.bytes().slice(7..9);
        drop(block);
        assert_eq!(files.count(), 1);
        drop(span);
        assert_eq!((files.count(), &bytes[..]), (1, &[7, 8][..]));
        drop(bytes);
        assert_eq!(files.count(), 0);
    }

    #[test]
    fn nobody_can_change_a_file() {
        let files = MemoryFiles::at_most(1);
        let file = files.file_of(&sample(50_000)).unwrap().unwrap().file;
        assert!(file.try_clone().unwrap().write(b"x").is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(1 << 20).is_err());
    }
}
