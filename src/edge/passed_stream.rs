//! A stream of HTTP/2 as pingora's proxy wants its clients.
//!
//! pingora makes a session of its own for a stream that it has accepted itself, and for no other.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::poll_fn;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use http::header::{CONNECTION, DATE, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::body_buffer::FixedBuffer;
use pingora::protocols::http::date::get_cached_date;
use pingora::protocols::http::v1::client::http_req_header_to_wire;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::time::timeout;
use pingora::{Error, ErrorType, OrErr, Result};

use super::stream_h2::{is_empty, send};

/// So much of a body is kept for a second server when the first one fails, as pingora does it.
const KEPT_BYTES: usize = 64 * 1024;

/// Fields that belong to one connection on HTTP/1.1 (RFC 9113 §8.2.2).
const OF_CONNECTIONS: [HeaderName; 5] = [
    TRANSFER_ENCODING,
    CONNECTION,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Waits for `future`, at most for `patience` where there is one; `None` when that was too long.
async fn within<F: Future>(patience: Option<Duration>, future: F) -> Option<F::Output> {
    match patience {
        Some(patience) => timeout(patience, future).await.ok(),
        None => Some(future.await),
    }
}

/// See the module's documentation. Methods are named as in pingora's session.
pub(super) struct PassedStream {
    head: RequestHeader,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    /// `None` before the response's head.
    response: Option<SendStream<Bytes>>,
    written: Option<Box<ResponseHeader>>,
    is_ended: bool,
    received_bytes: usize,
    sent_bytes: usize,
    kept: Option<FixedBuffer>,
    digest: Arc<Digest>,
    write_timeout: Option<Duration>,
    drain_timeout: Option<Duration>,
}

impl PassedStream {
    /// The stream of a request with the head `head`, on the connection of `digest`.
    pub(super) fn new(
        head: RequestHeader,
        body: RecvStream,
        respond: SendResponse<Bytes>,
        digest: Arc<Digest>,
    ) -> Self {
        PassedStream {
            head,
            body,
            respond,
            response: None,
            written: None,
            is_ended: false,
            received_bytes: 0,
            sent_bytes: 0,
            kept: None,
            digest,
            write_timeout: None,
            drain_timeout: None,
        }
    }

    /// More of the body, whenever it comes.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(super) async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        let read = self.body.data().await.transpose();
        let read = read.or_err(
            ErrorType::ReadError,
            "while reading downstream request body",
        )?;
        let Some(bytes) = read else {
            return Ok(None);
        };
        self.received_bytes += bytes.len();
        if let Some(kept) = &mut self.kept {
            kept.write_to_buffer(&bytes);
        }
        // Fails only when the stream is over.
        let _ = self.body.flow_control().release_capacity(bytes.len());
        Ok(Some(bytes))
    }

    /// The same, and then waits for a client that leaves: that is an error.
    pub(super) async fn read_body_or_idle(&mut self, no_body: bool) -> Result<Option<Bytes>> {
        if !no_body && !self.is_body_done() {
            return self.read_body_bytes().await;
        }
        let response = &mut self.response;
        let reset = poll_fn(|cx| match response {
            Some(response) => response.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        let reason = (reset.await).or_err(ErrorType::H2Error, "downstream error while idling")?;
        let said = format!("Client closed H2, reason: {reason}");
        Error::e_explain(ErrorType::H2Error, said)
    }

    pub(super) async fn drain_request_body(&mut self) -> Result<()> {
        if self.is_body_done() {
            return Ok(());
        }
        let patience = self.drain_timeout;
        let drain = async {
            while self.read_body_bytes().await?.is_some() {}
            Ok(())
        };
        match within(patience, drain).await {
            Some(drained) => drained,
            None => Error::e_explain(ErrorType::ReadTimedout, "draining a body"),
        }
    }

    /// Interim responses are left out, as by pingora's own session.
    pub(super) fn write_response_header(
        &mut self,
        mut head: Box<ResponseHeader>,
        end: bool,
    ) -> Result<()> {
        if self.is_ended || self.written.is_some() || head.status.is_informational() {
            return Ok(());
        }
        if !head.headers.contains_key(DATE) {
            head.insert_header(DATE, get_cached_date())?;
        }
        for name in &OF_CONNECTIONS {
            head.remove_header(name);
        }
        let response = http::Response::from_parts(head.as_owned_parts(), ());
        let sent = self.respond.send_response(response, end);
        self.response = Some(sent.or_err(ErrorType::WriteError, "while writing an h2 head")?);
        self.written = Some(head);
        self.is_ended = end;
        Ok(())
    }

    pub(super) fn write_response_header_ref(
        &mut self,
        head: &ResponseHeader,
        end: bool,
    ) -> Result<()> {
        self.write_response_header(Box::new(head.clone()), end)
    }

    pub(super) async fn write_body(&mut self, bytes: Bytes, end: bool) -> Result<()> {
        if self.is_ended {
            return Ok(());
        }
        let Some(response) = &mut self.response else {
            return Error::e_explain(ErrorType::H2Error, "a body before its head");
        };
        let length = bytes.len();
        let fault = match within(self.write_timeout, send(response, bytes, end)).await {
            Some(Ok(())) => {
                self.sent_bytes += length;
                self.is_ended = end;
                return Ok(());
            }
            Some(Err(_)) => Error::explain(ErrorType::WriteError, "the client is gone"),
            None => Error::explain(ErrorType::WriteTimedout, "the client takes nothing"),
        };
        Err(fault.into_down())
    }

    pub(super) fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        if self.is_ended {
            return Ok(());
        }
        let Some(response) = &mut self.response else {
            return Error::e_explain(ErrorType::H2Error, "trailers before their head");
        };
        let sent = response.send_trailers(trailers);
        sent.or_err(ErrorType::WriteError, "while writing h2 trailers")?;
        self.is_ended = true;
        Ok(())
    }

    /// Writes what the origin has sent; tells whether that was all.
    pub(super) async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut is_over = false;
        for task in tasks {
            is_over |= self.write_task(task).await?;
        }
        if is_over {
            self.finish().map_err(|e| e.into_down())?;
        }
        Ok(is_over)
    }

    async fn write_task(&mut self, task: HttpTask) -> Result<bool> {
        match task {
            HttpTask::Header(head, end) => {
                let written = self.write_response_header(head, end);
                written.map_err(|e| e.into_down())?;
                Ok(end)
            }
            HttpTask::Body(Some(bytes), end) if !bytes.is_empty() => {
                self.write_body(bytes, end).await?;
                Ok(end)
            }
            HttpTask::Body(_, end) => Ok(end),
            HttpTask::Trailer(Some(trailers)) => {
                self.write_trailers(*trailers)?;
                Ok(true)
            }
            HttpTask::Trailer(None) | HttpTask::Done => Ok(true),
            // Nothing is switched to on HTTP/2.
            HttpTask::UpgradedBody(..) => {
                Error::e_explain(ErrorType::InternalError, "an upgraded body on h2")
            }
            HttpTask::Failed(error) => Err(error),
        }
    }

    /// Ends a response that is whole; without a head there is none.
    pub(super) fn finish(&mut self) -> Result<()> {
        if let Some(response) = &mut self.response
            && !self.is_ended
        {
            let sent = response.send_data(Bytes::new(), true);
            sent.or_err(ErrorType::WriteError, "while ending an h2 body")?;
            self.is_ended = true;
        }
        Ok(())
    }

    /// The client must not take what it has for the whole.
    pub(super) fn shutdown(&mut self) {
        self.shutdown_with_reason(Reason::INTERNAL_ERROR);
    }

    pub(super) fn shutdown_with_reason(&mut self, reason: Reason) {
        if !self.is_ended {
            self.respond.send_reset(reason);
        }
    }

    pub(super) fn req_header(&self) -> &RequestHeader {
        &self.head
    }

    pub(super) fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    pub(super) fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_deref()
    }

    pub(super) fn is_body_empty(&self) -> bool {
        self.received_bytes == 0 && is_empty(&self.body, &self.head.headers)
    }

    pub(super) fn is_body_done(&self) -> bool {
        self.is_body_empty() || self.body.is_end_stream()
    }

    pub(super) fn body_bytes_sent(&self) -> usize {
        self.sent_bytes
    }

    pub(super) fn body_bytes_read(&self) -> usize {
        self.received_bytes
    }

    pub(super) fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write_timeout = timeout;
    }

    pub(super) fn get_write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    pub(super) fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.drain_timeout = timeout;
    }

    pub(super) fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drain_timeout
    }

    /// From now on, what is read can be read again.
    pub(super) fn enable_retry_buffering(&mut self) {
        self.kept
            .get_or_insert_with(|| FixedBuffer::new(KEPT_BYTES));
    }

    pub(super) fn retry_buffer_truncated(&self) -> bool {
        self.kept.as_ref().is_some_and(FixedBuffer::is_truncated)
    }

    pub(super) fn get_retry_buffer(&self) -> Option<Bytes> {
        let kept = self.kept.as_ref().filter(|kept| !kept.is_truncated());
        kept.and_then(FixedBuffer::get_buffer)
    }

    /// What pingora says of it in its log.
    pub(super) fn request_summary(&self) -> String {
        let uri = &self.head.uri;
        let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
        let authority = uri.authority().map_or("", |name| name.as_str());
        format!("{} {path}, Host: {authority}", self.head.method)
    }

    /// The head as it would be on HTTP/1.1; nothing for one that cannot be.
    pub(super) fn pseudo_raw_h1_request_header(&self) -> Bytes {
        http_req_header_to_wire(&self.head).map_or_else(Bytes::new, |wire| wire.freeze())
    }

    pub(super) fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    pub(super) fn digest_mut(&mut self) -> Option<&mut Digest> {
        Arc::get_mut(&mut self.digest)
    }

    pub(super) fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    pub(super) fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }
}
