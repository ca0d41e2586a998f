//! Forms that browsers post to the store, buckets named in hosts, and URLs signed with Version 2.

mod origin_support;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use origin_support::{
    DOMAIN, KEY_ID, REGION, Response, SECRET, Server, blob_files_come_to, element, folder, pattern,
};
use tidegate::clock::SystemClock;
use tidegate::secret::Secret;
use tidegate::signing::{FormSigner, PresignSpec, PresignV2Spec, presign, presign_v2};

const BOUNDARY: &str = "--form-boundary";

/// A form: its fields, then the file.
#[derive(Clone)]
struct Form {
    fields: Vec<(String, String)>,
    filename: &'static str,
    file: Vec<u8>,
    end: &'static str,
}

impl Form {
    /// Signed for ten minutes: conditions in JSON, without those about the signature.
    fn signed(conditions: &str, fields: &[(&str, &str)], file: &[u8]) -> Form {
        let expiration = "2099-01-01T00:00:00Z";
        Form::signed_until(expiration, conditions, fields, file)
    }

    fn signed_until(
        expiration: &str,
        conditions: &str,
        fields: &[(&str, &str)],
        file: &[u8],
    ) -> Form {
        let signer = FormSigner {
            access_key_id: KEY_ID,
            region: REGION,
            now: SystemClock::shared().wall(),
        };
        let who = signer.fields().unwrap();
        let about_who = who
            .iter()
            .map(|(name, value)| format!("{{\"{name}\":\"{value}\"}}"));
        let all: Vec<String> = about_who.chain([conditions.to_owned()]).collect();
        let policy = format!(
            "{{\"expiration\":\"{expiration}\",\"conditions\":[{}]}}",
            all.join(",")
        );
        let policy = STANDARD.encode(policy);
        let signature = signer.sign(&policy, &Secret::new(SECRET)).unwrap();
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let mut form = Form {
            fields: fields.iter().copied().map(owned).collect(),
            filename: "C:\\films\\a b.mp4",
            file: file.to_vec(),
            end: "--\r\n",
        };
        form.fields.push(("policy".to_owned(), policy));
        let signature = who.into_iter().chain([signature]);
        form.fields
            .extend(signature.map(|(name, value)| (name.to_owned(), value)));
        form
    }

    fn with(mut self, name: &str, value: &str) -> Form {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Form {
        self.fields.retain(|(known, _)| known != name);
        self
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in &self.fields {
            body.extend_from_slice(
                format!(
                    "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
                )
                .as_bytes(),
            );
        }
        body.extend_from_slice(
            format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\n\
                 Content-Type: video/mp4\r\n\r\n",
                self.filename
            )
            .as_bytes(),
        );
        body.extend_from_slice(&self.file);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}{}", self.end).as_bytes());
        body
    }

    fn post(&self, server: &Server, target: &str) -> Response {
        let body = self.body();
        let host = server.address;
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\
             content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n",
            body.len()
        );
        let mut client = server.client();
        client.send(&head, &body);
        client.response("POST")
    }
}

