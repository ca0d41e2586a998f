use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::origin::documents::{DocumentError, Tags};
use crate::origin::xml::NAMESPACE;

fn parse(rules: &str) -> Result<LifecycleRules, DocumentError> {
    let root = "LifecycleConfiguration";
    LifecycleRules::parse(format!("<{root} xmlns=\"{NAMESPACE}\">{rules}</{root}>").as_bytes())
}

fn rule(inner: &str) -> String {
    format!("<Rule><Status>Enabled</Status>{inner}</Rule>")
}

/// A rule about every object.
fn all(inner: &str) -> String {
    rule(&format!("<Filter/>{inner}"))
}

const DAYS_30: &str = "<Expiration><Days>30</Days></Expiration>";

#[test]
fn rules_of_real_clients_are_read() {
    let document = "\n<Rule><ID>logs</ID><Filter><And><Prefix>logs/</Prefix>\
         <Tag><Key>keep</Key><Value>no</Value></Tag><ObjectSizeGreaterThan>500</ObjectSizeGreaterThan>\
         <ObjectSizeLessThan>64000</ObjectSizeLessThan></And></Filter><Status>Enabled</Status>\
         <Transition><Days>30</Days><StorageClass>STANDARD_IA</StorageClass></Transition>\
         <Expiration><Days>365</Days></Expiration></Rule>\n\
         <Rule><Prefix/><Status>Disabled</Status>\
         <NoncurrentVersionExpiration><NoncurrentDays>7</NoncurrentDays>\
         <NewerNoncurrentVersions>3</NewerNoncurrentVersions></NoncurrentVersionExpiration>\
         <AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload>\
         </Rule>";
    let rules = parse(document).unwrap();
    let [logs, old] = rules.0.as_slice() else {
        panic!("{rules:?}");
    };
    assert_eq!((logs.id.as_str(), logs.is_enabled), ("logs", true));
    assert_eq!(logs.filter.prefix.as_deref(), Some("logs/"));
    assert_eq!(logs.filter.greater_than_bytes, Some(500));
    assert_eq!(logs.filter.less_than_bytes, Some(64_000));
    assert_eq!(logs.filter.tags[0].value, "no");
    assert_eq!(logs.expiration, Some(Expiration::Days(365)));
    assert_eq!(logs.transitions[0].storage_class, "STANDARD_IA");
    assert_eq!((old.id.as_str(), old.is_enabled), ("rule-1", false));
    assert!(old.filter.is_legacy);
    let noncurrent = NoncurrentExpiration {
        days: 7,
        newer_versions: Some(3),
    };
    assert_eq!(old.noncurrent_expiration, Some(noncurrent));
    assert_eq!(old.abort_uploads_days, Some(2));
}

