//! Judged by an independent signer (openssl), by both sides of each boundary, and by every mutation of a URL.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::*;
use crate::signing::PublicKeyFault;
use crate::signing::test_support::{Asked, P256, RSA, mutations};

/// Made with `openssl genrsa 2048`; the private half was thrown away.
const OPENSSL_RSA: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAk/kVuRZ3xNOzSu99btQs
X+Mgaj3l1Z0h3FTXiLc51mLcQDgN+REg+epbUSNwDAQOJhO1yFkNLk/3YmPYR/Au
EMdkq2uCZPcfRaXKryFGrpkPC8Asy59OiuiudTKfY9n6L0IYCyOO5ga5pzLUf83v
pRKiF0uYbuxY4getmYFHOs6ZzCD9Y1vTayHVI0+RERbHDMNj+h9e1v6zKhiyi7S7
4OieMQsSp3XdD9CXESn30q2nk3iBznxp3mlK8aXTp7XhI1s/x6CGT/BGheuwEeiS
ILSmyyRf7qONAAEpTCNWpgK9rJ8cJ42h+foiuklItrS3/TSpLBFyJbp0eMkJjL7L
YwIDAQAB
-----END PUBLIC KEY-----
";
/// Made with `openssl ecparam -name prime256v1 -genkey`; the private half was thrown away.
const OPENSSL_P256: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqpFhUOHl+in82NuLwiB0lxYAuFgO
l1TPFpH512VuG8H1ij7wD9UThNqWcBVnA8fU7rV0x9hoKjLpeZIABqZwTQ==
-----END PUBLIC KEY-----
";

/// What was signed: the policy of this URL until [`END`], with `openssl dgst -sign`.
const URL: &str = "https://media.example/films/a%20b.mp4?size=1&x";
const END: u64 = 1_700_000_000;
const RSA_SHA1: &str = "IaEB97SAw3rAlxL1cw7loeYQsNnNtfQdaBSc4vRebW~jZ5AS-PYdsxbNdJHnVJcJ~igBSGZ5OyjS1j45BhUT\
     F5kJm0nmawICMXvdDYDXrbe~fKGrQ~vbm3fEHZP9QovK3X-\
     8TCCTWl4sPjEivZsbzbG5j3JUoLhd7mpOaWp2AO-F-jpTeebM8zwDiwxHZAnWgDq~sWLxV-TZp6MK6q5Zk4R\
     I7znIfwFtcUmDSft4tfuJ7oNR1DwV4CQZ30c1yz9IKkdOyIYxVSJ1Rys1b~Q09OzW1qhXJ4YdvwBUFaxiiFU\
     2VIP5ZETANck28t~iOdPy5tJK0d5PGhejQaH9O30oqA__";
const RSA_SHA256: &str = "MOzSd~iWKWf95woNOQvr3TLZsBUveTRRFRIfykWLUZoSMVT1OcsyMJvu9hk~DwPzR6utV76X9g2akeyDwDur\
     B62zXrTrNFCpSPypzbmcBtC3MsAIen1~3f2e7jkjfmqF65XoReHQjzYuyJ2WPVAtgGElLKKXyfDtdMoh38jP\
     Ka2bkPyR1VAVLZWI7uqc6p3vVrI7ojDiTygFJNBrS4vueDd~DVFCbwJwAUiqoPYSYp6PPHfh748CYjkKbj0U\
     j7g0FYci9Bxw1TDqVsnP4qLpjBje~V6WBMV4l8yW5I-\
     RdCk~4pj4gfEdOEREOQkOphmH3qKNP8DS1pHEA99t78WCSA__";
const P256_SHA1: &str = "MEUCIQD1sPrteUnAiDYtd5rcmvfPvdo7Hg2KBiAxkXVU4wSmegIgOtoEKMbx2CazptbVctW1wYG0cajZdRAa\
     XVMpynUswxM_";
