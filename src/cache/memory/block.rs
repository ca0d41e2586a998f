//! Bytes of bodies in memory, and the files of memory that long ones lie in.
//!
//! A plain connection is sent what lies in a file without a copy (`sendfile(2)`), whether that file is on a
//! disk or in memory (`memfd_create(2)`). Everybody else reads the same pages through a mapping. To make such a file
//! costs what five or six copies of a long block do, so it gets one when it is sent on a plain connection again. Of
//! a short one it is a dozen copies or more, and the system holds a good part of its length beside it, so
//! only the few that are asked for again and again get one.
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

/// Blocks below it are always copied: the second system call costs what it would save.
const SHORTEST_IN_FILE_BYTES: usize = 8 * 1024;

/// A block of that length is a long one.
const LONG_BYTES: usize = 32 * 1024;

/// What the system holds for a file of memory beside its pages: inode, handle, mapping.
const FILE_BYTES: u64 = 2048;

const PAGE_BYTES: u64 = 4096;

/// A long block is sent so often on plain connections by copying before it gets a file.
const LONG_COPIED_BEFORE: u8 = 1;

/// The same for short ones.
const SHORT_COPIED_BEFORE: u8 = 16;

/// At most so many short blocks lie in files. What the system holds for them beside their bytes is not counted
/// ([`MemoryBlock::memory_bytes`]): it comes to 24 MiB.
const SHORT_FILES: usize = 4096;

/// What `vm.max_map_count` is where nobody has raised it.
const MAP_COUNT: usize = 65_530;

/// The files of memory that blocks may lie in.
#[derive(Debug)]
pub struct MemoryFiles {
    long: Budget,
    short: Budget,
}

/// A number of files.
#[derive(Debug)]
struct Budget {
    limit: usize,
    taken: AtomicUsize,
    /// A block is sent so often on plain connections by copying before it gets a file.
    copied_before: u8,
}

impl MemoryFiles {
    /// At most `limit` at a time, a quarter of them for short blocks; what comes beyond them lies in memory as
    /// everything that is shorter does.
    pub fn at_most(limit: usize) -> Arc<Self> {
        let short = (limit / 4).min(SHORT_FILES);
        Arc::new(MemoryFiles {
            long: Budget::of(limit - short, LONG_COPIED_BEFORE),
            short: Budget::of(short, SHORT_COPIED_BEFORE),
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
        self.long.taken() + self.short.taken()
    }

    fn budget(&self, length: usize) -> &Budget {
        if length < LONG_BYTES {
            &self.short
        } else {
            &self.long
        }
    }

    /// `None` when there may be no more.
    fn file_of(self: &Arc<Self>, bytes: &[u8]) -> io::Result<Option<MemoryFile>> {
        let Some(permit) = self.permit(bytes.len()) else {
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

    fn permit(self: &Arc<Self>, length: usize) -> Option<Permit> {
        let is_taken = self.budget(length).take();
        is_taken.then(|| Permit {
            files: self.clone(),
            length,
        })
    }
}

impl Budget {
    fn of(limit: usize, copied_before: u8) -> Self {
        Budget {
            limit,
            taken: AtomicUsize::new(0),
            copied_before,
        }
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn is_spent(&self) -> bool {
        self.taken() >= self.limit
    }

    fn take(&self) -> bool {
        let more = |taken| (taken < self.limit).then_some(taken + 1);
        let taken = (self.taken).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok()
    }
}

/// To have one file, for a block of that length.
#[derive(Debug)]
struct Permit {
    files: Arc<MemoryFiles>,
    length: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let budget = self.files.budget(self.length);
        budget.taken.fetch_sub(1, Ordering::Relaxed);
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
pub struct MemoryBlock(Lies);

#[derive(Debug, Clone)]
enum Lies {
    InNoFile(Bytes),
    Anywhere(Arc<Block>),
}

#[derive(Debug)]
struct Block {
    length: usize,
    /// Never other bytes, but they may come to lie in a file.
    held: ArcSwap<Held>,
    /// How often it was sent by copying where a file would have done, up to [`Budget::copied_before`].
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
            Lies::InNoFile(bytes) => bytes.clone(),
            Lies::Anywhere(block) => block.held.load().bytes.clone(),
        }
    }

    /// All of it, when it is too short to ever lie in a file.
    pub fn in_plain_memory(&self) -> Option<&Bytes> {
        match &self.0 {
            Lies::InNoFile(bytes) => Some(bytes),
            Lies::Anywhere(_) => None,
        }
    }

    /// Its length.
    pub fn len(&self) -> usize {
        match &self.0 {
            Lies::InNoFile(bytes) => bytes.len(),
            Lies::Anywhere(block) => block.length,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, to be sent from its file; it gets one of `files` when it is asked for again. `None` when it lies in none.
    pub fn in_file(&self, files: &Arc<MemoryFiles>) -> Option<FileSpan> {
        let Lies::Anywhere(block) = &self.0 else {
            return None;
        };
        let held = block.held.load();
        let file = match &held.file {
            Some(file) => file.clone(),
            None => block.put_in_file(&held.bytes, files)?,
        };
        Some(FileSpan::in_memory(file, block.length as u64))
    }

    /// Bytes of memory that it takes; of a long one as if it lay in a file: in whole pages, with what the system needs
    /// for that.
    pub fn memory_bytes(&self) -> u64 {
        let length = self.len() as u64;
        if self.len() < LONG_BYTES {
            length
        } else {
            length.next_multiple_of(PAGE_BYTES) + FILE_BYTES
        }
    }
}

impl Block {
    fn put_in_file(&self, bytes: &Bytes, files: &Arc<MemoryFiles>) -> Option<Arc<MemoryFile>> {
        let budget = files.budget(self.length);
        if budget.is_spent() {
            return None;
        }
        let copied = self.copied.load(Ordering::Relaxed);
        if copied < budget.copied_before {
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
            return MemoryBlock(Lies::InNoFile(bytes));
        }
        MemoryBlock(Lies::Anywhere(Arc::new(Block {
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
        for _ in 0..files.budget(length).copied_before {
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
    fn what_is_too_short_or_too_much_lies_in_no_file() {
        let files = MemoryFiles::at_most(2);
        let too_short = block(SHORTEST_IN_FILE_BYTES - 1, &files);
        assert!(too_short.in_file(&files).is_none());
        let [first, second] = [(); 2].map(|()| block(LONG_BYTES, &files));
        assert!(first.in_file(&files).is_some() && second.in_file(&files).is_some());
        let third = block(LONG_BYTES, &files);
        assert!(third.in_file(&files).is_none());
        assert!(third.bytes() == first.bytes());
        drop(first);
        assert!(block(LONG_BYTES, &files).in_file(&files).is_some());
    }

    #[test]
    fn short_blocks_leave_three_quarters_of_the_files_to_long_ones() {
        let files = MemoryFiles::at_most(8);
        let short: Vec<_> = (0..3)
            .map(|_| block(SHORTEST_IN_FILE_BYTES, &files))
            .collect();
        let in_files = |blocks: &[MemoryBlock]| {
            let files = blocks.iter().filter_map(|block| block.in_file(&files));
            files.count()
        };
        assert_eq!(in_files(&short), 2);
        let long: Vec<_> = (0..7).map(|_| block(LONG_BYTES, &files)).collect();
        assert_eq!((in_files(&long), files.count()), (6, 8));
        assert_eq!(short[0].memory_bytes(), SHORTEST_IN_FILE_BYTES as u64);
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
