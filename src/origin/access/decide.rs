//! Whether a request may be done.

use super::acl::Acl;
use super::action::{Action, Scope};
use super::context::Context;
use super::policy::{Policy, Verdict};
use crate::config::{Rights, RightsLevel};
use crate::origin::documents::PublicAccessBlock;
use crate::origin::names::{BucketName, ObjectKey};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Nobody who says who they are.
    Anonymous,
    /// Who has the secret of this access key id.
    Key(String),
}

/// What is asked. An operation that needs several actions asks for each.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// For what.
    pub action: Action,
    /// On which bucket; `None` for an action on the store.
    pub bucket: Option<&'a BucketName>,
    /// On which object.
    pub key: Option<&'a ObjectKey>,
    /// What else the request says.
    pub context: &'a Context,
}

/// The rules of a bucket. The default is that of a new one: its keys only.
#[derive(Debug, Clone, Copy, Default)]
pub struct BucketRules<'a> {
    /// The access key id that it was made with; `None` for one that is yet to be made.
    pub owner: Option<&'a str>,
    /// The bucket's policy.
    pub policy: Option<&'a Policy>,
    /// The bucket's list; `None` is `private`, and what stands here when ownership controls have turned lists off.
    pub bucket_acl: Option<&'a Acl>,
    /// The list of the object that is asked for, likewise.
    pub object_acl: Option<&'a Acl>,
    /// The access key id that the object belongs to.
    pub object_owner: Option<&'a str>,
    /// What the bucket keeps from the public.
    pub public_access_block: PublicAccessBlock,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may be done.
    Allow,
    /// It may not: 403 `AccessDenied`.
    Deny(DenyReason),
}

/// Why not. The log is told; the client is told no more than `AccessDenied`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DenyReason {
    /// A statement of the policy denies it.
    #[error("statement {statement} ({}) of the policy denies it", .sid.as_deref().unwrap_or("without Sid"))]
    Policy {
        /// Which one, counted from 0.
        statement: usize,
        /// Its `Sid`.
        sid: Option<String>,
    },
    /// Nobody without a key may, and nothing allows it to everybody.
    #[error("nothing allows it without a key")]
    Anonymous,
    /// It is never allowed without a key.
    #[error("it is never allowed without a key")]
    NeverAnonymous,
    /// Something allows it to everybody, but the bucket keeps the public out.
    #[error("the public access block of the bucket stands against it")]
    PublicAccessBlocked,
    /// The credential is for other buckets.
    #[error("the key is for other buckets")]
    OtherBuckets,
    /// The credential is for less.
    #[error("the key has {has} rights and this needs {needs}")]
    Rights {
        /// What it has.
        has: RightsLevel,
        /// What the action needs.
        needs: RightsLevel,
    },
    /// The credential is known to the signature check and has no rights: a bug, or a race with a new
    /// configuration.
    #[error("the key has no rights")]
    UnknownKey,
}

impl DenyReason {
    /// The word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            DenyReason::Policy { .. } => "policy",
            DenyReason::Anonymous => "anonymous",
            DenyReason::NeverAnonymous => "never_anonymous",
            DenyReason::PublicAccessBlocked => "public_access_block",
            DenyReason::OtherBuckets => "other_buckets",
            DenyReason::Rights { .. } => "rights",
            DenyReason::UnknownKey => "unknown_key",
        }
    }
}

