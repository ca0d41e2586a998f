//! GetBucketPolicyStatus: `GET /bucket?policyStatus` (S3 API).

use http::StatusCode;

use crate::origin::ask::Ask;
use crate::origin::fault::Fault;
use crate::origin::names::BucketName;
use crate::origin::reply::{self, Reply};
use crate::origin::xml::{Document, NAMESPACE};

/// Says whether the policy lets everybody in.
///
/// # Errors
/// [`Fault::NoSuchBucket`], [`Fault::NotConfigured`] without a policy.
pub async fn run(ask: &Ask<'_>, bucket: &BucketName) -> Result<Reply, Fault> {
    let row = ask.store.bucket(bucket).await?;
    let policy = row.policy()?.ok_or(Fault::NotConfigured {
        code: "NoSuchBucketPolicy",
    })?;
    let mut document = Document::new("PolicyStatus", Some(NAMESPACE));
    // The example of the reference has capitals; SDKs read only what S3 really sends.
    document.text(
        "IsPublic",
        if policy.is_public() { "true" } else { "false" },
    );
    Ok(reply::xml(StatusCode::OK, document))
}
