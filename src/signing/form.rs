//! Form uploads: who may let a browser send what.

use std::time::SystemTime;

use aws_lc_rs::constant_time;

use super::{Keyring, Refusal, Rules, sigv2, sigv4};

/// What a genuinely signed policy grants: its conditions say the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormGrant {
    /// The access key id that signed.
    pub access_key_id: String,
    /// When it was signed; `None` by Version 2, which does not say.
    pub signed_at: Option<SystemTime>,
}

/// Decides whether the policy of a form is genuine, by Version 4 or, for keys that allow it, Version 2.
///
/// `field` gives the value of a form field by its lower-case name. What the policy says is not looked at.
///
/// # Errors
/// The [`Refusal`] that names the cause.
pub fn verify_form<'f>(
    field: impl Fn(&str) -> Option<&'f str>,
    keys: &Keyring,
    rules: &Rules,
    now: SystemTime,
) -> Result<FormGrant, Refusal> {
    let policy = field("policy").ok_or(Refusal::NotSigned)?;
    let Some(access_key_id) = field("awsaccesskeyid") else {
        return sigv4::verify_form(policy, field, keys, rules, now);
    };
    if field("x-amz-signature").is_some() {
        return Err(Refusal::SignedTwice);
    }
    let signature = field("signature").ok_or(Refusal::MissingParameter { name: "signature" })?;
    if !keys.allows_sigv2() {
        return Err(Refusal::UnsupportedScheme);
    }
    let wanted = sigv2::Signature::of(policy.as_bytes(), keys.sigv2_key(access_key_id)?);
    // `constant-time-compare`
    constant_time::verify_slices_are_equal(wanted.as_str().as_bytes(), signature.as_bytes())
        .map_err(|_| Refusal::SignatureMismatch)?;
    Ok(FormGrant {
        access_key_id: access_key_id.to_owned(),
        signed_at: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::signing::FormSigner;
    use std::time::Duration;

    /// "Example: Browser-Based Upload using HTTP POST" in the S3 API reference.
    const POLICY: &str = "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9";
    const SIGNATURE: &str = "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e";
    const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const RULES: Rules<'_> = Rules {
        region: Some("us-east-1"),
        clock_leeway: Duration::ZERO,
        domain: None,
    };

    fn signed_at() -> SystemTime {
        // 2015-12-29T00:00:00Z
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_451_347_200)
    }

    fn published() -> Vec<(&'static str, &'static str)> {
        vec![
            ("policy", POLICY),
            ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
            (
                "x-amz-credential",
                "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request",
            ),
            ("x-amz-date", "20151229T000000Z"),
            ("x-amz-signature", SIGNATURE),
        ]
    }

    fn verify(fields: &[(&str, &str)], now: SystemTime) -> Result<FormGrant, Refusal> {
        let keys = Keyring::new([(KEY_ID.to_owned(), Secret::new(SECRET))]).allow_sigv2(KEY_ID);
        let field = |name: &str| {
            let mut values = fields.iter().filter(|(known, _)| *known == name);
            values.next().map(|(_, value)| *value)
        };
        verify_form(field, &keys, &RULES, now)
    }

    #[test]
    fn the_published_form_is_made_and_verified() {
        let grant = verify(&published(), signed_at()).unwrap();
        assert_eq!(grant.access_key_id, KEY_ID);
        let signer = FormSigner {
            access_key_id: KEY_ID,
            region: "us-east-1",
            now: signed_at(),
        };
        let mut made: Vec<(&str, String)> = signer.fields().unwrap().into();
        made.push(signer.sign(POLICY, &Secret::new(SECRET)).unwrap());
        let expected = published().into_iter().skip(1);
        assert!(
            made.iter()
                .map(|(name, value)| (*name, value.as_str()))
                .eq(expected)
        );
    }

    #[test]
    fn each_change_of_a_form_has_its_own_reason() {
        for (name, value, reason) in [
            ("policy", "eyA=", "signature_mismatch"),
            ("x-amz-algorithm", "AWS4-HMAC-SHA1", "unsupported_scheme"),
            (
                "x-amz-credential",
                "x/20151229/us-east-1/s3/aws4_request",
                "unknown_access_key_id",
            ),
            (
                "x-amz-credential",
                "x/20151229/eu-west-1/s3/aws4_request",
                "wrong_region",
            ),
            (
                "x-amz-credential",
                "x/20151229/us-east-1/sqs/aws4_request",
                "wrong_service",
            ),
            (
                "x-amz-credential",
                "x/20151228/us-east-1/s3/aws4_request",
                "credential_date_mismatch",
            ),
            ("x-amz-date", "20151229T000001Z", "not_yet_valid"),
            ("x-amz-signature", "", "malformed_signature"),
        ] {
            let mut fields = published();
            let at = fields.iter().position(|(known, _)| *known == name).unwrap();
            fields[at].1 = value;
            let refusal = verify(&fields, signed_at()).unwrap_err();
            assert_eq!(refusal.reason(), reason, "{name}={value}");
        }
        for missing in 0..published().len() {
            let mut fields = published();
            let (name, _) = fields.remove(missing);
            let reason = if name == "policy" {
                "not_signed"
            } else {
                "missing_parameter"
            };
            assert_eq!(
                verify(&fields, signed_at()).unwrap_err().reason(),
                reason,
                "{name}"
            );
        }
    }

    #[test]
    fn version_2_signs_the_policy_for_keys_that_allow_it() {
        // openssl dgst -sha1 -hmac over the policy `eyA=`.
        let fields = [
            ("policy", "eyA="),
            ("awsaccesskeyid", KEY_ID),
            ("signature", "u/wfoRBnQEf5WgPPtyZvVdr2Mqw="),
        ];
        assert!(verify(&fields, signed_at()).is_ok());
        for (at, value, reason) in [
            (0, "eyB=", "signature_mismatch"),
            (1, "stranger", "unknown_access_key_id"),
            (2, "", "signature_mismatch"),
        ] {
            let mut other = fields;
            other[at].1 = value;
            assert_eq!(verify(&other, signed_at()).unwrap_err().reason(), reason);
        }
        let both = [fields.as_slice(), &[("x-amz-signature", "s")]].concat();
        assert_eq!(
            verify(&both, signed_at()).unwrap_err(),
            Refusal::SignedTwice
        );
        let field = |name: &str| {
            fields
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, v)| *v)
        };
        let keys = Keyring::new([(KEY_ID.to_owned(), Secret::new(SECRET))]);
        let refusal = verify_form(field, &keys, &RULES, signed_at()).unwrap_err();
        assert_eq!(refusal, Refusal::UnsupportedScheme);
    }
}
