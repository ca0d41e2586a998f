//! CloudFront signed URLs and signed cookies, with canned and custom policies.
//!
//! As the CloudFront developer guide has them ("Serve private content with signed URLs and signed
//! cookies"). A credential is a signature over a policy. A custom policy is sent along, and verified
//! byte for byte before it is parsed. A canned one is not sent: it is made again here from the URL
//! without the credential and from `Expires`. A URL with `Key-Pair-Id` counts before cookies.
//!
//! The edge knows the URL as it was received: host and scheme are those of the client's request, so
//! behind a balancer that ends TLS, sign for `http` or with `http*://` in a custom policy.

mod policy;
mod sign;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use super::carriers::{Carriers, joined};
use super::public_key::{PublicKey, SignatureHash};
use super::view::{Item, RequestView, cookies, decoded, items};
use super::window;
use super::{CredentialRefusal, Explained, Granted, Scheme};

use policy::Policy;
pub use sign::{CloudFrontSpec, SignedCookies, sign_cookies, sign_url};

/// A key pair of which we know the public half.
#[derive(Debug, Clone)]
pub struct CloudFrontKey {
    /// `Key-Pair-Id`.
    pub id: Arc<str>,
    /// The public key.
    pub key: PublicKey,
}

/// A part of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Policy,
    Expires,
    Signature,
    KeyPairId,
    HashAlgorithm,
}

impl Part {
    const COUNT: usize = 5;
    const ALL: [Part; Part::COUNT] = [
        Part::Policy,
        Part::Expires,
        Part::Signature,
        Part::KeyPairId,
        Part::HashAlgorithm,
    ];

    /// As a parameter of a URL.
    const fn parameter(self) -> &'static str {
        match self {
            Part::Policy => "Policy",
            Part::Expires => "Expires",
            Part::Signature => "Signature",
            Part::KeyPairId => "Key-Pair-Id",
            Part::HashAlgorithm => "Hash-Algorithm",
        }
    }

    /// As a cookie.
    const fn cookie(self) -> &'static str {
        match self {
            Part::Policy => "CloudFront-Policy",
            Part::Expires => "CloudFront-Expires",
            Part::Signature => "CloudFront-Signature",
            Part::KeyPairId => "CloudFront-Key-Pair-Id",
            Part::HashAlgorithm => "CloudFront-Hash-Algorithm",
        }
    }

    /// The part that a query item is.
    fn of(item: &Item) -> Option<Part> {
        Part::ALL
            .into_iter()
            .find(|part| item.is_named(part.parameter()))
    }
}

/// The parameters that make a signed URL, which it can have once; the first one is the mark of it.
pub const CLOUDFRONT_PARAMETERS: [&str; Part::COUNT] = [
    Part::KeyPairId.parameter(),
    Part::Policy.parameter(),
    Part::Expires.parameter(),
    Part::Signature.parameter(),
    Part::HashAlgorithm.parameter(),
];

/// Where these credentials stand.
pub(super) fn carry(carriers: &mut Carriers) {
    let others = Part::ALL
        .into_iter()
        .filter(|part| *part != Part::KeyPairId);
    let others: Vec<_> = others.map(Part::parameter).collect();
    carriers.add_parameters(Part::KeyPairId.parameter(), &others);
    for part in Part::ALL {
        carriers.add_cookie(part.cookie());
    }
}

/// The parts of one credential, raw.
struct Parts<'a>([Option<&'a str>; Part::COUNT]);

impl<'a> Parts<'a> {
    /// Those of a URL, if it has a `Key-Pair-Id`.
    fn in_query(query: &'a str) -> Result<Option<Self>, CredentialRefusal> {
        if !items(query).any(|item| item.is_named(Part::KeyPairId.parameter())) {
            return Ok(None);
        }
        let found = items(query).filter_map(|item| Some((Part::of(&item)?, item.value)));
        Self::collect(found).map(Some)
    }