#[test]
fn a_form_is_stored_with_its_fields_and_answered_as_it_asked() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let file = pattern(1_000_000);
    let conditions = r#"{"bucket":"films"},["starts-with","$key","user/"],["starts-with","$Content-Type","video/"],
        {"x-amz-meta-who":"me"},["starts-with","$success_action_status",""],["starts-with","$success_action_redirect",""],
        ["content-length-range",1,1000000]"#;
    let fields = [
        ("key", "user/${filename}"),
        ("Content-Type", "video/mp4"),
        ("x-amz-meta-who", "me"),
        ("x-ignore-submit", "Upload"),
    ];
    let form = Form::signed(conditions, &fields, &file);
    let path = "/films/user/a%20b.mp4";
    let url = format!("http://{}{path}", server.address);
    let default = form.post(&server, "/films");
    assert_eq!(
        (default.status, default.field("location")),
        (204, url.as_str()),
        "{default:?}"
    );
    let object = server.get(path);
    assert!(object.body == file);
    assert_eq!(object.field("content-type"), "video/mp4");
    assert_eq!(object.field("x-amz-meta-who"), "me");
    assert_eq!(object.field("etag"), default.field("etag"));

    for (asked, status) in [("200", 200), ("201", 201), ("204", 204), ("500", 204)] {
        let answer = form
            .clone()
            .with("success_action_status", asked)
            .post(&server, "/films/");
        assert_eq!(answer.status, status, "{asked}");
        if status == 201 {
            let text = answer.text();
            assert_eq!(element(&text, "Location").as_deref(), Some(url.as_str()));
            assert_eq!(element(&text, "Bucket").as_deref(), Some("films"));
            assert_eq!(element(&text, "Key").as_deref(), Some("user/a b.mp4"));
            assert!(element(&text, "ETag").is_some());
        }
    }
    let redirected = form
        .clone()
        .with("success_action_redirect", "https://shop.example/done?a=1")
        .with("success_action_status", "201")
        .post(&server, "/films");
    assert_eq!(redirected.status, 303);
    let location = redirected.field("location");
    let expected = "https://shop.example/done?a=1&bucket=films&key=user%2Fa+b.mp4&etag=%22";
    assert!(location.starts_with(expected), "{location}");
    assert_eq!(redirected.field("content-location"), path);
    let nowhere = form
        .with("success_action_redirect", "javascript:alert(1)")
        .post(&server, "/films");
    assert_eq!(nowhere.status, 204);
    server.stop();
}

#[test]
fn a_form_that_its_policy_does_not_allow_leaves_nothing_behind() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    server.put("/other", b"");
    let conditions =
        r#"{"bucket":"films"},["starts-with","$key","user/"],["content-length-range",4,300000]"#;
    let file = pattern(300_000);
    let good = Form::signed(conditions, &[("key", "user/a")], &file);
    let sized = |length| Form {
        file: pattern(length),
        ..good.clone()
    };
    let expired = Form::signed_until(
        "2020-01-01T00:00:00Z",
        conditions,
        &[("key", "user/a")],
        &file,
    );
    let named = Form {
        filename: "../../a",
        ..good.clone().with("key", "user/../${filename}")
    };
    let cut = Form {
        end: "",
        ..good.clone()
    };
    for (form, code, status) in [
        (good.clone().with("key", "a"), "AccessDenied", 403),
        (good.clone().without("key"), "AccessDenied", 403),
        (good.clone().with("acl", "private"), "AccessDenied", 403),
        (good.clone().with("x-amz-meta-a", "1"), "AccessDenied", 403),
        (expired, "AccessDenied", 403),
        (good.clone().without("policy"), "AccessDenied", 403),
        (
            good.clone().with("policy", "eyJ9"),
            "SignatureDoesNotMatch",
            403,
        ),
        (
            good.clone().with("x-amz-signature", &"0".repeat(64)),
            "SignatureDoesNotMatch",
            403,
        ),
        (
            good.clone().without("x-amz-signature"),
            "AuthorizationHeaderMalformed",
            400,
        ),
        (sized(3), "EntityTooSmall", 400),
        (sized(300_001), "EntityTooLarge", 400),
        (
            good.clone().with("x-ignore-much", &"x".repeat(20 * 1024)),
            "MaxPostPreDataLengthExceededError",
            400,
        ),
        (
            Form::signed("\"what\"", &[("key", "k")], &file),
            "InvalidPolicyDocument",
            400,
        ),
        (
            Form::signed(
                r#"{"key":"k"},{"acl":"public-reed"}"#,
                &[("key", "k"), ("acl", "public-reed")],
                &file,
            ),
            "InvalidArgument",
            400,
        ),
        (
            Form::signed(
                r#"{"key":"k"},{"tagging":"x"}"#,
                &[("key", "k"), ("tagging", "x")],
                &file,
            ),
            "MalformedXML",
            400,
        ),
        (
            Form::signed(
                r#"{"key":"k"},{"content-md5":"AAAAAAAAAAAAAAAAAAAAAA=="}"#,
                &[("key", "k"), ("Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA==")],
                &file,
            ),
            "BadDigest",
            400,
        ),
    ] {
        let answer = form.post(&server, "/films");
        assert_eq!(
            (answer.code().as_str(), answer.status),
            (code, status),
            "{}",
            answer.text()
        );
    }
    let mut repeated = good.clone();
    repeated
        .fields
        .push(("Key".to_owned(), "user/b".to_owned()));
    assert_eq!(repeated.post(&server, "/films").code(), "InvalidArgument");
    assert_eq!(good.post(&server, "/other").code(), "AccessDenied");
    assert_eq!(good.post(&server, "/none").code(), "AccessDenied");
    assert_eq!(good.post(&server, "/films/user/a").status, 405);
    let mut client = server.client();
    let body = cut.body();
    let head = format!(
        "POST /films HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\
         content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n",
        body.len()
    );
    // One byte of the last delimiter is missing.
    client.send(
        &head.replace(&body.len().to_string(), &(body.len() - 1).to_string()),
        &body[..body.len() - 1],
    );
    assert_eq!(client.response("POST").code(), "IncompleteBody");
    blob_files_come_to(data.path(), 0);

    // On both sides of the bounds, and a name that climbs nowhere.
    for length in [4, 300_000] {
        assert_eq!(sized(length).post(&server, "/films").status, 204);
    }
    assert_eq!(named.post(&server, "/films").status, 204);
    assert_eq!(server.get("/films/user/%2E%2E/a").body, file);
    server.stop();
}

