//! Where a body ends: lengths, codings and chunks.

use super::Verdict::{Closed, Cut, Refused, Served};
use super::{PATH, SMUGGLED, Table};

pub(super) fn lengths(table: &mut Table) {
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

pub(super) fn codings(table: &mut Table) {
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

pub(super) fn chunks(table: &mut Table) {
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
