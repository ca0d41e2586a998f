//! The policy of a form upload (S3, "Creating a POST policy"): what its signer lets a browser send.
//!
//! Every field of the form must be named by a condition, and every condition must hold. Conditions are about
//! the form after `${filename}` has been put in.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Fields that need no condition: they are the policy and its signature, the file, and what a page adds for
/// itself.
const FREE_FIELDS: [&str; 5] = [
    "awsaccesskeyid",
    "file",
    "policy",
    "signature",
    "x-amz-signature",
];
const FREE_PREFIX: &str = "x-ignore-";

/// A policy that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostPolicy {
    expires: SystemTime,
    conditions: Vec<Condition>,
    length_bytes: RangeInclusive<u64>,
}

/// What one field must be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    /// In lower case.
    field: String,
    matching: Matching,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Matching {
    Exact,
    Prefix,
}

/// Why a policy does not let a form through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not base64 of a JSON document with an expiration and conditions of the known forms.
    #[error("the policy is malformed: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// Its time is over.
    #[error("Invalid according to Policy: Policy expired.")]
    Expired,
    /// A field is not what a condition asks for, or is missing.
    #[error("Invalid according to Policy: Policy Condition failed: {condition}")]
    ConditionFailed {
        /// The condition as S3 writes it.
        condition: String,
    },
    /// No condition is about a field.
    #[error("Invalid according to Policy: Extra input fields: {field}")]
    ExtraField {
        /// The field, in lower case.
        field: String,
    },
    /// The file is shorter than the policy asks for.
    #[error("the file has {bytes} bytes, the policy asks for at least {min_bytes}")]
    TooSmall {
        /// The file's length.
        bytes: u64,
        /// The policy's least.
        min_bytes: u64,
    },
    /// The file is longer than the policy lets it be.
    #[error("the file has {bytes} bytes or more, the policy allows at most {max_bytes}")]
    TooLarge {
        /// What came before it was given up.
        bytes: u64,
        /// The policy's most.
        max_bytes: u64,
    },
}

impl PostPolicy {
    /// Reads the value of the form's `policy` field: base64 of a JSON document.
    ///
    /// # Errors
    /// [`PolicyError::Malformed`].
    pub fn parse(encoded: &str) -> Result<Self, PolicyError> {
        let malformed = |what| PolicyError::Malformed { what };
        let json = STANDARD
            .decode(encoded)
            .map_err(|_| malformed("it is not base64"))?;
        let document: Value =
            serde_json::from_slice(&json).map_err(|_| malformed("it is not JSON"))?;
        let expiration = document.get("expiration").and_then(Value::as_str);
        let expires = expiration
            // RFC 3339 lets a space stand for the T, S3 does not.
            .filter(|text| text.as_bytes().get(10) == Some(&b'T'))
            .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
            .ok_or(malformed(
                "expiration is no time such as 2030-01-01T00:00:00Z",
            ))?;
        let conditions = document.get("conditions").and_then(Value::as_array);
        let conditions = conditions.ok_or(malformed("conditions is no list"))?;
        let mut policy = PostPolicy {
            expires: expires.into(),
            conditions: Vec::with_capacity(conditions.len()),
            length_bytes: 0..=u64::MAX,
        };
        for condition in conditions {
            policy.add(condition)?;
        }
        Ok(policy)
    }

