//! Tokens with a keyed hash over an expiry and the paths that they open, in the form that Akamai's
//! edge authorization made common: `exp=1700000000~acl=/films/*~hmac=…`.
//!
//! | field | meaning |
//! |---|---|
//! | `exp` | the second since 1970 from which the token does not count; required |
//! | `st` | it counts from this second on |
//! | `acl` | the paths it opens, with `*` and `?`, several separated by `!` |
//! | `url` | the one path it opens; absent in the token itself, the path is hashed all the same |
//! | `ip` | the client's address |
//! | `id`, `data` | hashed, and of no other meaning here |
//! | `hmac` | the hash over everything before it, in lower-case hexadecimal; the last field |
//!
//! A token stands in the query, in the path right behind the route's prefix, or in a cookie, under the
//! name that its key gives; the first of these that is there counts. What is hashed is the token as it
//! was sent. Fields of other names are refused: they might restrict what is granted. Methods and
//! further query parameters are not covered.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::{constant_time, hmac};

use super::carriers::{Carriers, token_in};
use super::verifier::{Verdict, first_to_prove};
use super::view::{RequestView, cookie, decoded, parameter};
use super::{CredentialRefusal, Explained, Granted, Scheme, glob, window};

/// What stands between two fields.
const DELIMITER: char = '~';
/// What stands between two patterns of an access list.
const LIST_DELIMITER: char = '!';
const PART: &str = "the token";

/// The hash of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenHash {
    /// SHA-256.
    Sha256,
    /// SHA-1, for old signers.
    Sha1,
}

/// A key that tokens are made with.
#[derive(Clone, Debug)]
pub struct TokenKey {
    /// Its id, for logs and rules: tokens do not name it.
    pub id: Arc<str>,
    /// The name of parameter, path segment and cookie.
    pub parameter: Box<str>,
    key: Box<hmac::Key>,
}

impl TokenKey {
    /// A key from its bytes.
    pub fn new(id: &str, parameter: &str, hash: TokenHash, secret: &[u8]) -> Self {
        let algorithm = match hash {
            TokenHash::Sha256 => hmac::HMAC_SHA256,
            TokenHash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        };
        TokenKey {
            id: id.into(),
            parameter: parameter.into(),
            key: Box::new(hmac::Key::new(algorithm, secret)),
        }
    }

    pub(super) fn carry(&self, carriers: &mut Carriers) {
        carriers.add_parameters(&self.parameter, &[]);
        carriers.add_path_token(&self.parameter);
        carriers.add_cookie(&self.parameter);
    }

    /// The token that a request carries for this key, and the path without it.
    fn find<'a>(&self, view: &RequestView<'a>) -> Result<Option<Found<'a>>, CredentialRefusal> {
        let request = &view.request;
        let path = Cow::Borrowed(request.path);
        let found = |raw, path| {
            let text = as_hashed(raw)?;
            Ok(Some(Found { text, path }))
        };
        if let Some(raw) = parameter(request.query, &self.parameter, PART)? {
            return found(raw, path);
        }
        if let Some(token) = token_in(request.path, view.prefix_length, &self.parameter) {
            let path = super::carriers::without(request.path, token.whole);
            return found(token.value, Cow::Owned(path));
        }
        match cookie(request.headers, &self.parameter, PART)? {
            Some(raw) => found(raw, path),
            None => Ok(None),
        }
    }

    /// The hash of what a token says, for a path that it does not name.
    fn matches(&self, token: &Token, path: &str) -> bool {
        let matches = |path: Option<&str>| {
            let mut context = hmac::Context::with_key(&self.key);
            context.update(token.hashed.as_bytes());
            if let Some(path) = path {
                context.update(b"~url=");
                context.update(path.as_bytes());
            }
            let wanted = context.sign();
            constant_time::verify_slices_are_equal(wanted.as_ref(), &token.hmac).is_ok()
        };
        if token.names_its_paths() {
            matches(None)
        } else {
            // Signers hash the path as it is sent, or escaped once more.
            matches(Some(path)) || matches(Some(&escaped(path)))
        }
    }
}

/// A token that was found, as it was hashed, and the path without it.
struct Found<'a> {
    text: Cow<'a, str>,
    path: Cow<'a, str>,
}

