//! A TLS stream whose writes are gathered until somebody says that they are to go.
//!
//! h2 flushes after every frame that carries data. Over TLS that is a record and a system call for each,
//! of at most 16 KiB; for small responses, one for each response. Gathered, the answers to all requests
//! that came together leave together. Of long bodies, what fills a record is sealed from where it lies and
//! only the rest of each frame is copied; four records are a system call.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use pingora::protocols::IO;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame_meter::{Flood, FrameMeter};
use super::tls::{LEAD_BYTES, RECORD_BYTES};
use super::tls_stream::{BATCH_BYTES, Parts, TlsStream};
use crate::clock::SharedClock;

/// A client that has not taken so much is given nothing more: eight TLS records.
const UNSENT_BYTES: usize = 8 * RECORD_BYTES;

/// The first room for what is gathered.
const FIRST_BYTES: usize = 8 * 1024;

/// The stream. Flushing it does nothing; [`GatheredWrites::poll_flush`] does.
pub(super) struct GatheredStream<S> {
    shared: Arc<Mutex<Gathering<S>>>,
}

/// Sends what was gathered.
pub(super) struct GatheredWrites<S> {
    shared: Arc<Mutex<Gathering<S>>>,
}

struct Gathering<S> {
    tls: TlsStream<S>,
    /// Less than a record.
    gathered: BytesMut,
    /// A writer was told to wait.
    has_refused: bool,
    /// Nothing is there to be read, and whoever polls will be woken when there is. Every stream that is
    /// answered asks again.
    is_read: bool,
    /// Everything that was written so far.
    written_bytes: u64,
    meter: FrameMeter,
    clock: SharedClock,
    /// What the client has sent too much of: nothing more is read for h2 then.
    flood: Option<Flood>,
}

/// Both ends of a stream that gathers what is written to `tls`, and counts the frames that come in: each kind
/// may come `allowance` times at once. They belong to one task: neither ever waits for the other.
pub(super) fn gathered<S: IO>(
    tls: TlsStream<S>,
    allowance: u32,
    clock: SharedClock,
) -> (GatheredStream<S>, GatheredWrites<S>) {
    let shared = Arc::new(Mutex::new(Gathering {
        tls,
        gathered: BytesMut::new(),
        has_refused: false,
        is_read: false,
        written_bytes: 0,
        meter: FrameMeter::new(allowance, clock.monotonic()),
        clock,
        flood: None,
    }));
    let writes = GatheredWrites {
        shared: shared.clone(),
    };
    (GatheredStream { shared }, writes)
}

impl<S: IO> Gathering<S> {
    /// Seals what fills records, and keeps the rest.
    fn append(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let new: usize = bufs.iter().map(|buf| buf.len()).sum();
        self.written_bytes += new as u64;
        let before = mem::take(&mut self.gathered);
        if before.len() + new < RECORD_BYTES {
            self.gathered = before;
            self.keep(Parts::new(bufs), new);
            return Ok(new);
        }
        let mut all = Vec::with_capacity(1 + bufs.len());
        all.push(IoSlice::new(&before));
        all.extend(bufs.iter().map(|buf| IoSlice::new(buf)));
        let mut plaintext = Parts::new(&all);
        let mut left = before.len() + new;
        while left >= RECORD_BYTES {
            self.tls.seal(&mut plaintext, RECORD_BYTES)?;
            left -= RECORD_BYTES;
        }
        self.keep(plaintext, left);
        Ok(new)
    }

    /// Copies `bytes` behind what is gathered.
    fn keep(&mut self, mut parts: Parts<'_>, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let wanted = self.gathered.len() + bytes;
        if self.gathered.capacity() < wanted {
            let room = if LEAD_BYTES + wanted <= FIRST_BYTES {
                FIRST_BYTES
            } else {
                LEAD_BYTES + RECORD_BYTES
            };
            let mut larger = BytesMut::with_capacity(room);
            larger.put_bytes(0, LEAD_BYTES);
            larger.extend_from_slice(&self.gathered);
            larger.advance(LEAD_BYTES);
            self.gathered = larger;
        }
        let mut left = bytes;
        while left > 0 {
            let part = parts.next(left);
            left -= part.len();
            self.gathered.extend_from_slice(part);
        }
    }

