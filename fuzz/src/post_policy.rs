//! Policies of form uploads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidegate::origin::post_policy::PostPolicy;

use super::{now, take_text};

/// Lines `name=value` up to an empty one, then the policy's document.
///
/// What a policy lets through, it lets through in any order of the fields, and no field comes unasked.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let mut fields = Vec::new();
    loop {
        let Some(line) = take_text(&mut rest) else {
            return;
        };
        let Some((name, value)) = line.split_once('=') else {
            break;
        };
        let name = name.to_ascii_lowercase();
        if fields.iter().all(|(known, _)| *known != name) {
            fields.push((name, value.to_owned()));
        }
    }
    let Ok(policy) = PostPolicy::parse(&STANDARD.encode(rest)) else {
        return;
    };
    let outcome = policy.check(&fields, "films", now());
    fields.reverse();
    assert_eq!(
        policy.check(&fields, "films", now()).is_ok(),
        outcome.is_ok()
    );
    if outcome.is_ok() {
        fields.push(("x-amz-tidegate-fuzz".to_owned(), String::new()));
        let text = String::from_utf8_lossy(rest).to_ascii_lowercase();
        let is_asked_for = text.contains("fuzz") || text.contains('\\');
        assert!(is_asked_for || policy.check(&fields, "films", now()).is_err());
    }
}
