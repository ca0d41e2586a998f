//! The renewal of tokens of URI signing (RFC 9246 §2.1.12 to §2.1.14, §3): a token for a film in pieces is short-lived, and
//! each piece brings the one for the next.
//!
//! | claim | |
//! |---|---|
//! | `cdnistt` | 0 or absent: no renewal; 1: in a cookie; 2: in the query of a redirect's target; others are refused |
//! | `cdniets` | required beside `cdnistt`: for how many seconds from now on the new token counts |
//! | `cdnistd` | how many segments of the path the cookie is for; 0 or absent: all of the host |
//!
//! The new token says what the old one said, but for its dates, and is signed with a secret of the
//! same set, because that is what every node that verifies it holds.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use serde_json::{Map, Number, Value};

use super::jwks::Jwk;
use super::sign::compact;
use crate::signing::carriers::parameter_in;
use crate::signing::view::items;
use crate::signing::{CredentialRefusal, window};

/// A token for the client's next requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewedToken {
    /// Of the cookie or the parameter.
    name: Box<str>,
    token: String,
    carrier: Carrier,
}

/// What carries a new token to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Carrier {
    Cookie { path: String, seconds: u64 },
    Query,
}

impl RenewedToken {
    /// A `Set-Cookie` with the token; `None` when it is for a query. A client on HTTPS keeps it to HTTPS, and
    /// sends it from pages of other sites as well, where players are; what it opens is read only unless the key
    /// says otherwise.
    pub fn set_cookie(&self, scheme: &str) -> Option<HeaderValue> {
        let RenewedToken { name, token, .. } = self;
        let Carrier::Cookie { path, seconds } = &self.carrier else {
            return None;
        };
        let on_https = if scheme == "https" {
            "; Secure; SameSite=None"
        } else {
            ""
        };
        let cookie = format!("{name}={token}; Path={path}; Max-Age={seconds}; HttpOnly{on_https}");
        HeaderValue::try_from(cookie).ok()
    }

    /// What the `Location` of a response becomes when the token is added to its query, for a client that came by
    /// `scheme` (RFC 9246 §3.3.1).
    ///
    /// `None` when the token is for a cookie, when the target has a token already, which is the origin's doing, and
    /// when it would be less safe there than it was here (§1.3): in plain text, or with what is not HTTP.
    pub fn location(&self, location: &HeaderValue, scheme: &str) -> Option<HeaderValue> {
        let RenewedToken { name, token, .. } = self;
        if self.carrier != Carrier::Query {
            return None;
        }
        let location = location.to_str().ok()?;
        let fragment_at = location.find('#').unwrap_or(location.len());
        let (url, fragment) = location.split_at(fragment_at);
        if url.is_empty() || !is_as_safe(url, scheme) {
            return None;
        }
        let (path, query) = match url.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (url, None),
        };
        let is_in_query = query.is_some_and(|query| items(query).any(|item| item.is_named(name)));
        if is_in_query || parameter_in(path, name).is_some() {
            return None;
        }
        let separator = match query {
            None => "?",
            Some(query) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        };
        HeaderValue::try_from(format!("{url}{separator}{name}={token}{fragment}")).ok()
    }
}

/// Whether who follows this reference from a request by `scheme` stays with HTTP, and with HTTPS.
fn is_as_safe(url: &str, scheme: &str) -> bool {
    let first = url.split(['/', '?']).next().unwrap_or_default();
    match first.split_once(':') {
        // Relative: to the same scheme.
        None => true,
        Some((target, _)) if target.eq_ignore_ascii_case("https") => true,
        Some((target, _)) => target.eq_ignore_ascii_case("http") && scheme == "http",
    }
}

/// What a proven token says about its renewal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Renewal {
    transport: Transport,
    /// `cdniets`.
    seconds: u64,
    /// `cdnistd`.
    depth: u64,
}

/// `cdnistt`, when it asks for something (RFC 9246 §6.5).
#[derive(Debug, PartialEq, Eq)]
enum Transport {
    Cookie,
    Query,
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
        let setting = setting(claims)?;
        let transport = match transport.as_u64() {
            Some(0) => return Ok(None),
            Some(1) => Transport::Cookie,
            Some(2) => Transport::Query,
            _ if transport.is_number() => {
                return Err(CredentialRefusal::UnsupportedClaim { claim });
            }
            _ => return Err(CredentialRefusal::MalformedClaim { claim }),
        };
        Ok(Some(Renewal {
            transport,
            seconds: whole_seconds(setting)?,
            depth: depth(claims)?,
        }))
    }

    /// The new token for a proven one, signed with `key`; `None` when the path has fewer segments
    /// than the token is to be for (RFC 9246 §2.1.14). `path` is without the token.
    pub(super) fn renew(
        &self,
        mut claims: Map<String, Value>,
        key: &Jwk,
        name: &str,
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
        let carrier = match self.transport {
            Transport::Cookie => Carrier::Cookie {
                path,
                seconds: self.seconds,
            },
            Transport::Query => Carrier::Query,
        };
        Some(RenewedToken {
            name: name.into(),
            token,
            carrier,
        })
    }
}

/// `cdniets`, which is a number also where nothing is to be renewed (RFC 9246 §3.2.1).
fn setting(claims: &Map<String, Value>) -> Result<&Number, CredentialRefusal> {
    let claim = "cdniets";
    match claims.get(claim) {
        None => Err(CredentialRefusal::MissingClaim { claim }),
        Some(Value::Number(seconds)) => Ok(seconds),
        Some(_) => Err(CredentialRefusal::MalformedClaim { claim }),
    }
}

/// At least one; what goes beyond whole seconds is dropped.
fn whole_seconds(setting: &Number) -> Result<u64, CredentialRefusal> {
    let claim = "cdniets";
    let fraction = || Duration::try_from_secs_f64(setting.as_f64()?).ok();
    let seconds = (setting.as_u64()).or_else(|| fraction().map(|seconds| seconds.as_secs()));
    let seconds = seconds.filter(|seconds| (1..=window::LAST).contains(seconds));
    seconds.ok_or(CredentialRefusal::MalformedClaim { claim })
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
