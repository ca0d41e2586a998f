//! Operating the cache: `tidegate cache`, the admin paths behind it, and what explain says of tiers.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use harness::{AnsweringOrigin, Client, Edge, Origin, Response, Setup, own_address};
use serde_json::Value;
use tempfile::TempDir;

/// Small enough to be kept beside its head.
const SMALL: usize = 1000;
/// Two whole blocks and a part of a third.
const LARGE: usize = 600 * 1024;
/// Records of both: two heads and three blocks.
const RECORDS: u64 = 5;

/// A cache folder that outlives its nodes, and their origin.
struct World {
    folder: TempDir,
    origin: AnsweringOrigin,
}

impl World {
    async fn new() -> Self {
        let origin = Origin::start().await.answering(|request| {
            let length = match request.target() {
                "/large" => LARGE,
                _ => SMALL,
            };
            let fields = "Cache-Control: max-age=3600\r\nETag: \"v1\"\r\n";
            let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n");
            [head.into_bytes(), vec![b'x'; length]].concat()
        });
        let folder = tempfile::tempdir().unwrap();
        World { folder, origin }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn disk(&self) -> String {
        let path = self.cache();
        format!("disk: {{ path: {path:?}, size: 64MiB, segment: 1MiB }}")
    }

    async fn start(&self) -> Edge {
        let setup = Setup {
            cache: self.disk(),
            ..Setup::of([self.origin.address])
        };
        setup.start().await
    }

    /// Fetches a small and a large response, and stops the node so that both are on disk.
    async fn fill(&self) {
        let edge = self.start().await;
        assert_eq!(edge.get("/small").await.body.len(), SMALL);
        assert_eq!(edge.get("/large").await.body.len(), LARGE);
        assert!(edge.stop().await.status.success());
        // The next node is not to bring them back to memory by itself.
        fs::remove_file(self.cache().join("hot")).unwrap();
    }

    /// A configuration for the same folder, at whose admin address nobody answers.
    fn config(&self) -> PathBuf {
        let file = self.folder.path().join("stopped.yaml");
        let (http, admin) = (own_address(), own_address());
        let disk = self.disk();
        let text = format!(
            "\
admin: {{ address: '{admin}' }}
edge:
  listeners: [{{ address: '{http}' }}]
  origins: {{ store: {{ servers: ['127.0.0.1:9'] }} }}
  routes: [{{ origin: store, access: public }}]
  cache: {{ {disk} }}
"
        );
        fs::write(&file, text).unwrap();
        file
    }

    /// Runs a command on the folder.
    fn on_folder(&self, command: &str) -> Output {
        let config = self.config();
        tidegate_cache(&[command, "--json", "--config", config.to_str().unwrap()])
    }
}

fn tidegate_cache(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("cache").args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

/// Runs a command on a running node.
fn on_node(edge: &Edge, command: &str) -> Output {
    tidegate_cache(&[command, "--json", "--admin", &edge.admin.to_string()])
}

/// What a command prints, which must end with `code`.
fn told(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn complaint(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    std::str::from_utf8(&output.stderr).unwrap()
}

fn number(json: &Value, path: &str) -> u64 {
    let value = json.pointer(path).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no {path} in {json}"))
}

/// The files that hold the records, the oldest first.
fn segments(cache: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache.join("segments")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_running_node_tells_what_it_holds_and_whether_it_is_right_and_forgets_it_all() {
    let world = World::new().await;
    world.fill().await;
    let edge = world.start().await;
    let stats = told(&on_node(&edge, "stats"), 0);
    assert_eq!(number(&stats, "/disk/records"), RECORDS, "{stats}");
    assert_eq!(number(&stats, "/disk/limit_bytes"), 64 << 20);
    assert_eq!(number(&stats, "/memory/responses"), 0, "{stats}");
    assert_eq!(stats.pointer("/disk/fault"), Some(&Value::Null));
    let verified = told(&on_node(&edge, "verify"), 0);
    assert_eq!(number(&verified, "/good_records"), RECORDS, "{verified}");
    assert_eq!(number(&verified, "/bad_records"), 0, "{verified}");

    let before = world.origin.count();
    assert!(edge.get("/small").await.is_hit());
    assert!(edge.get("/large").await.is_hit());
    assert_eq!(world.origin.count(), before);
    let stats = told(&on_node(&edge, "stats"), 0);
    assert_eq!(number(&stats, "/memory/responses"), 2, "{stats}");

    let cleared = told(&on_node(&edge, "clear"), 0);
    assert_eq!(cleared.to_string(), r#"{"cleared":["memory","disk"]}"#);
    let stats = told(&on_node(&edge, "stats"), 0);
    for path in ["/disk/records", "/disk/segments", "/memory/responses"] {
        assert_eq!(number(&stats, path), 0, "{path} {stats}");
    }
    assert!(!edge.get("/small").await.is_hit());
    assert!(!edge.get("/large").await.is_hit());
    assert!(edge.get("/large").await.is_hit());
}

#[tokio::test]
async fn explain_tells_what_is_on_disk_only() {
    let world = World::new().await;
    world.fill().await;
    let edge = world.start().await;
    let explain = async |path: &str| {
        let mut admin = Client::connect(edge.admin).await;
        let target = format!("/explain?url=http://media.example{path}");
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        admin.send(request).await;
        admin.response("GET").await.text().to_owned()
    };
    for (path, bytes) in [
        ("/small", "1000 bytes, all on disk beside the head"),
        (
            "/large",
            "0 of 3 blocks of 262144 bytes in memory, 3 more on disk",
        ),
    ] {
        let first = explain(path).await;
        for fact in [
            "chosen, stored on disk, not in memory",
            bytes,
            "hit: Cache-Status",
        ] {
            assert!(first.contains(fact), "{fact:?} is not in\n{first}");
        }
        assert!(edge.get(path).await.is_hit());
        let again = explain(path).await;
        assert!(!again.contains("not in memory"), "{again}");
    }
}

#[tokio::test]
async fn the_folder_of_a_stopped_node_is_told_verified_and_emptied() {
    let world = World::new().await;
    world.fill().await;
    let output = world.on_folder("stats");
    let stats = told(&output, 0);
    assert_eq!(number(&stats, "/disk/records"), RECORDS, "{stats}");
    assert_eq!(stats["memory"], Value::Null);
    let said = std::str::from_utf8(&output.stderr).unwrap();
    assert!(said.contains("no node answers; works on"), "{said}");
    let verified = told(&world.on_folder("verify"), 0);
    assert_eq!(number(&verified, "/good_records"), RECORDS, "{verified}");

    // The commands have left what the next start needs.
    let edge = world.start().await;
    assert!(edge.get("/large").await.is_hit());
    assert!(edge.stop().await.status.success());

    let cleared = told(&world.on_folder("clear"), 0);
    assert_eq!(cleared.to_string(), r#"{"cleared":["disk"]}"#);
    assert!(segments(&world.cache()).is_empty());
    let edge = world.start().await;
    assert!(!edge.get("/large").await.is_hit());
}

#[tokio::test]
async fn damage_is_found_and_told_once() {
    let world = World::new().await;
    world.fill().await;
    let files = segments(&world.cache());
    let mut bytes = fs::read(&files[0]).unwrap();
    // In the body of one of the records: all of it is the same letter.
    let body = bytes.windows(SMALL).position(|run| run == [b'x'; SMALL]);
    bytes[body.unwrap() + SMALL / 2] ^= 1;
    fs::write(&files[0], bytes).unwrap();
    let verified = told(&world.on_folder("verify"), 1);
    assert_eq!(number(&verified, "/bad_records"), 1, "{verified}");
    assert_eq!(number(&verified, "/good_records"), RECORDS - 1);
    let again = told(&world.on_folder("verify"), 0);
    assert_eq!(number(&again, "/bad_records"), 0, "{again}");
    assert_eq!(number(&again, "/good_records"), RECORDS - 1);

    // A footer that is not what was written is damage as well.
    let mut bytes = fs::read(&files[0]).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&files[0], bytes).unwrap();
    let footer = told(&world.on_folder("verify"), 1);
    assert_eq!(number(&footer, "/bad_footers"), 1, "{footer}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_worked_on_is_told_with_what_to_do() {
    let world = World::new().await;
    let absent = world.on_folder("stats");
    let said = complaint(&absent);
    assert!(
        said.contains("there is no cache in it\nnext: check edge.cache.disk.path"),
        "{said}"
    );
    assert!(!world.cache().exists());

    let edge = world.start().await;
    for command in ["stats", "verify", "clear"] {
        let locked = world.on_folder(command);
        let said = complaint(&locked);
        assert!(
            said.contains(
                "another process uses the folder\nnext: a node runs on it: give its admin"
            ),
            "{said}"
        );
    }
    let config = edge.config.to_str().unwrap().to_owned();
    told(
        &tidegate_cache(&["stats", "--json", "--config", &config]),
        0,
    );
    let words = tidegate_cache(&["stats", "--config", &config]);
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(
        words.contains("disk.limit_bytes         67108864\n"),
        "{words}"
    );
    let admin = edge.admin.to_string();
    assert!(edge.stop().await.status.success());
    let gone = tidegate_cache(&["stats", "--admin", &admin]);
    let said = complaint(&gone);
    assert!(said.contains("no node answers at"), "{said}");
}

async fn ask(edge: &Edge, line: &str, fields: &str, body: &str) -> Response {
    let mut admin = Client::connect(edge.admin).await;
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n");
    admin.send(head + body).await;
    admin.response(line.split(' ').next().unwrap()).await
}

#[tokio::test]
async fn admin_paths_of_the_cache_refuse_what_a_page_of_another_site_could_send() {
    let origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let local = "Host: localhost\r\nContent-Type: application/json\r\n";
    for (line, fields, body, status) in [
        ("GET /cache/stats", "Host: localhost\r\n", "", 200),
        ("GET /cache/stats", "Host: evil.example\r\n", "", 403),
        ("POST /cache/stats", local, "{}", 405),
        ("GET /cache/clear", local, "{}", 405),
        ("POST /cache/clear", "Host: localhost\r\n", "{}", 415),
        (
            "POST /cache/clear",
            "Host: evil.example\r\nContent-Type: application/json\r\n",
            "{}",
            403,
        ),
        ("POST /cache/clear", local, "", 400),
        ("POST /cache/clear", local, r#"{"tier": "disk"}"#, 400),
        ("POST /cache/clear", local, "{}", 200),
        ("GET /cache/verify", local, "{}", 405),
        ("POST /cache/verify", "Host: localhost\r\n", "{}", 415),
        // There is no disk tier.
        ("POST /cache/verify", local, "{}", 409),
    ] {
        let response = ask(&edge, line, fields, body).await;
        assert_eq!(
            response.status, status,
            "{line} {fields} {body}: {response:?}"
        );
        let json: Value = serde_json::from_str(response.text()).unwrap();
        assert_eq!(json.get("error").is_some(), status != 200, "{json}");
    }
    let clear = ask(&edge, "GET /cache/clear", local, "").await;
    assert_eq!(clear.field("allow"), Some("POST"));
    let index = Client::connect(edge.admin).await.get("/").await;
    for path in ["/cache/stats", "/cache/clear", "/cache/verify"] {
        assert!(index.text().contains(path), "{index:?}");
    }
}
