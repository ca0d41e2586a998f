//! Sending parts of files on a plain TCP connection, without copying them through this process.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as PlainStream;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::downstream::Unsent;
use super::duplicate_socket::duplicate;
use crate::cache::disk::file_span::FileSpan;

/// How long a client may take nothing while a file is kept open for it. The room of a segment that is
/// reclaimed is free only when nobody has it open any more.
const PATIENCE: Duration = Duration::from_secs(1);

/// A second handle on the socket of a connection.
pub(super) struct FileSender {
    socket: TcpStream,
}

impl FileSender {
    /// Whether the connection is a plain one, so that what is in a file can go out as it is.
    pub(super) fn can_send_on(stream: &Stream) -> bool {
        (**stream).as_any().is::<PlainStream>()
    }

    /// For the connection `stream`; `None` when it is not a plain one, or when this process has no
    /// handle left.
    pub(super) fn on(stream: &Stream) -> Option<Self> {
        let plain = (**stream).as_any().downcast_ref::<PlainStream>()?;
        // Never blocks: that is a property of the socket and not of the handle.
        let socket = std::net::TcpStream::from(duplicate(plain).ok()?);
        let socket = TcpStream::from_std(socket).ok()?;
        Some(FileSender { socket })
    }

    /// Sends all of `span`. What was written to the stream before must have been flushed.
    ///
    /// # Errors
    /// [`Unsent`] when the client takes nothing for [`PATIENCE`], or either end is at fault.
    pub(super) async fn send(&self, span: &mut FileSpan) -> Result<(), Unsent> {
        while span.remaining() > 0 {
            let sent = match span.send_some(self.socket.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.send_when_ready(span).await
                }
                other => other,
            };
            if sent.is_err() {
                return Err(Unsent(span.remaining()));
            }
        }
        Ok(())
    }

    async fn send_when_ready(&self, span: &mut FileSpan) -> io::Result<()> {
        loop {
            let ready = tokio::time::timeout(PATIENCE, self.socket.writable());
            ready.await.map_err(|_| io::ErrorKind::TimedOut)??;
            // Forgets that the socket was ready when it takes nothing.
            let send = || span.send_some(self.socket.as_fd());
            match self.socket.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return sent,
            }
        }
    }
}
