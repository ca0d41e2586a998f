//! Preconditions: whether a request applies to the object as it stands (RFC 9110 §13).

use std::time::SystemTime;

use http::HeaderMap;
use http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};

/// The validators of the object as it stands.
#[derive(Debug, Clone, Copy)]
pub struct Validators<'a> {
    /// The opaque tag without quotes. Ours are always strong.
    pub etag: &'a str,
    /// Last modification in whole seconds, the precision of an HTTP date.
    pub modified: SystemTime,
}

/// The verdict for a GET or HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadDecision {
    /// Answer as if there were no precondition.
    Proceed,
    /// 304.
    NotModified,
    /// 412, naming the field that failed.
    PreconditionFailed(Condition),
}

/// The verdict for a PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteDecision {
    /// Write.
    Proceed,
    /// 412, naming the field that failed.
    PreconditionFailed(Condition),
    /// `If-Match` on a key that has no object: S3 answers 404 `NoSuchKey`.
    NoSuchKey,
}

/// A conditional field, as S3's error names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// `If-Match`
    IfMatch,
    /// `If-None-Match`
    IfNoneMatch,
    /// `If-Unmodified-Since`
    IfUnmodifiedSince,
}

impl Condition {
    /// The field name.
    pub fn name(self) -> &'static str {
        match self {
            Condition::IfMatch => "If-Match",
            Condition::IfNoneMatch => "If-None-Match",
            Condition::IfUnmodifiedSince => "If-Unmodified-Since",
        }
    }
}

/// What a PUT demands of the object it replaces. Decided inside the commit transaction, so it is carried there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteCondition {
    /// `If-Match`: one of these tags is current.
    if_match: Option<Tags>,
    /// `If-None-Match`: none of these tags is current; `*`: there is no object.
    if_none_match: Option<Tags>,
}

/// A precondition that we do not evaluate on writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// S3 has no date conditions on a write; ignoring one could overwrite what the client meant to keep.
    #[error("dates are no condition of a write")]
    WriteDate,
    /// Neither `*` nor a list of entity tags.
    #[error("not a list of entity tags")]
    Malformed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    List(Vec<Tag>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    opaque: String,
    weak: bool,
}

/// Evaluates the preconditions of a GET or HEAD in the order of RFC 9110 §13.2.2.
///
/// A date that is not an HTTP date is ignored, as §13.1.3 and §13.1.4 demand.
///
/// # Errors
/// [`ConditionError::Malformed`] when an entity-tag list cannot be read.
pub fn decide_read(
    fields: &HeaderMap,
    object: Validators<'_>,
) -> Result<ReadDecision, ConditionError> {
    if let Some(tags) = tags(fields, &IF_MATCH)? {
        if !tags.matches_strongly(object.etag) {
            return Ok(ReadDecision::PreconditionFailed(Condition::IfMatch));
        }
    } else if let Some(date) = date(fields, &IF_UNMODIFIED_SINCE)
        && object.modified > date
    {
        return Ok(ReadDecision::PreconditionFailed(
            Condition::IfUnmodifiedSince,
        ));
    }
    if let Some(tags) = tags(fields, &IF_NONE_MATCH)? {
        if tags.matches_weakly(object.etag) {
            return Ok(ReadDecision::NotModified);
        }
    } else if let Some(date) = date(fields, &IF_MODIFIED_SINCE)
        && object.modified <= date
    {
        return Ok(ReadDecision::NotModified);
    }
    Ok(ReadDecision::Proceed)
}

/// Whether `If-Range` lets a `Range` field count (RFC 9110 §13.1.5). True without the field.
pub fn range_applies(fields: &HeaderMap, object: Validators<'_>) -> bool {
    let Some(value) = fields.get(IF_RANGE) else {
        return true;
    };
    let Ok(text) = value.to_str() else {
        return false;
    };
    // A date must match exactly, and a tag must be strong.
    match httpdate::parse_http_date(text) {
        Ok(date) => date == object.modified,
        Err(_) => parse_tag(text.trim()).is_some_and(|tag| !tag.weak && tag.opaque == object.etag),
    }
}

