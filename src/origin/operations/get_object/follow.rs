//! A read that goes on as the object grows: `GET /bucket/key?follow&offset=N`.
//!
//! Committed bytes are sent from `offset` on; then it waits for more, until the object is sealed, replaced or deleted, or
//! the client goes. What S3 has no word for: log tailing and live video.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use tokio::sync::mpsc;

use super::{open_range, stored_fields};
use crate::origin::ask::Ask;
use crate::origin::followers::Following;
use crate::origin::meta::{VersionKind, VersionRow};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::operations::find_version_of;
use crate::origin::reply::{self, BodyError, Reply, ReplyBody};
use crate::origin::reply_error::Fault;
use crate::origin::store::Store;

/// Reads that wait for the client to take them.
const READS_AHEAD: usize = 2;

/// Answers with what there is, and with what will come.
///
/// # Errors
/// [`Fault`], before the first byte.
pub(super) async fn run(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<Reply, Fault> {
    let name = "offset";
    let offset = match ask.fields.query.get(name)? {
        None | Some("") => 0,
        Some(text) => text.parse().map_err(|_| Fault::InvalidParameter { name })?,
    };
    let row = find_version_of(ask.store, bucket, key, None).await?;
    if offset > row.size_bytes {
        return Err(Fault::RangeUnsatisfiable {
            length_bytes: row.size_bytes,
        });
    }
    let bucket_number = ask.store.bucket(bucket).await?.id;
    let (bytes, body) = mpsc::channel(READS_AHEAD);
    let follower = Follower {
        store: ask.store.clone(),
        bucket: bucket_number,
        key: key.clone(),
        version: row.number,
        following: ask.store.inner.followers.follow(bucket_number, key),
        position: offset,
    };
    tokio::spawn(follower.run(bytes));
    let mut reply = reply::empty(StatusCode::OK);
    let headers = reply.headers_mut();
    stored_fields(&row)?.apply(headers);
    headers
        .entry(CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("application/octet-stream"));
    // What comes later is not what came earlier; a cache may still hand one answer to all who wait for it now.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    *reply.body_mut() = ReplyBody::Following(body);
    Ok(reply)
}

struct Follower {
    store: Store,
    bucket: i64,
    key: ObjectKey,
    version: i64,
    following: Following,
    position: u64,
}

impl Follower {
    async fn run(mut self, bytes: mpsc::Sender<Result<Bytes, BodyError>>) {
        loop {
            let row = match self.store.inner.meta.latest(self.bucket, &self.key).await {
                Ok(Some(row)) if row.number == self.version => row,
                // Replaced or deleted: what was sent is all that there ever was.
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, "a following read breaks off");
                    return;
                }
            };
            if self.send_up_to(&row, &bytes).await.is_none() || row.kind == VersionKind::Object {
                return;
            }
            tokio::select! {
                () = self.following.changed() => {}
                () = bytes.closed() => return,
            }
        }
    }

    /// Sends what is committed behind the position; `None` when there is no use in going on.
    async fn send_up_to(
        &mut self,
        row: &Arc<VersionRow>,
        bytes: &mpsc::Sender<Result<Bytes, BodyError>>,
    ) -> Option<()> {
        while self.position < row.size_bytes {
            let wanted = self.position..row.size_bytes;
            let piece = match open_range(&self.store, row, wanted).await {
                Ok((_, piece)) => piece,
                Err(error) => {
                    tracing::warn!(%error, "a following read breaks off");
                    let _ = bytes.send(Err(BodyError::ReaderDied)).await;
                    return None;
                }
            };
            self.position += piece.len() as u64;
            self.store.stats().count_sent(piece.len());
            bytes.send(Ok(piece)).await.ok()?;
        }
        Some(())
    }
}
