//! A TLS connection with a client whose records are cut and sent by us.
//!
//! rustls by itself takes 64 KiB at a time and cuts records from the front: a block of 256 KiB is four system
//! calls and a fifth for its last kilobyte, which costs about as much as the others and, where the kernel
//! paces connections, a timer. Here what is written leaves in as few system calls as can be, all of one
//! size and none larger than the kernel sends as one segment.
//!
//! Nothing is sealed before all that was sealed earlier is with the system, so what a connection holds for
//! a slow client is one such batch; whoever calls [`TlsStream::seal`] keeps a limit of its own.

use std::fmt;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, IO, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream as Session;

use super::tls::RECORD_BYTES;

/// The most plaintext that is sealed and sent at a time. With the overhead of four records it fits the
/// largest segment that the kernel hands to a device, 64 KiB with headers; what does not fit would follow as
/// a second segment.
pub(super) const BATCH_BYTES: usize = 4 * RECORD_BYTES;

/// Records of a size that keeps their plaintext out of step with the pages (see [`RECORD_BYTES`]).
const RECORD_STEP_BYTES: usize = 64;
const _: () = assert!(RECORD_BYTES.is_multiple_of(RECORD_STEP_BYTES));

/// The connection; `S` is what its records travel on.
pub(super) struct TlsStream<S> {
    session: Session<S>,
    digest: Arc<SslDigest>,
    timing: TimingDigest,
    unsent_bytes: usize,
}

impl<S: IO> TlsStream<S> {
    /// Takes the handshake with a client that has just connected.
    ///
    /// # Errors
    /// What rustls says of the client, or the system of the connection.
    pub(super) async fn accept(config: Arc<ServerConfig>, stream: S) -> io::Result<Self> {
        let begun = Instant::now();
        let accept = TlsAcceptor::from(config)
            // The limit is kept here: nothing is sealed before what was sealed earlier is sent.
            .accept_with(stream, |connection| connection.set_buffer_limit(None));
        let session = accept.await?;
        Ok(TlsStream {
            digest: Arc::new(digest(session.get_ref().1)),
            timing: TimingDigest {
                established_ts: SystemTime::now(),
                establishment_duration: Some(begun.elapsed()),
                offload_wait_duration: None,
            },
            session,
            unsent_bytes: 0,
        })
    }
}

impl<S> TlsStream<S> {
    /// The host that the client named (SNI).
    pub(super) fn server_name(&self) -> Option<&str> {
        self.session.get_ref().1.server_name()
    }

