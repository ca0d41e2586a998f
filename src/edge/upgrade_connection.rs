//! A connection to an origin server for one request that asks to switch protocols.
//!
//! pingora's proxy tells the half of it that faces the origin when a request has ended. When the `101`
//! is read before that, it takes the end of the request for the end of the new protocol, and closes the
//! connection: an origin on the same machine answers fast enough for one WebSocket in fifty. So nothing
//! is read here until the request has ended, which pingora marks by a flush of its own: one behind the
//! head, one behind the body, even when there is none.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The flushes that pingora makes until a request has ended.
const FLUSHES_OF_A_REQUEST: u8 = 2;

/// Makes `peer` one that is connected to for a single request, of which nothing is read before it has ended.
/// Only for a request without a body.
pub(super) fn connect_for_upgrade(peer: &mut HttpPeer) {
    static CONNECTOR: LazyLock<Arc<UpgradeConnector>> =
        LazyLock::new(|| Arc::new(UpgradeConnector));
    static GROUPS: AtomicU64 = AtomicU64::new(1);
    peer.options.custom_l4 = Some(CONNECTOR.clone());
    // pingora keeps idle connections by a number that these do not have: it must neither find another
    // one for this request nor keep this one for another.
    peer.group_key = GROUPS.fetch_add(1, Ordering::Relaxed);
    peer.options.idle_timeout = Some(Duration::ZERO);
}

#[derive(Debug)]
struct UpgradeConnector;

#[async_trait]
impl Connect for UpgradeConnector {
    /// The time that this may take is limited by the peer's `total_connection_timeout`.
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::ConnectNoRoute, "no address of the internet");
        };
        let socket = TcpStream::connect(address)
            .await
            .or_err_with(ErrorType::ConnectError, || {
                format!("Fail to connect to {address}")
            })?;
        Ok(VirtualSocketStream::new(Box::new(UpgradeConnection::over(socket))).into())
    }
}

/// The connection; see the module's documentation.
#[derive(Debug)]
struct UpgradeConnection<S> {
    socket: S,
    flushes: u8,
    reader: Option<Waker>,
}

impl<S> UpgradeConnection<S> {
    fn over(socket: S) -> Self {
        UpgradeConnection {
            socket,
            flushes: 0,
            reader: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for UpgradeConnection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.flushes < FLUSHES_OF_A_REQUEST {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for UpgradeConnection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.flushes = self.flushes.saturating_add(1);
        if self.flushes == FLUSHES_OF_A_REQUEST
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl VirtualSocket for UpgradeConnection<TcpStream> {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.socket.set_nodelay(true),
            other => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{other:?}"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn nothing_is_read_before_the_request_has_ended() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut connection = UpgradeConnection::over(ours);
        theirs.write_all(b"HTTP/1.1 101").await.unwrap();
        let mut read = [0; 12];
        connection.write_all(b"GET").await.unwrap();
        for _ in 0..FLUSHES_OF_A_REQUEST {
            assert!(connection.read(&mut read).now_or_never().is_none());
            connection.flush().await.unwrap();
        }
        assert_eq!(connection.read(&mut read).await.unwrap(), 12);
        assert_eq!(&read, b"HTTP/1.1 101");
    }
}
