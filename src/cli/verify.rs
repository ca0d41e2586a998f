//! `tidegate verify`: judges a signed URL as the edge would, and says why.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::secret::Secret;
use crate::signing::{
    Grant, Keyring, Refusal, Rules, SignedRequest, explain_presigned, verify_presigned,
};

use super::verify_with::advice_on_credential;
use super::{compare, secret};

/// How far a URL may be dated ahead: what the edge allows by default.
const CLOCK_LEEWAY: Duration = Duration::from_secs(15 * 60);

/// Say whether a signed URL is valid, and why not.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The configuration of an edge: its keys of all schemes count, and its routes.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret_file", "key_id", "region"])]
    pub config: Option<PathBuf>,
    /// The file that holds the key's secret, to judge a presigned URL without a configuration.
    #[arg(long, required_unless_present = "config")]
    pub secret_file: Option<PathBuf>,
    /// The access key id that the secret belongs to.
    #[arg(long, required_unless_present = "config")]
    pub key_id: Option<String>,
    /// The client's address, with a configuration; without it 127.0.0.1.
    #[arg(long, requires = "config")]
    pub client: Option<IpAddr>,
    /// The method that the client will use.
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// The region that the URL must be signed for; without it any is accepted.
    #[arg(long)]
    pub region: Option<String>,
    /// A header field that the client will send, as 'name: value'; may be repeated.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Print what was signed, and what else helps to find a difference. None of it is a secret.
    #[arg(long)]
    pub explain: bool,
    /// Say where this differs first from what we hash: a file with the client's own canonical request or
    /// string to sign, or another URL.
    #[arg(long, value_name = "FILE|URL")]
    pub compare: Option<String>,
    /// The domain under which hosts name buckets; Version 2 must know it.
    #[arg(long)]
    pub domain: Option<String>,
    /// The URL, in quotes.
    pub url: String,
}

/// Why a URL cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UrlError {
    /// It does not begin with `http://` or `https://`.
    #[error("the URL must begin with http:// or https://")]
    Scheme,
    /// It names no host, or a user before the host.
    #[error("the URL must name a host, without a user before it")]
    Authority,
    /// What it is to be compared with cannot be read.
    #[error("cannot read what to compare with: {0}")]
    Compared(io::ErrorKind),
}

/// What came of a verification, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the URL is valid.
    pub valid: bool,
    /// What to print, several lines.
    pub text: String,
}

impl VerifyArgs {
    /// Prints the verdict. Ends with 0 when the URL is valid, 1 when it is refused, 2 when it
    /// could not be judged.
    pub fn run(self, now: SystemTime) -> ExitCode {
        let outcome = match (&self.config, &self.secret_file) {
            (Some(config), _) => self.verdict_by_config(config, now),
            (None, Some(file)) => secret(file).and_then(|secret| {
                self.verdict(secret, now).map_err(|error| {
                    format!("{error}\nnext: paste the whole URL, in single quotes")
                })
            }),
            (None, None) => Err("give --config, or --key-id and --secret-file".to_owned()),
        };
        match outcome {
            Ok(verdict) => match std::io::stdout().write_all(verdict.text.as_bytes()) {
                Ok(()) => ExitCode::from(u8::from(!verdict.valid)),
                Err(error) => {
                    eprintln!("tidegate verify: cannot print the verdict: {error}");
                    ExitCode::from(2)
                }
            },
            Err(text) => {
                eprintln!("tidegate verify: {text}");
                ExitCode::from(2)
            }
        }
    }

