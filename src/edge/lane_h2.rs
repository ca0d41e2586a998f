//! The h2 lane: each stream of a pingora h2 session takes the same steps.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, HeaderName, HeaderValue, VIA};
use http::{Method, StatusCode};
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use pingora::time::timeout;

use super::admit::{GateRefusal, RawHead, admit};
use super::deliver::failure_fields;
use super::downstream::{ClientGone, Downstream, OrNothing, ReplyHead, ReplyLength};
use super::failure::Failure;
use super::listen::{Lanes, client_address};
use super::request::{Peer, RequestId};
use super::{Answered, LINGER, X_REQUEST_ID};
use crate::cache::fetch::InterimResponse;
use crate::observe::Protocol;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Frames of at most this size share a connection fairly.
const WRITE_BYTES: usize = 64 * 1024;

/// Serves the streams of h2 connections.
pub(super) struct Streams {
    lanes: Arc<Lanes>,
    options: HttpServerOptions,
}

impl Streams {
    pub(super) fn new(lanes: Arc<Lanes>) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(lanes.node.timeouts.keep_alive);
        Streams { lanes, options }
    }

    fn raw_head(session: &ServerSession) -> Result<RawHead<'_>, GateRefusal> {
        let head = session.req_header();
        let h2 = session.as_http2().ok_or(GateRefusal::Malformed)?;
        let authority = head.uri.authority();
        Ok(RawHead {
            protocol: Protocol::H2,
            method: head.method.as_str(),
            target: Bytes::copy_from_slice(head.raw_path()),
            authority: authority.map(|name| Bytes::copy_from_slice(name.as_str().as_bytes())),
            fields: head.headers.clone(),
            ends_with_head: h2.is_body_empty(),
        })
    }
}

#[async_trait]
impl HttpServerApp for Streams {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let node = &self.lanes.node;
        let started = node.clock.now();
        if !session.read_request().await.ok()? {
            return None;
        }
        let tls = session
            .digest()
            .and_then(|digest| digest.ssl_digest.as_deref())
            .map(super::tls::version_name);
        let peer = Peer {
            client: client_address(session.client_addr()),
            tls: Some(tls.unwrap_or("TLS")),
        };
        let id = RequestId::random();
        let head = Self::raw_head(&session);
        let has_body = head.as_ref().is_ok_and(|head| !head.ends_with_head);
        let admitted = head.and_then(|raw| {
            check_limits(&raw, &node.limits)?;
            admit(raw, id, started, peer)
        });
        let mut client = Client {
            is_head: session.req_header().method == Method::HEAD,
            session: &mut session,
            write_timeout: node.timeouts.write,
            ended: false,
        };
        match admitted {
            Err(refusal) => {
                let reply = Failure::Gate(refusal).reply();
                node.record_refused(&id, started, &peer, Protocol::H2, &reply);
                let body = reply.body(&id);
                let fields = failure_fields(reply.status, node.clock.wall());
                let head = ReplyHead::of_failure(&reply, &fields, body.len() as u64, id);
                // A client that is gone already was refused all the same.
                let _ = client.head(&head, body, true).await;
            }
            Ok(request) => match node.answer(request, &mut client).await {
                Answered::Done => {}
                Answered::Pass(ticket) => {
                    let extensions = session.req_header_mut().extensions_mut();
                    extensions.insert(Arc::new(*ticket));
                    return self.lanes.proxy.process_new_http(session, shutdown).await;
                }
            },
        }
        if has_body {
            drain(&mut session).await;
        }
        None
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// Reads and drops what is left of a body that nobody wanted: a stream that is dropped before its
/// client has finished is reset, and the reset would overtake the response (RFC 9113 §8.1).
async fn drain(session: &mut ServerSession) {
    session.set_total_drain_timeout(Some(LINGER));
    // The response is sent; whether the client finished its request changes nothing.
    let _ = session.drain_request_body().await;
}

/// The limits that the HTTP/1.1 lane applies while it reads.
fn check_limits(raw: &RawHead<'_>, limits: &crate::config::Limits) -> Result<(), GateRefusal> {
    if raw.fields.len() > limits.request_fields {
        return Err(GateRefusal::TooManyFields);
    }
    if raw.target.len() > limits.request_head_bytes {
        return Err(GateRefusal::TargetTooLong);
    }
    let lines = raw.fields.iter();
    let fields: usize = lines
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if raw.target.len() + fields > limits.request_head_bytes {
        return Err(GateRefusal::HeadTooLarge);
    }
    Ok(())
}

/// An h2 client that awaits one response.
struct Client<'a> {
    session: &'a mut ServerSession,
    write_timeout: Duration,
    is_head: bool,
    ended: bool,
}

