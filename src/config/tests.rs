//! The configuration as a whole: the sample, and every kind of problem with its exact message.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::signing::KeyKind;

const SAMPLE: &str = include_str!("../../conf/tidegate.yaml");

/// A folder with the files that configurations here name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let site = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write(folder.path(), "site.pem", site.cert.pem(), 0o644);
    write(
        folder.path(),
        "site.key",
        site.signing_key.serialize_pem(),
        0o600,
    );
    write(folder.path(), "demo.key", " s3cret \n", 0o600);
    let public = site.signing_key.public_key_pem();
    write(folder.path(), "cloudfront.pem", public, 0o644);
    let secret = "a".repeat(42) + "A";
    let jwks = format!(r#"{{"keys":[{{"kty":"oct","kid":"k1","k":"{secret}"}}]}}"#);
    write(folder.path(), "jwks.json", jwks, 0o600);
    folder
}

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

fn write(folder: &Path, name: &str, contents: impl AsRef<[u8]>, mode: u32) {
    let file = folder.join(name);
    fs::write(&file, contents).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

/// The problems of a text, one a line, with the folder's name taken out.
fn problems(folder: &Path, text: &str) -> String {
    match parse(text, folder) {
        Ok(checked) => panic!("accepted: {checked:?}"),
        Err(problems) => problems
            .to_string()
            .replace(&format!("{}/", folder.display()), ""),
    }
}

/// A sound configuration to break in one place.
const SOUND: &str = "\
edge:
  listeners:
    - address: 127.0.0.1:8080
  origins:
    store:
      servers: [127.0.0.1:9000]
  routes:
    - { origin: store, access: public }
origin:
  address: 127.0.0.1:9000
  data: data
  credentials: [{ access_key_id: demo, secret_file: demo.key }]
";

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
        include_str!("checked.rs"),
        include_str!("policies.rs"),
        include_str!("rules.rs")
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
    let covered = ["media", "logs-2030", "films"].map(|bucket| rights.covers(bucket));
    assert_eq!(covered, [true, true, false]);
    assert_eq!(warnings, []);
}

#[test]
fn a_minimal_configuration_takes_every_default() {
    let folder = folder();
    let Checked { config, warnings } = parse(SOUND, folder.path()).unwrap();
    assert!(warnings.is_empty());
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9900");
    assert_eq!(config.log.level, "info");
    let edge = config.edge.unwrap();
    assert_eq!(edge.origins[0].idle_timeout, Duration::from_secs(60));
    assert_eq!(edge.origins[0].health.unhealthy_after, 2);
    assert_eq!(edge.origins[0].health.path, None);
    assert_eq!(edge.routes[0].path, "/");
    assert_eq!(*edge.routes[0].cache, CacheRules::default());
    assert_eq!(edge.limits.request_head_bytes, 32 << 10);
    assert_eq!(edge.timeouts.drain, Duration::from_secs(5));
    assert_eq!(edge.access_log, AccessLog::Stdout);
    let origin = config.origin.unwrap();
    assert_eq!(origin.region, "us-east-1");
    assert_eq!(origin.credentials[0].rights, Rights::default());
}

