//! Signed routes: every request is checked before anything else, whatever the cache holds.

mod harness;

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use harness::{Edge, Origin, Setup};
use tempfile::TempDir;
use tidegate::secret::Secret;
use tidegate::signing::{PresignSpec, presign};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

async fn edge_before(origin: SocketAddr) -> (Edge, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("demo.key");
    fs::write(&file, SECRET).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let keys = format!(
        "signing: {{ keys: [ {{ id: demo, secret_file: '{}' }} ] }}",
        file.display()
    );
    let setup = Setup {
        routes: "- { name: all, path: /, origin: store, access: signed }",
        edge: keys.leak(),
        ..Setup::of([origin])
    };
    (setup.start().await, folder)
}

/// A target signed `ago` for a minute.
fn signed(method: &str, path: &str, access_key_id: &str, ago: Duration) -> String {
    let spec = PresignSpec {
        method,
        host: "media.example",
        path,
        query: &[],
        access_key_id,
        region: "us-east-1",
        expires: Duration::from_secs(60),
    };
    presign(&spec, &Secret::new(SECRET), SystemTime::now() - ago).unwrap()
}

#[tokio::test]
async fn bad_signature_is_refused_even_when_the_object_is_cached() {
    let origin = Origin::start().await.answering(|_| {
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\n12345".to_vec()
    });
    let (edge, _keys) = edge_before(origin.address).await;
    let mut client = edge.client().await;
    let now = Duration::ZERO;
    let good = signed("GET", "/media/a", "demo", now);
    assert_eq!(client.get(&good).await.text(), "12345");
    assert!(client.get(&good).await.is_hit());
    let other_signer = signed("GET", "/media/a", "demo", Duration::from_secs(5));
    assert!(
        client.get(&other_signer).await.is_hit(),
        "one object for all signers"
    );

    let refused = [
        "/media/a".to_owned(),
        signed("GET", "/media/a", "demo", Duration::from_secs(61)),
        signed("HEAD", "/media/a", "demo", now),
        signed("GET", "/media/a", "nobody", now),
        good.replace("/media/a", "/media/b"),
        format!("{good}&x=1"),
    ];
    for target in &refused {
        let response = client.get(target).await;
        assert_eq!(response.status, 403, "{target}: {response:?}");
        let denied = response.text().contains("<Code>AccessDenied</Code>");
        assert!(denied, "{target}: {response:?}");
    }
    assert_eq!(
        origin.count(),
        1,
        "nothing that is refused reaches the origin"
    );
    let metrics = edge.metrics().await;
    let counted = metrics.sum("tidegate_signature_refusals_total", &[]);
    assert_eq!(counted, refused.len() as f64);
}

#[tokio::test]
async fn upload_passes_only_with_a_signature_for_its_method() {
    let origin = Origin::start()
        .await
        .answering(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec());
    let (edge, _keys) = edge_before(origin.address).await;
    let mut client = edge.client().await;
    let target = signed("PUT", "/media/a", "demo", Duration::ZERO);
    let put = client
        .request("PUT", &target, "Content-Length: 0\r\n")
        .await;
    assert_eq!(put.status, 200, "{put:?}");
    let target = signed("GET", "/media/a", "demo", Duration::ZERO);
    let put = client
        .request("PUT", &target, "Content-Length: 0\r\n")
        .await;
    assert_eq!(put.status, 403, "{put:?}");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn parameters_that_nobody_has_verified_are_keyed_like_any_other() {
    let origin = Origin::start().await.answering(|request| {
        let body = request.target().to_owned();
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    });
    let edge = Setup::of([origin.address]).start().await;
    let mut client = edge.client().await;
    let targets = [
        "/a",
        "/a?X-Amz-Signature=1",
        "/a?X-Amz-Signature=2",
        "/a?AWSAccessKeyId=1&Expires=2&Signature=3",
        "/a?AWSAccessKeyId=1&Expires=3&Signature=3",
    ];
    for target in targets {
        assert_eq!(client.get(target).await.text(), target);
    }
    for target in targets {
        let response = client.get(target).await;
        assert!(
            response.is_hit() && response.text() == target,
            "{response:?}"
        );
    }
    assert_eq!(origin.count(), targets.len());
}
