//! The checks of single values: what an operator may write for a size, an address, a path, a secret.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::num::{NonZeroUsize, ParseIntError};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_yaml::Value;
use zeroize::Zeroizing;

use super::checked::AccessLog;
use super::network::{Network, NetworkFault};
use super::policies::CorsOrigin;
use super::problem::Reason;
use super::reader::{Parser, wrong_type};
use super::rights::BucketPattern;
use super::rules::StatusKey;
use super::units;
use crate::secret::Secret;
use crate::signing::{Expression, JwkSet, PublicKey};

/// Nobody's secret is longer, and a file given by mistake should not be read to its end.
const SECRET_LIMIT_BYTES: u64 = 4096;

/// Room for hundreds of public keys.
const KEYS_LIMIT_BYTES: u64 = 256 << 10;

/// A text that `check` accepts.
fn checked_text<'p, T>(
    values: impl Into<String>,
    check: impl Fn(&str) -> Result<T, Reason> + 'p,
) -> Parser<'p, T> {
    Parser {
        values: values.into(),
        parse: Box::new(move |value| match value {
            Value::String(text) if text.is_empty() => Err(Reason::EmptyText),
            Value::String(text) => check(text),
            other => Err(wrong_type("text", other)),
        }),
    }
}

/// A number with a unit.
fn with_unit<'p, T: PartialOrd + Copy + 'p>(
    range: RangeInclusive<T>,
    example: &'static str,
    read: fn(&str) -> Result<T, units::UnitFault>,
    show: fn(T) -> String,
) -> Parser<'p, T> {
    let values = format!("{} to {}", show(*range.start()), show(*range.end()));
    let shown = values.clone();
    let parse = move |value: &Value| match value {
        Value::Number(number) => Err(Reason::BareNumber {
            value: number.to_string(),
            example,
        }),
        Value::String(text) => {
            let amount = read(text)?;
            if range.contains(&amount) {
                Ok(amount)
            } else {
                Err(out_of_range(text, &shown))
            }
        }
        other => Err(wrong_type("a number with a unit", other)),
    };
    Parser {
        values,
        parse: Box::new(parse),
    }
}

fn out_of_range(value: impl ToString, range: &str) -> Reason {
    Reason::OutOfRange {
        value: value.to_string(),
        range: range.to_owned(),
    }
}

/// A size in bytes.
pub(super) fn size(range: RangeInclusive<u64>) -> Parser<'static, u64> {
    with_unit(range, "256MiB", units::size, units::show_size)
}

/// A duration.
pub(super) fn duration(range: RangeInclusive<Duration>) -> Parser<'static, Duration> {
    with_unit(range, "30s", units::duration, units::show_duration)
}

/// A whole number without a unit.
pub(super) fn count(range: RangeInclusive<usize>) -> Parser<'static, usize> {
    let values = format!("{} to {}", range.start(), range.end());
    let shown = values.clone();
    let parse = move |value: &Value| {
        let Value::Number(number) = value else {
            return Err(wrong_type("a whole number", value));
        };
        (number.as_u64())
            .and_then(|number| usize::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| out_of_range(number, &shown))
    };
    Parser {
        values,
        parse: Box::new(parse),
    }
}

/// A whole number that is at least one.
pub(super) fn at_least_one(max: usize) -> Parser<'static, NonZeroUsize> {
    let count = count(1..=max);
    Parser {
        values: count.values,
        parse: Box::new(move |value| {
            let number = (count.parse)(value)?;
            Ok(NonZeroUsize::new(number).expect("the range starts at one"))
        }),
    }
}

/// A share in whole hundredths.
pub(super) fn percent(range: RangeInclusive<u8>) -> Parser<'static, u8> {
    let range = u64::from(*range.start())..=u64::from(*range.end());
    with_unit(range, "5%", units::percent, |percent| format!("{percent}%"))
        .map(|percent| u8::try_from(percent).expect("the range ends where a u8 does or before"))
}

/// `true` or `false`.
pub(super) fn true_or_false() -> Parser<'static, bool> {
    Parser {
        values: "true or false".to_owned(),
        parse: Box::new(|value| match value {
            Value::Bool(flag) => Ok(*flag),
            other => Err(wrong_type("true or false", other)),
        }),
    }
}

