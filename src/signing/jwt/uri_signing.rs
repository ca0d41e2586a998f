//! URI signing for CDN interconnection (RFC 9246): a token in the URL, as a parameter of the query or
//! of the path, or in a cookie, that says in `cdniuc` which URLs it is for.
//!
//! What is done with each claim (RFC 9246 §2.1):
//!
//! | claim | |
//! |---|---|
//! | `exp`, `nbf` | no leeway; `exp` is required here, which the RFC leaves to configuration |
//! | `iss`, `aud` | those that the key is for, or refused |
//! | `cdniuc` | required: `hash:` (RFC 6920 §5, SHA-256) or `regex:`, of the whole URL, normalised |
//! | `cdniv` | 1 or absent |
//! | `cdniip` | the client's address, encrypted with a secret of the set (`jwe.rs`); refused when the set has none |
//! | `jti` | refused, as §2.1.7 asks of those who do not remember which they have seen |
//! | `cdnicrit` | refused: no extension is understood |
//! | `cdnistt`, `cdniets`, `cdnistd` | the client gets a new token in a cookie or in a redirect's target: `renewal.rs` |
//! | `sub`, `iat`, others | not looked at |
//!
//! A regular expression is matched against the whole URL, not a part of it, and without the features
//! of POSIX that need a locale. It is compiled once and remembered.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::claims::{UnknownIssuer, Validity, check_audience, check_issuer};
use super::jwe;
use super::jwks::{Jwk, JwkSet};
use super::jws::Jws;
use super::plain::explained;
use super::renewal::Renewal;
use crate::signing::carriers::{Carriers, joined, parameter_in, without};
use crate::signing::verifier::{Verdict, first_to_prove};
use crate::signing::view::{RequestView, cookies, parameter};
use crate::signing::{CredentialRefusal, Explained, Granted, Scheme, cidr};

const PART: &str = "the token";

/// The claim with the client's address.
const CLIENT: &str = "cdniip";

/// What one compiled expression may take, in bytes.
const REGEX_BYTES_MAX: usize = 256 << 10;

/// How many tokens of one request are looked at. A browser sends the cookies of all paths that the URL
/// lies under, and a playlist is asked for again with the token that it had first.
const TOKENS_MAX: usize = 4;

/// How many compiled expressions are remembered for each issuer, the oldest out first.
const REGEXES_MAX: usize = 32;

/// The keys of one issuer, and what its tokens must say.
#[derive(Debug, Clone)]
pub struct UriSigningKeys {
    /// The id of this entry, for logs and rules.
    pub id: Arc<str>,
    /// The keys.
    pub keys: JwkSet,
    /// The name of parameter and cookie; the RFC's is `URISigningPackage`.
    pub parameter: Box<str>,
    /// What `iss` must be when it is there.
    pub issuer: Option<String>,
    /// What `aud` must name.
    pub audience: Option<String>,
    /// The `kid` of the secret with which tokens are renewed; `None`: the one that they are signed with.
    renewal_key: Option<Box<str>>,
    regexes: Arc<ArcSwap<Vec<Arc<Compiled>>>>,
}

#[derive(Debug)]
struct Compiled {
    text: String,
    regex: Regex,
}

/// A token, and the URL that it must be for.
struct Found<'a> {
    token: &'a str,
    url: String,
    /// The path as it was sent, without a token.
    path: Cow<'a, str>,
}

impl UriSigningKeys {
    /// The keys of an issuer.
    pub fn new(
        id: &str,
        keys: JwkSet,
        parameter: &str,
        issuer: Option<String>,
        audience: Option<String>,
    ) -> Self {
        UriSigningKeys {
            id: id.into(),
            keys,
            parameter: parameter.into(),
            issuer,
            audience,
            renewal_key: None,
            regexes: Arc::default(),
        }
    }

    /// Renews tokens with the secret that has this `kid`; `None` when there is no such secret.
    pub fn renewing_with(mut self, id: &str) -> Option<Self> {
        self.keys.secret(id)?;
        self.renewal_key = Some(id.into());
        Some(self)
    }

    pub(in crate::signing) fn carry(&self, carriers: &mut Carriers) {
        carriers.add_parameters(&self.parameter, &[]);
        carriers.add_path_parameter(&self.parameter);
        carriers.add_cookie(&self.parameter);
    }

