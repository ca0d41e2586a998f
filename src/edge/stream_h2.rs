//! One stream of HTTP/2: its request takes the steps, and its client gets the answer.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use pingora::apps::HttpServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::Digest;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use pingora::time::timeout;

use super::admit::{GateRefusal, admit};
use super::deliver::failure_fields;
use super::downstream::{ClientGone, Downstream, Follows, ReplyHead};
use super::failure::Failure;
use super::head_h2::{check_limits, raw_head, response_head};
use super::held_bodies::{HeldBody, HeldUp};
use super::listen::Lanes;
use super::pace::{Pace, PolledPace};
use super::paced_session::{PacedSession, Receiving, Sending};
use super::passed_stream::PassedStream;
use super::request::{Peer, RequestId};
use super::tls::{Scope, directed};
use super::{Answered, LINGER, Node, Request, Ticket};
use crate::cache::fetch::InterimResponse;
use crate::clock::{Moment, SharedClock};
use crate::observe::Protocol;

/// Frames of at most this size share a connection fairly.
const WRITE_BYTES: usize = 64 * 1024;

/// What all streams of a connection have in common.
pub(super) struct ConnectionH2 {
    pub(super) lanes: Arc<Lanes>,
    pub(super) peer: Peer,
    pub(super) scope: Option<Scope>,
    pub(super) shutdown: ShutdownWatch,
    /// For pingora.
    pub(super) digest: Arc<Digest>,
    /// Bodies of requests that nobody reads for the moment.
    pub(super) held_up: Arc<HeldUp>,
}

/// Answers one stream.
pub(super) async fn answer(
    connection: Arc<ConnectionH2>,
    mut head: Parts,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    if was_reset(&mut respond) {
        return;
    }
    let node = &connection.lanes.node;
    let started = node.clock.now();
    let id = RequestId::random();
    let has_body = !is_empty(&body, &head.headers);
    let is_head = head.method == Method::HEAD;
    // Its `Range` gets lost among the steps, and its signature may cover it.
    let as_sent = is_head.then(|| head.headers.clone());
    let fields = mem::take(&mut head.headers);
    let admitted = connection.admit(&head, fields, !has_body, id, started);
    let mut client = Client {
        response: Response::Awaited(respond),
        clock: &node.clock,
        write_timeout: node.timeouts.write,
        pace: node.limits.min_send_rate.map(Pace::new),
        is_too_slow: false,
        is_head,
        is_ended: false,
    };
    match admitted {
        Err(refusal) => {
            connection.refuse(refusal, id, started, &mut client).await;
        }
        Ok(request) => match node.answer(request, &mut client).await {
            Answered::Done => {}
            Answered::Pass(ticket) => {
                let Response::Awaited(respond) = client.response else {
                    return;
                };
                head.headers = as_sent.unwrap_or_else(|| fields_as_sent(&ticket.visit.request));
                let passed = PassedStream::new(
                    RequestHeader::from(head),
                    body,
                    respond,
                    connection.digest.clone(),
                );
                connection.pass(passed, ticket, has_body).await;
                return;
            }
        },
    }
    if has_body {
        drain(&mut body).await;
    }
}

impl ConnectionH2 {
    fn admit(
        &self,
        head: &Parts,
        fields: HeaderMap,
        ends_with_head: bool,
        id: RequestId,
        started: Moment,
    ) -> Result<Request, GateRefusal> {
        let raw = raw_head(&head.method, &head.uri, fields, ends_with_head);
        check_limits(&raw, &self.lanes.node.limits)?;
        let request = admit(raw, id, started, self.peer.clone())?;
        directed(request, self.scope.as_ref())
    }

    /// Tells a client that its request is not let in.
    async fn refuse(
        &self,
        refusal: GateRefusal,
        id: RequestId,
        started: Moment,
        client: &mut Client<'_>,
    ) {
        let node = &self.lanes.node;
        let reply = Failure::Gate(refusal).reply();
        node.record_refused(&id, started, &self.peer, Protocol::H2, &reply);
        let body = reply.body(&id);
        let fields = failure_fields(&reply, node.clock.wall());
        let head = ReplyHead::of_failure(&reply, &fields, body.len() as u64, id);
        // A client that is gone already was refused all the same.
        let _ = client.head(&head, &body, Follows::Nothing).await;
    }