impl WriteCondition {
    /// Reads the preconditions of a PUT.
    ///
    /// # Errors
    /// A precondition that S3 does not define for writes, or one that cannot be read.
    pub fn from_fields(fields: &HeaderMap) -> Result<Self, ConditionError> {
        if fields.contains_key(IF_MODIFIED_SINCE) || fields.contains_key(IF_UNMODIFIED_SINCE) {
            return Err(ConditionError::WriteDate);
        }
        Ok(WriteCondition {
            if_match: tags(fields, &IF_MATCH)?,
            if_none_match: tags(fields, &IF_NONE_MATCH)?,
        })
    }

    /// Decides against the etag of the object as it stands, `None` when there is no object.
    pub fn decide(&self, current_etag: Option<&str>) -> WriteDecision {
        match (&self.if_match, current_etag) {
            (Some(_), None) => return WriteDecision::NoSuchKey,
            (Some(tags), Some(etag)) if !tags.matches_strongly(etag) => {
                return WriteDecision::PreconditionFailed(Condition::IfMatch);
            }
            (Some(_) | None, _) => {}
        }
        match (&self.if_none_match, current_etag) {
            (Some(tags), Some(etag)) if tags.matches_weakly(etag) => {
                WriteDecision::PreconditionFailed(Condition::IfNoneMatch)
            }
            _ => WriteDecision::Proceed,
        }
    }

    /// Whether there is anything to decide.
    pub fn is_unconditional(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }
}

impl Tags {
    fn matches_strongly(&self, etag: &str) -> bool {
        match self {
            Tags::Any => true,
            Tags::List(tags) => tags.iter().any(|tag| !tag.weak && tag.opaque == etag),
        }
    }

    fn matches_weakly(&self, etag: &str) -> bool {
        match self {
            Tags::Any => true,
            Tags::List(tags) => tags.iter().any(|tag| tag.opaque == etag),
        }
    }
}

/// All lines of a field as one list (RFC 9110 §5.3).
fn tags(fields: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, ConditionError> {
    let mut list = Vec::new();
    let mut present = false;
    for value in fields.get_all(name) {
        present = true;
        let text = value.to_str().map_err(|_| ConditionError::Malformed)?;
        if text.trim() == "*" {
            return Ok(Some(Tags::Any));
        }
        // Our tags hold no commas, so a tag that a comma tears apart could not have matched anyway.
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            list.push(parse_tag(item).ok_or(ConditionError::Malformed)?);
        }
    }
    Ok(present.then_some(Tags::List(list)))
}

/// An entity tag. S3 clients also send the bare hexadecimal form, and S3 takes it.
fn parse_tag(text: &str) -> Option<Tag> {
    let (weak, rest) = match text.strip_prefix("W/") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let quoted = rest
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let opaque = match quoted {
        Some(opaque) => opaque,
        None if weak || rest.contains('"') || rest.is_empty() => return None,
        None => rest,
    };
    Some(Tag {
        opaque: opaque.to_owned(),
        weak,
    })
}

