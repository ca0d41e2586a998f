//! Uploads: what a client promises about its bytes is compared before anything becomes visible.

mod origin_support;

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use origin_support::{Call, REGION, SECRET, Server, blob_files_come_to, folder, pattern};

const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

#[test]
fn an_upload_that_breaks_a_promise_leaves_nothing_behind() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let body = pattern(300_000);
    let zeros = |bytes| STANDARD.encode(vec![0; bytes]);
    let wrong_sha256 = "0".repeat(64);
    let put = || Call::new("PUT", "/films/a").body(&body);
    let cases = [
        (put().field("content-md5", &zeros(16)), "BadDigest"),
        (put().field("content-md5", "short"), "InvalidDigest"),
        (put().field("x-amz-checksum-crc32", &zeros(4)), "BadDigest"),
        (put().field("x-amz-checksum-crc32c", &zeros(4)), "BadDigest"),
        (
            put().field("x-amz-checksum-crc64nvme", &zeros(8)),
            "BadDigest",
        ),
        (put().field("x-amz-checksum-sha1", &zeros(20)), "BadDigest"),
        (
            put().field("x-amz-checksum-sha256", &zeros(32)),
            "BadDigest",
        ),
        (
            put().field("x-amz-checksum-sha256", &zeros(31)),
            "InvalidDigest",
        ),
        (
            put()
                .field("x-amz-checksum-crc32", &zeros(4))
                .field("x-amz-checksum-sha1", &zeros(20)),
            "InvalidRequest",
        ),
        (
            put().field("x-amz-sdk-checksum-algorithm", "CRC32"),
            "InvalidRequest",
        ),
        (
            put().field("x-amz-trailer", "x-amz-checksum-crc32"),
            "InvalidRequest",
        ),
        (put().payload(&wrong_sha256), "XAmzContentSHA256Mismatch"),
    ];
    for (call, code) in cases {
        let fields = call.fields.clone();
        let answer = server.call(call);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, code),
            "{fields:?}"
        );
        assert_eq!(server.get("/films/a").code(), "NoSuchKey", "{fields:?}");
        blob_files_come_to(data.path(), 0);
    }
    server.stop();
}

#[test]
fn an_upload_that_keeps_its_promises_is_stored_with_its_checksum() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let body = pattern(300_000);
    let sha256 = digest::digest(&digest::SHA256, &body);
    let call = Call::new("PUT", "/films/a").body(&body);
    let put = server.call(
        call.payload(&hex::encode(sha256.as_ref()))
            .field("x-amz-checksum-sha256", &STANDARD.encode(sha256.as_ref())),
    );
    assert_eq!(put.status, 200, "{}", put.text());
    let ask = || Call::new("GET", "/films/a").field("x-amz-checksum-mode", "ENABLED");
    let get = server.call(ask());
    assert_eq!(
        get.field("x-amz-checksum-sha256"),
        STANDARD.encode(sha256.as_ref())
    );
    assert_eq!(get.field("x-amz-checksum-type"), "FULL_OBJECT");
    let part = server.call(ask().field("range", "bytes=0-1"));
    assert_eq!(
        part.field("x-amz-checksum-sha256"),
        "",
        "it would not fit a part"
    );
    // Without one S3 computes CRC64NVME.
    let plain = server.put("/films/b", b"123456789");
    assert_eq!(plain.field("x-amz-checksum-crc64nvme"), "rosUhgp5mIg=");
    server.stop();
}

#[test]
fn an_upload_without_length_needs_a_chunked_transfer_coding() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let mut call = Call::new("PUT", "/films/a");
    call.length = None;
    let missing = server.call(call.clone());
    assert_eq!(
        (missing.status, missing.code().as_str()),
        (411, "MissingContentLength")
    );
    let mut call = call.field("transfer-encoding", "chunked");
    call.body = b"5\r\nhello\r\n3\r\n, x\r\n0\r\n\r\n";
    assert_eq!(server.call(call.clone()).status, 200);
    assert_eq!(server.get("/films/a").body, b"hello, x");
    call.target = "/films/torn";
    call.body = b"5\r\nhel";
    let mut client = server.client();
    client.send(&call.head(server.address), call.body);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    if let Some((status, _)) = client.head() {
        assert_eq!(status, 400);
    }
    assert_eq!(server.get("/films/torn").status, 404);
    server.stop();
}

