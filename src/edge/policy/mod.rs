//! The gate's policies: who may come in, how often, and what is said to browsers. `admit` says what a request may look like; this says
//! whose it may be. All of it is off unless it is configured.
//!
//! | when | function | refuses with |
//! |---|---|---|
//! | a connection is accepted | `ListenerPolicy::let_in` | [`ConnectionRefusal`]: closed without a word |
//! | a request has passed the gate | `Terms::admit` | [`PolicyRefusal`] |
//! | its route is known | `RoutePolicy::admit` | [`PolicyRefusal`]; or answers a preflight |
//! | a response goes out | `RoutePolicy::add_to`, `RoutePolicy::withheld` | |
//! | a request goes to the origin | `RoutePolicy::edit_request` | |
//!
//! Invariants:
//! - `client-before-anything`: who the client is, is settled before anything is decided or counted by it.
//! - `trust-is-configured`: no field and no PROXY header counts unless it comes from `edge.trusted_proxies`.
//! - `every-refusal-is-counted`: each has a reason, under which it is counted and logged.

mod connections;
mod cors;
mod forwarded;
mod headers;
pub mod proxy_protocol;
mod request_rate;

pub use forwarded::{ForwardedClient, forwarded_client};
pub(super) use headers::Preflight;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use http::header::{HeaderMap, HeaderName, HeaderValue, ORIGIN};
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as PlainStream;
use pingora::time::timeout;
use tokio::io::AsyncReadExt;

use self::connections::{ClientPlace, Connections, Place};
use self::headers::ResponseRules;
use self::proxy_protocol::{ProxyHeader, ProxyHeaderFault};
use self::request_rate::{RequestRate, TooOften};
use super::client_network::ClientNetwork;
use super::refusals::refusals;
use super::request::{BodyLength, Request};
use crate::config::{self, AddressRules, HeaderEdits, ProxyProtocol, Trust};

refusals! {
    /// Why a connection is closed before its first request.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
    pub enum ConnectionRefusal {
        /// `allow` or `deny` of the listener.
        #[error("the address is not let in")]
        AddressDenied => "address_denied",
        /// `limits.connections` of the listener.
        #[error("the listener has as many connections as it may")]
        TooMany => "too_many_connections",
        /// `limits.connections_per_client` of the listener.
        #[error("the client has as many connections as it may")]
        TooManyOfClient => "too_many_connections_of_client",
        /// `proxy_protocol` is required, and this is nobody to take it from.
        #[error("the PROXY protocol is taken from trusted proxies only")]
        UntrustedProxy => "untrusted_proxy",
        /// What comes from a trusted proxy is no PROXY header.
        #[error("{fault}")]
        ProxyHeader {
            /// What is wrong with it.
            fault: ProxyHeaderFault
        } => "proxy_header",
        /// `tls.client_certificates`: the client shows none, or one that is not good.
        #[error("the client's certificate is missing or wrong")]
        ClientCertificate => "client_certificate",
        /// The PROXY header was not there within `timeouts.request_head`.
        #[error("the PROXY header did not arrive in time")]
        ProxyHeaderTimeout => "proxy_header_timeout",
    }
}

refusals! {
    /// Why a request that is well-formed is refused.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
    pub enum PolicyRefusal {
        /// `allow` or `deny` of the route; of the listener, for clients behind a trusted proxy.
        #[error("the client's address is not let in")]
        AddressDenied => "address_denied",
        /// `limits.requests_per_client` of the listener or the route.
        #[error("the client asks too often")]
        RateLimited {
            /// When it may ask again, in whole seconds, at least one.
            retry_after_seconds: u64
        } => "rate_limited",
        /// `limits.request_body` of the route.
        #[error("the request's body is too large")]
        BodyTooLarge => "body_too_large",
        /// `limits.min_receive_rate`, or `timeouts.request_body`.
        #[error("the request's body arrives too slowly")]
        BodyTooSlow => "body_too_slow",
        /// `limits.min_send_rate`, or `timeouts.write`; the response is cut off.
        #[error("the client takes the response too slowly")]
        ClientTooSlow => "client_too_slow",
        /// A preflight from an origin that is not in `cors.origins`.
        #[error("scripts of this origin are not let in")]
        CorsOrigin => "cors_origin",
        /// A preflight for a method that is not in `cors.methods`.
        #[error("scripts may not use this method")]
        CorsMethod => "cors_method",
        /// A preflight for a field that is not in `cors.headers`.
        #[error("scripts may not send this field")]
        CorsField => "cors_field",
    }
}

