//! What a signature says about the body, in the words of `x-amz-content-sha256`.

use http::HeaderMap;

use crate::signing::Refusal;

use super::{ChunkSigner, single_value};

/// The field that carries the payload hash.
pub(super) const CONTENT_SHA256: &str = "x-amz-content-sha256";

/// The payload hash that says: the body is not signed.
pub(super) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// What the signature says about the body. Comparing the body with it is the reader's duty.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Nothing: any body is genuine.
    Unsigned,
    /// The SHA-256 that the whole body must have.
    Sha256([u8; 32]),
    /// The body is `aws-chunked` and each chunk carries a signature.
    StreamingSigned(ChunkSigner),
    /// As [`Payload::StreamingSigned`], followed by a signed trailer.
    StreamingSignedTrailer(ChunkSigner),
    /// The body is `aws-chunked` without chunk signatures, followed by a trailer.
    StreamingUnsignedTrailer,
}

/// What the fields say about the body of a request that Version 2 signs: it covers `x-amz-content-sha256` where that is
/// sent, and makes no signature that chunks could go on from.
///
/// # Errors
/// [`Refusal::UnsupportedPayload`] for signed chunks, [`Refusal::MalformedPayloadHash`],
/// [`Refusal::DuplicateParameter`].
pub(in crate::signing) fn payload_without_seed(headers: &HeaderMap) -> Result<Payload, Refusal> {
    let Some(text) = single_value(headers, CONTENT_SHA256)? else {
        return Ok(Payload::Unsigned);
    };
    let text = text.to_str().map_err(|_| Refusal::MalformedPayloadHash)?;
    match PayloadKind::parse(text.trim())? {
        PayloadKind::Unsigned => Ok(Payload::Unsigned),
        PayloadKind::Sha256(sha256) => Ok(Payload::Sha256(sha256)),
        PayloadKind::StreamingUnsignedTrailer => Ok(Payload::StreamingUnsignedTrailer),
        PayloadKind::StreamingSigned | PayloadKind::StreamingSignedTrailer => {
            Err(Refusal::UnsupportedPayload)
        }
    }
}

/// How the body is signed, before the seed signature is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PayloadKind {
    Unsigned,
    Sha256([u8; 32]),
    StreamingSigned,
    StreamingSignedTrailer,
    StreamingUnsignedTrailer,
}

impl PayloadKind {
    /// Reads the value of `x-amz-content-sha256`.
    ///
    /// # Errors
    /// [`Refusal::UnsupportedPayload`] for a streaming form that is not spoken here,
    /// [`Refusal::MalformedPayloadHash`] for anything else.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            UNSIGNED_PAYLOAD => Ok(PayloadKind::Unsigned),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Ok(PayloadKind::StreamingSigned),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Ok(PayloadKind::StreamingSignedTrailer),
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(PayloadKind::StreamingUnsignedTrailer),
            other if other.starts_with("STREAMING-") => Err(Refusal::UnsupportedPayload),
            other => {
                let mut sha256 = [0; 32];
                hex::decode_to_slice(other, &mut sha256)
                    .map_err(|_| Refusal::MalformedPayloadHash)?;
                Ok(PayloadKind::Sha256(sha256))
            }
        }
    }

    /// The payload, given what checks its chunks.
    pub(super) fn with_seed(self, seed: impl FnOnce() -> ChunkSigner) -> Payload {
        match self {
            PayloadKind::Unsigned => Payload::Unsigned,
            PayloadKind::Sha256(sha256) => Payload::Sha256(sha256),
            PayloadKind::StreamingSigned => Payload::StreamingSigned(seed()),
            PayloadKind::StreamingSignedTrailer => Payload::StreamingSignedTrailer(seed()),
            PayloadKind::StreamingUnsignedTrailer => Payload::StreamingUnsignedTrailer,
        }
    }
}
