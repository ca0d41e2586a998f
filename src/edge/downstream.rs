//! How delivery writes to a client, whatever the client speaks. One implementation per lane.

use std::fmt;
use std::future::Future;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use super::failure::FailureReply;
use super::request::RequestId;
use crate::byte_range::ContentRange;
use crate::cache::CacheKey;
use crate::cache::fetch::InterimResponse;
use crate::cache::file_span::FileSpan;
use crate::cache::stored::Head;
use crate::cache::url::Url;

/// The client is gone or too slow; there is nobody to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientGone;

/// So many bytes at the end of a part of a file were not sent. They have to be read: the file may be
/// damaged, or the client too slow to keep the file open for it; or it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsent(pub u64);

/// The `Cache-Status` of a response (RFC 9211).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// Answered from a stored response.
    Hit {
        /// Remaining freshness in seconds.
        ttl_seconds: i64,
        /// What lets it answer although it is stale.
        detail: Option<&'static str>,
    },
    /// The request went forward.
    Forward {
        /// Why (`fwd`).
        why: &'static str,
        /// The origin's status (`fwd-status`).
        status: Option<u16>,
        /// Another request had already asked (`collapsed`).
        collapsed: bool,
        /// The response is stored (`stored`).
        stored: bool,
        /// Why it is not, or why the request came to nothing.
        detail: Option<&'static str>,
    },
    /// Neither: the edge answers by itself.
    Own {
        /// Why.
        detail: Option<&'static str>,
    },
}

impl CacheStatus {
    /// What is left to say when there is no response to send after all, for the reason `why`.
    pub fn failed(self, why: &'static str) -> Self {
        let detail = Some(why);
        match self {
            CacheStatus::Forward {
                why,
                status,
                collapsed,
                ..
            } => CacheStatus::Forward {
                why,
                status,
                collapsed,
                stored: false,
                detail,
            },
            CacheStatus::Hit { .. } | CacheStatus::Own { .. } => CacheStatus::Own { detail },
        }
    }
}

impl CacheStatus {
    /// Writes the value of the field behind what `out` holds. Every hit does so: no formatting machinery.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        let detail = match self {
            CacheStatus::Hit {
                ttl_seconds,
                detail,
            } => {
                out.extend_from_slice(b"tidegate; hit; ttl=");
                out.extend_from_slice(itoa::Buffer::new().format(*ttl_seconds).as_bytes());
                detail
            }
            CacheStatus::Forward {
                why,
                status,
                collapsed,
                stored,
                detail,
            } => {
                out.extend_from_slice(b"tidegate; fwd=");
                out.extend_from_slice(why.as_bytes());
                if let Some(status) = status {
                    out.extend_from_slice(b"; fwd-status=");
                    out.extend_from_slice(itoa::Buffer::new().format(*status).as_bytes());
                }
                if *stored {
                    out.extend_from_slice(b"; stored");
                }
                if *collapsed {
                    out.extend_from_slice(b"; collapsed");
                }
                detail
            }
            CacheStatus::Own { detail } => {
                out.extend_from_slice(b"tidegate");
                detail
            }
        };
        if let Some(detail) = detail {
            out.extend_from_slice(b"; detail=");
            out.extend_from_slice(detail.as_bytes());
        }
    }
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(64);
        self.append_to(&mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// The parameter `key` of a `Cache-Status` (RFC 9211 §2.7), with what separates it from those before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyParameter(String);

impl KeyParameter {
    /// `key` as URL, escaped as a String (RFC 9651 §3.3.3).
    pub fn of(key: &CacheKey) -> Self {
        let url = Url::from(key.parts()).to_string();
        KeyParameter(url.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

impl fmt::Display for KeyParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "; key=\"{}\"", self.0)
    }
}

/// What is written after a `Cache-Status`: its `key`, or nothing.
pub(super) struct OrNothing<'a>(pub(super) &'a Option<KeyParameter>);

impl fmt::Display for OrNothing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => key.fmt(f),
            None => Ok(()),
        }
    }
}

/// How long the body is, for framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyLength {
    /// No body and no length: 204, 304.
    Nothing,
    /// This many bytes; on a HEAD, what a GET would get.
    Known(u64),
    /// Until it ends.
    Unknown,
}

/// Which of a stored response's fields are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// Those that a 304 carries (RFC 9110 §15.4.5).
    NotModified,
    /// All but `Content-Type`, which each part of a `multipart/byteranges` has for itself
    /// (RFC 9110 §15.3.7.2).
    OfParts,
}

impl Selection {
    /// Whether the field `name` is sent.
    pub fn includes(self, name: &HeaderName) -> bool {
        match self {
            Selection::All => true,
            Selection::NotModified => on_not_modified(name),
            Selection::OfParts => name != CONTENT_TYPE,
        }
    }
}

