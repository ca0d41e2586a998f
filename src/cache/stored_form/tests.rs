//! Every head comes back as it was and as old as it is; bytes that are none are refused.

mod properties;

use super::*;
use crate::cache::Scheme;
use crate::cache::policy::cache_control::RequestDirectives;
use crate::cache::policy::freshness::Verdict;
use crate::cache::policy::storable::NotStored;
use crate::config::CacheRules;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The first byte of the key's string.
const KEY_AT: usize = 96;

fn at(wall_seconds: f64, monotonic_seconds: f64) -> Moment {
    Moment {
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs_f64(wall_seconds),
        monotonic: Duration::from_secs_f64(monotonic_seconds),
    }
}

fn later(moment: Moment, by: Duration) -> Moment {
    Moment {
        wall: moment.wall + by,
        monotonic: moment.monotonic + by,
    }
}

fn fields(lines: &[(&str, &[u8])]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    map
}

fn fresh_for(seconds: u64, received: Duration) -> Freshness {
    Freshness {
        lifetime: Lifetime::Explicit(Duration::from_secs(seconds)),
        initial_age: Duration::from_secs(5),
        received,
        always_validate: false,
        never_stale: false,
        while_revalidating: Duration::from_secs(7),
        if_error: Duration::from_secs(70),
    }
}

/// A head with something of everything.
fn sample(now: Moment) -> (CacheKey, Head) {
    let key = CacheKey::new(Scheme::Https, "example.com", "/a", Some("b=c"));
    let request = fields(&[("accept-encoding", b"br, gzip;q=0.5"), ("x-a", b"\xe4")]);
    let response = fields(&[
        ("vary", b"accept-encoding, x-a, x-b"),
        ("content-language", b"de"),
        ("cache-tag", b"news, front"),
        ("x-bytes", b"\t\x80\xff \""),
        ("set-cookie", b"a=1"),
        ("set-cookie", b"b=2"),
    ]);
    let selecting = Selecting::of(&request, &response, &CacheRules::default());
    let selecting = selecting.for_range(&HeaderValue::from_static("bytes=-5"));
    let freshness = fresh_for(60, now.monotonic);
    let head = Head::new(StatusCode::OK, response, freshness, selecting);
    head.set_untouched_up_to(Sequence::new(0x1112));
    (key, head)
}

const FACTS: BodyFacts = BodyFacts {
    generation: Generation::from_number(0x0300_0000_0021),
    length: Some(0x0102_0304),
};

fn form_of(head: &Head, now: Moment) -> Vec<u8> {
    let key = CacheKey::new(Scheme::Http, "h", "/", None);
    encode(&key, head, FACTS, 1, now).unwrap()
}

fn sample_form() -> Vec<u8> {
    let now = at(1e9, 100.0);
    let (key, head) = sample(now);
    encode(&key, &head, FACTS, 7, now).unwrap()
}

/// A moment at which no time has passed since `form` was written.
fn own_time(form: &[u8]) -> Option<Moment> {
    let seconds = form.get(32..40)?.try_into().ok()?;
    let nanoseconds = form.get(40..44)?.try_into().ok()?;
    let seconds = u64::from_le_bytes(seconds);
    let nanoseconds = u32::from_le_bytes(nanoseconds);
    let is_time = seconds < MAX_SECONDS && nanoseconds < 1_000_000_000;
    is_time.then(|| Moment {
        wall: SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds),
        monotonic: Duration::from_secs(3),
    })
}

/// What is accepted must be exactly what would be written.
fn assert_refused_or_canonical(form: &[u8]) {
    let now = own_time(form).unwrap_or(at(1e9, 3.0));
    let Ok(decoded) = decode(form, now) else {
        return;
    };
    let facts = BodyFacts {
        generation: Generation::from_number(decoded.generation),
        length: decoded.length,
    };
    let again = encode(&decoded.key, &decoded.head, facts, decoded.revision, now);
    assert_eq!(again.as_deref(), Ok(form));
}

