//! Bringing files into a store that nobody serves meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::BytesMut;
use futures_util::stream;
use http::HeaderValue;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::Fault;
use super::fields::StoredFields;
use super::names::{BucketName, ObjectKey};
use super::operations::put_object;
use super::receive::{self, Plan};
use super::store::{MODIFIED_MAX_MS, Store};

/// Bytes read at a time.
const READ_BYTES: usize = 256 * 1024;
/// The type of a file whose name tells none, as S3 has it.
const UNKNOWN_TYPE: &str = "binary/octet-stream";

/// Why a file was not brought in.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The store refuses it.
    #[error(transparent)]
    Store(#[from] Fault),
}

impl Store {
    /// Puts a file as an object that has the file's time of modification, and the type that its extension tells.
    /// Durable on return. Gives back its length. Neither edges nor webhooks are told of it.
    ///
    /// # Errors
    /// [`ImportError`]; also when the file changes its length while it is read.
    pub async fn import(&self, bucket: &str, key: &str, file: &Path) -> Result<u64, ImportError> {
        let opened = File::open(file).await?;
        let metadata = opened.metadata().await?;
        let length_bytes = metadata.len();
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).ok();
        let modified_ms = modified.and_then(|since| i64::try_from(since.as_millis()).ok());
        let modified_ms = match modified_ms.filter(|ms| *ms <= MODIFIED_MAX_MS) {
            Some(ms) => ms,
            // No date of HTTP could say it.
            None => self.now_ms()?,
        };
        let bucket = BucketName::new(bucket).map_err(Fault::from)?;
        let key = ObjectKey::new(key).map_err(Fault::from)?;
        let fields = StoredFields::with_content_type(media_type(file));
        let upload = put_object::Upload::of_own(self, bucket, key, fields, modified_ms);
        let upload = upload.await?;
        let pieces = stream::try_unfold(opened, |mut file| async move {
            let mut piece = BytesMut::with_capacity(READ_BYTES);
            file.read_buf(&mut piece).await?;
            let piece = (!piece.is_empty()).then(|| (Frame::data(piece.freeze()), file));
            Ok::<_, std::io::Error>(piece)
        });
        let body = Box::pin(StreamBody::new(pieces));
        let blobs = Arc::clone(&self.inner.blobs);
        let plan = Plan::of_own(length_bytes);
        let arrived = receive::receive(blobs, body, plan, self.stats()).await;
        let arrived = arrived.map_err(Fault::from)?;
        put_object::commit(self.clone(), upload, arrived).await?;
        Ok(length_bytes)
    }
}

/// Where players of HTTP Live Streaming (RFC 8216) want another type than the one that is guessed.
const STREAMING_TYPES: [(&str, &str); 2] = [
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("ts", "video/mp2t"),
];

/// The type that the extension of a file's name tells.
fn media_type(file: &Path) -> HeaderValue {
    let extension = file.extension().and_then(|extension| extension.to_str());
    let streaming = STREAMING_TYPES.iter().find(|(streaming, _)| {
        extension.is_some_and(|extension| extension.eq_ignore_ascii_case(streaming))
    });
    let guess = match streaming {
        Some((_, media_type)) => Some(*media_type),
        None => mime_guess::from_path(file).first_raw(),
    };
    HeaderValue::from_static(guess.unwrap_or(UNKNOWN_TYPE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_tells_the_type() {
        for (name, expected) in [
            ("a/film.mp4", "video/mp4"),
            ("page.HTML", "text/html"),
            ("list.m3u8", "application/vnd.apple.mpegurl"),
            ("segment.TS", "video/mp2t"),
            ("README", UNKNOWN_TYPE),
            ("a.b/README", UNKNOWN_TYPE),
            (".profile", UNKNOWN_TYPE),
        ] {
            let found = media_type(Path::new(name));
            assert!(
                found.as_bytes().eq_ignore_ascii_case(expected.as_bytes()),
                "{name}: {found:?}"
            );
        }
    }
}
