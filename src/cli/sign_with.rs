//! `tidegate sign --with …`: signed URLs, tokens and cookies of the schemes that are not AWS signatures.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use thiserror::Error;
use zeroize::Zeroizing;

use super::secret;
use super::sign::SignArgs;
use crate::config::{read_duration, read_key_file};
use crate::signing::{
    CLOUDFRONT_PARAMETERS, CloudFrontSpec, DEFAULT_EXPRESSION, Expression, ExpressionFault,
    JwtSigner, PrivateKey, SecureLinkKey, TokenHash, TokenKey, TokenSpec, UriContainer,
    sign_cookies, sign_jwt, sign_secure_link, sign_token, sign_url, uri_container,
};

/// Everything but what RFC 3986 §2.3 leaves as it is, and the slashes of a path.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');
const IN_QUERY: &AsciiSet = &IN_PATH.add(b'/');

/// How to sign, and with what, when it is not an AWS signature.
#[derive(Debug, Clone, Args)]
pub struct SignWithArgs {
    /// The scheme; docs/SIGNING.md says what each covers.
    #[arg(long, value_enum, default_value_t = With::Sigv4)]
    pub with: With,
    /// The file that holds a private key in PEM: cloudfront, jwt and uri-signing.
    #[arg(long, value_name = "FILE")]
    pub private_key_file: Option<PathBuf>,
    /// How the text of the secret stands for its bytes: token, jwt and uri-signing.
    #[arg(long, value_enum, default_value_t = SecretEncoding::Text)]
    pub secret_encoding: SecretEncoding,
    /// Where the signature goes.
    #[arg(long, value_enum, default_value_t = Place::Query)]
    pub place: Place,
    /// What is opened when it is not this one URL, with * and ?: a URL for cloudfront, a path for token and jwt, and a
    /// regular expression of URLs for uri-signing.
    #[arg(long, value_name = "PATTERN")]
    pub open: Option<String>,
    /// It counts only from so long after now on: cloudfront, token, jwt and uri-signing.
    #[arg(long, value_name = "DURATION", value_parser = read_duration)]
    pub starts_in: Option<Duration>,
    /// The client's address, for cloudfront also a block of addresses.
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<String>,
    /// The name of the parameter, as the key's `parameter`.
    #[arg(long, value_name = "NAME")]
    pub parameter: Option<String>,
    /// The hash of a token, as the key's `hash`.
    #[arg(long, value_enum, default_value_t = Hash::Sha256)]
    pub hash: Hash,
    /// The expression of a secure link, as the key's `expression`.
    #[arg(long, default_value = DEFAULT_EXPRESSION)]
    pub expression: String,
    /// The claim `iss`: jwt and uri-signing.
    #[arg(long)]
    pub issuer: Option<String>,
    /// The claim `aud`: jwt and uri-signing.
    #[arg(long)]
    pub audience: Option<String>,
    /// Let the edge answer with a token for the next request that counts for so long: uri-signing.
    #[arg(long, value_name = "DURATION", value_parser = read_duration)]
    pub renew: Option<Duration>,
    /// What carries that token: a cookie on each answer, or the query of the URL that a redirect leads to.
    #[arg(long, value_enum, default_value_t = RenewIn::Cookie, requires = "renew")]
    pub renew_in: RenewIn,
    /// How many segments of the path that cookie is for; all paths of the host when it is left out.
    #[arg(long, value_name = "SEGMENTS", requires = "renew")]
    pub renew_depth: Option<u64>,
}

/// The schemes, as they are written on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum With {
    /// AWS Signature Version 4.
    Sigv4,
    /// A CloudFront signed URL or signed cookies.
    Cloudfront,
    /// A token with a keyed hash.
    Token,
    /// nginx's secure_link_md5.
    SecureLink,
    /// A JSON Web Token.
    Jwt,
    /// A token of RFC 9246.
    UriSigning,
}

/// How the text of a secret stands for its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SecretEncoding {
    /// As it is.
    Text,
    /// Hexadecimal.
    Hex,
    /// Base64.
    Base64,
}