    /// Has pingora's proxy answer.
    async fn pass(&self, stream: PassedStream, ticket: Box<Ticket>, has_body: bool) {
        let node = &self.lanes.node;
        let receiving = has_body.then(|| self.receiving(node, &ticket));
        let paced = PacedSession::new(stream, receiving, sending(node, &ticket));
        let mut session = ServerSession::new_custom(Box::new(paced));
        session.set_write_timeout(Some(node.timeouts.write));
        let extensions = session.req_header_mut().extensions_mut();
        extensions.insert(Arc::new(*ticket));
        let proxy = &self.lanes.proxy;
        proxy.process_new_http(session, &self.shutdown).await;
    }

    /// How long the body of a request may take.
    fn receiving(&self, node: &Node, ticket: &Ticket) -> Receiving {
        Receiving {
            pace: PolledPace::of_body(
                node.limits.min_receive_rate,
                node.timeouts.request_body,
                node.clock.clone(),
                self.held_up.clone(),
                ticket.pace.sending.clone(),
            ),
            body: HeldBody::new(self.held_up.clone(), node.clock.clone()),
        }
    }
}

/// How long a client may take for its response, where that matters.
fn sending(node: &Node, ticket: &Ticket) -> Option<Sending> {
    Some(Sending {
        pace: Pace::new(node.limits.min_send_rate?),
        clock: node.clock.clone(),
        too_slow: ticket.pace.taking.clone(),
    })
}

/// Whether the client has taken its request back already: nothing is done for it, least of all at the
/// origin (CVE-2023-44487).
fn was_reset(respond: &mut SendResponse<Bytes>) -> bool {
    poll_fn(|cx| respond.poll_reset(cx))
        .now_or_never()
        .is_some()
}

/// Whether nothing follows a head with the fields `fields`.
pub(super) fn is_empty(body: &RecvStream, fields: &HeaderMap) -> bool {
    body.is_end_stream()
        || fields
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length.as_bytes() == b"0")
}

/// The fields of a request that is no HEAD, but for the credentials that were taken out of it.
fn fields_as_sent(request: &Request) -> HeaderMap {
    let mut fields = request.fields.clone();
    if let Some(origin) = &request.asking_origin {
        fields.insert(ORIGIN, origin.clone());
    }
    fields
}

/// Reads and drops what is left of a body that nobody wanted: a stream that is dropped before its
/// client has finished is reset, and the reset would overtake the response (RFC 9113 §8.1).
async fn drain(body: &mut RecvStream) {
    let read = async {
        while let Some(Ok(bytes)) = body.data().await {
            // Fails only when the stream is over.
            let _ = body.flow_control().release_capacity(bytes.len());
        }
    };
    // The response is sent; whether the client finished its request changes nothing.
    let _ = timeout(LINGER, read).await;
}

/// Hands over what the client's windows have room for now; gives it back when they have not.
///
/// # Errors
/// [`ClientGone`].
fn send_at_once(
    stream: &mut SendStream<Bytes>,
    bytes: Bytes,
    end: bool,
) -> Result<Option<Bytes>, ClientGone> {
    if !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        if stream.capacity() < bytes.len() {
            return Ok(Some(bytes));
        }
    }
    match stream.send_data(bytes, end) {
        Ok(()) => Ok(None),
        Err(_) => Err(ClientGone),
    }
}

/// Hands over bytes as the client makes room for them.
///
/// # Errors
/// [`ClientGone`].
pub(super) async fn send(
    stream: &mut SendStream<Bytes>,
    bytes: Bytes,
    end: bool,
) -> Result<(), ClientGone> {
    let Some(mut left) = send_at_once(stream, bytes, end)? else {
        return Ok(());
    };
    loop {
        stream.reserve_capacity(left.len());
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(Ok(room)) = room else {
            return Err(ClientGone);
        };
        let part = left.split_to(room.min(left.len()));
        if part.is_empty() {
            // Told of before it was used up.
            continue;
        }
        let is_last = left.is_empty();
        if stream.send_data(part, end && is_last).is_err() {
            return Err(ClientGone);
        }
        if is_last {
            return Ok(());
        }
    }
}

