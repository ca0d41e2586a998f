//! A stream whose writes are gathered until somebody says that they are to go.
//!
//! h2 flushes after every frame that carries data. Over TLS that is a record and a system call for each,
//! of at most 16 KiB; for small responses, one for each response. Gathered, the answers to all requests
//! that came together leave together, and long bodies in longer writes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, BufMut, BytesMut};
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::tls::{LEAD_BYTES, WRITE_BYTES};

/// As much as is gathered before it goes by itself: eight TLS records.
const GATHERED_BYTES: usize = 128 * 1024;

/// The first room for what is gathered.
const FIRST_BYTES: usize = 8 * 1024;

/// The stream. Flushing it does nothing while less than [`GATHERED_BYTES`] are gathered;
/// [`GatheredWrites::poll_flush`] does.
#[derive(Debug)]
pub(super) struct GatheredStream {
    shared: Arc<Mutex<Gathering>>,
}

/// Sends what was gathered.
#[derive(Debug)]
pub(super) struct GatheredWrites {
    shared: Arc<Mutex<Gathering>>,
}

#[derive(Debug)]
struct Gathering {
    inner: Stream,
    gathered: BytesMut,
    /// A writer was told to wait.
    has_refused: bool,
}

/// Both ends of a stream that gathers what is written to `inner`. They belong to one task: neither ever
/// waits for the other.
pub(super) fn gathered(inner: Stream) -> (GatheredStream, GatheredWrites) {
    let shared = Arc::new(Mutex::new(Gathering {
        inner,
        gathered: BytesMut::new(),
        has_refused: false,
    }));
    let writes = GatheredWrites {
        shared: shared.clone(),
    };
    (GatheredStream { shared }, writes)
}

impl Gathering {
    fn append(&mut self, bytes: &[u8]) {
        let wanted = LEAD_BYTES + self.gathered.len() + bytes.len();
        if self.gathered.capacity() < self.gathered.len() + bytes.len() {
            // A long body comes in many writes.
            let room = match wanted {
                ..=FIRST_BYTES => FIRST_BYTES,
                _ => wanted.max(GATHERED_BYTES + FIRST_BYTES),
            };
            let mut larger = BytesMut::with_capacity(room);
            larger.put_bytes(0, LEAD_BYTES);
            larger.extend_from_slice(&self.gathered);
            larger.advance(LEAD_BYTES);
            self.gathered = larger;
        }
        self.gathered.extend_from_slice(bytes);
    }

    /// Writes all that is gathered.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let next = &self.gathered[..self.gathered.len().min(WRITE_BYTES)];
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, next))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(written);
        }
        // An idle connection keeps no buffer.
        self.gathered = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }
}

fn lock(shared: &Mutex<Gathering>) -> MutexGuard<'_, Gathering> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GatheredWrites {
    /// Sends what was gathered, as far as the client takes it.
    ///
    /// # Errors
    /// What the system says of the connection.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = lock(&self.shared);
        let flushed = gathering.poll_flush(cx);
        if gathering.has_refused && gathering.gathered.len() < GATHERED_BYTES {
            // Whoever was told to wait for the client waits for nothing now.
            gathering.has_refused = false;
            cx.waker().wake_by_ref();
        }
        flushed
    }
}

impl AsyncRead for GatheredStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.shared).inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for GatheredStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut gathering = lock(&self.shared);
        if gathering.gathered.len() >= GATHERED_BYTES {
            // What the client takes now makes room; what it does not take is waited for.
            let out = gathering.poll_write_out(cx)?;
            if out.is_pending() && gathering.gathered.len() >= GATHERED_BYTES {
                gathering.has_refused = true;
                return Poll::Pending;
            }
        }
        gathering.append(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = lock(&self.shared);
        if gathering.gathered.len() >= GATHERED_BYTES {
            // The rest goes when more is written, or when it is sent for good.
            let _ = gathering.poll_write_out(cx)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = lock(&self.shared);
        ready!(gathering.poll_flush(cx))?;
        Pin::new(&mut gathering.inner).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for GatheredStream {
    /// Of an h2 connection, all that is to be said goes through [`AsyncWrite::poll_shutdown`].
    async fn shutdown(&mut self) {}
}

impl UniqueID for GatheredStream {
    fn id(&self) -> UniqueIDType {
        lock(&self.shared).inner.id()
    }
}

impl Ssl for GatheredStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        lock(&self.shared).inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        lock(&self.shared).inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for GatheredStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        lock(&self.shared).inner.get_timing_digest()
    }
}

impl GetProxyDigest for GatheredStream {
    fn get_proxy_digest(&self) -> Option<Arc<pingora::protocols::raw_connect::ProxyDigest>> {
        lock(&self.shared).inner.get_proxy_digest()
    }
}

impl GetSocketDigest for GatheredStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        lock(&self.shared).inner.get_socket_digest()
    }
}

impl Peek for GatheredStream {}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};

    use futures_util::poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn pair(holds: usize) -> (GatheredStream, GatheredWrites, DuplexStream) {
        let (ours, client) = duplex(holds);
        let (stream, writes) = gathered(Box::new(ours));
        (stream, writes, client)
    }

    #[tokio::test]
    async fn writes_leave_together_when_they_are_sent() {
        let (mut stream, writes, mut client) = pair(1024);
        for part in ["one ", "two ", "three"] {
            stream.write_all(part.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
        let mut read = [0; 32];
        assert!(poll!(std::pin::pin!(client.read(&mut read))).is_pending());
        poll_fn(|cx| writes.poll_flush(cx)).await.unwrap();
        let count = client.read(&mut read).await.unwrap();
        assert_eq!(&read[..count], b"one two three");
    }

    #[tokio::test]
    async fn writer_waits_for_a_client_that_takes_nothing_and_goes_on_when_it_does() {
        let (mut stream, writes, mut client) = pair(16);
        let bytes: Vec<u8> = (0..3 * GATHERED_BYTES).map(|at| at as u8).collect();
        let write = async {
            stream.write_all(&bytes[..GATHERED_BYTES]).await.unwrap();
            stream.write_all(&bytes[GATHERED_BYTES..]).await.unwrap();
            // More than was gathered is refused until the client has read.
            stream.write_all(b"end").await.unwrap();
            poll_fn(|cx| writes.poll_flush(cx)).await.unwrap();
        };
        let mut write = std::pin::pin!(write);
        assert!(poll!(write.as_mut()).is_pending());
        let mut all = vec![0; bytes.len() + 3];
        let (_, read) = tokio::join!(write, client.read_exact(&mut all));
        read.unwrap();
        assert!(all.starts_with(&bytes) && all.ends_with(b"end"));
    }

    #[tokio::test]
    async fn writer_that_waits_is_woken_when_what_was_gathered_is_sent() {
        let (mut stream, writes, mut client) = pair(16);
        // What the pipe takes is gone when the next write is refused.
        stream.write_all(&[0; GATHERED_BYTES + 16]).await.unwrap();
        let mut stream = Pin::new(&mut stream);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(stream.as_mut().poll_write(&mut cx, b"more").is_pending());
        let mut all = [0; 16];
        client.read_exact(&mut all).await.unwrap();
        woken.0.store(false, Ordering::SeqCst);
        // The system says nothing more of room that is used at once.
        assert!(writes.poll_flush(&mut cx).is_pending());
        assert!(woken.0.load(Ordering::SeqCst));
        let Poll::Ready(Ok(4)) = stream.as_mut().poll_write(&mut cx, b"more") else {
            panic!("there is room");
        };
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}
