//! The same for HTTP/2, where a request is no text until the edge makes one of it for the origin.

/// What must become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum H2Verdict {
    /// Nothing reaches the origin.
    Refused,
    /// The origin sees it with this body.
    Served(&'static str),
    /// If it reaches the origin, then not whole.
    NeverWhole,
}

/// One request.
#[derive(Debug, Clone)]
pub struct H2Case {
    /// What it is about.
    pub claim: String,
    /// Its fields, pseudo-header fields among them.
    pub fields: Vec<(String, String)>,
    /// What comes as DATA; without it the head ends the stream.
    pub body: Option<&'static str>,
    /// Fields behind the body.
    pub trailers: Option<(&'static str, &'static str)>,
    /// What must become of it.
    pub verdict: H2Verdict,
}

use H2Verdict::{NeverWhole, Refused, Served};

struct Table(Vec<H2Case>);

type Field<'a> = (&'a str, &'a str);

impl Table {
    fn path(&self) -> String {
        format!("/h{}", self.0.len())
    }

    fn add(
        &mut self,
        claim: &str,
        fields: &[Field<'_>],
        body: Option<&'static str>,
        verdict: H2Verdict,
    ) {
        let path = self.path();
        let own = |(name, value): &Field<'_>| ((*name).to_owned(), value.replace("/@", &path));
        self.0.push(H2Case {
            claim: claim.to_owned(),
            fields: fields.iter().map(own).collect(),
            body,
            trailers: None,
            verdict,
        });
    }

    /// A good request of `method`, and `more`.
    fn with(
        &mut self,
        claim: &str,
        method: &str,
        more: &[Field<'_>],
        body: Option<&'static str>,
        verdict: H2Verdict,
    ) {
        let mut fields = vec![
            (":method", method),
            (":scheme", "https"),
            (":authority", "media.example"),
            (":path", "/@"),
        ];
        fields.extend_from_slice(more);
        self.add(claim, &fields, body, verdict);
    }

    /// A good GET in which one field has another value.
    fn but(&mut self, claim: &str, name: &str, value: &str, verdict: H2Verdict) {
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "media.example"),
            (":path", "/@"),
        ];
        let fields = fields.map(|(known, good)| (known, if known == name { value } else { good }));
        self.add(claim, &fields, None, verdict);
    }

    /// A good GET without one field.
    fn without(&mut self, name: &str, verdict: H2Verdict) {
        let fields: Vec<_> = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "media.example"),
            (":path", "/@"),
        ]
        .into_iter()
        .filter(|(known, _)| *known != name)
        .collect();
        self.add(&format!("no {name}"), &fields, None, verdict);
    }
}

/// All cases.
pub fn h2_table() -> Vec<H2Case> {
    let mut table = Table(Vec::new());
    pseudo_fields(&mut table);
    fields(&mut table);
    bodies(&mut table);
    table.0
}

fn pseudo_fields(table: &mut Table) {
    for (claim, name, value) in [
        (
            "path with a request",
            ":path",
            "/@ HTTP/1.1\r\nHost: media.example\r\n\r\nGET /smuggled",
        ),
        ("path with LF", ":path", "/@\nX: y"),
        ("path with CR", ":path", "/@\rX: y"),
        ("path with NUL", ":path", "/@\0"),
        ("path with a space", ":path", "/@ HTTP/1.1"),
        ("path with a tab", ":path", "/@\tHTTP/1.1"),
        ("absolute path", ":path", "https://media.example/@"),
        (
            "absolute path of another host",
            ":path",
            "https://other.example/@",
        ),
        ("asterisk", ":path", "*"),
        ("empty path", ":path", ""),
        ("path without slash", ":path", "x/@"),
        ("dot segment", ":path", "/@/../x"),
        (
            "method with a request",
            ":method",
            "GET /smuggled HTTP/1.1\r\nHost: media.example\r\n\r\nGET",
        ),
        ("method with a space", ":method", "GET /x"),
        ("lower-case method", ":method", "get"),
        ("empty method", ":method", ""),
        ("TRACE", ":method", "TRACE"),
        ("CONNECT with a path", ":method", "CONNECT"),
        (
            "authority with a line",
            ":authority",
            "media.example\r\nX: y",
        ),
        ("authority with a space", ":authority", "media.example x"),
        ("authority with a path", ":authority", "media.example/x"),
        ("authority with a user", ":authority", "x@media.example"),
        ("authority with a bad port", ":authority", "media.example:x"),
        ("empty authority", ":authority", ""),
        ("scheme with a line", ":scheme", "https\r\nX: y"),
        ("scheme with a space", ":scheme", "https x"),
    ] {
        table.but(claim, name, value, Refused);
    }
    // Nobody sees it any more once it was read.
    table.but("path with a fragment", ":path", "/@#x", Served(""));
    for name in [":method", ":scheme", ":path", ":authority"] {
        table.without(name, Refused);
        let again = if name == ":method" { "GET" } else { "/@" };
        table.with(
            &format!("{name} twice"),
            "GET",
            &[(name, again)],
            None,
            Refused,
        );
        table.with(
            &format!("{name} behind a field"),
            "GET",
            &[("x", "y"), (name, again)],
            None,
            Refused,
        );
    }
    table.with(
        "unknown pseudo-header field",
        "GET",
        &[(":foo", "bar")],
        None,
        Refused,
    );
    table.with(
        "pseudo-header field of responses",
        "GET",
        &[(":status", "200")],
        None,
        Refused,
    );
    table.with(
        "extended CONNECT",
        "CONNECT",
        &[(":protocol", "websocket")],
        None,
        Refused,
    );
    table.with(
        "host that agrees",
        "GET",
        &[("host", "media.example")],
        None,
        Served(""),
    );
    table.with(
        "host that does not",
        "GET",
        &[("host", "other.example")],
        None,
        Refused,
    );
    table.with(
        "two hosts",
        "GET",
        &[("host", "media.example"), ("host", "media.example")],
        None,
        Refused,
    );
    table.add(
        "host instead of the authority",
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/@"),
            ("host", "media.example"),
        ],
        None,
        Served(""),
    );
}

