//! What the fuzz targets check, one module per parser that strangers can reach.
//!
//! Each `check` takes any bytes at all and panics when a claim about the parser does not hold. libFuzzer calls
//! it through `fuzz_targets/`; the crate's own `tests/fuzz_corpora.rs` includes this file and calls it for every
//! file in `corpus/`, so that nothing in here may need libFuzzer.
//!
//! Inputs are made of lines, so that a corpus file can be read and written by hand, except where the parser reads
//! a binary form.

pub mod aws_chunked;
pub mod bucket_policy;
pub mod cache_control;
pub mod cache_tags;
pub mod chunked;
pub mod cloudfront;
pub mod conditional;
pub mod config;
pub mod cors;
mod credentials;
pub mod disk_format;
pub mod documents;
pub mod form_data;
pub mod forwarded;
pub mod h2_frames;
pub mod http_date;
pub mod invalidation;
pub mod jwt;
pub mod lifecycle;
pub mod post_policy;
pub mod presigned;
pub mod proxy_protocol;
pub mod range;
pub mod request_h2;
pub mod request_head;
pub mod s3_target;
pub mod signed_header;
pub mod sigv2;
pub mod stored_form;
pub mod tagging;
pub mod targeted;
pub mod token;
pub mod vary;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate::origin::names::parse_target;
use tidegate::origin::query::Query;
use tidegate::secret::Secret;
use tidegate::signing::{Keyring, Rules};

/// The one key that the harness signs with.
const ACCESS_KEY_ID: &str = "AKIDEXAMPLE";
const REGION: &str = "us-east-1";

fn secret() -> Secret {
    Secret::new("known-to-the-harness-only")
}

static KEYRING: LazyLock<Keyring> =
    LazyLock::new(|| Keyring::new([(ACCESS_KEY_ID.to_owned(), secret())]));

/// The same key, allowed to sign with Version 2.
static KEYRING_V2: LazyLock<Keyring> = LazyLock::new(|| {
    let keys = [(ACCESS_KEY_ID.to_owned(), secret())];
    Keyring::new(keys).allow_sigv2(ACCESS_KEY_ID)
});

const RULES: Rules<'static> = Rules {
    region: Some(REGION),
    clock_leeway: Duration::ZERO,
    domain: None,
};

/// The instant at which everything is signed and verified: 2013-05-24T00:00:00Z, as in S3's examples.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600)
}

/// The next line without its line feed; the empty slice when there is none.
fn take_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest.iter().position(|byte| *byte == b'\n');
    let line = &rest[..end.unwrap_or(rest.len())];
    *rest = end.map_or(&[], |end| &rest[end + 1..]);
    line
}

/// The next line as text, or `None` when it is not UTF-8.
fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_line(rest)).ok()
}

/// The next line as a number: decimal where it looks like one, else its first eight bytes.
fn take_number(rest: &mut &[u8]) -> u64 {
    let line = take_line(rest);
    let decimal = std::str::from_utf8(line)
        .ok()
        .and_then(|text| text.parse().ok());
    decimal.unwrap_or_else(|| {
        let bytes = line.iter().take(8);
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    })
}

/// Reads `name: value` lines; a line that is no field is left out, as no client of ours would get it this far.
fn fields<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines {
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    fields
}

/// What percent-encoding stands for; a broken escape stands for itself. Written apart from the crate's decoders,
/// because it judges them.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| (*text.get(at)? as char).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high << 4 | low).expect("two digits make a byte"));
                at += 3;
            }
            (byte, _, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// The parts of a request that a signature covers, raw, one per line: method, host, path, query.
#[derive(Debug, Clone)]
struct Line {
    method: String,
    host: String,
    path: String,
    query: String,
}

impl Line {
    /// This line with the byte at `position` replaced by `text`; `None` when that makes no four lines of text.
    fn edited(&self, position: u64, text: &[u8]) -> Option<Line> {
        let mut all = [&*self.method, &self.host, &self.path, &self.query]
            .join("\n")
            .into_bytes();
        let at = usize::try_from(position % all.len() as u64).ok()?;
        all.splice(at..=at, text.iter().copied());
        let all = String::from_utf8(all).ok()?;
        let mut parts = all.split('\n').map(str::to_owned);
        let line = Line {
            method: parts.next()?,
            host: parts.next()?,
            path: parts.next()?,
            query: parts.next()?,
        };
        parts.next().is_none().then_some(line)
    }

    /// What the line says, apart from how it is spelled. Written apart from the crate's canonical request,
    /// because it judges it.
    fn meaning(&self) -> impl PartialEq + std::fmt::Debug {
        let host = self.host.split([' ', '\t']).filter(|word| !word.is_empty());
        let path = if self.path.is_empty() {
            "/"
        } else {
            &self.path
        };
        let segments = path
            .split('/')
            .map(|segment| percent_decoded(segment.as_bytes()));
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| percent_decoded(text.replace('+', " ").as_bytes());
            (decoded(name), decoded(value))
        });
        let mut pairs: Vec<_> = pairs
            .filter(|(name, _)| name != b"X-Amz-Signature")
            .collect();
        pairs.sort();
        (
            self.method.clone(),
            host.collect::<Vec<_>>().join(" "),
            segments.collect::<Vec<_>>(),
            pairs,
        )
    }

    /// Claims that one signature stands for both lines only if they say the same, to the store as well.
    fn assert_same_meaning(&self, other: &Line) {
        assert_eq!(self.meaning(), other.meaning());
        if let (Ok(target), Ok(again)) = (parse_target(&self.path), parse_target(&other.path)) {
            assert_eq!(target, again);
        }
        let sorted = |raw: &str| {
            let query = Query::parse(raw).ok()?;
            let pairs = query.iter().filter(|(name, _)| *name != "X-Amz-Signature");
            let mut pairs: Vec<_> = pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            pairs.sort();
            Some(pairs)
        };
        assert_eq!(sorted(&self.query), sorted(&other.query));
    }
}
