//! One file per operation. Each takes the store and what it needs of a verified request, and answers or fails.

pub mod create_bucket;
pub mod delete_bucket;
pub mod delete_object;
pub mod get_bucket_location;
pub mod get_object;
pub mod head_bucket;
pub mod list_buckets;
pub mod list_objects_v2;
pub mod post_object;
pub mod put_object;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use time::OffsetDateTime;
use time::macros::format_description;

use super::meta::{MetaError, ObjectRow};
use super::reply_error::Fault;

/// `2009-10-12T17:50:30.000Z`, as S3's documents write times.
fn xml_time(ms: i64) -> Result<String, Fault> {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&format).ok())
        .ok_or(Fault::Meta(MetaError::ImpossibleRow {
            column: "modified_ms",
        }))
}

/// The whole second in which an object was written: an HTTP date is no finer.
fn modified(row: &ObjectRow) -> Result<SystemTime, Fault> {
    let seconds = u64::try_from(row.modified_ms.div_euclid(1000)).ok();
    seconds
        .filter(|seconds| *seconds < 253_402_300_800)
        .map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))
        .ok_or(Fault::Meta(MetaError::ImpossibleRow {
            column: "modified_ms",
        }))
}

/// A field value made of text that we wrote ourselves, so it is visible ASCII.
fn field_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a field value of ours is visible ASCII")
}
