//! What the rules say about a version or an upload.
//!
//! Days are counted as S3 counts them: from the moment something happened, and then up to the next midnight UTC.

use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Expiration, LifecycleFilter, LifecycleRule, LifecycleRules, TransitionTime};
use crate::origin::documents::Tags;

const DAY_SECONDS: u64 = 86_400;
/// What is encoded in a rule's id: all but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// The end of the year 9999, behind which an HTTP date cannot be written.
const DATES_END_SECONDS: u64 = 253_402_300_800;

/// A version as far as rules ask about it.
#[derive(Debug, Clone, Copy)]
pub struct VersionFacts<'a> {
    /// Its object's key.
    pub key: &'a str,
    /// Its length; 0 for a delete marker.
    pub size_bytes: u64,
    /// Its tags; none for a delete marker.
    pub tags: &'a Tags,
    /// When it was written.
    pub modified: SystemTime,
    /// Which one it is.
    pub kind: VersionKind,
}

/// Which version of an object something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionKind {
    /// The current one, an object.
    Current,
    /// The current one, a delete marker.
    CurrentMarker {
        /// Whether there is no other version: it hides nothing any more.
        is_alone: bool,
    },
    /// One that is not current, an object or a delete marker.
    Noncurrent {
        /// Whether it is a delete marker.
        is_marker: bool,
        /// When its successor was written.
        since: SystemTime,
        /// How many newer versions are not current either.
        newer: u32,
    },
}

/// An upload of parts as far as rules ask about it.
#[derive(Debug, Clone, Copy)]
pub struct UploadFacts<'a> {
    /// The key of the object that it is to be.
    pub key: &'a str,
    /// When it began.
    pub initiated: SystemTime,
}

/// What is to be done, and by which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'r> {
    /// The current version expires: in a bucket with versions a delete marker hides it, in another it is deleted.
    Expire {
        /// The rule's id.
        rule: &'r str,
    },
    /// The delete marker is removed, because it hides nothing.
    RemoveMarker {
        /// The rule's id.
        rule: &'r str,
    },
    /// The version is deleted for good.
    RemoveNoncurrent {
        /// The rule's id.
        rule: &'r str,
    },
}

