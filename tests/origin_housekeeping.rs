//! Looking after a store, as an operator does it: the real binary, a folder of files, and a node on free ports.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

fn tidegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

/// Exit code, standard output and standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = tidegate(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A configuration of a store alone, and a folder of files to be brought in.
struct Place {
    folder: TempDir,
    config: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("demo.key");
        fs::write(&secret, "s3cret\n").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let config = folder.path().join("tidegate.yaml");
        let text = "\
admin: { address: 127.0.0.1:0 }
origin:
  address: 127.0.0.1:0
  data: data
  scrub: { bytes_per_second: none }
  credentials: [{ access_key_id: demo, secret_file: demo.key }]
";
        fs::write(&config, text).unwrap();
        let config = config.to_str().unwrap().to_owned();
        let place = Place { folder, config };
        place.file("films/a film.mp4", 2 << 20, 1_000_000_000);
        place.file("films/list.m3u8", 100_000, 1_100_000_000);
        place.file("readme.txt", 12, 1_200_000_000);
        place
    }

    fn file(&self, name: &str, length: usize, modified_s: u64) {
        let path = self.folder.path().join("files").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes: Vec<u8> = (0..length).map(|at| ((at * 7) >> 4) as u8).collect();
        fs::write(&path, bytes).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        let modified = UNIX_EPOCH + Duration::from_secs(modified_s);
        file.set_modified(modified).unwrap();
    }

    fn import(&self) -> (i32, String, String) {
        let files = self.folder.path().join("files");
        let files = files.to_str().unwrap();
        let config = self.config.as_str();
        run(&[
            "origin", "import", "--config", config, "--bucket", "media", files,
        ])
    }

    fn verify(&self) -> (i32, String, String) {
        run(&["origin", "fsck", "--config", &self.config])
    }

    /// The files of blobs.
    fn blobs(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for shard in fs::read_dir(self.folder.path().join("data/blobs/d0/big")).unwrap() {
            for file in fs::read_dir(shard.unwrap().path()).unwrap() {
                found.push(file.unwrap().path());
            }
        }
        found
    }

    fn start(&self) -> Node {
        let mut child = tidegate(&["origin", "--config", &self.config])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (mut store, mut admin) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended early");
            if let Some((_, address)) = line.split_once("listening for S3 address=") {
                store = address.trim().to_owned();
            }
            if let Some((_, address)) = line.split_once("listening for the admin address=") {
                admin = address.trim().to_owned();
            }
            if line.trim_end().ends_with("ready") {
                break;
            }
        }
        Node {
            child,
            store,
            admin,
            _stderr: stderr,
        }
    }
}

/// A running store; killed when the test ends.
struct Node {
    child: Child,
    store: String,
    admin: String,
    /// Kept open, because the node writes to it.
    _stderr: BufReader<std::process::ChildStderr>,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut all = arguments.to_vec();
        all.extend(["--admin", &self.admin]);
        run(&all)
    }

    fn told(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        let (code, stdout, stderr) = self.command(&all);
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
        serde_json::from_str(&stdout).unwrap()
    }

    fn ask_admin(&self, request: &str) -> String {
        exchange(&self.admin, request)
    }

    fn get(&self, folder: &Path, path: &str) -> String {
        let secret = folder.join("demo.key");
        let secret = secret.to_str().unwrap();
        let signed = run(&[
            "sign",
            "--key-id",
            "demo",
            "--secret-file",
            secret,
            "--host",
            &self.store,
            path,
        ]);
        let target = signed
            .1
            .trim()
            .strip_prefix(&format!("http://{}", self.store));
        let target = target.unwrap().to_owned();
        let store = &self.store;
        exchange(
            store,
            &format!("GET {target} HTTP/1.1\r\nHost: {store}\r\nConnection: close\r\n\r\n"),
        )
    }
}

