//! `Range` and `Content-Range`, as the edge and as the store read them.

use tidegate::cache::policy::range::{
    ContentRange, RangeRequest, RangeSpec, parse, parse_content_range, resolve,
};
use tidegate::origin::range::{RangeDecision, content_range, decide, unsatisfied_range};

use super::{take_line, take_number};

/// Three lines: the length of a representation, a `Range`, a `Content-Range`.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let length = take_number(&mut rest);
    check_range(take_line(&mut rest), length);
    if let Some(ContentRange { span, complete }) = parse_content_range(rest) {
        assert!(span.start < span.end);
        let text = match complete {
            Some(complete) => {
                assert!(span.end <= complete);
                content_range(&span, complete)
            }
            None => format!("bytes {}-{}/*", span.start, span.end - 1),
        };
        let again = parse_content_range(text.as_bytes());
        assert_eq!(again, Some(ContentRange { span, complete }));
    }
    assert_eq!(
        parse_content_range(unsatisfied_range(length).as_bytes()),
        None
    );
}

fn check_range(field: &[u8], length: u64) {
    let asked = parse(field);
    let mut resolved = None;
    if let RangeRequest::Single(spec) = asked {
        assert_eq!(
            parse(spell(spec).as_bytes()),
            asked,
            "a range survives its spelling"
        );
        resolved = Some(resolve(spec, length));
    }
    if let Some(Ok(span)) = &resolved {
        assert!(span.start < span.end && span.end <= length);
        let sent = parse_content_range(content_range(span, length).as_bytes());
        let span = span.clone();
        // A body of 2^64-1 bytes is the longest whose last position can be told.
        assert_eq!(
            sent,
            Some(ContentRange {
                span,
                complete: Some(length)
            })
        );
    }
    // The store may answer 200 where the edge would answer 206, but never with other bytes.
    let field = std::str::from_utf8(field).ok();
    match decide(field, length) {
        RangeDecision::Whole => {}
        RangeDecision::Part(span) => assert_eq!(resolved, Some(Ok(span))),
        RangeDecision::Unsatisfiable => assert!(matches!(resolved, Some(Err(_)))),
    }
}

fn spell(spec: RangeSpec) -> String {
    match spec {
        RangeSpec::From { first, last: None } => format!("bytes={first}-"),
        RangeSpec::From {
            first,
            last: Some(last),
        } => format!("bytes={first}-{last}"),
        RangeSpec::Suffix { length } => format!("bytes=-{length}"),
    }
}
