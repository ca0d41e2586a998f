//! `LifecycleConfiguration`: when objects go by themselves (S3 user guide, "Managing the lifecycle of objects").
//!
//! [`LifecycleRules::parse`] refuses what S3 refuses. The rest is pure: the facts of a version and `now` go in, a
//! verdict comes out. Which of the storage classes that S3 lets a rule name there are is for whoever puts the document.

mod evaluate;
mod read;

use std::time::SystemTime;

pub use evaluate::{UploadFacts, Verdict, VersionFacts, VersionKind};

use super::tagging::{Tag, write_tags};
use super::times;
use crate::origin::xml::Document;

/// The longest document that is read, in bytes: a thousand rules of a common size.
pub const LIFECYCLE_MAX_BYTES: usize = 1024 * 1024;

/// The rules of a bucket, 1 to 1000, with distinct ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleRules(Vec<LifecycleRule>);

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleRule {
    /// `ID`, at most 255 characters; made up when the client gives none.
    pub id: String,
    /// `Status`.
    pub is_enabled: bool,
    /// What it is about.
    pub filter: LifecycleFilter,
    /// `Expiration`: of the current version.
    pub expiration: Option<Expiration>,
    /// `NoncurrentVersionExpiration`.
    pub noncurrent_expiration: Option<NoncurrentExpiration>,
    /// `AbortIncompleteMultipartUpload`: days since the upload began; at least 1.
    pub abort_uploads_days: Option<u32>,
    /// `Transition`.
    pub transitions: Vec<Transition>,
    /// `NoncurrentVersionTransition`.
    pub noncurrent_transitions: Vec<NoncurrentTransition>,
}

/// What a rule is about: all of what is given must hold, and without anything it is about every object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LifecycleFilter {
    /// Whether the prefix stood directly in the rule, as clients of old write it.
    pub is_legacy: bool,
    /// `Prefix`.
    pub prefix: Option<String>,
    /// `Tag`.
    pub tags: Vec<Tag>,
    /// `ObjectSizeGreaterThan`, in bytes.
    pub greater_than_bytes: Option<u64>,
    /// `ObjectSizeLessThan`, in bytes.
    pub less_than_bytes: Option<u64>,
}

/// When the current version goes: it is deleted, or hidden by a delete marker in a bucket with versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiration {
    /// `Days` since it was written; at least 1.
    Days(u32),
    /// `Date`: a midnight, from which on all that is there goes.
    Date(SystemTime),
    /// `ExpiredObjectDeleteMarker`: whether delete markers go that hide nothing any more.
    DeleteMarkers(bool),
}

/// When versions go that are not current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoncurrentExpiration {
    /// `NoncurrentDays` since a newer one was written; at least 1.
    pub days: u32,
    /// `NewerNoncurrentVersions`: so many of the newest stay, 1 to 100; absent = none.
    pub newer_versions: Option<u32>,
}

/// A move to another storage class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// When.
    pub when: TransitionTime,
    /// `StorageClass`.
    pub storage_class: &'static str,
}

/// When the current version moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransitionTime {
    /// `Days` since it was written.
    Days(u32),
    /// `Date`: a midnight.
    Date(SystemTime),
}

/// A move of versions that are not current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoncurrentTransition {
    /// `NoncurrentDays`
    pub days: u32,
    /// `NewerNoncurrentVersions`
    pub newer_versions: Option<u32>,
    /// `StorageClass`
    pub storage_class: &'static str,
}

impl LifecycleRules {
    /// The storage classes that transitions name, also those of rules that are not in force.
    pub fn storage_classes(&self) -> impl Iterator<Item = &'static str> {
        self.iter().flat_map(|rule| {
            let current = rule.transitions.iter().map(|t| t.storage_class);
            current.chain(rule.noncurrent_transitions.iter().map(|t| t.storage_class))
        })
    }

    /// The rules.
    pub fn iter(&self) -> impl Iterator<Item = &LifecycleRule> {
        self.0.iter()
    }

    /// Writes them into a `LifecycleConfiguration`.
    pub fn write(&self, document: &mut Document) {
        for rule in &self.0 {
            document.element("Rule", |document| rule.write(document));
        }
    }
}

impl LifecycleRule {
    fn write(&self, document: &mut Document) {
        document.text("ID", &self.id);
        self.filter.write(document);
        let status = if self.is_enabled {
            "Enabled"
        } else {
            "Disabled"
        };
        document.text("Status", status);
        for transition in &self.transitions {
            document.element("Transition", |document| {
                match transition.when {
                    TransitionTime::Days(days) => document.text("Days", &days.to_string()),
                    TransitionTime::Date(date) => document.text("Date", &times::write(date)),
                }
                document.text("StorageClass", transition.storage_class);
            });
        }
        if let Some(expiration) = self.expiration {
            document.element("Expiration", |document| match expiration {
                Expiration::Days(days) => document.text("Days", &days.to_string()),
                Expiration::Date(date) => document.text("Date", &times::write(date)),
                Expiration::DeleteMarkers(flag) => {
                    document.text("ExpiredObjectDeleteMarker", &flag.to_string());
                }
            });
        }
        for transition in &self.noncurrent_transitions {
            document.element("NoncurrentVersionTransition", |document| {
                write_noncurrent(transition.days, transition.newer_versions, document);
                document.text("StorageClass", transition.storage_class);
            });
        }
        if let Some(expiration) = self.noncurrent_expiration {
            document.element("NoncurrentVersionExpiration", |document| {
                write_noncurrent(expiration.days, expiration.newer_versions, document);
            });
        }
        if let Some(days) = self.abort_uploads_days {
            document.element("AbortIncompleteMultipartUpload", |document| {
                document.text("DaysAfterInitiation", &days.to_string());
            });
        }
    }
}

fn write_noncurrent(days: u32, newer_versions: Option<u32>, document: &mut Document) {
    document.text("NoncurrentDays", &days.to_string());
    if let Some(versions) = newer_versions {
        document.text("NewerNoncurrentVersions", &versions.to_string());
    }
}

impl LifecycleFilter {
    fn write(&self, document: &mut Document) {
        if self.is_legacy {
            document.text("Prefix", self.prefix.as_deref().unwrap_or_default());
            return;
        }
        let parts = usize::from(self.prefix.is_some())
            + self.tags.len()
            + usize::from(self.greater_than_bytes.is_some())
            + usize::from(self.less_than_bytes.is_some());
        document.element("Filter", |document| {
            if parts > 1 {
                document.element("And", |document| self.write_parts(document));
            } else {
                self.write_parts(document);
            }
        });
    }

    fn write_parts(&self, document: &mut Document) {
        if let Some(prefix) = &self.prefix {
            document.text("Prefix", prefix);
        }
        write_tags(&self.tags, document);
        for (name, bytes) in [
            ("ObjectSizeGreaterThan", self.greater_than_bytes),
            ("ObjectSizeLessThan", self.less_than_bytes),
        ] {
            if let Some(bytes) = bytes {
                document.text(name, &bytes.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests;
