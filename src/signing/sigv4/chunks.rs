//! The chain of signatures over the chunks of an `aws-chunked` body.

use std::fmt;

use aws_lc_rs::{digest, hmac};

use crate::signing::Refusal;

use super::canonical::{Signature, StringToSign};
use super::scope::Timestamp;

/// SHA-256 of nothing, which every chunk's string to sign contains.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Checks the chunks of one body, each signed together with the signature before it, beginning
/// with the request's own. See "Signature calculation: transferring payload in multiple chunks"
/// in the S3 API reference.
///
/// After a refusal the chain stays where it was; the body must not be trusted from there on.
#[derive(Clone)]
pub struct ChunkSigner {
    key: hmac::Key,
    timestamp: Timestamp,
    scope: String,
    previous: Signature,
    chunk: u64,
}

impl ChunkSigner {
    pub(super) fn new(
        key: hmac::Key,
        timestamp: Timestamp,
        scope: String,
        seed: Signature,
    ) -> Self {
        ChunkSigner {
            key,
            timestamp,
            scope,
            previous: seed,
            chunk: 0,
        }
    }

    /// Checks the next chunk: the `chunk-signature` it came with and the SHA-256 of its bytes. The
    /// last, empty chunk is signed as well.
    ///
    /// # Errors
    /// [`Refusal::MalformedSignature`] or [`Refusal::ChunkSignatureMismatch`].
    pub fn verify_chunk(
        &mut self,
        signature_hex: &str,
        chunk_sha256: &[u8; 32],
    ) -> Result<(), Refusal> {
        let given = Signature::parse(signature_hex)?;
        let wanted = self.next_chunk(chunk_sha256);
        if !wanted.matches(&given) {
            return Err(Refusal::ChunkSignatureMismatch { chunk: self.chunk });
        }
        self.previous = wanted;
        self.chunk += 1;
        Ok(())
    }

    /// Checks the trailer after the last chunk: the `x-amz-trailer-signature` it came with and its
    /// fields in canonical form (lower-case name, colon, trimmed value, line feed; one line per
    /// field, the signature itself left out).
    ///
    /// # Errors
    /// [`Refusal::MalformedSignature`] or [`Refusal::TrailerSignatureMismatch`].
    pub fn verify_trailer(
        &mut self,
        signature_hex: &str,
        trailer_canonical: &[u8],
    ) -> Result<(), Refusal> {
        let given = Signature::parse(signature_hex)?;
        let wanted = self.next_trailer(trailer_canonical);
        if !wanted.matches(&given) {
            return Err(Refusal::TrailerSignatureMismatch);
        }
        self.previous = wanted;
        Ok(())
    }

    fn next_chunk(&self, chunk_sha256: &[u8; 32]) -> Signature {
        self.string_to_sign("AWS4-HMAC-SHA256-PAYLOAD")
            .line(self.previous.as_str())
            .line(EMPTY_SHA256)
            .hex(chunk_sha256)
            .sign(&self.key)
    }

    fn next_trailer(&self, trailer_canonical: &[u8]) -> Signature {
        let sha256 = digest::digest(&digest::SHA256, trailer_canonical);
        self.string_to_sign("AWS4-HMAC-SHA256-TRAILER")
            .line(self.previous.as_str())
            .hex(sha256.as_ref())
            .sign(&self.key)
    }

    fn string_to_sign(&self, algorithm: &str) -> StringToSign {
        StringToSign::new(algorithm, &self.timestamp, &self.scope)
    }
}

impl fmt::Debug for ChunkSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkSigner")
            .field("chunk", &self.chunk)
            .finish_non_exhaustive()
    }
}