    /// The verdict on the URL, given the secret and the time.
    ///
    /// # Errors
    /// [`UrlError`] when the argument is no URL.
    pub fn verdict(&self, secret: Secret, now: SystemTime) -> Result<Verdict, UrlError> {
        let target = Target::parse(&self.url)?;
        let headers = HeaderMap::from_iter(self.headers.iter().cloned());
        let request = SignedRequest {
            method: &self.method,
            path: target.path,
            query: target.query,
            host: target.host,
            headers: &headers,
        };
        let key_id = self.key_id.clone().unwrap_or_default();
        let keys = Keyring::new([(key_id.clone(), secret)]).allow_sigv2(&key_id);
        let rules = Rules {
            region: self.region.as_deref(),
            clock_leeway: CLOCK_LEEWAY,
            domain: self.domain.as_deref(),
        };
        let outcome = verify_presigned(&request, &keys, &rules, now);
        let mut text = match &outcome {
            Ok(grant) => valid(grant, now),
            Err(refusal) => format!(
                "refused: {}: {refusal}\nnext: {}\n",
                refusal.reason(),
                advice(refusal)
            ),
        };
        let domain = self.domain.as_deref();
        if self.explain {
            text.push_str(&explained(&request, domain));
        }
        if let Some(other) = &self.compare {
            text.push_str(&compared(&request, domain, other)?);
        }
        Ok(Verdict {
            valid: outcome.is_ok(),
            text,
        })
    }
}

/// Where another URL, or the text in a file, differs first from what we hash for `request`.
pub(super) fn compared(
    request: &SignedRequest,
    domain: Option<&str>,
    other: &str,
) -> Result<String, UrlError> {
    let ours = match explain_presigned(request, domain) {
        Ok(ours) => ours,
        Err(refusal) => return Ok(format!("\nnothing to compare: {refusal}\n")),
    };
    if !other.starts_with("http://") && !other.starts_with("https://") {
        let text = std::fs::read(other).map_err(|error| UrlError::Compared(error.kind()))?;
        return Ok(compare::compared(&ours, &String::from_utf8_lossy(&text)));
    }
    let target = Target::parse(other)?;
    let other = SignedRequest {
        path: target.path,
        query: target.query,
        host: target.host,
        ..*request
    };
    Ok(match explain_presigned(&other, domain) {
        Ok(theirs) => compare::compared_explanations(&ours, &theirs),
        Err(refusal) => format!("\nnothing to compare: the other URL: {refusal}\n"),
    })
}

fn valid(grant: &Grant, now: SystemTime) -> String {
    // A URL that was just verified has not expired; what is left may be nothing at all.
    let left = grant.expires.duration_since(now).unwrap_or_default();
    let mut text = format!(
        "valid: signed by {}, good for {} s more{}\n",
        grant.access_key_id,
        left.as_secs(),
        until(grant.expires)
    );
    if !grant.signed_headers.is_empty() {
        let names = grant.signed_headers.join(", ");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "the client must send, as signed: {names}");
    }
    text
}

/// The end of a URL's life for a person; nothing when the calendar has no name for that day.
pub(super) fn until(expires: SystemTime) -> String {
    expires
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .map(|text| format!(", until {text}"))
        .unwrap_or_default()
}

pub(super) fn explained(request: &SignedRequest, domain: Option<&str>) -> String {
    match explain_presigned(request, domain) {
        Ok(explanation) if explanation.canonical_request.is_empty() => {
            format!("\nstring to sign:\n{}\n", explanation.string_to_sign)
        }
        Ok(explanation) => format!(
            "\ncanonical request:\n{}\n\nstring to sign:\n{}\n",
            explanation.canonical_request, explanation.string_to_sign
        ),
        Err(refusal) => format!("\nno canonical request can be made: {refusal}\n"),
    }
}

