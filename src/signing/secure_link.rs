//! nginx's `secure_link_md5`: an MD5 over an expression of URI, expiry and a secret, in base64url.
//!
//! `?md5=…&expires=…`. The expression is the key's, in nginx's own words: `$uri` is the path with its
//! escapes decoded, `$secure_link_expires` the expiry as it was sent, `$remote_addr` the client's
//! address, and `$secret` stands for the secret, which nginx would have in clear text.
//!
//! nginx merges slashes in `$uri` unless `merge_slashes` is off. Here it is off: `/a//b` is another
//! object than `/a/b`. Further query parameters and the method are not covered.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use md5::{Digest, Md5};
use percent_encoding::percent_decode_str;

use super::carriers::Carriers;
use super::verifier::{Verdict, first_to_prove};
use super::view::{RequestView, parameter};
use super::{CredentialRefusal, Explained, Granted, Scheme, window};
use crate::secret::Secret;

/// What nginx's documentation has as its example, with the secret at its end.
pub const DEFAULT_EXPRESSION: &str = "$secure_link_expires$uri$remote_addr $secret";

const MD5: &str = "the MD5 parameter";
const EXPIRES: &str = "the expiry parameter";

/// A key of links.
#[derive(Debug, Clone)]
pub struct SecureLinkKey {
    /// Its id, for logs and rules: links do not name it.
    pub id: Arc<str>,
    /// The name of the parameter with the hash.
    pub parameter: Box<str>,
    /// The name of the parameter with the expiry.
    pub expires_parameter: Box<str>,
    /// What is hashed.
    pub expression: Expression,
    /// The value of `$secret`.
    pub secret: Secret,
}

/// What is hashed: text and variables.
#[derive(Clone, PartialEq, Eq)]
pub struct Expression(Vec<Piece>);

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(Variable),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    Uri,
    Expires,
    RemoteAddr,
    Secret,
}

/// Why a text is no expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionFault {
    /// A variable that is not known here.
    #[error("a variable is none of $secure_link_expires, $uri, $remote_addr and $secret")]
    Variable,
    /// Without the path, the expiry and the secret, a link would open everything, for ever, or to
    /// everybody.
    #[error("it must hold $secure_link_expires, $uri and $secret")]
    Incomplete,
}

impl Expression {
    /// Reads an expression in nginx's notation: `$name` or `${name}`.
    ///
    /// # Errors
    /// [`ExpressionFault`].
    pub fn parse(text: &str) -> Result<Self, ExpressionFault> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let (name, behind) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or(ExpressionFault::Variable)?,
                None => {
                    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                    let end = after.bytes().position(|byte| !in_name(byte));
                    after.split_at(end.unwrap_or(after.len()))
                }
            };
            pieces.push(Piece::Variable(match name {
                "uri" => Variable::Uri,
                "secure_link_expires" => Variable::Expires,
                "remote_addr" => Variable::RemoteAddr,
                "secret" => Variable::Secret,
                _ => return Err(ExpressionFault::Variable),
            }));
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let expression = Expression(pieces);
        let complete = [Variable::Uri, Variable::Expires, Variable::Secret]
            .into_iter()
            .all(|variable| expression.has(variable));
        complete
            .then_some(expression)
            .ok_or(ExpressionFault::Incomplete)
    }

    fn has(&self, variable: Variable) -> bool {
        let is_it = |piece: &Piece| matches!(piece, Piece::Variable(known) if *known == variable);
        self.0.iter().any(is_it)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Somebody may have written the secret into it.
        f.write_str("Expression(…)")
    }
}

/// What the variables of an expression stand for.
struct Values<'a> {
    uri: &'a [u8],
    expires: &'a str,
    client: IpAddr,
}

impl SecureLinkKey {
    pub(super) fn carry(&self, carriers: &mut Carriers) {
        carriers.add_parameters(&self.parameter, &[&self.expires_parameter]);
    }

    fn each_piece(&self, values: &Values, secret: &[u8], mut take: impl FnMut(&[u8])) {
        for piece in &self.expression.0 {
            match piece {
                Piece::Text(text) => take(text.as_bytes()),
                Piece::Variable(Variable::Uri) => take(values.uri),
                Piece::Variable(Variable::Expires) => take(values.expires.as_bytes()),
                Piece::Variable(Variable::RemoteAddr) => take(values.client.to_string().as_bytes()),
                Piece::Variable(Variable::Secret) => take(secret),
            }
        }
    }

    fn hash(&self, values: &Values) -> [u8; 16] {
        let mut hash = Md5::new();
        let secret = self.secret.reveal().as_bytes();
        self.each_piece(values, secret, |bytes| hash.update(bytes));
        hash.finalize().into()
    }

