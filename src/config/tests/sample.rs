//! The sample says what is true.

use std::collections::BTreeMap;
use std::time::Duration;

use super::folder;
use crate::config::*;
use crate::signing::KeyKind;

const SAMPLE: &str = include_str!("../../../conf/tidegate.yaml");

/// The sample, with environment variables that are there in every test.
fn sample() -> String {
    let variables = [
        ("TIDEGATE_PLAYER_SECRET", "CARGO_PKG_VERSION"),
        ("TIDEGATE_ARCHIVE_SECRET", "CARGO_PKG_NAME"),
    ];
    variables
        .iter()
        .fold(SAMPLE.to_owned(), |sample, (shown, there)| {
            assert!(sample.contains(shown), "{shown}");
            sample.replace(shown, there)
        })
}

#[test]
fn the_sample_documents_every_key_with_its_real_default_and_range() {
    let folder = folder();
    let (result, keys) = read(&sample(), folder.path());
    result.unwrap();
    let documented = documented(SAMPLE);
    let descriptions: BTreeMap<_, _> = (documented.iter())
        .map(|(key, (description, _))| (key.clone(), description.clone()))
        .collect();
    assert_eq!(descriptions, keys);
    for (key, (description, values)) in &documented {
        let Some(default) = description.strip_prefix("default ") else {
            continue;
        };
        let (default, _) = default.split_once(';').unwrap();
        if default != "[]" {
            assert!(
                values.contains(&default.to_owned()),
                "{key} has default {default} and is shown as {values:?}"
            );
        }
    }
}

/// The keys of the sample by pattern: what the brackets above each say, and its values.
fn documented(text: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let mut documented: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut parents: Vec<(usize, String)> = Vec::new();
    let mut description: Option<String> = None;
    for line in text.lines() {
        let unindented = line.trim_start();
        if let Some(comment) = unindented.strip_prefix("# [") {
            let end = comment.find("] ").or(comment.len().checked_sub(1)).unwrap();
            description = Some(comment[..end].to_owned());
            continue;
        }
        if unindented.starts_with('#') || unindented.is_empty() {
            continue;
        }
        let entry = unindented.trim_start_matches("- ");
        let Some((key, value)) = entry
            .split_once(':')
            .filter(|(_, value)| value.is_empty() || value.starts_with(' '))
        else {
            continue;
        };
        let indent = line.len() - entry.len();
        parents.retain(|(depth, _)| *depth < indent);
        if unindented.starts_with("- ")
            && let Some((_, parent)) = parents.last_mut()
            && !parent.ends_with("[]")
        {
            parent.push_str("[]");
        }
        let pattern = match parents.last() {
            Some((_, parent)) if parent == "edge.origins" => "edge.origins.*".to_owned(),
            Some((_, parent)) => format!("{parent}.{key}"),
            None => key.to_owned(),
        };
        if let Some(description) = description.take() {
            let earlier = documented.insert(pattern.clone(), (description, Vec::new()));
            assert_eq!(earlier, None, "{pattern} is documented twice");
        }
        if let Some((_, values)) = documented.get_mut(&pattern) {
            values.push(value.trim().to_owned());
        }
        parents.push((indent, pattern));
    }
    documented
}

#[test]
fn the_defaults_in_the_docs_of_the_checked_types_are_the_real_ones() {
    let folder = folder();
    let (_, keys) = read(&sample(), folder.path());
    let source = concat!(
        include_str!("../checked.rs"),
        include_str!("../policies.rs"),
        include_str!("../rules.rs")
    );
    for (key, description) in keys {
        let name = key.rsplit('.').next().unwrap();
        let docs: Vec<&str> = (source.lines())
            .filter(|line| line.contains(&format!("`{name}`")) && line.contains("default "))
            .collect();
        let Some(default) = description
            .strip_prefix("default ")
            .and_then(|rest| rest.split(';').next())
        else {
            continue;
        };
        let says = |line: &&str| {
            ["default {}", "default `{}`", "`{}` (default)"]
                .iter()
                .any(|form| line.contains(&form.replace("{}", default)))
        };
        assert!(
            docs.is_empty() || docs.iter().any(says),
            "{key} has default {default}, but checked.rs says {docs:?}"
        );
    }
}

#[test]
fn the_sample_means_what_it_says() {
    let folder = folder();
    let Checked { config, warnings } = parse(&sample(), folder.path()).unwrap();
    let edge = config.edge.unwrap();
    let origin = config.origin.unwrap();
    assert_eq!(edge.listeners.len(), 2);
    assert_eq!(
        edge.listeners[1].tls.as_ref().unwrap().certificates[0].chain,
        folder.path().join("site.pem")
    );
    assert_eq!(edge.routes[0].name, "public");
    assert_eq!(edge.routes[1].name, "/search");
    assert_eq!(edge.routes[2].name, "/films/");
    assert_eq!(edge.routes[3].name, "/");
    assert_eq!(edge.routes[3].access, Access::Signed);
    assert_eq!(*edge.routes[3].cache, CacheRules::default());
    let taken = |route: usize| {
        let keys = edge.signing.keys.iter();
        let taken = keys.filter(|key| edge.routes[route].signing.takes(key));
        taken.map(|key| key.id.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(taken(2), ["K2JCJMDEHXQW5F", "player-2026"]);
    assert_eq!(taken(3).len(), 6);
    assert_eq!(
        edge.routes[0].cache.query,
        QueryRule::Deny(vec!["utm_source".to_owned(), "utm_medium".to_owned()])
    );
    assert_eq!(edge.routes[0].cache.max_object_bytes, Some(1 << 30));
    assert_eq!(edge.cache.memory_bytes, 256 << 20);
    let disk = edge.cache.disk.unwrap();
    assert_eq!((disk.size_bytes, disk.segment_bytes), (10 << 30, 40 << 20));
    let KeyKind::SigV4 { secret, .. } = &edge.signing.keys[0].kind else {
        panic!("the first key is an access key");
    };
    assert_eq!(secret.reveal(), "s3cret");
    let own_secrets = edge.origins.iter().map(|pool| {
        let signing = pool.signing.as_ref().unwrap();
        signing.credentials.secret.reveal()
    });
    let in_variable = env!("CARGO_PKG_NAME");
    assert_eq!(own_secrets.collect::<Vec<_>>(), ["s3cret", in_variable]);
    assert_eq!(edge.signing.clock_leeway, Duration::from_secs(900));
    assert_eq!(origin.data, folder.path().join("data/origin"));
    assert_eq!(origin.credentials[0].secret.reveal(), "s3cret");
    let rights = &origin.credentials[0].rights;
    assert_eq!(rights.level, RightsLevel::Full);
    let covered = ["media", "logs-2030", "films"].map(|bucket| rights.covers(bucket, false));
    assert_eq!(covered, [true, true, false]);
    assert_eq!(warnings, []);
}
