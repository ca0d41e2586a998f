//! One line of the access log: its fields and its form.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

use super::vocabulary::{Outcome, Protocol, Source};

/// A request that has ended, as the access log tells it.
///
/// Fields that are `None` are left out of the line. Texts are escaped here; bytes that are not
/// UTF-8 become U+FFFD. The caller has removed signature parameters from `query`; the query and
/// fragment of `referer` are cut here, since they may hold another site's secrets.
#[derive(Debug, Clone)]
pub struct AccessRecord<'a> {
    /// When the request began (`time`: RFC 3339, UTC, milliseconds).
    pub time: SystemTime,
    /// The id also sent to the client.
    pub request_id: &'a str,
    /// The client's address, without its port.
    pub client: IpAddr,
    /// What the client spoke.
    pub protocol: Protocol,
    /// The TLS version; `None` for plain HTTP.
    pub tls: Option<&'a str>,
    /// The subject of the client's certificate, when it has shown one.
    pub certificate: Option<&'a str>,
    /// The request method, as sent.
    pub method: &'a str,
    /// The authority, as sent.
    pub host: &'a str,
    /// The raw path.
    pub path: &'a str,
    /// The raw query without signature parameters.
    pub query: Option<&'a str>,
    /// The status sent; `None` when the client got none.
    pub status: Option<u16>,
    /// How the request was answered.
    pub outcome: Outcome,
    /// Why, where the outcome alone does not say: the name of a refusal or fault.
    pub reason: Option<&'a str>,
    /// The route's name; `None` when the request was refused before routing.
    pub route: Option<&'a str>,
    /// Body bytes sent.
    pub bytes: u64,
    /// Where most of them came from.
    pub source: Option<Source>,
    /// From the first byte of the request to the last byte of the response (`duration_ms`).
    pub duration: Duration,
    /// From the first byte of the request to the first byte of the response (`ttfb_ms`).
    pub time_to_first_byte: Option<Duration>,
    /// The request's `Range`.
    pub range: Option<&'a [u8]>,
    /// The response's `Content-Range`.
    pub content_range: Option<&'a [u8]>,
    /// The request's `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// The request's `Referer`.
    pub referer: Option<&'a [u8]>,
    /// The origin server asked, as configured.
    pub origin_server: Option<&'a str>,
    /// Whether another request's fill answered this one.
    pub collapsed: bool,
    /// Whether the response ended before its last byte.
    pub aborted: bool,
}

/// What stands before a value, in one piece.
macro_rules! name {
    ($name:literal) => {
        concat!(",\"", $name, "\":").as_bytes()
    };
}

impl AccessRecord<'_> {
    /// When the request ended, by the wall clock.
    pub(super) fn ended(&self) -> SystemTime {
        // Only a clock at the end of time has no sum; such a line takes the place of its beginning.
        self.time.checked_add(self.duration).unwrap_or(self.time)
    }

    /// Appends the record to `line` as one JSON object and a line feed.
    pub(super) fn write_line(&self, line: &mut Vec<u8>, seconds: &mut SecondText) {
        line.extend_from_slice(b"{\"time\":");
        write_time(line, self.time, seconds);
        write_text(line, name!("request_id"), self.request_id);
        write_address(line, name!("client"), self.client);
        write_word(line, name!("protocol"), self.protocol.as_str());
        write_text_if(line, name!("tls"), self.tls);
        write_text_if(line, name!("certificate"), self.certificate);
        write_text(line, name!("method"), self.method);
        write_text(line, name!("host"), self.host);
        write_text(line, name!("path"), self.path);
        write_text_if(line, name!("query"), self.query);
        if let Some(status) = self.status {
            write_number(line, name!("status"), status.into());
        }
        write_word(line, name!("outcome"), self.outcome.as_str());
        write_text_if(line, name!("reason"), self.reason);
        write_text_if(line, name!("route"), self.route);
        write_number(line, name!("bytes"), self.bytes);
        if let Some(source) = self.source {
            write_word(line, name!("source"), source.as_str());
        }
        write_milliseconds(line, name!("duration_ms"), self.duration);
        if let Some(first_byte) = self.time_to_first_byte {
            write_milliseconds(line, name!("ttfb_ms"), first_byte);
        }
        write_bytes_if(line, name!("range"), self.range);
        write_bytes_if(line, name!("content_range"), self.content_range);
        write_bytes_if(line, name!("user_agent"), self.user_agent);
        write_bytes_if(line, name!("referer"), self.referer.map(without_query));
        write_text_if(line, name!("origin_server"), self.origin_server);
        write_flag(line, name!("collapsed"), self.collapsed);
        write_flag(line, name!("aborted"), self.aborted);
        line.extend_from_slice(b"}\n");
    }
}