    /// Seals and writes all that is gathered.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gathered.is_empty() {
            // An idle connection keeps no buffer.
            let gathered = mem::take(&mut self.gathered);
            let bytes = gathered.len();
            let parts = [IoSlice::new(&gathered)];
            self.tls.seal(&mut Parts::new(&parts), bytes)?;
        }
        self.tls.poll_send(cx)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        Pin::new(&mut self.tls).poll_flush(cx)
    }
}

impl<S> fmt::Debug for GatheredStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatheredStream").finish_non_exhaustive()
    }
}

fn lock<S>(shared: &Mutex<Gathering<S>>) -> MutexGuard<'_, Gathering<S>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: IO> GatheredWrites<S> {
    /// Sends what was gathered, as far as the client takes it. After that, whoever polls may wait.
    ///
    /// # Errors
    /// What the system says of the connection.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = lock(&self.shared);
        gathering.is_read = false;
        let flushed = gathering.poll_flush(cx);
        if gathering.has_refused && gathering.tls.unsent_bytes() < UNSENT_BYTES {
            // Whoever was told to wait for the client waits for nothing now.
            gathering.has_refused = false;
            cx.waker().wake_by_ref();
        }
        flushed
    }

    /// What the client has sent too much of. From then on h2 is given nothing more to read.
    pub(super) fn flood(&self) -> Option<Flood> {
        lock(&self.shared).flood
    }

    /// Reads and drops what the client still sends, so that closing does not reset the connection under what
    /// it was told; returns how much that was, 0 at the end.
    ///
    /// # Errors
    /// What the system says of the connection.
    pub(super) fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; 4096];
        let mut scratch = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut lock(&self.shared).tls).poll_read(cx, &mut scratch))?;
        Poll::Ready(Ok(scratch.filled().len()))
    }
}

impl<S: IO> AsyncRead for GatheredStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gathering = &mut *lock(&self.shared);
        if gathering.flood.is_some() || gathering.is_read {
            // Whoever polls asks for the flood next, and ends the connection.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut gathering.tls).poll_read(cx, buf);
        gathering.is_read = read.is_pending();
        ready!(read)?;
        let (written, clock) = (gathering.written_bytes, &gathering.clock);
        let read = &buf.filled()[before..];
        gathering.flood = gathering.meter.read(read, written, || clock.monotonic());
        Poll::Ready(Ok(()))
    }
}