#[test]
fn rules_that_s3_refuses_are_refused() {
    let filtered = |filter: &str| rule(&format!("<Filter>{filter}</Filter>{DAYS_30}"));
    let expiring = |inner: &str| all(&format!("<Expiration>{inner}</Expiration>"));
    let named = |id: &str| all(&format!("<ID>{id}</ID>{DAYS_30}"));
    let moved = |inner: &str| all(&format!("<Transition>{inner}</Transition>"));
    let tag = |key: &str| format!("<Tag><Key>{key}</Key><Value>v</Value></Tag>");
    let noncurrent = |inner: &str| {
        all(&format!(
            "<NoncurrentVersionExpiration>{inner}</NoncurrentVersionExpiration>"
        ))
    };
    let aborted = |filter: &str, days: &str| {
        rule(&format!(
            "<Filter>{filter}</Filter><AbortIncompleteMultipartUpload><DaysAfterInitiation>{days}</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
        ))
    };
    let marker =
        "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>";
    let glacier = "<StorageClass>GLACIER</StorageClass>";
    let cases = [
        (all(DAYS_30), None),
        (String::new(), Some("MalformedXML")),
        (all(DAYS_30).repeat(1000), None),
        (all(DAYS_30).repeat(1001), Some("MalformedXML")),
        (
            format!("<Rule><Filter/>{DAYS_30}</Rule>"),
            Some("MalformedXML"),
        ),
        (
            format!("<Rule><Filter/><Status>enabled</Status>{DAYS_30}</Rule>"),
            Some("MalformedXML"),
        ),
        (rule(DAYS_30), Some("MalformedXML")),
        (
            rule(&format!("<Filter/><Prefix/>{DAYS_30}")),
            Some("MalformedXML"),
        ),
        (all(""), Some("InvalidRequest")),
        (all("<Other/>"), Some("MalformedXML")),
        (named(&"i".repeat(255)), None),
        (named(&"i".repeat(256)), Some("InvalidArgument")),
        (named("a") + &named("b"), None),
        (named("a") + &named("a"), Some("InvalidArgument")),
        (named("rule-1") + &all(DAYS_30), None),
        // Filters.
        (filtered("<Prefix>a</Prefix>"), None),
        (
            filtered(&format!("<Prefix>{}</Prefix>", "p".repeat(1024))),
            None,
        ),
        (
            filtered(&format!("<Prefix>{}</Prefix>", "p".repeat(1025))),
            Some("InvalidRequest"),
        ),
        (
            filtered("<Prefix>a</Prefix><Prefix>b</Prefix>"),
            Some("MalformedXML"),
        ),
        (
            filtered(&format!("<Prefix>a</Prefix>{}", tag("k"))),
            Some("MalformedXML"),
        ),
        (
            filtered(&format!("<And>{}{}</And>", tag("a"), tag("b"))),
            None,
        ),
        (
            filtered(&format!("<And>{}{}</And>", tag("a"), tag("a"))),
            Some("InvalidTag"),
        ),
        (filtered("<And><And/></And>"), Some("MalformedXML")),
        (
            filtered("<ObjectSizeGreaterThan>0</ObjectSizeGreaterThan>"),
            None,
        ),
        (
            filtered("<ObjectSizeGreaterThan>-1</ObjectSizeGreaterThan>"),
            Some("InvalidArgument"),
        ),
        (
            filtered(&format!(
                "<ObjectSizeLessThan>{}</ObjectSizeLessThan>",
                50_u64 << 40
            )),
            None,
        ),
        (
            filtered(&format!(
                "<ObjectSizeLessThan>{}</ObjectSizeLessThan>",
                (50_u64 << 40) + 1
            )),
            Some("InvalidArgument"),
        ),
        (
            filtered(
                "<And><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan><ObjectSizeLessThan>7</ObjectSizeLessThan></And>",
            ),
            None,
        ),
        (
            filtered(
                "<And><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan><ObjectSizeLessThan>6</ObjectSizeLessThan></And>",
            ),
            Some("InvalidRequest"),
        ),
        // Expiration.
        (expiring("<Days>1</Days>"), None),
        (expiring("<Days>0</Days>"), Some("InvalidArgument")),
        (expiring("<Days>-1</Days>"), Some("InvalidArgument")),
        (expiring("<Days>2147483647</Days>"), None),
        (expiring("<Days>2147483648</Days>"), Some("InvalidArgument")),
        (expiring("<Days>x</Days>"), Some("MalformedXML")),
        (expiring(""), Some("MalformedXML")),
        (
            expiring("<Days>1</Days><Date>2030-01-01</Date>"),
            Some("MalformedXML"),
        ),
        (expiring("<Date>2030-01-01T00:00:00.000Z</Date>"), None),
        (
            expiring("<Date>2030-01-01T00:00:01Z</Date>"),
            Some("InvalidArgument"),
        ),
        (
            expiring("<Date>2030-01-01T00:00:00.001Z</Date>"),
            Some("InvalidArgument"),
        ),
        (expiring("<Date>soon</Date>"), Some("MalformedXML")),
        (
            rule(&format!("<Filter>{}</Filter>{marker}", tag("k"))),
            Some("InvalidRequest"),
        ),
        (
            rule(&format!(
                "<Filter><ObjectSizeLessThan>5</ObjectSizeLessThan></Filter>{marker}"
            )),
            Some("InvalidRequest"),
        ),
        (all(marker), None),
        // Versions.
        (noncurrent("<NoncurrentDays>1</NoncurrentDays>"), None),
        (
            noncurrent("<NoncurrentDays>0</NoncurrentDays>"),
            Some("InvalidArgument"),
        ),
        (
            noncurrent("<NewerNoncurrentVersions>1</NewerNoncurrentVersions>"),
            Some("MalformedXML"),
        ),
        (
            noncurrent(
                "<NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>100</NewerNoncurrentVersions>",
            ),
            None,
        ),
        (
            noncurrent(
                "<NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>101</NewerNoncurrentVersions>",
            ),
            Some("InvalidArgument"),
        ),
        (
            noncurrent(
                "<NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>0</NewerNoncurrentVersions>",
            ),
            Some("InvalidArgument"),
        ),
        // Uploads.
        (aborted("", "1"), None),
        (aborted("", "0"), Some("InvalidArgument")),
        (aborted(&tag("k"), "1"), Some("InvalidRequest")),
        (
            aborted("<ObjectSizeLessThan>5</ObjectSizeLessThan>", "1"),
            Some("InvalidRequest"),
        ),
        // Transitions.
        (moved(&format!("<Days>0</Days>{glacier}")), None),
        (moved(&format!("<Date>2030-01-01</Date>{glacier}")), None),
        (moved(glacier), Some("MalformedXML")),
        (
            moved("<Days>1</Days><StorageClass>STANDARD</StorageClass>"),
            Some("MalformedXML"),
        ),
        (
            moved("<Days>30</Days><StorageClass>ONEZONE_IA</StorageClass>"),
            None,
        ),
        (
            moved("<Days>29</Days><StorageClass>ONEZONE_IA</StorageClass>"),
            Some("InvalidArgument"),
        ),
        (
            all(&format!("<Transition><Days>1</Days>{glacier}</Transition>").repeat(2)),
            Some("InvalidRequest"),
        ),
        (
            all(&format!(
                "<Transition><Days>29</Days>{glacier}</Transition>{DAYS_30}"
            )),
            None,
        ),
        (
            all(&format!(
                "<Transition><Days>30</Days>{glacier}</Transition>{DAYS_30}"
            )),
            Some("InvalidArgument"),
        ),
        (
            all(&format!(
                "<Transition><Date>2030-01-01</Date>{glacier}</Transition>{DAYS_30}"
            )),
            Some("InvalidRequest"),
        ),
    ];
    for (rules, expected) in cases {
        let code = parse(&rules).err().map(|error| error.code());
        assert_eq!(code, expected, "{rules:.300}");
    }
}

