//! All other mistakes.

use super::{SOUND, folder, problems, write};
use crate::config::parse;

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
            "origin.bucket: unknown key (known: address, data, disks, redundancy, cold, scrub, region, domain, webhooks, webhook_ca_file, purge, credentials)",
        ),
        (
            "  data: data",
            "  data: data\n  '': x",
            "origin.\"\": unknown key (known: address, data, disks, redundancy, cold, scrub, region, domain, webhooks, webhook_ca_file, purge, credentials)",
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
