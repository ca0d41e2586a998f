//! The renewal of tokens of URI signing (RFC 9246 §2.1.12 to §2.1.14, §3.3): a token for a film in pieces is short-lived, and
//! each piece brings the one for the next.
//!
//! | claim | |
//! |---|---|
//! | `cdnistt` | 0 or absent: no renewal; 1: in a cookie; others are refused |
//! | `cdniets` | required beside `cdnistt`: for how many seconds from now on the new token counts |
//! | `cdnistd` | how many segments of the path the cookie is for; 0 or absent: all of the host |
//!
//! The new token says what the old one said, but for its dates, and is signed with a secret of the
//! same set, because that is what every node that verifies it holds.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use serde_json::{Map, Value};

use super::jwks::Jwk;
use super::sign::compact;
use crate::signing::{CredentialRefusal, window};

/// A token for the client's next requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewedToken {
    cookie: Box<str>,
    token: String,
    path: String,
    seconds: u64,
}

impl RenewedToken {
    /// A `Set-Cookie` with the token. A client on HTTPS keeps it to HTTPS, and sends it from pages of
    /// other sites as well, where players are; what it opens is read only unless the key says otherwise.
    pub fn set_cookie(&self, scheme: &str) -> Option<HeaderValue> {
        let RenewedToken {
            cookie,
            token,
            path,
            seconds,
        } = self;
        let on_https = if scheme == "https" {
            "; Secure; SameSite=None"
        } else {
            ""
        };
        let cookie =
            format!("{cookie}={token}; Path={path}; Max-Age={seconds}; HttpOnly{on_https}");
        HeaderValue::try_from(cookie).ok()
    }
}

/// What a proven token says about its renewal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Renewal {
    /// `cdniets`.
    seconds: u64,
    /// `cdnistd`.
    depth: u64,
}

impl Renewal {
    /// Reads it out of the claims; `None` when the token is not to be renewed.
    ///
    /// # Errors
    /// [`CredentialRefusal`] about one of the three claims.
    pub(super) fn of(claims: &Map<String, Value>) -> Result<Option<Self>, CredentialRefusal> {
        let claim = "cdnistt";
        let Some(transport) = claims.get(claim) else {
            return Ok(None);
        };
        let seconds = setting(claims)?;
        match transport.as_u64() {
            Some(0) => Ok(None),
            Some(1) => Ok(Some(Renewal {
                seconds,
                depth: depth(claims)?,
            })),
            _ if transport.is_number() => Err(CredentialRefusal::UnsupportedClaim { claim }),
            _ => Err(CredentialRefusal::MalformedClaim { claim }),
        }
    }

    /// The new token for a proven one, signed with `key`; `None` when the path has fewer segments
    /// than the token is to be for (RFC 9246 §2.1.14). `path` is without the token.
    pub(super) fn renew(
        &self,
        mut claims: Map<String, Value>,
        key: &Jwk,
        cookie: &str,
        path: &str,
        now: SystemTime,
    ) -> Option<RenewedToken> {
        let path = first_segments(path, self.depth)?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = since.unwrap_or(Duration::ZERO).as_secs();
        claims.insert(
            "exp".to_owned(),
            Value::from(now.saturating_add(self.seconds)),
        );
        if claims.contains_key("iat") {
            claims.insert("iat".to_owned(), Value::from(now));
        }
        let token = compact(key.algorithm(), key.id.as_deref(), &claims, |signed| {
            key.sign(signed)
        })?;
        Some(RenewedToken {
            cookie: cookie.into(),
            token,
            path,
            seconds: self.seconds,
        })
    }
}

/// `cdniets`: whole seconds, at least one; what goes beyond is dropped.
fn setting(claims: &Map<String, Value>) -> Result<u64, CredentialRefusal> {
    let claim = "cdniets";
    let malformed = CredentialRefusal::MalformedClaim { claim };
    let value = claims.get(claim);
    let value = value.ok_or(CredentialRefusal::MissingClaim { claim })?;
    let seconds = match (value.as_u64(), value.as_f64()) {
        (Some(seconds), _) => Some(seconds),
        (None, Some(seconds)) => Duration::try_from_secs_f64(seconds)
            .ok()
            .map(|seconds| seconds.as_secs()),
        (None, None) => None,
    };
    let seconds = seconds.filter(|seconds| (1..=window::LAST).contains(seconds));
    seconds.ok_or(malformed)
}

fn depth(claims: &Map<String, Value>) -> Result<u64, CredentialRefusal> {
    let claim = "cdnistd";
    match claims.get(claim) {
        None => Ok(0),
        Some(depth) => depth
            .as_u64()
            .ok_or(CredentialRefusal::MalformedClaim { claim }),
    }
}

/// The first segments of a path, as the attribute of a cookie (RFC 6265 §4.1.1). It cannot hold a
/// semicolon, and ends before a segment that has one: the client then sends the token to more URLs, and
/// which ones it opens is in the token.
fn first_segments(path: &str, depth: u64) -> Option<String> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let depth = usize::try_from(depth).ok()?;
    let first = segments.get(..depth)?;
    let first = first.iter().take_while(|segment| !segment.contains(';'));
    Some(format!("/{}", first.copied().collect::<Vec<_>>().join("/")))
}