/// 2030-01-15T10:30:00Z.
const WRITTEN_SECONDS: u64 = 1_894_703_400;
const HOUR: u64 = 3600;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The midnight so many days after the one before [`WRITTEN_SECONDS`].
fn midnight(days: u64) -> u64 {
    (WRITTEN_SECONDS / 86_400 + days) * 86_400
}

fn tags(header: &str) -> Tags {
    Tags::from_header(header).unwrap()
}

fn version<'a>(
    key: &'a str,
    size_bytes: u64,
    tags: &'a Tags,
    kind: VersionKind,
) -> VersionFacts<'a> {
    VersionFacts {
        key,
        size_bytes,
        tags,
        modified: at(WRITTEN_SECONDS),
        kind,
    }
}

/// A version that was overwritten an hour after the others were written; its own age does not count.
fn overwritten(newer: u32, is_marker: bool, tags: &Tags) -> VersionFacts<'_> {
    let kind = VersionKind::Noncurrent {
        is_marker,
        since: at(WRITTEN_SECONDS + HOUR),
        newer,
    };
    VersionFacts {
        modified: at(0),
        ..version("a", 1, tags, kind)
    }
}

/// The second at which a verdict first comes; `None` within the next thousand days.
fn first_verdict(rules: &LifecycleRules, version: &VersionFacts<'_>) -> Option<u64> {
    let comes = |seconds| rules.verdict(version, at(seconds)).is_some();
    let mut edges = (0..1000).flat_map(|days| [midnight(days) - 1, midnight(days)]);
    edges.find(|seconds| comes(*seconds))
}

