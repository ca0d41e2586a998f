use proptest::prelude::*;

use super::*;

fn bucket() -> BucketName {
    BucketName::new("films").unwrap()
}

fn parse(json: &str) -> Result<Policy, DocumentError> {
    Policy::parse(json.as_bytes(), &bucket())
}

/// A policy of one statement that allows everybody `s3:GetObject` on every object, but for what `members` says.
fn one(members: &[(&str, &str)]) -> String {
    let mut all = vec![
        ("Effect", r#""Allow""#),
        ("Principal", r#""*""#),
        ("Action", r#""s3:GetObject""#),
        ("Resource", r#""arn:aws:s3:::films/*""#),
    ];
    for (name, value) in members {
        all.retain(|(known, _)| name.trim_start_matches("Not") != known.trim_start_matches("Not"));
        if !value.is_empty() {
            all.push((*name, *value));
        }
    }
    let members: Vec<_> = all.iter().map(|(n, v)| format!("\"{n}\":{v}")).collect();
    let statement = members.join(",");
    format!(r#"{{"Version":"2012-10-17","Statement":[{{{statement}}}]}}"#)
}

fn key(id: &str) -> Principal {
    Principal::Key(id.to_owned())
}

fn allows(policy: &Policy, principal: &Principal, action: Action, key: Option<&str>) -> bool {
    let mut context = Context::default();
    if let Principal::Key(id) = principal {
        context.set("aws:username", id);
    }
    policy.verdict(principal, action, &bucket(), key, &context) == Verdict::Allow
}

#[test]
fn a_statement_applies_to_whom_it_names() {
    let anyone = Principal::Anonymous;
    for (name, value, anonymous, ann, bob) in [
        ("Principal", r#""*""#, true, true, true),
        ("Principal", r#"{"AWS":"*"}"#, true, true, true),
        ("Principal", r#"{"AWS":["x","*"]}"#, true, true, true),
        ("Principal", r#"{"AWS":"ann"}"#, false, true, false),
        (
            "Principal",
            r#"{"AWS":["arn:aws:iam::123456789012:user/ann"]}"#,
            false,
            true,
            false,
        ),
        (
            "Principal",
            r#"{"AWS":"arn:aws:iam::acme:user/team/red/ann"}"#,
            false,
            true,
            false,
        ),
        (
            "Principal",
            r#"{"AWS":"arn:aws:iam::123456789012:root"}"#,
            false,
            true,
            true,
        ),
        ("Principal", r#"{"AWS":"123456789012"}"#, false, true, true),
        ("NotPrincipal", r#"{"AWS":"ann"}"#, true, false, true),
        ("NotPrincipal", r#"{"AWS":"*"}"#, false, false, false),
    ] {
        let policy = parse(&one(&[(name, value)])).unwrap();
        let asked = |who| allows(&policy, who, Action::GetObject, Some("a"));
        let answers = (asked(&anyone), asked(&key("ann")), asked(&key("bob")));
        assert_eq!(answers, (anonymous, ann, bob), "{name} {value}");
    }
}

#[test]
fn a_statement_applies_to_the_actions_that_it_names() {
    for (name, value, get, put, list) in [
        ("Action", r#""s3:GetObject""#, true, false, false),
        ("Action", r#"["s3:getobject"]"#, true, false, false),
        ("Action", r#""s3:Get*""#, true, false, false),
        ("Action", r#""s3:?etObject""#, true, false, false),
        (
            "Action",
            r#"["s3:PutObject","s3:List*"]"#,
            false,
            true,
            true,
        ),
        ("Action", r#""s3:*""#, true, true, true),
        ("Action", r#""*""#, true, true, true),
        ("NotAction", r#""s3:GetObject""#, false, true, true),
        (
            "NotAction",
            r#"["s3:Get*","s3:ListBucket"]"#,
            false,
            true,
            false,
        ),
    ] {
        let resource = r#"["arn:aws:s3:::films","arn:aws:s3:::films/*"]"#;
        let policy = parse(&one(&[(name, value), ("Resource", resource)])).unwrap();
        let asked = |action, key| allows(&policy, &Principal::Anonymous, action, key);
        let answers = (
            asked(Action::GetObject, Some("a")),
            asked(Action::PutObject, Some("a")),
            asked(Action::ListBucket, None),
        );
        assert_eq!(answers, (get, put, list), "{name} {value}");
    }
}

#[test]
fn a_statement_applies_to_the_resources_that_it_names() {
    for (name, value, expected) in [
        (
            "Resource",
            r#""arn:aws:s3:::films/a""#,
            (true, false, false),
        ),
        ("Resource", r#""arn:aws:s3:::films/*""#, (true, true, false)),
        (
            "Resource",
            r#""arn:aws:s3:::films/a/?""#,
            (false, true, false),
        ),
        ("Resource", r#""arn:aws:s3:::films""#, (false, false, true)),
        ("Resource", r#""arn:aws:s3:::films*""#, (true, true, true)),
        ("Resource", r#""arn:aws:s3:::*""#, (true, true, true)),
        ("Resource", r#""*""#, (true, true, true)),
        (
            "Resource",
            r#""arn:aws:s3:::films/${aws:username}/*""#,
            (false, true, false),
        ),
        (
            "NotResource",
            r#""arn:aws:s3:::films/a""#,
            (false, true, true),
        ),
    ] {
        let policy = parse(&one(&[("Action", r#""s3:*""#), (name, value)])).unwrap();
        let asked = |action, object| allows(&policy, &key("a"), action, object);
        let answers = (
            asked(Action::GetObject, Some("a")),
            asked(Action::GetObject, Some("a/b")),
            asked(Action::ListBucket, None),
        );
        assert_eq!(answers, expected, "{name} {value}");
    }
}

#[test]
fn variables_are_text_in_policies_of_the_old_version() {
    let resource = r#""arn:aws:s3:::films/${aws:username}""#;
    let new = one(&[("Resource", resource)]);
    let old = new.replace("2012-10-17", "2008-10-17");
    let without = new.replace(r#""Version":"2012-10-17","#, "");
    for (json, meant) in [
        (new, "ann"),
        (old, "${aws:username}"),
        (without, "${aws:username}"),
    ] {
        let policy = parse(&json).unwrap();
        for object in ["ann", "${aws:username}"] {
            let allowed = allows(&policy, &key("ann"), Action::GetObject, Some(object));
            assert_eq!(allowed, object == meant, "{json} {object}");
        }
    }
}

#[test]
fn a_denial_counts_wherever_it_stands_and_is_named() {
    let allow = r#"{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::films/*"}"#;
    let deny = r#"{"Sid":"not b","Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::films/b*"}"#;
    for (statements, index) in [([allow, deny], 1), ([deny, allow], 0)] {
        let policy = parse(&format!("{{\"Statement\":[{}]}}", statements.join(","))).unwrap();
        let asked = |object| {
            let context = Context::default();
            policy.verdict(
                &Principal::Anonymous,
                Action::GetObject,
                &bucket(),
                Some(object),
                &context,
            )
        };
        assert_eq!(asked("a"), Verdict::Allow);
        let denied = Verdict::Deny {
            statement: index,
            sid: Some("not b"),
        };
        assert_eq!(asked("b"), denied);
    }
    let single = parse(&format!("{{\"Id\":\"p\",\"Statement\":{deny}}}")).unwrap();
    let asked = |object| {
        allows(
            &single,
            &Principal::Anonymous,
            Action::GetObject,
            Some(object),
        )
    };
    assert!(!asked("a") && !asked("b"));
}

#[test]
fn every_condition_of_a_statement_must_hold() {
    let condition =
        r#"{"StringLike":{"s3:prefix":["a/*","b/*"]},"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}"#;
    let members = [
        ("Action", r#""s3:ListBucket""#),
        ("Resource", r#""arn:aws:s3:::films""#),
        ("Condition", condition),
    ];
    let policy = parse(&one(&members)).unwrap();
    for (prefix, address, expected) in [
        ("b/x", "192.0.2.1", Verdict::Allow),
        ("c/x", "192.0.2.1", Verdict::Silent),
        ("b/x", "192.0.3.1", Verdict::Silent),
    ] {
        let mut context = Context::default();
        context.set("s3:prefix", prefix);
        context.set("aws:SourceIp", address);
        let principal = Principal::Anonymous;
        let verdict = policy.verdict(&principal, Action::ListBucket, &bucket(), None, &context);
        assert_eq!(verdict, expected, "{prefix} {address}");
    }
}

#[test]
fn a_policy_that_cannot_be_honoured_is_refused_and_says_where() {
    let statement = |members: &[(&str, &str)]| one(members);
    let cases = [
        ("[]".to_owned(), "the policy"),
        ("{}".to_owned(), "Statement"),
        (r#"{"Statement":[]}"#.to_owned(), "Statement"),
        (r#"{"Statement":["x"]}"#.to_owned(), "Statement[0]"),
        (
            r#"{"Version":"2030-01-01","Statement":[]}"#.to_owned(),
            "Version",
        ),
        (r#"{"Statements":[]}"#.to_owned(), "the policy.Statements"),
        (r#"{"Id":1,"Statement":[]}"#.to_owned(), "the policy.Id"),
        ("{\n\"Id\":\"a\",\n\"Id\":\"b\"}".to_owned(), "line 3"),
        (statement(&[("Effect", "")]), "Statement[0]"),
        (
            statement(&[("Effect", r#""allow""#)]),
            "Statement[0].Effect",
        ),
        (statement(&[("Sid", "[]")]), "Statement[0].Sid"),
        (statement(&[("Extra", "1")]), "Statement[0].Extra"),
        (statement(&[("Principal", "")]), "Statement[0].Principal"),
        (
            statement(&[("Principal", r#""ann""#)]),
            "Statement[0].Principal",
        ),
        (statement(&[("Principal", "{}")]), "Statement[0].Principal"),
        (
            statement(&[("Principal", r#"{"Service":"s3.amazonaws.com"}"#)]),
            "Statement[0].Principal.Service",
        ),
        (
            statement(&[("Principal", r#"{"AWS":["ann","a*"]}"#)]),
            "Statement[0].Principal.AWS[1]",
        ),
        (
            statement(&[("Principal", r#"{"AWS":"arn:aws:iam::1:role/x"}"#)]),
            "Statement[0].Principal.AWS[0]",
        ),
        (
            statement(&[("Principal", r#"{"AWS":"arn:aws:iam::1:userx/ann"}"#)]),
            "Statement[0].Principal.AWS[0]",
        ),
        (
            statement(&[("Principal", r#"{"AWS":[]}"#)]),
            "Statement[0].Principal.AWS",
        ),
        (statement(&[("Action", "")]), "Statement[0].Action"),
        (
            statement(&[("Action", r#"["s3:GetObject",1]"#)]),
            "Statement[0].Action[1]",
        ),
        (
            statement(&[("Action", r#""s3:GetObjects""#)]),
            "Statement[0].Action[0]",
        ),
        (
            statement(&[("Action", r#""ec2:*""#)]),
            "Statement[0].Action[0]",
        ),
        (
            statement(&[("Action", r#"["s3:GetObject","s3:ListBucket"]"#)]),
            "Statement[0].Action[1]",
        ),
        (
            statement(&[("Resource", r#""arn:aws:s3:::films""#)]),
            "Statement[0].Action[0]",
        ),
        (
            statement(&[(
                "Resource",
                r#"["arn:aws:s3:::films/*","arn:aws:s3:::other/*"]"#,
            )]),
            "Statement[0].Resource[1]",
        ),
        (
            statement(&[("Resource", r#""films/*""#)]),
            "Statement[0].Resource[0]",
        ),
        (
            statement(&[("Resource", r#""arn:aws:s3:::""#)]),
            "Statement[0].Resource[0]",
        ),
        (
            statement(&[("Resource", r#""arn:aws:s3:::films/${aws:nobody}""#)]),
            "Statement[0].Resource[0]",
        ),
        (statement(&[("Condition", "[]")]), "Statement[0].Condition"),
        (
            statement(&[("Condition", r#"{"StringEquals":"a"}"#)]),
            "Statement[0].Condition.StringEquals",
        ),
        (
            statement(&[("Condition", r#"{"StringEquals":{"s3:x":"a"}}"#)]),
            "Statement[0].Condition.StringEquals.s3:x",
        ),
    ];
    for (json, place) in cases {
        match parse(&json) {
            Err(error @ DocumentError::Policy { .. }) => {
                assert_eq!((error.code(), error.status()), ("MalformedPolicy", 400));
                let DocumentError::Policy { at, .. } = error else {
                    continue;
                };
                assert_eq!(at, place, "{json}");
            }
            other => panic!("{json}: {other:?}"),
        }
    }
    let both = one(&[]).replace(r#""Action""#, r#""NotAction":"s3:PutObject","Action""#);
    assert!(
        matches!(parse(&both), Err(DocumentError::Policy { at, .. }) if at == "Statement[0].NotAction")
    );
    for json in ["", "{", "{\"Statement\":[],}", "\u{feff}{}"] {
        let outcome = parse(json);
        assert!(
            matches!(outcome, Err(DocumentError::PolicyNotJson { .. })),
            "{json:?}"
        );
    }
}

#[test]
fn a_policy_has_20_kib_at_most() {
    let plain = one(&[]);
    let padded = |bytes: usize| plain.clone() + &" ".repeat(bytes - plain.len());
    assert!(parse(&padded(POLICY_MAX_BYTES)).is_ok());
    let error = parse(&padded(POLICY_MAX_BYTES + 1)).unwrap_err();
    let max_bytes = POLICY_MAX_BYTES;
    assert_eq!(error, DocumentError::PolicyTooLong { max_bytes });
}

#[test]
fn nobody_is_let_in_by_not_being_somebody() {
    let but_ann = ("NotPrincipal", r#"{"AWS":"ann"}"#);
    let refused = parse(&one(&[but_ann])).unwrap().refuse_open_ends();
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("Statement[0].NotPrincipal"), "{told}");
    let denied = parse(&one(&[but_ann, ("Effect", r#""Deny""#)])).unwrap();
    assert_eq!(denied.refuse_open_ends(), Ok(()));
    assert_eq!(parse(&one(&[])).unwrap().refuse_open_ends(), Ok(()));
}

#[test]
fn a_policy_is_public_when_it_allows_everybody_something() {
    let address = r#"{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}"#;
    let referer = r#"{"StringLike":{"aws:Referer":"https://site.example/*"}}"#;
    for (members, expected) in [
        (&[][..], true),
        (&[("Effect", r#""Deny""#)], false),
        (&[("Principal", r#"{"AWS":"ann"}"#)], false),
        (&[("Principal", r#"{"AWS":"arn:aws:iam::1:root"}"#)], false),
        (&[("Principal", r#"{"AWS":["ann","*"]}"#)], true),
        (&[("NotPrincipal", r#"{"AWS":"ann"}"#)], true),
        (&[("Condition", address)], false),
        (&[("Condition", referer)], true),
    ] {
        assert_eq!(
            parse(&one(members)).unwrap().is_public(),
            expected,
            "{members:?}"
        );
    }
}

#[test]
fn existing_tags_are_asked_for_only_where_they_are_named() {
    let tag = r#"{"StringEquals":{"s3:ExistingObjectTag/team":"red"}}"#;
    let request = r#"{"StringEquals":{"s3:RequestObjectTag/team":"red"}}"#;
    let variable = r#""arn:aws:s3:::films/${s3:ExistingObjectTag/team}""#;
    for (members, expected) in [
        (&[][..], false),
        (&[("Condition", request)], false),
        (&[("Condition", tag)], true),
        (&[("Resource", variable)], true),
    ] {
        let policy = parse(&one(members)).unwrap();
        assert_eq!(policy.asks_for_existing_tags(), expected, "{members:?}");
    }
}

proptest! {
    #[test]
    fn no_order_of_statements_changes_the_verdict(
        kinds in proptest::collection::vec((any::<bool>(), 0..4_usize, 0..4_usize), 1..6),
        object in "[ab]{1,3}",
    ) {
        let resources = ["films/*", "films/a*", "films/?", "films"];
        let actions = ["s3:GetObject", "s3:Get*", "s3:PutObject", "s3:*"];
        let statements: Vec<String> = kinds
            .iter()
            .map(|(allow, resource, action)| {
                let effect = if *allow { "Allow" } else { "Deny" };
                // Only every action has something to do on every resource.
                let action = if *resource == 3 { "s3:*" } else { actions[*action] };
                format!(
                    r#"{{"Effect":"{effect}","Principal":"*","Action":"{action}","Resource":"arn:aws:s3:::{}"}}"#,
                    resources[*resource]
                )
            })
            .collect();
        let read = |statements: &[String]| {
            parse(&format!("{{\"Statement\":[{}]}}", statements.join(","))).unwrap()
        };
        let verdict = |policy: &Policy| {
            let context = Context::default();
            let principal = Principal::Anonymous;
            match policy.verdict(&principal, Action::GetObject, &bucket(), Some(&object), &context) {
                Verdict::Silent => 0,
                Verdict::Allow => 1,
                Verdict::Deny { .. } => 2,
            }
        };
        let together = verdict(&read(&statements));
        let mut reversed = statements.clone();
        reversed.reverse();
        prop_assert_eq!(verdict(&read(&reversed)), together);
        // The strongest word of any statement by itself.
        let strongest = (statements.iter())
            .map(|one| verdict(&read(std::slice::from_ref(one))))
            .max();
        prop_assert_eq!(Some(together), strongest);
    }
}
