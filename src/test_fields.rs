//! Header fields of tests.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field lines of a message, in their order.
pub(crate) fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    fields
}
