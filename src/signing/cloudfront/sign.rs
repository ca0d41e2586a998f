//! Signing, for our own tools and tests: SHA-256, because the library makes no SHA-1 signatures.

use super::{Part, canned_policy, push_json, to_url_alphabet};
use crate::signing::private_key::{EcdsaForm, PrivateKey};

/// What a signed URL or signed cookies shall grant.
#[derive(Debug, Clone, Copy)]
pub struct CloudFrontSpec<'a> {
    /// `Key-Pair-Id`.
    pub key_pair_id: &'a str,
    /// The first second at which it does not count, since 1970.
    pub expires: u64,
    /// What it is for, with wildcards, when that is not the URL itself.
    pub resource: Option<&'a str>,
    /// It counts after this second.
    pub not_before: Option<u64>,
    /// A block of addresses.
    pub source_ip: Option<&'a str>,
    /// A custom policy word for word, in the place of all but the key.
    pub policy: Option<&'a str>,
}

/// Names and values of signed cookies.
pub type SignedCookies = Vec<(&'static str, String)>;

/// Signs a URL. The policy is canned unless something asks for more.
///
/// `None` when the system gives no random numbers.
pub fn sign_url(url: &str, spec: &CloudFrontSpec, key: &PrivateKey) -> Option<String> {
    let mut signed = url.to_owned();
    let mut separator = if url.contains('?') { '&' } else { '?' };
    for (part, value) in parts(url, spec, key)? {
        signed.push(separator);
        signed.push_str(part.parameter());
        signed.push('=');
        signed.push_str(&value);
        separator = '&';
    }
    Some(signed)
}

/// The cookies that grant the same as a signed URL would.
///
/// `None` when the system gives no random numbers.
pub fn sign_cookies(url: &str, spec: &CloudFrontSpec, key: &PrivateKey) -> Option<SignedCookies> {
    let parts = parts(url, spec, key)?.into_iter();
    Some(parts.map(|(part, value)| (part.cookie(), value)).collect())
}

fn parts(url: &str, spec: &CloudFrontSpec, key: &PrivateKey) -> Option<Vec<(Part, String)>> {
    let is_canned =
        spec.resource.is_none() && spec.not_before.is_none() && spec.source_ip.is_none();
    let (policy, first) = if let Some(policy) = spec.policy {
        let sent = to_url_alphabet(policy.as_bytes());
        (policy.to_owned(), (Part::Policy, sent))
    } else if is_canned {
        let expires = spec.expires.to_string();
        (canned_policy(url, &expires), (Part::Expires, expires))
    } else {
        let policy = custom_policy(spec.resource.unwrap_or(url), spec);
        let sent = to_url_alphabet(policy.as_bytes());
        (policy, (Part::Policy, sent))
    };
    let signature = key.sign(policy.as_bytes(), EcdsaForm::Der)?;
    Some(vec![
        first,
        (Part::Signature, to_url_alphabet(&signature)),
        (Part::KeyPairId, spec.key_pair_id.to_owned()),
        (Part::HashAlgorithm, "SHA256".to_owned()),
    ])
}

fn custom_policy(resource: &str, spec: &CloudFrontSpec) -> String {
    let mut quoted = String::new();
    push_json(&mut quoted, resource);
    let mut conditions = format!(r#""DateLessThan":{{"AWS:EpochTime":{}}}"#, spec.expires);
    if let Some(start) = spec.not_before {
        conditions.push_str(&format!(
            r#","DateGreaterThan":{{"AWS:EpochTime":{start}}}"#
        ));
    }
    if let Some(block) = spec.source_ip {
        conditions.push_str(&format!(r#","IpAddress":{{"AWS:SourceIp":"{block}"}}"#));
    }
    format!(r#"{{"Statement":[{{"Resource":"{quoted}","Condition":{{{conditions}}}}}]}}"#)
}