#[test]
fn days_are_counted_up_to_the_next_midnight() {
    let none = Tags::default();
    for (modified, days, expected) in [
        // S3's own example: 10:30, three days, the midnight after.
        (WRITTEN_SECONDS, 3, midnight(4)),
        (midnight(0), 3, midnight(4)),
        (midnight(1) - 1, 3, midnight(4)),
        (WRITTEN_SECONDS, 1, midnight(2)),
    ] {
        let rules = parse(&all(&format!(
            "<Expiration><Days>{days}</Days></Expiration>"
        )))
        .unwrap();
        let mut facts = version("a", 1, &none, VersionKind::Current);
        facts.modified = at(modified);
        assert_eq!(
            first_verdict(&rules, &facts),
            Some(expected),
            "{modified} {days}"
        );
        let verdict = rules.verdict(&facts, at(expected));
        assert_eq!(verdict, Some(Verdict::Expire { rule: "rule-1" }));
    }
}

#[test]
fn a_date_takes_all_that_is_there_from_then_on() {
    let rules = parse(&all("<Expiration><Date>2030-01-20</Date></Expiration>")).unwrap();
    let none = Tags::default();
    let facts = version("a", 1, &none, VersionKind::Current);
    assert_eq!(first_verdict(&rules, &facts), Some(midnight(5)));
}

#[test]
fn a_filter_takes_what_fulfils_all_of_it() {
    let filter = "<Filter><And><Prefix>a/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag>\
         <ObjectSizeGreaterThan>5</ObjectSizeGreaterThan><ObjectSizeLessThan>9</ObjectSizeLessThan></And></Filter>";
    let rules = parse(&rule(&format!("{filter}{DAYS_30}"))).unwrap();
    for (key, size_bytes, header, expected) in [
        ("a/", 6, "k=v", true),
        ("a/b", 8, "k=v&l=w", true),
        ("a", 6, "k=v", false),
        ("a/", 5, "k=v", false),
        ("a/", 9, "k=v", false),
        ("a/", 6, "k=w", false),
        ("a/", 6, "K=v", false),
        ("a/", 6, "", false),
    ] {
        let tags = tags(header);
        let facts = version(key, size_bytes, &tags, VersionKind::Current);
        let is_taken = rules.verdict(&facts, at(midnight(31))).is_some();
        assert_eq!(is_taken, expected, "{key} {size_bytes} {header}");
    }
    let disabled = format!("<Rule><Status>Disabled</Status><Filter/>{DAYS_30}</Rule>");
    let disabled = parse(&disabled).unwrap();
    let none = Tags::default();
    let facts = version("a", 1, &none, VersionKind::Current);
    assert_eq!(first_verdict(&disabled, &facts), None);
    assert!(!disabled.is_any_enabled());
    assert_eq!(disabled.expiration_header(&facts), None);
}

#[test]
fn delete_markers_go_when_they_hide_nothing() {
    let marker =
        "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>";
    let kept = marker.replace("true", "false");
    let (alone, hiding) = (
        VersionKind::CurrentMarker { is_alone: true },
        VersionKind::CurrentMarker { is_alone: false },
    );
    let tagged = rule(&format!(
        "<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>{DAYS_30}"
    ));
    let sized = rule(&format!(
        "<Filter><ObjectSizeLessThan>5</ObjectSizeLessThan></Filter>{DAYS_30}"
    ));
    let none = Tags::default();
    for (rules, kind, expected) in [
        (all(marker), alone, Some(midnight(0) - 1)),
        (all(marker), hiding, None),
        (all(&kept), alone, None),
        (all(DAYS_30), alone, Some(midnight(31))),
        (all(DAYS_30), hiding, None),
        (tagged, alone, None),
        (sized, alone, None),
    ] {
        let read = parse(&rules).unwrap();
        let facts = version("a", 0, &none, kind);
        assert_eq!(first_verdict(&read, &facts), expected, "{rules} {kind:?}");
        if expected.is_some() {
            let verdict = read.verdict(&facts, at(midnight(31)));
            assert_eq!(verdict, Some(Verdict::RemoveMarker { rule: "rule-1" }));
        }
    }
    // A marker is nothing that expires.
    let objects = parse(&all(marker)).unwrap();
    let current = version("a", 1, &none, VersionKind::Current);
    assert_eq!(first_verdict(&objects, &current), None);
}

/// The second from which on a version moves; `None` when it never does within a thousand days.
fn first_move(rules: &LifecycleRules, version: &VersionFacts<'_>) -> Option<u64> {
    let moves = |seconds| rules.moves("STANDARD_IA", version, at(seconds));
    let mut edges = (0..1000).flat_map(|days| [midnight(days) - 1, midnight(days)]);
    edges.find(|seconds| moves(*seconds))
}