/// Where a signature goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// Into the query.
    Query,
    /// Into the path: token, and uri-signing.
    Path,
    /// Into cookies, which are printed.
    Cookie,
    /// Into the field Authorization, which is printed: jwt.
    Bearer,
}

/// What carries a renewed token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RenewIn {
    /// A cookie.
    Cookie,
    /// The query of a redirect's target.
    Query,
}

/// The hash of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-1.
    Sha1,
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignFault {
    /// A file could not be used.
    #[error("{0}")]
    File(String),
    /// A part that the scheme asks for is not given.
    #[error("give {0}")]
    Missing(&'static str),
    /// The path does not begin with a slash.
    #[error("write the object as /path, not percent-encoded")]
    RelativePath,
    /// A further parameter is one that the scheme reads itself, so that no verifier would take the URL.
    #[error("{0} belongs to the signature; leave that --query out, or choose another --parameter")]
    Reserved(&'static str),
    /// So is one that has the name of `--parameter`.
    #[error(
        "{0} is the parameter of the token; leave that --query out, or choose another --parameter"
    )]
    NameOfToken(String),
    /// The scheme has no such place.
    #[error("a signature of this scheme cannot stand there; leave --place out")]
    Place,
    /// `--client` is no address.
    #[error("give --client as an IP address")]
    Client,
    /// The expression cannot be used.
    #[error("--expression: {0}")]
    Expression(#[from] ExpressionFault),
    /// The secret is not written in the way that is said.
    #[error("the secret is not written as --secret-encoding says")]
    Encoding,
    /// The clock stands before 1970.
    #[error("set this machine's clock")]
    Clock,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// What is printed: a URL and, when the signature is not in it, the fields to send along.
type Signed = Vec<String>;

impl SignArgs {
    /// Signs by a scheme other than an AWS signature; what to print, one line each.
    ///
    /// # Errors
    /// [`SignFault`].
    pub(super) fn sign_with(&self, now: SystemTime) -> Result<Signed, SignFault> {
        if !self.path.starts_with('/') {
            return Err(SignFault::RelativePath);
        }
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = since.map_err(|_| SignFault::Clock)?.as_secs();
        let times = Times {
            expires: now + self.expires.as_secs(),
            not_before: self.with.starts_in.map(|ahead| now + ahead.as_secs()),
        };
        self.check_query()?;
        let path = utf8_percent_encode(&self.path, IN_PATH).to_string();
        match self.with.with {
            // `SignArgs::run` has seen to it.
            With::Sigv4 => Err(SignFault::Missing("--with")),
            With::Cloudfront => self.cloudfront(&path, &times),
            With::Token => self.token(&path, &times),
            With::SecureLink => self.secure_link(&path, &times),
            With::Jwt => self.jwt(&path, &times),
            With::UriSigning => self.uri_signing(&path, &times),
        }
    }

    /// What is given behind `--query` is not what the scheme itself reads, there or in another place.
    fn check_query(&self) -> Result<(), SignFault> {
        let reserved: &[&'static str] = match (self.with.with, self.with.place) {
            (With::Cloudfront, Place::Cookie) => &CLOUDFRONT_PARAMETERS[..1],
            (With::Cloudfront, _) => &CLOUDFRONT_PARAMETERS,
            (With::SecureLink, _) => &["expires"],
            (With::Sigv4 | With::Token | With::Jwt | With::UriSigning, _) => &[],
        };
        for (name, _) in &self.query {
            if let Some(reserved) = reserved.iter().find(|reserved| *reserved == name) {
                return Err(SignFault::Reserved(reserved));
            }
            if self.parameter() == Some(name) {
                return Err(SignFault::NameOfToken(name.clone()));
            }
        }
        Ok(())
    }

    /// The one parameter that carries a signature of the scheme, if it is one.
    fn parameter(&self) -> Option<&str> {
        let by_default = match self.with.with {
            With::Sigv4 | With::Cloudfront => return None,
            With::Token => "hdnts",
            With::SecureLink => "md5",
            With::Jwt => "token",
            With::UriSigning => "URISigningPackage",
        };
        Some(self.with.parameter.as_deref().unwrap_or(by_default))
    }

    /// The URL of a path that is percent-encoded, with the given query behind `--query`.
    fn url_of(&self, path: &str, added: &str) -> String {
        let encode = |text: &str| utf8_percent_encode(text, IN_QUERY).to_string();
        let given =
            (self.query.iter()).map(|(name, value)| format!("{}={}", encode(name), encode(value)));
        let items: Vec<String> = given
            .chain((!added.is_empty()).then(|| added.to_owned()))
            .collect();
        let (scheme, host) = (self.scheme, &self.host);
        if items.is_empty() {
            format!("{scheme}://{host}{path}")
        } else {
            format!("{scheme}://{host}{path}?{}", items.join("&"))
        }
    }

    fn cloudfront(&self, path: &str, times: &Times) -> Result<Signed, SignFault> {
        let id = self.key_id.as_deref();
        let spec = CloudFrontSpec {
            key_pair_id: id.ok_or(SignFault::Missing("--key-id, the Key-Pair-Id"))?,
            expires: times.expires,
            resource: self.with.open.as_deref(),
            not_before: times.not_before,
            source_ip: self.with.client.as_deref(),
            policy: None,
        };
        let (url, key) = (self.url_of(path, ""), self.private_key()?);
        match self.with.place {
            Place::Query => {
                let url = sign_url(&url, &spec, &key).ok_or(SignFault::Random)?;
                Ok(vec![url])
            }
            Place::Cookie => {
                let cookies = sign_cookies(&url, &spec, &key).ok_or(SignFault::Random)?;
                let pairs: Vec<String> = (cookies.iter())
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                Ok(vec![url, format!("Cookie: {}", pairs.join("; "))])
            }
            Place::Path | Place::Bearer => Err(SignFault::Place),
        }
    }

    fn token(&self, path: &str, times: &Times) -> Result<Signed, SignFault> {
        let name = self.parameter().unwrap_or_default();
        let hash = match self.with.hash {
            Hash::Sha256 => TokenHash::Sha256,
            Hash::Sha1 => TokenHash::Sha1,
        };
        let key = TokenKey::new("", name, hash, &self.secret_bytes()?);
        let client = self.client_address()?;
        let spec = TokenSpec {
            expires: times.expires,
            not_before: times.not_before,
            acl: self.with.open.as_deref(),
            ip: client,
        };
        let token = sign_token(&key, path, &spec);
        match self.with.place {
            Place::Path => Ok(vec![self.url_of(&format!("/{name}={token}{path}"), "")]),
            place => self.placed(path, name, &token, place),
        }
    }

    fn secure_link(&self, path: &str, times: &Times) -> Result<Signed, SignFault> {
        if self.with.place != Place::Query {
            return Err(SignFault::Place);
        }
        let key = SecureLinkKey {
            id: "".into(),
            parameter: self.parameter().unwrap_or_default().into(),
            expires_parameter: "expires".into(),
            expression: Expression::parse(&self.with.expression)?,
            secret: self.secret()?,
        };
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let client = self.client_address()?;
        if client.is_none() && self.with.expression.contains("remote_addr") {
            return Err(SignFault::Missing("--client, for $remote_addr"));
        }
        // A path that was encoded here holds no encoded slash.
        let query = sign_secure_link(&key, path, times.expires, client.unwrap_or(nobody));
        let query = query.map_err(|_| SignFault::RelativePath)?;
        Ok(vec![self.url_of(path, &query)])
    }

    fn jwt(&self, path: &str, times: &Times) -> Result<Signed, SignFault> {
        let mut claims = self.claims(times);
        let opened = self.with.open.as_deref().unwrap_or(path);
        claims.insert("path".to_owned(), Value::from(opened));
        let token = self.signed_claims(&claims)?;
        let name = self.parameter().unwrap_or_default();
        match self.with.place {
            Place::Path => Err(SignFault::Place),
            place => self.placed(path, name, &token, place),
        }
    }

    fn uri_signing(&self, path: &str, times: &Times) -> Result<Signed, SignFault> {
        let mut claims = self.claims(times);
        let url = self.url_of(path, "");
        let container = match &self.with.open {
            Some(regex) => UriContainer::Regex(regex),
            None => UriContainer::Url(&url),
        };
        claims.insert("cdniuc".to_owned(), Value::from(uri_container(container)));
        if let Some(lifetime) = self.with.renew {
            let transport = match self.with.renew_in {
                RenewIn::Cookie => 1,
                RenewIn::Query => 2,
            };
            claims.insert("cdnistt".to_owned(), Value::from(transport));
            claims.insert("cdniets".to_owned(), Value::from(lifetime.as_secs()));
        }
        if let Some(depth) = self.with.renew_depth {
            claims.insert("cdnistd".to_owned(), Value::from(depth));
        }
        let token = self.signed_claims(&claims)?;
        let name = self.parameter().unwrap_or_default();
        match self.with.place {
            Place::Path => Ok(vec![self.url_of(&format!("{path};{name}={token}"), "")]),
            Place::Bearer => Err(SignFault::Place),
            place => self.placed(path, name, &token, place),
        }
    }

    fn placed(
        &self,
        path: &str,
        name: &str,
        token: &str,
        place: Place,
    ) -> Result<Signed, SignFault> {
        Ok(match place {
            Place::Query => vec![self.url_of(path, &format!("{name}={token}"))],
            Place::Cookie => vec![self.url_of(path, ""), format!("Cookie: {name}={token}")],
            Place::Bearer if self.with.with == With::Jwt => {
                let field = format!("Authorization: Bearer {token}");
                vec![self.url_of(path, ""), field]
            }
            Place::Bearer | Place::Path => return Err(SignFault::Place),
        })
    }

    fn claims(&self, times: &Times) -> Map<String, Value> {
        let mut claims = Map::new();
        let mut claim = |name: &str, value: Option<Value>| {
            claims.extend(value.map(|value| (name.to_owned(), value)));
        };
        claim("exp", Some(Value::from(times.expires)));
        claim("nbf", times.not_before.map(Value::from));
        claim("iss", self.with.issuer.clone().map(Value::from));
        claim("aud", self.with.audience.clone().map(Value::from));
        claims
    }

    fn signed_claims(&self, claims: &Map<String, Value>) -> Result<String, SignFault> {
        let key_id = self.key_id.as_deref();
        let token = if self.with.private_key_file.is_some() {
            sign_jwt(claims, key_id, &JwtSigner::Key(&self.private_key()?))
        } else {
            sign_jwt(claims, key_id, &JwtSigner::Secret(&self.secret_bytes()?))
        };
        token.ok_or(SignFault::Random)
    }

    fn private_key(&self) -> Result<PrivateKey, SignFault> {
        let file = self.with.private_key_file.as_ref();
        let file = file.ok_or(SignFault::Missing("--private-key-file"))?;
        let contents = read_key_file(file).map_err(|reason| SignFault::File(reason.to_string()))?;
        PrivateKey::from_pem(&contents)
            .map_err(|fault| SignFault::File(format!("{}: {fault}", file.display())))
    }

    fn secret(&self) -> Result<crate::secret::Secret, SignFault> {
        let file = self.secret_file.as_ref();
        let file = file.ok_or(SignFault::Missing("--secret-file"))?;
        secret(file).map_err(SignFault::File)
    }

    fn secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, SignFault> {
        let secret = self.secret()?;
        let text = secret.reveal();
        let bytes = match self.with.secret_encoding {
            SecretEncoding::Text => Some(text.as_bytes().to_vec()),
            SecretEncoding::Hex => hex::decode(text).ok(),
            SecretEncoding::Base64 => STANDARD.decode(text).ok(),
        };
        bytes.map(Zeroizing::new).ok_or(SignFault::Encoding)
    }

    fn client_address(&self) -> Result<Option<IpAddr>, SignFault> {
        let client = self.with.client.as_deref();
        client
            .map(|text| text.parse().map_err(|_| SignFault::Client))
            .transpose()
    }
}

/// From when to when, in seconds since 1970.
struct Times {
    expires: u64,
    not_before: Option<u64>,
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    use clap::Parser;

    use super::SignArgs;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: SignArgs,
    }

    /// What signing with a secret or, for CloudFront, a private key prints.
    fn sign(arguments: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, contents: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, contents).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            file.display().to_string()
        };
        let pair = rcgen::KeyPair::generate().unwrap();
        let (secret, private) = (
            file("s", "a-secret-of-more-than-32-bytes-for-JWT"),
            file("k", &pair.serialize_pem()),
        );
        let fixed = ["sign", "--host", "h", "--key-id", "k", "/a"];
        let key = if arguments.contains("cloudfront") {
            ["--private-key-file", &private]
        } else {
            ["--secret-file", &secret]
        };
        let given = arguments.split(' ');
        let command = Command::try_parse_from(fixed.into_iter().chain(key).chain(given)).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let lines = command.args.sign_with(now);
        lines
            .map(|lines| lines.join("\n"))
            .map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_parameter_that_the_scheme_reads_itself_is_not_signed_along() {
        for (arguments, refused) in [
            ("cloudfront --query Expires=1", Some("Expires")),
            ("cloudfront --query Policy=1", Some("Policy")),
            ("cloudfront --query Signature=1", Some("Signature")),
            ("cloudfront --query Key-Pair-Id=1", Some("Key-Pair-Id")),
            (
                "cloudfront --query Hash-Algorithm=1",
                Some("Hash-Algorithm"),
            ),
            ("cloudfront --query expires=1", None),
            ("cloudfront --query X-Amz-Date=1", None),
            ("cloudfront --place cookie --query Expires=1", None),
            (
                "cloudfront --place cookie --query Key-Pair-Id=1",
                Some("Key-Pair-Id"),
            ),
            ("token --query hdnts=1", Some("hdnts")),
            ("token --place cookie --query hdnts=1", Some("hdnts")),
            ("token --parameter t --query hdnts=1", None),
            ("token --parameter t --query t=1", Some("t")),
            (
                "secure-link --expression $secure_link_expires$uri$secret --query md5=1",
                Some("md5"),
            ),
            (
                "secure-link --expression $secure_link_expires$uri$secret --query expires=1",
                Some("expires"),
            ),
            ("jwt --query token=1", Some("token")),
            ("jwt --place bearer --query token=1", Some("token")),
            (
                "uri-signing --query URISigningPackage=1",
                Some("URISigningPackage"),
            ),
            ("uri-signing --query token=1", None),
        ] {
            let found = sign(&format!("--with {arguments}"));
            match refused {
                None => assert!(found.is_ok(), "{arguments}: {found:?}"),
                Some(name) => {
                    let told = found.unwrap_err();
                    assert!(told.starts_with(&format!("{name} ")), "{arguments}: {told}");
                }
            }
        }
    }

    #[test]
    fn a_token_is_made_to_be_renewed_on_request() {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;

        for (more, transport) in [("", 1), (" --renew-in cookie", 1), (" --renew-in query", 2)] {
            let arguments =
                format!("--with uri-signing --open .* --renew 30s --renew-depth 2{more}");
            let url = sign(&arguments).unwrap();
            let claims = URL_SAFE_NO_PAD
                .decode(url.split('.').nth(1).unwrap())
                .unwrap();
            let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
            let expected = serde_json::json!({
                "exp": 1_700_003_600, "cdniuc": "regex:.*", "cdniets": 30, "cdnistd": 2,
                "cdnistt": transport,
            });
            assert_eq!(claims, expected);
        }
    }
}
