//! What a final response is worth: its head as it is kept, and whether it is stored at all.

use http::StatusCode;
use http::header::{CONTENT_RANGE, HeaderMap};

use super::fetch::Framing;
use super::policy::cache_control::ResponseDirectives;
use super::policy::freshness::{Freshness, initial_age, lifetime};
use super::policy::storable::{NotStored, may_store};
use super::policy::vary::Selecting;
use super::policy::{conditional, fields};
use super::stored::Head;
use crate::clock::Moment;
use crate::config::CacheRules;

/// A final response to a GET, before its body.
pub(super) struct Received<'a> {
    /// The fields of the request that it answers, as the client sent them.
    pub(super) request: &'a HeaderMap,
    /// Status; 200 for a part that answers a range of our own.
    pub(super) status: StatusCode,
    /// All fields.
    pub(super) fields: HeaderMap,
    /// It is a part of a representation.
    pub(super) partial: bool,
    /// How its end is known.
    pub(super) framing: Framing,
    /// When the request was sent.
    pub(super) requested: Moment,
    /// When the head had arrived.
    pub(super) received: Moment,
    /// Differs from object to object.
    pub(super) noise: u64,
}

/// Decides what is kept of a response and whether it is stored.
pub(super) fn assess(received: Received<'_>, rules: &CacheRules) -> Head {
    let directives = ResponseDirectives::of(&received.fields);
    let lifetime = lifetime(
        received.status,
        &received.fields,
        &directives,
        received.received.wall,
        rules,
    )
    .jittered(rules.ttl_jitter_percent, received.noise);
    let freshness = Freshness::new(
        lifetime,
        initial_age(&received.fields, received.requested, received.received),
        received.received.monotonic,
        &directives,
        rules,
    );
    let not_stored = may_store(
        received.request,
        received.status,
        &received.fields,
        &directives,
        lifetime,
        rules,
    )
    .and_then(|()| can_be_verified(&received, rules))
    .err();
    let selecting = Selecting::of(received.request, &received.fields, rules);
    let mut kept = fields::stored(received.fields);
    fields::date(&mut kept, received.received.wall);
    if received.partial {
        kept.remove(CONTENT_RANGE);
    }
    let withheld = fields::withhold(&mut kept, &directives);
    let mut head = Head::new(received.status, kept, freshness, selecting);
    head.withheld = withheld;
    head.not_stored = not_stored;
    head
}

/// What concerns the body rather than what the origin wants.
fn can_be_verified(received: &Received<'_>, rules: &CacheRules) -> Result<(), NotStored> {
    if received.framing == Framing::UntilClose && received.status != StatusCode::NO_CONTENT {
        return Err(NotStored::UnverifiableEnd);
    }
    let strong = conditional::EntityTag::of(&received.fields).is_some_and(|tag| tag.is_strong());
    if received.partial && !strong {
        return Err(NotStored::PartialWithoutValidator);
    }
    if let (Framing::Length(length), Some(limit)) = (received.framing, rules.max_object_bytes)
        && length > limit
    {
        return Err(NotStored::TooLarge);
    }
    Ok(())
}

/// A stored head brought up to date by a 304, or by a 200 to a HEAD (RFC 9111 §4.3.4, §4.3.5).
pub(super) fn freshen(
    stored: &Head,
    mut validation: HeaderMap,
    requested: Moment,
    received: Moment,
    rules: &CacheRules,
) -> Head {
    // The age fields of the validation count, not those of the response that it validates.
    let age = validation.get(http::header::AGE).cloned();
    fields::date(&mut validation, received.wall);
    let mut fields = fields::freshen(&stored.fields, validation);
    let directives = ResponseDirectives::of(&fields);
    let lifetime = lifetime(stored.status, &fields, &directives, received.wall, rules);
    let mut timed = fields.clone();
    timed.extend(age.map(|age| (http::header::AGE, age)));
    let freshness = Freshness::new(
        lifetime,
        initial_age(&timed, requested, received),
        received.monotonic,
        &directives,
        rules,
    );
    fields::withhold(&mut fields, &directives);
    let mut head = Head::new(stored.status, fields, freshness, stored.selecting.clone());
    head.revision = stored.revision.saturating_add(1);
    head.set_untouched_up_to(stored.untouched_up_to());
    // What was shared may have become somebody's own.
    head.not_stored = forbidden(&directives);
    head
}

/// Why a response that was stored may be so no longer.
fn forbidden(directives: &ResponseDirectives) -> Option<NotStored> {
    if directives.private.is_response() {
        return Some(NotStored::Private);
    }
    (directives.no_store && !directives.must_understand).then_some(NotStored::NoStore)
}

/// Whether a 304 or a HEAD speaks of the stored representation: what validators it carries must be
/// the stored ones (RFC 9111 §4.3.4, §4.3.5).
pub(super) fn speaks_of(stored: &HeaderMap, validation: &HeaderMap) -> bool {
    use http::header::{ETAG, LAST_MODIFIED};
    match (validation.get(ETAG), stored.get(ETAG)) {
        (Some(new), Some(old)) => return conditional::weakly_equal(new.as_bytes(), old.as_bytes()),
        (Some(_), None) => return false,
        (None, _) => {}
    }
    match (validation.get(LAST_MODIFIED), stored.get(LAST_MODIFIED)) {
        (Some(new), Some(old)) => new == old,
        (Some(_), None) => false,
        (None, _) => true,
    }
}