    /// How many compiled expressions are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.regexes.load().len()
    }

    /// One of the tokens that a request carries: the one in its URL before those in cookies.
    fn find<'a>(
        &self,
        view: &RequestView<'a>,
        place: usize,
    ) -> Result<Option<Found<'a>>, CredentialRefusal> {
        const TWICE: CredentialRefusal = CredentialRefusal::DuplicatePart { part: PART };
        let mut path = Cow::Borrowed(view.request.path);
        let mut query = Cow::Borrowed(view.request.query);
        let mut in_url = parameter(view.request.query, &self.parameter, PART)?;
        if in_url.is_some() {
            let kept = joined(&query, |item| !item.is_named(&self.parameter));
            query = Cow::Owned(kept);
        }
        if let Some(found) = parameter_in(view.request.path, &self.parameter) {
            let kept = without(&path, found.whole);
            if in_url.is_some() || parameter_in(&kept, &self.parameter).is_some() {
                return Err(TWICE);
            }
            in_url = Some(found.value);
            path = Cow::Owned(kept);
        }
        let in_cookies =
            cookies(view.request.headers).filter(|(name, _)| *name == &*self.parameter);
        let mut tokens = in_url.into_iter().chain(in_cookies.map(|(_, token)| token));
        Ok(tokens.nth(place).map(|token| Found {
            token,
            url: normal_url(view, &path, &query),
            path,
        }))
    }

    /// What a token that `proven_by` has signed is renewed with.
    ///
    /// # Errors
    /// [`CredentialRefusal::UnsupportedClaim`]: the edge can verify the token and not renew it. Refusing
    /// the first request tells the operator; refusing those after the token's end would tell the viewers.
    fn renewal_key<'k>(&'k self, proven_by: &'k Jwk) -> Result<&'k Jwk, CredentialRefusal> {
        let named = self.renewal_key.as_deref();
        let key = named.and_then(|id| self.keys.secret(id));
        let key = key.unwrap_or(proven_by);
        let claim = "cdnistt";
        (key.is_secret().then_some(key)).ok_or(CredentialRefusal::UnsupportedClaim { claim })
    }

    fn check(
        &self,
        claims: &Map<String, Value>,
        url: &str,
        client: IpAddr,
        now: SystemTime,
    ) -> Result<Validity, CredentialRefusal> {
        check_version(claims)?;
        for claim in ["cdnicrit", "jti"] {
            if claims.contains_key(claim) {
                return Err(CredentialRefusal::UnsupportedClaim { claim });
            }
        }
        let validity = Validity::check(claims, Duration::ZERO, now)?;
        check_issuer(claims, self.issuer.as_deref(), UnknownIssuer::IsRefused)?;
        check_audience_if_named(claims, self.audience.as_deref())?;
        self.check_client(claims, client)?;
        self.check_container(claims, url)?;
        Ok(validity)
    }

    /// `cdniip` (RFC 9246 §2.1.10): an address, perhaps with the length of its prefix.
    fn check_client(
        &self,
        claims: &Map<String, Value>,
        client: IpAddr,
    ) -> Result<(), CredentialRefusal> {
        let claim = CLIENT;
        let Some(sealed) = claims.get(claim) else {
            return Ok(());
        };
        let secrets = self.keys.encryption();
        if secrets.is_empty() {
            return Err(CredentialRefusal::UnsupportedClaim { claim });
        }
        let block = sealed
            .as_str()
            .and_then(|sealed| jwe::open(sealed, secrets));
        let block = block.ok_or(CredentialRefusal::MalformedClaim { claim })?;
        // The example of the RFC (§A.2) stands in brackets.
        let bare = block
            .strip_prefix('[')
            .and_then(|block| block.strip_suffix(']'));
        match cidr::contains(bare.unwrap_or(&block), client) {
            Some(true) => Ok(()),
            Some(false) => Err(CredentialRefusal::WrongClient),
            None => Err(CredentialRefusal::MalformedClaim { claim }),
        }
    }

    fn check_container(
        &self,
        claims: &Map<String, Value>,
        url: &str,
    ) -> Result<(), CredentialRefusal> {
        let claim = "cdniuc";
        let malformed = CredentialRefusal::MalformedClaim { claim };
        let container = match claims.get(claim) {
            None => return Err(CredentialRefusal::MissingClaim { claim }),
            Some(Value::String(container)) => container,
            Some(_) => return Err(malformed),
        };
        let opened = if let Some(text) = container.strip_prefix("regex:") {
            let regex = self.regex(text).ok_or(malformed)?;
            regex.regex.is_match(url.as_bytes())
        } else if let Some(segment) = container.strip_prefix("hash:") {
            let hash = segment.strip_prefix("sha-256;").ok_or(malformed)?;
            hash == url_hash(url)
        } else {
            return Err(malformed);
        };
        opened.then_some(()).ok_or(CredentialRefusal::WrongResource)
    }

    /// The compiled form of a proven expression.
    fn regex(&self, text: &str) -> Option<Arc<Compiled>> {
        let known = self.regexes.load();
        if let Some(found) = known.iter().find(|known| known.text == text) {
            return Some(found.clone());
        }
        // The whole URL, or `.*/films/` would open what has it in its query.
        let regex = RegexBuilder::new(&format!("^(?:{text})$"))
            .unicode(false)
            .size_limit(REGEX_BYTES_MAX)
            .build()
            .ok()?;
        let text = text.to_owned();
        let compiled = Arc::new(Compiled { text, regex });
        self.regexes.rcu(|known| {
            let others = known.iter().filter(|other| other.text != compiled.text);
            let first = std::iter::once(&compiled);
            let next: Vec<_> = first.chain(others).take(REGEXES_MAX).cloned().collect();
            next
        });
        Some(compiled)
    }
}

