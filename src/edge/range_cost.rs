//! What a request's ranges cost the origin, and whether its client has the credit for it.
//!
//! Nothing of this happens for a hit. The credit itself is kept in [`super::range_credit`].

use super::deliver::Delivery;
use super::part::{Part, origin_ignored_range, wanted_range};
use super::range_credit::Reservation;
use super::{Node, Visit};
use crate::byte_range::RangeRequest;
use crate::observe::Outcome;

/// There is no credit left.
pub(super) struct OverBudget;

impl Node {
    /// Before the origin is asked for a range of something that nothing is known of.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(super) fn reserve_first(&self, visit: &Visit) -> Result<Option<Reservation>, OverBudget> {
        match wanted_range(&visit.request).first_fetch() {
            RangeRequest::Single(range) => {
                let (client, now) = (visit.request.peer.client, self.clock.monotonic());
                let reserved = self.range_credit.reserve_first(client, range, now);
                reserved.map(Some).ok_or(OverBudget)
            }
            RangeRequest::Whole | RangeRequest::Several(_) => Ok(None),
        }
    }

    /// Before `part` is sent: adds what is still to be fetched for it to what was reserved for the
    /// first fetch, now that the object is known.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(super) fn reserve_part(
        &self,
        visit: &Visit,
        delivery: &mut Delivery,
        part: &Part,
    ) -> Result<Option<Reservation>, OverBudget> {
        let mut reserved = delivery.reserved.take();
        if delivery.outcome == Outcome::Hit {
            return Ok(reserved);
        }
        let response = &delivery.response;
        let length = response.body.length();
        let spans = match part {
            Part::Span { span, .. } => std::slice::from_ref(span),
            Part::Several { spans, .. } => spans,
            Part::NotModified | Part::Whole => &[],
        };
        if origin_ignored_range(&visit.request, delivery) {
            let start = spans.iter().map(|span| span.start).max();
            if let Some(reserved) = &mut reserved {
                reserved.whole(start.unwrap_or(0), length);
            }
            return Ok(reserved);
        }
        if let (Some(reserved), Some(length)) = (&mut reserved, length) {
            reserved.limit(length);
        }
        if response.head.not_stored.is_some() || response.head.part_validator().is_none() {
            // What the fill under way does not bring is not fetched at all.
            return Ok(reserved);
        }
        if reserved.is_some() && spans.len() == 1 {
            // That is what the first fetch was for.
            return Ok(reserved);
        }
        let missing = spans
            .iter()
            .map(|span| self.cache.missing_bytes(response, span))
            .filter(|missing| *missing > 0);
        let (bytes, parts) = missing.fold((0_u64, 0), |(bytes, parts), missing| {
            (bytes.saturating_add(missing), parts + 1)
        });
        if bytes == 0 {
            return Ok(reserved);
        }
        let Some(first) = &mut reserved else {
            let (client, now) = (visit.request.peer.client, self.clock.monotonic());
            let taken = self.range_credit.reserve(client, bytes, parts, now);
            return taken.map(Some).ok_or(OverBudget);
        };
        if first.extend(bytes, parts) {
            Ok(reserved)
        } else {
            Err(OverBudget)
        }
    }
}
