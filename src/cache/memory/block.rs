//! Bytes of bodies in memory, and the files of memory that long ones lie in.
//!
//! A plain connection is sent what lies in a file without a copy (`sendfile(2)`), whether that file is on a
//! disk or in memory (`memfd_create(2)`). Everybody else reads the same pages through a mapping.
//!
//! Invariant `sealed-before-shared`: a file of memory is sealed against every change before anybody but its maker
//! sees it, and is closed with its last reader. Pages that a socket still holds then stay what they were:
//! none is ever written a second time.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::mapping::Mapping;
use crate::cache::file_span::FileSpan;

/// Shorter blocks are copied: a file and its mapping cost the system about as much to hold as they would save.
const SHORTEST_IN_FILE_BYTES: usize = 32 * 1024;

/// What the system holds for a file of memory beside its pages: inode, handle, mapping.
const FILE_BYTES: u64 = 2048;

const PAGE_BYTES: u64 = 4096;

/// The most slices that one write takes (`IOV_MAX`).
const MOST_SLICES: usize = 1024;

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

    /// One block of `chunks`, in a file when it is long enough and there may be one more.
    pub fn block_of(self: &Arc<Self>, chunks: &[Bytes]) -> MemoryBlock {
        let length = chunks.iter().map(Bytes::len).sum();
        if length >= SHORTEST_IN_FILE_BYTES {
            match self.file_of(chunks, length) {
                Ok(Some(file)) => return MemoryBlock::in_file_of(file),
                Ok(None) => {}
                // Of memory or handles: what follows may find some again.
                Err(error) => tracing::debug!(%error, "a block is kept without a file"),
            }
        }
        let mut bytes = BytesMut::with_capacity(length);
        for chunk in chunks {
            bytes.extend_from_slice(chunk);
        }
        bytes.freeze().into()
    }

    /// The same of one piece, which is not copied when it stays as it is.
    pub fn block(self: &Arc<Self>, bytes: Bytes) -> MemoryBlock {
        let is_long = bytes.len() >= SHORTEST_IN_FILE_BYTES;
        match is_long && self.count() < self.limit {
            true => self.block_of(&[bytes]),
            false => bytes.into(),
        }
    }

    /// `None` when there may be no more.
    fn file_of(
        self: &Arc<Self>,
        chunks: &[Bytes],
        length: usize,
    ) -> io::Result<Option<MemoryFile>> {
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
        for some in chunks.chunks(MOST_SLICES) {
            let mut slices: Vec<_> = some.iter().map(|chunk| IoSlice::new(chunk)).collect();
            write_all(&mut file, &mut slices)?;
        }
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        let mapping = Mapping::of(&file, length)?;
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

fn write_all(file: &mut File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
    /// Sends up to `bytes` bytes from `offset` on, as many as a socket takes at once.
    ///
    /// # Errors
    /// Those of `sendfile(2)`: [`io::ErrorKind::WouldBlock`] when the socket takes nothing now.
    pub fn send_at(
        &self,
        socket: BorrowedFd<'_>,
        mut offset: u64,
        bytes: usize,
    ) -> io::Result<usize> {
        loop {
            match rustix::fs::sendfile(socket, &self.file, Some(&mut offset), bytes) {
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
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
pub struct MemoryBlock {
    bytes: Bytes,
    file: Option<Arc<MemoryFile>>,
}

impl MemoryBlock {
    fn in_file_of(file: MemoryFile) -> Self {
        let file = Arc::new(file);
        MemoryBlock {
            bytes: Bytes::from_owner(Mapped(file.clone())),
            file: Some(file),
        }
    }

    /// All of it.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its length.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All of it, to be sent from its file; `None` when it lies in none.
    pub fn in_file(&self) -> Option<FileSpan> {
        let file = self.file.clone()?;
        Some(FileSpan::in_memory(file, self.bytes.len() as u64))
    }

    /// Bytes of memory that it takes, in whole pages and with what the system needs for its file.
    pub fn memory_bytes(&self) -> u64 {
        let length = self.bytes.len() as u64;
        match self.file {
            Some(_) => length.next_multiple_of(PAGE_BYTES) + FILE_BYTES,
            None => length,
        }
    }
}

/// Bytes that lie in no file.
impl From<Bytes> for MemoryBlock {
    fn from(bytes: Bytes) -> Self {
        MemoryBlock { bytes, file: None }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use super::*;

    fn chunks_of(bytes: &[u8], length: usize) -> Vec<Bytes> {
        bytes.chunks(length).map(Bytes::copy_from_slice).collect()
    }

    fn sample(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn a_long_block_is_the_same_as_bytes_and_in_its_file() {
        let files = MemoryFiles::at_most(1);
        // More chunks than one write takes, and no whole number of pages.
        let expected = sample(100_001);
        let block = files.block_of(&chunks_of(&expected, 37));
        assert_eq!(block.bytes(), &expected);
        assert_eq!(block.memory_bytes(), 25 * 4096 + FILE_BYTES);

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut client, _) = listener.accept().unwrap();
        let receive = std::thread::spawn(move || {
            let mut received = Vec::new();
            client.read_to_end(&mut received).unwrap();
            received
        });
        let mut span = block.in_file().unwrap();
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
        let long = sample(SHORTEST_IN_FILE_BYTES);
        let short = files.block_of(&chunks_of(&long[1..], 9000));
        assert_eq!(
            (short.bytes(), files.count()),
            (&Bytes::from(long[1..].to_vec()), 0)
        );
        assert!(short.in_file().is_none());
        let first = files.block_of(&chunks_of(&long, 9000));
        assert!(first.in_file().is_some());
        assert_eq!(files.count(), 1);
        let second = files.block(Bytes::from(long.clone()));
        assert!(second.in_file().is_none());
        assert_eq!(second.bytes(), first.bytes());
    }

    #[test]
    fn a_file_counts_until_its_last_reader_is_gone() {
        let files = MemoryFiles::at_most(8);
        let block = files.block(Bytes::from(sample(50_000)));
        let (bytes, span) = (block.bytes().slice(7..9), block.in_file());
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
        let block = files.block(Bytes::from(sample(50_000)));
        let file = &block.file.as_ref().unwrap().file;
        assert!(file.try_clone().unwrap().write(b"x").is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(1 << 20).is_err());
    }
}