impl Client<'_> {
    async fn body(&mut self, bytes: Bytes, end: bool) -> Result<(), ClientGone> {
        let write = self.session.write_response_body(bytes, end);
        match timeout(self.write_timeout, write).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(ClientGone),
        }
    }

    /// Writes in pieces, so that a slow client is judged by its progress and not by the size of
    /// what we happen to have.
    async fn pieces(&mut self, mut bytes: Bytes, end: bool) -> Result<(), ClientGone> {
        while bytes.len() > WRITE_BYTES {
            let piece = bytes.split_to(WRITE_BYTES);
            self.body(piece, false).await?;
        }
        self.body(bytes, end).await
    }

    async fn end(&mut self) -> Result<(), ClientGone> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        self.body(Bytes::new(), true).await
    }
}

impl Downstream for Client<'_> {
    /// pingora's h2 session sends none.
    async fn interim(&mut self, _: &InterimResponse) -> Result<(), ClientGone> {
        Ok(())
    }

    async fn head(
        &mut self,
        head: &ReplyHead<'_>,
        first: Bytes,
        last: bool,
    ) -> Result<(), ClientGone> {
        let header = response_header(head).ok_or(ClientGone)?;
        self.session
            .write_response_header(Box::new(header))
            .await
            .map_err(|_| ClientGone)?;
        if self.is_head || head.status == StatusCode::NOT_MODIFIED {
            return self.end().await;
        }
        if last {
            self.ended = true;
            return self.pieces(first, true).await;
        }
        if first.is_empty() {
            return Ok(());
        }
        self.pieces(first, false).await
    }

    async fn data(&mut self, bytes: Bytes) -> Result<(), ClientGone> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.pieces(bytes, false).await
    }

    async fn finish(&mut self) -> Result<(), ClientGone> {
        self.end().await
    }

    async fn abort(&mut self) {
        self.ended = true;
        // RST_STREAM: the client must not take what it has for the whole.
        self.session.shutdown().await;
    }
}

fn response_header(head: &ReplyHead<'_>) -> Option<ResponseHeader> {
    let mut header = ResponseHeader::build_no_case(head.status, Some(16)).ok()?;
    let mut add = |name: HeaderName, value: HeaderValue| header.append_header(name, value).ok();
    if let Some((stored, selection)) = head.stored {
        for (name, value) in &stored.fields {
            if selection.includes(name) {
                add(name.clone(), value.clone())?;
            }
        }
    }
    for (name, value) in head.fields {
        add(name.clone(), value.clone())?;
    }
    if let ReplyLength::Known(length) = head.length {
        add(CONTENT_LENGTH, HeaderValue::from(length))?;
    }
    if let Some(range) = &head.content_range {
        add(
            CONTENT_RANGE,
            HeaderValue::try_from(range.to_string()).ok()?,
        )?;
    }
    if let Some(age) = head.age_seconds {
        add(AGE, HeaderValue::from(age))?;
    }
    if let Some(status) = &head.cache_status {
        add(
            CACHE_STATUS,
            HeaderValue::try_from(format!("{status}{}", OrNothing(&head.key_parameter))).ok()?,
        )?;
    }
    add(VIA, HeaderValue::from_static("2 tidegate"))?;
    add(
        X_REQUEST_ID,
        HeaderValue::from_str(head.request_id.as_str()).ok()?,
    )?;
    Some(header)
}
