//! The store as an S3 client sees it.

mod origin_support;

use std::sync::Arc;
use std::time::Duration;

use origin_support::{
    Call, Server, blob_files_come_to, config, element, folder, pattern, runtime, send,
};
use tidegate::clock::{ManualClock, SystemClock};
use tidegate::origin::blobs::PACKED_MAX_BYTES;
use tidegate::origin::disk::RealDisk;
use tidegate::origin::meta::BucketCreated;
use tidegate::origin::{OpenError, Store};

#[test]
fn an_object_comes_back_with_its_bytes_and_fields() {
    let data = folder();
    let server = Server::start(data.path());
    assert_eq!(server.put("/films", b"").status, 200);
    for length in [0, 1, 65_535, 65_536, 65_537, 1_000_000, 1_200_000] {
        let bytes = pattern(length);
        let put = server.call(
            Call::new("PUT", "/films/a%2Fb%20c")
                .body(&bytes)
                .field("content-type", "video/mp4")
                .field("cache-control", "max-age=60")
                .field("content-encoding", "gzip")
                .field("x-amz-meta-who", "me"),
        );
        assert_eq!(put.status, 200, "{}", put.text());
        let get = server.get("/films/a/b%20c");
        assert_eq!((get.status, get.complete), (200, true));
        assert!(get.body == bytes, "{length} bytes came back different");
        let etag = format!("\"{}\"", md5_hex(&bytes));
        let head = server.call(Call::new("HEAD", "/films/a/b%20c"));
        for response in [&get, &head] {
            assert_eq!(response.status, 200);
            for (name, value) in [
                ("etag", etag.as_str()),
                ("content-length", &length.to_string()),
                ("content-type", "video/mp4"),
                ("cache-control", "max-age=60"),
                ("content-encoding", "gzip"),
                ("x-amz-meta-who", "me"),
                ("accept-ranges", "bytes"),
                ("server", "Tidegate"),
            ] {
                assert_eq!(response.field(name), value, "{name}");
            }
            assert!(!response.field("x-amz-request-id").is_empty());
            assert!(!response.field("last-modified").is_empty());
            assert!(!response.field("date").is_empty());
        }
        assert!(head.body.is_empty());
        assert_eq!(put.field("etag"), etag);
    }
    // Every overwrite released the blob before it.
    blob_files_come_to(data.path(), 1);
    assert_eq!(
        server.call(Call::new("DELETE", "/films/a/b%20c")).status,
        204
    );
    assert_eq!(
        server.call(Call::new("DELETE", "/films/a/b%20c")).status,
        204
    );
    assert_eq!(server.get("/films/a/b%20c").code(), "NoSuchKey");
    blob_files_come_to(data.path(), 0);
    server.stop();
}

#[test]
fn ranges_and_preconditions_decide_the_status() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let bytes = pattern(300_000);
    let etag = server.put("/films/a", &bytes).field("etag").to_owned();
    let cases: &[(&str, &str, u16, &[u8])] = &[
        ("range", "bytes=0-0", 206, &bytes[..1]),
        ("range", "bytes=65535-65536", 206, &bytes[65_535..65_537]),
        ("range", "bytes=1000-290000", 206, &bytes[1000..290_001]),
        ("range", "bytes=-5", 206, &bytes[299_995..]),
        ("range", "bytes=299999-", 206, &bytes[299_999..]),
        ("range", "bytes=0-1,3-4", 200, &bytes),
        ("if-match", &etag, 200, &bytes),
        ("if-none-match", "\"other\"", 200, &bytes),
        ("if-none-match", &etag, 304, b""),
        (
            "if-modified-since",
            "Fri, 01 Jan 2100 00:00:00 GMT",
            304,
            b"",
        ),
    ];
    for (name, value, status, expected) in cases {
        let get = server.call(Call::new("GET", "/films/a").field(name, value));
        assert_eq!(
            (get.status, get.complete),
            (*status, true),
            "{name}: {value}"
        );
        assert!(get.body == *expected, "{name}: {value}");
    }
    let behind = server.call(Call::new("GET", "/films/a").field("range", "bytes=300000-"));
    assert_eq!(
        (behind.status, behind.code().as_str()),
        (416, "InvalidRange")
    );
    assert_eq!(behind.field("content-range"), "bytes */300000");
    let part = server.call(Call::new("GET", "/films/a").field("range", "bytes=2-4"));
    assert_eq!(part.field("content-range"), "bytes 2-4/300000");
    for (name, value) in [
        ("if-match", "\"other\""),
        ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ] {
        let get = server.call(Call::new("GET", "/films/a").field(name, value));
        assert_eq!(
            (get.status, get.code().as_str()),
            (412, "PreconditionFailed")
        );
    }
    for (tag, status) in [(etag.as_str(), 206), ("\"other\"", 200)] {
        let call = Call::new("GET", "/films/a").field("range", "bytes=0-9");
        assert_eq!(server.call(call.field("if-range", tag)).status, status);
    }
    let head = server.call(Call::new("HEAD", "/films/none"));
    assert_eq!((head.status, head.body.len()), (404, 0));
    server.stop();
}

