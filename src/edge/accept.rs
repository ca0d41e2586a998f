//! Accepting: a listener's connections come in at one worker, and each goes to the worker that serves it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use pingora::protocols::{GetSocketDigest, SocketDigest, Stream, l4};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::error;

/// For so long nothing is accepted after the system had no file descriptor or memory for a connection: the
/// next try would fail at once as well.
const PAUSE: Duration = Duration::from_millis(500);

/// A connection that was accepted.
#[derive(Debug)]
pub(super) struct Accepted {
    socket: Socket,
    client: SocketAddr,
}

#[derive(Debug)]
enum Socket {
    /// It is with the worker that accepted it.
    Here(TcpStream),
    /// It is with no worker.
    Free(std::net::TcpStream),
}

impl Accepted {
    /// Who connected.
    pub(super) fn client(&self) -> SocketAddr {
        self.client
    }

    /// Has another worker take it.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn free(self) -> io::Result<Self> {
        let socket = match self.socket {
            Socket::Here(socket) => Socket::Free(socket.into_std()?),
            free @ Socket::Free(_) => free,
        };
        Ok(Accepted { socket, ..self })
    }

    /// Takes it on the worker that this runs on.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn take(self) -> io::Result<Stream> {
        let socket = match self.socket {
            Socket::Here(socket) => socket,
            Socket::Free(socket) => TcpStream::from_std(socket)?,
        };
        socket.set_nodelay(true)?;
        // Neither reads nor writes are buffered: the lanes and rustls have buffers of their own, and write what
        // belongs together at once.
        let mut stream = l4::stream::Stream::from(socket);
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        // It is new, so there is nothing in it.
        let _ = digest.peer_addr.set(Some(self.client.into()));
        stream.set_socket_digest(digest);
        Ok(Box::new(stream))
    }
}

/// Gives each connection that comes in on `socket` to `give`, until `shutdown` turns true; `listener` names it in
/// the log. `socket` is non-blocking, and closed in the end.
pub(super) async fn accept(
    socket: std::net::TcpListener,
    listener: &str,
    mut shutdown: watch::Receiver<bool>,
    give: impl Fn(Accepted) -> io::Result<()>,
) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return error!(listener, %error, "nothing is accepted"),
    };
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = shutdown.wait_for(|stopping| *stopping) => return,
        };
        let given = accepted.and_then(|(socket, client)| {
            let socket = Socket::Here(socket);
            give(Accepted { socket, client })
        });
        match given {
            Ok(()) => {}
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                error!(listener, %error, pause = ?PAUSE, "cannot accept connections");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether an error of accept(2) is one connection's, which ended before it was accepted ("Error handling" there),
/// and not the machine's.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
    )
}