fn date(fields: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(fields.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::test_fields::fields;

    const BEFORE: &str = "Thu, 01 Jan 1970 00:16:39 GMT";
    const EXACT: &str = "Thu, 01 Jan 1970 00:16:40 GMT";
    const AFTER: &str = "Thu, 01 Jan 1970 00:16:41 GMT";

    type Fields = &'static [(&'static str, &'static str)];

    fn object() -> Validators<'static> {
        Validators {
            etag: "abc",
            modified: UNIX_EPOCH + Duration::from_secs(1000),
        }
    }

    #[test]
    fn read_preconditions_follow_the_precedence_of_rfc_9110() {
        use ReadDecision::{NotModified, PreconditionFailed, Proceed};
        let match_failed = PreconditionFailed(Condition::IfMatch);
        let date_failed = PreconditionFailed(Condition::IfUnmodifiedSince);
        let cases: &[(Fields, ReadDecision)] = &[
            (&[], Proceed),
            (&[("if-match", "\"abc\"")], Proceed),
            (&[("if-match", "abc")], Proceed),
            (&[("if-match", "*")], Proceed),
            (&[("if-match", "\"x\", \"abc\"")], Proceed),
            (&[("if-match", "W/\"abc\"")], match_failed),
            (&[("if-match", "\"x\"")], match_failed),
            (&[("if-unmodified-since", BEFORE)], date_failed),
            (&[("if-unmodified-since", EXACT)], Proceed),
            (&[("if-unmodified-since", "yesterday")], Proceed),
            // If-Match wins over If-Unmodified-Since.
            (
                &[("if-match", "\"abc\""), ("if-unmodified-since", BEFORE)],
                Proceed,
            ),
            (&[("if-none-match", "\"abc\"")], NotModified),
            (&[("if-none-match", "W/\"abc\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"x\"")], Proceed),
            (&[("if-modified-since", BEFORE)], Proceed),
            (&[("if-modified-since", EXACT)], NotModified),
            (&[("if-modified-since", AFTER)], NotModified),
            // If-None-Match wins over If-Modified-Since.
            (
                &[("if-none-match", "\"x\""), ("if-modified-since", AFTER)],
                Proceed,
            ),
            (
                &[("if-match", "\"abc\""), ("if-none-match", "\"abc\"")],
                NotModified,
            ),
            (
                &[("if-match", "\"x\""), ("if-none-match", "\"abc\"")],
                match_failed,
            ),
        ];
        for (pairs, expected) in cases {
            assert_eq!(
                decide_read(&fields(pairs), object()),
                Ok(*expected),
                "{pairs:?}"
            );
        }
        assert_eq!(
            decide_read(&fields(&[("if-match", "\"torn")]), object()),
            Err(ConditionError::Malformed)
        );
    }

    #[test]
    fn if_range_takes_a_strong_tag_or_the_exact_date() {
        let cases: &[(&str, bool)] = &[
            ("\"abc\"", true),
            ("W/\"abc\"", false),
            ("\"x\"", false),
            (EXACT, true),
            (BEFORE, false),
            (AFTER, false),
        ];
        for (value, expected) in cases {
            let fields = fields(&[("if-range", value)]);
            assert_eq!(range_applies(&fields, object()), *expected, "{value}");
        }
        assert!(range_applies(&HeaderMap::new(), object()));
    }

    #[test]
    fn write_preconditions_know_absence_and_the_current_tag() {
        use WriteDecision::{NoSuchKey, PreconditionFailed, Proceed};
        let cases: &[(Fields, Option<&str>, WriteDecision)] = &[
            (&[], None, Proceed),
            (&[], Some("abc"), Proceed),
            (&[("if-none-match", "*")], None, Proceed),
            (
                &[("if-none-match", "*")],
                Some("abc"),
                PreconditionFailed(Condition::IfNoneMatch),
            ),
            (&[("if-match", "\"abc\"")], Some("abc"), Proceed),
            (
                &[("if-match", "\"abc\"")],
                Some("x"),
                PreconditionFailed(Condition::IfMatch),
            ),
            (&[("if-match", "\"abc\"")], None, NoSuchKey),
            (&[("if-match", "*")], Some("x"), Proceed),
            // S3 itself takes no more than *.
            (
                &[("if-none-match", "\"a\", W/\"x\"")],
                Some("x"),
                PreconditionFailed(Condition::IfNoneMatch),
            ),
            (&[("if-none-match", "\"a\"")], Some("x"), Proceed),
            (&[("if-none-match", "\"a\"")], None, Proceed),
        ];
        for (pairs, current, expected) in cases {
            let condition = WriteCondition::from_fields(&fields(pairs)).unwrap();
            assert_eq!(
                condition.decide(*current),
                *expected,
                "{pairs:?} on {current:?}"
            );
            assert_eq!(condition.is_unconditional(), pairs.is_empty());
        }
        let date = WriteCondition::from_fields(&fields(&[("if-unmodified-since", AFTER)]));
        assert_eq!(date, Err(ConditionError::WriteDate));
    }
}