#[test]
fn overrides_replace_stored_fields_for_a_signed_request() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    server.put("/films/a", b"x");
    let get = server.get("/films/a?response-content-type=text%2Fplain&response-expires=0");
    assert_eq!(get.field("content-type"), "text/plain");
    assert_eq!(get.field("expires"), "0");
    let bad = server.get("/films/a?response-content-type=a%0Ab");
    assert_eq!((bad.status, bad.code().as_str()), (400, "InvalidArgument"));
    server.stop();
}

#[test]
fn buckets_are_made_found_listed_and_removed_when_empty() {
    let data = folder();
    let server = Server::start(data.path());
    let make = server.put("/films", b"");
    assert_eq!((make.status, make.field("location")), (200, "/films"));
    // In us-east-1 an owner may make it again, as long as that changes nothing.
    let again = server.put("/films", b"");
    assert_eq!((again.status, again.field("location")), (200, "/films"));
    let elsewhere = "<CreateBucketConfiguration><LocationConstraint>mars-1</LocationConstraint>\
                     </CreateBucketConfiguration>";
    let refused = server.put("/other", elsewhere.as_bytes());
    assert_eq!(refused.code(), "IllegalLocationConstraintException");
    assert_eq!(
        server.put("/other", b"<CreateBucket").code(),
        "MalformedXML"
    );
    assert_eq!(server.put("/No_Bucket", b"").code(), "InvalidBucketName");
    let head = server.call(Call::new("HEAD", "/films"));
    assert_eq!(
        (head.status, head.field("x-amz-bucket-region")),
        (200, "us-east-1")
    );
    assert_eq!(server.call(Call::new("HEAD", "/other")).status, 404);
    let location = server.get("/films?location").text();
    assert!(location.contains("<LocationConstraint"), "{location}");
    server.put("/films/a", b"x");
    let list = server.get("/").text();
    assert_eq!(element(&list, "Name").as_deref(), Some("films"));
    let full = server.call(Call::new("DELETE", "/films"));
    assert_eq!((full.status, full.code().as_str()), (409, "BucketNotEmpty"));
    server.call(Call::new("DELETE", "/films/a"));
    assert_eq!(server.call(Call::new("DELETE", "/films")).status, 204);
    assert_eq!(
        server.call(Call::new("DELETE", "/films")).code(),
        "NoSuchBucket"
    );
    assert_eq!(server.put("/films/a", b"x").code(), "NoSuchBucket");
    server.stop();
}

#[test]
fn a_listing_pages_in_byte_order_and_groups_by_delimiter() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let odd = ["q%22%5C%0A%7F", "y%00", "%F0%9F%8E%AC"];
    for key in ["a", "b/1", "b/2", "b/3", "c%20d", "%C3%BC/1", "z%01"]
        .iter()
        .chain(&odd)
    {
        assert_eq!(server.put(&format!("/films/{key}"), b"x").status, 200);
    }
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let target =
            format!("/films?list-type=2&max-keys=2&delimiter=%2F&encoding-type=url{token}");
        let page = server.get(&target);
        assert_eq!(page.status, 200, "{}", page.text());
        let page = page.text();
        for part in page.split('<') {
            let name = part.strip_prefix("Key>").or(part.strip_prefix("Prefix>"));
            names.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
        }
        match element(&page, "NextContinuationToken") {
            Some(next) => token = format!("&continuation-token={next}"),
            None => break,
        }
    }
    let [quoted, zero, film] = odd;
    // Within a page, groups come behind keys.
    let expected = ["a", "b/", "c%20d", quoted, zero, "z%01", film, "%C3%BC/"];
    assert_eq!(names, expected);
    let plain = server.get("/films?list-type=2&prefix=z").text();
    assert_eq!(element(&plain, "Key").as_deref(), Some("z&#x1;"));
    assert_eq!(element(&plain, "KeyCount").as_deref(), Some("1"));
    for (query, code) in [
        ("max-keys=-1", "InvalidArgument"),
        ("max-keys=x", "InvalidArgument"),
        ("encoding-type=base64", "InvalidArgument"),
        ("continuation-token=x", "InvalidArgument"),
        ("prefix=a&prefix=b", "InvalidArgument"),
    ] {
        let refused = server.get(&format!("/films?list-type=2&{query}"));
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (400, code),
            "{query}"
        );
    }
    assert_eq!(server.get("/none?list-type=2").code(), "NoSuchBucket");
    server.stop();
}

