//! The string to sign, and what is made of it.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::signing::virtual_bucket;

/// Query parameters that are part of what is signed: sub-resources and response overrides.
const SUB_RESOURCES: [&str; 36] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "defaultObjectAcl",
    "delete",
    "encryption",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "storageClass",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// The sub-resource that a decoded name stands for.
pub(super) fn sub_resource(name: &[u8]) -> Option<&'static str> {
    let mut known = SUB_RESOURCES.iter().copied();
    known.find(|known| known.as_bytes() == name)
}

/// Whether a decoded value would read, in the string to sign, as a value and further sub-resources.
pub(super) fn is_ambiguous(value: &[u8]) -> bool {
    value.split(|byte| *byte == b'&').skip(1).any(|piece| {
        let name = piece.split(|byte| *byte == b'=').next();
        name.is_some_and(|name| sub_resource(name).is_some())
    })
}

/// The resource as it is signed: bucket and raw path.
pub(super) fn write_resource(out: &mut Vec<u8>, host: &str, path: &str, domain: Option<&str>) {
    if let Some(bucket) = domain.and_then(|domain| virtual_bucket(host, domain)) {
        out.push(b'/');
        out.extend_from_slice(bucket.as_bytes());
    }
    out.extend_from_slice(if path.is_empty() { "/" } else { path }.as_bytes());
}

/// Writes the sub-resources behind the resource, sorted by name.
pub(super) fn write_sub_resources(
    out: &mut Vec<u8>,
    mut sub_resources: Vec<(&'static str, Option<&[u8]>)>,
) {
    sub_resources.sort_unstable();
    for (index, (name, value)) in sub_resources.into_iter().enumerate() {
        out.push(if index == 0 { b'?' } else { b'&' });
        out.extend_from_slice(name.as_bytes());
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
}

/// A signature: HMAC-SHA1 in base64, 28 characters.
pub(in crate::signing) struct Signature(String);

impl Signature {
    /// The signature of a text.
    pub(in crate::signing) fn of(text: &[u8], key: &hmac::Key) -> Self {
        Signature(STANDARD.encode(hmac::sign(key, text)))
    }

    /// The characters.
    pub(in crate::signing) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_sub_resources_is_sorted_and_says_each_once() {
        assert!(SUB_RESOURCES.is_sorted_by(|a, b| a < b));
    }
}
