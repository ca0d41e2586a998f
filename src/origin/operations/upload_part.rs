//! UploadPart: `PUT /bucket/key?partNumber=N&uploadId=ID` (S3 API, UploadPart).

use std::sync::Arc;

use http::header::ETAG;
use http::{HeaderValue, StatusCode};

use super::{field_value, find_upload};
use crate::origin::ask::Ask;
use crate::origin::checksums::Algorithm;
use crate::origin::fault::Fault;
use crate::origin::meta::{NewPart, PartRow, PartSource, UploadRow};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::query::Query;
use crate::origin::receive::{ChecksumPlan, Plan, receive};
use crate::origin::reply::{self, Reply};
use crate::signing::Payload;

/// The `x-amz-*` fields that this operation knows.
pub const KNOWN_FIELDS: [&str; 4] = [
    "x-amz-checksum-",
    "x-amz-decoded-content-length",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-trailer",
];

/// Takes in the body and commits the part, in place of the one of its number.
///
/// # Errors
/// [`Fault::NoSuchUpload`], or as PutObject.
pub async fn run(mut ask: Ask<'_>, bucket: &BucketName, key: &ObjectKey) -> Result<Reply, Fault> {
    let number = part_number(ask.fields.query)?;
    let upload = find_upload(&ask, bucket, key).await?;
    let payload = std::mem::replace(&mut ask.payload, Payload::Unsigned);
    let plan = as_of(&upload, super::put_object::plan(&ask.fields, payload)?)?;
    let modified_ms = ask.store.now_ms()?;
    let inner = &ask.store.inner;
    let arrived = receive(Arc::clone(&inner.blobs), ask.body, plan, &inner.stats).await?;
    let store = ask.store.clone();
    let task = tokio::spawn(async move {
        let received = arrived.finish().await?;
        let written = received.published.content.clone();
        let checksum = received.also.unwrap_or_else(|| received.checksum.clone());
        let row = PartRow {
            number,
            size_bytes: received.published.length_bytes,
            etag: received.etag.clone(),
            modified_ms,
            checksum,
        };
        let part = NewPart {
            upload: upload.number,
            row,
            source: PartSource::Written(received.published.content),
        };
        let changed = store.inner.meta.put_part(part).await;
        let released = store.settled(changed, written).await?;
        store.reclaim(released);
        Ok::<_, Fault>((received.etag, received.checksum))
    });
    let (etag, checksum) = task.await.map_err(|_| Fault::TaskDied)??;
    let mut reply = reply::empty(StatusCode::OK);
    let headers = reply.headers_mut();
    headers.insert(ETAG, field_value(&format!("\"{etag}\"")));
    headers.insert(
        checksum.algorithm().field_name(),
        HeaderValue::try_from(checksum.base64()).expect("base64 is visible ASCII"),
    );
    Ok(reply)
}

/// The part's number: 1 to 10,000 (S3, "Amazon S3 multipart upload limits").
pub(super) fn part_number(query: &Query) -> Result<u16, Fault> {
    let name = "partNumber";
    query
        .get(name)?
        .and_then(|text| text.parse().ok())
        .filter(|number| (1..=10_000).contains(number))
        .ok_or(Fault::InvalidParameter { name })
}

/// Sees to it that the part has a checksum of the kind that the whole will need, and lies where the whole will.
fn as_of(upload: &UploadRow, plan: Plan) -> Result<Plan, Fault> {
    let needed = upload
        .checksum
        .map_or(Algorithm::Crc64Nvme, |(algorithm, _)| algorithm);
    let checksum = match plan.checksum {
        ChecksumPlan::Compute(_) => ChecksumPlan::Compute(needed),
        given => given,
    };
    let came = match &checksum {
        ChecksumPlan::Compute(algorithm) | ChecksumPlan::InTrailer(algorithm) => *algorithm,
        ChecksumPlan::Given(checksum) => checksum.algorithm(),
    };
    if came != needed && upload.checksum.is_some() {
        return Err(Fault::ChecksumOfOtherKind {
            expected: needed.s3_name(),
        });
    }
    Ok(Plan {
        checksum,
        also: (came != needed).then_some(needed),
        tier: upload.storage_class.tier(),
        ..plan
    })
}