/// A token as its signer hashed it. Clients escape what they put into a query or cookie, signers may
/// have escaped before: what holds the hash in clear text is taken as it is.
fn as_hashed(raw: &str) -> Result<Cow<'_, str>, CredentialRefusal> {
    if raw.contains("hmac=") {
        return Ok(Cow::Borrowed(raw));
    }
    decoded(raw).ok_or(CredentialRefusal::MalformedPart { part: PART })
}

/// A parsed but unproven token.
struct Token<'t> {
    /// Everything before the hash.
    hashed: &'t str,
    hmac: Vec<u8>,
    expires: u64,
    not_before: Option<u64>,
    acl: Option<&'t str>,
    url: Option<&'t str>,
    ip: Option<&'t str>,
}

impl<'t> Token<'t> {
    fn parse(text: &'t str) -> Result<Self, CredentialRefusal> {
        let missing = |part| CredentialRefusal::MissingPart { part };
        let (hashed, hmac) = text.rsplit_once("~hmac=").ok_or(missing("hmac"))?;
        let malformed = |part| CredentialRefusal::MalformedPart { part };
        let lower_case = !hmac.bytes().any(|byte| byte.is_ascii_uppercase());
        let hmac = hex::decode(hmac).ok().filter(|_| lower_case);
        let mut fields = Fields::default();
        for field in hashed.split(DELIMITER) {
            let (name, value) = field.split_once('=').ok_or(malformed(PART))?;
            fields.set(name, value)?;
        }
        if fields.acl.is_some() && fields.url.is_some() {
            let (one, other) = ("acl", "url");
            return Err(CredentialRefusal::ExclusiveParts { one, other });
        }
        let seconds = |text: &str, part| window::seconds(text).ok_or(malformed(part));
        Ok(Token {
            hashed,
            hmac: hmac.ok_or(malformed("hmac"))?,
            expires: seconds(fields.expires.ok_or(missing("exp"))?, "exp")?,
            not_before: fields.start.map(|text| seconds(text, "st")).transpose()?,
            acl: fields.acl,
            url: fields.url,
            ip: fields.ip,
        })
    }

    fn names_its_paths(&self) -> bool {
        self.acl.is_some() || self.url.is_some()
    }

    fn check_path(&self, path: &str) -> Result<(), CredentialRefusal> {
        let malformed = |part| CredentialRefusal::MalformedPart { part };
        let opened = match (self.acl, self.url) {
            (Some(acl), _) => {
                let acl = path_text(acl).ok_or(malformed("acl"))?;
                let mut patterns = acl.split(LIST_DELIMITER);
                patterns.any(|pattern| glob::matches(pattern, path))
            }
            (None, Some(url)) => path_text(url).ok_or(malformed("url"))? == path,
            // The hash covers the path.
            (None, None) => true,
        };
        opened.then_some(()).ok_or(CredentialRefusal::WrongResource)
    }

    fn check_client(&self, client: IpAddr) -> Result<(), CredentialRefusal> {
        let Some(ip) = self.ip else { return Ok(()) };
        let address = decoded(ip).and_then(|ip| ip.parse().ok());
        let address: IpAddr = address.ok_or(CredentialRefusal::MalformedPart { part: "ip" })?;
        if address.to_canonical() == client.to_canonical() {
            Ok(())
        } else {
            Err(CredentialRefusal::WrongClient)
        }
    }
}

/// The fields of a token, each at most once.
#[derive(Default)]
struct Fields<'t> {
    expires: Option<&'t str>,
    start: Option<&'t str>,
    acl: Option<&'t str>,
    url: Option<&'t str>,
    ip: Option<&'t str>,
    id: Option<&'t str>,
    data: Option<&'t str>,
}

impl<'t> Fields<'t> {
    fn set(&mut self, name: &str, value: &'t str) -> Result<(), CredentialRefusal> {
        let (place, part) = match name {
            "exp" => (&mut self.expires, "exp"),
            "st" => (&mut self.start, "st"),
            "acl" => (&mut self.acl, "acl"),
            "url" => (&mut self.url, "url"),
            "ip" => (&mut self.ip, "ip"),
            "id" => (&mut self.id, "id"),
            "data" => (&mut self.data, "data"),
            _ => return Err(CredentialRefusal::UnknownPart),
        };
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(CredentialRefusal::DuplicatePart { part }),
        }
    }
}

