//! What follows from a write: readers of a stream go on, webhooks are told.

mod origin_support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use origin_support::{Call, Client, Response, Server, config, folder};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tidegate::clock::SystemClock;
use tidegate::origin::disk::RealDisk;

/// Reads chunks of a response until they hold as many bytes.
fn chunks(client: &mut Client, bytes: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < bytes {
        let chunk = client.chunk().expect("the connection goes on");
        assert!(!chunk.is_empty(), "the response ended after {read:?}");
        read.extend(chunk);
    }
    read
}

#[test]
fn a_follower_gets_what_is_appended_until_the_stream_is_sealed() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let append = |offset: u64, bytes: &[u8], seal: bool| {
        let offset = offset.to_string();
        let mut call = Call::new("PUT", "/films/log").body(bytes);
        call = call.field("x-amz-write-offset-bytes", &offset);
        if seal {
            call = call.field("x-tidegate-seal", "true");
        }
        server.call(call)
    };
    assert_eq!(append(0, b"one ", false).status, 200);
    let mut follower = server.client();
    let call = Call::new("GET", "/films/log?follow&offset=2");
    follower.send(&call.head(server.address), b"");
    assert_eq!(follower.head().unwrap().0, 200);
    assert_eq!(chunks(&mut follower, 2), b"e ");
    // Inline, packed, and behind a repeated one that is told where the end is.
    let packed = vec![b'p'; 10_000];
    assert_eq!(append(4, &packed, false).status, 200);
    assert!(chunks(&mut follower, packed.len()) == packed);
    let repeated = append(4, &packed, false);
    assert_eq!(
        (repeated.status, repeated.code().as_str()),
        (400, "InvalidWriteOffset")
    );
    assert_eq!(repeated.field("x-amz-object-size"), "10004");
    assert_eq!(append(10_004, b"end", true).status, 200);
    assert_eq!(chunks(&mut follower, 3), b"end");
    let end = follower.chunk();
    assert_eq!(end.as_deref(), Some(&b""[..]), "a sealed stream has an end");
    assert_eq!(append(10_007, b"more", false).code(), "InvalidRequest");
    let whole = server.get("/films/log").body;
    assert!(whole == [b"one ".as_slice(), &packed, b"end"].concat());
    server.stop();
}

/// Asks for messages about new objects of `/films` whose keys begin with an `a`.
fn configure(server: &Server, url: &str) -> Response {
    let document = format!(
        "<NotificationConfiguration><TopicConfiguration><Id>one</Id><Topic>{url}</Topic>\
         <Event>s3:ObjectCreated:*</Event><Filter><S3Key><FilterRule><Name>prefix</Name><Value>a</Value>\
         </FilterRule></S3Key></Filter></TopicConfiguration></NotificationConfiguration>"
    );
    server.put("/films?notification", document.as_bytes())
}

/// Takes a message and answers it.
fn told(stream: &mut (impl Read + Write), answer: &str) -> String {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while !request.ends_with(b"]}") {
        let read = stream.read(&mut part).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&request));
        request.extend_from_slice(&part[..read]);
    }
    stream.write_all(answer.as_bytes()).unwrap();
    stream.flush().unwrap();
    String::from_utf8(request).unwrap()
}

#[test]
fn a_webhook_is_told_of_what_it_asked_for_and_asked_again_when_it_fails() {
    let data = folder();
    let hook = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hooks/", hook.local_addr().unwrap());
    let mut config = config(data.path());
    config.webhooks = vec![url.clone()];
    let server = Server::with(&config, SystemClock::shared(), Arc::new(RealDisk)).unwrap();
    server.put("/films", b"");
    let elsewhere = configure(&server, "http://127.0.0.1:1/hooks/x");
    assert_eq!(
        (elsewhere.status, elsewhere.code().as_str()),
        (400, "InvalidArgument")
    );
    assert_eq!(configure(&server, &format!("{url}x")).status, 200);
    server.put("/films/b", b"nobody asked for this");
    server.put("/films/a%20b", b"12345");
    let told = |answer: &str| told(&mut hook.accept().unwrap().0, answer);
    let first = told("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
    let second = told("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(first, second, "the same message again");
    assert!(first.starts_with("POST /hooks/x HTTP/1.1\r\n"), "{first}");
    for part in [
        r#""eventName":"ObjectCreated:Put""#,
        r#""key":"a+b""#,
        r#""size":5"#,
        r#""versionId":"null""#,
        r#""configurationId":"one""#,
    ] {
        assert!(first.contains(part), "{part} in {first}");
    }
    // What is appended is told of as well, with the length that the object has then, and at once.
    for (offset, length) in [("0", r#""size":3"#), ("3", r#""size":6"#)] {
        let append = Call::new("PUT", "/films/a-log").body(b"abc");
        server.call(append.field("x-amz-write-offset-bytes", offset));
        let third = told("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert!(
            third.contains(r#""key":"a-log""#) && third.contains(length),
            "{third}"
        );
    }
    server.stop();
}

#[test]
fn a_webhook_over_https_is_told_when_the_configured_authority_speaks_for_it() {
    let (data, trusted) = (folder(), folder());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let file = trusted.path().join("ca.pem");
    std::fs::write(&file, certificate.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    let tls = Arc::new(tls.unwrap());
    let hook = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/hooks/x", hook.local_addr().unwrap());
    let mut config = config(data.path());
    config.webhooks = vec![url.clone()];
    config.webhook_ca_file = Some(file);
    let server = Server::with(&config, SystemClock::shared(), Arc::new(RealDisk)).unwrap();
    server.put("/films", b"");
    assert_eq!(configure(&server, &url).status, 200);
    server.put("/films/a", b"12345");
    let (stream, _) = hook.accept().unwrap();
    let connection = ServerConnection::new(tls).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    let message = told(&mut stream, "HTTP/1.1 204 No Content\r\n\r\n");
    assert!(
        message.starts_with("POST /hooks/x HTTP/1.1\r\n"),
        "{message}"
    );
    assert!(message.contains(r#""key":"a""#), "{message}");
    server.stop();
}
