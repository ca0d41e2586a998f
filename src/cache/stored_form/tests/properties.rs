//! Any head comes back; any bytes are refused or mean themselves.

use proptest::prelude::*;

use super::*;

fn any_time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        (0..200_u64, 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n)),
        (0..10_000_000_u64).prop_map(Duration::from_secs),
    ]
}

fn any_freshness() -> impl Strategy<Value = Freshness> {
    let times = (any_time(), any_time(), any_time(), any_time(), any_time());
    (0..4, times, any::<bool>(), any::<bool>()).prop_map(|(source, times, always, never)| {
        let (lifetime, initial_age, received, while_revalidating, if_error) = times;
        Freshness {
            lifetime: match source {
                0 => Lifetime::Unknown,
                1 => Lifetime::Explicit(lifetime),
                2 => Lifetime::Configured(lifetime),
                _ => Lifetime::Heuristic(lifetime),
            },
            initial_age,
            received,
            always_validate: always,
            never_stale: never,
            while_revalidating,
            if_error,
        }
    })
}

fn any_fields() -> impl Strategy<Value = HeaderMap> {
    let name = prop_oneof![
        "cache-tag|surrogate-key|etag|vary|accept-language|x-[a-c]",
        "[a-z0-9!#~-]{1,9}"
    ];
    let byte = prop_oneof![4 => b' '..=b'~', 1 => 0x80..=0xff_u8, 1 => Just(b'\t')];
    let value = prop_oneof![
        Just(b"x-a, accept-language".to_vec()),
        proptest::collection::vec(byte, 0..12),
    ];
    proptest::collection::vec((name, value), 0..12).prop_map(|lines| {
        let lines: Vec<(&str, &[u8])> = lines
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_slice()))
            .collect();
        fields(&lines)
    })
}

fn any_key() -> impl Strategy<Value = CacheKey> {
    let parts = (
        any::<bool>(),
        "[a-z.]{0,9}",
        "/[ -~é]{0,9}",
        proptest::option::of("[ -~]{0,9}"),
    );
    parts.prop_map(|(tls, authority, path, query)| {
        let scheme = if tls { Scheme::Https } else { Scheme::Http };
        CacheKey::new(scheme, &authority, &path, query.as_deref())
    })
}

fn any_head() -> impl Strategy<Value = Head> {
    let range = proptest::option::of(Just(HeaderValue::from_static("bytes=0-1,3-4")));
    let status = (100..1000_u16).prop_map(|status| StatusCode::from_u16(status).unwrap());
    (
        status,
        any_fields(),
        any_fields(),
        any_freshness(),
        range,
        any::<u64>(),
    )
        .prop_map(|(status, request, response, freshness, range, purge)| {
            let mut selecting = Selecting::of(&request, &response, &CacheRules::default());
            if let Some(range) = range {
                selecting = selecting.for_range(&range);
            }
            let head = Head::new(status, response, freshness, selecting);
            head.set_untouched_up_to(Sequence::new(purge));
            head
        })
}

proptest! {
    #[test]
    fn a_head_comes_back_as_it_was_and_as_old_as_it_is(
        key in any_key(), head in any_head(), number in any::<u64>(),
        length in proptest::option::of(any::<u64>()), revision in any::<u32>(),
        resident in any_time(), away in any_time(), uptime in any_time(), steps in [any_time(), any_time()],
    ) {
        let received = Moment {
            wall: SystemTime::UNIX_EPOCH + DAY * 20_000,
            monotonic: head.freshness.received,
        };
        let written = later(received, resident);
        let facts = BodyFacts { generation: Generation::from_number(number), length };
        let form = encode(&key, &head, facts, revision, written).unwrap();
        // Another process reads it.
        let read = Moment { wall: written.wall + away, monotonic: uptime };
        let decoded = decode(&form, read).unwrap();
        prop_assert_eq!(&decoded.key, &key);
        prop_assert_eq!((decoded.generation, decoded.length), (number, length));
        prop_assert_eq!(decoded.revision, revision);
        let back = &decoded.head;
        prop_assert_eq!(back.status, head.status);
        prop_assert_eq!(&back.fields, &head.fields);
        prop_assert_eq!(&back.wire, &head.wire);
        prop_assert_eq!(&back.tags, &head.tags);
        prop_assert_eq!(&back.selecting, &head.selecting);
        prop_assert_eq!(back.untouched_up_to(), head.untouched_up_to());
        prop_assert!(back.not_stored.is_none() && back.withheld.is_empty());
        prop_assert!(!back.has_failed_validation(Duration::ZERO));
        // From here on both grow older alike.
        let mut there = later(written, away);
        let mut here = read;
        for step in [Duration::ZERO].into_iter().chain(steps) {
            (there, here) = (later(there, step), later(here, step));
            let (was, is) = (&head.freshness, &back.freshness);
            prop_assert_eq!(was.lifetime, is.lifetime);
            prop_assert_eq!(was.current_age(there), is.current_age(here));
            prop_assert_eq!(was.ttl_seconds(there), is.ttl_seconds(here));
            for request in requests() {
                prop_assert_eq!(was.judge(&request, there), is.judge(&request, here));
            }
        }
        assert_refused_or_canonical(&form);
    }

    #[test]
    fn altered_bytes_are_refused_or_mean_themselves(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut form = sample_form();
        for (place, byte) in edits {
            let place = place.index(form.len());
            form[place] = byte;
        }
        form.truncate(cut.map_or(form.len(), |cut| cut.index(form.len())));
        assert_refused_or_canonical(&form);
    }

    #[test]
    fn any_bytes_are_refused_or_mean_themselves(form in proptest::collection::vec(any::<u8>(), 0..300)) {
        assert_refused_or_canonical(&form);
        assert_refused_or_canonical(&[&[VERSION, 0, 200, 0][..], &form].concat());
    }
}
