//! `tidegate sign`: makes a signed URL, by default a presigned one, or with `post-policy` a form.

use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use http::HeaderMap;

use crate::config::read_duration;
use crate::secret::Secret;
use crate::signing::{PresignError, PresignSpec, PresignV2Spec, presign, presign_v2};

use super::post_policy::PostPolicyArgs;
use super::secret;
use super::sign_with::{SignWithArgs, With};

/// What is signed: a URL, or behind the word `post-policy` a form.
///
/// Written out, because a derived one cannot tell whether arguments that are themselves in two parts were given.
#[derive(Debug, Clone)]
pub enum SignCommand {
    /// A URL, or cookies.
    Url(Box<SignArgs>),
    /// A form that uploads one file.
    PostPolicy(Box<PostPolicyArgs>),
}

const POST_POLICY: &str = "post-policy";

impl SignCommand {
    /// Prints what is asked for and ends with 0, or says on standard error what is wrong and ends with 2.
    pub fn run(self, now: SystemTime) -> ExitCode {
        match self {
            SignCommand::Url(url) => url.run(now),
            SignCommand::PostPolicy(form) => form.run(now),
        }
    }
}

impl FromArgMatches for SignCommand {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand() {
            Some((POST_POLICY, form)) => {
                let form = PostPolicyArgs::from_arg_matches(form)?;
                Ok(SignCommand::PostPolicy(Box::new(form)))
            }
            _ => {
                let url = SignArgs::from_arg_matches(matches)?;
                Ok(SignCommand::Url(Box::new(url)))
            }
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SignCommand {
    fn augment_args(command: Command) -> Command {
        let form =
            Command::new(POST_POLICY).about("Print the fields of a form that uploads one file");
        SignArgs::augment_args(command)
            .subcommand(PostPolicyArgs::augment_args(form))
            .args_conflicts_with_subcommands(true)
            .subcommand_negates_reqs(true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// A signed URL for one object, or the cookies that open it.
#[derive(Debug, Clone, Args)]
pub struct SignArgs {
    /// The method that the URL may be used with.
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// The host as the client will name it, with its port unless that is the scheme's default.
    #[arg(long)]
    pub host: String,
    /// The scheme of the URL. It is not part of the signature.
    #[arg(long, value_enum, default_value_t = Scheme::Http)]
    pub scheme: Scheme,
    /// The access key id that signs; the Key-Pair-Id of CloudFront; the `kid` of a JWT.
    #[arg(long)]
    pub key_id: Option<String>,
    /// The file that holds the key's secret.
    #[arg(long)]
    pub secret_file: Option<PathBuf>,
    /// The region to sign for.
    #[arg(long, default_value = "us-east-1")]
    pub region: String,
    /// How long the URL is good, such as 90s, 15m, 1h or 7d; at most 7d.
    #[arg(long, default_value = "1h", value_parser = read_duration)]
    pub expires: Duration,
    /// A further query parameter, such as response-content-type=text/plain; may be repeated.
    #[arg(long = "query", value_name = "NAME=VALUE", value_parser = parameter)]
    pub query: Vec<(String, String)>,
    /// How to sign when it is not an AWS signature.
    #[command(flatten)]
    pub with: SignWithArgs,
    /// Sign with Signature Version 2, which the key must be allowed to.
    #[arg(long)]
    pub sigv2: bool,
    /// The domain under which hosts name buckets; Version 2 must know it.
    #[arg(long, requires = "sigv2")]
    pub domain: Option<String>,
    /// The object: /bucket/key, not percent-encoded.
    pub path: String,
}

/// The schemes that a URL may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        })
    }
}

impl SignArgs {
    /// Prints the URL and ends with 0, or says on standard error what to do next and ends with 2.
    pub fn run(self, now: SystemTime) -> ExitCode {
        let outcome = if self.with.with == With::Sigv4 {
            self.presigned(now).map(|url| vec![url])
        } else {
            self.sign_with(now).map_err(|fault| fault.to_string())
        };
        match outcome {
            Ok(lines) => match writeln!(std::io::stdout(), "{}", lines.join("\n")) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("tidegate sign: cannot print the URL: {error}");
                    ExitCode::from(2)
                }
            },
            Err(text) => {
                eprintln!("tidegate sign: {text}");
                ExitCode::from(2)
            }
        }
    }

    fn presigned(&self, now: SystemTime) -> Result<String, String> {
        let file = (self.secret_file.as_ref()).ok_or("give --secret-file")?;
        let access_key_id = self.key_id.as_ref().ok_or("give --key-id")?;
        let secret = secret(file)?;
        self.url(access_key_id, &secret, now)
            .map_err(|error| format!("{error}\nnext: {}", advice(error)))
    }

