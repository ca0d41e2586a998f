//! A request on HTTP/2 whose client has no more time than on HTTP/1.1.
//!
//! Nobody but this limits the time for reading a body, or how slowly a response is taken: whoever reads gets an error
//! once its client has been silent for too long or is too slow on average, and whoever writes, once its client takes
//! too little.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::poll_fn;
use h2::Reason;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::time::timeout;
use pingora::{Error, ErrorType, Result};

use super::held_bodies::HeldBody;
use super::pace::{Pace, PolledPace, TooSlow};
use super::passed_stream::PassedStream;
use crate::clock::SharedClock;

/// See the module's documentation.
pub(super) struct PacedSession {
    inner: PassedStream,
    /// How the body comes; `None` when there is none.
    receiving: Option<Receiving>,
    /// How the response is taken; `None` when that does not matter.
    sending: Option<Sending>,
    /// pingora sets it, and it means nothing: `receiving` knows how long a client may be silent.
    read_timeout: Option<Duration>,
}

/// A body on its way.
pub(super) struct Receiving {
    /// How long it is waited for.
    pub(super) pace: PolledPace,
    /// Itself, among those of its connection.
    pub(super) body: HeldBody,
}

/// A response on its way.
pub(super) struct Sending {
    /// How long its client may take nothing.
    pub(super) pace: Pace,
    /// The clock by which that is measured.
    pub(super) clock: SharedClock,
    /// Tells who answers for the request.
    pub(super) too_slow: TooSlow,
}

impl PacedSession {
    /// Gives the client of `inner` as much time as both directions allow.
    pub(super) fn new(
        inner: PassedStream,
        receiving: Option<Receiving>,
        sending: Option<Sending>,
    ) -> Self {
        PacedSession {
            inner,
            receiving,
            sending,
            read_timeout: None,
        }
    }

    /// Writes one task, and notes how long its client took for it.
    async fn write_task(&mut self, task: HttpTask) -> Result<bool> {
        let bytes = match &task {
            HttpTask::Body(Some(data), _) => data.len(),
            _ => 0,
        };
        let write = self.inner.response_duplex_vec(vec![task]);
        let Some(sending) = &mut self.sending else {
            return write.await;
        };
        let since = sending.clock.monotonic();
        match timeout(sending.pace.allowance(), write).await {
            Ok(written) => {
                let waited = sending.clock.monotonic().saturating_sub(since);
                sending.pace.moved(bytes as u64, waited);
                written
            }
            Err(_) => {
                sending.too_slow.set();
                let error =
                    Error::explain(ErrorType::WriteTimedout, "the response is taken too slowly");
                Err(error.into_down())
            }
        }
    }
}

/// What pingora asks of a session of a protocol that it does not know. All of it but reading and writing bodies is
/// the stream's own.
#[async_trait]
impl Session for PacedSession {
    /// # Cancel safety
    /// Nothing is lost when the future is dropped, and the time that was waited still counts.
    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        let mut read = pin!(self.inner.read_body_bytes());
        let Some(Receiving { pace, body }) = &mut self.receiving else {
            return read.await;
        };
        let read = poll_fn(|cx| match read.as_mut().poll(cx) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => {
                body.is_awaited();
                pace.poll_too_slow(cx).map(|()| None)
            }
        });
        match read.await {
            None => Error::e_explain(ErrorType::ReadTimedout, "the body arrives too slowly"),
            Some(Ok(Some(bytes))) => {
                body.is_held();
                // A frame without content is no progress.
                if !bytes.is_empty() {
                    pace.moved(bytes.len());
                }
                Ok(Some(bytes))
            }
            Some(ended) => {
                body.is_awaited();
                ended
            }
        }
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if !no_body_expected && !self.inner.is_body_done() {
            return self.read_body_bytes().await;
        }
        if let Some(receiving) = &mut self.receiving {
            receiving.body.is_awaited();
        }
        self.inner.read_body_or_idle(no_body_expected).await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut is_over = false;
        for task in tasks {
            is_over |= self.write_task(task).await?;
        }
        Ok(is_over)
    }

    fn req_header(&self) -> &RequestHeader {
        self.inner.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner.req_header_mut()
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.inner.drain_request_body().await
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.inner.write_response_header(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.inner.write_response_header_ref(head, end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.inner.write_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner.write_trailers(trailers)
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner.request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner.response_written()
    }

    async fn shutdown(&mut self, code: u32, _context: &str) {
        self.inner.shutdown_with_reason(Reason::from(code));
    }

    async fn abandon(&mut self, _context: &str) {
        self.inner.shutdown();
    }

    fn is_body_done(&mut self) -> bool {
        self.inner.is_body_done()
    }

    async fn finish(&mut self) -> Result<()> {
        self.inner.finish()
    }

    fn is_body_empty(&mut self) -> bool {
        self.inner.is_body_empty()
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner.pseudo_raw_h1_request_header()
    }

    fn enable_retry_buffering(&mut self) {
        self.inner.enable_retry_buffering();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.inner.retry_buffer_truncated()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.inner.get_retry_buffer()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    /// There are no messages beside request and response.
    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(
        &mut self,
        _writer: Box<dyn CustomMessageWrite>,
    ) -> Result<()> {
        Ok(())
    }
}