/// The text of the second that was written last, to the second: a busy node writes thousands of lines
/// in each.
#[derive(Debug, Default)]
pub(super) struct SecondText {
    /// Seconds since the epoch.
    second: i64,
    /// `2026-10-14T17:46:40`; empty before the first use, and for what RFC 3339 cannot say.
    text: String,
}

impl SecondText {
    /// The second as RFC 3339 writes it; empty before the year 0 and after the year 9999.
    fn of(&mut self, second: i64) -> &str {
        if self.second != second || self.text.is_empty() {
            self.second = second;
            self.text = OffsetDateTime::from_unix_timestamp(second)
                .ok()
                .filter(|moment| moment.year() >= 0)
                .map(|moment| {
                    format!(
                        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
                        moment.year(),
                        u8::from(moment.month()),
                        moment.day(),
                        moment.hour(),
                        moment.minute(),
                        moment.second(),
                    )
                })
                .unwrap_or_default();
        }
        &self.text
    }
}

fn without_query(uri: &[u8]) -> &[u8] {
    let end = uri.iter().position(|byte| matches!(byte, b'?' | b'#'));
    &uri[..end.unwrap_or(uri.len())]
}

fn write_text(line: &mut Vec<u8>, name: &[u8], text: &str) {
    if needs_escaping(text) {
        line.extend_from_slice(name);
        serde_json::to_writer(line, text).expect("a string serialises and a Vec takes every byte");
    } else {
        write_word(line, name, text);
    }
}

/// For text that needs no escaping.
fn write_word(line: &mut Vec<u8>, name: &[u8], word: &str) {
    line.reserve(name.len() + word.len() + 2);
    line.extend_from_slice(name);
    line.push(b'"');
    line.extend_from_slice(word.as_bytes());
    line.push(b'"');
}

/// Looks at every byte, without a branch for each, so that it is done many bytes at a time.
fn needs_escaping(text: &str) -> bool {
    let special = |byte: &u8| (*byte < b' ') | (*byte == b'"') | (*byte == b'\\');
    text.as_bytes()
        .iter()
        .fold(false, |found, byte| found | special(byte))
}

fn write_text_if(line: &mut Vec<u8>, name: &[u8], text: Option<&str>) {
    if let Some(text) = text {
        write_text(line, name, text);
    }
}

fn write_bytes_if(line: &mut Vec<u8>, name: &[u8], bytes: Option<&[u8]>) {
    if let Some(bytes) = bytes {
        write_text(line, name, &String::from_utf8_lossy(bytes));
    }
}

fn write_address(line: &mut Vec<u8>, name: &[u8], address: IpAddr) {
    use std::io::Write;
    line.extend_from_slice(name);
    line.push(b'"');
    match address {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    line.push(b'.');
                }
                write_digits(line, octet.into());
            }
        }
        IpAddr::V6(address) => write!(line, "{address}").expect("a Vec takes every byte"),
    }
    line.push(b'"');
}

fn write_number(line: &mut Vec<u8>, name: &[u8], number: u64) {
    line.extend_from_slice(name);
    write_digits(line, number);
}

fn write_digits(line: &mut Vec<u8>, number: u64) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A number below a thousand, with leading zeros.
fn write_three_digits(line: &mut Vec<u8>, number: u64) {
    let digit = |place: u64| b'0' + (number / place % 10) as u8;
    line.extend_from_slice(&[digit(100), digit(10), digit(1)]);
}