/// What `parser` reads, or the word `none`.
pub(super) fn or_none<'p, T: 'p>(parser: Parser<'p, T>) -> Parser<'p, Option<T>> {
    Parser {
        values: format!("none or {}", parser.values),
        parse: Box::new(move |value| match value.as_str() {
            Some("none") => Ok(None),
            _ => (parser.parse)(value).map(Some),
        }),
    }
}

/// A final status, or the class of all client or server errors. YAML reads `404` as a number.
pub(super) fn status() -> Parser<'static, StatusKey> {
    Parser {
        values: "200 to 599, 4xx or 5xx".to_owned(),
        parse: Box::new(|value| {
            let text = match value {
                Value::Number(number) => number.to_string(),
                Value::String(text) => text.clone(),
                other => return Err(wrong_type("a status", other)),
            };
            match text.as_str() {
                "4xx" => return Ok(StatusKey::ClientError),
                "5xx" => return Ok(StatusKey::ServerError),
                _ => {}
            }
            (StatusCode::from_bytes(text.as_bytes()).ok())
                .filter(|status| (200..=599).contains(&status.as_u16()))
                .map(StatusKey::Exact)
                .ok_or(Reason::NotAStatus(text))
        }),
    }
}

/// The name of a query parameter, as clients send it.
pub(super) fn query_parameter() -> Parser<'static, String> {
    checked_text("a parameter's name", |text| {
        if (text.bytes()).all(|byte| byte.is_ascii_graphic() && !b"&=#*".contains(&byte)) {
            Ok(text.to_owned())
        } else {
            Err(Reason::NotAParameter(text.to_owned()))
        }
    })
}

/// The name of a request field; case does not matter.
pub(super) fn field_name() -> Parser<'static, HeaderName> {
    checked_text("a field", |text| {
        match HeaderName::from_bytes(text.as_bytes()) {
            // A token, and yet what `Vary` means by it is no field.
            Ok(name) if name.as_str() != "*" => Ok(name),
            _ => Err(Reason::NotAField(text.to_owned())),
        }
    })
}

/// The value of a field, as it is sent.
pub(super) fn field_value() -> Parser<'static, HeaderValue> {
    checked_text("a value", |text| {
        let visible = |byte: u8| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t';
        let trimmed = text.trim_ascii().len() == text.len();
        HeaderValue::from_str(text)
            .ok()
            .filter(|_| trimmed && text.bytes().all(visible))
            .ok_or_else(|| Reason::NotAFieldValue(text.to_owned()))
    })
}

/// A method, in upper case as clients send it.
pub(super) fn method() -> Parser<'static, Method> {
    checked_text("a method", |text| {
        let upper_case = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        let method = Method::from_bytes(text.as_bytes()).ok();
        method
            // The gate lets neither in (`admit`).
            .filter(|method| upper_case && *method != Method::CONNECT && *method != Method::TRACE)
            .ok_or_else(|| Reason::NotAMethod(text.to_owned()))
    })
}

/// A web origin, or all below a domain.
pub(super) fn cors_origin() -> Parser<'static, CorsOrigin> {
    checked_text("an origin", |text| {
        CorsOrigin::read(text).ok_or_else(|| Reason::NotAnOrigin(text.to_owned()))
    })
}

/// One of a few words, each with what it stands for.
pub(super) fn one_of<T: Copy>(
    words: &'static [&'static str],
    meanings: &'static [T],
) -> Parser<'static, T> {
    assert_eq!(words.len(), meanings.len(), "each word has one meaning");
    checked_text(words.join(" or "), move |text| {
        let found = words.iter().position(|word| *word == text);
        found
            .map(|index| meanings[index])
            .ok_or_else(|| Reason::NotOneOf {
                value: text.to_owned(),
                known: words,
            })
    })
}

/// A block of addresses.
pub(super) fn network() -> Parser<'static, Network> {
    checked_text("a CIDR block", |text| {
        text.parse().map_err(|fault| match fault {
            NetworkFault::Syntax => Reason::NotANetwork(text.to_owned()),
            NetworkFault::HostBits { meant } => Reason::NetworkHostBits {
                value: text.to_owned(),
                meant: meant.to_string(),
            },
        })
    })
}

/// How often something may happen, as the time for one.
pub(super) fn rate() -> Parser<'static, Duration> {
    checked_text("1/h to 1000000/s", |text| Ok(units::interval(text)?))
}

/// A local socket address; port 0 asks the system for a free one.
pub(super) fn address() -> Parser<'static, SocketAddr> {
    checked_text("IP:port", |text| {
        (text.parse()).map_err(|_| Reason::NotAnAddress(text.to_owned()))
    })
}

