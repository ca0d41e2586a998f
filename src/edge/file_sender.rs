//! Sending parts of files on a plain TCP connection, without copying them through this process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as PlainStream;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::downstream::Unsent;
use super::lent_socket::lend;
use crate::cache::file_span::FileSpan;

/// How long a client may take nothing while a file is kept open for it. The room of a segment that is
/// reclaimed is free only when nobody has it open any more.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends on one connection.
#[derive(Default)]
pub(super) struct FileSender {
    /// A second handle on the socket, to wait for it; made when there is need to.
    waiting: Option<TcpStream>,
}

impl FileSender {
    /// Whether the connection is a plain one, so that what is in a file can go out as it is.
    pub(super) fn can_send_on(stream: &Stream) -> bool {
        plain(stream).is_some()
    }

    /// Gives the system what goes out together with the file that follows; says how much of it was taken, which
    /// may be nothing.
    pub(super) fn send_before_file(stream: &Stream, bytes: &[u8]) -> usize {
        let send = |socket: BorrowedFd<'_>| rustix::net::send(socket, bytes, SendFlags::MORE);
        // What is wrong with the connection shows again in whatever follows.
        let sent = plain(stream).and_then(|plain| lend(plain, send)?.ok());
        sent.unwrap_or(0)
    }

    /// Sends all of `span` on `stream`. What was written to the stream before must have been flushed.
    ///
    /// # Errors
    /// [`Unsent`] when the client takes nothing for [`PATIENCE`], either end is at fault, or this process has no
    /// handle left.
    pub(super) async fn send(
        &mut self,
        stream: &mut Stream,
        span: &mut FileSpan,
    ) -> Result<(), Unsent> {
        while span.remaining() > 0 {
            let sent = match send_some(stream, span) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.send_when_ready(stream, span).await
                }
                other => other,
            };
            if sent.is_err() {
                return Err(Unsent(span.remaining()));
            }
        }
        Ok(())
    }

    async fn send_when_ready(
        &mut self,
        stream: &mut Stream,
        span: &mut FileSpan,
    ) -> io::Result<()> {
        let socket = match &mut self.waiting {
            Some(socket) => socket,
            none => none.insert(second_handle(stream)?),
        };
        loop {
            let ready = tokio::time::timeout(PATIENCE, socket.writable());
            ready.await.map_err(|_| io::ErrorKind::TimedOut)??;
            // Forgets that the socket was ready when it takes nothing.
            let send = || span.send_some(socket.as_fd());
            match socket.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return sent,
            }
        }
    }
}

fn plain(stream: &Stream) -> Option<&PlainStream> {
    (**stream).as_any().downcast_ref()
}

fn send_some(stream: &Stream, span: &mut FileSpan) -> io::Result<()> {
    let send = |socket: BorrowedFd<'_>| span.send_some(socket);
    let sent = plain(stream).and_then(|plain| lend(plain, send));
    sent.unwrap_or_else(|| Err(io::ErrorKind::Unsupported.into()))
}

fn second_handle(stream: &Stream) -> io::Result<TcpStream> {
    let duplicate = |socket: BorrowedFd<'_>| socket.try_clone_to_owned();
    let socket = plain(stream).and_then(|plain| lend(plain, duplicate));
    let socket = socket.unwrap_or_else(|| Err(io::ErrorKind::Unsupported.into()))?;
    // Never blocks: that is a property of the socket and not of the handle.
    TcpStream::from_std(socket.into())
}