fn write_flag(line: &mut Vec<u8>, name: &[u8], flag: bool) {
    line.extend_from_slice(name);
    line.extend_from_slice(if flag { b"true" } else { b"false" });
}

/// Milliseconds with three decimals: a hit takes a few hundredths of one.
fn write_milliseconds(line: &mut Vec<u8>, name: &[u8], duration: Duration) {
    line.extend_from_slice(name);
    // 2^64 microseconds are more than half a million years.
    let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    write_digits(line, microseconds / 1000);
    line.push(b'.');
    write_three_digits(line, microseconds % 1000);
}

/// RFC 3339 in UTC with milliseconds; `null` beyond the year 9999, which RFC 3339 cannot say.
fn write_time(line: &mut Vec<u8>, time: SystemTime, seconds: &mut SecondText) {
    let (second, nanoseconds) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()).ok(), after.subsec_nanos()),
        Err(before) => floor_before_epoch(before.duration()),
    };
    let text = second.map_or("", |second| seconds.of(second));
    if text.is_empty() {
        line.extend_from_slice(b"null");
        return;
    }
    line.push(b'"');
    line.extend_from_slice(text.as_bytes());
    line.push(b'.');
    write_three_digits(line, u64::from(nanoseconds / 1_000_000));
    line.extend_from_slice(b"Z\"");
}