/// An origin server, `host:port`.
pub(super) fn server() -> Parser<'static, String> {
    checked_text("host:port", |text| {
        let well_formed = match text.rsplit_once(':') {
            Some((host, port)) => is_port(port) && is_server_host(host),
            None => false,
        };
        if well_formed {
            Ok(text.to_owned())
        } else {
            Err(Reason::NotAServer(text.to_owned()))
        }
    })
}

fn is_port(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port: Result<u16, ParseIntError> = text.parse();
    digits && port.is_ok_and(|port| port != 0)
}

pub(super) fn is_server_host(host: &str) -> bool {
    match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(ipv6) => ipv6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_dns_name(host),
    }
}

/// Letters, digits, `-` and `_` in labels of 1 to 63 and at most 253 in all; IPv4 addresses pass as well.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && (label.bytes()).all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The host of a route: a DNS name in lower case or an IP address, without port.
pub(super) fn host() -> Parser<'static, String> {
    checked_text("a host name", |text| {
        let lower_case = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        if lower_case && is_server_host(text) {
            Ok(text.to_owned())
        } else {
            Err(Reason::NotAHost(text.to_owned()))
        }
    })
}

/// A host with or without a port, as `Host` has it.
pub(super) fn authority() -> Parser<'static, String> {
    checked_text("host or host:port", |text| {
        let is_host = is_server_host(text);
        let has_port = || {
            let parts = text.rsplit_once(':');
            parts.is_some_and(|(host, port)| is_port(port) && is_server_host(host))
        };
        if is_host || has_port() {
            Ok(text.to_owned())
        } else {
            Err(Reason::NotAnAuthority(text.to_owned()))
        }
    })
}

/// A prefix of a request's path, compared byte for byte.
pub(super) fn path_prefix() -> Parser<'static, String> {
    checked_text("a path that begins with /", |text| {
        let visible = (text.bytes()).all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
        let dot_segment = text.split('/').any(|part| part == "." || part == "..");
        if text.starts_with('/') && visible && !dot_segment {
            Ok(text.to_owned())
        } else {
            Err(Reason::NotAPath(text.to_owned()))
        }
    })
}

/// What a URL begins with: scheme and server at least.
pub(super) fn url_prefix() -> Parser<'static, String> {
    checked_text("what a URL begins with", |text| {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        let server = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"))
            .and_then(|rest| rest.split_once('/'));
        match server {
            Some((server, _)) if visible && !server.is_empty() && !server.contains('@') => {
                Ok(text.to_owned())
            }
            _ => Err(Reason::NotAUrlPrefix(text.to_owned())),
        }
    })
}

/// A name that logs and metrics carry.
pub(super) fn name() -> Parser<'static, String> {
    checked_text("a name", |text| check_name(text).map(|()| text.to_owned()))
}

/// The check of [`name`], for names that are keys of a mapping.
pub(super) fn check_name(text: &str) -> Result<(), Reason> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:*".contains(&byte);
    if text.is_empty() {
        Err(Reason::EmptyText)
    } else if text.bytes().all(fits) {
        Ok(())
    } else {
        Err(Reason::NotAName(text.to_owned()))
    }
}

/// An access key id or a region: it stands between slashes in the credential of a signature.
pub(super) fn credential_part(values: &'static str) -> Parser<'static, String> {
    checked_text(values, |text| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if text.bytes().all(fits) {
            Ok(text.to_owned())
        } else {
            Err(Reason::NotACredentialPart(text.to_owned()))
        }
    })
}

/// Which buckets a credential is for.
pub(super) fn bucket_pattern() -> Parser<'static, BucketPattern> {
    checked_text("a bucket's name with * and ?", BucketPattern::new)
}

/// A folder or a file that need not exist yet, made absolute.
pub(super) fn path<'p>(values: &'static str, base: &'p Path) -> Parser<'p, PathBuf> {
    checked_text(values, |text| Ok(base.join(text)))
}

/// Where the access log goes; a file may be called `off` by writing `./off`.
pub(super) fn access_log(base: &Path) -> Parser<'_, AccessLog> {
    checked_text("off, stdout or a file", |text| {
        Ok(match text {
            "off" => AccessLog::Off,
            "stdout" => AccessLog::Stdout,
            file => AccessLog::File(base.join(file)),
        })
    })
}

/// The name of a claim, an issuer, an audience: any text.
pub(super) fn text(values: &'static str) -> Parser<'static, String> {
    checked_text(values, |text| Ok(text.to_owned()))
}

/// What a secure link is a hash of.
pub(super) fn expression() -> Parser<'static, Expression> {
    checked_text("an expression", |text| Ok(Expression::parse(text)?))
}

