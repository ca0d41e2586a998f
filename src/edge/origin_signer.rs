//! Requests to an origin that asks for signatures of its own: what the client signed with goes, and the edge
//! signs with the credentials of the pool (AWS Signature Version 4 in `Authorization`).
//!
//! Invariants:
//! - `only-what-was-verified`: of a client's `x-amz-*` fields and parameters, which change what a request means
//!   to S3, only those go along that a verified signature of the client covers.
//! - `payload-hash-survives`: a hash of the body that the client signed is signed again, so that the origin
//!   still compares it.

use std::borrow::Cow;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use crate::config;
use crate::secret::Secret;
use crate::signing::{AuthorizeSpec, PresignError, authorize_headers, query_without_signature};

const AMZ: &str = "x-amz-";
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// Bodies of which each chunk carries a signature that continues the client's own.
const SIGNED_CHUNKS: &str = "STREAMING-AWS4-";

/// Signs requests to the servers of one pool.
pub struct OriginSigner {
    access_key_id: String,
    secret: Secret,
    region: String,
    host: Option<HeaderValue>,
}

/// What a request brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// The edge has verified a signature of S3 that covers the `x-amz-*` fields.
    S3Signature,
    /// Anything else, or nothing.
    Otherwise,
}

impl OriginSigner {
    /// Takes the credentials of a pool.
    pub fn new(config: &config::OriginSigning) -> Self {
        OriginSigner {
            access_key_id: config.credentials.access_key_id.clone(),
            secret: config.credentials.secret.clone(),
            region: config.region.clone(),
            host: config
                .host
                .as_deref()
                .and_then(|host| HeaderValue::from_str(host).ok()),
        }
    }

    /// Signs a request: changes its fields and returns the target to send.
    ///
    /// # Errors
    /// [`PresignError`] for a request that cannot be signed, such as one without a host.
    pub fn sign(
        &self,
        method: &str,
        target: &str,
        fields: &mut HeaderMap,
        verified: Verified,
        now: SystemTime,
    ) -> Result<String, PresignError> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let payload = payload_hash(query, fields);
        let payload = payload.unwrap_or_else(|| UNSIGNED_PAYLOAD.to_owned());
        fields.remove(AUTHORIZATION);
        let mut amz = HeaderMap::new();
        for name in amz_names(fields) {
            let values: Vec<_> = fields.get_all(&name).iter().cloned().collect();
            fields.remove(&name);
            let is_ours = [CONTENT_SHA256, DATE, SECURITY_TOKEN].contains(&name);
            if verified == Verified::S3Signature && !is_ours {
                amz.extend(values.into_iter().map(|value| (name.clone(), value)));
            }
        }
        let query = match verified {
            Verified::S3Signature => hoisted(&query_without_signature(query), &mut amz),
            Verified::Otherwise => query_without_signature(query).into_owned(),
        };
        if let Some(host) = &self.host {
            fields.insert(HOST, host.clone());
        }
        let host = fields.get(HOST).and_then(|host| host.to_str().ok());
        let spec = AuthorizeSpec {
            method,
            host: host.unwrap_or_default(),
            path,
            query: &query,
            headers: &amz,
            payload: &payload,
            access_key_id: &self.access_key_id,
            region: &self.region,
        };
        let signature = authorize_headers(&spec, &self.secret, now)?;
        fields.extend(amz);
        for (name, value) in signature {
            fields.insert(name, value);
        }
        let question_mark = if query.is_empty() { "" } else { "?" };
        Ok(format!("{path}{question_mark}{query}"))
    }
}

/// Whether the body of a request is signed in a way that only the client can continue.
pub fn has_signed_chunks(query: &str, fields: &HeaderMap) -> bool {
    payload_hash(query, fields).is_some_and(|hash| hash.starts_with(SIGNED_CHUNKS))
}

fn amz_names(fields: &HeaderMap) -> Vec<HeaderName> {
    let names = fields.keys().filter(|name| name.as_str().starts_with(AMZ));
    names.cloned().collect()
}

/// What the client says about its body, in a field or in the query of a presigned URL.
fn payload_hash(query: &str, fields: &HeaderMap) -> Option<String> {
    if let Some(value) = fields.get(CONTENT_SHA256) {
        return value.to_str().ok().map(str::to_owned);
    }
    query.split('&').find_map(|item| {
        let (name, value) = item.split_once('=')?;
        (decoded(name).eq_ignore_ascii_case(CONTENT_SHA256.as_str()))
            .then(|| decoded(value).into_owned())
    })
}

/// The query without its `x-amz-*` parameters, which become fields: S3 reads them in the query of a presigned
/// URL only.
fn hoisted(query: &str, amz: &mut HeaderMap) -> String {
    let mut kept = Vec::new();
    for item in query.split('&') {
        let (name, value) = item.split_once('=').unwrap_or((item, ""));
        let name = decoded(name).to_ascii_lowercase();
        let field = (name.starts_with(AMZ)).then(|| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let value = HeaderValue::from_bytes(decoded(value).as_bytes()).ok()?;
            Some((name, value))
        });
        match field.flatten() {
            Some((name, value)) => {
                amz.insert(name, value);
            }
            None => kept.push(item),
        }
    }
    kept.join("&")
}

