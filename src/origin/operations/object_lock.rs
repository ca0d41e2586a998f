//! GetObjectRetention, PutObjectRetention, GetObjectLegalHold, PutObjectLegalHold: `/bucket/key?retention`,
//! `/bucket/key?legal-hold`; and the lock that an upload brings or gets from its bucket (S3 API).

use http::{HeaderMap, HeaderValue, StatusCode};

use super::{field_value, find_version};
use crate::origin::access::Action;
use crate::origin::ask::Ask;
use crate::origin::documents::{
    parse_legal_hold, parse_retention, time_of, time_text, write_legal_hold, write_retention,
};
use crate::origin::fault::Fault;
use crate::origin::fields::{FieldError, RequestFields};
use crate::origin::meta::{BucketRow, RetentionChange, VersionSetting};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::permission::{self, Brought};
use crate::origin::reply::{self, Reply};
use crate::origin::retention::{ObjectLock, Retention, RetentionMode, hold_of, hold_word};
use crate::origin::store::Store;
use crate::origin::xml::{Document, NAMESPACE};

/// The fields in which an upload brings its lock, and a read tells of it.
const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";
const LEGAL_HOLD: &str = "x-amz-object-lock-legal-hold";

/// Says that governance is to be bypassed.
pub(in crate::origin) const BYPASS: &str = "x-amz-bypass-governance-retention";

/// S3's word for a version that has no lock of the kind that is asked for.
const NO_LOCK: &str = "NoSuchObjectLockConfiguration";

/// The lock of a new version: what its upload brings, and the bucket's retention if it brings none.
///
/// # Errors
/// Fields that say half or nothing, a time that has passed, a bucket that locks nothing.
pub(super) fn of_upload(
    fields: &RequestFields<'_>,
    bucket: &BucketRow,
    now_ms: i64,
) -> Result<ObjectLock, Fault> {
    or_default(brought(fields, bucket, now_ms)?, bucket, now_ms)
}

/// The lock that an upload into the bucket brings.
///
/// # Errors
/// As [`of_upload`].
pub(super) fn brought(
    fields: &RequestFields<'_>,
    bucket: &BucketRow,
    now_ms: i64,
) -> Result<ObjectLock, Fault> {
    let lock = in_fields(fields, now_ms)?;
    if lock != ObjectLock::default() && bucket.object_lock()?.is_none() {
        return Err(Fault::NoObjectLock);
    }
    Ok(lock)
}

/// A lock with the bucket's retention if it has none of its own.
pub(super) fn or_default(
    mut lock: ObjectLock,
    bucket: &BucketRow,
    now_ms: i64,
) -> Result<ObjectLock, Fault> {
    let configuration = bucket.object_lock()?;
    if let (None, Some(default)) = (lock.retention, configuration.and_then(|c| c.default)) {
        let retention = default.from(now_ms).ok_or(Fault::ClockOutOfRange)?;
        lock.retention = Some(retention);
    }
    Ok(lock)
}

/// The lock that the fields of an upload bring.
///
/// # Errors
/// Fields that say half or nothing, a time that has passed.
pub fn in_fields(fields: &RequestFields<'_>, now_ms: i64) -> Result<ObjectLock, Fault> {
    let invalid = |name| Fault::Field(FieldError::Invalid { name });
    let retention = match (fields.amz(MODE)?, fields.amz(UNTIL)?) {
        (None, None) => None,
        (Some(_), None) => return Err(invalid(UNTIL)),
        (None, Some(_)) => return Err(invalid(MODE)),
        (Some(mode), Some(until)) => Some(Retention {
            mode: RetentionMode::from_name(&mode).ok_or(invalid(MODE))?,
            until_ms: time_of(&until).ok_or(invalid(UNTIL))?,
        }),
    };
    refuse_past(retention, now_ms)?;
    let legal_hold = match fields.amz(LEGAL_HOLD)? {
        None => None,
        Some(word) => Some(hold_of(&word).ok_or(invalid(LEGAL_HOLD))?),
    };
    Ok(ObjectLock {
        retention,
        legal_hold,
    })
}

fn refuse_past(retention: Option<Retention>, now_ms: i64) -> Result<(), Fault> {
    match retention {
        Some(retention) if retention.until_ms <= now_ms => Err(Fault::RetainedUntilPast),
        _ => Ok(()),
    }
}