/// What to do about a refusal.
pub(super) fn advice(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotSigned => "sign the URL: tidegate sign --help",
        Refusal::UnsupportedScheme => {
            "sign with Signature Version 4 (in boto3: Config(signature_version='s3v4'))"
        }
        Refusal::SignedTwice => "send either the presigned URL or the Authorization header",
        Refusal::MissingParameter { .. } => {
            "check that the URL was copied whole; a shell cuts it at & unless it is quoted"
        }
        Refusal::DuplicateParameter { .. } => "sign the URL again, from one without a signature",
        Refusal::MalformedAuthorization | Refusal::MalformedVersion2 | Refusal::NoSigningDate => {
            "leave the Authorization header out"
        }
        Refusal::MalformedCredential
        | Refusal::MalformedDate
        | Refusal::MalformedExpires
        | Refusal::MalformedSignedHeaders
        | Refusal::MalformedSignature { .. } => {
            "check that the URL was copied whole and unchanged, then sign it again"
        }
        Refusal::ExpiresOutOfRange { .. } => "sign for 1 second to 7 days",
        Refusal::MalformedEscape { .. } => "write a literal percent sign as %25",
        Refusal::CredentialDateMismatch => {
            "let the signer take X-Amz-Date and the credential's date from one clock reading, in UTC"
        }
        Refusal::WrongRegion => "sign for the region that the edge is configured with",
        Refusal::WrongService => "sign for the service s3",
        Refusal::NotYetValid { .. } => "compare the signer's clock with this machine's",
        Refusal::Expired { .. } => "sign the URL again, with a longer life if need be",
        Refusal::ClockSkew { .. } => "compare the client's clock with this machine's",
        Refusal::UnknownAccessKeyId => {
            "compare the id at the start of X-Amz-Credential with --key-id"
        }
        Refusal::HostNotSigned => "let the signer include host in X-Amz-SignedHeaders",
        Refusal::UnsignedHeader { .. } => "sign that field as well, or do not send it",
        Refusal::UnsignedParameter => "leave that parameter out, or sign with Signature Version 4",
        Refusal::SignedHeaderAbsent { .. } => {
            "send that field as it was signed; here, give it with --header"
        }
        Refusal::MalformedPayloadHash | Refusal::UnsupportedPayload => {
            "sign with UNSIGNED-PAYLOAD or the SHA-256 of the body"
        }
        Refusal::SignatureMismatch => {
            "check method, host with port, and secret; then compare the texts that --explain \
             prints with the signer's own"
        }
        Refusal::ChunkSignatureMismatch { .. } | Refusal::TrailerSignatureMismatch => {
            "send the body again; it changed on its way"
        }
        Refusal::Credential { refusal, .. } => advice_on_credential(refusal),
    }
}

/// The parts of a URL that a client sends, raw.
pub(super) struct Target<'a> {
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
}

impl<'a> Target<'a> {
    /// Takes a URL apart without changing a byte of it. The fragment is left out because clients
    /// do not send it, and so is a port that is the scheme's default.
    pub(super) fn parse(url: &'a str) -> Result<Self, UrlError> {
        let (rest, default_port) = if let Some(rest) = url.strip_prefix("https://") {
            (rest, ":443")
        } else if let Some(rest) = url.strip_prefix("http://") {
            (rest, ":80")
        } else {
            return Err(UrlError::Scheme);
        };
        let rest = rest.split_once('#').map_or(rest, |(sent, _)| sent);
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(authority_end);
        let host = authority.strip_suffix(default_port).unwrap_or(authority);
        if host.is_empty() || host.contains('@') {
            return Err(UrlError::Authority);
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Target { host, path, query })
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    const ADVICE: &str = "write 'name: value'";
    let (name, value) = text.split_once(':').ok_or(ADVICE)?;
    Ok((
        name.trim().parse().map_err(|_| ADVICE)?,
        value.trim().parse().map_err(|_| ADVICE)?,
    ))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use clap::Parser;

    use super::{Target, UrlError, Verdict, VerifyArgs};
    use crate::secret::Secret;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: VerifyArgs,
    }