    /// Whether the client came back with a ticket.
    pub(super) fn is_resumed(&self) -> bool {
        self.session.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

fn digest(connection: &ServerConnection) -> SslDigest {
    let suite = connection.negotiated_cipher_suite();
    let cipher = suite.and_then(|suite| suite.suite().as_str());
    let version = connection
        .protocol_version()
        .and_then(|version| version.as_str());
    // What a client's certificate says is kept in its terms (`policy`), not here.
    SslDigest::new(
        cipher.unwrap_or_default(),
        version.unwrap_or_default(),
        None,
        None,
        Vec::new(),
    )
}

impl<S> TlsStream<S> {
    /// The certificate that the client has shown, and that was found good.
    pub(super) fn client_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.session.get_ref().1.peer_certificates()?.first()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Gives the system all that is sealed.
    ///
    /// # Errors
    /// What the system says of the connection.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (io, connection) = self.session.get_mut();
        while connection.wants_write() {
            match connection.write_tls(&mut Records { io, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(sent) => self.unsent_bytes = self.unsent_bytes.saturating_sub(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.unsent_bytes = 0;
        Poll::Ready(Ok(()))
    }

    /// As many bytes of plaintext, about, as are sealed and not yet with the system.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// Seals the next `bytes` of `plaintext` as one record, to be sent by [`TlsStream::poll_send`].
    ///
    /// # Errors
    /// What rustls says of the connection.
    ///
    /// # Panics
    /// Never for `bytes` up to [`RECORD_BYTES`] and no more than `plaintext` has left.
    pub(super) fn seal(&mut self, plaintext: &mut Parts<'_>, bytes: usize) -> io::Result<()> {
        let mut writer = self.session.get_mut().1.writer();
        let together = plaintext.next(bytes);
        let sealed = if together.len() == bytes {
            writer.write(together)?
        } else {
            let mut slices = vec![IoSlice::new(together)];
            let mut missing = bytes - together.len();
            while missing > 0 {
                let more = plaintext.next(missing);
                assert!(!more.is_empty(), "a record is cut from what is there");
                missing -= more.len();
                slices.push(IoSlice::new(more));
            }
            writer.write_vectored(&slices)?
        };
        self.unsent_bytes += sealed;
        if sealed == bytes {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Seals the next batch of `plaintext`, in records of one size; returns how many bytes that is.
    fn seal_batch(&mut self, mut plaintext: Parts<'_>) -> io::Result<usize> {
        let batch = batch_bytes(plaintext.remaining());
        let record = record_bytes(batch);
        let mut left = batch;
        while left > 0 {
            let bytes = left.min(record);
            self.seal(&mut plaintext, bytes)?;
            left -= bytes;
        }
        Ok(batch)
    }
}

/// The share of `all` bytes that is sent next: as few batches as can be, none of them a short rest.
fn batch_bytes(all: usize) -> usize {
    let batches = all.div_ceil(BATCH_BYTES).max(1);
    all.div_ceil(batches)
}

/// The size of all records of a batch but the last: as few as can be, none of them a short rest.
fn record_bytes(batch: usize) -> usize {
    let records = batch.div_ceil(RECORD_BYTES).max(1);
    batch.div_ceil(records).next_multiple_of(RECORD_STEP_BYTES)
}

/// What is left of several slices.
pub(super) struct Parts<'a> {
    parts: &'a [IoSlice<'a>],
    /// Of the first.
    taken: usize,
}

impl<'a> Parts<'a> {
    pub(super) fn new(parts: &'a [IoSlice<'a>]) -> Self {
        Parts { parts, taken: 0 }
    }

    /// How many bytes are left.
    pub(super) fn remaining(&self) -> usize {
        let all: usize = self.parts.iter().map(|part| part.len()).sum();
        all - self.taken
    }

    /// At most `wanted` bytes that lie together; none when nothing is left.
    pub(super) fn next(&mut self, wanted: usize) -> &'a [u8] {
        while let [first, others @ ..] = self.parts {
            let first = &first[self.taken..];
            if wanted < first.len() {
                self.taken += wanted;
                return &first[..wanted];
            }
            self.parts = others;
            self.taken = 0;
            if !first.is_empty() {
                return first;
            }
        }
        &[]
    }
}

/// Where rustls writes its records: a system call for all that it has.
struct Records<'a, 'b, S> {
    io: &'a mut S,
    cx: &'a mut Context<'b>,
}

impl<S: AsyncWrite + Unpin> Records<'_, '_, S> {
    fn or_would_block<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
        match polled {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Write for Records<'_, '_, S> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        Self::or_would_block(Pin::new(&mut *self.io).poll_write(self.cx, record))
    }

    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::or_would_block(Pin::new(&mut *self.io).poll_write_vectored(self.cx, records))
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::or_would_block(Pin::new(&mut *self.io).poll_flush(self.cx))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.session).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let sealed = self.seal_batch(Parts::new(bufs))?;
        // What the system does not take now goes with the next write, or when it is flushed.
        let _ = self.poll_send(cx)?;
        Poll::Ready(Ok(sealed))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(self.session.get_mut().0).poll_flush(cx)
    }

    /// Says `close_notify`, without which the client cannot tell an end from an attack.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.session).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("version", &self.digest.version)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<S: IO> Shutdown for TlsStream<S> {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            tracing::debug!(%error, "the end of a TLS connection could not be sent");
        }
    }
}

impl<S: IO> UniqueID for TlsStream<S> {
    fn id(&self) -> UniqueIDType {
        self.session.get_ref().0.id()
    }
}

impl<S> Ssl for TlsStream<S> {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        Some(self.digest.clone())
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        match self.session.get_ref().1.alpn_protocol()? {
            b"h2" => Some(ALPN::H2),
            b"http/1.1" => Some(ALPN::H1),
            _ => None,
        }
    }
}

impl<S: IO> GetTimingDigest for TlsStream<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        let mut layers = self.session.get_ref().0.get_timing_digest();
        layers.push(Some(self.timing.clone()));
        layers
    }

    fn get_read_pending_time(&self) -> Duration {
        self.session.get_ref().0.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.session.get_ref().0.get_write_pending_time()
    }
}

impl<S: IO> GetProxyDigest for TlsStream<S> {
    fn get_proxy_digest(&self) -> Option<Arc<pingora::protocols::raw_connect::ProxyDigest>> {
        self.session.get_ref().0.get_proxy_digest()
    }
}

impl<S: IO> GetSocketDigest for TlsStream<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.session.get_ref().0.get_socket_digest()
    }

    fn set_socket_digest(&mut self, socket_digest: SocketDigest) {
        let socket = self.session.get_mut().0;
        socket.set_socket_digest(socket_digest);
    }
}

impl<S> Peek for TlsStream<S> {}

/// Both ends of a TLS connection through memory.
#[cfg(test)]
pub(super) mod testing {
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{DuplexStream, duplex};
    use tokio_rustls::{TlsConnector, client};

    use super::*;