/// A file that holds a public key.
pub(super) fn public_key_file(base: &Path) -> Parser<'_, PublicKey> {
    checked_text("a PEM file", |text| {
        let file = base.join(text);
        let contents = read_public(&file)?;
        PublicKey::from_pem(&contents).map_err(|fault| Reason::NoPublicKey { file, fault })
    })
}

/// A file that holds a set of keys, which may be secret ones.
pub(super) fn jwks_file(base: &Path) -> Parser<'_, JwkSet> {
    checked_text("a JSON file", |text| {
        let file = base.join(text);
        let contents = read_key_file(&file)?;
        JwkSet::parse(&contents).map_err(|fault| Reason::NoKeySet { file, fault })
    })
}

/// An environment variable that holds one secret.
pub(super) fn secret_variable() -> Parser<'static, Secret> {
    checked_text("an environment variable", |name| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if !name.bytes().all(fits) {
            return Err(Reason::NotAVariable(name.to_owned()));
        }
        let held = std::env::var(name).map(Zeroizing::new).ok();
        let secret = held.as_deref().map(|text| text.trim_ascii());
        match secret {
            Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Secret::new(text))
            }
            _ => Err(Reason::NotInEnvironment(name.to_owned())),
        }
    })
}

/// A file that holds one secret on one line.
pub(super) fn secret_file(base: &Path) -> Parser<'_, Secret> {
    checked_text("a file that only its owner can read", |text| {
        read_secret(&base.join(text))
    })
}

/// Reads a file that holds one secret on one line; white space around it is dropped.
///
/// # Errors
/// When it cannot be read, is open to every user of the machine, is empty, longer than 4 KiB, or holds
/// anything but one line of visible ASCII. The error never repeats the contents.
pub fn read_secret(file: &Path) -> Result<Secret, Reason> {
    let (mut handle, mode) = open_regular(file)?;
    let file = file.to_owned();
    if mode & 0o007 != 0 {
        return Err(Reason::WorldAccessible { file, mode });
    }
    // As long as it can get, so that nothing is left behind when it grows.
    let capacity = usize::try_from(SECRET_LIMIT_BYTES).expect("4 KiB fit every usize") + 1;
    let mut contents = Zeroizing::new(Vec::with_capacity(capacity));
    (&mut handle)
        .take(SECRET_LIMIT_BYTES + 1)
        .read_to_end(&mut contents)
        .map_err(|error| unreadable(&file, &error))?;
    if contents.len() as u64 > SECRET_LIMIT_BYTES {
        let bytes = handle.metadata().map_or(0, |metadata| metadata.len());
        return Err(Reason::SecretTooLong {
            file,
            bytes,
            limit: SECRET_LIMIT_BYTES,
        });
    }
    let secret = contents.trim_ascii();
    if secret.is_empty() {
        return Err(Reason::EmptySecret(file));
    }
    match std::str::from_utf8(secret) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Secret::new(text)),
        _ => Err(Reason::NotASecret(file)),
    }
}

/// Reads a file of keys, whatever its form.
///
/// # Errors
/// When it cannot be read, is open to every user of the machine, or is longer than 256 KiB.
pub fn read_key_file(file: &Path) -> Result<Zeroizing<Vec<u8>>, Reason> {
    let (handle, mode) = open_regular(file)?;
    if mode & 0o007 != 0 {
        let file = file.to_owned();
        return Err(Reason::WorldAccessible { file, mode });
    }
    read_bounded(file, handle)
}

/// Reads a file that everybody may read.
fn read_public(file: &Path) -> Result<Zeroizing<Vec<u8>>, Reason> {
    let (handle, _) = open_regular(file)?;
    read_bounded(file, handle)
}

fn read_bounded(file: &Path, handle: File) -> Result<Zeroizing<Vec<u8>>, Reason> {
    let mut contents = Zeroizing::new(Vec::new());
    handle
        .take(KEYS_LIMIT_BYTES + 1)
        .read_to_end(&mut contents)
        .map_err(|error| unreadable(file, &error))?;
    let bytes = contents.len() as u64;
    if bytes > KEYS_LIMIT_BYTES {
        return Err(Reason::SecretTooLong {
            file: file.to_owned(),
            bytes,
            limit: KEYS_LIMIT_BYTES,
        });
    }
    Ok(contents)
}

/// A certificate chain in PEM, parsed and then forgotten: the listener reads it again.
pub(super) fn chain_file(base: &Path) -> Parser<'_, PathBuf> {
    certificates_file("a PEM file, leaf first", base)
}