const P256_SHA256: &str = "MEQCIDN91JTvE0P37Rsrh3u7wrxhEt1bzfk3ru7HYBjT-\
     PxmAiA5SiAYVgSR6EADdQ4Jpm-c2A-qv8Dm3ku2R7sRcv-O3A__";

/// A policy with spaces in it for any host's films, for 192.0.2.0/24, after 1699990000 and until [`END`].
const CUSTOM: &str = "eyAiU3RhdGVtZW50IjogW3sgIlJlc291cmNlIjoiaHR0cCo6Ly8qL2ZpbG1zLyoiLCAiQ29uZGl0aW9uIjp7\
     ICJJcEFkZHJlc3MiOnsiQVdTOlNvdXJjZUlwIjoiMTkyLjAuMi4wLzI0In0sICJEYXRlR3JlYXRlclRoYW4i\
     OnsiQVdTOkVwb2NoVGltZSI6MTY5OTk5MDAwMH0sIkRhdGVMZXNzVGhhbiI6eyJBV1M6RXBvY2hUaW1lIjox\
     NzAwMDAwMDAwfSB9IH0gXSB9";
const CUSTOM_RSA_SHA1: &str = "PvuXC5YPqXsp3M71yzuS1ZVpEXxb7CrhE3nQPN0vUH1WgUMHa4xdK~iC4~Ix66g-\
     ZXvXY1GfbAOeXDQ9fwpa6XtspmEyEfmIF-5sFXgi0i54sw-\
     6EbPv6u3fhI46wJB1oatncBfTougSmNopcZVP6-gE~2OmYopAXBizZKxG58~jNQh8-\
     JKUcTqPYtE8sAzFjNBj7GulDHnBPhQas~DEBf5PDjlW6NOZvxjLqVpVAHnPy0QnW6G~-\
     J~Oxuiv3EGsXveVJfjmkUXYPK81lre7CqTBNxRNq9cQtyOBBSrxzQiF5Vh2Qc7yntpqypHnLnxyU3IehkFVs\
     dju21ul5CvILw__";

const LEEWAY: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn keys() -> Vec<CloudFrontKey> {
    let key = |id: &str, pem: &str| CloudFrontKey {
        id: id.into(),
        key: PublicKey::from_pem(pem.as_bytes()).unwrap(),
    };
    vec![
        key("RSA", OPENSSL_RSA),
        key("P256", OPENSSL_P256),
        key("OURS", &RSA.public),
        key("OURS-P256", &P256.public),
    ]
}

fn judge(asked: &Asked, now: SystemTime) -> Result<Option<Granted>, CredentialRefusal> {
    verify(&asked.view(), &keys(), LEEWAY, now)
}

/// The URL of the canned vectors, signed.
fn canned(signature: &str, id: &str, hash: &str) -> String {
    format!("{URL}&Expires={END}&Signature={signature}&Key-Pair-Id={id}{hash}")
}

fn custom() -> String {
    let path = "https://media.example/films/x/1.ts";
    format!("{path}?Policy={CUSTOM}&Signature={CUSTOM_RSA_SHA1}&Key-Pair-Id=RSA")
}

#[test]
fn what_openssl_has_signed_is_genuine_with_both_hashes_and_both_kinds_of_keys() {
    for (signature, id, hash) in [
        (RSA_SHA1, "RSA", ""),
        (RSA_SHA1, "RSA", "&Hash-Algorithm=SHA1"),
        (RSA_SHA256, "RSA", "&Hash-Algorithm=SHA256"),
        (P256_SHA1, "P256", ""),
        (P256_SHA256, "P256", "&Hash-Algorithm=SHA256"),
    ] {
        let asked = Asked::new(&canned(signature, id, hash));
        let granted = judge(&asked, at(END - 1)).unwrap().unwrap();
        assert_eq!(*granted.key_id, *id);
        assert_eq!(granted.expires, Some(at(END)));
    }
    let mut asked = Asked::new(&custom());
    asked.client = "192.0.2.77".parse().unwrap();
    let granted = judge(&asked, at(END - 1)).unwrap().unwrap();
    assert!(granted.client_bound);
    assert_eq!(granted.not_before, Some(at(1_699_990_000)));
}

