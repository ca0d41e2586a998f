//! Settings that no bucket of ours has: asked for, the answer is what S3 says of a bucket without them.

use http::StatusCode;

use crate::origin::ask::Ask;
use crate::origin::fault::Fault;
use crate::origin::names::BucketName;
use crate::origin::reply::{self, Reply};
use crate::origin::stats::Operation;
use crate::origin::xml::{Document, NAMESPACE};

/// Answers with "none".
///
/// # Errors
/// [`Fault::NoSuchBucket`]; [`Fault::NotConfigured`] with S3's code where that is the answer.
pub async fn run(ask: &Ask<'_>, bucket: &BucketName, operation: Operation) -> Result<Reply, Fault> {
    ask.store.bucket(bucket).await?;
    let code = match operation {
        Operation::GetBucketAccelerateConfiguration => {
            let document = Document::new("AccelerateConfiguration", Some(NAMESPACE));
            return Ok(reply::xml(StatusCode::OK, document));
        }
        Operation::GetBucketLogging => {
            let document = Document::new("BucketLoggingStatus", Some(NAMESPACE));
            return Ok(reply::xml(StatusCode::OK, document));
        }
        Operation::GetBucketRequestPayment => {
            let mut document = Document::new("RequestPaymentConfiguration", Some(NAMESPACE));
            document.text("Payer", "BucketOwner");
            return Ok(reply::xml(StatusCode::OK, document));
        }
        Operation::GetBucketEncryption => "ServerSideEncryptionConfigurationNotFoundError",
        Operation::GetBucketReplication => "ReplicationConfigurationNotFoundError",
        _ => "NoSuchWebsiteConfiguration",
    };
    Err(Fault::NotConfigured { code })
}