/// A path or a list of them: as it is when it begins with a slash, else escaped once.
fn path_text(text: &str) -> Option<Cow<'_, str>> {
    if text.starts_with('/') {
        Some(Cow::Borrowed(text))
    } else {
        decoded(text)
    }
}

/// A text as signers escape it before they hash it: everything but letters, digits and `-._~` as
/// `%xx` with lower-case digits, a space as `+`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                out.push(char::from(byte));
            }
            // Writing to a string cannot fail.
            byte => drop(write!(out, "%{byte:02x}")),
        }
    }
    out
}

/// Decides whether a token is genuine and grants this request; `None` when there is none for any of
/// the keys.
///
/// A token counts from `st`, less `leeway`, until `exp`, which is the first second at which it does
/// not.
///
/// # Errors
/// The [`CredentialRefusal`] that names the cause, of the key that made the token if one did; the
/// hash is checked before what it covers.
pub(super) fn verify(
    view: &RequestView,
    keys: &[TokenKey],
    leeway: Duration,
    now: SystemTime,
) -> Result<Option<Granted>, CredentialRefusal> {
    first_to_prove(keys, |key| {
        let Some(Found { text, path }) = key.find(view)? else {
            return Ok(Verdict::Nothing);
        };
        let token = Token::parse(&text)?;
        if !key.matches(&token, &path) {
            return Ok(Verdict::Unproven(CredentialRefusal::SignatureMismatch));
        }
        let expires = window::instant(token.expires);
        window::not_expired(expires, now)?;
        let not_before = token.not_before.map(window::instant);
        if let Some(start) = not_before {
            window::has_begun(start, now, leeway)?;
        }
        token.check_client(view.client)?;
        token.check_path(&path)?;
        Ok(Verdict::Granted(Granted {
            scheme: Scheme::Token,
            key_id: key.id.clone(),
            expires: Some(expires),
            not_before,
            client_bound: token.ip.is_some(),
            covers_fields: false,
            renewed: None,
        }))
    })
}

/// What is hashed, for a person, and what the hash must be.
///
/// # Errors
/// The [`CredentialRefusal`] that keeps it from being read.
pub(super) fn explain(
    view: &RequestView,
    key: &TokenKey,
) -> Result<Option<Explained>, CredentialRefusal> {
    let Some(Found { text, path }) = key.find(view)? else {
        return Ok(None);
    };
    let token = Token::parse(&text)?;
    let mut signed = token.hashed.to_owned();
    if !token.names_its_paths() {
        signed.push_str("~url=");
        signed.push_str(&path);
    }
    let wanted = hmac::sign(&key.key, signed.as_bytes());
    Ok(Some(Explained {
        scheme: Scheme::Token,
        signed,
        notes: vec![
            ("path", path.into_owned()),
            ("hmac sent", hex::encode(&token.hmac)),
            ("hmac expected", hex::encode(wanted)),
        ],
    }))
}

/// What a token shall grant.
#[derive(Debug, Clone, Copy)]
pub struct TokenSpec<'a> {
    /// The first second at which it does not count, since 1970.
    pub expires: u64,
    /// It counts from this second on.
    pub not_before: Option<u64>,
    /// The paths it opens, with wildcards; several separated by `!`. `None`: the one path that it is
    /// hashed with.
    pub acl: Option<&'a str>,
    /// The client's address.
    pub ip: Option<IpAddr>,
}

/// Makes a token. `path` is hashed when `spec` has no access list.
pub fn sign_token(key: &TokenKey, path: &str, spec: &TokenSpec) -> String {
    let mut fields = Vec::new();
    if let Some(ip) = spec.ip {
        fields.push(format!("ip={ip}"));
    }
    if let Some(start) = spec.not_before {
        fields.push(format!("st={start}"));
    }
    fields.push(format!("exp={}", spec.expires));
    if let Some(acl) = spec.acl {
        fields.push(format!("acl={acl}"));
    }
    let token = fields.join("~");
    let hash = match spec.acl {
        Some(_) => hmac::sign(&key.key, token.as_bytes()),
        None => hmac::sign(&key.key, format!("{token}~url={path}").as_bytes()),
    };
    format!("{token}~hmac={}", hex::encode(hash))
}

#[cfg(test)]
mod tests;
