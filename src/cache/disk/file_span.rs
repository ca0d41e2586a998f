//! A part of a segment file that is sent without being copied through this process.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::segments::Segment;
use super::shelf::count;

/// Bytes of a block, found right since this process has the file.
///
/// Keeps the segment's file open, and with it the room on disk of a segment that is reclaimed
/// meanwhile: it should be sent or dropped soon.
pub struct FileSpan {
    segment: Arc<Segment>,
    offset: u64,
    length: u64,
    /// Counts what was sent.
    sent_bytes: Arc<AtomicU64>,
}

impl FileSpan {
    /// `length` bytes from `offset` on.
    pub(super) fn new(
        segment: Arc<Segment>,
        offset: u64,
        length: u64,
        sent_bytes: Arc<AtomicU64>,
    ) -> Self {
        FileSpan {
            segment,
            offset,
            length,
            sent_bytes,
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

    /// Sends what a socket takes at once, and goes on behind it.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the socket takes nothing now; [`io::ErrorKind::UnexpectedEof`]
    /// when the file has become shorter; else what the system says of the socket or the file.
    pub fn send_some(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        // A record is far shorter than 4 GiB.
        let sent = self
            .segment
            .file()
            .send_at(socket, self.offset, self.length as usize)?;
        if sent == 0 && self.length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        count(&self.sent_bytes, sent as u64);
        self.skip(sent as u64);
        Ok(())
    }
}

impl std::fmt::Debug for FileSpan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let FileSpan {
            segment,
            offset,
            length,
            ..
        } = self;
        write!(f, "{length} bytes from {offset} of {}", segment.name)
    }
}
