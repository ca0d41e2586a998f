use super::*;

fn condition(operator: &str, key: &str, json: &str) -> Result<Condition, &'static str> {
    let values: Json = serde_json::from_str(json).unwrap();
    Condition::parse(operator, key, &values, true)
}

fn context(pairs: &[(&str, &str)]) -> Context {
    let mut context = Context::default();
    for (key, value) in pairs {
        assert!(context.set(key, value), "{key}");
    }
    context
}

/// Operator, key, values, what the request says (nothing when absent), and whether it holds.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    bool,
);

#[test]
fn operators_hold_on_one_side_of_their_boundary() {
    let cases: &[Case] = &[
        ("StringEquals", "s3:prefix", r#""a/""#, Some("a/"), true),
        ("StringEquals", "s3:prefix", r#""a/""#, Some("A/"), false),
        ("StringEquals", "s3:prefix", r#""a*""#, Some("ab"), false),
        ("StringEquals", "s3:prefix", r#""a*""#, Some("a*"), true),
        ("StringEquals", "s3:prefix", r#"["a","b"]"#, Some("b"), true),
        ("StringEquals", "s3:prefix", r#""a""#, None, false),
        ("StringEqualsIfExists", "s3:prefix", r#""a""#, None, true),
        (
            "StringEqualsIfExists",
            "s3:prefix",
            r#""a""#,
            Some("b"),
            false,
        ),
        (
            "StringNotEquals",
            "s3:prefix",
            r#"["a","b"]"#,
            Some("b"),
            false,
        ),
        (
            "StringNotEquals",
            "s3:prefix",
            r#"["a","b"]"#,
            Some("c"),
            true,
        ),
        ("StringNotEquals", "s3:prefix", r#""a""#, None, true),
        (
            "stringequalsignorecase",
            "S3:Prefix",
            r#""A/""#,
            Some("a/"),
            true,
        ),
        (
            "StringNotEqualsIgnoreCase",
            "s3:prefix",
            r#""A/""#,
            Some("a/"),
            false,
        ),
        ("StringLike", "s3:prefix", r#""a/*""#, Some("a/b"), true),
        ("StringLike", "s3:prefix", r#""a/*""#, Some("a"), false),
        (
            "StringLike",
            "s3:prefix",
            r#""home/${aws:username}/*""#,
            Some("home/ann/"),
            true,
        ),
        (
            "StringLike",
            "s3:prefix",
            r#""home/${aws:username}/*""#,
            Some("home/bob/"),
            false,
        ),
        ("StringNotLike", "s3:prefix", r#""a/*""#, Some("a/b"), false),
        ("NumericEquals", "s3:max-keys", "10", Some("10"), true),
        ("NumericEquals", "s3:max-keys", "10", Some("10.0"), true),
        ("NumericNotEquals", "s3:max-keys", "10", Some("10"), false),
        ("NumericLessThan", "s3:max-keys", r#""10""#, Some("9"), true),
        (
            "NumericLessThan",
            "s3:max-keys",
            r#""10""#,
            Some("10"),
            false,
        ),
        (
            "NumericLessThanEquals",
            "s3:max-keys",
            "10",
            Some("10"),
            true,
        ),
        (
            "NumericLessThanEquals",
            "s3:max-keys",
            "10",
            Some("11"),
            false,
        ),
        ("NumericGreaterThan", "s3:max-keys", "10", Some("11"), true),
        ("NumericGreaterThan", "s3:max-keys", "10", Some("10"), false),
        (
            "NumericGreaterThanEquals",
            "s3:max-keys",
            "10",
            Some("10"),
            true,
        ),
        (
            "NumericGreaterThanEquals",
            "s3:max-keys",
            "10",
            Some("9"),
            false,
        ),
        ("NumericLessThan", "s3:max-keys", "10", Some("few"), false),
        ("NumericLessThan", "s3:max-keys", "10", Some("-inf"), false),
        (
            "DateLessThan",
            "aws:CurrentTime",
            r#""2030-01-01T00:00:00Z""#,
            Some("2029-12-31T23:59:59Z"),
            true,
        ),
        (
            "DateLessThan",
            "aws:CurrentTime",
            r#""2030-01-01T00:00:00Z""#,
            Some("2030-01-01T00:00:00Z"),
            false,
        ),
        (
            "DateLessThanEquals",
            "aws:CurrentTime",
            r#""2030-01-01""#,
            Some("2030-01-01T00:00:00Z"),
            true,
        ),
        (
            "DateLessThanEquals",
            "aws:CurrentTime",
            r#""2030-01-01T00:00Z""#,
            Some("2030-01-01T00:00:01Z"),
            false,
        ),
        (
            "DateGreaterThan",
            "aws:EpochTime",
            "1893456000",
            Some("1893456001"),
            true,
        ),
        (
            "DateGreaterThan",
            "aws:EpochTime",
            "1893456000",
            Some("1893456000"),
            false,
        ),
        (
            "DateGreaterThanEquals",
            "aws:CurrentTime",
            r#""1893456000""#,
            Some("2030-01-01T00:00:00Z"),
            true,
        ),
        (
            "DateEquals",
            "aws:CurrentTime",
            r#""2030-01-01T01:00:00+01:00""#,
            Some("2030-01-01T00:00:00Z"),
            true,
        ),
        (
            "DateNotEquals",
            "aws:CurrentTime",
            r#""2030-01-01""#,
            Some("2030-01-01T00:00:00Z"),
            false,
        ),
        (
            "Bool",
            "aws:SecureTransport",
            r#""true""#,
            Some("true"),
            true,
        ),
        ("Bool", "aws:SecureTransport", "false", Some("true"), false),
        ("BoolIfExists", "aws:SecureTransport", "true", None, true),
        (
            "IpAddress",
            "aws:SourceIp",
            r#""192.0.2.0/24""#,
            Some("192.0.2.255"),
            true,
        ),
        (
            "IpAddress",
            "aws:SourceIp",
            r#""192.0.2.0/24""#,
            Some("192.0.3.0"),
            false,
        ),
        (
            "IpAddress",
            "aws:SourceIp",
            r#"["2001:db8::/32","192.0.2.1"]"#,
            Some("2001:db8::1"),
            true,
        ),
        (
            "IpAddress",
            "aws:SourceIp",
            r#""192.0.2.0/24""#,
            None,
            false,
        ),
        (
            "NotIpAddress",
            "aws:SourceIp",
            r#""192.0.2.0/24""#,
            Some("192.0.2.255"),
            false,
        ),
        (
            "NotIpAddress",
            "aws:SourceIp",
            r#""192.0.2.0/24""#,
            Some("192.0.3.0"),
            true,
        ),
        (
            "NotIpAddress",
            "aws:SourceIp",
            r#""192.0.2.0/24""#,
            None,
            true,
        ),
        ("Null", "s3:x-amz-acl", r#""true""#, None, true),
        ("Null", "s3:x-amz-acl", r#""true""#, Some("private"), false),
        ("Null", "s3:x-amz-acl", "false", Some("private"), true),
        ("Null", "s3:x-amz-acl", "false", None, false),
        (
            "ArnLike",
            "aws:PrincipalArn",
            r#""arn:aws:iam::*:user/a*""#,
            Some("arn:aws:iam::0:user/ann"),
            true,
        ),
        (
            "ArnEquals",
            "aws:PrincipalArn",
            r#""arn:aws:iam::*:user/a*""#,
            Some("arn:aws:iam::0:user/bob"),
            false,
        ),
        (
            "ArnNotLike",
            "aws:PrincipalArn",
            r#""arn:aws:iam::*:user/a*""#,
            Some("arn:aws:iam::0:user/bob"),
            true,
        ),
        ("BinaryEquals", "s3:prefix", r#""QUFB""#, Some("QUFB"), true),
        (
            "ForAnyValue:StringEquals",
            "s3:prefix",
            r#""a""#,
            None,
            false,
        ),
        (
            "ForAllValues:StringEquals",
            "s3:prefix",
            r#""a""#,
            None,
            true,
        ),
    ];
    for (operator, key, values, given, expected) in cases {
        let mut context = context(&[("aws:username", "ann")]);
        if let Some(given) = given {
            context.set(key, given);
        }
        let condition = condition(operator, key, values).unwrap();
        assert_eq!(
            condition.holds(&context),
            *expected,
            "{operator} {key} {values} {given:?}"
        );
    }
}

#[test]
fn of_several_values_any_or_all_count_as_asked() {
    let tags = Context::default().with_request_tags([("a", "1"), ("b", "2")]);
    let none = Context::default();
    for (operator, values, expected, without) in [
        ("ForAnyValue:StringEquals", r#"["a"]"#, true, false),
        ("ForAnyValue:StringEquals", r#"["c"]"#, false, false),
        ("ForAllValues:StringEquals", r#"["a"]"#, false, true),
        ("ForAllValues:StringEquals", r#"["a","b","c"]"#, true, true),
        ("ForAnyValue:StringNotEquals", r#"["a"]"#, true, false),
        ("ForAnyValue:StringNotEquals", r#"["a","b"]"#, false, false),
        ("ForAllValues:StringNotEquals", r#"["c"]"#, true, true),
        ("ForAllValues:StringNotEquals", r#"["a"]"#, false, true),
        ("ForAllValues:StringLikeIfExists", r#"["a"]"#, false, true),
        ("StringEquals", r#"["a"]"#, false, false),
        ("StringEquals", r#"["a","b"]"#, true, false),
        ("StringNotEquals", r#"["a"]"#, false, true),
    ] {
        let condition = condition(operator, "s3:RequestObjectTagKeys", values).unwrap();
        assert_eq!(condition.holds(&tags), expected, "{operator} {values}");
        assert_eq!(condition.holds(&none), without, "{operator} {values}, none");
    }
}

#[test]
fn conditions_that_cannot_be_read_are_refused() {
    for (operator, key, values) in [
        ("StringIs", "s3:prefix", r#""a""#),
        ("IfExists", "s3:prefix", r#""a""#),
        ("ForNoValue:StringEquals", "s3:prefix", r#""a""#),
        ("NullIfExists", "s3:prefix", "true"),
        ("ForAnyValue:Null", "s3:prefix", "true"),
        ("StringEquals", "s3:nothing", r#""a""#),
        ("StringEquals", "s3:prefix", "[]"),
        ("StringEquals", "s3:prefix", "null"),
        ("StringEquals", "s3:prefix", r#"[["a"]]"#),
        ("StringEquals", "s3:prefix", r#""${aws:username""#),
        ("NumericEquals", "s3:max-keys", r#""NaN""#),
        ("NumericEquals", "s3:max-keys", r#""1e999""#),
        ("DateEquals", "aws:CurrentTime", r#""soon""#),
        ("DateEquals", "aws:CurrentTime", r#""2030-02-30""#),
        ("Bool", "aws:SecureTransport", r#""yes""#),
        ("IpAddress", "aws:SourceIp", r#""192.0.2.0/33""#),
        ("ArnEquals", "aws:PrincipalArn", r#""user/a""#),
    ] {
        assert!(
            condition(operator, key, values).is_err(),
            "{operator} {values}"
        );
    }
}

#[test]
fn only_fixed_and_narrow_callers_make_a_grant_private() {
    for (operator, key, values, expected) in [
        ("IpAddress", "aws:SourceIp", r#""10.0.0.0/8""#, true),
        ("IpAddress", "aws:SourceIp", r#""10.0.0.0/7""#, false),
        (
            "IpAddress",
            "aws:SourceIp",
            r#"["10.1.0.0/16","0.0.0.0/0"]"#,
            false,
        ),
        ("IpAddress", "aws:SourceIp", r#""2001:db8::/32""#, true),
        ("IpAddress", "aws:SourceIp", r#""2001:db8::/31""#, false),
        ("IpAddress", "aws:SourceIp", r#""192.0.2.1""#, true),
        ("IpAddressIfExists", "aws:SourceIp", r#""192.0.2.1""#, false),
        ("NotIpAddress", "aws:SourceIp", r#""192.0.2.1""#, false),
        ("StringEquals", "aws:username", r#""ann""#, true),
        ("StringLike", "aws:username", r#""a*""#, false),
        ("StringEquals", "aws:username", r#""${aws:userid}""#, false),
        (
            "StringEquals",
            "aws:Referer",
            r#""https://site.example/""#,
            false,
        ),
        ("Bool", "aws:SecureTransport", "true", false),
    ] {
        let condition = condition(operator, key, values).unwrap();
        assert_eq!(condition.narrows(), expected, "{operator} {values}");
    }
}