/// The head of a response, in parts that each lane writes its own way.
#[derive(Debug)]
pub struct ReplyHead<'a> {
    /// Status.
    pub status: StatusCode,
    /// The stored fields, and which of them.
    pub stored: Option<(&'a Head, Selection)>,
    /// Stored fields that are not sent, whatever the selection.
    pub withheld: &'a [HeaderName],
    /// Fields of our own making.
    pub fields: &'a [(HeaderName, HeaderValue)],
    /// Framing.
    pub length: ReplyLength,
    /// `Content-Range`.
    pub content_range: Option<ContentRange>,
    /// `Age`, seconds.
    pub age_seconds: Option<u64>,
    /// `Cache-Status`.
    pub cache_status: Option<CacheStatus>,
    /// Its `key`, for a client that asked for it and may have it.
    pub key_parameter: Option<KeyParameter>,
    /// `X-Request-Id`.
    pub request_id: RequestId,
    /// The connection ends with this response.
    pub close: bool,
}

impl<'a> ReplyHead<'a> {
    /// The head of an error document.
    pub fn of_failure(
        reply: &FailureReply,
        fields: &'a [(HeaderName, HeaderValue)],
        body_bytes: u64,
        request_id: RequestId,
    ) -> Self {
        ReplyHead {
            status: reply.status,
            stored: None,
            withheld: &[],
            fields,
            length: ReplyLength::Known(body_bytes),
            content_range: None,
            age_seconds: None,
            cache_status: None,
            key_parameter: None,
            request_id,
            close: reply.close,
        }
    }
}

impl ReplyHead<'_> {
    /// The stored fields that are sent.
    pub fn stored_fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let stored = self.stored.into_iter();
        stored.flat_map(move |(stored, selection)| {
            let fields = stored.fields.iter();
            fields
                .filter(move |(name, _)| selection.includes(name) && !self.withheld.contains(name))
        })
    }
}

/// Whether a stored field belongs on a 304 (RFC 9110 §15.4.5), plus those that let a client's cache
/// update what it stores.
fn on_not_modified(name: &HeaderName) -> bool {
    use http::header::{
        CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY, VIA,
    };
    [
        CACHE_CONTROL,
        CONTENT_LOCATION,
        DATE,
        ETAG,
        EXPIRES,
        LAST_MODIFIED,
        VARY,
        VIA,
    ]
    .contains(name)
}

/// What comes after a head and the first bytes of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// Nothing: that was all.
    Nothing,
    /// More of the body.
    Bytes,
    /// More of the body, by [`Downstream::file`].
    File,
}

/// A client that awaits one response.
pub trait Downstream: Send {
    /// Writes an interim response; one that the protocol or the client cannot take is left out.
    ///
    /// # Errors
    /// [`ClientGone`].
    fn interim(
        &mut self,
        interim: &InterimResponse,
    ) -> impl Future<Output = Result<(), ClientGone>> + Send;

    /// Writes the head and the first bytes of the body, before what `follows`.
    ///
    /// # Errors
    /// [`ClientGone`].
    fn head(
        &mut self,
        head: &ReplyHead<'_>,
        first: &Bytes,
        follows: Follows,
    ) -> impl Future<Output = Result<(), ClientGone>> + Send;

    /// Writes more of the body.
    ///
    /// # Errors
    /// [`ClientGone`].
    fn data(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), ClientGone>> + Send;

    /// Whether [`Downstream::file`] may be called.
    fn takes_files(&self) -> bool {
        false
    }

    /// Writes more of the body, straight from its file.
    ///
    /// # Errors
    /// [`Unsent`].
    fn file(&mut self, span: FileSpan) -> impl Future<Output = Result<(), Unsent>> + Send {
        std::future::ready(Err(Unsent(span.remaining())))
    }

    /// The body is whole.
    ///
    /// # Errors
    /// [`ClientGone`].
    fn finish(&mut self) -> impl Future<Output = Result<(), ClientGone>> + Send;

    /// Whether it was given up because it takes too little.
    fn is_too_slow(&self) -> bool {
        false
    }

    /// The body cannot be completed: lets the client see that it is cut short.
    fn abort(&mut self) -> impl Future<Output = ()> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Scheme;

    fn hit(ttl_seconds: i64, detail: Option<&'static str>) -> CacheStatus {
        CacheStatus::Hit {
            ttl_seconds,
            detail,
        }
    }

    #[test]
    fn a_key_cannot_end_its_own_string() {
        let key = CacheKey::new(Scheme::Http, "h", "/a\\b\"; hit", Some("c"));
        let shown = KeyParameter::of(&key).to_string();
        assert_eq!(shown, r#"; key="http://h/a\\b\"; hit?c""#);
    }

    #[test]
    fn cache_status_is_spelled_as_rfc_9211_asks() {
        assert_eq!(hit(42, None).to_string(), "tidegate; hit; ttl=42");
        assert_eq!(
            hit(-3, Some("max-stale")).to_string(),
            "tidegate; hit; ttl=-3; detail=max-stale"
        );
        let forward = CacheStatus::Forward {
            why: "miss",
            status: Some(200),
            collapsed: true,
            stored: true,
            detail: None,
        };
        assert_eq!(
            forward.to_string(),
            "tidegate; fwd=miss; fwd-status=200; stored; collapsed"
        );
        assert_eq!(
            forward.failed("origin_truncated").to_string(),
            "tidegate; fwd=miss; fwd-status=200; collapsed; detail=origin_truncated"
        );
        assert_eq!(
            hit(42, None).failed("evicted").to_string(),
            "tidegate; detail=evicted"
        );
    }
}