    /// The hash and the expiry that a request carries.
    fn find<'a>(&self, query: &'a str) -> Result<Option<(&'a str, &'a str)>, CredentialRefusal> {
        let Some(hash) = parameter(query, &self.parameter, MD5)? else {
            return Ok(None);
        };
        let expires = parameter(query, &self.expires_parameter, EXPIRES)?;
        let expires = expires.ok_or(CredentialRefusal::MissingPart { part: EXPIRES })?;
        Ok(Some((hash, expires)))
    }
}

/// A path as nginx has it in `$uri`. An encoded slash would become one that separates.
fn uri(path: &str) -> Result<Cow<'_, [u8]>, CredentialRefusal> {
    let escaped_slash = path
        .as_bytes()
        .windows(3)
        .any(|three| three.eq_ignore_ascii_case(b"%2f"));
    if escaped_slash {
        return Err(CredentialRefusal::MalformedPart { part: "the path" });
    }
    Ok(percent_decode_str(path).into())
}

/// Decides whether a link is genuine and grants this request; `None` when there is none for any of
/// the keys.
///
/// As with nginx, a link counts up to the end of the second `expires`.
///
/// # Errors
/// The [`CredentialRefusal`] that names the cause, of the key that made the link if one did.
pub(super) fn verify(
    view: &RequestView,
    keys: &[SecureLinkKey],
    now: SystemTime,
) -> Result<Option<Granted>, CredentialRefusal> {
    first_to_prove(keys, |key| {
        let Some((hash, expires)) = key.find(view.request.query)? else {
            return Ok(Verdict::Nothing);
        };
        let hash = URL_SAFE_NO_PAD.decode(hash).ok();
        let hash = hash.ok_or(CredentialRefusal::MalformedPart { part: MD5 })?;
        let seconds = window::seconds(expires);
        let seconds = seconds.ok_or(CredentialRefusal::MalformedPart { part: EXPIRES })?;
        let uri = uri(view.request.path)?;
        let values = Values {
            uri: &uri,
            expires,
            client: view.client.to_canonical(),
        };
        if constant_time::verify_slices_are_equal(&key.hash(&values), &hash).is_err() {
            return Ok(Verdict::Unproven(CredentialRefusal::SignatureMismatch));
        }
        let expires = window::instant(seconds) + Duration::from_secs(1);
        window::not_expired(expires, now)?;
        Ok(Verdict::Granted(Granted {
            scheme: Scheme::SecureLink,
            key_id: key.id.clone(),
            expires: Some(expires),
            not_before: None,
            client_bound: key.expression.has(Variable::RemoteAddr),
            covers_fields: false,
            renewed: None,
        }))
    })
}

/// What is hashed, for a person, and what the hash must be. The secret is left out.
///
/// # Errors
/// The [`CredentialRefusal`] that keeps it from being read.
pub(super) fn explain(
    view: &RequestView,
    key: &SecureLinkKey,
) -> Result<Option<Explained>, CredentialRefusal> {
    let Some((hash, expires)) = key.find(view.request.query)? else {
        return Ok(None);
    };
    let uri = uri(view.request.path)?;
    let values = Values {
        uri: &uri,
        expires,
        client: view.client.to_canonical(),
    };
    let mut signed = Vec::new();
    key.each_piece(&values, b"(secret)", |bytes| {
        signed.extend_from_slice(bytes)
    });
    Ok(Some(Explained {
        scheme: Scheme::SecureLink,
        signed: String::from_utf8_lossy(&signed).into_owned(),
        notes: vec![
            ("$uri", String::from_utf8_lossy(&uri).into_owned()),
            ("MD5 sent", hash.to_owned()),
            ("MD5 expected", URL_SAFE_NO_PAD.encode(key.hash(&values))),
        ],
    }))
}

/// The query of a link for `path`, which is percent-encoded as it will be sent, that counts up to the
/// end of the second `expires`. `client` is its address when the expression asks for one.
///
/// # Errors
/// [`CredentialRefusal::MalformedPart`] when the path holds an encoded slash.
pub fn sign_secure_link(
    key: &SecureLinkKey,
    path: &str,
    expires: u64,
    client: IpAddr,
) -> Result<String, CredentialRefusal> {
    let uri = uri(path)?;
    let text = expires.to_string();
    let values = Values {
        uri: &uri,
        expires: &text,
        client,
    };
    let hash = URL_SAFE_NO_PAD.encode(key.hash(&values));
    let (parameter, expires_parameter) = (&key.parameter, &key.expires_parameter);
    Ok(format!("{parameter}={hash}&{expires_parameter}={text}"))
}

#[cfg(test)]
mod tests;
