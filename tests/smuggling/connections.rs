//! What is about the connection: its options, upgrades, and what is pipelined.

use super::Verdict::{Closed, Refused, Served};
use super::{PATH, SMUGGLED, Table, get, one};

pub(super) fn connection_and_expect(table: &mut Table) {
    for option in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Authorization",
        "Range",
        "If-None-Match",
        "X-Forwarded-For",
        "Cache-Control",
        "close, content-length",
        "\"close\"",
        ":path",
        "a b",
        "a, b, c, d, e, f, g, h, i, j",
    ] {
        let fields = format!("Connection: {option}\r\nContent-Length: 5\r\n");
        table.both_refused(&format!("Connection: {option}"), fields.as_bytes(), "hello");
    }
    table.both_served(
        "Connection: names another",
        "Connection: X-A\r\nX-A: b\r\nContent-Length: 5\r\n",
        "hello",
        "hello",
    );
    table.both_served(
        "Connection: TE",
        "Connection: TE\r\nTE: trailers\r\n",
        "",
        "",
    );
    table.both_served(
        "Connection: names what is not there",
        "Connection: X-A, , \r\n",
        "",
        "",
    );
    for method in ["GET", "POST"] {
        let bytes = |fields: &str, body: &str| {
            format!("{method} {PATH} HTTP/1.1\r\nHost: media.example\r\n{fields}\r\n{body}")
        };
        let seen = |body: &str| vec![(method, PATH.to_owned(), body.to_owned())];
        table.add(
            &format!("{method}: close, and a request behind"),
            bytes(
                "Connection: close\r\nContent-Length: 5\r\n",
                &format!("hello{SMUGGLED}"),
            ),
            Closed(seen("hello")),
        );
        table.add(
            &format!("{method}: close among others"),
            bytes("Connection: x-a, CLOSE\r\n", SMUGGLED),
            Closed(seen("")),
        );
    }
    for (claim, fields) in [
        ("unknown", "Expect: miracles\r\nContent-Length: 5\r\n"),
        (
            "list",
            "Expect: 100-continue, miracles\r\nContent-Length: 5\r\n",
        ),
        (
            "parameter",
            "Expect: 100-continue; a\r\nContent-Length: 5\r\n",
        ),
        (
            "folded",
            "Expect:\r\n 100-continue\r\nContent-Length: 5\r\n",
        ),
        ("empty", "Expect:\r\nContent-Length: 5\r\n"),
        (
            "with two lengths",
            "Expect: 100-continue\r\nContent-Length: 5\r\nContent-Length: 0\r\n",
        ),
    ] {
        table.both_refused(&format!("Expect: {claim}"), fields.as_bytes(), "hello");
    }
    let expect = "Expect: 100-continue\r\n";
    table.both_served(
        "Expect: a body that comes at once",
        &format!("{expect}Content-Length: 5\r\n"),
        "hello",
        "hello",
    );
    table.both_served(
        "Expect: in capitals",
        "Expect: 100-CONTINUE\r\nContent-Length: 5\r\n",
        "hello",
        "hello",
    );
    table.both_served(
        "Expect: chunks that come at once",
        &format!("{expect}Transfer-Encoding: chunked\r\n"),
        "5\r\nhello\r\n0\r\n\r\n",
        "hello",
    );
    table.both_served(
        "Expect: no body",
        &format!("{expect}Content-Length: 0\r\n"),
        "",
        "",
    );
    table.both_served("Expect: no length", expect, "", "");
}