#[test]
fn the_bytes_are_those_of_the_documented_format() {
    let form = sample_form();
    let mut expected = Vec::new();
    let mut push = |bytes: &[u8]| expected.extend_from_slice(bytes);
    push(&[1, 1 | 8 | 16]);
    push(&[200, 0, 7, 0, 0, 0]);
    push(&[0x21, 0, 0, 0, 0, 3, 0, 0]);
    push(&[4, 3, 2, 1, 0, 0, 0, 0]);
    push(&[0x12, 0x11, 0, 0, 0, 0, 0, 0]);
    for seconds in [1_000_000_000_u64, 5, 60, 7, 70] {
        push(&seconds.to_le_bytes());
        push(&[0; 4]);
    }
    push(&[1, 3, 6, 0]);
    let key = b"\x01\0\0\0\x0bexample.com\0\0\0\x02/a\x01\0\0\0\x03b=c";
    let strings: [&[u8]; 13] = [
        key,
        b"vary",
        b"accept-encoding, x-a, x-b",
        b"content-language",
        b"de",
        b"cache-tag",
        b"news, front",
        b"x-bytes",
        b"\t\x80\xff \"",
        b"set-cookie",
        b"a=1",
        b"set-cookie",
        b"b=2",
    ];
    let mut push_string = |string: &[u8]| {
        push(&[u8::try_from(string.len()).unwrap(), 0, 0, 0]);
        push(string);
    };
    strings.iter().for_each(|string| push_string(string));
    for (marks, strings) in [
        (
            [0, 3],
            &[&b"accept-encoding"[..], b"br, gzip;q=0.5", b">br=gzip"][..],
        ),
        ([1, 3], &[b"x-a", b"\xe4", b"\xe4"]),
        ([1, 0], &[b"x-b"]),
    ] {
        expected.extend(marks);
        for string in strings {
            expected.extend([u8::try_from(string.len()).unwrap(), 0, 0, 0]);
            expected.extend_from_slice(string);
        }
    }
    expected.extend(b"\x02\0\0\0de\x08\0\0\0bytes=-5");
    assert_eq!(
        form.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
}

#[test]
fn the_documented_format_is_the_one_of_this_module() {
    let source = include_str!("../stored_form.rs");
    let here: Vec<&str> = (source.lines())
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .skip_while(|line| *line != "```text")
        .collect();
    let end = here.iter().position(|line| *line == "```").unwrap();
    let there = include_str!("../../../docs/FORMATS.md");
    assert!(
        there.contains(&here[..=end].join("\n")),
        "docs/FORMATS.md quotes the layout"
    );
    for limit in [MAX_BYTES, MAX_FIELDS] {
        assert!(here[..end].join("\n").contains(&limit.to_string()));
    }
    assert_eq!((MAX_SECONDS, VERSION), (1 << 40, 1));
}

/// Files of this version are kept, and so are files that only look like one.
#[test]
fn forms_that_were_written_once_still_open() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/stored_form");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    let mut opened: Vec<String> = files
        .filter(|file| decode(&std::fs::read(file.path()).unwrap(), at(1e9, 3.0)).is_ok())
        .map(|file| file.file_name().into_string().unwrap())
        .collect();
    opened.sort();
    let expected = [
        "configured",
        "everything",
        "heuristic",
        "longest_times",
        "never_stale",
        "no_cache",
        "nothing_in_it",
        "one_range",
        "plain",
        "unknown_length",
        "varies",
    ];
    assert_eq!(opened, expected);
}

#[test]
fn what_only_the_first_client_may_see_is_not_written() {
    let now = at(1e9, 100.0);
    let (key, mut head) = sample(now);
    head.withheld = fields(&[("x-mine", b"secret")]);
    let form = encode(&key, &head, FACTS, 7, now).unwrap();
    assert_eq!(form, sample_form());
    assert!(decode(&form, now).unwrap().head.withheld.is_empty());
}

