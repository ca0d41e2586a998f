//! A stream that gives pingora exactly one request.
//!
//! When our HTTP/1.1 loop hands a connection to pingora's proxy, it has already read the head and
//! perhaps more. Bytes of the next, pipelined request must come back with the connection, but
//! pingora keeps what it over-read to itself. So it never gets to over-read: this stream replays
//! the bytes of one request, lets it read on to that request's end, and holds back the rest.
//!
//! The end of a chunked body is told by [`ChunkedBody`], which is stricter than pingora: what it refuses
//! is an error of the stream, and pingora never reads a body of which the two might think differently.
//! Where there is no end (an upgrade), nothing is held back; pingora then closes the connection if a client
//! pipelined behind such a request, which RFC 9112 §9.3.2 tells clients to expect.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::chunked::{ChunkFault, ChunkedBody};
use super::pace::PolledPace;

/// What of a request is still to be read from its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// So many bytes.
    Counted(u64),
    /// A chunked body that has come as far as this.
    Chunked(ChunkedBody),
    /// Whatever comes: the client asks to switch protocols.
    Endless,
}

/// See the module's documentation.
pub struct HeldStream {
    inner: Stream,
    /// Read by the loop already, part of this request.
    replay: Bytes,
    rest: Rest,
    /// Read behind the end of this request: the next one's.
    held: BytesMut,
    /// How the client sends the body.
    receiving: Option<PolledPace>,
    /// How the client takes the response.
    sending: Option<PolledPace>,
}

impl HeldStream {
    /// Wraps `inner`: `replay` comes first, then `rest`.
    pub fn new(inner: Stream, replay: Bytes, rest: Rest) -> Self {
        HeldStream {
            inner,
            replay,
            rest,
            held: BytesMut::new(),
            receiving: None,
            sending: None,
        }
    }

    /// Cuts the client off when it sends the body, or takes the response, more slowly than these.
    pub(super) fn paced(
        mut self,
        receiving: Option<PolledPace>,
        sending: Option<PolledPace>,
    ) -> Self {
        self.receiving = receiving;
        self.sending = sending;
        self
    }

    /// The connection, and what was read of the next request.
    pub fn into_parts(self) -> (Stream, BytesMut) {
        (self.inner, self.held)
    }
}