    fn add(&mut self, condition: &Value) -> Result<(), PolicyError> {
        let malformed = |what| PolicyError::Malformed { what };
        match condition {
            Value::Object(pairs) if pairs.is_empty() => Err(malformed("a condition is empty")),
            Value::Object(pairs) => {
                for (field, value) in pairs {
                    let value = value.as_str().ok_or(malformed("a value is no text"))?;
                    self.conditions.push(Condition {
                        field: field.to_ascii_lowercase(),
                        matching: Matching::Exact,
                        value: value.to_owned(),
                    });
                }
                Ok(())
            }
            Value::Array(parts) => {
                let [operator, first, second] = parts.as_slice() else {
                    return Err(malformed("a condition has not three parts"));
                };
                let operator = operator.as_str().unwrap_or_default().to_ascii_lowercase();
                let matching = match operator.as_str() {
                    "eq" => Matching::Exact,
                    "starts-with" => Matching::Prefix,
                    "content-length-range" => {
                        let bounds = number(first).zip(number(second));
                        let (min, max) = bounds.ok_or(malformed("a length is no number"))?;
                        // Of several ranges, all must hold.
                        let min = min.max(*self.length_bytes.start());
                        let max = max.min(*self.length_bytes.end());
                        self.length_bytes = min..=max;
                        return Ok(());
                    }
                    _ => return Err(malformed("a condition of an unknown kind")),
                };
                let field = first.as_str().and_then(|field| field.strip_prefix('$'));
                let field = field.ok_or(malformed("a field is not written as $name"))?;
                let value = second.as_str().ok_or(malformed("a value is no text"))?;
                self.conditions.push(Condition {
                    field: field.to_ascii_lowercase(),
                    matching,
                    value: value.to_owned(),
                });
                Ok(())
            }
            _ => Err(malformed("a condition is neither a list nor a mapping")),
        }
    }

    /// How long the file may be, in bytes.
    pub fn length_bytes(&self) -> RangeInclusive<u64> {
        self.length_bytes.clone()
    }

    /// Checks everything but the file's length. `fields` are the form's, by lower-case name; `bucket` is the
    /// one that the form is posted to.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn check(
        &self,
        fields: &[(String, String)],
        bucket: &str,
        now: SystemTime,
    ) -> Result<(), PolicyError> {
        if now >= self.expires {
            return Err(PolicyError::Expired);
        }
        for (field, _) in fields {
            let needs_none =
                FREE_FIELDS.contains(&field.as_str()) || field.starts_with(FREE_PREFIX);
            let is_covered = || self.conditions.iter().any(|known| known.field == *field);
            if !needs_none && !is_covered() {
                return Err(PolicyError::ExtraField {
                    field: field.clone(),
                });
            }
        }
        for condition in &self.conditions {
            // A form may carry a field `bucket`; what counts is where it is posted to.
            let value = if condition.field == "bucket" {
                Some(bucket)
            } else {
                let mut values = fields.iter().filter(|(name, _)| *name == condition.field);
                values.next().map(|(_, value)| value.as_str())
            };
            if !condition.holds(value) {
                return Err(PolicyError::ConditionFailed {
                    condition: condition.shown(),
                });
            }
        }
        Ok(())
    }
}

impl Condition {
    fn holds(&self, value: Option<&str>) -> bool {
        match (self.matching, value) {
            (Matching::Exact, Some(value)) => value == self.value,
            (Matching::Prefix, Some(value)) => value.starts_with(&self.value),
            // "Anything" includes nothing.
            (Matching::Prefix, None) => self.value.is_empty(),
            (Matching::Exact, None) => false,
        }
    }

    fn shown(&self) -> String {
        let operator = match self.matching {
            Matching::Exact => "eq",
            Matching::Prefix => "starts-with",
        };
        Value::from(vec![
            operator.to_owned(),
            format!("${}", self.field),
            self.value.clone(),
        ])
        .to_string()
    }
}