#[test]
fn a_client_that_goes_away_in_mid_upload_leaves_nothing_behind() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let body = pattern(2 << 20);
    let mut call = Call::new("PUT", "/films/a").body(&body);
    call.length = Some(body.len() + 1);
    let mut client = server.client();
    client.send(&call.head(server.address), &body);
    client.stream.shutdown(std::net::Shutdown::Both).unwrap();
    // Stopping waits for the connection, so the upload has failed by then.
    server.stop();
    blob_files_come_to(data.path(), 0);
    let server = Server::start(data.path());
    assert_eq!(server.get("/films/a").status, 404);
    server.stop();
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let data = folder();
    let server = Server::start(data.path());
    let body = pattern(900_000);
    for _ in 0..5 {
        let mut client = server.client();
        let call = Call::new("PUT", "/nowhere/a").body(&body);
        client.send(&call.head(server.address), &body);
        assert_eq!(client.response("PUT").code(), "NoSuchBucket");
        // All of it was read, so the connection serves on.
        client.send(&Call::new("GET", "/").head(server.address), b"");
        assert_eq!(client.response("GET").status, 200);
    }
    server.stop();
}

/// Frames `body` the way SDKs do, with signatures when the payload is signed.
struct Frames {
    key: hmac::Key,
    timestamp: String,
    scope: String,
    previous: String,
    out: Vec<u8>,
}

impl Frames {
    /// Takes the seed from a signed request head.
    fn new(head: &str) -> Frames {
        let field = |name: &str| {
            let line = head.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..].trim().to_owned()
        };
        let timestamp = field("x-amz-date:");
        let authorization = field("authorization:");
        let (_, previous) = authorization.split_once("Signature=").unwrap();
        let date = &timestamp[..8];
        let mut key = format!("AWS4{SECRET}").into_bytes();
        for part in [date, REGION, "s3", "aws4_request"] {
            let hmac_key = hmac::Key::new(hmac::HMAC_SHA256, &key);
            key = hmac::sign(&hmac_key, part.as_bytes()).as_ref().to_vec();
        }
        Frames {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            scope: format!("{date}/{REGION}/s3/aws4_request"),
            previous: previous.to_owned(),
            timestamp,
            out: Vec::new(),
        }
    }

    fn sign(&mut self, what: &str, middle: &str, bytes: &[u8]) -> String {
        let text = format!(
            "{what}\n{}\n{}\n{}\n{middle}{}",
            self.timestamp,
            self.scope,
            self.previous,
            hex::encode(digest::digest(&digest::SHA256, bytes).as_ref())
        );
        self.previous = hex::encode(hmac::sign(&self.key, text.as_bytes()).as_ref());
        self.previous.clone()
    }

    fn chunk(&mut self, bytes: &[u8], signed: bool) {
        let mut line = format!("{:x}", bytes.len());
        if signed {
            let empty = hex::encode(digest::digest(&digest::SHA256, b"").as_ref());
            let signature = self.sign("AWS4-HMAC-SHA256-PAYLOAD", &format!("{empty}\n"), bytes);
            line.push_str(&format!(";chunk-signature={signature}"));
        }
        self.out.extend_from_slice(line.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(bytes);
        if !bytes.is_empty() {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn trailer(&mut self, field: &str, signed: bool) {
        self.out
            .extend_from_slice(format!("{field}\r\n").as_bytes());
        if signed {
            let canonical = format!("{field}\n");
            let signature = self.sign("AWS4-HMAC-SHA256-TRAILER", "", canonical.as_bytes());
            let line = format!("x-amz-trailer-signature:{signature}\r\n");
            self.out.extend_from_slice(line.as_bytes());
        }
    }
}

/// Uploads `body` as `aws-chunked`; `spoil` may change the framed bytes on their way.
fn upload(
    server: &Server,
    payload: &str,
    body: &[u8],
    crc32: &str,
    spoil: impl FnOnce(&mut Vec<u8>),
) -> (u16, String) {
    let signed = payload.starts_with("STREAMING-AWS4");
    let trailer = payload.ends_with("-TRAILER");
    let mut call = Call::new("PUT", "/films/a")
        .payload(payload)
        .field("content-encoding", "aws-chunked")
        .field("x-amz-decoded-content-length", &body.len().to_string());
    if trailer {
        call = call.field("x-amz-trailer", "x-amz-checksum-crc32");
    }
    // Content-Length is not signed, so the seed can be had before the framed length is known.
    call.length = None;
    let head = call.head(server.address);
    let mut frames = Frames::new(&head);
    for chunk in body.chunks(100_000) {
        frames.chunk(chunk, signed);
    }
    frames.chunk(b"", signed);
    if trailer {
        frames.trailer(&format!("x-amz-checksum-crc32:{crc32}"), signed);
    }
    frames.out.extend_from_slice(b"\r\n");
    let mut framed = frames.out;
    spoil(&mut framed);
    let head =
        head.trim_end().to_owned() + &format!("\r\ncontent-length: {}\r\n\r\n", framed.len());
    let mut client = server.client();
    client.send(&head, &framed);
    let answer = client.response("PUT");
    (answer.status, answer.code())
}

fn crc32(bytes: &[u8]) -> String {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes);
    STANDARD.encode((crc as u32).to_be_bytes())
}

#[test]
fn aws_chunked_uploads_of_every_form_are_taken() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    for payload in [SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER] {
        for length in [0, 1, 100_000, 777_777] {
            let body = pattern(length);
            let answer = upload(&server, payload, &body, &crc32(&body), |_| {});
            assert_eq!(answer, (200, String::new()), "{payload} {length}");
            let get = server.get("/films/a");
            assert!(get.body == body, "{payload} {length}");
            assert_eq!(
                get.field("content-encoding"),
                "",
                "aws-chunked is not the object's"
            );
        }
    }
    server.stop();
}