#[test]
fn mistakes_about_keys_are_named_with_the_key_and_the_reason() {
    let folder = folder();
    write(folder.path(), "open.json", "{}", 0o644);
    write(folder.path(), "empty.json", r#"{"keys":[]}"#, 0o600);
    write(
        folder.path(),
        "long.json",
        vec![b' '; (256 << 10) + 1],
        0o600,
    );
    let signed = SOUND.replace("access: public", "access: signed");
    let sound = "{ id: a, secret_file: demo.key }";
    let link = "id: b, scheme: secure_link, secret_file: demo.key";
    let at = "edge.signing.keys[0]";
    for (keys, expected) in [
        (sound, String::new()),
        (
            "{ id: a }",
            format!("{at}: give exactly one of: secret_file, secret_env"),
        ),
        (
            "{ id: a, secret_file: demo.key, secret_env: CARGO_PKG_NAME }",
            format!("{at}: give exactly one of: secret_file, secret_env"),
        ),
        (
            "{ id: a, secret_env: TIDEGATE_NOT_SET }",
            format!(
                "{at}.secret_env: the environment variable TIDEGATE_NOT_SET does not hold one line of visible ASCII text"
            ),
        ),
        (
            "{ id: a, secret_env: 'A B' }",
            format!("{at}.secret_env: \"A B\" is not the name of an environment variable"),
        ),
        (
            "{ id: a, scheme: sigv5, secret_file: demo.key }",
            format!(
                "{at}.scheme: \"sigv5\" is not one of: sigv4, cloudfront, token, secure_link, jwt, uri_signing"
            ),
        ),
        (
            "{ id: a, secret_file: demo.key, issuer: x, methods: [GET] }",
            format!(
                "{at}.issuer: a key of the scheme sigv4 has no such setting\n{at}.methods: a key of the scheme sigv4 has no such setting"
            ),
        ),
        (
            "{ id: a, scheme: cloudfront }",
            format!("{at}.public_key_file: missing, and it has no default"),
        ),
        (
            "{ id: a, scheme: cloudfront, public_key_file: site.pem }",
            format!(
                "{at}.public_key_file: \"site.pem\": there is no PEM public key in it (BEGIN PUBLIC KEY)"
            ),
        ),
        (
            "{ id: a, scheme: cloudfront, public_key_file: cloudfront.pem, secret_file: demo.key }",
            format!("{at}.secret_file: a key of the scheme cloudfront has no such setting"),
        ),
        (
            "{ id: a, scheme: token, secret_file: demo.key, secret_encoding: hex }",
            format!("{at}.secret_encoding: the secret is not hexadecimal"),
        ),
        (
            "{ id: a, scheme: token, secret_file: demo.key, methods: [get] }",
            format!(
                "{at}.methods[0]: \"get\" is not a method that is served: in upper case, neither CONNECT nor TRACE"
            ),
        ),
        (
            &format!("{{ {link}, expression: '$uri' }}"),
            format!("{at}.expression: it must hold $secure_link_expires, $uri and $secret"),
        ),
        (
            &format!("{{ {link}, expression: '$args' }}"),
            format!(
                "{at}.expression: a variable is none of $secure_link_expires, $uri, $remote_addr and $secret"
            ),
        ),
        (
            "{ id: a, scheme: jwt }",
            format!("{at}.jwks_file: missing, and it has no default"),
        ),
        (
            "{ id: a, scheme: jwt, jwks_file: open.json }",
            format!(
                "{at}.jwks_file: \"open.json\" is open to every user (mode 0644); run: chmod 600 open.json"
            ),
        ),
        (
            "{ id: a, scheme: uri_signing, jwks_file: empty.json }",
            format!(
                "{at}.jwks_file: \"empty.json\": it holds no key for HS256, RS256, ES256 or EdDSA (Ed25519)"
            ),
        ),
        (
            "{ id: a, scheme: uri_signing, jwks_file: jwks.json, renewal_key: k2 }",
            format!("{at}.renewal_key: jwks_file holds no secret (kty oct) with the kid \"k2\""),
        ),
        (
            "{ id: a, scheme: jwt, jwks_file: jwks.json, renewal_key: k1 }",
            format!("{at}.renewal_key: a key of the scheme jwt has no such setting"),
        ),
        (
            "{ id: a, scheme: jwt, jwks_file: long.json }",
            format!(
                "{at}.jwks_file: \"long.json\" is 262145 bytes long; a secret has at most 262144"
            ),
        ),
    ] {
        let text = signed.replace(
            "  routes:",
            &format!("  signing: {{ keys: [{keys}] }}\n  routes:"),
        );
        let found = match parse(&text, folder.path()) {
            Ok(_) => String::new(),
            Err(_) => problems(folder.path(), &text),
        };
        assert_eq!(found.trim_end(), expected, "{keys}");
    }
    let keys = format!("signing: {{ keys: [{sound}, {{ {link} }}] }}");
    for (route, expected) in [
        ("access: signed, signing: { keys: [a] }", ""),
        (
            "access: signed, signing: { schemes: [secure_link, sigv4], keys: [b] }",
            "",
        ),
        (
            "access: signed, signing: { keys: [c] }",
            "edge.routes[0].signing.keys: no key of edge.signing.keys has the id \"c\"",
        ),
        (
            "access: signed, signing: { schemes: [jwt] }",
            "edge.routes[0].signing.schemes: no key of edge.signing.keys is of the scheme jwt",
        ),
        (
            "access: signed, signing: { schemes: [sigv4], keys: [b] }",
            "edge.routes[0].access: access is signed, but edge.signing.keys has no key to verify a signature with",
        ),
        (
            "access: public, signing: { keys: [a] }",
            "edge.routes[0].signing: access is public, so no key is asked for",
        ),
    ] {
        let text = SOUND.replace("access: public", route);
        let text = text.replace("  routes:", &format!("  {keys}\n  routes:"));
        let found = match parse(&text, folder.path()) {
            Ok(_) => String::new(),
            Err(_) => problems(folder.path(), &text),
        };
        assert_eq!(found.trim_end(), expected, "{route}");
    }
}

#[test]
fn every_kind_of_mistake_is_named_with_its_key_and_reason() {
    let folder = folder();
    write(folder.path(), "open.key", "secret", 0o644);
    write(folder.path(), "empty.key", " \n", 0o600);
    write(folder.path(), "lines.key", "one\ntwo", 0o600);
    write(folder.path(), "binary.key", [0xff, 0xfe], 0o600);
    write(folder.path(), "long.key", vec![b'a'; 4097], 0o600);
    write(
        folder.path(),
        "garbled.pem",
        "-----BEGIN CERTIFICATE-----\nMIIB",
        0o600,
    );
    let cases = [
        // The shape of the tree.
        ("edge:", "egde:", "egde: unknown key; did you mean edge?"),
        (
            "  routes:",
            "  rotues:",
            "edge.routes: missing, and it has no default\nedge.rotues: unknown key; did you mean routes?",
        ),
        (
            "  data: data",
            "  data: data\n  bucket: x",
            "origin.bucket: unknown key (known: address, data, disks, redundancy, scrub, region, domain, webhooks, purge, credentials)",
        ),
        (
            "  data: data",
            "  data: data\n  '': x",
            "origin.\"\": unknown key (known: address, data, disks, redundancy, scrub, region, domain, webhooks, purge, credentials)",
        ),
        (
            "edge:",
            "'': x\nedge:",
            "\"\": unknown key (known: admin, log, edge, origin)",
        ),
        (
            "  data: data",
            "  data: data\n  1: x",
            "origin: keys must be text, found a number as a key",
        ),
        (
            "  data: data",
            "  data:",
            "origin.data: no value is given; write one or remove the key",
        ),
        (
            "  data: data",
            "  data: [data]",
            "origin.data: expected text, found a list",
        ),
        (
            "  data: data",
            "  data: ''",
            "origin.data: must not be empty",
        ),
        (
            "  data: data\n",
            "",
            "origin.data: missing, and it has no default",
        ),
        (
            "    - address: 127.0.0.1:8080",
            "    []",
            "edge.listeners: needs at least one entry",
        ),
        (
            "    - address: 127.0.0.1:8080",
            "    8080",
            "edge.listeners: expected a list, found a number",
        ),
        (
            "    - address: 127.0.0.1:8080",
            "    - 127.0.0.1:8080",
            "edge.listeners[0]: expected a mapping, found text",
        ),
        (
            "[127.0.0.1:9000]",
            "127.0.0.1:9000",
            "edge.origins.store.servers: expected a list, found text",
        ),
        (
            "edge:",
            "admin: 9900\nedge:",
            "admin: expected a mapping, found a number",
        ),
        // Addresses and names.
        (
            "127.0.0.1:8080",
            "localhost:8080",
            "edge.listeners[0].address: \"localhost:8080\" is not IP:port, such as 127.0.0.1:8080 or [::1]:8080",
        ),
        (
            "127.0.0.1:8080",
            "127.0.0.1:9000",
            "origin.address: 127.0.0.1:9000 is taken by edge.listeners[0].address (127.0.0.1:9000)",
        ),
        (
            "127.0.0.1:8080",
            "0.0.0.0:9900",
            "edge.listeners[0].address: 0.0.0.0:9900 is taken by admin.address (127.0.0.1:9900)",
        ),
        (
            "[127.0.0.1:9000]",
            "[9000]",
            "edge.origins.store.servers[0]: expected text, found a number",
        ),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000]\n      signing: { region: r, host: 'https://s3', credentials: { access_key_id: a, secret_file: demo.key } }",
            "edge.origins.store.signing.host: \"https://s3\" is not a host or host:port, such as s3.eu-west-1.amazonaws.com or minio:9000",
        ),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000]\n      signing: { region: r, credentials: { access_key_id: a } }",
            "edge.origins.store.signing.credentials: give exactly one of: secret_file, secret_env",
        ),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000]\n      signing: { region: r, credentials: { access_key_id: a, secret_file: demo.key, secret_env: CARGO_PKG_NAME } }",
            "edge.origins.store.signing.credentials: give exactly one of: secret_file, secret_env",
        ),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000]\n      signing: { region: r, credentials: { access_key_id: a, secret_env: TIDEGATE_NOT_SET } }",
            "edge.origins.store.signing.credentials.secret_env: the environment variable TIDEGATE_NOT_SET does not hold one line of visible ASCII text",
        ),
        (
            "[127.0.0.1:9000]\n  routes:\n    - {",
            "[127.0.0.1:9000]\n      signing: { region: r, credentials: { access_key_id: a, secret_file: demo.key } }\n  routes:\n    - { upload_forms: true,",
            "edge.routes[0].upload_forms: forms are verified by the origin, but this one is asked with edge.origins.*.signing",
        ),
        (
            "[127.0.0.1:9000]",
            "[store]",
            "edge.origins.store.servers[0]: \"store\" is not host:port, such as 127.0.0.1:9000, [::1]:9000 or store.example:9000",
        ),
        (
            "[127.0.0.1:9000]",
            "[a:1, b:1, a:1]",
            "edge.origins.store.servers[2]: \"a:1\" is already used by edge.origins.store.servers[0]",
        ),
        (
            "origin: store,",
            "origin: stor,",
            "edge.routes[0].origin: no origin is named \"stor\" (known: store)",
        ),
        (
            "    store:",
            "    st ore:",
            "edge.origins.st ore: \"st ore\" holds a character other than letters, digits and . _ - / : *\nedge.routes[0].origin: no origin is named \"store\" (known: st ore)",
        ),
        (
            "access: public",
            "access: open",
            "edge.routes[0].access: \"open\" is not one of: public, signed",
        ),
        (
            "origin: store,",
            "origin: store, path: public,",
            "edge.routes[0].path: \"public\" is not a path: it must begin with / and hold no ?, #, space or dot segment",
        ),
        (
            "origin: store,",
            "origin: store, host: 'CDN:80',",
            "edge.routes[0].host: \"CDN:80\" is not a host name in lower case without a port",
        ),
        (
            "  data: data",
            "  data: data\n  region: us/east",
            "origin.region: \"us/east\" cannot stand in a credential: use letters, digits and . _ - only",
        ),
        (
            "secret_file: demo.key }",
            "secret_file: demo.key, rights: write }",
            "origin.credentials[0].rights: \"write\" is not one of: read-only, read-write, full",
        ),
        (
            "secret_file: demo.key }",
            "secret_file: demo.key, buckets: ['logs-*', Photos] }",
            "origin.credentials[0].buckets[1]: \"Photos\" could name no bucket: use a-z, 0-9, . and -, and * and ? as wildcards",
        ),
        // Sizes, durations and numbers.
        (
            "edge:",
            "edge:\n  cache: { memory: 256 }",
            "edge.cache.memory: 256 has no unit; write 256MiB, for instance",
        ),
        (
            "edge:",
            "edge:\n  cache: { memory: '256' }",
            "edge.cache.memory: \"256\" has no unit; write one of B, KiB, MiB, GiB, TiB, PiB, KB, MB, GB, TB, PB",
        ),
        (
            "edge:",
            "edge:\n  cache: { memory: 1023KiB }",
            "edge.cache.memory: 1023KiB is out of range: 1MiB to 64TiB",
        ),
        (
            "edge:",
            "edge:\n  cache: { disk: { path: c, size: 1GiB, segment: 256MiB } }",
            "edge.cache.disk.segment: size holds 4 segments of this size: 8 to 4095 are possible",
        ),
        (
            "edge:",
            "edge:\n  cache: { disk: { path: c, size: 63MiB } }",
            "edge.cache.disk.size: 63MiB is out of range: 64MiB to 4TiB",
        ),
        (
            "edge:",
            "edge:\n  timeouts: { drain: 5 }",
            "edge.timeouts.drain: 5 has no unit; write 30s, for instance",
        ),
        (
            "edge:",
            "edge:\n  timeouts: { drain: 25h }",
            "edge.timeouts.drain: 25h is out of range: 0s to 1d",
        ),
        (
            "edge:",
            "edge:\n  timeouts: { drain: soon }",
            "edge.timeouts.drain: \"soon\" does not begin with a whole number, such as 30s",
        ),
        (
            "edge:",
            "edge:\n  timeouts: { drain: true }",
            "edge.timeouts.drain: expected a number with a unit, found a boolean",
        ),
        (
            "edge:",
            "edge:\n  workers: 0",
            "edge.workers: 0 is out of range: 1 to 1024",
        ),
        (
            "edge:",
            "edge:\n  workers: 1.5",
            "edge.workers: 1.5 is out of range: 1 to 1024",
        ),
        (
            "edge:",
            "edge:\n  workers: two",
            "edge.workers: expected a whole number, found text",
        ),
        (
            "edge:",
            "log: { level: loud }\nedge:",
            "log.level: \"loud\" is not one of: error, warn, info, debug, trace",
        ),
        // Between places.
        (
            "access: public",
            "access: signed",
            "edge.routes[0].access: access is signed, but edge.signing.keys has no key to verify a signature with",
        ),
        (
            "origin:\n",
            "    - { path: /a, origin: store, access: public }\norigin:\n",
            "edge.routes[1]: never reached: edge.routes[0] comes first and matches all of it",
        ),
        (
            "    - { origin: store, access: public }",
            "    - { name: a, path: /a, origin: store, access: public }\n    - { name: a, origin: store, access: public }",
            "edge.routes[1].name: \"a\" is already used by edge.routes[0].name",
        ),
        (
            "edge:",
            "edge:\n  signing: { keys: [{ id: a, secret_file: demo.key }, { id: a, secret_file: demo.key }] }",
            "edge.signing.keys[1].id: \"a\" is already used by edge.signing.keys[0].id",
        ),
        (
            "edge:",
            "edge:\n  cache: { disk: { path: data/cache, size: 1GiB } }",
            "edge.cache.disk.path: \"data/cache\" must be a folder of its own, but origin.data is \"data\"",
        ),
        // Files.
        (
            "demo.key",
            "no.key",
            "origin.credentials[0].secret_file: cannot read \"no.key\": no such file",
        ),
        (
            "demo.key",
            ".",
            "origin.credentials[0].secret_file: \".\" is not a regular file",
        ),
        (
            "demo.key",
            "open.key",
            "origin.credentials[0].secret_file: \"open.key\" is open to every user (mode 0644); run: chmod 600 open.key",
        ),
        (
            "demo.key",
            "empty.key",
            "origin.credentials[0].secret_file: \"empty.key\" holds no secret: it is empty",
        ),
        (
            "demo.key",
            "lines.key",
            "origin.credentials[0].secret_file: \"lines.key\" does not hold one line of visible ASCII text",
        ),
        (
            "demo.key",
            "binary.key",
            "origin.credentials[0].secret_file: \"binary.key\" does not hold one line of visible ASCII text",
        ),
        (
            "demo.key",
            "long.key",
            "origin.credentials[0].secret_file: \"long.key\" is 4097 bytes long; a secret has at most 4096",
        ),
        (
            "address: 127.0.0.1:8080",
            "{ address: 127.0.0.1:8080, tls: { certificates: [{ chain: demo.key, key: demo.key }] } }",
            "edge.listeners[0].tls.certificates[0].chain: \"demo.key\" holds no PEM certificate\nedge.listeners[0].tls.certificates[0].key: \"demo.key\" holds no PEM private key (PKCS#8, PKCS#1 or SEC1)",
        ),
        (
            "address: 127.0.0.1:8080",
            "{ address: 127.0.0.1:8080, tls: { certificates: [{ chain: garbled.pem, key: site.key }] } }",
            "edge.listeners[0].tls.certificates[0].chain: \"garbled.pem\" is not well-formed PEM",
        ),
        (
            "address: 127.0.0.1:8080",
            "{ address: 127.0.0.1:8080, tls: { certificates: [] } }",
            "edge.listeners[0].tls.certificates: needs at least one entry",
        ),
    ];
    for (from, to, expected) in cases {
        assert!(SOUND.contains(from), "{from:?} is not in the sound one");
        let broken = SOUND.replacen(from, to, 1);
        let found = problems(folder.path(), &broken);
        assert_eq!(found, expected, "{broken}");
    }
}