#[test]
fn what_s3_has_and_we_do_not_is_refused_by_name() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    server.put("/films/a", b"x");
    let cases: &[(&str, &str, &str, u16)] = &[
        ("POST", "/films/a?restore", "NotImplemented", 501),
        ("GET", "/films?inventory", "NotImplemented", 501),
        ("GET", "/films/a?versionId=x", "InvalidArgument", 400),
        ("GET", "/films/a?partNumber=0", "InvalidArgument", 400),
        ("PUT", "/films?replication", "NotImplemented", 501),
        ("GET", "/films/a?torrent", "NotImplemented", 501),
        ("PATCH", "/films/a", "MethodNotAllowed", 405),
        ("PUT", "/", "MethodNotAllowed", 405),
    ];
    for (method, target, code, status) in cases {
        let answer = server.call(Call::new(method, target));
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (*status, *code),
            "{method} {target}"
        );
    }
    for (name, value, code) in [
        ("x-amz-server-side-encryption", "AES256", "NotImplemented"),
        ("x-amz-object-lock-event-hold", "ON", "NotImplemented"),
        ("x-amz-acl", "public-reed", "InvalidArgument"),
        ("x-amz-storage-class", "GLACIER", "InvalidStorageClass"),
        (
            "if-unmodified-since",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "NotImplemented",
        ),
    ] {
        let call = Call::new("PUT", "/films/a").field(name, value);
        assert_eq!(server.call(call).code(), code, "{name}");
    }
    assert_eq!(server.get("/films/a").body, b"x");
    server.stop();
}

#[test]
fn only_genuine_requests_are_answered() {
    let data = folder();
    let clock = ManualClock::at(SystemClock::shared().wall());
    let disk = Arc::new(RealDisk);
    let server = Server::try_start(data.path(), clock.clone(), disk).unwrap();
    server.put("/films", b"");
    server.put("/films/a", b"x");
    let host = server.address;
    let raw = |target: &str, extra: &str| {
        let mut client = server.client();
        client.send(
            &format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{extra}\r\n"),
            b"",
        );
        client.response("GET")
    };
    assert_eq!(raw("/films/a", "").code(), "AccessDenied");
    let url = server.presign("GET", "/films/a", Duration::from_secs(60));
    assert_eq!(raw(&url, "").body, b"x");
    assert_eq!(
        raw(&url.replace("films/a", "films/b"), "").code(),
        "SignatureDoesNotMatch"
    );
    assert_eq!(
        raw(&url.replace("demo%2F", "eve%2F"), "").code(),
        "InvalidAccessKeyId"
    );
    let elsewhere = url.replace("us-east-1", "us-east-2");
    assert_eq!(
        raw(&elsewhere, "").code(),
        "AuthorizationQueryParametersError"
    );
    assert_eq!(
        raw(&url, "x-amz-meta-a: unsigned\r\n").code(),
        "AccessDenied"
    );
    clock.advance(Duration::from_secs(62));
    let expired = raw(&url, "");
    assert_eq!(
        (expired.status, expired.code().as_str()),
        (403, "AccessDenied")
    );
    clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(server.get("/films/a").code(), "RequestTimeTooSkewed");
    server.stop();
}