    /// Those of the cookies, if there is a `CloudFront-Key-Pair-Id`.
    fn in_cookies(fields: &'a HeaderMap) -> Result<Option<Self>, CredentialRefusal> {
        let part_of = |name: &str| Part::ALL.into_iter().find(|part| part.cookie() == name);
        let found = cookies(fields).filter_map(|(name, value)| Some((part_of(name)?, value)));
        let parts = Self::collect(found)?;
        Ok(parts.get(Part::KeyPairId).is_some().then_some(parts))
    }

    fn collect(found: impl Iterator<Item = (Part, &'a str)>) -> Result<Self, CredentialRefusal> {
        let mut parts = [None; Part::COUNT];
        for (part, value) in found {
            if parts[part as usize].replace(value).is_some() {
                let part = part.parameter();
                return Err(CredentialRefusal::DuplicatePart { part });
            }
        }
        Ok(Parts(parts))
    }

    fn get(&self, part: Part) -> Option<&'a str> {
        self.0[part as usize]
    }

    fn require(&self, part: Part) -> Result<&'a str, CredentialRefusal> {
        let part_name = part.parameter();
        self.get(part)
            .ok_or(CredentialRefusal::MissingPart { part: part_name })
    }
}

/// A parsed but unproven credential.
struct Claim<'a> {
    key_pair_id: std::borrow::Cow<'a, str>,
    hash: SignatureHash,
    signature: Vec<u8>,
    statement: Statement,
    /// The bytes that are signed.
    policy: Vec<u8>,
}

/// What the policy says, as far as it is known before the signature is proven.
enum Statement {
    /// A canned policy: the URL as requested, until an instant in seconds.
    Canned { expires: u64 },
    /// A custom one, not parsed yet.
    Custom,
}

impl<'a> Claim<'a> {
    fn parse(view: &RequestView<'a>, parts: &Parts<'a>) -> Result<Self, CredentialRefusal> {
        let malformed = |part: Part| CredentialRefusal::MalformedPart {
            part: part.parameter(),
        };
        let key_pair_id = parts.require(Part::KeyPairId)?;
        let key_pair_id = decoded(key_pair_id).ok_or(malformed(Part::KeyPairId))?;
        let hash = match parts.get(Part::HashAlgorithm) {
            None | Some("SHA1") => SignatureHash::Sha1,
            Some("SHA256") => SignatureHash::Sha256,
            Some(_) => return Err(CredentialRefusal::WrongAlgorithm),
        };
        let signature = parts.require(Part::Signature)?;
        let signature = from_url_alphabet(signature).ok_or(malformed(Part::Signature))?;
        let (statement, policy) = match (parts.get(Part::Policy), parts.get(Part::Expires)) {
            (Some(_), Some(_)) => {
                let (one, other) = (Part::Policy.parameter(), Part::Expires.parameter());
                return Err(CredentialRefusal::ExclusiveParts { one, other });
            }
            (Some(policy), None) => {
                let policy = from_url_alphabet(policy).ok_or(malformed(Part::Policy))?;
                (Statement::Custom, policy)
            }
            (None, expires) => {
                let part = Part::Expires.parameter();
                let text = expires.ok_or(CredentialRefusal::MissingPart { part })?;
                let expires = window::seconds(text).ok_or(malformed(Part::Expires))?;
                let url = url_without_credential(view);
                (
                    Statement::Canned { expires },
                    canned_policy(&url, text).into_bytes(),
                )
            }
        };
        Ok(Claim {
            key_pair_id,
            hash,
            signature,
            statement,
            policy,
        })
    }
}

