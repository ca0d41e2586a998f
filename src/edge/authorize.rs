//! May this request have what it asks for? Before any look-up, on every request
//! (`authorize-before-lookup`).
//!
//! What a request carries for the edge alone is taken out of it here, whether it was genuine or not
//! (`credentials-go-no-further`): it is neither keyed nor forwarded nor logged.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::admit::GateRefusal;
use super::request::Request;
use crate::config::{self, Access};
use crate::request_target::check_target;
use crate::signing::{
    Refusal, RenewedToken, RequestView, Rules, Scheme, SignedRequest, Verifier,
    carries_presignature, carries_signature_header, other_style,
};

/// The edge's keys and rules for signatures.
pub struct Authorizer {
    /// What each route asks for; it stays as it is when keys are exchanged.
    routes: Vec<Arc<config::Route>>,
    keys: ArcSwap<Keys>,
}

/// What is exchanged as a whole when keys are read again.
struct Keys {
    /// By the number of the route; `None` for one that is public.
    verifiers: Vec<Option<Arc<Verifier>>>,
    region: Option<String>,
    clock_leeway: Duration,
    domain: Option<String>,
}

/// How a request may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorized {
    /// Whoever asks for this URL gets the same bytes: the cache may answer.
    Shared,
    /// The signature covers more of the request than its URL, so only the origin may answer.
    OriginOnly,
}

/// What is known of a request behind this step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// How it may be answered, or why not.
    pub authorized: Result<Authorized, Refusal>,
    /// Credentials were taken out of it: it is no longer what the client sent.
    pub stripped: bool,
    /// A genuine AWS signature let it in, which covers its `x-amz-*` fields.
    pub aws_signed: bool,
    /// What the client gets for its next requests.
    pub renewed: Option<RenewedToken>,
}

impl Judged {
    /// Asks the gate once more, for a request out of which credentials were taken: what stood around a token in the
    /// path may be a dot segment without it.
    ///
    /// # Errors
    /// The [`GateRefusal`] for what is left.
    pub fn check_rest(&self, request: &Request) -> Result<(), GateRefusal> {
        if self.stripped {
            check_target(&request.target)?;
        }
        Ok(())
    }
}

impl Authorizer {
    /// Takes the configured routes and keys.
    pub fn new(routes: &[Arc<config::Route>], signing: &config::Signing) -> Self {
        let routes = routes.to_vec();
        let keys = ArcSwap::from_pointee(Keys::new(&routes, signing));
        Authorizer { routes, keys }
    }

    /// Puts other keys into force for all requests from now on. Which of them count where is still
    /// what the routes have said at the start.
    pub fn exchange_keys(&self, signing: &config::Signing) {
        self.keys.store(Arc::new(Keys::new(&self.routes, signing)));
    }

    /// Checks `request` against what its route asks for, and takes the credentials out of it.
    pub fn judge(&self, route: usize, request: &mut Request, now: SystemTime) -> Judged {
        if self.routes[route].access == Access::Public {
            return Judged {
                authorized: Ok(Authorized::Shared),
                stripped: false,
                aws_signed: false,
                renewed: None,
            };
        }
        let keys = self.keys.load();
        let Some(verifier) = &keys.verifiers[route] else {
            // A signed route has a verifier, if only one without keys.
            return Judged {
                authorized: Err(Refusal::NotSigned),
                stripped: false,
                aws_signed: false,
                renewed: None,
            };
        };
        let prefix_length = self.routes[route].path.len();
        let rules = Rules {
            region: keys.region.as_deref(),
            clock_leeway: keys.clock_leeway,
            domain: keys.domain.as_deref(),
        };
        let view = view(request, prefix_length);
        let mut granted = verifier.verify(&view, &rules, now);
        let renewed = (granted.as_mut().ok()).and_then(|granted| granted.renewed.take());
        let aws_signed = (granted.as_ref()).is_ok_and(|granted| granted.scheme == Scheme::SigV4);
        let authorized = granted.map(|granted| {
            // A signed Range or x-amz-* field must reach the origin as it was signed, and a fetch for
            // the cache changes such fields.
            if granted.covers_fields {
                Authorized::OriginOnly
            } else {
                Authorized::Shared
            }
        });
        let stripped = !verifier.carriers().is_empty() && strip(verifier, request, prefix_length);
        Judged {
            authorized,
            stripped,
            aws_signed,
            renewed,
        }
    }

    /// Takes the credentials out of a request that is refused before it is judged.
    pub fn strip(&self, route: usize, request: &mut Request) {
        if let Some(verifier) = &self.keys.load().verifiers[route] {
            strip(verifier, request, self.routes[route].path.len());
        }
    }

    /// Host and path under which S3's other style names the same object; `None` when nobody has said under which
    /// domain hosts name buckets.
    pub fn other_style(&self, authority: &str, path: &str) -> Option<(String, String)> {
        let keys = self.keys.load();
        other_style(authority, path, keys.domain.as_deref()?)
    }

    /// A query without the credentials of its route: what a URL that an operator names is keyed by.
    pub fn query_without_credentials<'q>(&self, route: usize, query: &'q str) -> Cow<'q, str> {
        match &self.keys.load().verifiers[route] {
            Some(verifier) => verifier.carriers().query_without(query),
            None => Cow::Borrowed(query),
        }
    }
}

impl Keys {
    fn new(routes: &[Arc<config::Route>], signing: &config::Signing) -> Self {
        let verifier = |route: &Arc<config::Route>| {
            (route.access == Access::Signed)
                .then(|| Arc::new(Verifier::new(&signing.keys, &route.signing)))
        };
        Keys {
            verifiers: routes.iter().map(verifier).collect(),
            region: signing.region.clone(),
            clock_leeway: signing.clock_leeway,
            domain: signing.domain.clone(),
        }
    }
}

fn view(request: &Request, prefix_length: usize) -> RequestView<'_> {
    RequestView {
        request: request.signed(),
        scheme: request.peer.scheme().as_str(),
        client: request.peer.client,
        prefix_length,
    }
}

/// Takes the credentials out of a request; whether there were any.
fn strip(verifier: &Verifier, request: &mut Request, prefix_length: usize) -> bool {
    let carriers = verifier.carriers();
    let target = carriers.target_without(request.path(), request.query(), prefix_length);
    let changed = target.is_some();
    if let Some(target) = target {
        request.path_end = target.find('?').unwrap_or(target.len());
        request.target = Bytes::from(target);
    }
    carriers.strip_fields(&mut request.fields) || changed
}

/// How a request may be answered if its signature is genuine and covers no more than its form shows:
/// for those who explain it and cannot judge it.
pub(super) fn presumed(access: Access, request: &Request) -> Authorized {
    if access == Access::Signed && is_signed_by_header(&request.signed()) {
        Authorized::OriginOnly
    } else {
        Authorized::Shared
    }
}

/// Whether `Authorization` signs the request, so that its headers and body are covered.
fn is_signed_by_header(signed: &SignedRequest<'_>) -> bool {
    carries_signature_header(signed.headers) && !carries_presignature(signed.query)
}
