//! The fields that speak to caches like this one in place of `Cache-Control`.

use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate::cache::policy::cache_control::{MAX_DELTA_SECONDS, ResponseDirectives, Scope};
use tidegate::cache::policy::targeted::{
    CDN_CACHE_CONTROL, SURROGATE_CONTROL, TIDEGATE_CACHE_CONTROL, directives,
};

use super::fields;

/// The lines are fields of a response.
pub fn check(data: &[u8]) {
    let response = fields(data.split(|byte| *byte == b'\n'));
    check_ruined(&response);
    let Some(found) = directives(&response) else {
        return;
    };
    assert!(found.targeted);
    let spelled = spell(&found);
    let read = directives(&one(&TIDEGATE_CACHE_CONTROL, &spelled));
    assert_eq!(read.as_ref(), Some(&found), "{spelled}");
    // Two parsers, one language: what a dictionary says so plainly, Cache-Control says as well.
    let read = ResponseDirectives::of(&one(&HeaderName::from_static("cache-control"), &spelled));
    let untargeted = ResponseDirectives {
        targeted: false,
        ..found
    };
    assert_eq!(read, untargeted, "{spelled}");
}

/// A structured field with something in it that is no dictionary, or with a known directive of the wrong type,
/// counts for nothing at all (RFC 9213 §2.1). The last of several members with one name counts.
fn check_ruined(response: &HeaderMap) {
    let mut surrogate = HeaderMap::new();
    for value in response.get_all(SURROGATE_CONTROL) {
        surrogate.append(SURROGATE_CONTROL, value.clone());
    }
    let expected = directives(&surrogate);
    for ruin in [
        "&",
        "max-age=x",
        "s-maxage=1.5",
        "stale-if-error",
        "no-store=1",
        "private=(a)",
    ] {
        let mut ruined = response.clone();
        for name in [TIDEGATE_CACHE_CONTROL, CDN_CACHE_CONTROL] {
            ruined.append(name, HeaderValue::from_static(ruin));
        }
        assert_eq!(directives(&ruined), expected, "{ruin}");
    }
}

fn one(name: &HeaderName, value: &str) -> HeaderMap {
    let value = HeaderValue::from_str(value).expect("it is visible text");
    HeaderMap::from_iter([(name.clone(), value)])
}

/// The directives as a dictionary, with a member that nobody knows, so that it is never empty.
fn spell(directives: &ResponseDirectives) -> String {
    let mut members = vec!["x-unknown".to_owned()];
    for (name, seconds) in [
        ("max-age", directives.max_age),
        ("s-maxage", directives.s_maxage),
        ("stale-while-revalidate", directives.stale_while_revalidate),
        ("stale-if-error", directives.stale_if_error),
    ] {
        if let Some(seconds) = seconds {
            assert!(seconds <= MAX_DELTA_SECONDS);
            members.push(format!("{name}={seconds}"));
        }
    }
    for (name, scope) in [
        ("no-cache", &directives.no_cache),
        ("private", &directives.private),
    ] {
        match scope {
            Scope::Nothing => {}
            Scope::Response => members.push(name.to_owned()),
            Scope::Fields(names) => {
                let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
                members.push(format!("{name}=\"{}\"", names.join(", ")));
            }
        }
    }
    for (name, there) in [
        ("no-store", directives.no_store),
        ("public", directives.public),
        ("must-revalidate", directives.must_revalidate),
        ("proxy-revalidate", directives.proxy_revalidate),
        ("must-understand", directives.must_understand),
    ] {
        if there {
            members.push(name.to_owned());
        }
    }
    members.join(", ")
}
