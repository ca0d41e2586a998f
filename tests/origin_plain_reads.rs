//! Ordinary reads, which the store answers in a loop of its own: no client sees a difference.

mod origin_support;

use origin_support::{Call, Server, folder, pattern};

/// What takes a request out of the ordinary, so that another way leads to its answer, and means nothing to it.
const OUT_OF_THE_ORDINARY: (&str, &str) = ("te", "trailers");

#[test]
fn an_ordinary_read_and_one_out_of_the_ordinary_are_answered_alike() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    for (key, length) in [
        ("none", 0),
        ("few", 10),
        ("packed", 70_000),
        ("many", 1_200_000),
    ] {
        server.put(&format!("/films/{key}"), &pattern(length));
    }
    let etag = server.get("/films/few").field("etag").to_owned();
    let mut statuses = Vec::new();
    for method in ["GET", "HEAD"] {
        for (target, name, value) in [
            ("/", "", ""),
            ("/films", "", ""),
            ("/films?list-type=2&prefix=f", "", ""),
            ("/films?policy", "", ""),
            ("/films/none", "", ""),
            ("/films/few", "", ""),
            ("/films/packed", "", ""),
            ("/films/packed", "range", "bytes=65000-66000"),
            ("/films/packed", "range", "bytes=70000-"),
            ("/films/many", "", ""),
            ("/films/many?partNumber=1", "", ""),
            ("/films/few", "if-none-match", &etag),
            ("/films/few", "if-match", "\"other\""),
            ("/films/absent", "", ""),
            ("/absent/few", "", ""),
            ("/films/few?versionId=none", "", ""),
        ] {
            let mut call = Call::new(method, target);
            if !name.is_empty() {
                call = call.field(name, value);
            }
            let seen_by = |call: Call<'_>| {
                let mut response = server.call(call);
                assert!(response.complete, "{method} {target}");
                assert!(!response.field("date").is_empty(), "{method} {target}");
                let id = response.field("x-amz-request-id").to_owned();
                let body = String::from_utf8_lossy(&response.body).replace(&id, "ID");
                let own = ["date", "x-amz-request-id"];
                response
                    .fields
                    .retain(|(name, _)| !own.contains(&name.as_str()));
                response.fields.sort();
                (response.status, response.fields, body)
            };
            let ordinary = seen_by(call.clone());
            let (name, value) = OUT_OF_THE_ORDINARY;
            assert_eq!(
                ordinary,
                seen_by(call.field(name, value)),
                "{method} {target}"
            );
            statuses.push(ordinary.0);
        }
    }
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [200, 206, 304, 400, 404, 405, 412, 416]);
    server.stop();
}

#[test]
fn a_connection_takes_one_request_after_the_other_whatever_they_are() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    server.put("/films/a", b"first");
    let mut client = server.client();
    let get = Call::new("GET", "/films/a").head(server.address);
    let head = Call::new("HEAD", "/films/a").head(server.address);
    // Before the answers are read, and the last of them in two pieces.
    let (begin, end) = get.split_at(get.len() - 3);
    client.send(&format!("{get}{head}{get}{begin}"), b"");
    for (method, body) in [("GET", &b"first"[..]), ("HEAD", b""), ("GET", b"first")] {
        let response = client.response(method);
        assert_eq!((response.status, &response.body[..]), (200, body));
    }
    client.send(end, b"");
    assert_eq!(client.response("GET").body, b"first");
    let put = Call::new("PUT", "/films/a").body(b"second");
    client.send(&put.head(server.address), b"second");
    assert_eq!(client.response("PUT").status, 200);
    client.send(&get, b"");
    assert_eq!(client.response("GET").body, b"second");
    let (name, value) = ("connection", "close");
    let last = Call::new("GET", "/films/a").field(name, value);
    client.send(&last.head(server.address), b"");
    assert_eq!(client.response("GET").field(name), value);
    assert!(client.is_closed());
    server.stop();
}