impl AsyncRead for HeldStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.replay.is_empty() {
            let len = this.replay.len().min(buf.remaining());
            buf.put_slice(&this.replay[..len]);
            this.replay.advance(len);
            return Poll::Ready(Ok(()));
        }
        match &mut this.rest {
            Rest::Endless => {
                let before = buf.filled().len();
                let read = Pin::new(&mut this.inner).poll_read(cx, buf);
                let read = read.map_ok(|()| buf.filled().len() - before);
                paced(&mut this.receiving, read, cx).map_ok(|_| ())
            }
            Rest::Counted(0) => {
                if !this.held.is_empty() {
                    // The next request is here and waits its turn.
                    return Poll::Pending;
                }
                let mut bytes = [0; 4096];
                let mut scratch = ReadBuf::new(&mut bytes);
                std::task::ready!(Pin::new(&mut this.inner).poll_read(cx, &mut scratch))?;
                if scratch.filled().is_empty() {
                    // The client has left: pingora may know.
                    return Poll::Ready(Ok(()));
                }
                this.held.extend_from_slice(scratch.filled());
                Poll::Pending
            }
            Rest::Counted(remaining) => {
                let room = usize::try_from(*remaining)
                    .unwrap_or(usize::MAX)
                    .min(buf.remaining());
                // `part` writes into the unfilled bytes of `buf`, which then has to be told.
                let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
                let read = Pin::new(&mut this.inner).poll_read(cx, &mut part);
                let read = read.map_ok(|()| part.filled().len());
                let len = std::task::ready!(paced(&mut this.receiving, read, cx))?;
                buf.advance(len);
                *remaining -= len as u64;
                Poll::Ready(Ok(()))
            }
            Rest::Chunked(body) => {
                let room = buf.remaining();
                let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
                let read = Pin::new(&mut this.inner).poll_read(cx, &mut part);
                let read = read.map_ok(|()| part.filled().len());
                std::task::ready!(paced(&mut this.receiving, read, cx))?;
                let read = part.filled();
                let len = body.take(read).map_err(refused)?;
                this.held.extend_from_slice(&read[len..]);
                buf.advance(len);
                if body.is_done() {
                    this.rest = Rest::Counted(0);
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

fn refused(fault: ChunkFault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

/// The fault of a chunked body that a failed read is about.
pub fn chunk_fault(error: &io::Error) -> Option<ChunkFault> {
    error.get_ref()?.downcast_ref().copied()
}

impl AsyncWrite for HeldStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        let written = std::task::ready!(paced(&mut self.sending, written, cx))?;
        // pingora flushes after a head and at the end of a body. Bytes of a body that trickles would
        // sit in the write buffer until then. Whether the flush is done now or later is all one.
        let _ = Pin::new(&mut self.inner).poll_flush(cx)?;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        paced(&mut self.sending, written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl fmt::Debug for HeldStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldStream")
            .field("inner", &self.inner)
            .field("rest", &self.rest)
            .finish_non_exhaustive()
    }
}

/// Notes what has moved, or how long it is waited for; an error when that is too long.
fn paced(
    pace: &mut Option<PolledPace>,
    moved: Poll<io::Result<usize>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let Some(pace) = pace else { return moved };
    match moved {
        Poll::Ready(Ok(bytes)) => {
            pace.moved(bytes);
            Poll::Ready(Ok(bytes))
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => match pace.poll_too_slow(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        },
    }
}

#[async_trait]
impl Shutdown for HeldStream {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

impl UniqueID for HeldStream {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for HeldStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for HeldStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for HeldStream {
    fn get_proxy_digest(&self) -> Option<Arc<pingora::protocols::raw_connect::ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for HeldStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

impl Peek for HeldStream {}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn held(replay: &'static [u8], rest: Rest) -> (HeldStream, tokio::io::DuplexStream) {
        let (ours, client) = duplex(1024);
        let stream = HeldStream::new(Box::new(ours), Bytes::from_static(replay), rest);
        (stream, client)
    }

    #[tokio::test]
    async fn one_request_is_given_and_the_next_one_held_back() {
        let (mut stream, mut client) = held(b"head", Rest::Counted(4));
        client.write_all(b"bodyNEXT").await.unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"headbody");
        let mut more = [0; 8];
        for _ in 0..2 {
            // Once it takes the bytes, once it has them already.
            let watching = stream.read(&mut more);
            tokio::pin!(watching);
            assert!(poll!(watching).is_pending());
        }
        let (_, next) = stream.into_parts();
        assert_eq!(next, b"NEXT"[..]);
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_seen_behind_the_end_of_its_request() {
        let (mut stream, client) = held(b"", Rest::Counted(0));
        drop(client);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn nothing_is_held_back_when_the_end_is_not_known() {
        let (mut stream, mut client) = held(b"ab", Rest::Endless);
        client.write_all(b"cd").await.unwrap();
        let mut all = [0; 4];
        stream.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"abcd");
    }

    #[tokio::test]
    async fn chunked_body_is_given_up_to_its_end() {
        let (mut stream, mut client) = held(b"head", Rest::Chunked(ChunkedBody::default()));
        client.write_all(b"1\r\nx\r\n0\r\n\r\nNEXT").await.unwrap();
        let mut request = [0; 15];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"head1\r\nx\r\n0\r\n\r\n");
        assert!(poll!(Box::pin(stream.read(&mut [0; 8]))).is_pending());
        let (_, next) = stream.into_parts();
        assert_eq!(next, b"NEXT"[..]);
    }

    #[tokio::test]
    async fn chunked_body_that_is_refused_is_an_error_each_time() {
        let (mut stream, mut client) = held(b"", Rest::Chunked(ChunkedBody::default()));
        for part in [&b"1;\n"[..], b"1\r\nx\r\n"] {
            client.write_all(part).await.unwrap();
            let error = stream.read(&mut [0; 8]).await.unwrap_err();
            assert!(chunk_fault(&error).is_some(), "{error}");
        }
    }
}