/// A length: a number, or a text of digits as some signers write it.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::String(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok()
        }
        other => other.as_u64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn parse(json: &str) -> Result<PostPolicy, PolicyError> {
        PostPolicy::parse(&STANDARD.encode(json))
    }

    fn policy(conditions: &str) -> PostPolicy {
        let json =
            format!("{{\"expiration\":\"1970-01-01T00:01:00Z\",\"conditions\":{conditions}}}");
        parse(&json).unwrap()
    }

    fn check(conditions: &str, fields: &[(&str, &str)]) -> Result<(), PolicyError> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let fields: Vec<_> = fields.iter().map(owned).collect();
        policy(conditions).check(&fields, "films", SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn a_policy_is_good_until_its_expiration_and_not_at_it() {
        let policy = policy("[]");
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        assert_eq!(policy.check(&[], "films", at(59_999)), Ok(()));
        assert_eq!(
            policy.check(&[], "films", at(60_000)),
            Err(PolicyError::Expired)
        );
    }

    #[test]
    fn every_condition_must_hold_and_every_field_be_covered() {
        let failed = |condition: &str| {
            Err(PolicyError::ConditionFailed {
                condition: condition.to_owned(),
            })
        };
        let extra = |field: &str| {
            Err(PolicyError::ExtraField {
                field: field.to_owned(),
            })
        };
        let key_is = r#"["eq","$key","a"]"#;
        for (conditions, fields, expected) in [
            (r#"[{"key":"a"}]"#, &[("key", "a")][..], Ok(())),
            (r#"[{"Key":"a"}]"#, &[("key", "b")], failed(key_is)),
            (r#"[["eq","$key","a"]]"#, &[("key", "ab")], failed(key_is)),
            (r#"[["eq","$key","a"]]"#, &[], failed(key_is)),
            (
                r#"[["Starts-With","$Key","a/"]]"#,
                &[("key", "a/b")],
                Ok(()),
            ),
            (
                r#"[["starts-with","$key","a/"]]"#,
                &[("key", "a")],
                failed(r#"["starts-with","$key","a/"]"#),
            ),
            (r#"[["starts-with","$key",""]]"#, &[("key", "")], Ok(())),
            (r#"[["starts-with","$acl",""]]"#, &[], Ok(())),
            (
                r#"[{"key":"a"},["starts-with","$key","b"]]"#,
                &[("key", "a")],
                failed(r#"["starts-with","$key","b"]"#),
            ),
            (r#"[{"bucket":"films"}]"#, &[], Ok(())),
            (
                r#"[{"bucket":"other"}]"#,
                &[("bucket", "other")],
                failed(r#"["eq","$bucket","other"]"#),
            ),
            (r#"[]"#, &[("acl", "public-read")], extra("acl")),
            (
                r#"[]"#,
                &[
                    ("x-ignore-me", "1"),
                    ("policy", "p"),
                    ("x-amz-signature", "s"),
                ],
                Ok(()),
            ),
            (r#"[]"#, &[("x-amz-date", "1")], extra("x-amz-date")),
        ] {
            assert_eq!(
                check(conditions, fields),
                expected,
                "{conditions} {fields:?}"
            );
        }
    }

    #[test]
    fn lengths_are_bounded_by_every_range() {
        assert_eq!(policy("[]").length_bytes(), 0..=u64::MAX);
        let one = policy(r#"[["content-length-range",1,"10"]]"#);
        assert_eq!(one.length_bytes(), 1..=10);
        let both = policy(r#"[["content-length-range",1,10],["content-length-range",5,20]]"#);
        assert_eq!(both.length_bytes(), 5..=10);
    }

    #[test]
    fn a_malformed_policy_is_refused() {
        for json in [
            "",
            "[]",
            "{}",
            r#"{"expiration":"soon","conditions":[]}"#,
            r#"{"expiration":"2030-01-01T00:00:00","conditions":[]}"#,
            r#"{"expiration":"2030-01-01 00:00:00Z","conditions":[]}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z","conditions":[{}]}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z"}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z","conditions":{}}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z","conditions":["eq"]}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z","conditions":[["eq","key","a"]]}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z","conditions":[["eq","$key"]]}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z","conditions":[["ends-with","$key","a"]]}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z","conditions":[{"key":1}]}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z","conditions":[["content-length-range",-1,2]]}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z","conditions":[["content-length-range","+1",2]]}"#,
        ] {
            assert!(
                matches!(parse(json), Err(PolicyError::Malformed { .. })),
                "{json}"
            );
        }
        assert!(parse(r#"{"expiration":"2030-01-01T00:00:00.123Z","conditions":[]}"#).is_ok());
        let bad = PostPolicy::parse("not base64!");
        assert_eq!(
            bad,
            Err(PolicyError::Malformed {
                what: "it is not base64"
            })
        );
    }
}