/// The last part of the URL segment form of a hash (RFC 6920 §5).
pub(super) fn url_hash(url: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, url.as_bytes()))
}

/// RFC 9246 §2.1.3: an audience is checked when it is there.
fn check_audience_if_named(
    claims: &Map<String, Value>,
    audience: Option<&str>,
) -> Result<(), CredentialRefusal> {
    if claims.contains_key("aud") {
        check_audience(claims, audience)
    } else {
        Ok(())
    }
}

fn check_version(claims: &Map<String, Value>) -> Result<(), CredentialRefusal> {
    let claim = "cdniv";
    match claims.get(claim) {
        None => Ok(()),
        Some(version) if version.as_u64() == Some(1) => Ok(()),
        Some(_) => Err(CredentialRefusal::UnsupportedClaim { claim }),
    }
}

/// The URL of a request in normal form (RFC 9246 §2.1.15: RFC 3986 §6.2.2 and §6.2.3). Dot segments
/// are not in it: the gate lets none in.
fn normal_url(view: &RequestView, path: &str, query: &str) -> String {
    let host = view.request.host.to_ascii_lowercase();
    let default_port = if view.scheme == "https" {
        ":443"
    } else {
        ":80"
    };
    let host = host.strip_suffix(default_port).unwrap_or(&host);
    let scheme = view.scheme;
    let path = if path.is_empty() { "/" } else { path };
    let mut url = format!("{scheme}://{host}{}", normal_escapes(path));
    if !query.is_empty() {
        url.push('?');
        url.push_str(&normal_escapes(query));
    }
    url
}

/// Escapes in upper case, and none for what needs none (RFC 3986 §6.2.2.1, §6.2.2.2).
pub(super) fn normal_escapes(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escape = (digit(bytes.get(at + 1)), digit(bytes.get(at + 2)));
        if let (b'%', (Some(high), Some(low))) = (byte, escape) {
            let meant = u8::try_from(high << 4 | low).expect("two digits make a byte");
            if meant.is_ascii_alphanumeric() || b"-._~".contains(&meant) {
                out.push(char::from(meant));
            } else {
                out.push_str(&format!("%{meant:02X}"));
            }
            at += 3;
        } else {
            // The gate lets in ASCII only; other bytes cannot become a URL that matches.
            out.push(char::from(*byte));
            at += 1;
        }
    }
    out
}

/// Decides whether a token is genuine and grants this request; `None` when there is none for any of
/// the issuers.
///
/// # Errors
/// The [`CredentialRefusal`] that names the cause, of the first token, and of the issuer whose key signed
/// it if one did; the signature is checked before what it covers.
pub(in crate::signing) fn verify(
    view: &RequestView,
    issuers: &[UriSigningKeys],
    now: SystemTime,
) -> Result<Option<Granted>, CredentialRefusal> {
    let mut first = None;
    for place in 0..TOKENS_MAX {
        match verify_one(view, issuers, place, now) {
            Ok(Some(granted)) => return Ok(Some(granted)),
            Ok(None) => break,
            Err(refusal) => {
                first.get_or_insert(refusal);
            }
        }
    }
    first.map_or(Ok(None), Err)
}

fn verify_one(
    view: &RequestView,
    issuers: &[UriSigningKeys],
    place: usize,
    now: SystemTime,
) -> Result<Option<Granted>, CredentialRefusal> {
    first_to_prove(issuers, |issuer| {
        let Some(found) = issuer.find(view, place)? else {
            return Ok(Verdict::Nothing);
        };
        let (claims, key) = match Jws::parse(found.token)?.prove(&issuer.keys) {
            Ok(proven) => proven,
            Err(unproven) => return Ok(Verdict::Unproven(unproven)),
        };
        let validity = issuer.check(&claims, &found.url, view.client, now)?;
        let client_bound = claims.contains_key(CLIENT);
        let renewed = match Renewal::of(&claims)? {
            None => None,
            Some(renewal) => {
                let key = issuer.renewal_key(key)?;
                renewal.renew(claims, key, &issuer.parameter, &found.path, now)
            }
        };
        Ok(Verdict::Granted(Granted {
            scheme: Scheme::UriSigning,
            key_id: issuer.id.clone(),
            expires: Some(validity.expires),
            not_before: validity.not_before,
            client_bound,
            covers_fields: false,
            renewed,
        }))
    })
}

/// What is signed, for a person.
///
/// # Errors
/// The [`CredentialRefusal`] that keeps it from being read.
pub(in crate::signing) fn explain(
    view: &RequestView,
    issuer: &UriSigningKeys,
) -> Result<Option<Explained>, CredentialRefusal> {
    let found = issuer.find(view, 0)?;
    found
        .map(|found| {
            let hash = url_hash(&found.url);
            let notes = vec![
                ("URL in normal form", found.url),
                ("its hash", format!("sha-256;{hash}")),
            ];
            explained(Scheme::UriSigning, found.token, notes)
        })
        .transpose()
}
