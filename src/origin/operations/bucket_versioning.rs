//! GetBucketVersioning, PutBucketVersioning: `/bucket?versioning` (S3 API).

use http::StatusCode;

use crate::origin::ask::Ask;
use crate::origin::documents::Versioning as Wanted;
use crate::origin::fault::Fault;
use crate::origin::meta::Versioning;
use crate::origin::names::BucketName;
use crate::origin::reply::{self, Reply};
use crate::origin::xml::{Document, NAMESPACE};

/// Answers whether the bucket keeps versions.
///
/// # Errors
/// [`Fault::NoSuchBucket`], [`Fault::Meta`].
pub async fn get(ask: &Ask<'_>, bucket: &BucketName) -> Result<Reply, Fault> {
    let row = ask.store.bucket(bucket).await?;
    let mut document = Document::new("VersioningConfiguration", Some(NAMESPACE));
    let versioning = match row.versioning {
        Versioning::Off => Wanted::Unversioned,
        Versioning::Enabled => Wanted::Enabled,
        Versioning::Suspended => Wanted::Suspended,
    };
    versioning.write(&mut document);
    Ok(reply::xml(StatusCode::OK, document))
}

/// Sets it.
///
/// # Errors
/// [`Fault::NoSuchBucket`], or what is wrong with the document.
pub async fn put(ask: &mut Ask<'_>, bucket: &BucketName) -> Result<Reply, Fault> {
    let document = ask.document().await?;
    let versioning = match Wanted::parse(&document)? {
        Wanted::Unversioned => Versioning::Off,
        Wanted::Enabled => Versioning::Enabled,
        Wanted::Suspended => Versioning::Suspended,
    };
    let meta = &ask.store.inner.meta;
    meta.set_versioning(bucket, versioning).await??;
    Ok(reply::empty(StatusCode::OK))
}