/// Decides whether a signed URL or signed cookies are genuine and grant this request; `None` when
/// there are none.
///
/// A policy counts from `DateGreaterThan`, less `leeway`, until `DateLessThan`, which is the first
/// second at which it does not.
///
/// # Errors
/// The [`CredentialRefusal`] that names the cause; the signature is checked before what it covers.
pub(super) fn verify(
    view: &RequestView,
    keys: &[CloudFrontKey],
    leeway: Duration,
    now: SystemTime,
) -> Result<Option<Granted>, CredentialRefusal> {
    let Some(claim) = claim_of(view)? else {
        return Ok(None);
    };
    let key = keys.iter().find(|key| *key.id == *claim.key_pair_id);
    let key = key.ok_or(CredentialRefusal::UnknownKey)?;
    if !(key.key).verifies(claim.hash, &claim.policy, &claim.signature) {
        return Err(CredentialRefusal::SignatureMismatch);
    }
    let policy = match claim.statement {
        Statement::Canned { expires } => Policy::until(expires),
        Statement::Custom => Policy::parse(&claim.policy)?,
    };
    let expires = window::instant(policy.expires);
    window::not_expired(expires, now)?;
    let not_before = policy.not_before.map(window::instant);
    if let Some(start) = not_before {
        window::has_begun(start, now, leeway)?;
    }
    policy.check_client(view.client)?;
    policy.check_url(&url_without_credential(view))?;
    Ok(Some(Granted {
        scheme: Scheme::CloudFront,
        key_id: key.id.clone(),
        expires: Some(expires),
        not_before,
        client_bound: policy.source_ip.is_some(),
        covers_fields: false,
        renewed: None,
    }))
}

fn claim_of<'a>(view: &RequestView<'a>) -> Result<Option<Claim<'a>>, CredentialRefusal> {
    let request = &view.request;
    let parts = match Parts::in_query(request.query)? {
        Some(parts) => Some(parts),
        None => Parts::in_cookies(request.headers)?,
    };
    parts.map(|parts| Claim::parse(view, &parts)).transpose()
}

/// What is signed, for a person.
///
/// # Errors
/// The [`CredentialRefusal`] that keeps it from being read.
pub(super) fn explain(view: &RequestView) -> Result<Option<Explained>, CredentialRefusal> {
    Ok(claim_of(view)?.map(|claim| {
        let mut notes = vec![("URL without the credential", url_without_credential(view))];
        notes.push(("Key-Pair-Id", claim.key_pair_id.into_owned()));
        notes.push(("hash", format!("{:?}", claim.hash)));
        Explained {
            scheme: Scheme::CloudFront,
            signed: String::from_utf8_lossy(&claim.policy).into_owned(),
            notes,
        }
    }))
}

/// The URL as requested, without the parameters of a credential in it.
fn url_without_credential(view: &RequestView) -> String {
    let request = &view.request;
    let carries = |query| items(query).any(|item| item.is_named(Part::KeyPairId.parameter()));
    if carries(request.query) {
        let query = joined(request.query, |item| Part::of(item).is_none());
        view.url(request.path, &query)
    } else {
        view.url(request.path, request.query)
    }
}

/// The policy that stands behind a canned URL, as every signer writes it.
fn canned_policy(url: &str, expires: &str) -> String {
    let mut policy = String::with_capacity(url.len() + 96);
    policy.push_str(r#"{"Statement":[{"Resource":""#);
    push_json(&mut policy, url);
    // Writing to a string cannot fail.
    let _ = write!(
        policy,
        r#"","Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}"#
    );
    policy
}

/// Text as it stands in a JSON string. A URL that is let in holds nothing else that needs an escape.
fn push_json(out: &mut String, text: &str) {
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
}

/// Base64 in the alphabet that CloudFront uses in URLs: `-`, `_` and `~` for `+`, `=` and `/`, of which
/// none may be there.
fn from_url_alphabet(raw: &str) -> Option<Vec<u8>> {
    let raw = decoded(raw)?;
    let plain: Option<Vec<u8>> = raw
        .bytes()
        .map(|byte| match byte {
            b'+' | b'=' | b'/' => None,
            b'-' => Some(b'+'),
            b'_' => Some(b'='),
            b'~' => Some(b'/'),
            other => Some(other),
        })
        .collect();
    STANDARD.decode(plain?).ok()
}

/// The reverse of [`from_url_alphabet`].
fn to_url_alphabet(bytes: &[u8]) -> String {
    let plain = STANDARD.encode(bytes);
    let mapped = plain.chars().map(|character| match character {
        '+' => '-',
        '=' => '_',
        '/' => '~',
        other => other,
    });
    mapped.collect()
}
