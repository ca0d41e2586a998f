//! Requests that two parsers might read in two ways, and what must become of each.

mod h2;

pub use h2::{H2Case, H2Verdict, h2_table};

use Verdict::{Closed, Cut, Refused, Served};

/// What must become of the bytes of a case, and of the request that is pipelined behind them.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// A 4xx or a close. Nothing reaches the origin, nor does what follows.
    Refused,
    /// The origin sees exactly these, whole: method, target and body. So is what follows served.
    Served(Vec<(&'static str, String, String)>),
    /// The same, and then the connection is closed: what follows is not read, or refused.
    Closed(Vec<(&'static str, String, String)>),
    /// What follows belongs to the body, which has no end: the origin sees one request, never whole.
    Cut(&'static str),
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it is about.
    pub claim: String,
    /// What the client sends.
    pub bytes: Vec<u8>,
    /// What must become of it.
    pub verdict: Verdict,
    /// A request without `Host`, or one that the origin answers with 101: not for a server that knows better.
    pub scripted_origin_only: bool,
}

/// Stands in the table for the path of the case, which no other has.
const PATH: &str = "/@";

/// What would be smuggled: 47 bytes.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: media.example\r\n\r\n";

struct Table(Vec<Case>);

impl Table {
    fn add(&mut self, claim: &str, bytes: impl Into<Vec<u8>>, verdict: Verdict) {
        let path = format!("/c{}", self.0.len());
        let bytes = bytes.into();
        let mut own = Vec::with_capacity(bytes.len());
        let mut rest = &bytes[..];
        while let Some(at) = rest.windows(2).position(|two| two == PATH.as_bytes()) {
            own.extend(&rest[..at]);
            own.extend(path.as_bytes());
            rest = &rest[at + 2..];
        }
        own.extend(rest);
        let name = |seen: Vec<(&'static str, String, String)>| {
            seen.into_iter()
                .map(|(method, target, body)| (method, target.replace(PATH, &path), body))
                .collect()
        };
        let verdict = match verdict {
            Served(seen) => Served(name(seen)),
            Closed(seen) => Closed(name(seen)),
            other => other,
        };
        self.0.push(Case {
            claim: claim.to_owned(),
            bytes: own,
            verdict,
            scripted_origin_only: false,
        });
    }

    fn scripted_origin_only(&mut self) {
        self.0.last_mut().unwrap().scripted_origin_only = true;
    }

    /// With GET, which the cache's lane answers when it has no body, and with POST, which passes through.
    fn both(
        &mut self,
        claim: &str,
        fields: &[u8],
        body: &str,
        verdict: impl Fn(&'static str) -> Verdict,
    ) {
        for method in ["GET", "POST"] {
            let mut bytes =
                format!("{method} {PATH} HTTP/1.1\r\nHost: media.example\r\n").into_bytes();
            bytes.extend(fields);
            bytes.extend(b"\r\n");
            bytes.extend(body.as_bytes());
            self.add(&format!("{method}: {claim}"), bytes, verdict(method));
        }
    }

    fn both_refused(&mut self, claim: &str, fields: &[u8], body: &str) {
        self.both(claim, fields, body, |_| Refused);
    }

    fn both_served(&mut self, claim: &str, fields: &str, body: &str, seen: &str) {
        self.both(claim, fields.as_bytes(), body, |method| one(method, seen));
    }
}

fn one(method: &'static str, body: &str) -> Verdict {
    Served(vec![(method, PATH.to_owned(), body.to_owned())])
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: media.example\r\n\r\n").into_bytes()
}

/// All cases.
pub fn table() -> Vec<Case> {
    let mut table = Table(Vec::new());
    lengths(&mut table);
    codings(&mut table);
    chunks(&mut table);
    heads(&mut table);
    targets_and_hosts(&mut table);
    connection_and_expect(&mut table);
    upgrades(&mut table);
    pipelines(&mut table);
    table.0
}

fn lengths(table: &mut Table) {
    let length = SMUGGLED.len();
    for (claim, value) in [
        ("list of one length", "0, 0"),
        ("list of two lengths", "0, 47"),
        ("list with an empty item", "0,"),
        ("plus sign", "+0"),
        ("minus sign", "-0"),
        ("negative", "-47"),
        ("hexadecimal", "0x2f"),
        ("hexadecimal without prefix", "2f"),
        ("space inside", "4 7"),
        ("semicolon", "0;47"),
        ("fraction", "0.0"),
        ("exponent", "4e1"),
        ("underscore", "4_7"),
        ("empty", ""),
        ("quoted", "\"0\""),
        ("leading zeros", "0047"),
        ("two zeros", "00"),
        ("beyond 64 bits", "18446744073709551616"),
        ("beyond 64 bits to nothing", "18446744073709551616000"),
        ("beyond a signed number", "9223372036854775808"),
        ("digits of another script", "\u{664}\u{667}"),
        ("folded", "\r\n 47"),
        ("folded behind", "0\r\n 47"),
        ("NUL before", "\x000"),
        ("NUL behind", "0\x00"),
        ("vertical tab", "\x0b0"),
        ("form feed behind", "0\x0c"),
        ("bare CR behind", "0\r"),
        ("bare LF and another", "0\nContent-Length: 47"),
    ] {
        let fields = format!("Content-Length: {value}\r\n");
        table.both_refused(&format!("length: {claim}"), fields.as_bytes(), SMUGGLED);
    }
    for (claim, fields) in [
        (
            "twice the same",
            "Content-Length: 47\r\nContent-Length: 47\r\n",
        ),
        (
            "zero, then all",
            "Content-Length: 0\r\nContent-Length: 47\r\n",
        ),
        (
            "all, then zero",
            "Content-Length: 47\r\nContent-Length: 0\r\n",
        ),
        (
            "twice in different case",
            "content-length: 0\r\nCONTENT-LENGTH: 47\r\n",
        ),
        ("space before the colon", "Content-Length : 47\r\n"),
        ("tab before the colon", "Content-Length\t: 47\r\n"),
        ("space before the name", " Content-Length: 47\r\n"),
        ("NUL in the name", "Content-\0Length: 47\r\n"),
        ("no colon", "Content-Length 47\r\n"),
        ("line end before the colon", "Content-Length\r\n: 47\r\n"),
    ] {
        table.both_refused(&format!("length: {claim}"), fields.as_bytes(), SMUGGLED);
    }
    let known = format!("Content-Length: {length}\r\n");
    table.both_served("a request as the body", &known, SMUGGLED, SMUGGLED);
    table.both_served(
        "length without space",
        "Content-Length:5\r\n",
        "hello",
        "hello",
    );
    table.both_served(
        "length with tabs around",
        "Content-Length: \t5\t \r\n",
        "hello",
        "hello",
    );
    table.both_served(
        "length in capitals",
        "CONTENT-LENGTH: 5\r\n",
        "hello",
        "hello",
    );
    table.both_served("length of nothing", "Content-Length: 0\r\n", "", "");
    table.both_served(
        "underscore is another name",
        "Content_Length: 47\r\nContent-Length: 5\r\n",
        "hello",
        "hello",
    );
    for length in ["100000", "999999999999999999"] {
        let fields = format!("Content-Length: {length}\r\n");
        table.both("length of more than comes", fields.as_bytes(), "hello", Cut);
    }
}

fn codings(table: &mut Table) {
    let chunked_nothing = format!("0\r\n\r\n{SMUGGLED}");
    for (claim, value) in [
        ("identity", "identity"),
        ("empty", ""),
        ("unknown", "xchunked"),
        ("unknown with a letter more", "chunkedx"),
        ("a part of the word", "chunk"),
        ("identity before", "identity, chunked"),
        ("identity behind", "chunked, identity"),
        ("gzip before", "gzip, chunked"),
        ("gzip behind", "chunked, gzip"),
        ("twice in a list", "chunked, chunked"),
        ("list with an empty item", "chunked,"),
        ("list that begins with an empty item", ", chunked"),
        ("quoted", "\"chunked\""),
        ("single quotes", "'chunked'"),
        ("parameter", "chunked;q=1"),
        ("vertical tab before", "\x0bchunked"),
        ("vertical tab behind", "chunked\x0b"),
        ("NUL behind", "chunked\0"),
        ("NUL inside", "chun\0ked"),
        ("no-break space before", "\u{a0}chunked"),
        ("Kelvin sign", "chun\u{212a}ed"),
        ("folded", "\r\n chunked"),
        ("folded with a tab", "\r\n\tchunked"),
        ("folded behind", "chunked\r\n , identity"),
        ("bare CR behind", "chunked\r"),
        ("bare LF before", "\nchunked"),
    ] {
        let fields = format!("Transfer-Encoding: {value}\r\n");
        table.both_refused(
            &format!("coding: {claim}"),
            fields.as_bytes(),
            &chunked_nothing,
        );
        let fields = format!("Content-Length: 5\r\nTransfer-Encoding: {value}\r\n");
        table.both_refused(
            &format!("length and coding: {claim}"),
            fields.as_bytes(),
            &chunked_nothing,
        );
    }
    for (claim, fields) in [
        (
            "length, then coding",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "coding, then length",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ),
        (
            "zero and coding",
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "bad length and coding",
            "Content-Length: x\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "coding twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "coding, then identity",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        ),
        (
            "identity, then coding",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "coding, then an unknown one",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        ),
        ("space before the colon", "Transfer-Encoding : chunked\r\n"),
        ("tab before the colon", "Transfer-Encoding\t: chunked\r\n"),
        ("space before the name", " Transfer-Encoding: chunked\r\n"),
        ("tab before the name", "\tTransfer-Encoding: chunked\r\n"),
        ("NUL behind the name", "Transfer-Encoding\0: chunked\r\n"),
        ("space inside the name", "Transfer Encoding: chunked\r\n"),
        ("behind a bare LF", "X: y\nTransfer-Encoding: chunked\r\n"),
        ("behind a bare CR", "X: y\rTransfer-Encoding: chunked\r\n"),
        ("behind two LF", "X: y\n\nTransfer-Encoding: chunked\r\n"),
        (
            "behind CR CR LF",
            "X: y\r\r\nTransfer-Encoding: chunked\r\n",
        ),
        ("before a bare LF", "Transfer-Encoding: chunked\nX: y\r\n"),
        (
            "in a folded field",
            "X: y\r\n Transfer-Encoding: chunked\r\n",
        ),
        (
            "length in a folded field",
            "X: y\r\n Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ),
    ] {
        table.both_refused(
            &format!("coding: {claim}"),
            fields.as_bytes(),
            &chunked_nothing,
        );
    }
    let hello = "5\r\nhello\r\n0\r\n\r\n";
    for (claim, fields) in [
        ("as it should be", "Transfer-Encoding: chunked\r\n"),
        ("in capitals", "TRANSFER-ENCODING: CHUNKED\r\n"),
        ("without space", "Transfer-Encoding:chunked\r\n"),
        ("with tabs around", "Transfer-Encoding: \tchunked\t \r\n"),
        (
            "and another name",
            "Transfer_Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "and TE",
            "TE: trailers, chunked\r\nTransfer-Encoding: chunked\r\n",
        ),
    ] {
        table.both_served(&format!("coding: {claim}"), fields, hello, "hello");
    }
    let on_http10 = |fields: &str, body: &str| {
        format!("POST {PATH} HTTP/1.0\r\nHost: media.example\r\n{fields}\r\n{body}")
    };
    table.add(
        "HTTP/1.0: coding",
        on_http10("Transfer-Encoding: chunked\r\n", &chunked_nothing),
        Refused,
    );
    table.add(
        "HTTP/1.0: coding and keep-alive",
        on_http10(
            "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
            &chunked_nothing,
        ),
        Refused,
    );
    table.add(
        "HTTP/1.0: coding and length",
        on_http10(
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            &chunked_nothing,
        ),
        Refused,
    );
    let hello = || vec![("POST", PATH.to_owned(), "hello".to_owned())];
    table.add(
        "HTTP/1.0: length",
        on_http10("Content-Length: 5\r\n", "hello"),
        Closed(hello()),
    );
    table.add(
        "HTTP/1.0: length and keep-alive",
        on_http10("Connection: keep-alive\r\nContent-Length: 5\r\n", "hello"),
        Served(hello()),
    );
    table.add(
        "HTTP/1.0: no length ends at once",
        on_http10(
            "Connection: keep-alive\r\n",
            &format!("GET {PATH}/next HTTP/1.1\r\nHost: media.example\r\n\r\n"),
        ),
        Served(vec![
            ("POST", PATH.to_owned(), String::new()),
            ("GET", format!("{PATH}/next"), String::new()),
        ]),
    );
    table.add(
        "HTTP/1.0: without Host",
        format!("GET {PATH} HTTP/1.0\r\n\r\n"),
        Closed(vec![("GET", PATH.to_owned(), String::new())]),
    );
    table.scripted_origin_only();
}

fn chunks(table: &mut Table) {
    let coding = "Transfer-Encoding: chunked\r\n";
    let long = "0".repeat(17);
    for (claim, body) in [
        ("no digits", "\r\nhello\r\n0\r\n\r\n"),
        ("no digits, then the end", "\r\n\r\n"),
        ("only an extension", ";a\r\n\r\n"),
        ("space before", " 5\r\nhello\r\n0\r\n\r\n"),
        ("tab before", "\t5\r\nhello\r\n0\r\n\r\n"),
        ("space behind", "5 \r\nhello\r\n0\r\n\r\n"),
        ("space inside", "0 5\r\nhello\r\n0\r\n\r\n"),
        ("plus sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("minus sign", "-5\r\nhello\r\n0\r\n\r\n"),
        ("negative zero", "-0\r\n\r\n"),
        ("prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
        ("other letters", "5g\r\nhello\r\n0\r\n\r\n"),
        ("digits of another script", "\u{665}\r\nhello\r\n0\r\n\r\n"),
        ("NUL behind", "5\0\r\nhello\r\n0\r\n\r\n"),
        ("comma", "5,5\r\nhello\r\n0\r\n\r\n"),
        ("beyond 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("seventeen zeros", &format!("{long}\r\n\r\n")),
        ("bare LF behind the size", "5\nhello\r\n0\r\n\r\n"),
        ("bare CR behind the size", "5\rhello\r\n0\r\n\r\n"),
        ("CR CR LF behind the size", "5\r\r\nhello\r\n0\r\n\r\n"),
        ("bare LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("bare LF ends an extension", "5;a\nhello\r\n0\r\n\r\n"),
        ("bare CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("NUL in an extension", "5;a\0\r\nhello\r\n0\r\n\r\n"),
        ("no CRLF behind the data", "5\r\nhello0\r\n\r\n"),
        ("bare LF behind the data", "5\r\nhello\n0\r\n\r\n"),
        ("bare CR behind the data", "5\r\nhello\r0\r\n\r\n"),
        ("LF CR behind the data", "5\r\nhello\n\r0\r\n\r\n"),
        ("two bytes behind the data", "5\r\nhelloXX0\r\n\r\n"),
        ("longer data than its size", "4\r\nhello\r\n0\r\n\r\n"),
        ("shorter data than its size", "6\r\nhello\r\n0\r\n\r\n"),
        ("bare LF ends the body", "0\r\n\n"),
        ("bare LF twice ends the body", "0\n\n"),
        ("bare CR ends the body", "0\r\n\r"),
        (
            "trailer with a space before the colon",
            "0\r\nA : b\r\n\r\n",
        ),
        ("trailer without colon", "0\r\nA\r\n\r\n"),
        ("folded trailer", "0\r\nA: b\r\n c\r\n\r\n"),
        ("trailer that begins with a space", "0\r\n A: b\r\n\r\n"),
        ("trailer with a bare LF", "0\r\nA: b\nC: d\r\n\r\n"),
        ("trailer with a bare CR", "0\r\nA: b\rC: d\r\n\r\n"),
        ("trailer with NUL", "0\r\nA: \0\r\n\r\n"),
        (
            "request without an end in between",
            "0\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        ),
    ] {
        let body = format!("{body}{SMUGGLED}");
        table.both_refused(&format!("chunks: {claim}"), coding.as_bytes(), &body);
    }
    for (claim, body, seen) in [
        ("nothing", "0\r\n\r\n", ""),
        ("one", "5\r\nhello\r\n0\r\n\r\n", "hello"),
        (
            "several",
            "2\r\nhe\r\n2\r\nll\r\n1\r\no\r\n0\r\n\r\n",
            "hello",
        ),
        (
            "leading zeros",
            "0000000005\r\nhello\r\n000\r\n\r\n",
            "hello",
        ),
        (
            "letters of both cases",
            "a\r\n0123456789\r\nA\r\nabcdefghij\r\n0\r\n\r\n",
            "0123456789abcdefghij",
        ),
        ("extension", "5;a=b\r\nhello\r\n0;c\r\n\r\n", "hello"),
        (
            "quoted extension",
            "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
        (
            "spaces before an extension",
            "5 \t;a\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
        ("trailer", "5\r\nhello\r\n0\r\nA: b\r\nC:\r\n\r\n", "hello"),
        (
            "trailer that names a length",
            "5\r\nhello\r\n0\r\nContent-Length: 47\r\n\r\n",
            "hello",
        ),
        (
            "trailer that names a coding",
            "5\r\nhello\r\n0\r\nTransfer-Encoding: x\r\n\r\n",
            "hello",
        ),
        (
            "line ends as data",
            "4\r\n\r\n\r\n\r\n0\r\n\r\n",
            "\r\n\r\n",
        ),
        (
            "last chunk as data",
            "5\r\n0\r\n\r\n\r\n0\r\n\r\n",
            "0\r\n\r\n",
        ),
    ] {
        table.both_served(&format!("chunks: {claim}"), coding, body, seen);
    }
    let request = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    table.both_served("chunks: a request as data", coding, &request, SMUGGLED);
    // What follows would have to be a size, and the end of five bytes.
    table.both_refused(
        "chunks: a request for a chunk",
        coding.as_bytes(),
        "5\r\nhello\r\n",
    );
    table.both_refused(
        "chunks: a request in an extension",
        coding.as_bytes(),
        "5;a",
    );
    let endless = format!("5;{}", "a".repeat(20_000));
    for (claim, body) in [
        ("as large as can be", "ffffffffffffffff\r\nhello"),
        ("larger than what comes", "100000\r\nhello"),
        ("with an endless extension", &endless),
    ] {
        table.both(&format!("chunks: {claim}"), coding.as_bytes(), body, Cut);
    }
}

fn heads(table: &mut Table) {
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

fn targets_and_hosts(table: &mut Table) {
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

fn connection_and_expect(table: &mut Table) {
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

fn upgrades(table: &mut Table) {
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

fn pipelines(table: &mut Table) {
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