fn fields(table: &mut Table) {
    for (claim, name, value) in [
        ("upper-case name", "X-A", "b"),
        ("name with a line", "x: y\r\nz", "b"),
        ("name with a colon", "x:y", "b"),
        ("name with a space", "x y", "b"),
        ("name with NUL", "x\0", "b"),
        ("empty name", "", "b"),
        ("value with a line", "x", "y\r\nTransfer-Encoding: chunked"),
        ("value with LF", "x", "y\nz: z"),
        ("value with CR", "x", "y\rz"),
        ("value with NUL", "x", "y\0"),
        ("Connection", "connection", "close"),
        ("Connection that names another", "connection", "x-a"),
        ("Keep-Alive", "keep-alive", "timeout=5"),
        ("Proxy-Connection", "proxy-connection", "keep-alive"),
        ("Transfer-Encoding", "transfer-encoding", "chunked"),
        (
            "Transfer-Encoding identity",
            "transfer-encoding",
            "identity",
        ),
        ("Upgrade", "upgrade", "h2c"),
        ("TE", "te", "gzip"),
        ("an expectation", "expect", "miracles"),
    ] {
        for method in ["GET", "POST"] {
            table.with(
                &format!("{method}: {claim}"),
                method,
                &[(name, value)],
                None,
                Refused,
            );
        }
    }
    table.with(
        "TE trailers",
        "GET",
        &[("te", "trailers")],
        None,
        Served(""),
    );
    table.with(
        "cookies in parts",
        "GET",
        &[("cookie", "a=b"), ("cookie", "c=d")],
        None,
        Served(""),
    );
}

fn bodies(table: &mut Table) {
    let length = |value: &'static str| [("content-length", value)];
    for method in ["GET", "POST"] {
        table.with(
            &format!("{method}: a body without length"),
            method,
            &[],
            Some("hello"),
            Served("hello"),
        );
        table.with(
            &format!("{method}: a body with its length"),
            method,
            &length("5"),
            Some("hello"),
            Served("hello"),
        );
        table.with(
            &format!("{method}: nothing with its length"),
            method,
            &length("0"),
            None,
            Served(""),
        );
        table.with(
            &format!("{method}: no body for its length"),
            method,
            &length("5"),
            None,
            Refused,
        );
        table.with(
            &format!("{method}: longer than its length"),
            method,
            &length("4"),
            Some("hello"),
            NeverWhole,
        );
        table.with(
            &format!("{method}: shorter than its length"),
            method,
            &length("47"),
            Some("hello"),
            NeverWhole,
        );
        table.with(
            &format!("{method}: a body for length 0"),
            method,
            &length("0"),
            Some("hello"),
            Refused,
        );
        for value in ["5, 5", "+5", "05", "0x5", "", "5 5", "99999999999999999999"] {
            table.with(
                &format!("{method}: length {value:?}"),
                method,
                &length(value),
                Some("hello"),
                Refused,
            );
        }
        let both = [("content-length", "5"), ("content-length", "5")];
        table.with(
            &format!("{method}: two lengths"),
            method,
            &both,
            Some("hello"),
            Refused,
        );
        let both = [("content-length", "5"), ("content-length", "0")];
        table.with(
            &format!("{method}: two different lengths"),
            method,
            &both,
            Some("hello"),
            Refused,
        );
    }
    for (claim, trailer, verdict) in [
        ("trailer", ("x", "y"), Served("hello")),
        (
            "trailer with a length",
            ("content-length", "0"),
            Served("hello"),
        ),
        (
            "trailer with a pseudo-header field",
            (":path", "/smuggled"),
            Served("hello"),
        ),
        ("trailer with a line", ("x", "y\r\nz: z"), NeverWhole),
    ] {
        table.with(claim, "POST", &[], Some("hello"), verdict);
        table.0.last_mut().unwrap().trailers = Some(trailer);
    }
}
