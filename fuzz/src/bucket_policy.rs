//! Policies of buckets.

use serde_json::Value;
use tidegate::origin::access::{Action, Context, POLICY_MAX_BYTES, Policy, Principal, Verdict};
use tidegate::origin::names::BucketName;

use super::take_text;

/// Three lines (an action, a user, a key), then the policy of the bucket `films`.
///
/// A policy says the same however its JSON is written, lets strangers do only what makes it public, and is silent about
/// the store itself.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let mut line = || take_text(&mut rest);
    let (Some(action), Some(user), Some(key)) = (line(), line(), line()) else {
        return;
    };
    let bucket = BucketName::new("films").expect("a sound name");
    let Ok(policy) = Policy::parse(rest, &bucket) else {
        return;
    };
    assert!(rest.len() <= POLICY_MAX_BYTES);
    let named = Action::ALL.iter().find(|known| known.name() == action);
    let action = named.copied().unwrap_or(Action::GetObject);
    let key = Some(key).filter(|key| !key.is_empty());
    let users = [Principal::Anonymous, Principal::Key(user.to_owned())];
    for principal in &users {
        let context = Context::default();
        let verdict = policy.verdict(principal, action, &bucket, key, &context);
        if *principal == Principal::Anonymous && verdict == Verdict::Allow {
            assert!(policy.is_public());
        }
        let store = policy.verdict(principal, Action::ListAllMyBuckets, &bucket, key, &context);
        assert_eq!(store, Verdict::Silent);

        let json: Value = serde_json::from_slice(rest).expect("it was read before");
        let Ok(again) = Policy::parse(json.to_string().as_bytes(), &bucket) else {
            // Written anew it may only have become too long.
            assert!(json.to_string().len() > POLICY_MAX_BYTES);
            continue;
        };
        let said = again.verdict(principal, action, &bucket, key, &context);
        assert_eq!(said, verdict);
        assert_eq!(again.is_public(), policy.is_public());
    }
}