impl From<TooOften> for PolicyRefusal {
    fn from(too_often: TooOften) -> Self {
        let wait = too_often.wait;
        let part = u64::from(wait.subsec_nanos() > 0);
        PolicyRefusal::RateLimited {
            retry_after_seconds: (wait.as_secs() + part).max(1),
        }
    }
}

/// What counts on all listeners.
#[derive(Debug)]
pub struct PolicyOfAll {
    trust: Trust,
    /// Request fields that nobody but the edge may set.
    subject_fields: Vec<HeaderName>,
}

impl PolicyOfAll {
    /// The policy of an edge.
    pub fn new(config: &config::Edge) -> Self {
        let tls = config.listeners.iter().filter_map(|one| one.tls.as_ref());
        let clients = tls.filter_map(|tls| tls.client_certificates.as_ref());
        PolicyOfAll {
            trust: config.trust.clone(),
            subject_fields: clients.filter_map(|one| one.forward_as.clone()).collect(),
        }
    }
}

/// What one listener asks of connections, and of the requests on them.
#[derive(Debug)]
pub struct ListenerPolicy {
    shared: Arc<PolicyOfAll>,
    proxy_protocol: ProxyProtocol,
    addresses: AddressRules,
    connections: Arc<Connections>,
    requests: Option<RequestRate>,
    /// The request field for the subject of a client's certificate.
    forward_subject_as: Option<HeaderName>,
    /// How long a PROXY header may take.
    patience: Duration,
}

/// A connection that was let in.
pub(super) struct LetIn {
    /// The connection, behind its PROXY header.
    pub(super) stream: Stream,
    /// Who is at the other end: of the connection, or of the one that a PROXY header speaks for.
    pub(super) client: IpAddr,
    /// That is a proxy, whose requests have clients of their own.
    pub(super) is_trusted_proxy: bool,
    /// Given back with the connection.
    pub(super) places: Places,
}

/// What a connection takes of the limits.
#[derive(Debug, Default)]
pub(super) struct Places {
    _of_all: Option<Place>,
    _of_client: Option<ClientPlace>,
}

impl ListenerPolicy {
    /// The policy of `listener`. A PROXY header may take `patience`.
    pub fn new(
        listener: &config::Listener,
        shared: Arc<PolicyOfAll>,
        patience: Duration,
    ) -> Arc<Self> {
        let limits = &listener.limits;
        let clients = (listener.tls.as_ref()).and_then(|tls| tls.client_certificates.as_ref());
        Arc::new(ListenerPolicy {
            shared,
            forward_subject_as: clients.and_then(|clients| clients.forward_as.clone()),
            proxy_protocol: listener.proxy_protocol,
            addresses: listener.addresses.clone(),
            connections: Connections::new(limits.connections, limits.connections_per_client),
            requests: limits.requests_per_client.map(RequestRate::new),
            patience,
        })
    }

    /// Lets a connection from `address` in.
    ///
    /// # Errors
    /// [`ConnectionRefusal`]; the connection is closed.
    pub(super) async fn let_in(
        self: &Arc<Self>,
        mut stream: Stream,
        address: IpAddr,
    ) -> Result<LetIn, ConnectionRefusal> {
        let of_all = self.connections.enter()?;
        let mut client = address;
        if self.proxy_protocol == ProxyProtocol::Required {
            if !self.shared.trust.proxies.contains(address) {
                return Err(ConnectionRefusal::UntrustedProxy);
            }
            let header;
            (stream, header) = Box::pin(self.read_proxy_header(stream)).await?;
            client = header.client.unwrap_or(address);
        }
        let is_trusted_proxy = self.shared.trust.proxies.contains(client);
        let mut of_client = None;
        if !is_trusted_proxy {
            // Of a trusted proxy's clients each request is judged by itself.
            if !self.addresses.admit(client) {
                return Err(ConnectionRefusal::AddressDenied);
            }
            of_client = self.connections.enter_client(client.into())?;
        }
        Ok(LetIn {
            stream,
            client,
            is_trusted_proxy,
            places: Places {
                _of_all: of_all,
                _of_client: of_client,
            },
        })
    }