/// Decides. `rights` are those of the key, from the configuration; nobody has none.
///
/// In this order: a denial of the policy; what the key may do by itself; what the policy allows; what the lists grant,
/// the object's to its owner included.
pub fn decide(request: &Request<'_>, rights: Option<&Rights>, rules: &BucketRules<'_>) -> Decision {
    let action = request.action;
    let by_itself = match request.principal {
        Principal::Anonymous if is_for_owners(action) => Err(DenyReason::NeverAnonymous),
        Principal::Anonymous => Err(DenyReason::Anonymous),
        Principal::Key(_) => allowed_by_itself(request, rights, rules.owner),
    };
    let verdict = match (rules.policy, request.bucket) {
        (Some(policy), Some(bucket)) => {
            let key = request.key.map(ObjectKey::as_str);
            policy.verdict(request.principal, action, bucket, key, request.context)
        }
        _ => Verdict::Silent,
    };
    if let Verdict::Deny { statement, sid } = verdict {
        // `rules-stay-reachable`
        let is_owner = by_itself.is_ok() && rights.is_some_and(|r| r.level == RightsLevel::Full);
        let is_about_policy = matches!(
            action,
            Action::GetBucketPolicy | Action::PutBucketPolicy | Action::DeleteBucketPolicy
        );
        if !(is_owner && is_about_policy) {
            return Decision::Deny(DenyReason::Policy {
                statement,
                sid: sid.map(str::to_owned),
            });
        }
    }
    let reason = match by_itself {
        Ok(()) => return Decision::Allow,
        // `strangers-change-no-rules`
        Err(DenyReason::NeverAnonymous) => return Decision::Deny(DenyReason::NeverAnonymous),
        Err(reason) => reason,
    };
    let block = rules.public_access_block;
    let mut is_blocked = false;
    if verdict == Verdict::Allow {
        let is_restricted = block.restrict_public_buckets
            && *request.principal == Principal::Anonymous
            && rules.policy.is_some_and(Policy::is_public);
        if !is_restricted {
            return Decision::Allow;
        }
        is_blocked = true;
    }
    let lists = [
        (Scope::Bucket, rules.bucket_acl),
        (Scope::Object, rules.object_acl),
    ];
    for (scope, acl) in lists {
        let Some(acl) = acl else { continue };
        if acl.grants(scope, request.principal, action, false) {
            if !block.ignore_public_acls || acl.grants(scope, request.principal, action, true) {
                return Decision::Allow;
            }
            is_blocked = true;
        }
    }
    if is_left_to_owner(request, rights, rules) {
        return Decision::Allow;
    }
    Decision::Deny(if is_blocked {
        DenyReason::PublicAccessBlocked
    } else {
        reason
    })
}

fn is_for_owners(action: Action) -> bool {
    action.needs() == RightsLevel::Full || action.scope() == Scope::Service
}

/// Whether the object is the key's, its list leaves this to its owner, and its rights would do in a bucket of its own. So
/// only a key that is an account of its own, with its own buckets, has something of what it wrote into those of others;
/// what other keys may do is what their rights say, and it ends when those do.
fn is_left_to_owner(
    request: &Request<'_>,
    rights: Option<&Rights>,
    rules: &BucketRules<'_>,
) -> bool {
    let (Principal::Key(id), Some(rights), Some(bucket), Some(acl)) =
        (request.principal, rights, request.bucket, rules.object_acl)
    else {
        return false;
    };
    rules.object_owner == Some(id)
        && rights.covers(bucket.as_str(), true)
        && rights.level >= request.action.needs()
        && acl.leaves_to_owner(request.action)
}

