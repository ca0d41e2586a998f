//! What each scheme of signing costs on a hit, keys and all that they cache at hand.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use criterion::Criterion;
use http::HeaderMap;

use tidegate::secret::Secret;
use tidegate::signing::{
    Accept, CloudFrontKey, Expression, JwkSet, JwtKeys, JwtSigner, Key, KeyKind, Methods,
    PublicKey, RequestView, Rules, SecureLinkKey, SignedRequest, TokenHash, TokenKey, TokenSpec,
    UriContainer, UriSigningKeys, Verifier, sign_jwt, sign_secure_link, sign_token, uri_container,
};

const PATH: &str = "/films/42/segment-0017.m4s";
const END: u64 = 1_700_000_000;
const SECRET: &[u8] = b"more than thirty-two bytes of secret";

/// `src/signing/cloudfront/tests.rs` says how these were made.
const RSA: &str = "\
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
const P256: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqpFhUOHl+in82NuLwiB0lxYAuFgO
l1TPFpH512VuG8H1ij7wD9UThNqWcBVnA8fU7rV0x9hoKjLpeZIABqZwTQ==
-----END PUBLIC KEY-----
";
const URL: (&str, &str) = ("/films/a%20b.mp4", "size=1&x");
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
const P256_SHA256: &str = "MEQCIDN91JTvE0P37Rsrh3u7wrxhEt1bzfk3ru7HYBjT-\
     PxmAiA5SiAYVgSR6EADdQ4Jpm-c2A-qv8Dm3ku2R7sRcv-O3A__";

struct Case {
    name: &'static str,
    key: KeyKind,
    scheme: &'static str,
    path: String,
    query: String,
}

fn cases() -> Vec<Case> {
    let token_key = TokenKey::new("k", "hdnts", TokenHash::Sha256, SECRET);
    let spec = TokenSpec {
        expires: END,
        not_before: None,
        acl: Some("/films/42/*"),
        ip: None,
    };
    let token = sign_token(&token_key, PATH, &spec);
    let link_key = SecureLinkKey {
        id: "k".into(),
        parameter: "md5".into(),
        expires_parameter: "expires".into(),
        expression: Expression::parse("$secure_link_expires$uri $secret").expect("it is complete"),
        secret: Secret::new("secret"),
    };
    let nobody = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let link = sign_secure_link(&link_key, PATH, END, nobody).expect("the path can be signed");
    let plain = |name, key, query| Case {
        name,
        key,
        scheme: "https",
        path: PATH.to_owned(),
        query,
    };
    let mut cases = vec![
        plain(
            "signature: token",
            KeyKind::Token(token_key),
            format!("hdnts={token}"),
        ),
        plain(
            "signature: secure link",
            KeyKind::SecureLink(link_key),
            link,
        ),
        plain(
            "signature: JWT, HS256",
            KeyKind::Jwt(jwt_keys()),
            format!("token={}", jwt("path", PATH)),
        ),
    ];
    let container = uri_container(UriContainer::Regex("https://media[.]example/films/42/.*"));
    let keys = UriSigningKeys::new("k", jwks(), "URISigningPackage", None, None);
    let token = jwt("cdniuc", &container);
    let query = format!("URISigningPackage={token}");
    cases.push(plain(
        "signature: URI signing, HS256",
        KeyKind::UriSigning(keys),
        query,
    ));
    for (name, pem, signature, hash) in [
        ("signature: CloudFront, RSA with SHA-1", RSA, RSA_SHA1, ""),
        (
            "signature: CloudFront, RSA with SHA-256",
            RSA,
            RSA_SHA256,
            "&Hash-Algorithm=SHA256",
        ),
        (
            "signature: CloudFront, ECDSA with SHA-256",
            P256,
            P256_SHA256,
            "&Hash-Algorithm=SHA256",
        ),
    ] {
        let key = PublicKey::from_pem(pem.as_bytes()).expect("the key is well-formed");
        let (path, query) = URL;
        cases.push(Case {
            name,
            key: KeyKind::CloudFront(CloudFrontKey {
                id: "k".into(),
                key,
            }),
            scheme: "https",
            path: path.to_owned(),
            query: format!("{query}&Expires={END}&Signature={signature}&Key-Pair-Id=k{hash}"),
        });
    }
    cases
}

fn jwks() -> JwkSet {
    // SECRET in base64url.
    let secret = "bW9yZSB0aGFuIHRoaXJ0eS10d28gYnl0ZXMgb2Ygc2VjcmV0";
    let json = format!(r#"{{"keys":[{{"kty":"oct","k":"{secret}"}}]}}"#);
    JwkSet::parse(json.as_bytes()).expect("the set is well-formed")
}

fn jwt_keys() -> JwtKeys {
    JwtKeys {
        id: "k".into(),
        keys: jwks(),
        parameter: "token".into(),
        issuer: None,
        audience: None,
        path_claim: Some("path".to_owned()),
    }
}

fn jwt(claim: &str, value: &str) -> String {
    let claims = serde_json::json!({ "exp": END, claim: value });
    let claims = claims.as_object().expect("it is an object");
    sign_jwt(claims, None, &JwtSigner::Secret(SECRET)).expect("a secret needs no random numbers")
}

pub fn credentials(criterion: &mut Criterion) {
    let headers = HeaderMap::new();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(END - 1);
    let rules = Rules {
        region: None,
        clock_leeway: Duration::ZERO,
        domain: None,
    };
    for case in cases() {
        let key = Key {
            id: "k".to_owned(),
            methods: Methods::default(),
            kind: case.key,
        };
        let verifier = Verifier::new(&[key], &Accept::default());
        let view = RequestView {
            request: SignedRequest {
                method: "GET",
                path: &case.path,
                query: &case.query,
                host: "media.example",
                headers: &headers,
            },
            scheme: case.scheme,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            prefix_length: 1,
        };
        criterion.bench_function(case.name, |bencher| {
            bencher.iter(|| verifier.verify(&view, &rules, now).expect("it is genuine"));
        });
    }
}