#[test]
fn a_head_that_the_format_cannot_hold_is_refused() {
    let now = at(1e9, 100.0);
    let key = CacheKey::new(Scheme::Http, "h", "/", None);
    let refusal = |change: &dyn Fn(&mut Head), now: Moment| {
        let (_, mut head) = sample(now);
        change(&mut head);
        encode(&key, &head, FACTS, 1, now).map(|_| ())
    };
    let numbered = |count: usize| -> HeaderMap {
        let names = (0..count).map(|n| HeaderName::try_from(format!("x-{n}")).unwrap());
        names
            .map(|name| (name, HeaderValue::from_static("1")))
            .collect()
    };
    let selecting = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("x-{n}")).collect();
        let vary = fields(&[("vary", names.join(",").as_bytes())]);
        Selecting::of(&HeaderMap::new(), &vary, &CacheRules::default())
    };
    let long = |bytes: usize| fields(&[("x", vec![b'a'; bytes].as_slice())]);
    let form_bytes = |fields: HeaderMap| {
        let head = Head::new(
            StatusCode::OK,
            fields,
            fresh_for(1, now.monotonic),
            Selecting::default(),
        );
        encode(&key, &head, FACTS, 1, now).map(|form| form.len())
    };
    let frame = form_bytes(long(0)).unwrap();
    assert_eq!(form_bytes(long(MAX_BYTES - frame)), Ok(MAX_BYTES));
    let bytes = MAX_BYTES + 1;
    assert_eq!(
        form_bytes(long(bytes - frame)),
        Err(EncodeError::TooLong { bytes })
    );

    assert_eq!(
        refusal(&|head| head.fields = numbered(MAX_FIELDS), now),
        Ok(())
    );
    let count = MAX_FIELDS + 1;
    let refused = refusal(&|head| head.fields = numbered(MAX_FIELDS + 1), now);
    assert_eq!(refused, Err(EncodeError::Fields { count }));
    assert_eq!(
        refusal(&|head| head.selecting = selecting(255), now),
        Ok(())
    );
    let refused = refusal(&|head| head.selecting = selecting(256), now);
    assert_eq!(refused, Err(EncodeError::Selecting { count: 256 }));

    let why = NotStored::Private;
    let refused = refusal(&|head| head.not_stored = Some(why), now);
    assert_eq!(refused, Err(EncodeError::NotStored(why)));

    let before = Moment {
        wall: SystemTime::UNIX_EPOCH - DAY,
        ..now
    };
    assert_eq!(refusal(&|_| (), before), Err(EncodeError::BeforeEpoch(DAY)));
    let longest = Duration::new(MAX_SECONDS - 1, 999_999_999);
    assert_eq!(
        refusal(&|head| head.freshness.if_error = longest, now),
        Ok(())
    );
    let time = Duration::from_secs(MAX_SECONDS);
    let refused = refusal(&|head| head.freshness.if_error = time, now);
    let place = Place::IfError;
    assert_eq!(refused, Err(EncodeError::Time { place, time }));
}

