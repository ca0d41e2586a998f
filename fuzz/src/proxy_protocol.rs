//! The header of the PROXY protocol, as a trusted proxy sends it before anything else.

use tidegate::edge::policy::proxy_protocol::parse;

/// The longest header that is read, of either version.
const LONGEST: usize = 4096;

/// The bytes are what comes on the connection.
pub fn check(data: &[u8]) {
    let verdict = parse(data);
    if let Ok(Some(header)) = verdict {
        assert!(header.bytes <= data.len().min(LONGEST));
        // Behind the header nothing counts, and before its end nothing is settled.
        assert_eq!(parse(&data[..header.bytes]), verdict);
        assert_eq!(parse(&data[..header.bytes - 1]), Ok(None));
        if data.starts_with(b"PROXY TCP4 ") {
            assert!(header.client.is_some_and(|client| client.is_ipv4()));
        }
    }
    if verdict == Ok(None) {
        assert!(data.len() < LONGEST, "a header that never ends");
    }
    for cut in 0..data.len().min(128) {
        match parse(&data[..cut]) {
            Ok(None) => {}
            early => assert_eq!(early, verdict, "cut at {cut}"),
        }
    }
}
