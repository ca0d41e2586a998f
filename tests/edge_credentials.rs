//! Signed URLs, tokens and cookies that only the edge knows: who may come in, what the origin and the cache see
//! of them, and how keys are exchanged.

mod harness;

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use harness::{AnsweringOrigin, Client, Edge, Origin, Setup, within};
use tempfile::TempDir;
use tidegate::signing::{
    CloudFrontSpec, JwtSigner, PrivateKey, TokenHash, TokenKey, TokenSpec, sign_cookies, sign_jwt,
    sign_token, sign_url,
};

const HOST: &str = "media.example";
const JWT_SECRET: &[u8] = b"more than thirty-two bytes of secret";

/// The routes of these tests: all keys, but tokens only under `/films/`; tokens may upload there.
const ROUTES: &str =
    "- { name: films, path: /films/, origin: store, access: signed, signing: { schemes: [token] } }
    - { name: public, path: /public/, origin: store, access: public }
    - { name: all, path: /, origin: store, access: signed }";

struct Keys {
    folder: TempDir,
    cloudfront: PrivateKey,
}

impl Keys {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = rcgen::KeyPair::generate().unwrap();
        fs::write(folder.path().join("cf.pem"), pair.public_key_pem()).unwrap();
        write_secret(folder.path(), "token.key", "of-this-year");
        // JWT_SECRET in base64url.
        let secret = "bW9yZSB0aGFuIHRoaXJ0eS10d28gYnl0ZXMgb2Ygc2VjcmV0";
        let jwks = format!(r#"{{"keys":[{{"kty":"oct","kid":"k","k":"{secret}"}}]}}"#);
        write_secret(folder.path(), "jwks.json", &jwks);
        Keys {
            folder,
            cloudfront: PrivateKey::from_pem(pair.serialize_pem().as_bytes()).unwrap(),
        }
    }

    async fn edge(&self, origin: SocketAddr) -> Edge {
        let folder = self.folder.path().display();
        let keys = format!(
            "signing: {{ keys: [
                {{ id: CF, scheme: cloudfront, public_key_file: '{folder}/cf.pem' }},
                {{ id: t, scheme: token, secret_file: '{folder}/token.key', methods: [GET, HEAD, PUT] }},
                {{ id: j, scheme: jwt, jwks_file: '{folder}/jwks.json' }},
                {{ id: u, scheme: uri_signing, jwks_file: '{folder}/jwks.json', methods: [GET, HEAD, PUT] }} ] }}"
        );
        let setup = Setup {
            routes: ROUTES,
            edge: keys.leak(),
            ..Setup::of([origin])
        };
        setup.start().await
    }

    fn spec(&self, resource: Option<&'static str>, lasts: u64) -> CloudFrontSpec<'static> {
        CloudFrontSpec {
            key_pair_id: "CF",
            expires: seconds_from_now(lasts),
            resource,
            not_before: None,
            source_ip: None,
            policy: None,
        }
    }

    fn url(&self, target: &str, lasts: u64) -> String {
        let url = format!("http://{HOST}{target}");
        let signed = sign_url(&url, &self.spec(None, lasts), &self.cloudfront).unwrap();
        signed[format!("http://{HOST}").len()..].to_owned()
    }

    fn cookies(&self, resource: &'static str) -> String {
        let spec = self.spec(Some(resource), 60);
        let cookies = sign_cookies("", &spec, &self.cloudfront).unwrap();
        let pairs: Vec<_> = cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }
}

fn write_secret(folder: &Path, name: &str, contents: &str) {
    let file = folder.join(name);
    fs::write(&file, contents).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
}

