//! Responses of the store: a status, fields, and a body that is empty, small, or streamed from a blob.

use std::future::Future as _;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::blobs::BlobError;
use super::meta::MetaError;
use super::object_reader::ObjectReader;
use super::stats::Stats;
use super::xml::Document;

/// A response.
pub type Reply = Response<ReplyBody>;

/// The body of a response.
pub enum ReplyBody {
    /// No bytes.
    Empty,
    /// All bytes at once.
    Whole(Option<Bytes>),
    /// Bytes of a blob.
    Blob(BlobBody),
    /// Bytes of an object that grows, until it is whole.
    Following(mpsc::Receiver<Result<Bytes, BodyError>>),
}

/// A range of a blob on its way out: each read is verified before it is handed on (`verify-on-read`). What has to come from
/// a disk is under way while the client takes what comes before; what is in memory is read when its turn comes. Two
/// reads are held at most.
pub struct BlobBody {
    reader: Arc<ObjectReader>,
    /// What the client has not been given.
    left: Range<u64>,
    ready: Option<Bytes>,
    pending: Option<JoinHandle<Result<Bytes, BlobError>>>,
    stats: Arc<Stats>,
}

/// Why a body broke off. The connection is closed short, so the client cannot take it for complete.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The blob could not be read or is corrupt.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The metadata could not be read.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The reading thread died: a bug of ours.
    #[error("the reading thread died")]
    ReaderDied,
    /// The store stops, and what is being followed would go on.
    #[error("the store stops")]
    Stopping,
}

/// A response without a body.
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(ReplyBody::Empty);
    *reply.status_mut() = status;
    reply
}

/// A response that is an XML document.
pub fn xml(status: StatusCode, document: Document) -> Reply {
    let body = Bytes::from(document.finish());
    let mut reply = Response::new(ReplyBody::Whole(Some(body)));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    reply
}

impl BlobBody {
    /// A body for `range` of a blob, whose first bytes have been read already.
    pub fn new(
        reader: Arc<ObjectReader>,
        range: Range<u64>,
        first: Bytes,
        stats: Arc<Stats>,
    ) -> Self {
        BlobBody {
            reader,
            left: range,
            ready: Some(first),
            pending: None,
            stats,
        }
    }

    /// Begins the read behind the `taken` bytes that are in hand.
    fn read_ahead(&mut self, taken: usize) {
        let next = self.left.start + taken as u64..self.left.end;
        if next.is_empty() {
            return;
        }
        let reader = Arc::clone(&self.reader);
        self.pending = Some(tokio::task::spawn_blocking(move || reader.read(next)));
    }

    fn hand_out(&mut self, bytes: Bytes) -> Frame<Bytes> {
        self.left.start += bytes.len() as u64;
        self.stats.count_sent(bytes.len());
        Frame::data(bytes)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(bytes) = self.ready.take() {
            return Poll::Ready(Some(Ok(self.hand_out(bytes))));
        }
        if self.pending.is_none() && !self.left.is_empty() {
            match self.reader.read_at_once(self.left.clone()) {
                Some(bytes) => return Poll::Ready(Some(Ok(self.hand_out(bytes)))),
                None => self.read_ahead(0),
            }
        }
        let Some(pending) = &mut self.pending else {
            return Poll::Ready(None);
        };
        let outcome = match Pin::new(pending).poll(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(outcome) => outcome,
        };
        self.pending = None;
        let bytes = match outcome {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                tracing::error!(%error, "a response breaks off");
                return Poll::Ready(Some(Err(error.into())));
            }
            Err(_) => return Poll::Ready(Some(Err(BodyError::ReaderDied))),
        };
        self.read_ahead(bytes.len());
        Poll::Ready(Some(Ok(self.hand_out(bytes))))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            ReplyBody::Empty => Poll::Ready(None),
            ReplyBody::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            ReplyBody::Blob(blob) => blob.poll(context),
            ReplyBody::Following(bytes) => bytes
                .poll_recv(context)
                .map(|next| next.map(|bytes| bytes.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Empty => true,
            ReplyBody::Whole(bytes) => bytes.is_none(),
            ReplyBody::Blob(blob) => blob.left.is_empty(),
            // Its end is known when it comes.
            ReplyBody::Following(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Empty => SizeHint::with_exact(0),
            ReplyBody::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            ReplyBody::Blob(blob) => SizeHint::with_exact(blob.left.end - blob.left.start),
            ReplyBody::Following(_) => SizeHint::default(),
        }
    }
}
