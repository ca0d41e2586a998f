//! Fields that a route changes on their way, to clients or to the origin. Pure.
//!
//! Nothing of it is stored: a stored response is what the origin sent, so a change of the configuration counts
//! for hits at once, and variants are told apart by what clients and origin say.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use super::cors::{self, CorsPolicy};
use crate::config::{self, HeaderEdits};
use crate::edge::request::Request;

/// What a route changes in responses.
#[derive(Debug)]
pub(super) struct ResponseRules {
    pub(super) cors: Option<CorsPolicy>,
    edits: HeaderEdits,
    /// Fields of the origin's that do not go out, or are replaced.
    withheld: Vec<HeaderName>,
}

impl ResponseRules {
    pub(super) fn new(route: &config::Route) -> Self {
        let edits = route.response_headers.clone();
        let mut withheld = edits.remove.clone();
        withheld.extend(edits.set.iter().map(|(name, _)| name.clone()));
        if route.cors.is_some() {
            withheld.extend(cors::OWNED);
        }
        ResponseRules {
            cors: route.cors.as_ref().map(CorsPolicy::new),
            edits,
            withheld,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cors.is_none() && self.edits.is_empty()
    }

    /// Fields of the origin's that do not go out.
    pub(super) fn withheld(&self) -> &[HeaderName] {
        &self.withheld
    }

    /// Adds what goes out besides.
    pub(super) fn add_to(&self, request: &Request, fields: &mut Vec<(HeaderName, HeaderValue)>) {
        if let Some(cors) = &self.cors {
            cors.add_to(request.asking_origin(), fields);
        }
        let edits = self.edits.set.iter().chain(&self.edits.add);
        fields.extend(edits.cloned());
    }

    /// Adds to the fields of a response of the edge's own making, which keep their values: a document that
    /// says what is wrong stays one that no cache may keep.
    pub(super) fn add_to_own(&self, request: &Request, own: &mut Vec<(HeaderName, HeaderValue)>) {
        let mut fields = Vec::new();
        self.add_to(request, &mut fields);
        fields.retain(|(name, _)| own.iter().all(|(known, _)| known != name));
        own.extend(fields);
    }
}

/// Changes fields in place.
pub(super) fn edit(edits: &HeaderEdits, fields: &mut HeaderMap) {
    for name in &edits.remove {
        fields.remove(name);
    }
    for (name, value) in &edits.set {
        fields.insert(name, value.clone());
    }
    for (name, value) in &edits.add {
        fields.append(name, value.clone());
    }
}

/// What an answer to a preflight consists of.
pub(in crate::edge) struct Preflight {
    pub(in crate::edge) status: StatusCode,
    pub(in crate::edge) fields: Vec<(HeaderName, HeaderValue)>,
}

impl ResponseRules {
    /// The answer to `request` if it is a preflight that the edge answers.
    ///
    /// # Errors
    /// [`super::PolicyRefusal`] when the answer is no.
    pub(super) fn preflight(
        &self,
        request: &Request,
    ) -> Result<Option<Preflight>, super::PolicyRefusal> {
        let Some(cors) = &self.cors else {
            return Ok(None);
        };
        if request.method != Method::OPTIONS
            || !cors::is_preflight(&request.method, &request.fields)
        {
            return Ok(None);
        }
        let fields = cors.preflight(&request.fields)?;
        Ok(Some(Preflight {
            status: StatusCode::NO_CONTENT,
            fields,
        }))
    }
}