    /// What requests on a connection are held to; `None` when there is nothing.
    pub(super) fn terms(
        self: &Arc<Self>,
        is_trusted_proxy: bool,
        subject: Option<String>,
    ) -> Option<Arc<Terms>> {
        let asks = is_trusted_proxy
            || subject.is_some()
            || self.requests.is_some()
            || !self.shared.subject_fields.is_empty();
        asks.then(|| {
            Arc::new(Terms {
                listener: self.clone(),
                is_trusted_proxy,
                subject,
            })
        })
    }

    async fn read_proxy_header(
        &self,
        stream: Stream,
    ) -> Result<(Stream, ProxyHeader), ConnectionRefusal> {
        let not_plain = ConnectionRefusal::ProxyHeader {
            fault: ProxyHeaderFault::Unsupported,
        };
        let stream = stream.into_any().downcast::<PlainStream>();
        let mut stream = stream.map_err(|_| not_plain)?;
        match timeout(self.patience, proxy_header(&mut stream)).await {
            Err(_) => Err(ConnectionRefusal::ProxyHeaderTimeout),
            // It ended, or broke, before there was a header.
            Ok(Err(_)) => Err(ConnectionRefusal::ProxyHeader {
                fault: ProxyHeaderFault::NotAHeader,
            }),
            Ok(Ok(Err(fault))) => Err(ConnectionRefusal::ProxyHeader { fault }),
            Ok(Ok(Ok(header))) => Ok((stream, header)),
        }
    }
}

/// Reads a header and puts back what came behind it.
async fn proxy_header(
    stream: &mut PlainStream,
) -> io::Result<Result<ProxyHeader, ProxyHeaderFault>> {
    let mut read = BytesMut::with_capacity(512);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match proxy_protocol::parse(&read) {
            Ok(None) => {}
            Ok(Some(header)) => {
                stream.rewind(&read[header.bytes..]);
                return Ok(Ok(header));
            }
            Err(fault) => return Ok(Err(fault)),
        }
    }
}

/// What the requests of one connection are held to, whatever their route.
#[derive(Debug)]
pub struct Terms {
    listener: Arc<ListenerPolicy>,
    is_trusted_proxy: bool,
    /// Of the client's certificate.
    subject: Option<String>,
}

impl Terms {
    /// Settles whose request it is (`client-before-anything`), and lets it in.
    ///
    /// # Errors
    /// [`PolicyRefusal`].
    pub(super) fn admit(&self, request: &mut Request) -> Result<(), PolicyRefusal> {
        let listener = &self.listener;
        if self.is_trusted_proxy {
            let Trust { proxies, field } = &listener.shared.trust;
            let proxy = request.peer.client;
            let client = forwarded_client(&request.fields, *field, proxies, proxy);
            request.peer.client = client.address;
            request.peer.forwarded_scheme = client.scheme;
            if !listener.addresses.admit(request.peer.client) {
                return Err(PolicyRefusal::AddressDenied);
            }
        }
        self.edit_request(&mut request.fields);
        charge(listener.requests.as_ref(), request)
    }

    /// The subject of the client's certificate, as the log shows it.
    pub(super) fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// Tells the origin, and `Vary`, who the client is by its certificate; what others say of that is gone.
    pub(super) fn edit_request(&self, fields: &mut HeaderMap) {
        for name in &self.listener.shared.subject_fields {
            fields.remove(name);
        }
        self.add_subject(fields);
    }

    fn add_subject(&self, fields: &mut HeaderMap) {
        if let (Some(name), Some(subject)) = (&self.listener.forward_subject_as, &self.subject)
            && let Ok(subject) = HeaderValue::from_str(subject)
        {
            fields.insert(name, subject);
        }
    }
}

/// What one route asks of requests.
#[derive(Debug)]
pub struct RoutePolicy {
    addresses: AddressRules,
    requests: Option<RequestRate>,
    request_body_bytes: Option<u64>,
    response: Option<ResponseRules>,
    request_edits: Option<HeaderEdits>,
}

impl RoutePolicy {
    /// The policy of `route`; `None` when it asks for nothing.
    pub fn new(route: &config::Route) -> Option<Self> {
        let response = ResponseRules::new(route);
        let edits = &route.request_headers;
        let policy = RoutePolicy {
            addresses: route.addresses.clone(),
            requests: route.limits.requests_per_client.map(RequestRate::new),
            request_body_bytes: route.limits.request_body_bytes,
            response: (!response.is_empty()).then_some(response),
            request_edits: (!edits.is_empty()).then(|| edits.clone()),
        };
        let asks = !policy.addresses.is_open()
            || policy.requests.is_some()
            || policy.request_body_bytes.is_some()
            || policy.response.is_some()
            || policy.request_edits.is_some();
        asks.then_some(policy)
    }

