//! What a response brings the client for its next requests (RFC 9246 §3.3): a token in a cookie, or in the
//! query of the URL that it is sent on to.

use http::header::{CACHE_CONTROL, HeaderName, LOCATION, SET_COOKIE};
use http::{HeaderValue, StatusCode};

use super::Visit;

/// What becomes of the `Location` that a response has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TheirLocation {
    /// It goes out.
    Stays,
    /// One with a token stands in for it.
    IsReplaced,
}

impl Visit {
    /// Adds the client's next token to the `fields` of a response with this status: to what succeeds or leads
    /// on, and that is for this client alone from then on, whatever the origin says to other caches. `theirs` is
    /// the `Location` that goes out beside them.
    pub(super) fn add_renewed(
        &self,
        status: StatusCode,
        theirs: Option<&HeaderValue>,
        fields: &mut Vec<(HeaderName, HeaderValue)>,
    ) -> TheirLocation {
        let Some(token) = &self.renewed else {
            return TheirLocation::Stays;
        };
        let scheme = self.request.peer.scheme().as_str();
        let private = (CACHE_CONTROL, HeaderValue::from_static("private"));
        let leads_on = status.is_redirection();
        if (status.is_success() || leads_on)
            && let Some(cookie) = token.set_cookie(scheme)
        {
            fields.extend([(SET_COOKIE, cookie), private]);
            return TheirLocation::Stays;
        }
        let ours = fields.iter().find(|(name, _)| name == LOCATION);
        let location = ours.map(|(_, value)| value).or(theirs);
        let location = location.filter(|_| leads_on);
        let Some(location) = location.and_then(|location| token.location(location, scheme)) else {
            return TheirLocation::Stays;
        };
        fields.retain(|(name, _)| name != LOCATION);
        fields.extend([(LOCATION, location), private]);
        TheirLocation::IsReplaced
    }
}
