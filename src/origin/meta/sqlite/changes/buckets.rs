//! Changes to buckets and their documents.

use super::super::super::{BucketCreated, BucketDeleted, DocumentKind, Refused, Versioning};
use super::super::columns::{undecodable, versioning, versioning_number};
use super::super::writer::Change;
use super::{Changes, uploads};
use crate::origin::names::BucketName;

pub(super) async fn find(
    changes: &mut Changes<'_>,
    name: &BucketName,
) -> Result<Option<(i64, Versioning)>, sqlx::Error> {
    use sqlx::Row as _;
    let row = sqlx::query("SELECT id, versioning FROM buckets WHERE name = ?")
        .bind(name.as_str())
        .fetch_optional(changes.sql())
        .await?;
    row.map(|row| {
        let versioning = versioning(&row).map_err(undecodable)?;
        Ok((row.try_get("id")?, versioning))
    })
    .transpose()
}

pub(in super::super) struct Create {
    pub(in super::super) name: BucketName,
    pub(in super::super) owner: String,
    pub(in super::super) created_ms: i64,
    pub(in super::super) documents: Vec<(DocumentKind, Vec<u8>)>,
}

impl Change for Create {
    type Outcome = BucketCreated;
    async fn apply(self, changes: &mut Changes<'_>) -> Result<BucketCreated, sqlx::Error> {
        if changes.bucket(&self.name).await?.is_some() {
            return Ok(BucketCreated::AlreadyExists);
        }
        changes.touch_bucket(&self.name);
        let mut kinds = self.documents.iter().map(|(kind, _)| *kind);
        let versioning = match kinds.any(|kind| kind == DocumentKind::ObjectLock) {
            true => Versioning::Enabled,
            false => Versioning::Off,
        };
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO buckets (name, owner, created_ms, versioning) VALUES (?, ?, ?, ?) RETURNING id",
        )
        .bind(self.name.as_str())
        .bind(&self.owner)
        .bind(self.created_ms)
        .bind(versioning_number(versioning))
        .fetch_one(changes.sql())
        .await?;
        for (kind, document) in self.documents {
            set_document(changes, id, kind, Some(document)).await?;
        }
        Ok(BucketCreated::Created)
    }
}

async fn set_document(
    changes: &mut Changes<'_>,
    bucket: i64,
    kind: DocumentKind,
    document: Option<Vec<u8>>,
) -> Result<(), sqlx::Error> {
    let query = match document {
        Some(document) => sqlx::query(
            "INSERT OR REPLACE INTO bucket_documents (document, bucket, kind) VALUES (?, ?, ?)",
        )
        .bind(document),
        None => sqlx::query("DELETE FROM bucket_documents WHERE bucket = ? AND kind = ?"),
    };
    query
        .bind(bucket)
        .bind(kind.name())
        .execute(changes.sql())
        .await?;
    Ok(())
}

pub(in super::super) struct Delete(pub(in super::super) BucketName);

impl Change for Delete {
    type Outcome = BucketDeleted;
    async fn apply(self, changes: &mut Changes<'_>) -> Result<BucketDeleted, sqlx::Error> {
        let Some((bucket, _)) = changes.bucket(&self.0).await? else {
            return Ok(BucketDeleted::NoSuchBucket);
        };
        let occupied: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM versions WHERE bucket = ? LIMIT 1")
                .bind(bucket)
                .fetch_optional(changes.sql())
                .await?;
        if occupied.is_some() {
            return Ok(BucketDeleted::NotEmpty);
        }
        let uploads: Vec<i64> = sqlx::query_scalar("SELECT id FROM uploads WHERE bucket = ?")
            .bind(bucket)
            .fetch_all(changes.sql())
            .await?;
        let mut released = Vec::new();
        for upload in uploads {
            released.extend(uploads::end(changes, upload).await?);
        }
        changes.touch_bucket(&self.0);
        sqlx::query("DELETE FROM bucket_documents WHERE bucket = ?")
            .bind(bucket)
            .execute(changes.sql())
            .await?;
        sqlx::query("DELETE FROM buckets WHERE id = ?")
            .bind(bucket)
            .execute(changes.sql())
            .await?;
        Ok(BucketDeleted::Deleted { released })
    }
}

pub(in super::super) struct SetVersioning(
    pub(in super::super) BucketName,
    pub(in super::super) Versioning,
);

impl Change for SetVersioning {
    type Outcome = Result<(), Refused>;
    async fn apply(self, changes: &mut Changes<'_>) -> Result<Self::Outcome, sqlx::Error> {
        let Some((bucket, _)) = changes.bucket(&self.0).await? else {
            return Ok(Err(Refused::NoSuchBucket));
        };
        if self.1 != Versioning::Enabled && locks_versions(changes, bucket).await? {
            return Ok(Err(Refused::VersionsOfLocked));
        }
        changes.touch_bucket(&self.0);
        sqlx::query("UPDATE buckets SET versioning = ? WHERE id = ?")
            .bind(versioning_number(self.1))
            .bind(bucket)
            .execute(changes.sql())
            .await?;
        Ok(Ok(()))
    }
}

/// Whether a bucket has an object lock.
async fn locks_versions(changes: &mut Changes<'_>, bucket: i64) -> Result<bool, sqlx::Error> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM bucket_documents WHERE bucket = ? AND kind = ?")
            .bind(bucket)
            .bind(DocumentKind::ObjectLock.name())
            .fetch_optional(changes.sql())
            .await?;
    Ok(found.is_some())
}

pub(in super::super) struct SetDocument(
    pub(in super::super) BucketName,
    pub(in super::super) DocumentKind,
    pub(in super::super) Option<Vec<u8>>,
);

impl Change for SetDocument {
    type Outcome = Result<(), Refused>;
    async fn apply(self, changes: &mut Changes<'_>) -> Result<Self::Outcome, sqlx::Error> {
        let Some((bucket, versioning)) = changes.bucket(&self.0).await? else {
            return Ok(Err(Refused::NoSuchBucket));
        };
        if self.1 == DocumentKind::ObjectLock && versioning != Versioning::Enabled {
            return Ok(Err(Refused::VersionsOfLocked));
        }
        changes.touch_bucket(&self.0);
        set_document(changes, bucket, self.1, self.2).await?;
        Ok(Ok(()))
    }
}
