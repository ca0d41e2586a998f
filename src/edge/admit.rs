//! The gate: what is let in at all. Pure.
//!
//! One strict front door for both lanes, before routing. What is ambiguous is refused, never
//! repaired: nothing behind the gate may read a request differently from the gate.

use std::mem;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method};

use super::chunked::is_token;
use super::presence::Presence;
use super::refusals::refusals;
use super::request::{BodyLength, Peer, Request, RequestId};
use crate::cache::Scheme;
use crate::clock::Moment;
use crate::observe::Protocol;
use crate::request_target::{TargetFault, check_target, is_authority};

/// A request's head as a lane read it.
pub struct RawHead<'a> {
    /// What the client speaks.
    pub protocol: Protocol,
    /// The method.
    pub method: &'a str,
    /// The request target (h2: `:path`).
    pub target: Bytes,
    /// `:authority` of h2.
    pub authority: Option<Bytes>,
    /// The fields.
    pub fields: HeaderMap,
    /// h2: the stream ends with the head.
    pub ends_with_head: bool,
}

refusals! {
    /// Why the gate refuses; always the client's fault.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
    pub enum GateRefusal {
        /// The head is not HTTP/1.x, or breaks its syntax.
        #[error("the request is not valid HTTP")]
        Malformed => "malformed",
        /// A line feed without carriage return, or the reverse.
        #[error("a line of the request does not end with CRLF")]
        BareLineEnd => "bare_line_end",
        /// Neither 1.0 nor 1.1.
        #[error("the HTTP version is not supported")]
        Version => "version",
        /// CONNECT or TRACE.
        #[error("the method is not allowed")]
        Method => "method",
        /// More bytes than `limits.request_head`.
        #[error("the request head is too large")]
        HeadTooLarge => "head_too_large",
        /// More fields than `limits.request_fields`.
        #[error("the request has too many fields")]
        TooManyFields => "too_many_fields",
        /// The request line alone exceeds the limit.
        #[error("the request target is too long")]
        TargetTooLong => "target_too_long",
        /// The head did not arrive within `timeouts.request_head`.
        #[error("the request head did not arrive in time")]
        HeadTimeout => "head_timeout",
        /// No target, or one in a form that is not served here.
        #[error("the request target is invalid")]
        Target => "target",
        /// A dot segment, plain or encoded.
        #[error("the path holds a dot segment")]
        DotSegment => "dot_segment",
        /// An encoded slash, backslash or NUL, or a raw backslash.
        #[error("the path holds an encoded separator")]
        EncodedSeparator => "encoded_separator",
        /// A percent sign without two hex digits after it.
        #[error("the target holds an invalid percent-escape")]
        Escape => "escape",
        /// No `Host`, several, or one that is not an authority.
        #[error("the Host field is missing, repeated or invalid")]
        Host => "host",
        /// `Host` and an absolute target disagree.
        #[error("the Host field contradicts the request target")]
        HostMismatch => "host_mismatch",
        /// `Content-Length` is not one decimal number of at most 18 digits without leading zeros.
        #[error("the Content-Length field is repeated or invalid")]
        ContentLength => "content_length",
        /// `Transfer-Encoding` is not exactly `chunked`, or HTTP/1.0 has one.
        #[error("the Transfer-Encoding is not supported")]
        TransferEncoding => "transfer_encoding",
        /// Both `Content-Length` and `Transfer-Encoding`.
        #[error("the request has both Content-Length and Transfer-Encoding")]
        AmbiguousLength => "ambiguous_length",
        /// The chunked body breaks its syntax ([`super::chunked::ChunkFault`]).
        #[error("the chunked body is malformed")]
        Chunks => "chunks",
        /// An expectation other than `100-continue`.
        #[error("the expectation is not supported")]
        Expectation => "expectation",
        /// `Connection` names a field that is for everybody on the way, is no list of tokens, or too long.
        #[error("the Connection field is invalid")]
        Connection => "connection",
        /// A WebSocket handshake that is none: not a GET, with a body, or not on this connection.
        #[error("the WebSocket handshake is invalid")]
        Upgrade => "upgrade",
        /// The TLS connection was made for another host (RFC 9110 §7.4).
        #[error("the connection was made for another host")]
        Misdirected => "misdirected",
    }
}