#[test]
fn a_hash_or_a_key_that_the_signature_was_not_made_with_is_refused() {
    let mismatch = CredentialRefusal::SignatureMismatch;
    for (signature, id, hash, expected) in [
        (RSA_SHA1, "RSA", "&Hash-Algorithm=SHA256", mismatch),
        (RSA_SHA256, "RSA", "", mismatch),
        (RSA_SHA256, "P256", "&Hash-Algorithm=SHA256", mismatch),
        (P256_SHA256, "RSA", "&Hash-Algorithm=SHA256", mismatch),
        (RSA_SHA256, "OURS", "&Hash-Algorithm=SHA256", mismatch),
        (
            RSA_SHA256,
            "NOBODY",
            "&Hash-Algorithm=SHA256",
            CredentialRefusal::UnknownKey,
        ),
        (
            RSA_SHA1,
            "RSA",
            "&Hash-Algorithm=MD5",
            CredentialRefusal::WrongAlgorithm,
        ),
        (
            RSA_SHA1,
            "RSA",
            "&Hash-Algorithm=sha1",
            CredentialRefusal::WrongAlgorithm,
        ),
    ] {
        let asked = Asked::new(&canned(signature, id, hash));
        assert_eq!(
            judge(&asked, at(END - 1)).err(),
            Some(expected),
            "{id}{hash}"
        );
    }
}

#[test]
fn a_url_counts_until_its_end_and_a_policy_from_its_start() {
    let asked = Asked::new(&canned(RSA_SHA1, "RSA", ""));
    let nanosecond = Duration::from_nanos(1);
    assert!(judge(&asked, at(END) - nanosecond).is_ok());
    let since = Duration::ZERO;
    let refused = judge(&asked, at(END)).err();
    assert_eq!(refused, Some(CredentialRefusal::Expired { since }));

    let mut asked = Asked::new(&custom());
    asked.client = "192.0.2.77".parse().unwrap();
    let start = at(1_699_990_000) - LEEWAY;
    assert!(judge(&asked, start).is_ok());
    let ahead = LEEWAY + nanosecond;
    let refused = judge(&asked, start - nanosecond).err();
    let leeway = LEEWAY;
    assert_eq!(
        refused,
        Some(CredentialRefusal::NotYetValid { ahead, leeway })
    );
    assert!(judge(&asked, at(END) - nanosecond).is_ok());
    assert!(judge(&asked, at(END)).is_err());
}

#[test]
fn a_policy_is_for_its_addresses_and_its_urls_only() {
    let url = custom();
    let query = url.split_once('?').unwrap().1;
    let now = at(END - 1);
    for (base, client, expected) in [
        ("http://other/films/", "192.0.2.0", None),
        ("https://media.example/films/a/b?c=d&", "192.0.2.255", None),
        (
            "https://media.example/film/",
            "192.0.2.1",
            Some(CredentialRefusal::WrongResource),
        ),
        (
            "https://media.example/Films/",
            "192.0.2.1",
            Some(CredentialRefusal::WrongResource),
        ),
        (
            "https://media.example/films/",
            "192.0.3.0",
            Some(CredentialRefusal::WrongClient),
        ),
        (
            "https://media.example/films/",
            "2001:db8::1",
            Some(CredentialRefusal::WrongClient),
        ),
        ("https://media.example/films/", "::ffff:192.0.2.9", None),
    ] {
        let separator = if base.ends_with('&') { "" } else { "?" };
        let mut asked = Asked::new(&format!("{base}{separator}{query}"));
        asked.client = client.parse().unwrap();
        assert_eq!(judge(&asked, now).err(), expected, "{base} {client}");
    }
}

