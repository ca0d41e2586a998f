//! A verified request on its way into an operation.

use bytes::Bytes;
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body;

use super::authorize::Caller;
use super::checksums::{Algorithm, Checksum, Running};
use super::fault::Fault;
use super::fields::RequestFields;
use super::meta::VersionId;
use super::operations::put_object::content_md5;
use super::receive::UploadError;
use super::store::Store;
use super::xml::{DOCUMENT_MAX_BYTES, XmlError};
use crate::signing::Payload;

/// A body broke off, whatever words the connection has for it.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off: {0}")]
pub struct BodyError(pub String);
/// The body of a request, whatever it comes from.
pub type Incoming<'a> = &'a mut (dyn Body<Data = Bytes, Error = BodyError> + Send + Sync + Unpin);

/// A request whose sender is known.
pub struct Ask<'a> {
    /// Of whom it is asked.
    pub store: &'a Store,
    /// Its head.
    pub request: &'a Parts,
    /// Its fields and query.
    pub fields: RequestFields<'a>,
    /// Who asks.
    pub caller: &'a Caller,
    /// Its id.
    pub request_id: &'a str,
    /// What the signature says about the body; taken by whoever reads it.
    pub payload: Payload,
    /// Its body.
    pub body: Incoming<'a>,
}

impl Ask<'_> {
    /// Whoever writes something owns it: the access key id, or what S3 calls strangers.
    pub fn owner(&self) -> &str {
        self.caller.owner()
    }

    /// The `versionId` of the query.
    ///
    /// # Errors
    /// [`Fault::ForeignVersionId`], [`Fault::Repeated`].
    pub fn version_id(&self) -> Result<Option<VersionId>, Fault> {
        match self.fields.query.get("versionId")? {
            None => Ok(None),
            Some(text) => Ok(Some(VersionId::parse(text)?)),
        }
    }

    /// Reads a small document and compares it with what the head promised.
    ///
    /// # Errors
    /// What is wrong with it, or with its digests.
    pub async fn document(&mut self) -> Result<Bytes, Fault> {
        let document = self.document_unchecked().await?;
        check_checksums(&self.fields, &document)?;
        Ok(document)
    }

    /// As [`Ask::document`], where checksum fields speak of something else than the document.
    ///
    /// # Errors
    /// As [`Ask::document`].
    pub async fn document_unchecked(&mut self) -> Result<Bytes, Fault> {
        let payload = std::mem::replace(&mut self.payload, Payload::Unsigned);
        let body = Limited::new(&mut *self.body, DOCUMENT_MAX_BYTES);
        let document = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(XmlError::TooLong.into()),
            Err(_) => return Err(UploadError::BrokeOff { received_bytes: 0 }.into()),
        };
        if let Some(expected) = content_md5(self.fields.headers)?
            && <[u8; 16]>::from(<md5::Md5 as md5::Digest>::digest(&document)) != expected
        {
            return Err(UploadError::Md5Mismatch.into());
        }
        match payload {
            Payload::Unsigned => Ok(document),
            Payload::Sha256(expected) => {
                let actual = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &document);
                if actual.as_ref() != expected {
                    return Err(UploadError::Sha256Mismatch.into());
                }
                Ok(document)
            }
            Payload::StreamingSigned(_)
            | Payload::StreamingSignedTrailer(_)
            | Payload::StreamingUnsignedTrailer => Err(Fault::NotImplemented {
                what: "aws-chunked coding of this request",
            }),
        }
    }
}

fn check_checksums(fields: &RequestFields<'_>, document: &[u8]) -> Result<(), Fault> {
    for algorithm in Algorithm::ALL {
        let Some(value) = fields.amz(algorithm.field_name())? else {
            continue;
        };
        let expected = Checksum::parse(algorithm, &value).map_err(|_| Fault::InvalidDigest {
            name: algorithm.field_name(),
        })?;
        let mut running = Running::new(algorithm);
        running.update(document);
        if running.finish() != expected {
            return Err(UploadError::ChecksumMismatch { algorithm }.into());
        }
    }
    Ok(())
}
