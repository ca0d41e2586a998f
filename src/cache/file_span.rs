//! A part of a file that is sent without being copied through this process.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use rustix::io::Errno;

use super::disk::segments::Segment;
use super::disk::shelf::count;
use super::memory::block::MemoryFile;

/// Bytes of a block that was found right.
///
/// Keeps its file open, and with it the room on disk of a segment that is reclaimed meanwhile: it should be
/// sent or dropped soon.
#[derive(Clone)]
pub struct FileSpan {
    file: SpannedFile,
    offset: u64,
    length: u64,
}

#[derive(Clone)]
enum SpannedFile {
    Segment {
        segment: Arc<Segment>,
        /// Counts what was sent.
        sent_bytes: Arc<AtomicU64>,
    },
    Memory(Arc<MemoryFile>),
}

impl FileSpan {
    /// `length` bytes from `offset` on of a segment of the disk tier. What is sent is added to `sent_bytes`.
    pub(super) fn on_disk(
        segment: Arc<Segment>,
        offset: u64,
        length: u64,
        sent_bytes: Arc<AtomicU64>,
    ) -> Self {
        let file = SpannedFile::Segment {
            segment,
            sent_bytes,
        };
        FileSpan {
            file,
            offset,
            length,
        }
    }

    /// The first `length` bytes of a file of memory.
    pub(super) fn in_memory(file: Arc<MemoryFile>, length: u64) -> Self {
        FileSpan {
            file: SpannedFile::Memory(file),
            offset: 0,
            length,
        }
    }

    /// Bytes that are left to send.
    pub fn remaining(&self) -> u64 {
        self.length
    }

    /// Leaves out the first `bytes`, or all if there are fewer.
    pub fn skip(&mut self, bytes: u64) {
        let skipped = bytes.min(self.length);
        self.offset += skipped;
        self.length -= skipped;
    }

    /// Keeps the first `bytes`.
    pub fn truncate(&mut self, bytes: u64) {
        self.length = self.length.min(bytes);
    }

    /// Reads what is left of a segment of the disk tier; may wait for the disk.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::Unsupported`] of a file of memory, whose bytes are at hand.
    pub(super) fn read(&self) -> io::Result<Bytes> {
        let SpannedFile::Segment { segment, .. } = &self.file else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        // A record is far shorter than 4 GiB.
        let mut bytes = vec![0; self.length as usize];
        segment.file().read_at(&mut bytes, self.offset)?;
        Ok(bytes.into())
    }

    /// Sends what a socket takes at once, and goes on behind it.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the socket takes nothing now; [`io::ErrorKind::UnexpectedEof`]
    /// when the file has become shorter; else what the system says of the socket or the file.
    pub fn send_some(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        // A block is far shorter than 4 GiB.
        let wanted = self.length as usize;
        let sent = match &self.file {
            SpannedFile::Segment {
                segment,
                sent_bytes,
            } => {
                let sent = segment.file().send_at(socket, self.offset, wanted)?;
                count(sent_bytes, sent as u64);
                sent
            }
            SpannedFile::Memory(file) => file.send_at(socket, self.offset, wanted)?,
        };
        if sent == 0 && self.length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.skip(sent as u64);
        Ok(())
    }
}

/// Sends up to `bytes` bytes of `file` from `offset` on, as many as a socket takes at once.
///
/// # Errors
/// Those of `sendfile(2)`: [`io::ErrorKind::WouldBlock`] when the socket takes nothing now.
pub(super) fn send_file(
    file: &File,
    socket: BorrowedFd<'_>,
    mut offset: u64,
    bytes: usize,
) -> io::Result<usize> {
    loop {
        match rustix::fs::sendfile(socket, file, Some(&mut offset), bytes) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

impl fmt::Debug for FileSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes from {} of ", self.length, self.offset)?;
        match &self.file {
            SpannedFile::Segment { segment, .. } => f.write_str(&segment.name),
            SpannedFile::Memory(file) => write!(f, "{file:?}"),
        }
    }
}