    /// The presigned example of the S3 API reference.
    const URL: &str = "https://examplebucket.s3.amazonaws.com/test.txt\
         ?X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
         &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
         &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    fn verdict(arguments: &[&str]) -> Result<Verdict, UrlError> {
        let fixed = [
            "verify",
            "--secret-file",
            "f",
            "--key-id",
            "AKIAIOSFODNN7EXAMPLE",
        ];
        let args = Command::try_parse_from(fixed.iter().chain(arguments))
            .unwrap()
            .args;
        let an_hour_in = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600 + 3_600);
        args.verdict(Secret::new(SECRET), an_hour_in)
    }

    #[test]
    fn a_valid_url_is_told_with_who_and_until_when() {
        assert_eq!(
            verdict(&[URL]).unwrap(),
            Verdict {
                valid: true,
                text: "valid: signed by AKIAIOSFODNN7EXAMPLE, good for 82800 s more, \
                       until 2013-05-25T00:00:00Z\n"
                    .to_owned()
            }
        );
    }

    #[test]
    fn a_refusal_is_told_with_its_reason_and_what_to_do_next() {
        for (arguments, reason) in [
            (&["--method", "HEAD", URL][..], "signature_mismatch"),
            (&["--region", "eu-west-1", URL], "wrong_region"),
            (&["--header", "x-amz-acl: private", URL], "unsigned_header"),
            (&["http://h/k"], "not_signed"),
            (&["http://h/k?AWSAccessKeyId=a"], "missing_parameter"),
        ] {
            let verdict = verdict(arguments).unwrap();
            assert!(!verdict.valid);
            let start = format!("refused: {reason}: ");
            assert!(verdict.text.starts_with(&start), "{}", verdict.text);
            assert!(verdict.text.contains("\nnext: "), "{}", verdict.text);
        }
    }

    #[test]
    fn an_explanation_shows_both_texts_and_never_the_secret() {
        let text = verdict(&["--explain", "--method", "PUT", URL])
            .unwrap()
            .text;
        assert!(text.starts_with("refused: signature_mismatch"));
        assert!(text.contains("canonical request:\nPUT\n/test.txt\nX-Amz-Algorithm="));
        assert!(text.contains("string to sign:\nAWS4-HMAC-SHA256\n20130524T000000Z\n"));
        assert!(!text.contains(SECRET));

        let text = verdict(&["--explain", "http://h/k"]).unwrap().text;
        assert!(text.contains("no canonical request can be made: the request is not signed"));
    }

    #[test]
    fn the_first_difference_from_another_text_or_url_is_shown() {
        let other = URL.replace("test.txt", "text.txt");
        let text = verdict(&["--compare", &other, URL]).unwrap().text;
        let expected = "\nthe canonical request differs in line 2 at character 4\n\
                        ours:   /test.txt\ntheirs: /text.txt\n           ^\n";
        assert!(text.ends_with(expected), "{text}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("theirs");
        std::fs::write(&file, "AWS4-HMAC-SHA256\r\n20130524T000001Z\r\n").unwrap();
        let text = verdict(&["--compare", file.to_str().unwrap(), URL])
            .unwrap()
            .text;
        assert!(
            text.contains("the string to sign differs in line 2 at character 15\n"),
            "{text}"
        );
        let missing = folder.path().join("none");
        let error = verdict(&["--compare", missing.to_str().unwrap(), URL]).unwrap_err();
        assert_eq!(error, UrlError::Compared(std::io::ErrorKind::NotFound));
    }

    #[test]
    fn a_url_is_taken_apart_without_changing_a_byte() {
        for (url, host, path, query) in [
            ("http://h", "h", "", ""),
            ("http://h/", "h", "/", ""),
            ("http://h?a=b?c", "h", "", "a=b?c"),
            ("http://h:80/a%2f//..?q#f?g", "h", "/a%2f//..", "q"),
            ("https://h:80/", "h:80", "/", ""),
            ("https://H.example:443/#?x", "H.example", "/", ""),
            ("https://[::1]:8443/k", "[::1]:8443", "/k", ""),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(
                (target.host, target.path, target.query),
                (host, path, query),
                "{url}"
            );
        }
        for (url, error) in [
            ("", UrlError::Scheme),
            ("/b/k", UrlError::Scheme),
            ("ftp://h/k", UrlError::Scheme),
            ("http://", UrlError::Authority),
            ("http:///k", UrlError::Authority),
            ("http://:80/k", UrlError::Authority),
            ("http://user@h/k", UrlError::Authority),
        ] {
            assert_eq!(Target::parse(url).err(), Some(error), "{url}");
        }
    }
}