#[test]
fn what_is_never_written_is_refused_with_a_reason() {
    let form = sample_form();
    assert!(decode(&form, at(1e9, 3.0)).is_ok());
    let selecting_at = form
        .windows(15)
        .rposition(|part| part == b"accept-encoding")
        .unwrap()
        - 6;
    let x_a_at = form.windows(3).rposition(|part| part == b"x-a").unwrap();
    let cookie_at = form
        .windows(10)
        .rposition(|part| part == b"set-cookie")
        .unwrap();
    let language_at = form.len() - 14;
    let now = at(1e9, 3.0);
    let lifetime = Duration::from_secs(60);
    let nanoseconds = 1_000_000_000;
    for (at, bytes, expected) in [
        (0, &[2][..], DecodeError::Version { found: 2 }),
        (1, &[32], DecodeError::Flags { found: 32 }),
        (1, &[24], DecodeError::UnknownLength { found: 0x0102_0304 }),
        (2, &[99, 0], DecodeError::Status { found: 99 }),
        (2, &[0xe8, 3], DecodeError::Status { found: 1000 }),
        (
            40,
            &u32::to_le_bytes(1_000_000_000),
            DecodeError::Time {
                place: Place::Written,
                seconds: nanoseconds.into(),
                nanoseconds,
            },
        ),
        (
            68,
            &u64::to_le_bytes(MAX_SECONDS),
            DecodeError::Time {
                place: Place::WhileRevalidating,
                seconds: MAX_SECONDS,
                nanoseconds: 0,
            },
        ),
        (92, &[0], DecodeError::Lifetime { found: 0, lifetime }),
        (92, &[4], DecodeError::Lifetime { found: 4, lifetime }),
        (94, &[1, 4], DecodeError::Fields { count: 1025 }),
        (
            KEY_AT + 9,
            b"E",
            DecodeError::Key(CacheKey::from_bytes(&[0; 30]).unwrap_err()),
        ),
        (cookie_at, b"S", DecodeError::Name { bytes: 10 }),
        (cookie_at, b"cache-tag\0", DecodeError::Name { bytes: 10 }),
        (cookie_at + 14, b"\n", DecodeError::Value { number: 5 }),
        (
            selecting_at,
            &[3],
            DecodeError::SelectingRule {
                number: 0,
                found: 3,
            },
        ),
        (
            selecting_at + 1,
            &[1],
            DecodeError::SelectingFlags {
                number: 0,
                flags: 1,
            },
        ),
        (
            selecting_at + 1,
            &[7],
            DecodeError::SelectingFlags {
                number: 0,
                flags: 7,
            },
        ),
        (x_a_at, b"a-a", DecodeError::SelectingOrder { number: 1 }),
        (x_a_at, b"x-b", DecodeError::SelectingOrder { number: 2 }),
        (language_at, b"D", DecodeError::Language),
        (language_at, &[0xff], DecodeError::Language),
        (form.len() - 1, b"\0", DecodeError::Range),
    ] {
        let mut other = form.clone();
        other[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(decode(&other, now).unwrap_err(), expected, "byte {at}");
        assert!(!expected.to_string().is_empty());
    }
    // Fields 2 to 5 are cache-tag, x-bytes and two cookies; now there is a third one before x-bytes.
    let mut apart = form.clone();
    let tag_at = apart
        .windows(9)
        .position(|part| part == b"cache-tag")
        .unwrap();
    apart.splice(tag_at - 4..tag_at + 9, *b"\x0a\0\0\0set-cookie");
    let refused = decode(&apart, now).unwrap_err();
    assert_eq!(refused, DecodeError::FieldOrder { number: 4 });

    let followed = [&form[..], b"\0"].concat();
    assert_eq!(
        decode(&followed, now).unwrap_err(),
        DecodeError::Trailing { bytes: 1 }
    );
    let bytes = MAX_BYTES + 1;
    assert_eq!(
        decode(&vec![1; bytes], now).unwrap_err(),
        DecodeError::TooLong { bytes }
    );
    for length in 0..form.len() {
        let refused = decode(&form[..length], now).unwrap_err();
        let DecodeError::Truncated {
            offset,
            wanted_bytes,
        } = refused
        else {
            panic!("{length}: {refused}");
        };
        assert!(offset <= length && offset + wanted_bytes > length);
    }
}

#[test]
fn time_that_passes_while_nobody_runs_counts() {
    let stored = at(1e9, 5_000.0);
    let head = Head::new(
        StatusCode::OK,
        HeaderMap::new(),
        fresh_for(60, stored.monotonic),
        Selecting::default(),
    );
    let asked = RequestDirectives::default();
    // Written ten seconds after it came in, at the age of 15 s; then the process ends.
    let form = form_of(&head, later(stored, Duration::from_secs(10)));
    for (passed, age, verdict) in [
        (0.0, 15, Verdict::Fresh),
        (44.9, 59, Verdict::Fresh),
        (45.0, 60, Verdict::WhileRevalidating),
        (52.0, 67, Verdict::Stale { if_error: true }),
        (115.0, 130, Verdict::Stale { if_error: false }),
    ] {
        let now = at(1e9 + 10.0 + passed, 1.0);
        let freshness = decode(&form, now).unwrap().head.freshness;
        assert_eq!(freshness.current_age(now).as_secs(), age, "{passed}");
        assert_eq!(freshness.judge(&asked, now), verdict, "{passed}");
        assert_eq!(freshness.ttl_seconds(now), 60 - age as i64, "{passed}");
    }
}

/// Requests that make much of a stale response, or little.
fn requests() -> impl Iterator<Item = RequestDirectives> {
    let values = [
        "",
        "max-stale",
        "max-stale=9",
        "stale-if-error=99",
        "max-age=30",
        "min-fresh=5",
        "no-cache",
    ];
    values
        .into_iter()
        .map(|value| RequestDirectives::of(&fields(&[("cache-control", value.as_bytes())])))
}

#[test]
fn a_wall_clock_that_stands_before_the_time_of_writing_makes_it_never_fresher() {
    let stored = at(1e9, 50.0);
    for (lifetime, never_stale) in [(60, false), (0, false), (60, true)] {
        let mut freshness = fresh_for(lifetime, stored.monotonic);
        freshness.never_stale = never_stale;
        let head = Head::new(
            StatusCode::OK,
            HeaderMap::new(),
            freshness,
            Selecting::default(),
        );
        let form = form_of(&head, stored);
        for behind in [
            Duration::from_nanos(1),
            DAY,
            Duration::from_secs(1_000_000_000),
        ] {
            let now = Moment {
                wall: stored.wall - behind,
                monotonic: Duration::from_secs(2),
            };
            let freshness = decode(&form, now).unwrap().head.freshness;
            for after in [Duration::ZERO, Duration::from_secs(1), behind, DAY] {
                let then = later(now, after);
                for request in requests() {
                    let verdict = freshness.judge(&request, then);
                    let must_validate = Verdict::Stale { if_error: false };
                    assert_eq!(verdict, must_validate, "{behind:?} {after:?} {request:?}");
                }
                assert!(freshness.ttl_seconds(then) <= 0);
            }
        }
        let form_again = {
            let now = Moment {
                wall: stored.wall - DAY,
                ..stored
            };
            form_of(&decode(&form, now).unwrap().head, now)
        };
        let freshness = decode(&form_again, stored).unwrap().head.freshness;
        assert_ne!(
            freshness.judge(&RequestDirectives::default(), stored),
            Verdict::Fresh
        );
    }
}