fn exchange(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_folder_becomes_a_bucket_that_is_sound_and_can_be_looked_after() {
    let place = Place::new();
    let (code, stdout, stderr) = place.verify();
    assert_eq!(code, 1, "{stdout}");
    assert!(stderr.contains("there is no store in"), "{stderr}");

    let (code, stdout, stderr) = place.import();
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.starts_with("3 objects with 2197164 bytes"),
        "{stdout}"
    );
    let (code, stdout, _) = place.verify();
    assert_eq!(code, 0, "{stdout}");
    assert!(
        stdout.starts_with("2 blobs with 2197152 bytes were compared\n"),
        "{stdout}"
    );
    assert!(stdout.contains("files: 2097152 bytes named, 0 bytes of garbage, 0 bytes left"));
    assert!(stdout.ends_with("sound\n"), "{stdout}");

    let node = place.start();
    let answer = node
        .get(place.folder.path(), "/media/films/a film.mp4")
        .to_lowercase();
    assert!(answer.starts_with("http/1.1 200 "), "{answer}");
    assert!(answer.contains("content-type: video/mp4\r\n"));
    assert!(answer.contains("last-modified: sun, 09 sep 2001 01:46:40 gmt\r\n"));
    let (code, _, stderr) = place.verify();
    assert_eq!(code, 1);
    assert!(stderr.contains("is in use by process"), "{stderr}");

    let stats = node.told(&["origin", "stats"]);
    assert_eq!(
        (&stats["buckets"], &stats["versions"]),
        (&1.into(), &3.into())
    );
    assert_eq!(stats["disks"][0]["files"]["bytes"], 2_097_152);
    assert_eq!(stats["scrub"]["last"], Value::Null);
    let done = node.told(&["origin", "scrub"]);
    assert_eq!(
        (&done["done"]["blobs"], &done["done"]["lost"]),
        (&2.into(), &0.into())
    );
    let stats = node.told(&["origin", "stats"]);
    assert_eq!(stats["scrub"]["last"]["found"]["bytes"], 2_197_152);
    let done = node.told(&["origin", "compact"]);
    assert_eq!(done["done"]["packs_removed"], 0);
    for job in ["lifecycle", "scrub", "compact", "garbage"] {
        assert_eq!(node.told(&["jobs", "run", job])["run"], job);
    }
    let listed = node.told(&["jobs", "list"]);
    assert_eq!(listed, node.told(&["jobs"]));
    assert_eq!(listed["waiting"], Value::Array(Vec::new()));
    let (code, _, stderr) = node.command(&["jobs", "revive", "12"]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("no message of number 12 was given up"),
        "{stderr}"
    );
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let metrics = node.ask_admin(request);
    assert!(
        metrics.contains("tidegate_store_verified_blobs_total 4\n"),
        "{metrics}"
    );
}

#[test]
fn damage_is_told_by_a_check_of_the_folder_and_by_a_scrub() {
    let place = Place::new();
    assert_eq!(place.import().0, 0);
    let blob = place.blobs().remove(0);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[1_000_000] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let left = blob.with_file_name("0000010000ffff00");
    fs::write(&left, "a stop has left this").unwrap();
    let name = blob.file_name().unwrap().to_str().unwrap();
    let name = name.trim_start_matches('0');
    let (code, stdout, _) = place.verify();
    assert_eq!(code, 1);
    assert!(
        stdout.starts_with(&format!("blob {name} is lost: block 15 ")),
        "{stdout}"
    );
    assert!(
        stdout.contains("20 bytes left behind by a stop in 1 files"),
        "{stdout}"
    );
    assert!(
        stdout.ends_with("1 things are not as they should be\n"),
        "{stdout}"
    );
    assert!(left.exists(), "a check removes nothing");

    let node = place.start();
    assert!(!left.exists(), "a start does");
    let (code, stdout, _) = node.command(&["origin", "scrub"]);
    assert_eq!(code, 1);
    assert!(stdout.contains("done.lost"), "{stdout}");
}

#[test]
fn a_page_of_another_site_cannot_run_jobs() {
    let place = Place::new();
    let node = place.start();
    let post = |host: &str, media_type: &str, body: &str| {
        let length = body.len();
        let answer = node.ask_admin(&format!(
            "POST /origin/jobs HTTP/1.1\r\nHost: {host}\r\nContent-Type: {media_type}\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ));
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let run = "{\"run\": \"garbage\"}";
    assert_eq!(post("localhost", "application/json", run), "200");
    assert_eq!(post("evil.example", "application/json", run), "403");
    assert_eq!(post("localhost", "text/plain", run), "415");
    assert_eq!(post("localhost", "application/json", "{}"), "400");
    for (method, path, expected) in [
        ("GET", "/origin", "200"),
        ("GET", "/origin/jobs", "200"),
        ("POST", "/origin", "405"),
        ("DELETE", "/origin/jobs", "405"),
    ] {
        let answer = node.ask_admin(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{method} {path}");
    }
}