/// The second in which the moment `before` the epoch lies, and the nanoseconds since that began.
fn floor_before_epoch(before: Duration) -> (Option<i64>, u32) {
    let whole = i64::try_from(before.as_secs()).ok();
    match before.subsec_nanos() {
        0 => (whole.map(|whole| -whole), 0),
        part => (whole.map(|whole| -whole - 1), 1_000_000_000 - part),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub(in super::super) fn record() -> AccessRecord<'static> {
        AccessRecord {
            time: UNIX_EPOCH + Duration::from_millis(1_792_000_000_042),
            request_id: "a1",
            client: "2001:db8::7".parse().unwrap(),
            protocol: Protocol::Http11,
            tls: None,
            certificate: None,
            method: "GET",
            host: "media.example",
            path: "/v/a.mp4",
            query: None,
            status: None,
            outcome: Outcome::Hit,
            reason: None,
            route: None,
            bytes: 0,
            source: None,
            duration: Duration::from_micros(12),
            time_to_first_byte: None,
            range: None,
            content_range: None,
            user_agent: None,
            referer: None,
            origin_server: None,
            collapsed: false,
            aborted: false,
        }
    }

    fn parsed(record: &AccessRecord<'_>) -> Value {
        let mut line = Vec::new();
        record.write_line(&mut line, &mut SecondText::default());
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(line.last(), Some(&b'\n'));
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn absent_fields_are_left_out() {
        assert_eq!(
            parsed(&record()),
            json!({
                "time": "2026-10-14T17:46:40.042Z", "request_id": "a1", "client": "2001:db8::7",
                "protocol": "http/1.1", "method": "GET", "host": "media.example",
                "path": "/v/a.mp4", "outcome": "hit", "bytes": 0, "duration_ms": 0.012,
                "collapsed": false, "aborted": false,
            })
        );
    }

    #[test]
    fn every_field_is_told() {
        let full = AccessRecord {
            tls: Some("TLSv1.3"),
            certificate: Some("CN=player"),
            query: Some("x=1"),
            status: Some(206),
            reason: Some("expired"),
            route: Some("media"),
            bytes: u64::MAX,
            source: Some(Source::Origin),
            duration: Duration::from_millis(61_005),
            time_to_first_byte: Some(Duration::from_micros(1_500)),
            range: Some(b"bytes=0-9"),
            content_range: Some(b"bytes 0-9/100"),
            user_agent: Some(b"curl/8"),
            referer: Some(b"https://a.example/p"),
            origin_server: Some("127.0.0.1:9000"),
            collapsed: true,
            aborted: true,
            protocol: Protocol::H2,
            ..record()
        };
        assert_eq!(
            parsed(&full),
            json!({
                "time": "2026-10-14T17:46:40.042Z", "request_id": "a1", "client": "2001:db8::7",
                "protocol": "h2", "tls": "TLSv1.3", "certificate": "CN=player", "method": "GET", "host": "media.example",
                "path": "/v/a.mp4", "query": "x=1", "status": 206, "outcome": "hit",
                "reason": "expired", "route": "media", "bytes": u64::MAX, "source": "origin",
                "duration_ms": 61005.0, "ttfb_ms": 1.5, "range": "bytes=0-9",
                "content_range": "bytes 0-9/100", "user_agent": "curl/8",
                "referer": "https://a.example/p", "origin_server": "127.0.0.1:9000",
                "collapsed": true, "aborted": true,
            })
        );
    }

    #[test]
    fn plain_text_and_text_that_is_escaped_read_the_same() {
        for text in [
            "",
            "a/b?c=%22",
            "caf\u{e9}\u{7f}",
            " ~",
            "\u{1f}",
            "\"",
            "\\",
            "\u{0}",
        ] {
            let path = AccessRecord {
                path: text,
                ..record()
            };
            assert_eq!(parsed(&path)["path"], text, "{text:?}");
            let escaped = serde_json::to_string(text).unwrap();
            let changed = escaped != format!("\"{text}\"");
            assert_eq!(needs_escaping(text), changed, "{text:?}");
        }
    }

    #[test]
    fn client_is_an_address_of_either_family() {
        for address in ["127.0.0.1", "255.9.10.0", "::1", "::ffff:1.2.3.4"] {
            let client = AccessRecord {
                client: address.parse().unwrap(),
                ..record()
            };
            assert_eq!(parsed(&client)["client"], address);
        }
    }

    #[test]
    fn lines_of_different_seconds_share_no_text() {
        let mut seconds = SecondText::default();
        let mut time = |milliseconds: u64| {
            let mut line = Vec::new();
            let time = UNIX_EPOCH + Duration::from_millis(milliseconds);
            write_time(&mut line, time, &mut seconds);
            String::from_utf8(line).unwrap()
        };
        assert_eq!(time(999), "\"1970-01-01T00:00:00.999Z\"");
        assert_eq!(time(1_000), "\"1970-01-01T00:00:01.000Z\"");
        assert_eq!(time(1_001), "\"1970-01-01T00:00:01.001Z\"");
        assert_eq!(time(253_402_300_800_000), "null");
        assert_eq!(time(999), "\"1970-01-01T00:00:00.999Z\"");
    }

    #[test]
    fn hostile_text_stays_inside_its_field() {
        let hostile = AccessRecord {
            path: "/\"},\n{\"status\":200,\u{7}\u{1F600}\\",
            user_agent: Some(b"\xff\"\r\n\0"),
            ..record()
        };
        let value = parsed(&hostile);
        assert_eq!(value["path"], hostile.path);
        assert_eq!(value["user_agent"], "\u{fffd}\"\r\n\0");
        assert_eq!(value.get("status"), None);
    }

    #[test]
    fn referer_loses_its_query_and_fragment() {
        for (sent, logged) in [
            ("https://a.example/p?token=1", "https://a.example/p"),
            ("https://a.example/p#t?x", "https://a.example/p"),
            ("https://a.example/?", "https://a.example/"),
            ("?", ""),
            ("", ""),
        ] {
            let record = AccessRecord {
                referer: Some(sent.as_bytes()),
                ..record()
            };
            assert_eq!(parsed(&record)["referer"], logged);
        }
    }

    #[test]
    fn time_is_rfc_3339_on_both_sides_of_the_epoch_and_null_where_it_has_no_form() {
        let at = |time| parsed(&AccessRecord { time, ..record() })["time"].clone();
        assert_eq!(at(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
        let before = UNIX_EPOCH - Duration::from_millis(1);
        assert_eq!(at(before), "1969-12-31T23:59:59.999Z");
        let second = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(at(second), "1969-12-31T23:59:59.000Z");
        let last = UNIX_EPOCH + Duration::from_millis(253_402_300_799_999);
        assert_eq!(at(last), "9999-12-31T23:59:59.999Z");
        assert_eq!(at(last + Duration::from_millis(1)), Value::Null);
    }
}
