//! The real binary, as an operator meets it: exit codes, messages, and what is left on disk.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

fn tidegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    tidegate(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A node that has said that it is ready; killed when the test ends.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    log: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = tidegate(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut running = Running {
            child,
            stderr,
            log: String::new(),
        };
        running.read_log_until("ready");
        running
    }

    fn read_log_until(&mut self, end: &str) {
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).unwrap();
            self.log.push_str(&line);
            assert_ne!(read, 0, "it ended before {end:?}: {}", self.log);
            if line.trim_end().ends_with(end) {
                return;
            }
        }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end; its exit code and everything that it printed.
    fn wait(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let mut stdout = String::new();
        let mut pipe = self.child.stdout.take().unwrap();
        pipe.read_to_string(&mut stdout).unwrap();
        (status.code(), stdout)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_secret(folder: &Path, name: &str) {
    let file = folder.join(name);
    fs::write(&file, "s3cret\n").unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A store and nothing else, on free ports.
fn store_folder(address: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    write_secret(folder.path(), "demo.key");
    let config = folder.path().join("tidegate.yaml");
    let text = format!(
        "\
admin: {{ address: 127.0.0.1:0 }}
origin:
  address: {address}
  data: data
  credentials: [{{ access_key_id: demo, secret_file: demo.key }}]
"
    );
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap().to_owned();
    (folder, config)
}

/// A data folder whose configuration listens on free ports; the rest is made by `up`.
fn up_folder() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    write_secret(folder.path(), "secret.key");
    let text = "\
admin: { address: 127.0.0.1:0 }
edge:
  listeners:
    - address: 127.0.0.1:0
    - address: 127.0.0.1:0
      tls: { certificates: [{ chain: site.pem, key: site.key }] }
  origins: { store: { servers: [127.0.0.1:9] } }
  routes: [{ origin: store, access: signed }]
  signing: { keys: [{ id: demo, secret_file: secret.key }] }
  access_log: access.log
origin:
  address: 127.0.0.1:0
  data: origin
  credentials: [{ access_key_id: demo, secret_file: secret.key }]
";
    fs::write(folder.path().join("tidegate.yaml"), text).unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    (folder, path)
}

/// The address that a line of the log tells.
fn logged_address(log: &str, line: &str) -> String {
    let begin = format!("{line} address=");
    let at = log.find(&begin).unwrap() + begin.len();
    log[at..].lines().next().unwrap().to_owned()
}

/// The target of a presigned URL for the store at `host`, as `tidegate sign` makes it.
fn presigned_target(folder: &Path, secret_file: &str, host: &str, more: &[&str]) -> String {
    let secret_file = folder.join(secret_file);
    let output = tidegate(&["sign", "--key-id", "demo", "--host", host])
        .arg("--secret-file")
        .arg(secret_file)
        .args(more)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let url = String::from_utf8(output.stdout).unwrap();
    let target = url.trim_end().strip_prefix(&format!("http://{host}"));
    target.unwrap().to_owned()
}

/// An upload that the store has begun to take and that lacks its body.
struct Upload {
    stream: TcpStream,
}

impl Upload {
    fn begin(folder: &Path, log: &str) -> Self {
        let host = logged_address(log, "listening for S3");
        let bucket = presigned_target(folder, "demo.key", &host, &["--method", "PUT", "/media"]);
        let mut stream = TcpStream::connect(&host).unwrap();
        write!(
            stream,
            "PUT {bucket} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
        )
        .unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");

        let object = ["--method", "PUT", "/media/object"];
        let object = presigned_target(folder, "demo.key", &host, &object);
        write!(
            stream,
            "PUT {object} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        )
        .unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 100 "), "{head}");
        Upload { stream }
    }

    fn finish(mut self) -> String {
        self.stream.write_all(b"body").unwrap();
        read_head(&mut self.stream)
    }
}

/// One response's head, byte by byte so that nothing behind it is taken.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn a_request_in_flight_is_finished_after_a_signal() {
    let (folder, config) = store_folder("127.0.0.1:0");
    let mut running = Running::start(&["origin", "--config", &config]);
    let upload = Upload::begin(folder.path(), &running.log);
    running.signal(Signal::TERM);
    running.read_log_until("drain=0ns");
    let answer = upload.finish();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(running.wait().0, Some(0));
}

#[test]
fn a_second_signal_does_not_wait_for_requests_in_flight() {
    let (folder, config) = store_folder("127.0.0.1:0");
    let mut running = Running::start(&["origin", "--config", &config]);
    let upload = Upload::begin(folder.path(), &running.log);
    running.signal(Signal::TERM);
    running.read_log_until("drain=0ns");
    running.signal(Signal::TERM);
    running.read_log_until("stopped at once by a second signal");
    assert_eq!(running.wait().0, Some(1));
    drop(upload);
}

#[test]
fn a_second_store_on_the_same_data_names_the_first() {
    let (folder, config) = store_folder("127.0.0.1:0");
    let first = Running::start(&["origin", "--config", &config]);
    let output = run(&["origin", "--config", &config]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let expected = format!(
        "tidegate: cannot open the store: {} is in use by process {}\n",
        folder.path().join("data/LOCK").display(),
        first.pid()
    );
    assert_eq!(said, expected);
}

#[test]
fn up_puts_its_samples_where_an_s3_client_finds_them() {
    let (folder, data) = up_folder();
    let running = Running::start(&["up", "--data", &data]);
    let host = logged_address(&running.log, "listening for S3");
    for (object, media_type, file) in [
        ("/media/sample.mp4", "video/mp4", "sample.mp4"),
        ("/media/sample.png", "image/png", "sample.png"),
    ] {
        let target = presigned_target(folder.path(), "secret.key", &host, &[object]);
        let mut stream = TcpStream::connect(&host).unwrap();
        write!(
            stream,
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(
            head.contains(&format!("content-type: {media_type}\r\n")),
            "{head}"
        );
        let mut body = Vec::new();
        stream.read_to_end(&mut body).unwrap();
        let expected = fs::read(Path::new("src/first_start/samples").join(file)).unwrap();
        assert!(body == expected, "{object} has other bytes");
    }
}

#[test]
fn check_accepts_the_sample_configuration_and_sums_it_up() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("tidegate.yaml");
    fs::copy("conf/tidegate.yaml", &config).unwrap();
    write_secret(folder.path(), "demo.key");
    let site = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.path().join("site.pem"), site.cert.pem()).unwrap();
    let key = folder.path().join("site.key");
    fs::write(&key, site.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    fs::write(
        folder.path().join("cloudfront.pem"),
        site.signing_key.public_key_pem(),
    )
    .unwrap();
    let jwks = format!(
        r#"{{"keys":[{{"kty":"oct","kid":"k1","k":"{}"}}]}}"#,
        "A".repeat(43)
    );
    let file = folder.path().join("jwks.json");
    fs::write(&file, jwks).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();

    let output = tidegate(&["check", "--config", config.to_str().unwrap()])
        .env("TIDEGATE_PLAYER_SECRET", "of-the-player")
        .env("TIDEGATE_ARCHIVE_SECRET", "of-the-archive")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let data = folder.path().join("data/origin");
    assert_eq!(
        String::from_utf8(output.stdout.clone()).unwrap(),
        format!(
            "OK: edge on http://127.0.0.1:8080, https://127.0.0.1:8443 with 4 route(s), 2 of them signed, \
             2 origin server(s) and 256MiB of memory cache; store on 127.0.0.1:9000 in {}; \
             admin on 127.0.0.1:9900\n",
            data.display()
        )
    );
    assert_eq!(stderr(&output), "");
    assert!(!data.exists(), "check must change nothing");
}

#[test]
fn every_command_lists_all_problems_of_a_bad_configuration_and_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("bad.yaml");
    let text = "origin: { adress: 127.0.0.1:9000, data: 5, credentials: [] }\n";
    fs::write(&config, text).unwrap();
    let expected = "\
origin.address: missing, and it has no default
origin.data: expected text, found a number
origin.credentials: needs at least one entry
origin.adress: unknown key; did you mean address?
";
    let config = config.to_str().unwrap();
    let output = run(&["check", "--config", config]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output), expected);
    assert!(output.stdout.is_empty());
    for command in ["up", "edge", "origin"] {
        let output = run(&[command, "--config", config]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let said = stderr(&output);
        assert_eq!(
            said,
            format!("tidegate: the configuration {config} is not sound:\n{expected}"),
            "{command}"
        );
    }
}

#[test]
fn a_command_without_its_section_ends_with_2() {
    let (_folder, config) = store_folder("127.0.0.1:0");
    let output = run(&["edge", "--config", &config]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        format!(
            "tidegate: {config} holds no edge section, so there is nothing for this command to run\n"
        )
    );
}

#[test]
fn a_taken_port_names_address_key_and_holder_and_touches_nothing() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let (folder, config) = store_folder(&address.to_string());
    let output = run(&["origin", "--config", &config]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let begin = format!(
        "tidegate: cannot listen on {address} (origin.address): address already in use, held by "
    );
    assert!(said.starts_with(&begin), "{said}");
    let end = format!("(pid {})\n", std::process::id());
    assert!(said.ends_with(&end), "{said}");
    assert!(!folder.path().join("data").exists());
}

#[test]
fn a_second_copy_on_the_same_data_names_the_first_and_leaves_it_running() {
    let (folder, data) = up_folder();
    let first = Running::start(&["up", "--data", &data]);
    let before = fs::read_to_string(folder.path().join("tidegate.yaml")).unwrap();
    let output = run(&["up", "--data", &data]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        format!(
            "tidegate: {data} is in use by another tidegate (pid {})\n",
            first.pid()
        )
    );
    let after = fs::read_to_string(folder.path().join("tidegate.yaml")).unwrap();
    assert_eq!(before, after);
    first.signal(Signal::TERM);
    assert_eq!(first.wait().0, Some(0));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let data = file.join("data");
    let output = run(&["up", "--data", data.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "tidegate: cannot create the folder {}: Not a directory (os error 20)\n",
        data.display()
    );
    assert_eq!(stderr(&output), expected);
}

#[test]
fn up_prints_what_is_needed_to_try_it_and_stops_at_a_signal() {
    for signal in [Signal::INT, Signal::TERM] {
        let (folder, data) = up_folder();
        let running = Running::start(&["up", "--data", &data]);
        running.signal(signal);
        let log = running.log.clone();
        let (code, printed) = running.wait();
        assert_eq!(code, Some(0));
        for part in [
            "access key id demo",
            "secret        s3cret",
            "/metrics",
            "/media/sample.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "curl -r 0-1023 -o /dev/null -v 'http://127.0.0.1:",
            "X-Amz-Expires=86400",
            "Ctrl-C",
        ] {
            assert!(printed.contains(part), "{part} is not in {printed}");
        }
        assert!(!printed.contains(":0/"), "a real port: {printed}");
        assert!(!log.contains("s3cret"), "the log has the secret: {log}");
        for entry in fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            let name = entry.file_name().into_string().unwrap();
            let public = ["ca.pem", "site.pem", "tidegate.yaml"].contains(&name.as_str());
            assert!(public || mode & 0o007 == 0, "{name} has mode {mode:o}");
        }
    }
}

#[test]
fn a_log_filter_that_cannot_be_read_is_refused() {
    let (_folder, config) = store_folder("127.0.0.1:0");
    let output = tidegate(&["origin", "--config", &config])
        .env("RUST_LOG", "tidegate=loud")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.starts_with("tidegate: RUST_LOG is not a log filter: "),
        "{said}"
    );
}

#[test]
fn the_version_is_that_of_the_crate() {
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let version = format!("tidegate {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}
