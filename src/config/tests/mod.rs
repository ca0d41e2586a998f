//! The configuration as a whole: the sample, and every kind of problem with its exact message.

mod keys;
mod mistakes;
mod sample;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::*;

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
