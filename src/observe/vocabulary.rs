//! The words that metrics, the access log and `Cache-Status` share.

/// How the edge answered a request.
///
/// The words of RFC 9211: `hit`, else the reason in `fwd` for which the request went forward;
/// a revalidated response is [`Outcome::Stale`] with a `fwd-status` of 304. Three words are ours,
/// for requests that never reached the cache's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answered from a stored response without asking the origin.
    Hit,
    /// No stored response for the cache key, and it is not known whether the URI or a variant
    /// was missing.
    Miss,
    /// No stored response for the URI.
    UriMiss,
    /// Stored responses for the URI, none that `Vary` lets this request have.
    VaryMiss,
    /// A stored response that had to be revalidated or replaced.
    Stale,
    /// A stored response that has only some of the bytes asked for.
    Partial,
    /// The cache was configured or found not to handle this request.
    Bypass,
    /// The method's semantics made the request go forward.
    Method,
    /// The request's own directives made it go forward.
    Request,
    /// The edge answered by itself, and the cache was not asked (a preflight).
    Own,
    /// The gate, a policy or the signature check said no.
    Refused,
    /// The edge or the origin failed.
    Error,
}

impl Outcome {
    /// All, in their order.
    pub(super) const ALL: [Outcome; 12] = [
        Outcome::Hit,
        Outcome::Miss,
        Outcome::UriMiss,
        Outcome::VaryMiss,
        Outcome::Stale,
        Outcome::Partial,
        Outcome::Bypass,
        Outcome::Method,
        Outcome::Request,
        Outcome::Own,
        Outcome::Refused,
        Outcome::Error,
    ];

    /// The label in metrics and the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::Miss => "miss",
            Outcome::UriMiss => "uri-miss",
            Outcome::VaryMiss => "vary-miss",
            Outcome::Stale => "stale",
            Outcome::Partial => "partial",
            Outcome::Bypass => "bypass",
            Outcome::Method => "method",
            Outcome::Request => "request",
            Outcome::Own => "own",
            Outcome::Refused => "refused",
            Outcome::Error => "error",
        }
    }
}

/// The protocol a client spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    H2,
}

impl Protocol {
    /// All, in their order.
    pub(super) const ALL: [Protocol; 3] = [Protocol::Http10, Protocol::Http11, Protocol::H2];

    /// The label in metrics and the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http10 => "http/1.0",
            Protocol::Http11 => "http/1.1",
            Protocol::H2 => "h2",
        }
    }
}

/// Where the bytes of a response body came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The memory tier.
    Memory,
    /// The disk tier.
    Disk,
    /// The origin: passed through, or read from a fill in progress.
    Origin,
}

impl Source {
    /// The label in metrics and the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Memory => "memory",
            Source::Disk => "disk",
            Source::Origin => "origin",
        }
    }
}