    /// The presigned URL.
    ///
    /// # Errors
    /// What [`presign`] or [`presign_v2`] refuses.
    pub fn url(
        &self,
        access_key_id: &str,
        secret: &Secret,
        now: SystemTime,
    ) -> Result<String, PresignError> {
        let target = if self.sigv2 {
            let spec = PresignV2Spec {
                method: &self.method,
                host: &self.host,
                domain: self.domain.as_deref(),
                path: &self.path,
                query: &self.query,
                headers: &HeaderMap::new(),
                access_key_id,
                expires: self.expires,
            };
            presign_v2(&spec, secret, now)?
        } else {
            let spec = PresignSpec {
                method: &self.method,
                host: &self.host,
                path: &self.path,
                query: &self.query,
                access_key_id,
                region: &self.region,
                expires: self.expires,
            };
            presign(&spec, secret, now)?
        };
        Ok(format!("{}://{}{target}", self.scheme, self.host))
    }
}

/// What to do about an error.
fn advice(error: PresignError) -> &'static str {
    match error {
        PresignError::ExpiresOutOfRange { .. } => "give --expires between 1s and 7d",
        PresignError::RelativePath => "write the object as /bucket/key",
        PresignError::MalformedEscape => "write the path without percent-escapes; sign adds them",
        PresignError::MalformedMethod => "give --method GET, HEAD, PUT or DELETE",
        PresignError::MalformedHost => "give --host as name or name:port, without scheme and path",
        PresignError::MalformedAccessKeyId => "give --key-id as the configuration spells it",
        PresignError::MalformedRegion => "give --region as the configuration spells it",
        PresignError::ReservedParameter { .. } => "leave that --query out; sign adds it itself",
        PresignError::UnsignedParameter => "leave that --query out, or sign without --sigv2",
        PresignError::MalformedPayload => "give the SHA-256 of the body in hexadecimal",
        PresignError::ClockOutOfRange => "set this machine's clock",
    }
}

/// Reads a name and a value.
pub(super) fn parameter(text: &str) -> Result<(String, String), &'static str> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or("write NAME=VALUE, not percent-encoded")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use clap::Parser;

    use super::SignArgs;
    use crate::secret::Secret;
    use crate::signing::PresignError;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: SignArgs,
    }

    fn url(arguments: &[&str]) -> Result<String, PresignError> {
        let fixed = [
            "sign",
            "--host",
            "127.0.0.1:8080",
            "--key-id",
            "demo",
            "--secret-file",
            "f",
        ];
        let args = Command::try_parse_from(fixed.iter().chain(arguments))
            .unwrap()
            .args;
        args.url(
            "demo",
            &Secret::new("secret"),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600),
        )
    }

    #[test]
    fn a_url_has_every_part_where_clients_look_for_it() {
        let made = url(&[
            "--scheme",
            "https",
            "--query",
            "versionId=a b",
            "/b/ä +.mp4",
        ])
        .unwrap();
        let (url, signature) = made.rsplit_once('=').unwrap();
        assert_eq!(
            url,
            "https://127.0.0.1:8080/b/%C3%A4%20%2B.mp4?versionId=a%20b\
             &X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=demo%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host\
             &X-Amz-Signature"
        );
        assert_eq!(signature.len(), 64);
    }

    #[test]
    fn the_scheme_is_not_part_of_the_signature_and_the_method_is() {
        let tail = |url: String| url.rsplit_once("://").unwrap().1.to_owned();
        let http = tail(url(&["/b/k"]).unwrap());
        assert_eq!(http, tail(url(&["--scheme", "https", "/b/k"]).unwrap()));
        assert_ne!(http, tail(url(&["--method", "PUT", "/b/k"]).unwrap()));
    }

    #[test]
    fn version_2_is_signed_on_request() {
        let made = url(&["--sigv2", "--query", "versionId=1", "/b/k"]).unwrap();
        let start = "http://127.0.0.1:8080/b/k?versionId=1&AWSAccessKeyId=demo&Expires=1369357200&Signature=";
        assert!(made.starts_with(start), "{made}");
        let unsigned = url(&["--sigv2", "--query", "prefix=a", "/b/k"]);
        assert_eq!(unsigned, Err(PresignError::UnsignedParameter));
    }

    #[test]
    fn a_url_that_would_be_refused_is_not_made() {
        assert_eq!(url(&["b/k"]), Err(PresignError::RelativePath));
        let eight_days = Duration::from_secs(8 * 86_400);
        assert_eq!(
            url(&["--expires", "8d", "/b/k"]),
            Err(PresignError::ExpiresOutOfRange {
                expires: eight_days
            })
        );
    }
}
