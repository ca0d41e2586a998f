//! A read that goes on as the object grows: `GET /bucket/key?follow&offset=N`.
//!
//! Committed bytes are sent from `offset` on; then it waits for more, until the object is sealed, replaced or deleted, or
//! the client goes. What S3 has no word for: log tailing and live video. However many follow an object, what is appended
//! is read once ([`crate::origin::followers`]).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use tokio::sync::mpsc;

use super::{open_range, stored_fields};
use crate::origin::ask::Ask;
use crate::origin::fault::Fault;
use crate::origin::followers::{Following, Origin, Woken};
use crate::origin::meta::{VersionKind, VersionRow};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::operations::find_version_of;
use crate::origin::reply::{self, BodyError, Reply, ReplyBody};
use crate::origin::stats::Care;
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
    // It may go on for days: a cache that keeps it would keep all of it, and its slowest reader would hold up the others.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
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
        let outcome = self.follow(&bytes).await;
        if let Err(error) = outcome {
            tracing::debug!(%error, "a following read breaks off");
            // Or the client would take what it has for all there is.
            let _ = bytes.send(Err(error)).await;
        }
    }

    /// Sends until there is nothing more to come, or nobody to send to.
    async fn follow(
        &mut self,
        bytes: &mpsc::Sender<Result<Bytes, BodyError>>,
    ) -> Result<(), BodyError> {
        loop {
            let look = self.store.inner.meta.latest(self.bucket, &self.key);
            let row = match self.following.row(look).await {
                Ok(Some(row)) if row.number == self.version => row,
                // Replaced or deleted: what was sent is all that there ever was.
                Ok(_) => return Ok(()),
                Err(error) => return Err(BodyError::Meta(error)),
            };
            while self.position < row.size_bytes {
                let piece = self.next_piece(&row).await?;
                self.position += piece.len() as u64;
                self.store.stats().count_sent(piece.len());
                if bytes.send(Ok(piece)).await.is_err() {
                    return Ok(());
                }
            }
            if row.kind == VersionKind::Object {
                return Ok(());
            }
            tokio::select! {
                woken = self.following.woken() => match woken {
                    Woken::Changed => {}
                    Woken::Closing => return Err(BodyError::Stopping),
                },
                () = bytes.closed() => return Ok(()),
            }
        }
    }

    async fn next_piece(&self, row: &Arc<VersionRow>) -> Result<Bytes, BodyError> {
        let read = async {
            let wanted = self.position..row.size_bytes;
            let opened = open_range(&self.store, row, wanted).await;
            opened.map(|(_, piece)| piece)
        };
        let piece = self.following.piece(row.number, self.position, read).await;
        let (piece, origin) = piece.map_err(|fault| match fault {
            Fault::Blob(error) => BodyError::Blob(error),
            Fault::Meta(error) => BodyError::Meta(error),
            _ => BodyError::ReaderDied,
        })?;
        self.store.stats().add(
            match origin {
                Origin::Store => Care::FollowedFromStore,
                Origin::Memory => Care::FollowedFromMemory,
            },
            1,
        );
        Ok(piece)
    }
}
