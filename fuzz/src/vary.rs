//! `Vary`, and which requests share a response.

use std::sync::LazyLock;

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate::cache::policy::vary::{Selecting, Vary};
use tidegate::config::CacheRules;

use super::fields;

/// A name and a value that no request has by chance.
const MARK: &str = "x-tidegate-fuzz";

/// Read once: the built-in rules are made by reading an empty configuration.
static RULES: LazyLock<CacheRules> = LazyLock::new(CacheRules::default);

/// The lines are fields of a response; those of the request that it answers begin with `>`.
pub fn check(data: &[u8]) {
    let lines = || data.split(|byte| *byte == b'\n');
    let request = fields(lines().filter_map(|line| line.strip_prefix(b">")));
    let response = fields(lines().filter(|line| !line.starts_with(b">")));
    let Vary::Fields(names) = Vary::of(&response) else {
        return;
    };
    let ascending = (names.windows(2)).all(|pair| pair[0].as_str() < pair[1].as_str());
    assert!(!names.is_empty() && ascending);
    check_order(&response, &names);

    let selecting = Selecting::of(&request, &response, &RULES);
    assert!(selecting.names().eq(&names));
    assert!(
        selecting.matches(&request),
        "a response matches its own request"
    );
    let key = |request: &HeaderMap| {
        let mut key = Vec::new();
        selecting.append_key(request, &mut key);
        key
    };
    let empty = HeaderMap::new();
    assert!(key(&empty) != key(&request) || selecting.matches(&empty));

    let mut unrelated = request.clone();
    unrelated.append(MARK, HeaderValue::from_static("1"));
    if !names.iter().any(|name| name == MARK) {
        assert_eq!(key(&request), key(&unrelated));
        assert!(selecting.matches(&unrelated));
    }
    check_selection(&request, &names, &selecting, key);
}

/// The order of the lines means nothing.
fn check_order(response: &HeaderMap, names: &[HeaderName]) {
    let values: Vec<&HeaderValue> = response.get_all(VARY).iter().collect();
    let reversed = values.into_iter().rev().map(|value| (VARY, value.clone()));
    let mut other = HeaderMap::new();
    for (name, value) in reversed {
        other.append(name, value);
    }
    assert_eq!(Vary::of(&other), Vary::Fields(names.to_vec()));
}

/// Each selecting field selects: something more in it is another request.
fn check_selection(
    request: &HeaderMap,
    names: &[HeaderName],
    selecting: &Selecting,
    key: impl Fn(&HeaderMap) -> Vec<u8>,
) {
    for name in names {
        let normalised = *name == ACCEPT_ENCODING || *name == ACCEPT_LANGUAGE;
        let has_mark = |value: &HeaderValue| {
            let lower = value.as_bytes().to_ascii_lowercase();
            lower
                .windows(MARK.len())
                .any(|part| part == MARK.as_bytes())
        };
        // Twice the same preference is the same preference.
        if normalised && request.get_all(name).iter().any(has_mark) {
            continue;
        }
        let mut other = request.clone();
        other.append(name, HeaderValue::from_static(MARK));
        assert_ne!(key(request), key(&other), "{name}");
        // Who still prefers the language of the response may have it.
        if *name != ACCEPT_LANGUAGE {
            assert!(!selecting.matches(&other), "{name}");
        }
    }
}