pub(super) fn upgrades(table: &mut Table) {
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let bytes = |method: &str, path: &str, fields: &str, body: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: media.example\r\n{fields}\r\n{body}")
    };
    // CVE-2026-2833: what follows is no tunnel's before the origin has switched.
    table.add(
        "websocket that is not switched to, and a request behind",
        bytes("GET", PATH, websocket, SMUGGLED),
        Closed(vec![("GET", PATH.to_owned(), String::new())]),
    );
    for (claim, method, fields, body) in [
        (
            "with a length",
            "GET",
            format!("{websocket}Content-Length: 5\r\n"),
            "hello",
        ),
        (
            "with chunks",
            "GET",
            format!("{websocket}Transfer-Encoding: chunked\r\n"),
            "0\r\n\r\n",
        ),
        ("with POST", "POST", websocket.to_owned(), ""),
        (
            "that is not meant",
            "GET",
            "Upgrade: websocket\r\n".to_owned(),
            "",
        ),
        (
            "twice",
            "GET",
            format!("{websocket}Upgrade: websocket\r\n"),
            "",
        ),
        ("and h2c", "GET", format!("{websocket}Upgrade: h2c\r\n"), ""),
    ] {
        table.add(
            &format!("websocket {claim}"),
            bytes(method, PATH, &fields, body),
            Refused,
        );
    }
    for protocol in ["h2c", "TLS/1.0", "websocket/13", "h2c, websocket", "chat"] {
        let fields = format!(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABk\r\n"
        );
        table.both_served(
            &format!("upgrade to {protocol} is not offered"),
            &fields,
            "",
            "",
        );
    }
    table.add(
        "h2c and its preface",
        bytes(
            "GET",
            PATH,
            "Connection: Upgrade\r\nUpgrade: h2c\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ),
        Closed(vec![("GET", PATH.to_owned(), String::new())]),
    );
    table.both_served(
        "h2c with a body",
        "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n",
        "hello",
        "hello",
    );
    table.add(
        "HTTP/1.0: websocket is not offered",
        format!("GET {PATH} HTTP/1.0\r\nHost: media.example\r\n{websocket}\r\n"),
        Closed(vec![("GET", PATH.to_owned(), String::new())]),
    );
}

pub(super) fn pipelines(table: &mut Table) {
    let hello = "Content-Length: 5\r\n\r\nhello";
    let two = |first: &'static str, body: &str| {
        Served(vec![
            (first, PATH.to_owned(), body.to_owned()),
            ("GET", format!("{PATH}/next"), String::new()),
        ])
    };
    let next = format!("GET {PATH}/next HTTP/1.1\r\nHost: media.example\r\n\r\n");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "GET", "HEAD"] {
        let head = format!("{method} {PATH} HTTP/1.1\r\nHost: media.example\r\n");
        table.add(
            &format!("{method} with a body, and a request behind"),
            format!("{head}{hello}{next}"),
            two(method, "hello"),
        );
        table.add(
            &format!("{method} with chunks, and a request behind"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{next}"),
            two(method, "hello"),
        );
        table.add(
            &format!("{method} without body, and a request behind"),
            format!("{head}\r\n{next}"),
            two(method, ""),
        );
    }
    let post = format!("POST {PATH} HTTP/1.1\r\nHost: media.example\r\n{hello}");
    table.add(
        "an empty line behind a body",
        format!("{post}\r\n"),
        one("POST", "hello"),
    );
    table.add(
        "a bare LF behind a body",
        format!("{post}\n"),
        Closed(vec![("POST", PATH.to_owned(), "hello".to_owned())]),
    );
    table.add(
        "one byte more than the length",
        format!("{post}!"),
        Closed(vec![("POST", PATH.to_owned(), "hello".to_owned())]),
    );
    // CVE-2025-4366: a hit must not leave the body of its request on the connection.
    let warm = String::from_utf8(get(PATH)).unwrap();
    let with_body = format!(
        "GET {PATH} HTTP/1.1\r\nHost: media.example\r\nContent-Length: {}\r\n\r\n{SMUGGLED}",
        SMUGGLED.len()
    );
    table.add(
        "a hit with a request as its body",
        format!("{warm}{with_body}"),
        Served(vec![
            ("GET", PATH.to_owned(), String::new()),
            ("GET", PATH.to_owned(), SMUGGLED.to_owned()),
        ]),
    );
    table.add(
        "hits in between are not asked for again",
        format!("{warm}{warm}{post}{warm}"),
        // The POST invalidates what was stored.
        Served(vec![
            ("GET", PATH.to_owned(), String::new()),
            ("POST", PATH.to_owned(), "hello".to_owned()),
            ("GET", PATH.to_owned(), String::new()),
        ]),
    );
}