/// What a piece of a query stands for; the verification has read it in the same way.
fn decoded(piece: &str) -> Cow<'_, str> {
    if !piece.contains(['+', '%']) {
        return Cow::Borrowed(piece);
    }
    let spaced = piece.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::{Keyring, Rules, SignedRequest, verify_header};
    use std::time::Duration;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600)
    }

    fn signer(host: Option<&str>) -> OriginSigner {
        OriginSigner::new(&config::OriginSigning {
            region: "eu-west-1".to_owned(),
            host: host.map(str::to_owned),
            credentials: config::Credential {
                access_key_id: "edge".to_owned(),
                secret: Secret::new("of the edge"),
                allow_sigv2: false,
                rights: config::Rights::default(),
            },
        })
    }

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        pairs.collect()
    }

    /// Signs, checks that the origin would accept it, and tells the target and the fields without the
    /// signature's own.
    fn signed(
        target: &str,
        pairs: &[(&'static str, &'static str)],
        verified: Verified,
    ) -> (String, HeaderMap) {
        let mut sent = fields(pairs);
        let target = signer(None)
            .sign("PUT", target, &mut sent, verified, now())
            .unwrap();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let request = SignedRequest {
            method: "PUT",
            path,
            query,
            host: "media.example",
            headers: &sent,
        };
        let keys = Keyring::new([("edge".to_owned(), Secret::new("of the edge"))]);
        let rules = Rules {
            region: Some("eu-west-1"),
            clock_leeway: Duration::ZERO,
            domain: None,
        };
        let grant = verify_header(&request, &keys, &rules, now()).unwrap();
        assert_eq!(grant.access_key_id, "edge");
        sent.remove(AUTHORIZATION);
        assert_eq!(sent.remove(DATE).unwrap(), "20130524T000000Z");
        (target, sent)
    }

    #[test]
    fn the_signature_of_the_client_goes_and_the_one_of_the_pool_comes() {
        let target = "/b/a%20b//c?response-expires=0&X-Amz-Signature=s&X-Amz-Date=d&x-id=GetObject\
                      &X-Amz-Security-Token=t";
        let sent = [
            ("host", "media.example"),
            ("range", "bytes=0-1"),
            ("authorization", "Bearer t"),
            ("x-amz-security-token", "t"),
        ];
        let (target, fields) = signed(target, &sent, Verified::S3Signature);
        assert_eq!(target, "/b/a%20b//c?response-expires=0&x-id=GetObject");
        assert_eq!(fields.len(), 3);
        assert_eq!(fields["range"], "bytes=0-1");
        assert_eq!(fields[CONTENT_SHA256], UNSIGNED_PAYLOAD);
        let (target, _) = signed("/b/k?X-Amz-Signature=s", &sent, Verified::S3Signature);
        assert_eq!(target, "/b/k");
        let (target, _) = signed(
            "/b/k?a=1&AWSAccessKeyId=s&Expires=1&Signature=x",
            &sent,
            Verified::S3Signature,
        );
        assert_eq!(target, "/b/k?a=1");
    }

    #[test]
    fn only_what_was_verified_keeps_its_meaning_to_s3() {
        let target =
            "/b/k?x-amz-checksum-crc32=AAAA%3D%3D&X-Amz-Meta-A=1+2&x-id=x&X-Amz-Signature=s";
        let sent = [
            ("host", "media.example"),
            ("x-amz-acl", "private"),
            ("content-type", "a/b"),
        ];
        let (kept, fields) = signed(target, &sent, Verified::S3Signature);
        assert_eq!(kept, "/b/k?x-id=x");
        assert_eq!(fields["x-amz-checksum-crc32"], "AAAA==");
        assert_eq!(fields["x-amz-meta-a"], "1 2");
        assert_eq!(fields["x-amz-acl"], "private");
        let sent = [
            ("host", "media.example"),
            ("x-amz-copy-source", "/secret/k"),
            ("x-amz-date", "d"),
        ];
        let (kept, fields) = signed("/b/k?x-amz-acl=public-read", &sent, Verified::Otherwise);
        assert_eq!(kept, "/b/k?x-amz-acl=public-read");
        assert_eq!(fields.len(), 2, "{fields:?}");
    }

    #[test]
    fn a_payload_hash_survives_and_signed_chunks_are_told() {
        let host = ("host", "media.example");
        for (target, sent, expected) in [
            ("/b/k", None, UNSIGNED_PAYLOAD),
            ("/b/k", Some(EMPTY), EMPTY),
            (
                "/b/k",
                Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
                "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            ),
            (
                "/b/k?X-Amz-Content-Sha256=UNSIGNED%2DPAYLOAD",
                None,
                UNSIGNED_PAYLOAD,
            ),
            (&format!("/b/k?X-Amz-Content-Sha256={EMPTY}"), None, EMPTY),
        ] {
            let sent: Vec<_> = sent
                .map(|hash| ("x-amz-content-sha256", hash))
                .into_iter()
                .chain([host])
                .collect();
            let (_, fields) = signed(target, &sent, Verified::S3Signature);
            assert_eq!(fields[CONTENT_SHA256], expected, "{target}");
        }
        let none = HeaderMap::new();
        let signed = fields(&[("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")]);
        assert!(has_signed_chunks("", &signed));
        assert!(has_signed_chunks(
            "x-amz-content-sha256=STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            &none
        ));
        assert!(!has_signed_chunks(
            "X-Amz-Content-Sha256=STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            &none
        ));
    }

    #[test]
    fn a_host_of_the_pool_replaces_that_of_the_client() {
        let mut sent = fields(&[("host", "media.example")]);
        let signer = signer(Some("s3.internal:9000"));
        signer
            .sign("GET", "/b/k", &mut sent, Verified::Otherwise, now())
            .unwrap();
        assert_eq!(sent[HOST], "s3.internal:9000");
        let mut nothing = HeaderMap::new();
        let signer = super::tests::signer(None);
        let refused = signer.sign("GET", "/b/k", &mut nothing, Verified::Otherwise, now());
        assert_eq!(refused, Err(PresignError::MalformedHost));
    }
}