#[test]
fn a_text_that_is_no_configuration_is_refused_as_a_whole() {
    let folder = folder();
    for (text, expected) in [
        (
            "",
            "(top): the file holds no settings; give it at least one of: edge, origin",
        ),
        (
            "# nothing\n",
            "(top): the file holds no settings; give it at least one of: edge, origin",
        ),
        ("[]", "(top): expected a mapping, found a list"),
        (
            "admin: {}",
            "(top): there is nothing to run; give it at least one of: edge, origin",
        ),
        (
            "a: [",
            "(top): this is not YAML: did not find expected node content at line 2 column 1, while parsing a flow node",
        ),
        (
            "a: 1\na: 2\n",
            "(top): this is not YAML: duplicate entry with key \"a\"",
        ),
        (
            "a: 1\n---\na: 2\n",
            "(top): this is not YAML: deserializing from YAML containing more than one document is not supported",
        ),
    ] {
        assert_eq!(problems(folder.path(), text), expected, "{text:?}");
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_keys() {
    let folder = folder();
    let text = SOUND
        .replace("127.0.0.1:8080", "8080")
        .replace("servers", "server")
        .replace("access: public", "acess: public")
        .replace("demo.key", "no.key");
    assert_eq!(
        problems(folder.path(), &text),
        "\
edge.listeners[0].address: expected text, found a number
edge.origins.store.servers: missing, and it has no default
edge.origins.store.server: unknown key; did you mean servers?
edge.routes[0].access: missing, and it has no default
edge.routes[0].acess: unknown key; did you mean access?
origin.credentials[0].secret_file: cannot read \"no.key\": no such file"
    );
}

#[test]
fn no_message_repeats_a_secret() {
    let folder = folder();
    let secret = "wJalrXUtnFEMI";
    for name in ["world.key", "long.key", "lines.key"] {
        let (contents, mode) = match name {
            "world.key" => (secret.to_owned(), 0o604),
            "long.key" => (secret.repeat(1000), 0o600),
            _ => (format!("{secret}\n{secret}"), 0o600),
        };
        write(folder.path(), name, contents, mode);
        let found = problems(folder.path(), &SOUND.replace("demo.key", name));
        assert!(!found.contains(secret), "{found}");
    }
    let inline = SOUND.replace("secret_file: demo.key", &format!("secret: {secret}"));
    let found = problems(folder.path(), &inline);
    assert!(!found.contains(secret), "{found}");
    let checked = parse(&SOUND.replace("us-east-1", "x"), folder.path()).unwrap();
    assert!(!format!("{checked:?}").contains("s3cret"));
}

#[test]
fn a_private_key_that_everybody_may_read_is_a_warning() {
    let folder = folder();
    let key = folder.path().join("site.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let tls = "address: 127.0.0.1:8080\n      tls: { certificates: [{ chain: site.pem, key: site.key }] }";
    let text = SOUND.replace("address: 127.0.0.1:8080", tls);
    let checked = parse(&text, folder.path()).unwrap();
    assert_eq!(
        checked.warnings,
        [Warning::PrivateKeyOpen {
            key: "edge.listeners[0].tls.certificates[0].key".to_owned(),
            file: key,
            mode: 0o644,
        }]
    );
}

#[test]
fn relative_paths_start_at_the_file_that_names_them() {
    let folder = folder();
    write(folder.path(), "tidegate.yaml", SOUND, 0o644);
    let checked = load(&folder.path().join("tidegate.yaml")).unwrap();
    assert_eq!(
        checked.config.origin.unwrap().data,
        folder.path().join("data")
    );
    let missing = load(&folder.path().join("no.yaml")).unwrap_err();
    assert_eq!(
        missing.to_string(),
        format!(
            "--config: cannot read {:?}: no such file",
            folder.path().join("no.yaml")
        )
    );
}
