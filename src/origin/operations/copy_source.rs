//! The source of a copy: `x-amz-copy-source`, and what must hold of it (S3 API, CopyObject, UploadPartCopy).

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName};

use super::{find_version_of, modified};
use crate::origin::ask::Ask;
use crate::origin::conditional::{Condition, ReadDecision, Validators, decide_read};
use crate::origin::fault::Fault;
use crate::origin::meta::{VersionId, VersionRow};
use crate::origin::names::{BucketName, ObjectKey, Target, decode_once, parse_target};
use crate::origin::permission;

/// The conditions on the source, and what they are called on a read.
const CONDITIONS: [(&str, HeaderName); 4] = [
    ("x-amz-copy-source-if-match", http::header::IF_MATCH),
    (
        "x-amz-copy-source-if-none-match",
        http::header::IF_NONE_MATCH,
    ),
    (
        "x-amz-copy-source-if-modified-since",
        http::header::IF_MODIFIED_SINCE,
    ),
    (
        "x-amz-copy-source-if-unmodified-since",
        http::header::IF_UNMODIFIED_SINCE,
    ),
];

/// What is copied.
#[derive(Debug, Clone)]
pub(super) struct CopySource {
    pub(super) bucket: BucketName,
    pub(super) key: ObjectKey,
    pub(super) version_id: Option<VersionId>,
}

impl CopySource {
    /// Reads the field: `bucket/key`, percent-encoded, with or without a slash before it, and `?versionId=` behind it.
    pub(super) fn of(ask: &Ask<'_>) -> Result<Self, Fault> {
        let name = "x-amz-copy-source";
        let text = ask.fields.amz(name)?.unwrap_or_default();
        let invalid = Fault::CopySource;
        let (path, version_id) = match text.split_once("?versionId=") {
            Some((path, id)) => (path, Some(VersionId::parse(&decode_once(id)?)?)),
            None => (text.as_str(), None),
        };
        let path = if path.starts_with('/') {
            path.to_owned()
        } else if path
            .split('/')
            .next()
            .is_some_and(|bucket| bucket.contains("%2F") || bucket.contains("%2f"))
        {
            // Some clients encode the slash behind the bucket, too.
            format!("/{}", path.replacen("%2F", "/", 1).replacen("%2f", "/", 1))
        } else {
            format!("/{path}")
        };
        match parse_target(&path)? {
            Target::Object(bucket, key) => Ok(CopySource {
                bucket,
                key,
                version_id,
            }),
            Target::Service | Target::Bucket(_) => Err(invalid),
        }
    }

    /// The version that is copied. The caller may read it, and what must hold of it does.
    pub(super) async fn find(&self, ask: &Ask<'_>) -> Result<Arc<VersionRow>, Fault> {
        permission::check_read(ask, &self.bucket, &self.key, self.version_id).await?;
        let found = find_version_of(ask.store, &self.bucket, &self.key, self.version_id).await;
        let row = found.map_err(|fault| match fault {
            Fault::DeleteMarker {
                was_named: true, ..
            } => Fault::CopyOfMarker,
            other => other,
        })?;
        let mut conditions = HeaderMap::new();
        for (copied, read) in CONDITIONS {
            for value in ask.fields.headers.get_all(copied) {
                conditions.append(read.clone(), value.clone());
            }
        }
        let validators = Validators {
            etag: &row.etag,
            modified: modified(row.modified_ms)?,
        };
        match decide_read(&conditions, validators)? {
            ReadDecision::Proceed => Ok(row),
            ReadDecision::NotModified => Err(Fault::PreconditionFailed(Condition::IfNoneMatch)),
            ReadDecision::PreconditionFailed(condition) => {
                Err(Fault::PreconditionFailed(condition))
            }
        }
    }
}
