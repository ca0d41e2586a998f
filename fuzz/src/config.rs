//! The configuration file.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use tidegate::config::parse;

/// What no message may repeat. `secret.key` holds it.
const SECRET: &str = "Fuzz/secret+that+nobody+may+see";

/// A folder beside the executable, which lies in a folder for build products.
static BASE: LazyLock<PathBuf> = LazyLock::new(|| {
    let executable = std::env::current_exe().expect("the executable has a path");
    let base = executable.with_file_name("fuzz-config");
    fs::create_dir_all(&base).expect("the build folder can be written");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(base.join("secret.key"));
    let written = file.and_then(|mut file| file.write_all(SECRET.as_bytes()));
    written.expect("the build folder can be written");
    base
});

/// The bytes are the file.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if text.contains(SECRET) {
        return;
    }
    match parse(text, &BASE) {
        Ok(checked) => {
            assert!(!format!("{checked:?}").contains(SECRET));
            let keys = checked.config.edge.iter().flat_map(|edge| &edge.listeners);
            assert!(checked.config.edge.is_none() || keys.count() > 0);
        }
        Err(problems) => {
            assert!(problems.iter().count() > 0, "refused without a reason");
            assert!(!format!("{problems} {problems:?}").contains(SECRET));
            assert!(problems.iter().all(|problem| !problem.key.is_empty()));
            let again = parse(text, &BASE).err();
            assert_eq!(Some(problems), again, "the same text has the same problems");
        }
    }
}
