//! `Range` and `Content-Range`, as the edge and the store read and write them.

use tidegate::byte_range::{
    ContentRange, RangeRequest, RangeSpec, ReceivedPart, SeveralRanges, parse, parse_content_range,
    resolve,
};

use super::{take_line, take_number};

/// Three lines: the length of a representation, a `Range`, a `Content-Range`.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let length = take_number(&mut rest);
    check_range(take_line(&mut rest), length);
    if let Some(part) = parse_content_range(rest) {
        assert!(part.span.start < part.span.end);
        assert!(
            part.complete
                .is_none_or(|complete| part.span.end <= complete)
        );
        let ReceivedPart { span, complete } = part.clone();
        let spelled = ContentRange::Part { span, complete }.to_string();
        assert_eq!(parse_content_range(spelled.as_bytes()), Some(part));
    }
    let unsatisfied = ContentRange::Unsatisfied { complete: length };
    assert_eq!(
        parse_content_range(unsatisfied.to_string().as_bytes()),
        None
    );
}

fn check_range(field: &[u8], length: u64) {
    let asked = parse(field);
    let spec = match asked {
        RangeRequest::Whole => return,
        RangeRequest::Single(spec) => spec,
        RangeRequest::Several(several) => return check_several(&several, length),
    };
    assert_eq!(
        parse(spell(spec).as_bytes()),
        RangeRequest::Single(spec),
        "a range survives its spelling"
    );
    if let Ok(span) = resolve(spec, length) {
        assert!(span.start < span.end && span.end <= length);
        let sent = ContentRange::part(span.clone(), length).to_string();
        let complete = Some(length);
        let read = parse_content_range(sent.as_bytes());
        assert_eq!(read, Some(ReceivedPart { span, complete }));
    }
}

/// No byte twice, none outside, and the first question to an origin speaks for all.
fn check_several(several: &SeveralRanges, length: u64) {
    let respelled = several.specs().iter().map(|spec| spell(*spec));
    let set: Vec<_> = respelled
        .map(|spec| spec["bytes=".len()..].to_owned())
        .collect();
    let again = parse(format!("bytes={}", set.join(",")).as_bytes());
    assert_eq!(again, RangeRequest::Several(several.clone()));
    let Ok(mut parts) = several.parts(length) else {
        assert!(resolve(several.probe(), length).is_err());
        return;
    };
    assert!(resolve(several.probe(), length).is_ok());
    parts.sort_by_key(|part| part.start);
    assert!(
        parts
            .iter()
            .all(|part| part.start < part.end && part.end <= length)
    );
    assert!(parts.windows(2).all(|pair| pair[0].end < pair[1].start));
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