/// Tells who may know it of the lock of a version.
pub(super) async fn tell(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
    lock: &ObjectLock,
    headers: &mut HeaderMap,
) -> Result<(), Fault> {
    if *lock == ObjectLock::default() {
        return Ok(());
    }
    let may = permission::may_see_lock(ask, bucket, key).await?;
    if let Some(retention) = lock.retention.filter(|_| may.retention) {
        headers.insert(MODE, HeaderValue::from_static(retention.mode.name()));
        headers.insert(UNTIL, field_value(&time_text(retention.until_ms)));
    }
    if let Some(is_held) = lock.legal_hold.filter(|_| may.legal_hold) {
        headers.insert(LEGAL_HOLD, HeaderValue::from_static(hold_word(is_held)));
    }
    Ok(())
}

/// Answers with the retention of a version.
///
/// # Errors
/// As HeadObject; [`Fault::NoObjectLock`], [`Fault::NotConfigured`].
pub async fn get_retention(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<Reply, Fault> {
    let retention = told(ask, bucket, key, |lock| lock.retention).await?;
    let mut document = Document::new("Retention", Some(NAMESPACE));
    write_retention(&retention, &mut document);
    Ok(reply::xml(StatusCode::OK, document))
}

/// Sets the retention of a version.
///
/// # Errors
/// As HeadObject, what is wrong with the document, or a retention that it may not become.
pub async fn put_retention(
    ask: &mut Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<Reply, Fault> {
    let document = ask.document().await?;
    let retention = parse_retention(&document)?;
    let brought = Brought {
        lock: ObjectLock {
            retention,
            legal_hold: None,
        },
        ..Brought::default()
    };
    permission::check_setting(ask, Action::PutObjectRetention, bucket, key, &brought).await?;
    refuse_without_lock(ask.store, bucket).await?;
    let now_ms = ask.store.now_ms()?;
    refuse_past(retention, now_ms)?;
    let change = RetentionChange {
        retention,
        now_ms,
        bypasses: permission::bypasses_governance(ask, bucket, key, &brought).await?,
    };
    set(ask, bucket, key, VersionSetting::Retention(change)).await
}

/// Answers whether a version is held.
///
/// # Errors
/// As [`get_retention`].
pub async fn get_legal_hold(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<Reply, Fault> {
    let is_held = told(ask, bucket, key, |lock| lock.legal_hold).await?;
    let mut document = Document::new("LegalHold", Some(NAMESPACE));
    write_legal_hold(is_held, &mut document);
    Ok(reply::xml(StatusCode::OK, document))
}

/// Holds a version, or lets it go.
///
/// # Errors
/// As HeadObject, or what is wrong with the document.
pub async fn put_legal_hold(
    ask: &mut Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<Reply, Fault> {
    let document = ask.document().await?;
    let is_held = parse_legal_hold(&document)?;
    let brought = Brought {
        lock: ObjectLock {
            retention: None,
            legal_hold: Some(is_held),
        },
        ..Brought::default()
    };
    permission::check_setting(ask, Action::PutObjectLegalHold, bucket, key, &brought).await?;
    refuse_without_lock(ask.store, bucket).await?;
    set(ask, bucket, key, VersionSetting::LegalHold(is_held)).await
}

/// What of a version's lock is asked for.
async fn told<T>(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
    of: impl Fn(&ObjectLock) -> Option<T>,
) -> Result<T, Fault> {
    refuse_without_lock(ask.store, bucket).await?;
    let row = find_version(ask, bucket, key).await?;
    of(&row.lock).ok_or(Fault::NotConfigured { code: NO_LOCK })
}

async fn refuse_without_lock(store: &Store, bucket: &BucketName) -> Result<(), Fault> {
    match store.bucket(bucket).await?.object_lock()? {
        Some(_) => Ok(()),
        None => Err(Fault::NoObjectLock),
    }
}

async fn set(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
    setting: VersionSetting,
) -> Result<Reply, Fault> {
    let meta = &ask.store.inner.meta;
    meta.set(bucket, key, ask.version_id()?, setting).await??;
    Ok(reply::empty(StatusCode::OK))
}