#[test]
fn hosts_name_buckets_under_the_domain_of_the_store() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    server.put("/films/a%20b", b"by path");
    let port = server.address.port();
    let host = format!("films.{DOMAIN}:{port}");
    let ask = |method: &str, target: &str, host: &str, body: &[u8]| {
        let mut client = server.client();
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n"
        );
        client.send(&head, body);
        client.response(method)
    };
    let presigned = |method: &str, path: &str| {
        let spec = PresignSpec {
            method,
            host: &host,
            path,
            query: &[],
            access_key_id: KEY_ID,
            region: REGION,
            expires: Duration::from_secs(60),
        };
        presign(&spec, &Secret::new(SECRET), SystemClock::shared().wall()).unwrap()
    };
    let get = presigned("GET", "/a b");
    assert_eq!(ask("GET", &get, &host, b"").body, b"by path");
    let elsewhere = ask("GET", &get, &server.address.to_string(), b"");
    assert_eq!(elsewhere.code(), "SignatureDoesNotMatch");
    let put = presigned("PUT", "/films/c");
    assert_eq!(ask("PUT", &put, &host, b"by host").status, 200);
    assert_eq!(server.get("/films/films/c").body, b"by host");
    server.stop();
}

#[test]
fn version_2_is_answered_for_keys_that_allow_it() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let host = server.address.to_string();
    let url = |method: &str, query: &[(&str, &str)], headers: &HeaderMap| {
        let query: Vec<_> = query
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let spec = PresignV2Spec {
            method,
            host: &host,
            domain: Some(DOMAIN),
            path: "/films/a b",
            query: &query,
            headers,
            access_key_id: KEY_ID,
            expires: Duration::from_secs(60),
        };
        presign_v2(&spec, &Secret::new(SECRET), SystemClock::shared().wall()).unwrap()
    };
    let ask = |method: &str, target: &str, fields: &str, body: &[u8]| {
        let mut client = server.client();
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\n{fields}content-length: {length}\r\n\r\n"
        );
        client.send(&head, body);
        client.response(method)
    };
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "text/plain".parse().unwrap());
    headers.insert("x-amz-meta-who", "me".parse().unwrap());
    let put = url("PUT", &[], &headers);
    let fields = "content-type: text/plain\r\nx-amz-meta-who: me\r\n";
    assert_eq!(
        ask(
            "PUT",
            &put,
            "content-type: text/html\r\nx-amz-meta-who: me\r\n",
            b"x"
        )
        .code(),
        "SignatureDoesNotMatch"
    );
    assert_eq!(ask("PUT", &put, fields, b"x").status, 200);
    let none = HeaderMap::new();
    let get = ask(
        "GET",
        &url("GET", &[("response-content-type", "a/b;c=d e")], &none),
        "",
        b"",
    );
    assert_eq!(
        (get.body.as_slice(), get.field("content-type")),
        (&b"x"[..], "a/b;c=d e")
    );
    assert_eq!(get.field("x-amz-meta-who"), "me");
    let listing = url("GET", &[], &none) + "&list-type=2";
    assert_eq!(ask("GET", &listing, "", b"").code(), "AccessDenied");
    server.stop();
}
