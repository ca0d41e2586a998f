//! A request as the steps see it: what was sent, by whom, and when; never a session.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderValue, ORIGIN};
use http::{HeaderMap, Method};

use super::policy::Terms;
use super::presence::Presence;
use crate::cache::Scheme;
use crate::cache::query::ruled;
use crate::clock::Moment;
use crate::config::CacheRules;
use crate::observe::Protocol;
use crate::signing::{SignedRequest, query_without_signature};

/// A name for one request, unique enough to find it in every log: 16 random hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// A new id.
    pub fn random() -> Self {
        use std::hash::{BuildHasher, RandomState};
        thread_local! {
            static SOURCE: (RandomState, std::cell::Cell<u64>) =
                (RandomState::new(), std::cell::Cell::new(0));
        }
        // A keyed hash of a counter: unpredictable enough for a name, and no system call.
        let number = SOURCE.with(|(keys, count)| {
            count.set(count.get().wrapping_add(1));
            keys.hash_one(count.get())
        });
        let mut digits = [0; 16];
        for (place, digit) in digits.iter_mut().enumerate() {
            let nibble = (number >> (60 - 4 * place)) & 0xf;
            *digit = b"0123456789ABCDEF"[nibble as usize];
        }
        RequestId(digits)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The client's end of the connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The client's address; behind trusted proxies, what they say it is.
    pub client: IpAddr,
    /// The TLS version; `None` on plain HTTP.
    pub tls: Option<&'static str>,
    /// The scheme that the client used towards a trusted proxy in front, if that says so.
    pub forwarded_scheme: Option<Scheme>,
    /// What its requests are held to, whatever their route; `None` when there is nothing.
    pub terms: Option<Arc<Terms>>,
}

impl Peer {
    /// A client that is held to nothing.
    pub fn new(client: IpAddr, tls: Option<&'static str>) -> Self {
        Peer {
            client,
            tls,
            forwarded_scheme: None,
            terms: None,
        }
    }

    /// The scheme that the client used, towards us or towards the proxy that speaks for it.
    pub fn scheme(&self) -> Scheme {
        let of_connection = match self.tls {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        };
        self.forwarded_scheme.unwrap_or(of_connection)
    }
}

/// How much body follows the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// None.
    None,
    /// `Content-Length`, more than zero.
    Known(u64),
    /// Chunked, or an h2 stream that does not end with its head.
    Unknown,
}

/// An admitted request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// When its first byte was seen.
    pub started: Moment,
    /// When its head had arrived: what is stored is judged as of then.
    pub received: Moment,
    /// Who sent it.
    pub peer: Peer,
    /// What they speak.
    pub protocol: Protocol,
    /// The method.
    pub method: Method,
    /// The authority: `Host`, `:authority` or that of an absolute target; empty only on HTTP/1.0.
    pub authority: Bytes,
    /// Path and query exactly as sent.
    pub target: Bytes,
    /// Where in `target` the path ends.
    pub path_end: usize,
    /// The fields exactly as sent.
    pub fields: HeaderMap,
    /// `Origin`, when it was taken out of `fields` because the edge answers for it.
    pub asking_origin: Option<HeaderValue>,
    /// Which of them may be there.
    pub presence: Presence,
    /// The body that follows.
    pub body: BodyLength,
    /// The client asks to switch protocols.
    pub upgrade: bool,
}

impl Request {
    /// The raw path.
    pub fn path(&self) -> &str {
        text(&self.target[..self.path_end])
    }

    /// The raw query, without `?`.
    pub fn query(&self) -> Option<&str> {
        self.target
            .get(self.path_end + 1..)
            .filter(|_| self.target.len() > self.path_end)
            .map(text)
    }

    /// The authority.
    pub fn authority(&self) -> &str {
        text(&self.authority)
    }

    /// The web origin whose script or page asks (RFC 6454 §7).
    pub fn asking_origin(&self) -> Option<&HeaderValue> {
        (self.asking_origin.as_ref()).or_else(|| self.fields.get(ORIGIN))
    }

    /// The request as signatures see it.
    pub fn signed(&self) -> SignedRequest<'_> {
        SignedRequest {
            method: self.method.as_str(),
            path: self.path(),
            query: self.query().unwrap_or_default(),
            host: self.authority(),
            headers: &self.fields,
        }
    }
}

/// What the parameters of an AWS signature in a query are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwsParameters {
    /// They have let the request in: they say who may ask, not for what.
    Verified,
    /// Like any other: nobody here has looked at them, and the origin may answer by them.
    Plain,
}

impl AwsParameters {
    /// Those of a request that an AWS signature has let in, or not.
    pub fn of(aws_signed: bool) -> Self {
        match aws_signed {
            true => AwsParameters::Verified,
            false => AwsParameters::Plain,
        }
    }

    /// A raw query without those that say who asks.
    pub fn left_out_of(self, query: &str) -> Cow<'_, str> {
        match self {
            AwsParameters::Verified => query_without_signature(query),
            AwsParameters::Plain => Cow::Borrowed(query),
        }
    }
}

/// What of a raw query belongs to the cache key: all but the parameters of a verified presignature, so
/// that all signers share one stored response, and all but those that the route's `rules` leave out.
pub fn keyed_query(raw: Option<&str>, rules: &CacheRules, aws: AwsParameters) -> Option<String> {
    let without_signature = raw.map(|query| aws.left_out_of(query));
    // A URL that carried nothing but a signature is the URL without any query; one that ends in a
    // bare `?` is another URL.
    without_signature
        .as_deref()
        .filter(|query| !query.is_empty() || raw == Some(""))
        .and_then(|query| ruled(query, rules))
        .map(Cow::into_owned)
}

/// The gate lets only visible ASCII through, so this never falls back.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