/// A response, before and after its head.
enum Response {
    Awaited(SendResponse<Bytes>),
    Begun(SendStream<Bytes>),
}

/// An h2 client that awaits one response.
struct Client<'a> {
    response: Response,
    clock: &'a SharedClock,
    write_timeout: Duration,
    /// How it takes the response.
    pace: Option<Pace>,
    is_too_slow: bool,
    is_head: bool,
    is_ended: bool,
}

impl Client<'_> {
    /// Writes in pieces, so that a slow client is judged by its progress and not by the size of
    /// what we happen to have.
    async fn pieces(&mut self, mut bytes: Bytes, end: bool) -> Result<(), ClientGone> {
        while bytes.len() > WRITE_BYTES {
            let piece = bytes.split_to(WRITE_BYTES);
            self.piece(piece, false).await?;
        }
        self.piece(bytes, end).await
    }

    async fn piece(&mut self, bytes: Bytes, end: bool) -> Result<(), ClientGone> {
        let length = bytes.len() as u64;
        let stream = self.response.begun()?;
        let waited = match send_at_once(stream, bytes, end)? {
            None => Duration::ZERO,
            Some(bytes) => self.send_as_it_takes(bytes, end).await?,
        };
        if let Some(pace) = &mut self.pace {
            pace.moved(length, waited);
        }
        Ok(())
    }

    /// Tells how long that took.
    async fn send_as_it_takes(&mut self, bytes: Bytes, end: bool) -> Result<Duration, ClientGone> {
        let since = self.clock.monotonic();
        let patience = match &self.pace {
            Some(pace) => self.write_timeout.min(pace.allowance()),
            None => self.write_timeout,
        };
        let stream = self.response.begun()?;
        match timeout(patience, send(stream, bytes, end)).await {
            Ok(sent) => sent.map(|()| self.clock.monotonic().saturating_sub(since)),
            Err(_) => {
                self.is_too_slow = true;
                Err(ClientGone)
            }
        }
    }
}

impl Response {
    /// What carries the body.
    fn begun(&mut self) -> Result<&mut SendStream<Bytes>, ClientGone> {
        match self {
            Response::Begun(stream) => Ok(stream),
            Response::Awaited(_) => Err(ClientGone),
        }
    }
}

impl Downstream for Client<'_> {
    /// None is sent, as pingora sends none.
    async fn interim(&mut self, _: &InterimResponse) -> Result<(), ClientGone> {
        Ok(())
    }

    async fn head(
        &mut self,
        head: &ReplyHead<'_>,
        first: &Bytes,
        follows: Follows,
    ) -> Result<(), ClientGone> {
        let Response::Awaited(respond) = &mut self.response else {
            return Err(ClientGone);
        };
        let response = response_head(head).ok_or(ClientGone)?;
        let has_no_body = self.is_head || head.status == StatusCode::NOT_MODIFIED;
        let is_all = has_no_body || follows == Follows::Nothing;
        let ends_with_head = is_all && (has_no_body || first.is_empty());
        let sent = respond.send_response(response, ends_with_head);
        self.response = Response::Begun(sent.map_err(|_| ClientGone)?);
        self.is_ended = is_all;
        if ends_with_head || first.is_empty() {
            return Ok(());
        }
        self.pieces(first.clone(), is_all).await
    }

    async fn data(&mut self, bytes: Bytes) -> Result<(), ClientGone> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.pieces(bytes, false).await
    }

    async fn finish(&mut self) -> Result<(), ClientGone> {
        if self.is_ended {
            return Ok(());
        }
        self.is_ended = true;
        self.piece(Bytes::new(), true).await
    }

    fn is_too_slow(&self) -> bool {
        self.is_too_slow
    }

    async fn abort(&mut self) {
        if self.is_ended {
            return;
        }
        self.is_ended = true;
        // RST_STREAM: the client must not take what it has for the whole.
        match &mut self.response {
            Response::Awaited(respond) => respond.send_reset(Reason::INTERNAL_ERROR),
            Response::Begun(stream) => stream.send_reset(Reason::INTERNAL_ERROR),
        }
    }
}
