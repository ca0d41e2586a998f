//! What a request says about itself, under the names that conditions and variables of policies use.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::decide::Principal;
use crate::origin::documents::time_text;
use crate::origin::query::Query;
use crate::origin::retention::{ObjectLock, hold_word};
use crate::signing::carries_sigv2_header;

/// The keys that mean something here (IAM user guide, "AWS global condition context keys"; service authorization
/// reference, "Condition keys for Amazon S3"). Letters of either case.
const KEYS: [&str; 37] = [
    "aws:CurrentTime",
    "aws:EpochTime",
    "aws:PrincipalArn",
    "aws:PrincipalType",
    "aws:Referer",
    "aws:SecureTransport",
    "aws:SourceIp",
    "aws:UserAgent",
    "aws:userid",
    "aws:username",
    "s3:authType",
    "s3:delimiter",
    "s3:max-keys",
    "s3:object-lock-legal-hold",
    "s3:object-lock-mode",
    "s3:object-lock-remaining-retention-days",
    "s3:object-lock-retain-until-date",
    "s3:prefix",
    "s3:RequestObjectTagKeys",
    "s3:signatureAge",
    "s3:signatureversion",
    "s3:VersionId",
    "s3:x-amz-acl",
    "s3:x-amz-content-sha256",
    "s3:x-amz-copy-source",
    "s3:x-amz-grant-full-control",
    "s3:x-amz-grant-read",
    "s3:x-amz-grant-read-acp",
    "s3:x-amz-grant-write",
    "s3:x-amz-grant-write-acp",
    "s3:x-amz-metadata-directive",
    "s3:x-amz-object-ownership",
    "s3:x-amz-server-side-encryption",
    "s3:x-amz-storage-class",
    "s3:x-amz-website-redirect-location",
    "s3:if-match",
    "s3:if-none-match",
];

const EXISTING_TAG: &str = "s3:ExistingObjectTag/";
const REQUEST_TAG: &str = "s3:RequestObjectTag/";

/// The account in the ARNs of principals. There is one only, so policies may name any.
const ACCOUNT: &str = "000000000000";

/// A key of a condition or a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// One of [`KEYS`].
    Known(&'static str),
    /// A tag of the object as it is stored. Tags are told apart by case, unlike the names of keys.
    ExistingTag(String),
    /// A tag that the request brings.
    RequestTag(String),
}

/// How a request proves who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// Not at all.
    None,
    /// By the `Authorization` field.
    Header,
    /// By a presigned URL.
    Query,
    /// By the fields of a form.
    Form,
}

/// A request as far as policies ask about it.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    /// When it is judged.
    pub now: SystemTime,
    /// Who sent it; unknown on a socket without an address.
    pub source_ip: Option<IpAddr>,
    /// Whether it came over TLS.
    pub is_secure: bool,
    /// How it is signed.
    pub authentication: Authentication,
    /// The date of its signature.
    pub signed_at: Option<SystemTime>,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// Its query. Of a presigned URL, `x-amz-*` parameters count as fields.
    pub query: &'a Query,
}

/// The values of every key that a request has a value for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    values: Vec<(Key, Vec<String>)>,
}

impl Key {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let tag = |prefix: &str| {
            let (head, tag) = name.split_at_checked(prefix.len())?;
            let fits = head.eq_ignore_ascii_case(prefix) && !tag.is_empty();
            fits.then(|| tag.to_owned())
        };
        if let Some(known) = KEYS.into_iter().find(|key| key.eq_ignore_ascii_case(name)) {
            return Some(Key::Known(known));
        }
        (tag(EXISTING_TAG).map(Key::ExistingTag)).or_else(|| tag(REQUEST_TAG).map(Key::RequestTag))
    }

    pub(super) fn is_existing_tag(&self) -> bool {
        matches!(self, Key::ExistingTag(_))
    }
}

impl Context {
    /// Reads a request of `principal`.
    pub fn of_request(facts: &RequestFacts<'_>, principal: &Principal) -> Self {
        let mut context = Context::default();
        context.set_time(facts.now);
        if let Some(address) = facts.source_ip {
            context.set("aws:SourceIp", &address.to_canonical().to_string());
        }
        let is_secure = if facts.is_secure { "true" } else { "false" };
        context.set("aws:SecureTransport", is_secure);
        context.set_principal(principal);
        context.set_signature(facts);
        for (field, key) in [("referer", "aws:Referer"), ("user-agent", "aws:UserAgent")] {
            if let Some(value) = facts.headers.get(field) {
                context.set(key, &String::from_utf8_lossy(value.as_bytes()));
            }
        }
        for (parameter, key) in [
            ("delimiter", "s3:delimiter"),
            ("max-keys", "s3:max-keys"),
            ("prefix", "s3:prefix"),
            ("versionId", "s3:VersionId"),
        ] {
            context.add_all(key, facts.query.iter().filter(|(n, _)| *n == parameter));
        }
        for key in KEYS {
            let Some(field) = key.strip_prefix("s3:") else {
                continue;
            };
            if !field.starts_with("x-amz-") && !field.starts_with("if-") {
                continue;
            }
            let values = facts.headers.get_all(field).iter();
            let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
            for value in values {
                context.add(Key::Known(key), value.into_owned());
            }
            if facts.authentication == Authentication::Query && field.starts_with("x-amz-") {
                let pairs = facts.query.iter();
                context.add_all(key, pairs.filter(|(n, _)| n.eq_ignore_ascii_case(field)));
            }
        }
        context
    }