/// Certificates of authorities in PEM, likewise.
pub(super) fn ca_file(base: &Path) -> Parser<'_, PathBuf> {
    certificates_file("a PEM file", base)
}

fn certificates_file<'p>(values: &'static str, base: &'p Path) -> Parser<'p, PathBuf> {
    checked_text(values, |text| {
        let file = base.join(text);
        open_regular(&file)?;
        let chain = CertificateDer::pem_file_iter(&file)
            .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>());
        match chain {
            Ok(chain) if chain.is_empty() => Err(Reason::NoCertificate(file)),
            Ok(_) => Ok(file),
            Err(error) => Err(pem_fault(file, &error, Reason::NoCertificate)),
        }
    })
}

/// A private key in PEM; the second value is its mode when every user may read it.
pub(super) fn private_key_file(base: &Path) -> Parser<'_, (PathBuf, Option<u32>)> {
    checked_text("a PEM file", |text| {
        let file = base.join(text);
        let (_, mode) = open_regular(&file)?;
        match PrivateKeyDer::from_pem_file(&file) {
            Ok(_) => Ok((file, (mode & 0o007 != 0).then_some(mode))),
            Err(error) => Err(pem_fault(file, &error, Reason::NoPrivateKey)),
        }
    })
}

fn pem_fault(file: PathBuf, error: &pem::Error, none: fn(PathBuf) -> Reason) -> Reason {
    match error {
        pem::Error::NoItemsFound => none(file),
        pem::Error::Io(error) => unreadable(&file, error),
        _ => Reason::BrokenPem(file),
    }
}

/// Opens a regular file and tells its permission bits. A pipe would make the check wait for ever.
fn open_regular(file: &Path) -> Result<(File, u32), Reason> {
    let metadata = std::fs::metadata(file).map_err(|error| unreadable(file, &error))?;
    if !metadata.is_file() {
        return Err(Reason::NotAFile(file.to_owned()));
    }
    let handle = File::open(file).map_err(|error| unreadable(file, &error))?;
    Ok((handle, metadata.permissions().mode() & 0o7777))
}

fn unreadable(file: &Path, error: &io::Error) -> Reason {
    Reason::Unreadable {
        file: file.to_owned(),
        kind: error.kind(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_a_host_and_a_port() {
        for text in [
            "127.0.0.1:9000",
            "[::1]:9000",
            "store:1",
            "a.b-c.example:65535",
            "minio_1:9000",
        ] {
            let value = Value::String(text.to_owned());
            assert_eq!((server().parse)(&value), Ok(text.to_owned()));
        }
        for text in [
            "127.0.0.1",
            "store:",
            "store:0",
            "store:65536",
            "store:+1",
            ":9000",
            "::1:9000",
            "[::1]",
            "[store]:1",
            "http://store:9000",
            "store:9000/",
            "a..b:1",
            "-a:1",
            "a b:1",
        ] {
            let value = Value::String(text.to_owned());
            let refused = Err(Reason::NotAServer(text.to_owned()));
            assert_eq!((server().parse)(&value), refused, "{text}");
        }
    }

    #[test]
    fn path_prefixes_begin_with_a_slash_and_hold_no_dot_segment() {
        let parse = |text: &str| (path_prefix().parse)(&Value::String(text.to_owned()));
        for text in ["/", "/public/", "/a.b/..c", "/%20"] {
            assert_eq!(parse(text), Ok(text.to_owned()));
        }
        for text in ["public/", "/a?b", "/a#b", "/a b", "/a/../b", "/.", "/ü"] {
            assert_eq!(parse(text), Err(Reason::NotAPath(text.to_owned())));
        }
    }

    #[test]
    fn ranges_include_both_ends_and_nothing_beyond() {
        let parse = |text: &str| (size(1024..=2048).parse)(&Value::String(text.to_owned()));
        assert_eq!(parse("1024B"), Ok(1024));
        assert_eq!(parse("2KiB"), Ok(2048));
        assert!(parse("1023B").is_err());
        assert_eq!(
            parse("2049B").map_err(|reason| reason.to_string()),
            Err("2049B is out of range: 1KiB to 2KiB".to_owned())
        );
        let parse = |number: i64| (count(1..=3).parse)(&Value::Number(number.into()));
        assert_eq!(parse(1), Ok(1));
        assert_eq!(parse(3), Ok(3));
        for number in [-1, 0, 4] {
            assert!(parse(number).is_err());
        }
    }
}
