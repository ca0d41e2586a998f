use super::*;
use crate::signing::test_support::{Asked, mutations};

const END: u64 = 1_700_000_000;

/// `printf '%s' '1700000000/films/1.ts secret' | openssl md5 -binary | …`, as above.
const FREE: &str = "http://h/films/1.ts?md5=9wBz-DsUZQPetE1AbQ3AUA&expires=1700000000";
/// The same of `1700000000/films/a b+é.ts secret`.
const ESCAPED: &str =
    "http://h/films/a%20b+%C3%A9.ts?md5=uaZWL22zPdNV7wXDNMZzNg&expires=1700000000";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn key(id: &str, expression: &str, secret: &str) -> SecureLinkKey {
    SecureLinkKey {
        id: id.into(),
        parameter: "md5".into(),
        expires_parameter: "expires".into(),
        expression: Expression::parse(expression).unwrap(),
        secret: Secret::new(secret),
    }
}

fn keys() -> Vec<SecureLinkKey> {
    vec![
        key("manual", DEFAULT_EXPRESSION, "secret"),
        key("free", "${secure_link_expires}${uri} $secret", "secret"),
    ]
}

fn judge(asked: &Asked, now: SystemTime) -> Result<Option<Granted>, CredentialRefusal> {
    verify(&asked.view(), &keys(), now)
}

#[test]
fn what_openssl_has_hashed_is_genuine() {
    // The example of nginx's manual: echo -n '2147483647/s/link127.0.0.1 secret' | openssl md5 -binary |
    // openssl base64 | tr +/ -_ | tr -d =
    for (url, id) in [
        (
            "http://h/s/link?md5=_e4Nc3iduzkWRm01TBBNYw&expires=2147483647",
            "manual",
        ),
        (FREE, "free"),
        (ESCAPED, "free"),
    ] {
        let asked = Asked::new(url);
        let granted = judge(&asked, at(END)).unwrap().unwrap();
        assert_eq!(&*granted.key_id, id, "{url}");
        assert_eq!(granted.client_bound, id == "manual", "{url}");
    }
    let mut elsewhere = Asked::new("http://h/s/link?md5=_e4Nc3iduzkWRm01TBBNYw&expires=2147483647");
    elsewhere.client = "192.0.2.1".parse().unwrap();
    let refused = judge(&elsewhere, at(END)).err();
    assert_eq!(refused, Some(CredentialRefusal::SignatureMismatch));
}

#[test]
fn a_link_counts_to_the_end_of_its_last_second() {
    let query = sign_secure_link(&keys()[1], "/a", END, client()).unwrap();
    let asked = Asked::new(&format!("http://h/a?{query}"));
    let nanosecond = Duration::from_nanos(1);
    assert!(judge(&asked, at(END + 1) - nanosecond).unwrap().is_some());
    let since = Duration::ZERO;
    let refused = judge(&asked, at(END + 1)).err();
    assert_eq!(refused, Some(CredentialRefusal::Expired { since }));
}

fn client() -> IpAddr {
    "127.0.0.1".parse().unwrap()
}

#[test]
fn parts_that_are_missing_repeated_or_malformed_are_named() {
    let malformed = |part| Some(CredentialRefusal::MalformedPart { part });
    let twice = |part| Some(CredentialRefusal::DuplicatePart { part });
    let hash = "AAAAAAAAAAAAAAAAAAAAAA";
    for (target, expected) in [
        (
            format!("/a?md5={hash}"),
            Some(CredentialRefusal::MissingPart { part: EXPIRES }),
        ),
        (format!("/a?md5={hash}&md5={hash}&expires=1"), twice(MD5)),
        (format!("/a?md5={hash}&expires=1&expires=1"), twice(EXPIRES)),
        (format!("/a?md5={hash}&expires=1.0"), malformed(EXPIRES)),
        (format!("/a?md5={hash}&expires="), malformed(EXPIRES)),
        (format!("/a?md5={hash}==&expires=1"), malformed(MD5)),
        (
            "/a?md5=AAAAAAAAAAAAAAAAAAAAAB&expires=1".to_owned(),
            malformed(MD5),
        ),
        (
            "/a?md5=&expires=1".to_owned(),
            Some(CredentialRefusal::SignatureMismatch),
        ),
        (
            format!("/a?md5={hash}&expires=1"),
            Some(CredentialRefusal::SignatureMismatch),
        ),
        (
            format!("/a%2Fb?md5={hash}&expires=1"),
            malformed("the path"),
        ),
    ] {
        let asked = Asked::new(&format!("http://h{target}"));
        assert_eq!(judge(&asked, at(0)).err(), expected, "{target}");
    }
    let none = judge(&Asked::new("http://h/a?expires=1"), at(0));
    assert!(none.unwrap().is_none());
}

#[test]
fn an_expression_opens_one_path_for_a_while_to_those_who_know_the_secret() {
    for (text, expected) in [
        (DEFAULT_EXPRESSION, Ok(())),
        ("$secret$secure_link_expires:$uri", Ok(())),
        ("x${uri}y${secret}z${secure_link_expires}", Ok(())),
        ("$uri $secret", Err(ExpressionFault::Incomplete)),
        (
            "$secure_link_expires $secret",
            Err(ExpressionFault::Incomplete),
        ),
        (
            "$secure_link_expires$uri hidden",
            Err(ExpressionFault::Incomplete),
        ),
        ("", Err(ExpressionFault::Incomplete)),
        (
            "$args $uri $secret $secure_link_expires",
            Err(ExpressionFault::Variable),
        ),
        ("$", Err(ExpressionFault::Variable)),
        (
            "${uri $secret $secure_link_expires",
            Err(ExpressionFault::Variable),
        ),
        (
            "$urix $secret $secure_link_expires",
            Err(ExpressionFault::Variable),
        ),
    ] {
        assert_eq!(Expression::parse(text).map(drop), expected, "{text}");
    }
}

#[test]
fn what_we_sign_we_accept() {
    for key in keys() {
        for path in ["/", "/a%20b+c/%C3%A4//x.", "/~%7E%25"] {
            let query = sign_secure_link(&key, path, END, client()).unwrap();
            let asked = Asked::new(&format!("http://h{path}?x=1&{query}"));
            let granted = judge(&asked, at(END)).unwrap().unwrap();
            assert_eq!(granted.key_id, key.id, "{path}");
        }
    }
}

#[test]
fn a_url_that_differs_in_a_byte_that_is_covered_is_refused() {
    let path = "/films/a%20b.mp4";
    let query = sign_secure_link(&keys()[1], path, END, client()).unwrap();
    let url = format!("http://h{path}?{query}");
    let mut refused = 0;
    for mutated in mutations(&url) {
        let asked = Asked::new(&mutated);
        let same_path = asked.view().request.path == path;
        let items = query.split('&').all(|item| mutated.contains(item));
        let granted = matches!(judge(&asked, at(END)), Ok(Some(_)));
        assert!(!granted || same_path && items, "{mutated}");
        refused += usize::from(!granted);
    }
    assert!(refused > 150, "only {refused} were refused");
}

#[test]
fn an_explanation_shows_everything_but_the_secret() {
    let asked = Asked::new("http://h/a%20b?md5=x&expires=7");
    let explained = explain(&asked.view(), &keys()[0]).unwrap().unwrap();
    assert_eq!(explained.signed, "7/a b127.0.0.1 (secret)");
    let expected = keys()[0].hash(&Values {
        uri: b"/a b",
        expires: "7",
        client: client(),
    });
    let expected = URL_SAFE_NO_PAD.encode(expected);
    assert!(explained.notes.contains(&("MD5 expected", expected)));
}