fn allowed_by_itself(
    request: &Request<'_>,
    rights: Option<&Rights>,
    owner: Option<&str>,
) -> Result<(), DenyReason> {
    let is_own = match request.principal {
        Principal::Key(id) => owner.is_none_or(|owner| owner == id),
        Principal::Anonymous => false,
    };
    let rights = rights.ok_or(DenyReason::UnknownKey)?;
    let needs = request.action.needs();
    if (request.bucket).is_some_and(|bucket| !rights.covers(bucket.as_str(), is_own)) {
        Err(DenyReason::OtherBuckets)
    } else if rights.level < needs {
        Err(DenyReason::Rights {
            has: rights.level,
            needs,
        })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BucketPattern;
    use crate::origin::access::Canned;

    const OPEN: &str = r#"{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::films/*"}"#;
    const SHUT: &str = r#"{"Sid":"shut","Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::films","arn:aws:s3:::films/*"]}"#;
    const WIDE: &str = r#"{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::films","arn:aws:s3:::films/*"]}"#;

    fn bucket() -> BucketName {
        BucketName::new("films").unwrap()
    }

    fn policy(statement: &str) -> Policy {
        let json = format!("{{\"Statement\":{statement}}}");
        Policy::parse(json.as_bytes(), &bucket()).unwrap()
    }

    fn rights(level: RightsLevel, buckets: Option<&str>) -> Rights {
        let buckets = buckets.map(|text| vec![BucketPattern::new(text).unwrap()]);
        Rights {
            level,
            buckets,
            own_only: false,
        }
    }

    fn ask(
        principal: &Principal,
        action: Action,
        rights: Option<&Rights>,
        rules: &BucketRules<'_>,
    ) -> Decision {
        let key = ObjectKey::new("a").unwrap();
        let bucket = bucket();
        let request = Request {
            principal,
            action,
            bucket: (action.scope() != Scope::Service).then_some(&bucket),
            key: (action.scope() == Scope::Object).then_some(&key),
            context: &Context::default(),
        };
        decide(&request, rights, rules)
    }

    fn ann() -> Principal {
        Principal::Key("ann".to_owned())
    }

    #[test]
    fn a_key_does_by_itself_what_its_rights_reach() {
        use RightsLevel::{Full, ReadOnly, ReadWrite};
        let too_low = |has, needs| Decision::Deny(DenyReason::Rights { has, needs });
        for (action, read_only, read_write) in [
            (Action::ListAllMyBuckets, Decision::Allow, Decision::Allow),
            (Action::GetObject, Decision::Allow, Decision::Allow),
            (Action::ListBucket, Decision::Allow, Decision::Allow),
            (Action::GetBucketCors, Decision::Allow, Decision::Allow),
            (
                Action::PutObject,
                too_low(ReadOnly, ReadWrite),
                Decision::Allow,
            ),
            (
                Action::DeleteObjectVersion,
                too_low(ReadOnly, ReadWrite),
                Decision::Allow,
            ),
            (
                Action::CreateBucket,
                too_low(ReadOnly, Full),
                too_low(ReadWrite, Full),
            ),
            (
                Action::PutBucketPolicy,
                too_low(ReadOnly, Full),
                too_low(ReadWrite, Full),
            ),
            (
                Action::PutObjectAcl,
                too_low(ReadOnly, Full),
                too_low(ReadWrite, Full),
            ),
        ] {
            let rules = BucketRules::default();
            let asked = |level| ask(&ann(), action, Some(&rights(level, None)), &rules);
            assert_eq!(asked(ReadOnly), read_only, "{action:?}");
            assert_eq!(asked(ReadWrite), read_write, "{action:?}");
            assert_eq!(asked(Full), Decision::Allow, "{action:?}");
            let none = ask(&ann(), action, None, &rules);
            assert_eq!(none, Decision::Deny(DenyReason::UnknownKey));
        }
    }

    #[test]
    fn a_key_for_other_buckets_needs_the_policy_or_a_list() {
        let rules = BucketRules::default();
        for (pattern, expected) in [
            ("films", Decision::Allow),
            ("fil*", Decision::Allow),
            ("film", Decision::Deny(DenyReason::OtherBuckets)),
            ("logs-*", Decision::Deny(DenyReason::OtherBuckets)),
        ] {
            let rights = rights(RightsLevel::Full, Some(pattern));
            let asked = ask(&ann(), Action::GetObject, Some(&rights), &rules);
            assert_eq!(asked, expected, "{pattern}");
        }
        let rights = rights(RightsLevel::Full, Some("logs"));
        let (open, list) = (policy(OPEN), Canned::AuthenticatedRead.acl("", ""));
        let by_policy = BucketRules {
            policy: Some(&open),
            ..BucketRules::default()
        };
        let by_list = BucketRules {
            object_acl: Some(&list),
            ..BucketRules::default()
        };
        for rules in [by_policy, by_list] {
            let asked = |action| ask(&ann(), action, Some(&rights), &rules);
            assert_eq!(asked(Action::GetObject), Decision::Allow);
            let refused = Decision::Deny(DenyReason::OtherBuckets);
            assert_eq!(asked(Action::PutObject), refused);
        }
    }

    #[test]
    fn a_key_for_its_own_buckets_has_those_that_it_made_and_may_make_more() {
        let own = Rights {
            own_only: true,
            ..Rights::default()
        };
        let refused = Decision::Deny(DenyReason::OtherBuckets);
        for (owner, expected) in [
            (None, Decision::Allow),
            (Some("ann"), Decision::Allow),
            (Some("bob"), refused.clone()),
            (Some(""), refused),
        ] {
            let rules = BucketRules {
                owner,
                ..BucketRules::default()
            };
            for action in [
                Action::CreateBucket,
                Action::GetObject,
                Action::DeleteBucket,
            ] {
                assert_eq!(
                    ask(&ann(), action, Some(&own), &rules),
                    expected,
                    "{owner:?}"
                );
            }
            let anybodys = ask(&ann(), Action::GetObject, Some(&Rights::default()), &rules);
            assert_eq!(anybodys, Decision::Allow);
        }
    }

    #[test]
    fn what_an_account_wrote_into_a_bucket_of_others_is_left_to_it_within_its_rights() {
        use RightsLevel::{Full, ReadOnly};
        let account = |level, buckets| Rights {
            own_only: true,
            ..rights(level, buckets)
        };
        let (private, shut) = (Canned::Private.acl("ann", "bob"), policy(SHUT));
        let mine = BucketRules {
            owner: Some("bob"),
            object_acl: Some(&private),
            object_owner: Some("ann"),
            ..BucketRules::default()
        };
        let (read, list, write) = (Action::GetObject, Action::PutObjectAcl, Action::PutObject);
        for (rights, action, rules, expected) in [
            (account(Full, None), read, mine, true),
            (account(Full, None), list, mine, true),
            (account(Full, None), write, mine, false),
            (account(ReadOnly, None), read, mine, true),
            (account(ReadOnly, None), list, mine, false),
            (account(Full, Some("films")), read, mine, true),
            (account(Full, Some("logs")), read, mine, false),
            (rights(Full, Some("logs")), read, mine, false),
            (
                account(Full, None),
                read,
                BucketRules {
                    object_owner: Some("bob"),
                    ..mine
                },
                false,
            ),
            // Where lists are off, there are none.
            (
                account(Full, None),
                read,
                BucketRules {
                    object_acl: None,
                    ..mine
                },
                false,
            ),
            (
                account(Full, None),
                read,
                BucketRules {
                    policy: Some(&shut),
                    ..mine
                },
                false,
            ),
        ] {
            let decision = ask(&ann(), action, Some(&rights), &rules);
            let is_allowed = decision == Decision::Allow;
            assert_eq!(is_allowed, expected, "{action:?} {rights:?}");
        }
        let decision = ask(&Principal::Anonymous, read, None, &mine);
        assert_eq!(decision, Decision::Deny(DenyReason::Anonymous));
    }

    #[test]
    fn denial_wins_but_rules_stay_reachable() {
        let (shut, public) = (policy(SHUT), Canned::PublicReadWrite.acl("", ""));
        let rules = BucketRules {
            policy: Some(&shut),
            bucket_acl: Some(&public),
            object_acl: Some(&public),
            ..BucketRules::default()
        };
        let denied = Decision::Deny(DenyReason::Policy {
            statement: 0,
            sid: Some("shut".to_owned()),
        });
        let full = rights(RightsLevel::Full, None);
        let low = rights(RightsLevel::ReadOnly, None);
        let other = rights(RightsLevel::Full, Some("logs"));
        for action in [Action::GetObject, Action::ListBucket, Action::PutBucketCors] {
            assert_eq!(
                ask(&ann(), action, Some(&full), &rules),
                denied,
                "{action:?}"
            );
            assert_eq!(ask(&Principal::Anonymous, action, None, &rules), denied);
        }
        for action in [
            Action::GetBucketPolicy,
            Action::PutBucketPolicy,
            Action::DeleteBucketPolicy,
        ] {
            let asked = |rights| ask(&ann(), action, Some(rights), &rules);
            assert_eq!(asked(&full), Decision::Allow, "{action:?}");
            assert_eq!(asked(&low), denied, "{action:?}");
            assert_eq!(asked(&other), denied, "{action:?}");
        }
        // A policy says nothing about the store.
        let asked = ask(&ann(), Action::ListAllMyBuckets, Some(&low), &rules);
        assert_eq!(asked, Decision::Allow);
    }

    #[test]
    fn strangers_need_a_policy_or_a_list_and_change_no_rules() {
        let nobody = Principal::Anonymous;
        let rules = BucketRules::default();
        let asked = ask(&nobody, Action::GetObject, None, &rules);
        assert_eq!(asked, Decision::Deny(DenyReason::Anonymous));

        let wide = policy(WIDE);
        let rules = BucketRules {
            policy: Some(&wide),
            ..BucketRules::default()
        };
        for action in Action::ALL {
            let expected = if is_for_owners(*action) {
                Decision::Deny(DenyReason::NeverAnonymous)
            } else {
                Decision::Allow
            };
            assert_eq!(ask(&nobody, *action, None, &rules), expected, "{action:?}");
        }
    }

    #[test]
    fn the_public_access_block_shuts_out_strangers_and_nobody_else() {
        let blocked = Decision::Deny(DenyReason::PublicAccessBlocked);
        let nobody = Principal::Anonymous;
        let other = rights(RightsLevel::Full, Some("logs"));
        let open = policy(OPEN);
        let conditional = policy(&OPEN.replace(
            r#""Action""#,
            r#""Condition":{"NotIpAddress":{"aws:SourceIp":"192.0.2.1"},"IpAddressIfExists":{"aws:SourceIp":"0.0.0.0/0"},"StringNotEquals":{"aws:username":"x"}},"Action""#,
        ));
        assert!(conditional.is_public());
        let restrict = PublicAccessBlock {
            restrict_public_buckets: true,
            ..PublicAccessBlock::default()
        };
        for (public_access_block, strangers) in [
            (PublicAccessBlock::default(), Decision::Allow),
            (restrict, blocked.clone()),
        ] {
            for policy in [&open, &conditional] {
                let rules = BucketRules {
                    policy: Some(policy),
                    public_access_block,
                    ..BucketRules::default()
                };
                assert_eq!(ask(&nobody, Action::GetObject, None, &rules), strangers);
                let asked = ask(&ann(), Action::GetObject, Some(&other), &rules);
                assert_eq!(asked, Decision::Allow);
            }
        }
    }

    #[test]
    fn public_lists_count_for_nothing_while_they_are_ignored() {
        let blocked = Decision::Deny(DenyReason::PublicAccessBlocked);
        let nobody = Principal::Anonymous;
        let list = Canned::PublicRead.acl("", "");
        let ignore = PublicAccessBlock {
            ignore_public_acls: true,
            ..PublicAccessBlock::default()
        };
        for (public_access_block, expected) in [
            (PublicAccessBlock::default(), Decision::Allow),
            (ignore, blocked),
        ] {
            let rules = BucketRules {
                object_acl: Some(&list),
                public_access_block,
                ..BucketRules::default()
            };
            assert_eq!(ask(&nobody, Action::GetObject, None, &rules), expected);
        }
    }

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let level = RightsLevel::Full;
        let reasons = [
            DenyReason::Policy {
                statement: 0,
                sid: None,
            },
            DenyReason::Anonymous,
            DenyReason::NeverAnonymous,
            DenyReason::PublicAccessBlocked,
            DenyReason::OtherBuckets,
            DenyReason::Rights {
                has: level,
                needs: level,
            },
            DenyReason::UnknownKey,
        ];
        let words = reasons.each_ref().map(DenyReason::reason);
        let distinct: std::collections::BTreeSet<_> = words.iter().collect();
        assert_eq!(distinct.len(), reasons.len());
    }
}