    /// So many bytes that a shifted or lost one shows.
    pub(in crate::edge) fn noise(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    /// A server and its client, between which `holds` bytes fit each way.
    pub(in crate::edge) async fn connected(
        holds: usize,
    ) -> (TlsStream<DuplexStream>, client::TlsStream<DuplexStream>) {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let site = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(site.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![site.cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(site.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (ours, theirs) = duplex(holds);
        let connector = TlsConnector::from(Arc::new(client));
        let name = ServerName::try_from("localhost").unwrap();
        let (server, client) = tokio::join!(
            TlsStream::accept(Arc::new(server), ours),
            connector.connect(name, theirs),
        );
        (server.unwrap(), client.unwrap())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::poll;
    use tokio::io::AsyncReadExt;

    use super::testing::{connected, noise};
    use super::*;

    #[test]
    fn batches_and_records_are_of_one_size_and_none_is_a_short_rest() {
        for (all, batch, record) in [
            (0, 0, 0),
            (1, 1, RECORD_STEP_BYTES),
            (RECORD_BYTES, RECORD_BYTES, RECORD_BYTES),
            (RECORD_BYTES + 1, RECORD_BYTES + 1, 8192),
            (BATCH_BYTES, BATCH_BYTES, RECORD_BYTES),
            (BATCH_BYTES + 1, BATCH_BYTES / 2 + 1, 10_944),
            (256 * 1024, 52_429, 13_120),
        ] {
            assert_eq!(batch_bytes(all), batch, "of {all}");
            assert_eq!(record_bytes(batch), record, "of {batch}");
        }
        for batch in 1..=BATCH_BYTES {
            let records = batch.div_ceil(record_bytes(batch));
            assert!(record_bytes(batch) <= RECORD_BYTES);
            assert_eq!(records, batch.div_ceil(RECORD_BYTES), "of {batch}");
        }
    }

    #[tokio::test]
    async fn every_byte_arrives_however_it_is_cut() {
        let (mut server, mut client) = connected(1024 * 1024).await;
        for count in [
            1,
            RECORD_BYTES - 1,
            RECORD_BYTES + 1,
            BATCH_BYTES,
            BATCH_BYTES + 1,
            300_000,
        ] {
            let sent = noise(count);
            for cut in [0, 1, count / 3, count] {
                let mut both = [IoSlice::new(&sent[..cut]), IoSlice::new(&sent[cut..])];
                let mut left = &mut both[..];
                IoSlice::advance_slices(&mut left, 0);
                while !left.is_empty() {
                    let written = server.write_vectored(left).await.unwrap();
                    assert!(written <= BATCH_BYTES);
                    IoSlice::advance_slices(&mut left, written);
                }
                server.flush().await.unwrap();
                let mut read = vec![0; count];
                client.read_exact(&mut read).await.unwrap();
                assert!(read == sent, "{count} bytes cut at {cut}");
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_sealed_for_a_client_that_has_not_taken_what_was_sealed_before() {
        let (mut server, mut client) = connected(16 * 1024).await;
        let sent = noise(BATCH_BYTES);
        // It is taken, and most of it waits.
        server.write_all(&sent).await.unwrap();
        let waiting = server.unsent_bytes();
        assert!(waiting > 0);
        assert!(poll!(Box::pin(server.write(&sent))).is_pending());
        assert!(poll!(Box::pin(server.flush())).is_pending());
        assert!(server.unsent_bytes() <= waiting);
        let mut read = vec![0; sent.len()];
        let (flushed, taken) = tokio::join!(server.flush(), client.read_exact(&mut read));
        flushed.unwrap();
        taken.unwrap();
        assert!(read == sent);
        assert_eq!(server.unsent_bytes(), 0);
    }

    #[tokio::test]
    async fn client_is_told_of_the_end_only_when_the_connection_is_shut_down() {
        let (mut server, mut client) = connected(64 * 1024).await;
        server.write_all(b"all").await.unwrap();
        AsyncWriteExt::shutdown(&mut server).await.unwrap();
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"all");

        let (mut server, mut client) = connected(64 * 1024).await;
        server.write_all(b"not all").await.unwrap();
        server.flush().await.unwrap();
        drop(server);
        let cut_short = client.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(cut_short.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn sealed_records_wait_until_they_are_sent() {
        let (mut server, mut client) = connected(64 * 1024).await;
        let sent = noise(1000);
        let parts = [IoSlice::new(&sent[..10]), IoSlice::new(&sent[10..])];
        let mut plaintext = Parts::new(&parts);
        server.seal(&mut plaintext, 400).unwrap();
        server.seal(&mut plaintext, 600).unwrap();
        assert_eq!((plaintext.remaining(), server.unsent_bytes()), (0, 1000));
        let mut read = [0; 1000];
        assert!(poll!(Box::pin(client.read(&mut read))).is_pending());
        poll_fn(|cx| server.poll_send(cx)).await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(read[..], sent);
    }
}
