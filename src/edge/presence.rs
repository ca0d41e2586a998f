//! Which fields a request has, of those that the steps look for. Pure.
//!
//! A request from memory would otherwise look up two dozen names in its field map, nearly all of them
//! in vain, and hash each.

use http::HeaderMap;

/// Groups of fields of which a request has at least one.
///
/// `never-too-few`: it is told when the request is admitted, and fields are only removed after that;
/// so a group that is absent here is absent, while one that is present has to be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Presence(u8);

impl Presence {
    /// `Range`, `If-Range`.
    pub const RANGE: Presence = Presence(1);
    /// `If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since`.
    pub const CONDITIONS: Presence = Presence(1 << 1);
    /// `Cache-Control`, `Pragma`.
    pub const DIRECTIVES: Presence = Presence(1 << 2);
    /// `Content-Length`, `Transfer-Encoding`, `Expect`, `Upgrade`.
    pub const BODY: Presence = Presence(1 << 3);
    /// `Connection`.
    pub const CONNECTION: Presence = Presence(1 << 4);
    /// `User-Agent`, `Referer`.
    pub const LOGGED: Presence = Presence(1 << 5);

    /// Looks through `fields` once.
    pub fn of(fields: &HeaderMap) -> Self {
        let mut present = Presence::default();
        for name in fields.keys() {
            present.0 |= group(name.as_str()).0;
        }
        present
    }

    /// Whether a field of `group` may be there.
    pub fn has(self, group: Presence) -> bool {
        self.0 & group.0 != 0
    }
}

fn group(name: &str) -> Presence {
    match name {
        "range" | "if-range" => Presence::RANGE,
        "if-match" | "if-none-match" | "if-modified-since" | "if-unmodified-since" => {
            Presence::CONDITIONS
        }
        "cache-control" | "pragma" => Presence::DIRECTIVES,
        "content-length" | "transfer-encoding" | "expect" | "upgrade" => Presence::BODY,
        "connection" => Presence::CONNECTION,
        "user-agent" | "referer" => Presence::LOGGED,
        _ => Presence::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::{
        CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, IF_MATCH,
        IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, PRAGMA, RANGE, REFERER,
        TRANSFER_ENCODING, UPGRADE, USER_AGENT,
    };

    const GROUPS: [(Presence, &[HeaderName]); 6] = [
        (Presence::RANGE, &[RANGE, IF_RANGE]),
        (
            Presence::CONDITIONS,
            &[
                IF_MATCH,
                IF_NONE_MATCH,
                IF_MODIFIED_SINCE,
                IF_UNMODIFIED_SINCE,
            ],
        ),
        (Presence::DIRECTIVES, &[CACHE_CONTROL, PRAGMA]),
        (
            Presence::BODY,
            &[CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT, UPGRADE],
        ),
        (Presence::CONNECTION, &[CONNECTION]),
        (Presence::LOGGED, &[USER_AGENT, REFERER]),
    ];

    #[test]
    fn each_field_makes_its_group_present_and_no_other() {
        for (group, names) in GROUPS {
            for name in names {
                let mut fields = HeaderMap::new();
                fields.insert(HOST, HeaderValue::from_static("h"));
                assert_eq!(Presence::of(&fields), Presence::default());
                fields.insert(name, HeaderValue::from_static("v"));
                for (other, _) in GROUPS {
                    let found = Presence::of(&fields).has(other);
                    assert_eq!(found, other == group, "{name} {other:?}");
                }
            }
        }
    }
}