#[test]
fn a_spoilt_aws_chunked_upload_is_refused_and_leaves_nothing_behind() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let body = pattern(250_000);
    let good = crc32(&body);
    let flip_data = |framed: &mut Vec<u8>| framed[120_000] ^= 1;
    let flip_signature = |framed: &mut Vec<u8>| {
        let at = framed
            .windows(16)
            .position(|w| w == b"chunk-signature=")
            .unwrap()
            + 16;
        framed[at] = if framed[at] == b'0' { b'1' } else { b'0' };
    };
    let cut = |framed: &mut Vec<u8>| framed.truncate(200_000);
    let outcomes = [
        (
            upload(&server, SIGNED, &body, "", flip_data),
            403,
            "SignatureDoesNotMatch",
        ),
        (
            upload(&server, SIGNED, &body, "", flip_signature),
            403,
            "SignatureDoesNotMatch",
        ),
        (
            upload(&server, SIGNED, &body, "", cut),
            400,
            "IncompleteBody",
        ),
        (
            upload(&server, SIGNED_TRAILER, &body, &good, flip_data),
            403,
            "SignatureDoesNotMatch",
        ),
        (
            upload(&server, SIGNED_TRAILER, &body, "AAAAAA==", |_| {}),
            400,
            "BadDigest",
        ),
        (
            upload(&server, SIGNED_TRAILER, &body, "AAAA", |_| {}),
            400,
            "MalformedTrailerError",
        ),
        (
            upload(&server, UNSIGNED_TRAILER, &body, "AAAAAA==", |_| {}),
            400,
            "BadDigest",
        ),
        (
            upload(&server, UNSIGNED_TRAILER, &body, &good, flip_data),
            400,
            "BadDigest",
        ),
        (
            upload(&server, UNSIGNED_TRAILER, &body, &good, cut),
            400,
            "IncompleteBody",
        ),
    ];
    for (index, ((status, code), expected_status, expected_code)) in outcomes.iter().enumerate() {
        assert_eq!(
            (*status, code.as_str()),
            (*expected_status, *expected_code),
            "case {index}"
        );
    }
    let flip_trailer_signature = |framed: &mut Vec<u8>| {
        let at = framed.len() - 5;
        framed[at] = if framed[at] == b'0' { b'1' } else { b'0' };
    };
    let answer = upload(
        &server,
        SIGNED_TRAILER,
        &body,
        &good,
        flip_trailer_signature,
    );
    assert_eq!(answer, (403, "SignatureDoesNotMatch".to_owned()));
    assert_eq!(server.get("/films/a").code(), "NoSuchKey");
    blob_files_come_to(data.path(), 0);
    server.stop();
}

/// botocore, which waits to be asked for the bytes of an empty object as well, takes the next answer on such a
/// connection for the rest of this one.
#[test]
fn a_client_that_waits_to_be_asked_for_nothing_is_not_left_on_the_connection() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let put = |body: &[u8]| {
        let call = Call::new("PUT", "/films/a").body(body);
        let mut client = server.client();
        let call = call.field("expect", "100-continue");
        client.send(&call.head(server.address), body);
        let (status, _) = client.head().unwrap();
        if status == 100 {
            return "asked".to_owned();
        }
        "answered".to_owned()
    };
    assert_eq!(
        (put(b"").as_str(), put(b"x").as_str()),
        ("answered", "asked")
    );
    let call = Call::new("PUT", "/films/a").body(b"");
    let answer = server.call(call.field("expect", "100-continue"));
    assert_eq!((answer.status, answer.field("connection")), (200, "close"));
    server.stop();
}
