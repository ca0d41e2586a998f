//! The body of a request, and what is left of it when the request is refused.
//!
//! A server that answers early and closes while the client is still sending makes the client's system discard
//! the answer. So a refused request is read on for a while, unless its sender waits to be asked.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::EXPECT;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};

/// The most that is read of a body nobody wants.
const DRAIN_MAX_BYTES: usize = 1024 * 1024;
/// The longest that it is read for.
const DRAIN_WAIT: Duration = Duration::from_secs(5);

/// A body that knows whether it has been asked for.
pub struct RequestBody<B> {
    inner: B,
    /// `Expect: 100-continue`: the client sends nothing until the body is first read (RFC 9110 §10.1.1).
    waits_to_be_asked: bool,
    asked: bool,
    waits_in_vain: bool,
}

impl<B: Body<Data = Bytes> + Unpin> RequestBody<B> {
    /// Wraps the body of a request with these fields.
    pub fn new(inner: B, headers: &HeaderMap) -> Self {
        let expectation = headers.get(EXPECT).map(|value| value.as_bytes());
        let waits_to_be_asked =
            expectation.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
        RequestBody {
            waits_in_vain: waits_to_be_asked && inner.is_end_stream(),
            inner,
            waits_to_be_asked,
            asked: false,
        }
    }

    /// Whether the client waits to be asked for a body of no bytes, for which nobody says `100 Continue`. One whose answer
    /// comes before that word may not be able to go on with the connection: botocore 1.42 would take the next answer for
    /// the rest of this one.
    pub fn waits_in_vain(&self) -> bool {
        self.waits_in_vain
    }

    /// Reads what the client is sending anyway, within bounds, and forgets it. Says whether all of it came: otherwise
    /// the connection cannot be used again.
    pub async fn drain(&mut self) -> bool {
        if self.waits_to_be_asked && !self.asked {
            return self.inner.is_end_stream();
        }
        let reading = async {
            let mut read_bytes = 0;
            while read_bytes < DRAIN_MAX_BYTES {
                match self.inner.frame().await {
                    None => return true,
                    Some(Ok(frame)) => read_bytes += frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) => return false,
                }
            }
            false
        };
        // Out of time is like out of bytes.
        let read = tokio::time::timeout(DRAIN_WAIT, reading).await;
        read.unwrap_or(false)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.asked = true;
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
