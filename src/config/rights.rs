//! What a credential of the store may do by itself.

use std::fmt;

use super::problem::Reason;
use crate::signing::glob;

/// `rights`, `buckets` and `own_buckets_only` of `origin.credentials[]`: what a key may do without a bucket's policy or list
/// saying so. By default everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// `rights`, default full.
    pub level: RightsLevel,
    /// `buckets`; `None` is all of them.
    pub buckets: Option<Vec<BucketPattern>>,
    /// `own_buckets_only`: of those only the ones that were made with this key, as for an account of S3; default false.
    pub own_only: bool,
}

/// How much a key may do in its buckets. Each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RightsLevel {
    /// `read-only`: to read objects and settings, and to list.
    ReadOnly,
    /// `read-write`: to put and delete objects as well.
    ReadWrite,
    /// `full`: to make and delete buckets and change their settings as well.
    Full,
}

/// Which buckets: a name, in which `*` stands for any characters and `?` for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketPattern(String);

impl Default for Rights {
    fn default() -> Self {
        Rights {
            level: RightsLevel::Full,
            buckets: None,
            own_only: false,
        }
    }
}

impl Rights {
    /// Whether a bucket is among those that they are for. `is_own`: it was made with the key, or is about to be.
    pub fn covers(&self, bucket: &str, is_own: bool) -> bool {
        let matches = |pattern: &BucketPattern| glob::matches(&pattern.0, bucket);
        let is_named = (self.buckets.as_ref()).is_none_or(|patterns| patterns.iter().any(matches));
        is_named && (is_own || !self.own_only)
    }
}

impl RightsLevel {
    /// The words of the configuration, from the least to the most.
    pub(super) const WORDS: [&'static str; 3] = ["read-only", "read-write", "full"];
    /// What the words mean, in the same order.
    pub(super) const ALL: [RightsLevel; 3] = [
        RightsLevel::ReadOnly,
        RightsLevel::ReadWrite,
        RightsLevel::Full,
    ];
}

impl BucketPattern {
    /// Accepts what could stand for a bucket's name.
    ///
    /// # Errors
    /// [`Reason::NotABucketPattern`].
    pub fn new(text: &str) -> Result<Self, Reason> {
        let fits = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-*?".contains(&byte)
        };
        if !text.is_empty() && text.len() <= 63 && text.bytes().all(fits) {
            Ok(BucketPattern(text.to_owned()))
        } else {
            Err(Reason::NotABucketPattern(text.to_owned()))
        }
    }
}

impl fmt::Display for RightsLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RightsLevel::ReadOnly => "read-only",
            RightsLevel::ReadWrite => "read-write",
            RightsLevel::Full => "full",
        })
    }
}

impl fmt::Display for BucketPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_levels_are_the_same_in_the_same_order() {
        assert_eq!(
            RightsLevel::ALL.map(|level| level.to_string()),
            RightsLevel::WORDS
        );
        assert!(RightsLevel::ALL.is_sorted());
    }

    #[test]
    fn rights_are_for_the_buckets_that_they_name() {
        let rights = |patterns: &[&str]| Rights {
            level: RightsLevel::Full,
            buckets: Some(
                patterns
                    .iter()
                    .map(|p| BucketPattern::new(p).unwrap())
                    .collect(),
            ),
            own_only: false,
        };
        for (patterns, bucket, expected) in [
            (&["photos"][..], "photos", true),
            (&["photos"], "photos2", false),
            (&["logs-*"], "logs-", true),
            (&["logs-*"], "logs", false),
            (&["a?c", "b*"], "abc", true),
            (&["a?c", "b*"], "bcd", true),
            (&["a?c", "b*"], "ac", false),
        ] {
            assert_eq!(
                rights(patterns).covers(bucket, false),
                expected,
                "{patterns:?} {bucket}"
            );
        }
        assert!(Rights::default().covers("anything", false));
        let own = Rights {
            own_only: true,
            ..rights(&["a*"])
        };
        assert!(own.covers("abc", true));
        assert!(!own.covers("abc", false), "another one's");
        assert!(!own.covers("bcd", true), "of another name");
    }

    #[test]
    fn what_could_name_no_bucket_is_refused() {
        let long = "a".repeat(64);
        for text in ["", "Photos", "a/b", "a_b", "ü", &long] {
            assert!(BucketPattern::new(text).is_err(), "{text}");
        }
        assert!(BucketPattern::new(&long[..63]).is_ok());
    }
}
