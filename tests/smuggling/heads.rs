//! Lines, names, targets and hosts.

use super::Verdict::Refused;
use super::{PATH, SMUGGLED, Table, get, one};

pub(super) fn heads(table: &mut Table) {
    for (claim, fields) in [
        ("folded", &b"X: y\r\n z\r\n"[..]),
        ("folded with a tab", b"X: y\r\n\tz\r\n"),
        ("folded at once", b"X:\r\n y\r\n"),
        ("bare LF", b"X: y\nZ: z\r\n"),
        ("bare LF before the end", b"X: y\r\n\n"),
        ("bare CR", b"X: y\rZ: z\r\n"),
        ("CR CR LF", b"X: y\r\r\n"),
        ("no colon", b"X\r\n"),
        ("no name", b": y\r\n"),
        ("space in a name", b"X Y: z\r\n"),
        ("space behind a name", b"X : y\r\n"),
        ("tab behind a name", b"X\t: y\r\n"),
        ("NUL in a name", b"X\0: y\r\n"),
        ("colon before a name", b":method: GET\r\n"),
        ("bracket in a name", b"X[0]: y\r\n"),
        ("non-ASCII in a name", b"X\xc3\xa4: y\r\n"),
        ("NUL in a value", b"X: y\0z\r\n"),
        ("BEL in a value", b"X: \x07\r\n"),
        ("escape in a value", b"X: \x1b[31m\r\n"),
        ("DEL in a value", b"X: \x7f\r\n"),
    ] {
        table.both_refused(&format!("field: {claim}"), fields, "");
    }
    for (claim, bytes) in [
        (
            "bare LF everywhere",
            "GET /@ HTTP/1.1\nHost: media.example\n\n",
        ),
        (
            "bare LF behind the request line",
            "GET /@ HTTP/1.1\nHost: media.example\r\n\r\n",
        ),
        (
            "bare CR behind the request line",
            "GET /@ HTTP/1.1\rHost: media.example\r\n\r\n",
        ),
        (
            "fold behind the request line",
            "GET /@ HTTP/1.1\r\n Host: media.example\r\n\r\n",
        ),
        ("no version", "GET /@\r\nHost: media.example\r\n\r\n"),
        ("HTTP/0.9", "GET /@ HTTP/0.9\r\nHost: media.example\r\n\r\n"),
        ("HTTP/1.2", "GET /@ HTTP/1.2\r\nHost: media.example\r\n\r\n"),
        ("HTTP/2.0", "GET /@ HTTP/2.0\r\nHost: media.example\r\n\r\n"),
        (
            "HTTP/1.1 and more",
            "GET /@ HTTP/1.1 x\r\nHost: media.example\r\n\r\n",
        ),
        (
            "two spaces behind the method",
            "GET  /@ HTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
        (
            "two spaces before the version",
            "GET /@  HTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
        (
            "tab for a space",
            "GET\t/@ HTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
        (
            "tab before the version",
            "GET /@\tHTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
        (
            "space before the method",
            " GET /@ HTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
        (
            "request line in the target",
            "GET /@ HTTP/1.1\tGET /smuggled HTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
        (
            "space in the target",
            "GET /@ /smuggled HTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
        (
            "lower-case method",
            "get /@ HTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
        (
            "bare LF before the request line",
            "\nGET /@ HTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
        ("preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (
            "CONNECT",
            "CONNECT media.example:80 HTTP/1.1\r\nHost: media.example:80\r\n\r\n",
        ),
        (
            "CONNECT with a path",
            "CONNECT /@ HTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
        ("TRACE", "TRACE /@ HTTP/1.1\r\nHost: media.example\r\n\r\n"),
        (
            "OPTIONS of everything",
            "OPTIONS * HTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
    ] {
        table.add(
            &format!("request line: {claim}"),
            format!("{bytes}{SMUGGLED}"),
            Refused,
        );
    }
    table.add(
        "empty lines before the request line",
        [b"\r\n\r\n".to_vec(), get(PATH)].concat(),
        one("GET", ""),
    );
    table.both_served("value above ASCII", "X: \u{e4}\r\n", "", "");
    table.both_served(
        "names that look like framing",
        "X-Content-Length: 47\r\nTransfer: chunked\r\n",
        "",
        "",
    );
}

pub(super) fn targets_and_hosts(table: &mut Table) {
    let absolute = |method: &str, target: &str, host: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
    };
    for method in ["GET", "POST"] {
        for (claim, target, host) in [
            ("another host", "http://other.example/@", "media.example"),
            ("another port", "http://media.example:81/@", "media.example"),
            (
                "the default port spelled out",
                "http://media.example:80/@",
                "media.example",
            ),
            (
                "user",
                "http://media.example@other.example/@",
                "other.example",
            ),
            (
                "user in front",
                "http://other.example@media.example/@",
                "media.example",
            ),
            ("another scheme", "https://media.example/@", "media.example"),
            ("ftp", "ftp://media.example/@", "media.example"),
            ("no host", "http:///@", "media.example"),
            ("backslashes", "http:\\\\other.example/@", "media.example"),
            ("one slash", "http:/media.example/@", "media.example"),
            (
                "no path but a query",
                "http://media.example?/@",
                "media.example",
            ),
            ("authority only", "media.example", "media.example"),
            ("fragment", "/@#x", "media.example"),
            (
                "fragment in the host",
                "http://media.example#/@",
                "media.example",
            ),
            ("list of hosts", "/@", "media.example, other.example"),
            ("host with a path", "/@", "media.example/x"),
            ("host with a user", "/@", "x@media.example"),
            ("host with a space", "/@", "media.example other.example"),
            ("host with a tab", "/@", "media.example\tother.example"),
            ("host with a bad port", "/@", "media.example:80x"),
            ("empty host", "/@", ""),
            ("host as an escape", "/@", "media%2eexample"),
        ] {
            table.add(
                &format!("{method}: target: {claim}"),
                absolute(method, target, host),
                Refused,
            );
        }
        for (claim, fields) in [
            ("none", ""),
            ("two", "Host: media.example\r\nHost: other.example\r\n"),
            (
                "two alike",
                "Host: media.example\r\nHost: media.example\r\n",
            ),
            ("in a folded field", "X: y\r\n Host: media.example\r\n"),
            ("folded", "Host: media.example\r\n other.example\r\n"),
            ("space before the colon", "Host : media.example\r\n"),
            ("behind a bare LF", "X: y\nHost: media.example\r\n"),
        ] {
            let bytes = format!("{method} {PATH} HTTP/1.1\r\n{fields}\r\n");
            table.add(&format!("{method}: Host: {claim}"), bytes, Refused);
        }
        let method: &'static str = method;
        for (claim, target, host) in [
            ("absolute", "http://media.example/@", "media.example"),
            (
                "absolute in capitals",
                "HTTP://MEDIA.EXAMPLE/@",
                "media.example",
            ),
        ] {
            table.add(
                &format!("{method}: target: {claim}"),
                absolute(method, target, host),
                one(method, ""),
            );
        }
    }
}