impl From<TargetFault> for GateRefusal {
    fn from(fault: TargetFault) -> Self {
        match fault {
            TargetFault::Syntax => GateRefusal::Target,
            TargetFault::DotSegment => GateRefusal::DotSegment,
            TargetFault::EncodedSeparator => GateRefusal::EncodedSeparator,
            TargetFault::Escape => GateRefusal::Escape,
        }
    }
}

/// Lets a request in.
///
/// # Errors
/// The first [`GateRefusal`] that applies.
pub fn admit(
    mut raw: RawHead<'_>,
    id: RequestId,
    started: Moment,
    peer: Peer,
) -> Result<Request, GateRefusal> {
    let method = method(raw.method)?;
    let (target_authority, target) = split_target(mem::take(&mut raw.target), peer.scheme())?;
    let path_end = check_target(&target)?;
    let authority = authority(&mut raw, target_authority)?;
    let presence = Presence::of(&raw.fields);
    if presence.has(Presence::CONNECTION) {
        check_connection(&raw.fields)?;
    }
    let (body, upgrade) = if presence.has(Presence::BODY) {
        let body = body_length(&raw)?;
        check_expectations(&raw.fields)?;
        (body, upgrades(&raw, &method, body)?)
    } else {
        (body_without_length(&raw), false)
    };
    Ok(Request {
        id,
        started,
        received: started,
        peer,
        protocol: raw.protocol,
        method,
        authority,
        target,
        path_end,
        fields: raw.fields,
        asking_origin: None,
        presence,
        body,
        upgrade,
    })
}

fn method(name: &str) -> Result<Method, GateRefusal> {
    // Methods are case-sensitive (RFC 9110 §9.1) and none in use has lower-case letters: a
    // lower-case one is meant to slip past somebody.
    let plain = name.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    if name.is_empty() || name.len() > 32 || !plain {
        return Err(GateRefusal::Malformed);
    }
    let method = Method::from_bytes(name.as_bytes()).map_err(|_| GateRefusal::Malformed)?;
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(GateRefusal::Method);
    }
    Ok(method)
}

/// Takes an absolute target apart (RFC 9112 §3.2.2).
fn split_target(target: Bytes, scheme: Scheme) -> Result<(Option<Bytes>, Bytes), GateRefusal> {
    if target.starts_with(b"/") {
        return Ok((None, target));
    }
    let Some(separator) = target.windows(3).position(|three| three == b"://") else {
        return Err(GateRefusal::Target);
    };
    if !target[..separator].eq_ignore_ascii_case(scheme.as_str().as_bytes()) {
        return Err(GateRefusal::Target);
    }
    let rest = target.slice(separator + 3..);
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?'))
        .unwrap_or(rest.len());
    let path = rest.slice(end..);
    let path = match path.first() {
        Some(b'/') => path,
        None => Bytes::from_static(b"/"),
        Some(_) => return Err(GateRefusal::Target),
    };
    Ok((Some(rest.slice(..end)), path))
}

fn authority(raw: &mut RawHead<'_>, from_target: Option<Bytes>) -> Result<Bytes, GateRefusal> {
    let mut hosts = raw.fields.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(GateRefusal::Host);
    }
    let host = host.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    let named = match (raw.authority.take(), from_target) {
        // `:path` is no URL (RFC 9113 §8.3.1).
        (Some(_), Some(_)) => return Err(GateRefusal::Target),
        (one, other) => one.or(other),
    };
    let authority = match (named, host) {
        (Some(named), Some(host)) if !named.eq_ignore_ascii_case(&host) => {
            return Err(GateRefusal::HostMismatch);
        }
        (Some(named), _) => named,
        (None, Some(host)) => host,
        (None, None) if raw.protocol == Protocol::Http10 => return Ok(Bytes::new()),
        (None, None) => return Err(GateRefusal::Host),
    };
    if is_authority(&authority) {
        Ok(authority)
    } else {
        Err(GateRefusal::Host)
    }
}

fn check_expectations(fields: &HeaderMap) -> Result<(), GateRefusal> {
    for expectation in fields.get_all(EXPECT) {
        if !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(GateRefusal::Expectation);
        }
    }
    Ok(())
}