    /// Lets a request in; gives the answer if it is a preflight that is answered here.
    ///
    /// # Errors
    /// [`PolicyRefusal`].
    pub(super) fn admit(&self, request: &Request) -> Result<Option<Preflight>, PolicyRefusal> {
        if !self.addresses.admit(request.peer.client) {
            return Err(PolicyRefusal::AddressDenied);
        }
        charge(self.requests.as_ref(), request)?;
        if let BodyLength::Known(length) = request.body {
            self.admit_body(length)?;
        }
        match &self.response {
            Some(response) => response.preflight(request),
            None => Ok(None),
        }
    }

    /// Lets the first `length` bytes of a body in.
    ///
    /// # Errors
    /// [`PolicyRefusal::BodyTooLarge`].
    pub(super) fn admit_body(&self, length: u64) -> Result<(), PolicyRefusal> {
        match self.request_body_bytes {
            Some(limit) if length > limit => Err(PolicyRefusal::BodyTooLarge),
            _ => Ok(()),
        }
    }

    /// Takes out of a request for the cache what the edge answers for itself, so that it makes no
    /// variants and reaches no origin.
    pub(super) fn take_asking_origin(&self, request: &mut Request) {
        if let Some(ResponseRules { cors: Some(_), .. }) = &self.response {
            request.asking_origin = request.fields.remove(ORIGIN);
        }
    }

    /// Fields of the origin's that do not go out.
    pub(super) fn withheld(&self) -> &[HeaderName] {
        let response = self.response.as_ref();
        response.map_or(&[], ResponseRules::withheld)
    }

    /// Adds what goes out on a response besides the origin's fields.
    pub(super) fn add_to(&self, request: &Request, fields: &mut Vec<(HeaderName, HeaderValue)>) {
        if let Some(response) = &self.response {
            response.add_to(request, fields);
        }
    }

    /// Adds to the fields of a response of the edge's own making.
    pub(super) fn add_to_own(
        &self,
        request: &Request,
        fields: &mut Vec<(HeaderName, HeaderValue)>,
    ) {
        if let Some(response) = &self.response {
            response.add_to_own(request, fields);
        }
    }

    /// Changes the fields of a request to the origin.
    pub(super) fn edit_request(&self, fields: &mut HeaderMap) {
        if let Some(edits) = &self.request_edits {
            headers::edit(edits, fields);
        }
    }
}

fn charge(rate: Option<&RequestRate>, request: &Request) -> Result<(), PolicyRefusal> {
    let Some(rate) = rate else { return Ok(()) };
    let client = ClientNetwork::from(request.peer.client);
    Ok(rate.charge(client, request.started.monotonic)?)
}

/// Log lines about refused connections, at most one a second: whoever is refused comes again, and a flood of
/// connections must not become a flood of lines.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    /// The second of the last line, counted from 1.
    last: AtomicU64,
    /// Refused since then.
    unsaid: AtomicU64,
}

impl RefusalLog {
    /// Says it, or counts it for the next line; `now` is monotonic.
    pub(super) fn note(
        &self,
        listener: &str,
        client: IpAddr,
        refusal: ConnectionRefusal,
        now: Duration,
    ) {
        if let Some(unsaid) = self.turn(now) {
            let reason = refusal.reason();
            tracing::info!(listener, %client, reason, %refusal, unsaid, "connection refused");
        }
    }

    /// Whether a line may be written now, and how many were not since the last one.
    pub(super) fn turn(&self, now: Duration) -> Option<u64> {
        let second = now.as_secs() + 1;
        let last = self.last.swap(second, Ordering::Relaxed);
        if last == second {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.unsaid.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_to_wait_whole_seconds_and_long_enough() {
        for (milliseconds, seconds) in [
            (0, 1),
            (1, 1),
            (999, 1),
            (1_000, 1),
            (1_001, 2),
            (59_500, 60),
        ] {
            let wait = Duration::from_millis(milliseconds);
            let expected = PolicyRefusal::RateLimited {
                retry_after_seconds: seconds,
            };
            assert_eq!(
                PolicyRefusal::from(TooOften { wait }),
                expected,
                "{milliseconds}"
            );
        }
    }
}