#[test]
fn a_version_moves_by_the_days_or_the_date_of_any_rule_that_takes_it() {
    let to = |when: &str, class: &str| {
        format!("<Transition>{when}<StorageClass>{class}</StorageClass></Transition>")
    };
    let days = |days: u32| format!("<Days>{days}</Days>");
    let (none, tag) = (Tags::default(), tags("k=v"));
    for (rules, taken, expected) in [
        (
            all(&to(&days(30), "STANDARD_IA")),
            &none,
            Some(midnight(31)),
        ),
        (
            all(&to("<Date>2030-01-20</Date>", "STANDARD_IA")),
            &none,
            Some(midnight(5)),
        ),
        (all(&to(&days(30), "GLACIER")), &none, None),
        (
            all(&(to(&days(60), "STANDARD_IA") + &to(&days(90), "GLACIER"))),
            &tag,
            Some(midnight(61)),
        ),
    ] {
        let read = parse(&rules).unwrap();
        let facts = version("a", 1, taken, VersionKind::Current);
        assert_eq!(first_move(&read, &facts), expected, "{rules}");
        let marker = VersionKind::CurrentMarker { is_alone: true };
        assert_eq!(first_move(&read, &version("a", 0, &none, marker)), None);
        let noncurrent = VersionKind::Noncurrent {
            is_marker: false,
            since: at(WRITTEN_SECONDS),
            newer: 0,
        };
        assert_eq!(first_move(&read, &version("a", 1, &none, noncurrent)), None);
    }
}

#[test]
fn versions_that_are_not_current_move_by_age_and_number() {
    let with = |newer: &str| {
        all(&format!(
            "<NoncurrentVersionTransition><NoncurrentDays>30</NoncurrentDays>{newer}\
             <StorageClass>STANDARD_IA</StorageClass></NoncurrentVersionTransition>"
        ))
    };
    let two = "<NewerNoncurrentVersions>2</NewerNoncurrentVersions>";
    let none = Tags::default();
    for (rules, newer, is_marker, expected) in [
        (with(""), 0, false, Some(midnight(31))),
        (with(""), 0, true, None),
        (with(two), 1, false, None),
        (with(two), 2, false, Some(midnight(31))),
    ] {
        let read = parse(&rules).unwrap();
        let facts = overwritten(newer, is_marker, &none);
        assert_eq!(first_move(&read, &facts), expected, "{rules} {newer}");
        let current = version("a", 1, &none, VersionKind::Current);
        assert_eq!(first_move(&read, &current), None);
    }
}

#[test]
fn old_versions_go_by_age_and_number() {
    let with = |newer: &str| {
        all(&format!(
            "<NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays>{newer}</NoncurrentVersionExpiration>"
        ))
    };
    let two = "<NewerNoncurrentVersions>2</NewerNoncurrentVersions>";
    let none = Tags::default();
    for (rules, newer, is_marker, expected) in [
        (with(""), 0, false, Some(midnight(3))),
        (with(""), 0, true, Some(midnight(3))),
        (with(two), 1, false, None),
        (with(two), 2, false, Some(midnight(3))),
        (with(two), 3, true, Some(midnight(3))),
    ] {
        let read = parse(&rules).unwrap();
        let facts = overwritten(newer, is_marker, &none);
        assert_eq!(first_verdict(&read, &facts), expected, "{rules} {newer}");
    }
    let current = version("a", 1, &none, VersionKind::Current);
    assert_eq!(first_verdict(&parse(&with("")).unwrap(), &current), None);
}

#[test]
fn uploads_are_given_up_by_the_earliest_rule() {
    let abort = |id: &str, prefix: &str, days: u32| {
        rule(&format!(
            "<ID>{id}</ID><Filter><Prefix>{prefix}</Prefix></Filter><AbortIncompleteMultipartUpload>\
             <DaysAfterInitiation>{days}</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
        ))
    };
    let rules = parse(&(abort("late", "", 5) + &abort("soon", "a/", 2))).unwrap();
    let upload = |key| UploadFacts {
        key,
        initiated: at(WRITTEN_SECONDS),
    };
    assert_eq!(
        rules.abort_at(&upload("a/b")),
        Some((at(midnight(3)), "soon"))
    );
    assert_eq!(
        rules.abort_at(&upload("b")),
        Some((at(midnight(6)), "late"))
    );
    let none = parse(&all(DAYS_30)).unwrap();
    assert_eq!(none.abort_at(&upload("b")), None);
}