/// pingora refuses more, with an error that would count as ours.
const MAX_CONNECTION_OPTIONS: usize = 9;

/// RFC 9110 §7.6.1: the options are tokens, and none names a field that is intended for all recipients. Such
/// a field would be taken out on the way to the origin, after it was judged here.
fn check_connection(fields: &HeaderMap) -> Result<(), GateRefusal> {
    let options = connection_options(fields);
    for (number, option) in options.enumerate() {
        let is_valid = option.iter().copied().all(is_token);
        if !is_valid || number >= MAX_CONNECTION_OPTIONS || is_for_all(option) {
            return Err(GateRefusal::Connection);
        }
    }
    Ok(())
}

fn connection_options(fields: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = fields.get_all(CONNECTION).iter();
    let options = lines.flat_map(|line| line.as_bytes().split(|b| *b == b','));
    options
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty())
}

/// Fields on which framing, routing, access, the cache key or the look-up rest.
fn is_for_all(option: &[u8]) -> bool {
    const NAMES: [&str; 16] = [
        "accept-encoding",
        "authorization",
        "cache-control",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "origin",
        "pragma",
        "range",
        "transfer-encoding",
        "via",
        "x-request-id",
    ];
    const FAMILIES: [&str; 3] = ["if-", "x-amz-", "x-forwarded-"];
    let begins_with = |family: &str| {
        option
            .get(..family.len())
            .is_some_and(|beginning| beginning.eq_ignore_ascii_case(family.as_bytes()))
    };
    NAMES
        .iter()
        .any(|name| option.eq_ignore_ascii_case(name.as_bytes()))
        || FAMILIES.iter().any(|family| begins_with(family))
}

/// Whether the client asks for WebSocket, the one protocol that is switched to. Others are not offered to
/// the origin (RFC 9110 §7.8 lets a server ignore them): behind `h2c`, a client would speak with the origin
/// and nobody would read along.
fn upgrades(raw: &RawHead<'_>, method: &Method, body: BodyLength) -> Result<bool, GateRefusal> {
    let mut protocols = raw.fields.get_all(UPGRADE).iter();
    let protocol = protocols.next();
    let is_websocket =
        protocol.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !is_websocket || raw.protocol != Protocol::Http11 {
        return Ok(false);
    }
    let is_meant =
        connection_options(&raw.fields).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    // RFC 6455 §4.1.
    if protocols.next().is_some() || !is_meant || method != Method::GET || body != BodyLength::None
    {
        return Err(GateRefusal::Upgrade);
    }
    Ok(true)
}

/// As many as fit a signed number of 64 bits, whatever they are.
const MAX_LENGTH_DIGITS: usize = 18;

fn body_length(raw: &RawHead<'_>) -> Result<BodyLength, GateRefusal> {
    let mut lengths = raw.fields.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(GateRefusal::ContentLength);
    }
    let mut codings = raw.fields.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next();
    if let Some(coding) = coding {
        if length.is_some() {
            return Err(GateRefusal::AmbiguousLength);
        }
        let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if codings.next().is_some() || !chunked || raw.protocol != Protocol::Http11 {
            return Err(GateRefusal::TransferEncoding);
        }
        return Ok(BodyLength::Unknown);
    }
    match length {
        Some(value) => {
            let digits = value.as_bytes();
            let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            // Some read a leading zero as the sign of an octal number, and lengths as signed ones.
            let may_differ =
                digits.len() > MAX_LENGTH_DIGITS || (digits.len() > 1 && digits[0] == b'0');
            if !is_number || may_differ {
                return Err(GateRefusal::ContentLength);
            }
            let length = digits
                .iter()
                .fold(0_u64, |length, digit| length * 10 + u64::from(digit - b'0'));
            Ok(match length {
                0 => BodyLength::None,
                length => BodyLength::Known(length),
            })
        }
        None => Ok(body_without_length(raw)),
    }
}

/// A body whose length no field tells.
fn body_without_length(raw: &RawHead<'_>) -> BodyLength {
    if raw.protocol == Protocol::H2 && !raw.ends_with_head {
        BodyLength::Unknown
    } else {
        BodyLength::None
    }
}

#[cfg(test)]
mod tests;