#[test]
fn a_policy_may_refuse_signatures_that_are_too_old() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    server.put("/films/a", b"x");
    let policy = r#"{
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::films/*",
            "Condition": {"NumericGreaterThan": {"s3:signatureAge": "600000"}}
        }
    }"#;
    assert_eq!(server.put("/films?policy", policy.as_bytes()).status, 204);
    let signed_before = |age: u64| {
        let now = SystemClock::shared().wall() - Duration::from_secs(age);
        let url = server.presign_at("GET", "/films/a", &[], Duration::from_secs(3600), now);
        let mut client = server.client();
        client.send(
            &format!("GET {url} HTTP/1.1\r\nhost: {}\r\n\r\n", server.address),
            b"",
        );
        client.response("GET")
    };
    assert_eq!(signed_before(60).body, b"x");
    let old = signed_before(1200);
    assert_eq!((old.status, old.code()), (403, "AccessDenied".to_owned()));
    assert_eq!(server.get("/films/a").body, b"x");
    server.stop();
}

#[test]
fn a_presigned_put_stores_and_honours_a_checksum_in_its_query() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let put = |query: &[(String, String)]| {
        let url = server.presign_with("PUT", "/films/a b", query, Duration::from_secs(60));
        let host = server.address;
        let mut client = server.client();
        client.send(
            &format!("PUT {url} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 2\r\n\r\n"),
            b"hi",
        );
        client.response("PUT")
    };
    let crc32 = |value: &str| vec![("x-amz-checksum-crc32".to_owned(), value.to_owned())];
    let refused = put(&crc32("AAAAAA=="));
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (400, "BadDigest")
    );
    assert_eq!(server.get("/films/a%20b").status, 404);
    let taken = put(&crc32("2JMqrA=="));
    assert_eq!(taken.status, 200, "{}", taken.text());
    assert_eq!(taken.field("x-amz-checksum-crc32"), "2JMqrA==");
    assert_eq!(put(&[]).status, 200);
    assert_eq!(server.get("/films/a%20b").body, b"hi");
    server.stop();
}

#[test]
fn concurrent_first_writers_are_told_apart() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let statuses: Vec<(u8, u16)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..16u8)
            .map(|writer| {
                let server = &server;
                scope.spawn(move || {
                    let body = vec![writer; PACKED_MAX_BYTES + 1];
                    let call = Call::new("PUT", "/films/first").body(&body);
                    (writer, server.call(call.field("if-none-match", "*")).status)
                })
            })
            .collect();
        writers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let winners: Vec<_> = statuses
        .iter()
        .filter(|(_, status)| *status == 200)
        .collect();
    let losers = statuses.iter().filter(|(_, status)| *status == 412).count();
    assert_eq!((winners.len(), losers), (1, 15), "{statuses:?}");
    let body = server.get("/films/first").body;
    assert!(body == vec![winners[0].0; PACKED_MAX_BYTES + 1]);
    // The blobs of the losers go.
    blob_files_come_to(data.path(), 1);
    server.stop();
}

#[test]
fn an_overwrite_does_not_disturb_a_reader_that_began_before() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let before = pattern(32 << 20);
    server.put("/films/a", &before);
    let mut reader = server.client();
    reader.send(&Call::new("GET", "/films/a").head(server.address), b"");
    let (status, _) = reader.head().unwrap();
    assert_eq!(status, 200);
    assert_eq!(server.put("/films/a", b"new").status, 200);
    assert_eq!(server.get("/films/a").body, b"new");
    assert!(
        reader.body(before.len()) == before,
        "the reader saw something else"
    );
    server.stop();
}

#[test]
fn the_body_is_asked_for_only_when_it_is_wanted() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let call = || {
        Call::new("PUT", "/films/a")
            .body(b"hello")
            .field("expect", "100-continue")
    };
    let mut client = server.client();
    client.send(&call().head(server.address), b"");
    assert_eq!(client.head().unwrap().0, 100);
    client.send("", b"hello");
    assert_eq!(client.response("PUT").status, 200);
    let mut client = server.client();
    client.send(
        &call().field("if-none-match", "*").head(server.address),
        b"",
    );
    assert_eq!(client.response("PUT").code(), "PreconditionFailed");
    let mut huge = call();
    huge.length = Some((5 << 30) + 1);
    let mut client = server.client();
    client.send(&huge.head(server.address), b"");
    assert_eq!(client.response("PUT").code(), "EntityTooLarge");
    server.stop();
}

#[test]
fn a_stop_lets_the_upload_in_flight_finish_and_closes_idle_connections() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let mut idle = server.client();
    idle.send(&Call::new("GET", "/").head(server.address), b"");
    assert_eq!(idle.response("GET").status, 200);
    let mut upload = server.client();
    let call = Call::new("PUT", "/films/a")
        .body(b"hello")
        .field("expect", "100-continue");
    upload.send(&call.head(server.address), b"");
    assert_eq!(upload.head().unwrap().0, 100, "the upload is in flight");
    server.ask_to_stop();
    assert!(idle.is_closed());
    upload.send("", b"hello");
    assert_eq!(upload.response("PUT").status, 200);
    server.stop();
    let server = Server::start(data.path());
    assert_eq!(server.get("/films/a").body, b"hello");
    server.stop();
}

#[test]
fn malformed_requests_get_a_4xx_or_a_close_and_the_next_request_is_served() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    server.put("/films/a", b"x");
    let long_field = format!(
        "GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n",
        "b".repeat(40_000)
    );
    let many_fields = format!(
        "GET / HTTP/1.1\r\nhost: x\r\n{}\r\n",
        "a: b\r\n".repeat(120)
    );
    let cases = [
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nbad name: y\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\na: \0\r\n\r\n",
        "PUT /films/a HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "PUT /films/a HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "PUT /films/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
        "GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /%2e%2e/%00 HTTP/1.1\r\nhost: x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
        &long_field,
        &many_fields,
    ];
    for case in cases {
        let mut client = server.client();
        // The server may have closed before it has all of it.
        let _ = send(&mut client.stream, case, b"");
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        if let Some((status, _)) = client.head() {
            assert!((400..500).contains(&status), "{status} for {case:?}");
        }
        assert_eq!(server.get("/films/a").body, b"x", "after {case:?}");
    }
    for (target, code) in [
        ("/films/%ff", "InvalidURI"),
        ("/FILMS/a", "InvalidBucketName"),
        ("/films%2Fa", "InvalidBucketName"),
    ] {
        assert_eq!(server.get(target).code(), code, "{target}");
    }
    let too_long = format!("/films/{}", "k".repeat(1025));
    assert_eq!(server.put(&too_long, b"x").code(), "KeyTooLongError");
    server.stop();
}

#[test]
fn a_second_opening_is_refused_while_the_first_is_alive() {
    let data = folder();
    let server = Server::start(data.path());
    let second = runtime();
    match second.block_on(Store::open(&config(data.path()), SystemClock::shared())) {
        Err(OpenError::Locked { path, pid }) => {
            assert_eq!(path, data.path().join("LOCK"));
            assert_eq!(pid, Some(std::process::id()));
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened twice"),
    }
    server.stop();
    let store = second
        .block_on(Store::open(&config(data.path()), SystemClock::shared()))
        .unwrap();
    second.block_on(store.close());
}

#[test]
fn an_unusable_folder_is_named() {
    let data = folder();
    let blocked = data.path().join("file/data");
    std::fs::write(data.path().join("file"), b"").unwrap();
    let runtime = runtime();
    match runtime.block_on(Store::open(&config(&blocked), SystemClock::shared())) {
        Err(OpenError::Folder { path, .. }) => assert_eq!(path, blocked),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened below a file"),
    }
}

#[test]
fn the_program_itself_can_put_samples() {
    let data = folder();
    let runtime = runtime();
    let store = runtime
        .block_on(Store::open(&config(data.path()), SystemClock::shared()))
        .unwrap();
    runtime.block_on(async {
        assert_eq!(
            store.create_bucket("films").await.unwrap(),
            BucketCreated::Created
        );
        assert_eq!(
            store.create_bucket("films").await.unwrap(),
            BucketCreated::AlreadyExists
        );
        assert!(!store.object_exists("films", "a.mp4").await.unwrap());
        let content_type = http::HeaderValue::from_static("video/mp4");
        let bytes = bytes::Bytes::from_static(b"film");
        let etag = store
            .put_object("films", "a.mp4", content_type, bytes)
            .await
            .unwrap();
        assert_eq!(etag, md5_hex(b"film"));
        assert!(store.object_exists("films", "a.mp4").await.unwrap());
        assert!(!store.object_exists("none", "a.mp4").await.unwrap());
        store.close().await;
    });
    let server = Server::start(data.path());
    let get = server.get("/films/a.mp4");
    assert_eq!(
        (get.body.as_slice(), get.field("content-type")),
        (&b"film"[..], "video/mp4")
    );
    server.stop();
}

fn md5_hex(bytes: &[u8]) -> String {
    hex::encode(<md5::Md5 as md5::Digest>::digest(bytes))
}