impl LifecycleRules {
    /// What becomes of a version at `now`; `None` when it stays. Of several rules the first that says something
    /// counts: all of them would end the version in the same way.
    pub fn verdict(&self, version: &VersionFacts<'_>, now: SystemTime) -> Option<Verdict<'_>> {
        self.active().find_map(|rule| {
            let id = rule.id.as_str();
            match version.kind {
                VersionKind::Current => (rule.filter.takes(version))
                    .then(|| rule.expires_at(version.modified))
                    .flatten()
                    .filter(|end| now >= *end)
                    .map(|_| Verdict::Expire { rule: id }),
                VersionKind::CurrentMarker { is_alone } => (is_alone
                    && rule.filter.takes_markers(version.key)
                    && rule.removes_marker(version.modified, now))
                .then_some(Verdict::RemoveMarker { rule: id }),
                VersionKind::Noncurrent {
                    is_marker,
                    since,
                    newer,
                } => {
                    let is_taken = match is_marker {
                        true => rule.filter.takes_markers(version.key),
                        false => rule.filter.takes(version),
                    };
                    let end = rule.noncurrent_expiration.filter(|_| is_taken)?;
                    let is_spare = newer >= end.newer_versions.unwrap_or(0);
                    (is_spare && now >= midnight_after(since, end.days))
                        .then_some(Verdict::RemoveNoncurrent { rule: id })
                }
            }
        })
    }

    /// Whether a version is to move to a storage class at `now`, wherever it is. Delete markers stay.
    pub fn moves(&self, class: &str, version: &VersionFacts<'_>, now: SystemTime) -> bool {
        let mut rules = self.active().filter(|rule| rule.filter.takes(version));
        match version.kind {
            VersionKind::Current => rules.any(|rule| {
                let mut all = rule.transitions.iter();
                all.any(|transition| {
                    let due = match transition.when {
                        TransitionTime::Days(days) => midnight_after(version.modified, days),
                        TransitionTime::Date(date) => date,
                    };
                    transition.storage_class == class && now >= due
                })
            }),
            VersionKind::Noncurrent {
                is_marker: false,
                since,
                newer,
            } => rules.any(|rule| {
                let mut all = rule.noncurrent_transitions.iter();
                all.any(|transition| {
                    transition.storage_class == class
                        && newer >= transition.newer_versions.unwrap_or(0)
                        && now >= midnight_after(since, transition.days)
                })
            }),
            VersionKind::CurrentMarker { .. } | VersionKind::Noncurrent { .. } => false,
        }
    }

    /// When a current version expires and by which rule; the earliest counts.
    pub fn expiry(&self, version: &VersionFacts<'_>) -> Option<(SystemTime, &str)> {
        if version.kind != VersionKind::Current {
            return None;
        }
        self.active()
            .filter(|rule| rule.filter.takes(version))
            .filter_map(|rule| Some((rule.expires_at(version.modified)?, rule.id.as_str())))
            .min_by_key(|(end, _)| *end)
    }

    /// The field `x-amz-expiration` of a current version.
    pub fn expiration_header(&self, version: &VersionFacts<'_>) -> Option<String> {
        let (end, rule) = self.expiry(version)?;
        let date = http_date(end)?;
        let rule = utf8_percent_encode(rule, RESERVED);
        Some(format!("expiry-date=\"{date}\", rule-id=\"{rule}\""))
    }

    /// When an upload is given up and by which rule (`x-amz-abort-date`, `x-amz-abort-rule-id`); the earliest counts.
    pub fn abort_at(&self, upload: &UploadFacts<'_>) -> Option<(SystemTime, &str)> {
        self.active()
            .filter(|rule| rule.filter.takes_markers(upload.key))
            .filter_map(|rule| {
                let days = rule.abort_uploads_days?;
                Some((midnight_after(upload.initiated, days), rule.id.as_str()))
            })
            .min_by_key(|(end, _)| *end)
    }

    /// Whether any rule is in force: without one nothing needs to be looked through.
    pub fn is_any_enabled(&self) -> bool {
        self.active().next().is_some()
    }

    fn active(&self) -> impl Iterator<Item = &LifecycleRule> {
        self.iter().filter(|rule| rule.is_enabled)
    }
}

impl LifecycleRule {
    fn expires_at(&self, modified: SystemTime) -> Option<SystemTime> {
        match self.expiration? {
            Expiration::Days(days) => Some(midnight_after(modified, days)),
            Expiration::Date(date) => Some(date),
            Expiration::DeleteMarkers(_) => None,
        }
    }

    /// Of a marker that hides nothing. An expiration by days or date takes it too, in its time.
    fn removes_marker(&self, modified: SystemTime, now: SystemTime) -> bool {
        match self.expiration {
            Some(Expiration::DeleteMarkers(is_on)) => is_on,
            Some(Expiration::Days(_) | Expiration::Date(_)) => {
                self.expires_at(modified).is_some_and(|end| now >= end)
            }
            None => false,
        }
    }
}

impl LifecycleFilter {
    fn takes(&self, version: &VersionFacts<'_>) -> bool {
        let has = |tag: &super::Tag| version.tags.get(&tag.key) == Some(tag.value.as_str());
        self.takes_key(version.key)
            && self.tags.iter().all(has)
            && (self.greater_than_bytes).is_none_or(|bytes| version.size_bytes > bytes)
            && (self.less_than_bytes).is_none_or(|bytes| version.size_bytes < bytes)
    }

    /// Delete markers and uploads have neither tags nor a length: a filter that asks for one is not about them.
    fn takes_markers(&self, key: &str) -> bool {
        self.takes_key(key)
            && self.tags.is_empty()
            && self.greater_than_bytes.is_none()
            && self.less_than_bytes.is_none()
    }

    fn takes_key(&self, key: &str) -> bool {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        key.starts_with(prefix)
    }
}

/// The first midnight UTC that is later than `days` after `start`.
fn midnight_after(start: SystemTime, days: u32) -> SystemTime {
    // A clock before 1970 was wrong.
    let start = start.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = start.unwrap_or_default().as_secs();
    let day = seconds / DAY_SECONDS + u64::from(days) + 1;
    let end = Duration::from_secs(day.saturating_mul(DAY_SECONDS));
    // No clock reaches that far.
    (SystemTime::UNIX_EPOCH.checked_add(end))
        .unwrap_or_else(|| SystemTime::UNIX_EPOCH + Duration::from_secs(DATES_END_SECONDS))
}

fn http_date(time: SystemTime) -> Option<String> {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    (seconds < DATES_END_SECONDS).then(|| httpdate::fmt_http_date(time))
}
