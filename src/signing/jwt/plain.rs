//! Plain tokens: in `Authorization: Bearer` (RFC 6750 §2.1), else in the query, else in a cookie.
//!
//! A token must say until when it counts (`exp`) and, unless the key asks for no such claim, which
//! paths it opens: a text or a list of texts with `*` and `?`, compared with the path as it was sent.
//! The method and the query are not covered.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::AUTHORIZATION;
use serde_json::{Map, Value};

use super::claims::{UnknownIssuer, Validity, check_audience, check_issuer};
use super::jwks::JwkSet;
use super::jws::Jws;
use crate::signing::carriers::{Carriers, is_bearer};
use crate::signing::verifier::{Verdict, first_to_prove};
use crate::signing::view::{RequestView, cookie, parameter};
use crate::signing::{CredentialRefusal, Explained, Granted, Scheme, glob};

const PART: &str = "the token";

/// The keys of one issuer of tokens, and what its tokens must say.
#[derive(Debug, Clone)]
pub struct JwtKeys {
    /// The id of this entry, for logs and rules.
    pub id: Arc<str>,
    /// The keys.
    pub keys: JwkSet,
    /// The name of parameter and cookie.
    pub parameter: Box<str>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What `aud` must name.
    pub audience: Option<String>,
    /// The claim that lists paths; `None` asks for none.
    pub path_claim: Option<String>,
}

impl JwtKeys {
    pub(in crate::signing) fn carry(&self, carriers: &mut Carriers) {
        carriers.add_bearer();
        carriers.add_parameters(&self.parameter, &[]);
        carriers.add_cookie(&self.parameter);
    }

    fn find<'a>(&self, view: &RequestView<'a>) -> Result<Option<&'a str>, CredentialRefusal> {
        let request = &view.request;
        let mut authorizations = request.headers.get_all(AUTHORIZATION).iter();
        let authorization = authorizations.next();
        if let Some(value) = authorization.filter(|value| is_bearer(value)) {
            if authorizations.next().is_some() {
                let part = "Authorization";
                return Err(CredentialRefusal::DuplicatePart { part });
            }
            let text = value.to_str().ok().and_then(|text| text.get(7..));
            return match text {
                Some(token) => Ok(Some(token.trim_matches(' '))),
                None => Err(CredentialRefusal::MalformedToken),
            };
        }
        match parameter(request.query, &self.parameter, PART)? {
            Some(token) => Ok(Some(token)),
            None => cookie(request.headers, &self.parameter, PART),
        }
    }

    fn check(
        &self,
        claims: &Map<String, Value>,
        view: &RequestView,
        leeway: Duration,
        now: SystemTime,
    ) -> Result<Validity, CredentialRefusal> {
        let validity = Validity::check(claims, leeway, now)?;
        check_issuer(claims, self.issuer.as_deref(), UnknownIssuer::Passes)?;
        check_audience(claims, self.audience.as_deref())?;
        if let Some(name) = &self.path_claim {
            check_paths(claims.get(name), view.request.path)?;
        }
        Ok(validity)
    }
}

fn check_paths(claim: Option<&Value>, path: &str) -> Result<(), CredentialRefusal> {
    const MALFORMED: CredentialRefusal = CredentialRefusal::MalformedClaim { claim: "path" };
    let opens = |pattern: &Value| match pattern {
        Value::String(pattern) => Ok(glob::matches(pattern, path)),
        _ => Err(MALFORMED),
    };
    let opened = match claim {
        None => return Err(CredentialRefusal::MissingClaim { claim: "path" }),
        Some(Value::Array(patterns)) => {
            let mut opened = false;
            for pattern in patterns {
                opened |= opens(pattern)?;
            }
            opened
        }
        Some(pattern) => opens(pattern)?,
    };
    opened.then_some(()).ok_or(CredentialRefusal::WrongResource)
}

/// Decides whether a token is genuine and grants this request; `None` when there is none for any of
/// the issuers.
///
/// # Errors
/// The [`CredentialRefusal`] that names the cause, of the issuer whose key signed if one did; the
/// signature is checked before what it covers.
pub(in crate::signing) fn verify(
    view: &RequestView,
    issuers: &[JwtKeys],
    leeway: Duration,
    now: SystemTime,
) -> Result<Option<Granted>, CredentialRefusal> {
    first_to_prove(issuers, |issuer| {
        let Some(token) = issuer.find(view)? else {
            return Ok(Verdict::Nothing);
        };
        let claims = match Jws::parse(token)?.prove(&issuer.keys) {
            Ok((claims, _)) => claims,
            Err(unproven) => return Ok(Verdict::Unproven(unproven)),
        };
        let validity = issuer.check(&claims, view, leeway, now)?;
        Ok(Verdict::Granted(Granted {
            scheme: Scheme::Jwt,
            key_id: issuer.id.clone(),
            expires: Some(validity.expires),
            not_before: validity.not_before,
            client_bound: false,
            covers_fields: false,
            renewed: None,
        }))
    })
}

/// What is signed, for a person.
///
/// # Errors
/// The [`CredentialRefusal`] that keeps it from being read.
pub(in crate::signing) fn explain(
    view: &RequestView,
    issuer: &JwtKeys,
) -> Result<Option<Explained>, CredentialRefusal> {
    let token = issuer.find(view)?;
    token
        .map(|token| {
            explained(
                Scheme::Jwt,
                token,
                vec![("path", view.request.path.to_owned())],
            )
        })
        .transpose()
}

/// A token in words.
pub(super) fn explained(
    scheme: Scheme,
    token: &str,
    mut notes: Vec<(&'static str, String)>,
) -> Result<Explained, CredentialRefusal> {
    let jws = Jws::parse(token)?;
    let mut header = jws.algorithm.clone();
    if let Some(id) = &jws.key_id {
        header.push_str(", kid ");
        header.push_str(id);
    }
    notes.insert(0, ("algorithm", header));
    let claims = jws.claims().ok_or(CredentialRefusal::MalformedToken)?;
    notes.insert(1, ("claims", Value::Object(claims).to_string()));
    Ok(Explained {
        scheme,
        signed: jws.signed.to_owned(),
        notes,
    })
}
