//! DeleteObjects: `POST /bucket?delete` (S3 API, DeleteObjects): up to a thousand deletions in one request, each of
//! which succeeds or fails by itself.

use futures_util::future::{BoxFuture, join_all};
use http::{Method, StatusCode};

use super::delete_object::{delete, removal};
use super::{modified, put_object};
use crate::origin::ask::Ask;
use crate::origin::checksums::Algorithm;
use crate::origin::conditional::WriteCondition;
use crate::origin::documents::{DeleteError, DeleteKey, DeleteRequest, DeleteResult, Deleted};
use crate::origin::fault::Fault;
use crate::origin::fields::RequestFields;
use crate::origin::meta::{BucketRow, Deletion, VersionId, VersionKind};
use crate::origin::names::BucketName;
use crate::origin::permission::{self, Brought};
use crate::origin::reply::{self, Reply};
use crate::origin::xml::{Document, NAMESPACE};

/// Deletions that wait for a commit together.
const AT_ONCE: usize = 64;

/// Deletes.
///
/// # Errors
/// [`Fault::NoSuchBucket`], or what is wrong with the document; what is wrong with one deletion stands in the result.
pub async fn run(ask: &mut Ask<'_>, bucket: BucketName) -> Result<Reply, Fault> {
    let document = ask.document().await?;
    if !names_a_digest(&ask.fields) {
        return Err(Fault::DigestMissing);
    }
    let request = DeleteRequest::parse(&document)?;
    let row = ask.store.bucket(&bucket).await?;
    let ask = &*ask;
    let mut outcomes = Vec::with_capacity(request.objects.len());
    for together in request.objects.chunks(AT_ONCE) {
        let mut deletions: Vec<BoxFuture<'_, _>> = Vec::with_capacity(together.len());
        for wanted in together {
            deletions.push(Box::pin(delete_one(ask, &bucket, &row, wanted)));
        }
        outcomes.extend(join_all(deletions).await);
    }
    let mut result = DeleteResult::default();
    for (wanted, outcome) in request.objects.into_iter().zip(outcomes) {
        let key = wanted.key.as_str().to_owned();
        let version_id = wanted.version_id;
        match outcome {
            Ok(marker) => result.deleted.push(Deleted {
                key,
                version_id,
                delete_marker_version_id: marker.map(|id| id.to_string()),
            }),
            Err(fault) => result.errors.push(DeleteError {
                key,
                version_id,
                code: fault.row().code,
                message: fault.told(),
            }),
        }
    }
    let mut document = Document::new("DeleteResult", Some(NAMESPACE));
    result.write(request.is_quiet, &mut document);
    Ok(reply::xml(StatusCode::OK, document))
}

/// Whether a request says what its document's digest is.
fn names_a_digest(fields: &RequestFields<'_>) -> bool {
    let headers = fields.headers;
    headers.contains_key("content-md5")
        || Algorithm::ALL
            .into_iter()
            .any(|algorithm| headers.contains_key(algorithm.field_name()))
}

/// Deletes one. Gives back the delete marker that was written or removed.
async fn delete_one(
    ask: &Ask<'_>,
    bucket: &BucketName,
    row: &std::sync::Arc<BucketRow>,
    wanted: &DeleteKey,
) -> Result<Option<VersionId>, Fault> {
    let version_id = match &wanted.version_id {
        None => None,
        Some(text) => Some(VersionId::parse(text)?),
    };
    permission::check_object(ask, &Method::DELETE, bucket, &wanted.key, version_id).await?;
    let meta = &ask.store.inner.meta;
    let mut only_if_latest = None;
    if !wanted.condition.is_none() {
        let current = match version_id {
            None => meta.latest(row.id, &wanted.key).await?,
            Some(id) => meta.version(row.id, &wanted.key, id).await?,
        };
        let current = current
            .filter(|current| current.kind != VersionKind::DeleteMarker)
            .ok_or(Fault::NoSuchKey)?;
        let date = modified(current.modified_ms)?;
        if !(wanted.condition).holds(&current.etag, date, current.size_bytes) {
            return Err(Fault::PreconditionFailed(
                crate::origin::conditional::Condition::IfMatch,
            ));
        }
        // What was looked at is what goes.
        only_if_latest = version_id.is_none().then_some(current.number);
    }
    let event = removal(version_id, row.versioning);
    let deletion = Deletion {
        bucket: bucket.clone(),
        key: wanted.key.clone(),
        version_id,
        condition: WriteCondition::default(),
        only_if_latest,
        bypasses_governance: permission::bypasses_governance(
            ask,
            bucket,
            &wanted.key,
            &Brought::default(),
        )
        .await?,
        owner: ask.owner().to_owned(),
        now_ms: ask.store.now_ms()?,
        messages: put_object::messages(ask, row, &wanted.key, event)?(0, ""),
    };
    let deleted = delete(ask.store, row.id, deletion).await?;
    Ok(deleted.version_id.filter(|_| deleted.delete_marker))
}
