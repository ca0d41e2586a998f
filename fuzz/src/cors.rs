//! Rules for pages of other sites.

use http::HeaderMap;
use http::header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, VARY};
use tidegate::origin::documents::CorsRules;
use tidegate::origin::xml::Document;

use super::take_text;

/// Three lines (an origin, a method, the fields that a preflight asks for), then the document.
///
/// Rules are written as they were read. A page is told its own origin or that all are welcome, and only in the first case
/// that it may send credentials.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let mut line = || take_text(&mut rest);
    let (Some(origin), Some(method), Some(asked)) = (line(), line(), line()) else {
        return;
    };
    let Ok(rules) = CorsRules::parse(rest) else {
        return;
    };
    let mut document = Document::new("CORSConfiguration", None);
    rules.write(&mut document);
    let written = document.finish();
    if written.len() <= tidegate::origin::documents::CORS_MAX_BYTES {
        assert_eq!(CorsRules::parse(&written).as_ref(), Ok(&rules));
    }
    let preflight = rules.answer(origin, method, Some(asked));
    let actual = rules.answer(origin, method, None);
    // What may be asked for with fields may be asked for without.
    assert!(preflight.is_none() || actual.is_some());
    for answer in preflight.into_iter().chain(actual) {
        let named = |own: &String| own == method;
        assert!(rules.iter().any(|rule| rule.methods.iter().any(named)));
        let mut headers = HeaderMap::new();
        answer.apply(&mut headers);
        let told = headers
            .get(ACCESS_CONTROL_ALLOW_ORIGIN)
            .expect("always told");
        let is_everyone = !headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        assert_eq!(
            told.as_bytes(),
            if is_everyone {
                &b"*"[..]
            } else {
                origin.as_bytes()
            }
        );
        assert!(headers.contains_key(VARY));
    }
}