fn seconds_from_now(seconds: u64) -> u64 {
    let now = SystemTime::now() + Duration::from_secs(seconds);
    now.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn token(secret: &str, acl: &str, lasts: u64) -> String {
    let key = TokenKey::new("t", "hdnts", TokenHash::Sha256, secret.as_bytes());
    let spec = TokenSpec {
        expires: seconds_from_now(lasts),
        not_before: None,
        acl: Some(acl),
        ip: None,
    };
    sign_token(&key, "", &spec)
}

fn jwt(path: &str) -> String {
    let claims = serde_json::json!({ "exp": seconds_from_now(60), "path": path });
    let claims = claims.as_object().unwrap();
    sign_jwt(claims, Some("k"), &JwtSigner::Secret(JWT_SECRET)).unwrap()
}

async fn origin() -> AnsweringOrigin {
    Origin::start().await.answering(|_| {
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\n12345".to_vec()
    })
}

#[tokio::test]
async fn one_stored_response_serves_every_credential_and_the_origin_sees_none() {
    let (origin, keys) = (origin().await, Keys::new());
    let edge = keys.edge(origin.address).await;
    let mut client = edge.client().await;
    let cookies = keys.cookies("http://media.example/a*");
    let ways = [
        (keys.url("/a?size=1", 60), String::new()),
        (keys.url("/a?size=1", 70), String::new()),
        ("/a?size=1".to_owned(), format!("Cookie: {cookies}\r\n")),
        (
            format!("/a?hdnts={}&size=1", token("of-this-year", "/*", 60)),
            String::new(),
        ),
        (
            format!("/hdnts={}/a?size=1", token("of-this-year", "/a", 60)),
            String::new(),
        ),
        (
            "/a?size=1".to_owned(),
            format!("Cookie: hdnts={}\r\n", token("of-this-year", "/a", 60)),
        ),
        (
            "/a?size=1".to_owned(),
            format!("Authorization: Bearer {}\r\n", jwt("/a")),
        ),
        (format!("/a?size=1&token={}", jwt("/?")), String::new()),
        (
            "/a?size=1".to_owned(),
            format!("Cookie: token={}\r\n", jwt("/a")),
        ),
    ];
    for (number, (target, fields)) in ways.iter().enumerate() {
        let response = client.request("GET", target, fields).await;
        assert_eq!(
            (response.status, response.text()),
            (200, "12345"),
            "{target} {fields}"
        );
        assert_eq!(
            response.is_hit(),
            number > 0,
            "{target} {fields}: {response:?}"
        );
    }
    // Whatever each of them caused was one request, with nothing in it but the object.
    let (first, rest) = (&origin.requests()[0], &origin.requests()[1..]);
    assert_eq!(rest.len(), 0);
    assert_eq!(first.target(), "/a?size=1");

    // As the first that asks, each of them leaves nothing behind either.
    for (name, fields) in [
        ("b", format!("Cookie: a=1; {}\r\n", keys.cookies("*"))),
        ("c", format!("Authorization: Bearer {}\r\n", jwt("/*"))),
    ] {
        let target = format!("/{name}");
        client.request("GET", &target, &fields).await;
        let requests = origin.requests();
        let asked = requests.last().unwrap();
        assert_eq!(asked.target(), target);
        assert_eq!(asked.field("authorization"), None);
        assert_eq!(asked.field("cookie"), (name == "b").then_some("a=1"));
    }
    let log = edge.stop().await.access_log;
    let line = |entry: &serde_json::Value| entry.to_string();
    for mark in ["Signature", "hmac", "eyJ", "Key-Pair-Id"] {
        assert!(
            !log.iter().any(|entry| line(entry).contains(mark)),
            "{mark} is in the log"
        );
    }
}

#[tokio::test]
async fn what_is_refused_gets_one_answer_and_its_cause_is_counted() {
    let (origin, keys) = (origin().await, Keys::new());
    let edge = keys.edge(origin.address).await;
    let mut client = edge.client().await;
    client.get(&keys.url("/a", 60)).await;
    let expired = token("of-this-year", "/*", 0);
    let refused = [
        ("GET", "/a".to_owned(), String::new(), "not_signed"),
        ("GET", keys.url("/a", 0), String::new(), "expired"),
        (
            "GET",
            keys.url("/a", 60).replace("/a?", "/b?"),
            String::new(),
            "signature_mismatch",
        ),
        (
            "GET",
            keys.url("/a", 60).replace("=CF", "=DF"),
            String::new(),
            "unknown_key",
        ),
        (
            "GET",
            format!("{}&Expires=1", keys.url("/a", 60)),
            String::new(),
            "duplicate_parameter",
        ),
        (
            "GET",
            format!("/a?hdnts={expired}"),
            String::new(),
            "expired",
        ),
        (
            "GET",
            format!("/a?hdnts={}", token("of-last-year", "/*", 9)),
            String::new(),
            "signature_mismatch",
        ),
        (
            "GET",
            "/a".to_owned(),
            format!("Authorization: Bearer {}\r\n", jwt("/b")),
            "wrong_resource",
        ),
        (
            "PUT",
            "/a".to_owned(),
            format!(
                "Authorization: Bearer {}\r\nContent-Length: 0\r\n",
                jwt("/a")
            ),
            "wrong_method",
        ),
        // Under /films/ only tokens count.
        ("GET", keys.url("/films/a", 60), String::new(), "not_signed"),
    ];
    let mut bodies = Vec::new();
    for (method, target, fields, reason) in &refused {
        let before = edge.metrics().await;
        let response = client.request(method, target, fields).await;
        assert_eq!(response.status, 403, "{target} {fields}");
        let after = edge.metrics().await;
        let count = |samples: &harness::Samples| {
            samples.sum(
                "tidegate_signature_refusals_total",
                &[&format!("reason=\"{reason}\"")],
            )
        };
        assert_eq!(
            count(&after) - count(&before),
            1.0,
            "{target} {fields}: {reason}"
        );
        let (start, _) = response.text().split_once("<RequestId>").unwrap();
        bodies.push(start.to_owned());
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    assert_eq!(
        origin.count(),
        1,
        "nothing that is refused reaches the origin"
    );
    // A token for one route's keys is worth something on that route only; public needs none.
    let films = format!("/films/a?hdnts={}", token("of-this-year", "/films/*", 60));
    assert_eq!(client.get(&films).await.status, 200);
    assert_eq!(
        client
            .get("/public/a?Expires=1&Key-Pair-Id=x&hdnts=y")
            .await
            .status,
        200
    );
    let requests = origin.requests();
    let public = requests.last().unwrap();
    assert_eq!(public.target(), "/public/a?Expires=1&Key-Pair-Id=x&hdnts=y");
}

#[tokio::test]
async fn what_is_passed_on_carries_no_credential_either() {
    let (origin, keys) = (origin().await, Keys::new());
    let edge = keys.edge(origin.address).await;
    let mut client = edge.client().await;
    let whole = token("of-this-year", "/films/*", 60);
    for (target, fields, expected) in [
        (format!("/films/hdnts={whole}/a?b=1"), "", "/films/a?b=1"),
        (format!("/films/a?hdnts={whole}"), "", "/films/a"),
        (
            "/films/c".to_owned(),
            &*format!("Cookie: hdnts={whole}; k=v\r\n"),
            "/films/c",
        ),
    ] {
        let fields = format!("{fields}Content-Length: 0\r\n");
        let put = client.request("PUT", &target, &fields).await;
        assert_eq!(put.status, 200, "{target}");
        let requests = origin.requests();
        let passed = requests.last().unwrap();
        assert_eq!((passed.method(), passed.target()), ("PUT", expected));
        assert_eq!(
            passed.field("cookie"),
            fields.contains("k=v").then_some("k=v")
        );
    }
}

#[tokio::test]
async fn a_token_that_asks_for_it_is_renewed_with_every_success_for_its_client_alone() {
    let origin = Origin::start().await.answering(|request| {
        let status = match request.target() {
            "/gone" => "404 Not Found",
            "/moved" => "302 Found",
            _ => "200 OK",
        };
        format!("HTTP/1.1 {status}\r\nCache-Control: max-age=60\r\nETag: \"v\"\r\nContent-Length: 0\r\n\r\n")
            .into_bytes()
    });
    let keys = Keys::new();
    let edge = keys.edge(origin.address).await;
    let mut client = edge.client().await;
    let renewed = |renewal: serde_json::Value| {
        let mut claims = serde_json::json!({ "exp": seconds_from_now(60), "cdniuc": "regex:.*" });
        for (name, value) in renewal.as_object().unwrap() {
            claims[name] = value.clone();
        }
        sign_jwt(
            claims.as_object().unwrap(),
            Some("k"),
            &JwtSigner::Secret(JWT_SECRET),
        )
        .unwrap()
    };
    let asking = renewed(serde_json::json!({ "cdnistt": 1, "cdniets": 30 }));
    let plain = renewed(serde_json::json!({}));
    for (method, path, more, status, is_hit, is_renewed) in [
        ("GET", "/a", "", 200, false, true),
        ("GET", "/a", "", 200, true, true),
        ("HEAD", "/a", "", 200, true, true),
        ("GET", "/a", "If-None-Match: \"v\"\r\n", 304, true, true),
        ("GET", "/moved", "", 302, false, true),
        ("GET", "/gone", "", 404, false, false),
        ("PUT", "/b", "Content-Length: 0\r\n", 200, false, true),
        ("GET", "/a", "PLAIN", 200, true, false),
    ] {
        let (token, more) = if more == "PLAIN" {
            (&plain, "")
        } else {
            (&asking, more)
        };
        let target = format!("{path}?URISigningPackage={token}");
        let response = client.request(method, &target, more).await;
        let expected = (status, is_hit, is_renewed);
        let cookie = response.field("set-cookie");
        let found = (response.status, response.is_hit(), cookie.is_some());
        assert_eq!(found, expected, "{method} {path} {more}: {response:?}");
        let for_one = response
            .head
            .to_ascii_lowercase()
            .contains("\r\ncache-control: private\r\n");
        assert_eq!(for_one, is_renewed, "{response:?}");
        let Some(cookie) = cookie else { continue };
        let (pair, attributes) = cookie.split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/; Max-Age=30; HttpOnly");
        // The next request needs nothing else, and brings one more.
        let next = client
            .request("GET", "/a", &format!("Cookie: {pair}\r\n"))
            .await;
        assert_eq!((next.status, next.is_hit()), (200, true), "{next:?}");
        assert!(next.field("set-cookie").is_some(), "{next:?}");
    }
    for request in origin.requests() {
        assert_eq!(request.field("cookie"), None);
        assert!(!request.target().contains('?'), "{request:?}");
    }
}

#[tokio::test]
async fn a_token_for_the_query_goes_with_the_client_to_where_it_is_sent() {
    let origin = Origin::start().await.answering(|request| {
        let status = match request.target() {
            "/created" => "201 Created",
            "/master.m3u8" | "/upload" => "302 Found",
            _ => "200 OK",
        };
        format!(
            "HTTP/1.1 {status}\r\nCache-Control: max-age=60\r\nETag: \"v\"\r\nLocation: https://o.example{}\r\nContent-Length: 0\r\n\r\n",
            request.target()
        )
        .into_bytes()
    });
    let edge = Keys::new().edge(origin.address).await;
    let mut client = edge.client().await;
    let claims = serde_json::json!({
        "exp": seconds_from_now(60), "cdniuc": "regex:.*", "cdnistt": 2, "cdniets": 30,
    });
    let claims = claims.as_object().unwrap();
    let token = sign_jwt(claims, Some("k"), &JwtSigner::Secret(JWT_SECRET)).unwrap();
    for (method, path, more, status, is_hit, is_renewed) in [
        ("GET", "/master.m3u8", "", 302, false, true),
        ("GET", "/master.m3u8", "", 302, true, true),
        ("PUT", "/upload", "Content-Length: 0\r\n", 302, false, true),
        (
            "PUT",
            "/created",
            "Content-Length: 0\r\n",
            201,
            false,
            false,
        ),
        ("GET", "/a.ts", "", 200, false, false),
    ] {
        let target = format!("{path}?URISigningPackage={token}");
        let response = client.request(method, &target, more).await;
        let (found, head) = ((response.status, response.is_hit()), &response.head);
        assert_eq!(found, (status, is_hit), "{method} {path} {more}: {head}");
        assert_eq!(response.field("set-cookie"), None);
        let fields = head.to_ascii_lowercase();
        assert_eq!(
            fields.contains("\r\ncache-control: private\r\n"),
            is_renewed,
            "{head}"
        );
        let there = format!("https://o.example{path}");
        if !is_renewed {
            assert_eq!(response.field("location"), Some(&*there), "{head}");
            continue;
        }
        assert_eq!(fields.matches("\r\nlocation:").count(), 1, "{head}");
        let location = response.field("location").unwrap();
        let (url, next) = location.split_once("?URISigningPackage=").unwrap();
        assert_eq!(url, there);
        assert_ne!(next, token);
        let next = client.get(&format!("/next?URISigningPackage={next}")).await;
        assert_eq!(next.status, 200, "{next:?}");
    }
}

#[tokio::test]
async fn what_is_left_of_a_path_without_its_token_is_no_dot_segment() {
    let origin = origin().await;
    let edge = Keys::new().edge(origin.address).await;
    let mut client = edge.client().await;
    let claims = serde_json::json!({ "exp": seconds_from_now(60), "cdniuc": "regex:.*/free/.*" });
    let claims = claims.as_object().unwrap();
    let token = sign_jwt(claims, Some("k"), &JwtSigner::Secret(JWT_SECRET)).unwrap();
    let good = client
        .get(&format!("/free/a;URISigningPackage={token}/b"))
        .await;
    assert_eq!((good.status, origin.requests().len()), (200, 1), "{good:?}");
    // With and without something genuine that lets the request in.
    for (path, more) in [
        (format!("/free/..;URISigningPackage={token}/secret"), ""),
        (format!("/free/.;URISigningPackage={token}/secret"), ""),
        (format!("/free/;URISigningPackage={token}%2e%2E/secret"), ""),
        (format!("/free/.;URISigningPackage={token}%2e/secret"), ""),
        (
            "/free/;URISigningPackage=x%2e%2e/secret".to_owned(),
            &*token,
        ),
    ] {
        let cookie = format!("Cookie: URISigningPackage={more}\r\n");
        let mut client = edge.client().await;
        let refused = client
            .request("GET", &path, if more.is_empty() { "" } else { &cookie })
            .await;
        assert!(
            refused.status == 400 || refused.status == 403,
            "{path}: {refused:?}"
        );
        assert_eq!(origin.requests().len(), 1, "{path}");
    }
}

#[tokio::test]
async fn an_end_that_comes_while_a_body_is_sent_does_not_cut_it() {
    let (mut origin, keys) = (Origin::start().await, Keys::new());
    let edge = keys.edge(origin.address).await;
    let target = format!("/a?hdnts={}", token("of-this-year", "/*", 2));
    let mut client = edge.client().await;
    client
        .send(format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
        .await;
    let mut exchange = origin.next().await;
    exchange
        .send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\n12345")
        .await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!(client.read(5).await, b"12345");
    // Others are refused as soon as it has expired.
    let mut other = edge.client().await;
    let request = format!("{target}&x=1");
    within("the token expires", async {
        while other
            .request("HEAD", &request, "Cache-Control: only-if-cached\r\n")
            .await
            .status
            != 403
        {}
    })
    .await;
    exchange.send("67890").await;
    assert_eq!(client.read(5).await, b"67890");
}

async fn ask_to_reload(edge: &Edge) -> (u16, String) {
    let mut admin = Client::connect(edge.admin).await;
    let request = "POST /signing/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    admin.send(request).await;
    let response = admin.response("PUT").await;
    (response.status, response.text().trim_end().to_owned())
}

#[tokio::test]
async fn keys_are_exchanged_while_the_edge_runs_or_stay_as_they_are() {
    let (origin, keys) = (origin().await, Keys::new());
    let mut edge = keys.edge(origin.address).await;
    let mut client = edge.client().await;
    let with = |secret: &str| format!("/a?hdnts={}", token(secret, "/*", 60));
    let (old, new) = (with("of-this-year"), with("of-next-year"));
    assert_eq!(client.get(&old).await.status, 200);
    assert_eq!(client.get(&new).await.status, 403);

    // A second key beside the first: both count.
    let folder = keys.folder.path();
    write_secret(folder, "next.key", "of-next-year");
    let text = fs::read_to_string(&edge.config).unwrap();
    let next = format!(
        "{{ id: n, scheme: token, secret_file: '{}/next.key' }},",
        folder.display()
    );
    let both = text.replace("keys: [\n", &format!("keys: [\n{next}\n"));
    assert_ne!(both, text);
    fs::write(&edge.config, &both).unwrap();
    assert_eq!(
        ask_to_reload(&edge).await,
        (200, r#"{"keys":5}"#.to_owned())
    );
    assert_eq!(client.get(&old).await.status, 200);
    assert_eq!(client.get(&new).await.status, 200);

    // What is not sound changes nothing, and is told with the key and without the secret.
    write_secret(folder, "next.key", "two\nlines");
    let (status, problems) = ask_to_reload(&edge).await;
    assert_eq!(status, 422, "{problems}");
    assert!(
        problems.contains("edge.signing.keys[0].secret_file: "),
        "{problems}"
    );
    assert!(!problems.contains("lines\""), "{problems}");
    assert_eq!(client.get(&new).await.status, 200);

    // SIGHUP does the same: the old key is gone.
    write_secret(folder, "next.key", "of-next-year");
    write_secret(folder, "token.key", "of-the-year-after");
    edge.hang_up();
    edge.logged("the signing keys have been read again").await;
    edge.logged("the signing keys have been read again").await;
    assert_eq!(client.get(&old).await.status, 403);
    assert_eq!(client.get(&new).await.status, 200);
    assert_eq!(origin.count(), 1, "one stored response through all of it");
}