impl<S: IO> AsyncWrite for GatheredStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut gathering = lock(&self.shared);
        if gathering.tls.unsent_bytes() >= UNSENT_BYTES {
            // What the client takes now makes room; what it does not take is waited for.
            let sent = gathering.tls.poll_send(cx)?;
            if sent.is_pending() && gathering.tls.unsent_bytes() >= UNSENT_BYTES {
                gathering.has_refused = true;
                return Poll::Pending;
            }
        }
        let taken = gathering.append(bufs)?;
        if gathering.tls.unsent_bytes() >= BATCH_BYTES {
            // The rest goes when more is written, or when it is sent for good.
            let _ = gathering.tls.poll_send(cx)?;
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = lock(&self.shared);
        ready!(gathering.poll_flush(cx))?;
        Pin::new(&mut gathering.tls).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};

    use futures_util::poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_rustls::client;

    use super::*;
    use crate::clock::SystemClock;
    use crate::edge::tls_stream::testing::{connected, noise};

    type Client = client::TlsStream<DuplexStream>;

    async fn pair(
        holds: usize,
    ) -> (
        GatheredStream<DuplexStream>,
        GatheredWrites<DuplexStream>,
        Client,
    ) {
        let (ours, client) = connected(holds).await;
        let (stream, writes) = gathered(ours, 100, SystemClock::shared());
        (stream, writes, client)
    }

    #[tokio::test]
    async fn writes_leave_together_when_they_are_sent() {
        let (mut stream, writes, mut client) = pair(1024).await;
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
    async fn frames_of_a_long_body_arrive_as_they_were_written() {
        let (mut stream, writes, mut client) = pair(64 * 1024).await;
        let sent = noise(2_000_000);
        let write = async {
            // As h2 writes: the head of a frame, and its payload.
            for frame in sent.chunks(9 + 16_384) {
                let (head, payload) = frame.split_at(9.min(frame.len()));
                let mut both = [IoSlice::new(head), IoSlice::new(payload)];
                let mut left = &mut both[..];
                while !left.is_empty() {
                    let written = stream.write_vectored(left).await.unwrap();
                    IoSlice::advance_slices(&mut left, written);
                }
                stream.flush().await.unwrap();
            }
            poll_fn(|cx| writes.poll_flush(cx)).await.unwrap();
        };
        let mut read = vec![0; sent.len()];
        let ((), taken) = tokio::join!(write, client.read_exact(&mut read));
        taken.unwrap();
        assert!(read == sent);
    }

    #[tokio::test]
    async fn writer_waits_for_a_client_that_takes_nothing_and_goes_on_when_it_does() {
        let (mut stream, writes, mut client) = pair(1024).await;
        let sent = noise(3 * UNSENT_BYTES);
        let write = async {
            stream.write_all(&sent[..UNSENT_BYTES]).await.unwrap();
            // More than was sealed is refused until the client has read.
            stream.write_all(&sent[UNSENT_BYTES..]).await.unwrap();
            stream.write_all(b"end").await.unwrap();
            poll_fn(|cx| writes.poll_flush(cx)).await.unwrap();
        };
        let mut write = std::pin::pin!(write);
        assert!(poll!(write.as_mut()).is_pending());
        let mut all = vec![0; sent.len() + 3];
        let (_, read) = tokio::join!(write, client.read_exact(&mut all));
        read.unwrap();
        assert!(all.starts_with(&sent) && all.ends_with(b"end"));
    }

    #[tokio::test]
    async fn writer_that_waits_is_woken_when_what_was_gathered_is_sent() {
        let (mut stream, writes, mut client) = pair(1024).await;
        // What the pipe takes is gone when the next write is refused.
        let sent = noise(UNSENT_BYTES + RECORD_BYTES);
        stream.write_all(&sent).await.unwrap();
        let mut stream = Pin::new(&mut stream);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(stream.as_mut().poll_write(&mut cx, b"more").is_pending());
        let mut read = vec![0; sent.len()];
        for _ in 0..100 {
            // Room comes in steps of what fits the pipe.
            let _ = poll!(Box::pin(client.read(&mut read)));
            woken.0.store(false, Ordering::SeqCst);
            let _ = writes.poll_flush(&mut cx);
            if woken.0.load(Ordering::SeqCst) {
                break;
            }
        }
        // The system says nothing more of room that is used at once.
        assert!(woken.0.load(Ordering::SeqCst));
        let Poll::Ready(Ok(4)) = stream.as_mut().poll_write(&mut cx, b"more") else {
            panic!("there is room");
        };
    }

    #[tokio::test]
    async fn client_is_asked_for_more_once_it_has_what_was_gathered() {
        let (mut stream, writes, mut client) = pair(1024).await;
        let mut read = [0; 4];
        assert!(poll!(Box::pin(stream.read(&mut read))).is_pending());
        client.write_all(b"more").await.unwrap();
        client.flush().await.unwrap();
        assert!(poll!(Box::pin(stream.read(&mut read))).is_pending());
        poll_fn(|cx| writes.poll_flush(cx)).await.unwrap();
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"more");
    }

    #[tokio::test]
    async fn nothing_is_read_after_a_flood() {
        let (mut stream, writes, mut client) = pair(64 * 1024).await;
        let preface = [0; 24];
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        client.write_all(&preface).await.unwrap();
        client.write_all(&ping.repeat(100)).await.unwrap();
        client.flush().await.unwrap();
        let mut read = vec![0; 24 + 100 * ping.len()];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(writes.flood(), None);
        client.write_all(&ping).await.unwrap();
        client.flush().await.unwrap();
        stream.read_exact(&mut read[..ping.len()]).await.unwrap();
        assert_eq!(writes.flood(), Some(Flood::Pings));
        client.write_all(&ping).await.unwrap();
        client.flush().await.unwrap();
        assert!(poll!(Box::pin(stream.read(&mut read))).is_pending());
        let discarded = poll_fn(|cx| writes.poll_discard(cx)).await.unwrap();
        assert_eq!(discarded, ping.len());
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}