#[test]
fn the_field_names_the_earliest_end_and_its_rule() {
    let expiring = |id: &str, days: u32| {
        all(&format!(
            "<ID>{id}</ID><Expiration><Days>{days}</Days></Expiration>"
        ))
    };
    let rules = parse(&(expiring("late", 9) + &expiring("a-1 \"b\"/ü", 3))).unwrap();
    let none = Tags::default();
    let facts = version("a", 1, &none, VersionKind::Current);
    assert_eq!(
        rules.expiration_header(&facts).as_deref(),
        Some("expiry-date=\"Sat, 19 Jan 2030 00:00:00 GMT\", rule-id=\"a-1%20%22b%22%2F%C3%BC\"")
    );
    let marker = version("a", 0, &none, VersionKind::CurrentMarker { is_alone: true });
    assert_eq!(rules.expiration_header(&marker), None);
    // Behind the year 9999 there is no such date, and nothing panics.
    let never = parse(&expiring("never", 2_147_483_647)).unwrap();
    assert_eq!(never.expiration_header(&facts), None);
    assert_eq!(never.verdict(&facts, at(midnight(900))), None);
}

fn filter() -> impl Strategy<Value = LifecycleFilter> {
    let tag = ("[a-z]{1,5}", "[a-z]{0,5}");
    (
        any::<bool>(),
        proptest::option::of("[a-z/<]{0,6}"),
        proptest::collection::btree_map(tag.0, tag.1, 0..3),
        proptest::option::of(0..1000_u64),
        proptest::option::of(1002..5000_u64),
    )
        .prop_map(|(is_legacy, prefix, tags, greater, less)| {
            if is_legacy {
                return LifecycleFilter {
                    is_legacy,
                    prefix: Some(prefix.unwrap_or_default()),
                    ..LifecycleFilter::default()
                };
            }
            let tags = tags.into_iter().map(|(key, value)| Tag { key, value });
            LifecycleFilter {
                is_legacy,
                prefix,
                tags: tags.collect(),
                greater_than_bytes: greater,
                less_than_bytes: less,
            }
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        filters in proptest::collection::vec(filter(), 1..5),
        days in 1..1000_u32,
        kind in 0..4,
        newer_versions in proptest::option::of(1..=100_u32),
    ) {
        let rules = filters.into_iter().enumerate().map(|(index, filter)| LifecycleRule {
            id: format!("rule {index}"),
            is_enabled: index % 2 == 0,
            filter,
            expiration: match kind {
                0 => Some(Expiration::Days(days)),
                1 => Some(Expiration::Date(at(u64::from(days) * 86_400))),
                _ => None,
            },
            noncurrent_expiration: (kind > 0).then_some(NoncurrentExpiration { days, newer_versions }),
            abort_uploads_days: None,
            transitions: vec![],
            noncurrent_transitions: vec![NoncurrentTransition {
                days,
                newer_versions,
                storage_class: "GLACIER",
            }],
        });
        let rules = LifecycleRules(rules.collect());
        let mut document = Document::new("LifecycleConfiguration", Some(NAMESPACE));
        rules.write(&mut document);
        prop_assert_eq!(LifecycleRules::parse(&document.finish()), Ok(rules));
    }

    #[test]
    fn what_has_expired_stays_so(
        days in 1..400_u32, written in 0..4_000_000_000_u64, wait in 0..40_000_000_u64,
    ) {
        let rules = parse(&all(&format!("<Expiration><Days>{days}</Days></Expiration>"))).unwrap();
        let none = Tags::default();
        let mut facts = version("a", 1, &none, VersionKind::Current);
        facts.modified = at(written);
        let (end, _) = rules.expiry(&facts).unwrap();
        let age = end.duration_since(at(written)).unwrap().as_secs();
        let least = u64::from(days) * 86_400;
        prop_assert!(age > least && age <= least + 86_400);
        let is_over = rules.verdict(&facts, at(written + wait)).is_some();
        prop_assert_eq!(is_over, wait >= age);
    }
}
