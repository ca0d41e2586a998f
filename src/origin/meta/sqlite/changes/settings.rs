//! Changes to what stands beside the bytes, and to where they are.

use super::super::super::{Refused, RetentionChange, VersionId, VersionKind, VersionSetting};
use super::super::writer::Change;
use super::Changes;
use super::objects::{by_id, latest};
use crate::origin::blobs::{BlobId, Place};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::retention::ObjectLock;

pub(in super::super) struct Set {
    pub(in super::super) bucket: BucketName,
    pub(in super::super) key: ObjectKey,
    pub(in super::super) version_id: Option<VersionId>,
    pub(in super::super) setting: VersionSetting,
}

impl Change for Set {
    type Outcome = Result<VersionId, Refused>;
    async fn apply(self, changes: &mut Changes<'_>) -> Result<Self::Outcome, sqlx::Error> {
        let Some((bucket, _)) = changes.bucket(&self.bucket).await? else {
            return Ok(Err(Refused::NoSuchBucket));
        };
        let version = match self.version_id {
            Some(id) => by_id(changes, bucket, &self.key, id).await?,
            None => latest(changes, bucket, &self.key).await?,
        };
        let Some(version) = version else {
            return Ok(Err(match self.version_id {
                Some(_) => Refused::NoSuchVersion,
                None => Refused::NoSuchKey,
            }));
        };
        if version.kind == VersionKind::DeleteMarker {
            return Ok(Err(match self.version_id {
                Some(_) => Refused::DeleteMarker,
                None => Refused::NoSuchKey,
            }));
        }
        if let VersionSetting::Retention(change) = &self.setting {
            let RetentionChange {
                retention,
                now_ms,
                bypasses,
            } = *change;
            if !version.lock.may_become(retention, now_ms, bypasses) {
                return Ok(Err(Refused::Locked));
            }
        }
        let set_lock = |lock: ObjectLock| {
            sqlx::query("UPDATE versions SET lock = ? WHERE id = ?").bind(lock.to_row())
        };
        changes.touch_object(bucket, &self.key);
        let query = match self.setting {
            VersionSetting::Tags(tags) => {
                sqlx::query("UPDATE versions SET tags = ? WHERE id = ?").bind(tags)
            }
            VersionSetting::Acl(acl) => {
                sqlx::query("UPDATE versions SET acl = ? WHERE id = ?").bind(acl)
            }
            VersionSetting::Retention(change) => set_lock(ObjectLock {
                retention: change.retention,
                ..version.lock
            }),
            VersionSetting::LegalHold(is_held) => set_lock(ObjectLock {
                legal_hold: Some(is_held),
                ..version.lock
            }),
        };
        query.bind(version.number).execute(changes.sql()).await?;
        Ok(Ok(version.version_id))
    }
}

pub(in super::super) struct ForgetGarbage(pub(in super::super) Vec<BlobId>);

impl Change for ForgetGarbage {
    type Outcome = ();
    async fn apply(self, changes: &mut Changes<'_>) -> Result<(), sqlx::Error> {
        for blob in self.0 {
            sqlx::query("DELETE FROM garbage WHERE id = ?")
                .bind(blob.row())
                .execute(changes.sql())
                .await?;
        }
        Ok(())
    }
}

pub(in super::super) struct MoveBlobs(pub(in super::super) Vec<(BlobId, Place)>);

impl Change for MoveBlobs {
    type Outcome = ();
    async fn apply(self, changes: &mut Changes<'_>) -> Result<(), sqlx::Error> {
        // Whoever has read a row already finds the old place gone and reads the row again.
        changes.touch_all();
        for (blob, place) in self.0 {
            sqlx::query("UPDATE blobs SET place = ?, pack = ? WHERE id = ?")
                .bind(place.to_bytes())
                .bind(place.pack().map(|pack| pack.row()))
                .bind(blob.row())
                .execute(changes.sql())
                .await?;
        }
        Ok(())
    }
}