/// Signs a policy word for word.
fn signed(policy: &str) -> String {
    let spec = CloudFrontSpec {
        key_pair_id: "OURS",
        expires: 0,
        resource: None,
        not_before: None,
        source_ip: None,
        policy: Some(policy),
    };
    sign_url("http://h/a", &spec, &RSA.private()).unwrap()
}

#[test]
fn a_canned_policy_is_json_whatever_the_url_holds() {
    let url = r#"https://h/a?b=\"}],"c"#;
    let policy: serde_json::Value = serde_json::from_str(&canned_policy(url, "1")).unwrap();
    assert_eq!(policy["Statement"][0]["Resource"], url);
}

#[test]
fn a_policy_that_is_not_understood_as_a_whole_grants_nothing() {
    let condition = r#""Condition":{"DateLessThan":{"AWS:EpochTime":1700000000}}"#;
    let malformed = Some(CredentialRefusal::MalformedPolicy);
    let unknown = Some(CredentialRefusal::UnknownPart);
    for (policy, expected) in [
        (format!(r#"{{"Statement":[{{"Resource":"*",{condition}}}]}}"#), None),
        (format!(r#"{{"Statement":[{{{condition}}}]}}"#), None),
        (format!(r#"{{"Statement":[{{"Resource":"http://h/?",{condition}}}]}}"#), None),
        (
            format!(r#"{{"Statement":[{{"Resource":"http://h/??",{condition}}}]}}"#),
            Some(CredentialRefusal::WrongResource),
        ),
        ("[]".to_owned(), malformed),
        ("{}".to_owned(), malformed),
        ("nonsense".to_owned(), malformed),
        (r#"{"Statement":[]}"#.to_owned(), malformed),
        (format!(r#"{{"Statement":[{{{condition}}},{{{condition}}}]}}"#), malformed),
        (format!(r#"{{"Statement":[{{{condition}}}],"Id":"x"}}"#), unknown),
        (format!(r#"{{"Statement":[{{"Effect":"Deny",{condition}}}]}}"#), unknown),
        (format!(r#"{{"Statement":[{{"Resource":1,{condition}}}]}}"#), malformed),
        (r#"{"Statement":[{"Resource":"*"}]}"#.to_owned(), malformed),
        (r#"{"Statement":[{"Condition":{}}]}"#.to_owned(), malformed),
        (
            r#"{"Statement":[{"Condition":{"DateLessThan":{"AWS:EpochTime":"1700000000"}}}]}"#
                .to_owned(),
            malformed,
        ),
        (
            r#"{"Statement":[{"Condition":{"DateLessThan":{"AWS:EpochTime":-1}}}]}"#.to_owned(),
            malformed,
        ),
        (
            r#"{"Statement":[{"Condition":{"DateLessThan":{"AWS:EpochTime":1700000000,"x":2}}}]}"#
                .to_owned(),
            unknown,
        ),
        (
            r#"{"Statement":[{"Condition":{"DateLessThan":{"AWS:Other":1}}}]}"#.to_owned(),
            unknown,
        ),
        (
            r#"{"Statement":[{"Condition":{"DateLessThan":{"AWS:EpochTime":1700000000},"X":{}}}]}"#
                .to_owned(),
            unknown,
        ),
        (
            r#"{"Statement":[{"Condition":{"DateLessThan":{"AWS:EpochTime":1700000000},"IpAddress":{"AWS:SourceIp":"here"}}}]}"#
                .to_owned(),
            malformed,
        ),
    ] {
        let asked = Asked::new(&signed(&policy));
        assert_eq!(judge(&asked, at(END - 1)).err(), expected, "{policy}");
    }
}

#[test]
fn parts_that_are_missing_repeated_or_malformed_are_named() {
    let missing = |part| Some(CredentialRefusal::MissingPart { part });
    let malformed = |part| Some(CredentialRefusal::MalformedPart { part });
    let twice = |part| Some(CredentialRefusal::DuplicatePart { part });
    for (query, expected) in [
        ("Key-Pair-Id=RSA", missing("Signature")),
        ("Key-Pair-Id=RSA&Signature=AA__", missing("Expires")),
        ("Key-Pair-Id=RSA&Key-Pair-Id=RSA", twice("Key-Pair-Id")),
        (
            "Key-Pair-Id=RSA&Signature=a&Signatur%65=a",
            twice("Signature"),
        ),
        (
            "Key-Pair-Id=RSA&Signature=AA__&Expires=1&Expires=1",
            twice("Expires"),
        ),
        (
            "Key-Pair-Id=RSA&Signature=AA__&Expires=1&Policy=AA__",
            Some(CredentialRefusal::ExclusiveParts {
                one: "Policy",
                other: "Expires",
            }),
        ),
        (
            "Key-Pair-Id=RSA&Signature=AA==&Expires=1",
            malformed("Signature"),
        ),
        (
            "Key-Pair-Id=RSA&Signature=A&Expires=1",
            malformed("Signature"),
        ),
        // Two bits too many: another spelling of the same bytes.
        (
            "Key-Pair-Id=RSA&Signature=AB__&Expires=1",
            malformed("Signature"),
        ),
        (
            "Key-Pair-Id=RSA&Signature=AA__&Expires=1x",
            malformed("Expires"),
        ),
        (
            "Key-Pair-Id=RSA&Signature=AA__&Expires=",
            malformed("Expires"),
        ),
        (
            "Key-Pair-Id=RSA&Signature=AA__&Policy=+",
            malformed("Policy"),
        ),
        (
            "Key-Pair-Id=%ff&Signature=AA__&Expires=1",
            malformed("Key-Pair-Id"),
        ),
        (
            "Key-Pair-Id=RSA&Signature=AA__&Expires=1",
            Some(CredentialRefusal::SignatureMismatch),
        ),
    ] {
        let asked = Asked::new(&format!("http://h/a?{query}"));
        assert_eq!(judge(&asked, at(0)).err(), expected, "{query}");
    }
    for query in ["", "Expires=1&Signature=s&Policy=p", "key-pair-id=RSA"] {
        let asked = Asked::new(&format!("http://h/a?{query}"));
        assert!(judge(&asked, at(0)).unwrap().is_none(), "{query}");
    }
}

#[test]
fn one_set_of_cookies_opens_what_its_policy_names_and_a_url_counts_before_them() {
    let cookies = |id: &str| {
        let spec = CloudFrontSpec {
            key_pair_id: id,
            expires: END,
            resource: Some("http://h/films/42/*"),
            not_before: None,
            source_ip: None,
            policy: None,
        };
        let made = sign_cookies("", &spec, &RSA.private()).unwrap();
        let pairs: Vec<_> = made
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut fields = HeaderMap::new();
        fields.insert(COOKIE, HeaderValue::try_from(pairs.join("; ")).unwrap());
        fields
    };
    let ask = |url: &str, fields: HeaderMap| {
        let mut asked = Asked::new(url);
        asked.fields = fields;
        judge(&asked, at(END - 1))
    };
    for url in [
        "http://h/films/42/index.m3u8",
        "http://h/films/42/a/1.ts?b=1",
    ] {
        assert!(ask(url, cookies("OURS")).unwrap().is_some(), "{url}");
    }
    let other = ask("http://h/films/43/index.m3u8", cookies("OURS"));
    assert_eq!(other.err(), Some(CredentialRefusal::WrongResource));
    let unknown = ask("http://h/films/42/1.ts", cookies("NOBODY"));
    assert_eq!(unknown.err(), Some(CredentialRefusal::UnknownKey));
    let mut twice = cookies("OURS");
    twice.append(COOKIE, HeaderValue::from_static("CloudFront-Policy=x"));
    let part = "Policy";
    let refused = ask("http://h/films/42/1.ts", twice).err();
    assert_eq!(refused, Some(CredentialRefusal::DuplicatePart { part }));
    let url = "http://h/films/42/1.ts?Key-Pair-Id=OURS&Signature=AA__&Expires=1";
    let refused = ask(url, cookies("OURS")).err();
    assert_eq!(refused, Some(CredentialRefusal::SignatureMismatch));
}

#[test]
fn what_we_sign_we_accept() {
    let now = at(END - 1);
    for (id, key) in [("OURS", RSA.private()), ("OURS-P256", P256.private())] {
        for url in [URL, "http://h:8080/a", r"http://h/a?b=\&c"] {
            for (resource, not_before, source_ip) in [
                (None, None, None),
                (Some("http*"), None, None),
                (None, Some(1), Some("127.0.0.1")),
            ] {
                let resource = resource.or((source_ip.is_some()).then_some("*"));
                let spec = CloudFrontSpec {
                    key_pair_id: id,
                    expires: END,
                    resource,
                    not_before,
                    source_ip,
                    policy: None,
                };
                let signed = sign_url(url, &spec, &key).unwrap();
                let asked = Asked::new(&signed);
                assert!(judge(&asked, now).unwrap().is_some(), "{signed}");
            }
        }
    }
}

#[test]
fn a_url_that_differs_in_any_byte_is_refused() {
    let now = at(END - 1);
    let canned = canned(P256_SHA256, "P256", "&Hash-Algorithm=SHA256");
    for mutated in mutations(&canned) {
        let asked = Asked::new(&mutated);
        let granted = judge(&asked, now);
        assert!(!matches!(granted, Ok(Some(_))), "{mutated}");
    }
    // A custom policy covers what it names: its own bytes are covered here, and the path's start.
    let custom = custom();
    let client: IpAddr = "192.0.2.1".parse().unwrap();
    for mutated in mutations(&custom) {
        let mut asked = Asked::new(&mutated);
        asked.client = client;
        let granted = judge(&asked, now);
        let same_credential = mutated.ends_with(custom.split_once('?').unwrap().1);
        // An empty item between those of the credential is gone with them, and a further one is part of what the
        // policy's star stands for.
        let same_url = mutated.replace("&&", "&").replace("z=1&", "") == custom;
        let allowed = same_url || same_credential && mutated.contains("/films/");
        assert!(allowed || !matches!(granted, Ok(Some(_))), "{mutated}");
    }
}

#[test]
fn an_explanation_shows_what_was_signed() {
    let asked = Asked::new(&canned(RSA_SHA1, "RSA", ""));
    let explained = explain(&asked.view()).unwrap().unwrap();
    let policy = format!(
        r#"{{"Statement":[{{"Resource":"{URL}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{END}}}}}}}]}}"#
    );
    assert_eq!(explained.signed, policy);
    assert_eq!(
        explained.notes[0],
        ("URL without the credential", URL.to_owned())
    );
}

#[test]
fn keys_that_are_too_short_or_of_another_kind_are_not_taken() {
    let short = "-----BEGIN PUBLIC KEY-----\n\
        MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALRiMLAh9iimur8VA7qVvdqxevEuUkW4\n\
        K+2KdMXmnQbG9Aa7k7eBjK1S+0LYmVjPKlJGNXHDGuy5Fw/d7rjVJ0BLB+ubPK8i\n\
        A/Tw3hLQgXMRRGRXXCn8ikfuQfjUS1uZSatdLB81mydBETlJhI6GH4twrbDJCR2B\n\
        wy/XWXgqgGRzAgMBAAE=\n-----END PUBLIC KEY-----\n";
    for (pem, fault) in [
        ("", PublicKeyFault::NotPem),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            PublicKeyFault::Kind,
        ),
        (short, PublicKeyFault::Kind),
        (
            &crate::signing::test_support::ED25519.public,
            PublicKeyFault::Kind,
        ),
    ] {
        assert_eq!(PublicKey::from_pem(pem.as_bytes()).err(), Some(fault));
    }
}