    /// Adds the tags of the object as it is stored. Only a policy that asks for them needs them
    /// ([`super::Policy::asks_for_existing_tags`]).
    #[must_use]
    pub fn with_existing_tags<'t>(
        mut self,
        tags: impl IntoIterator<Item = (&'t str, &'t str)>,
    ) -> Self {
        for (name, value) in tags {
            self.add(Key::ExistingTag(name.to_owned()), value.to_owned());
        }
        self
    }

    /// Adds the tags that the request brings.
    #[must_use]
    pub fn with_request_tags<'t>(
        mut self,
        tags: impl IntoIterator<Item = (&'t str, &'t str)>,
    ) -> Self {
        for (name, value) in tags {
            self.add(Key::RequestTag(name.to_owned()), value.to_owned());
            self.add(Key::Known("s3:RequestObjectTagKeys"), name.to_owned());
        }
        self
    }

    /// Adds the lock that the request brings.
    #[must_use]
    pub fn with_request_lock(mut self, lock: &ObjectLock, now_ms: i64) -> Self {
        if let Some(retention) = lock.retention {
            self.set("s3:object-lock-mode", retention.mode.name());
            let until = time_text(retention.until_ms);
            self.set("s3:object-lock-retain-until-date", &until);
            let days = retention.days_left(now_ms).to_string();
            self.set("s3:object-lock-remaining-retention-days", &days);
        }
        if let Some(is_held) = lock.legal_hold {
            self.set("s3:object-lock-legal-hold", hold_word(is_held));
        }
        self
    }

    /// Sets the one value of a key, such as the version that a copy reads. False when there is no such key.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let Some(key) = Key::parse(name) else {
            return false;
        };
        self.values.retain(|(known, _)| *known != key);
        self.values.push((key, vec![value.to_owned()]));
        true
    }

    /// The values of a key; none when the request has none.
    pub(super) fn values(&self, key: &Key) -> &[String] {
        let found = self.values.iter().find(|(known, _)| known == key);
        found.map_or(&[], |(_, values)| values)
    }

    fn add(&mut self, key: Key, value: String) {
        match self.values.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => self.values.push((key, vec![value])),
        }
    }

    fn add_all<'q>(&mut self, key: &'static str, pairs: impl Iterator<Item = (&'q str, &'q str)>) {
        for (_, value) in pairs {
            self.add(Key::Known(key), value.to_owned());
        }
    }

    fn set_time(&mut self, now: SystemTime) {
        let since_epoch = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        self.set("aws:EpochTime", &since_epoch.as_secs().to_string());
        if let Ok(text) = OffsetDateTime::from(now).format(&Rfc3339) {
            self.set("aws:CurrentTime", &text);
        }
    }

    fn set_principal(&mut self, principal: &Principal) {
        match principal {
            Principal::Anonymous => {
                // No `aws:userid`: a policy for the word that AWS has there would be one for everybody.
                self.set("aws:PrincipalType", "Anonymous");
            }
            Principal::Key(id) => {
                self.set("aws:PrincipalType", "User");
                self.set("aws:userid", id);
                self.set("aws:username", id);
                self.set(
                    "aws:PrincipalArn",
                    &format!("arn:aws:iam::{ACCOUNT}:user/{id}"),
                );
            }
        }
    }

    fn set_signature(&mut self, facts: &RequestFacts<'_>) {
        let kind = match facts.authentication {
            Authentication::None => return,
            Authentication::Header => "REST-HEADER",
            Authentication::Query => "REST-QUERY-STRING",
            Authentication::Form => "POST",
        };
        self.set("s3:authType", kind);
        let is_v2 = match facts.authentication {
            Authentication::Header => carries_sigv2_header(facts.headers),
            _ => facts.query.has("AWSAccessKeyId"),
        };
        let version = if is_v2 { "AWS" } else { "AWS4-HMAC-SHA256" };
        self.set("s3:signatureversion", version);
        if let Some(signed_at) = facts.signed_at {
            // A signer's clock may run ahead.
            let age = facts.now.duration_since(signed_at);
            let age = age.unwrap_or(Duration::ZERO);
            self.set("s3:signatureAge", &age.as_millis().to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::retention::{Retention, RetentionMode};

    fn value(context: &Context, name: &str) -> Vec<String> {
        context.values(&Key::parse(name).unwrap()).to_vec()
    }

    #[test]
    fn a_request_is_read_into_the_keys_of_s3() {
        let mut headers = HeaderMap::new();
        headers.insert("referer", "https://site.example/".parse().unwrap());
        headers.insert("x-amz-acl", "private".parse().unwrap());
        let raw = "prefix=a%2F&max-keys=5&X-Amz-Storage-Class=STANDARD&versionId=v1";
        let query = Query::parse(raw).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let mut facts = RequestFacts {
            now,
            source_ip: Some("::ffff:192.0.2.7".parse().unwrap()),
            is_secure: true,
            authentication: Authentication::Query,
            signed_at: Some(now - Duration::from_millis(1500)),
            headers: &headers,
            query: &query,
        };
        let principal = Principal::Key("ann".to_owned());
        let lock = ObjectLock {
            retention: Some(Retention {
                mode: RetentionMode::Governance,
                until_ms: 1_369_353_600_000 + 10 * 86_400_000 - 1,
            }),
            legal_hold: Some(false),
        };
        let context = Context::of_request(&facts, &principal)
            .with_request_tags([("team", "red"), ("cost", "1")])
            .with_existing_tags([("Team", "blue")])
            .with_request_lock(&lock, 1_369_353_600_000);
        for (name, expected) in [
            ("aws:currenttime", &["2013-05-24T00:00:00Z"][..]),
            ("aws:EpochTime", &["1369353600"]),
            ("aws:SourceIp", &["192.0.2.7"]),
            ("aws:SecureTransport", &["true"]),
            ("aws:Referer", &["https://site.example/"]),
            ("aws:UserAgent", &[]),
            ("aws:username", &["ann"]),
            ("aws:PrincipalArn", &["arn:aws:iam::000000000000:user/ann"]),
            ("s3:prefix", &["a/"]),
            ("s3:max-keys", &["5"]),
            ("s3:delimiter", &[]),
            ("s3:VersionId", &["v1"]),
            ("s3:x-amz-acl", &["private"]),
            ("s3:x-amz-storage-class", &["STANDARD"]),
            ("s3:authType", &["REST-QUERY-STRING"]),
            ("s3:signatureAge", &["1500"]),
            ("s3:RequestObjectTag/team", &["red"]),
            ("s3:RequestObjectTag/Team", &[]),
            ("s3:ExistingObjectTag/Team", &["blue"]),
            ("s3:RequestObjectTagKeys", &["team", "cost"]),
            ("s3:object-lock-mode", &["GOVERNANCE"]),
            (
                "s3:object-lock-retain-until-date",
                &["2013-06-02T23:59:59.999Z"],
            ),
            ("s3:object-lock-remaining-retention-days", &["10"]),
            ("s3:object-lock-legal-hold", &["OFF"]),
        ] {
            assert_eq!(value(&context, name), expected, "{name}");
        }

        facts.authentication = Authentication::Header;
        let signed_in_header = Context::of_request(&facts, &principal);
        let none: Vec<String> = Vec::new();
        assert_eq!(value(&signed_in_header, "s3:x-amz-storage-class"), none);
        let version = |headers| {
            let facts = RequestFacts { headers, ..facts };
            value(
                &Context::of_request(&facts, &principal),
                "s3:signatureversion",
            )
        };
        assert_eq!(version(&headers), ["AWS4-HMAC-SHA256"]);
        let mut of_version_2 = headers.clone();
        of_version_2.insert("authorization", "AWS ann:c2lnbmF0dXJl".parse().unwrap());
        assert_eq!(version(&of_version_2), ["AWS"]);
        facts.authentication = Authentication::None;
        let anonymous = Context::of_request(&facts, &Principal::Anonymous);
        assert_eq!(value(&anonymous, "aws:username"), none);
        assert_eq!(value(&anonymous, "s3:authType"), none);
        assert_eq!(value(&anonymous, "aws:PrincipalType"), ["Anonymous"]);
    }

    #[test]
    fn unknown_keys_are_none() {
        for name in [
            "",
            "aws:",
            "aws:SourceVpc",
            "s3:ExistingObjectTag/",
            "prefix",
        ] {
            assert_eq!(Key::parse(name), None, "{name}");
        }
    }
}
