//! CreateBucket: `PUT /bucket` (S3 API, CreateBucket).

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body;

use super::field_value;
use super::put_object::{content_md5, refuse_other_acl};
use crate::origin::fields::RequestFields;
use crate::origin::meta::BucketCreated;
use crate::origin::names::BucketName;
use crate::origin::receive::UploadError;
use crate::origin::reply::{self, Reply};
use crate::origin::reply_error::Fault;
use crate::origin::store::Store;
use crate::origin::xml::{DOCUMENT_MAX_BYTES, XmlError, parse_location_constraint};
use crate::signing::Payload;

/// Makes the bucket.
///
/// # Errors
/// [`Fault::BucketExists`], [`Fault::OtherRegion`], or what is wrong with the document.
pub async fn run<B>(
    store: &Store,
    name: BucketName,
    fields: &RequestFields<'_>,
    payload: Payload,
    body: B,
) -> Result<Reply, Fault>
where
    B: Body<Data = Bytes> + Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    refuse_other_acl(fields)?;
    let document = read_document(fields.headers, payload, body).await?;
    if !document.is_empty()
        && let Some(region) = parse_location_constraint(&document)?
        && region != store.inner.region
    {
        return Err(Fault::OtherRegion);
    }
    let now_ms = store.now_ms()?;
    let path = format!("/{name}");
    match store.inner.writer.create_bucket(name, now_ms).await? {
        BucketCreated::Created => {
            let mut reply = reply::empty(StatusCode::OK);
            reply.headers_mut().insert(LOCATION, field_value(&path));
            Ok(reply)
        }
        BucketCreated::AlreadyExists => Err(Fault::BucketExists),
    }
}

/// Reads a small document and compares it with what the head promised.
async fn read_document<B>(headers: &HeaderMap, payload: Payload, body: B) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes> + Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let collected = Limited::new(body, DOCUMENT_MAX_BYTES).collect().await;
    let document = match collected {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(XmlError::TooLong.into()),
        Err(_) => return Err(UploadError::BrokeOff { received_bytes: 0 }.into()),
    };
    if let Some(expected) = content_md5(headers)?
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
