//! Method, path and query of a request to the store.

use http::Method;
use tidegate::origin::names::{OBJECT_KEY_MAX_BYTES, Target, parse_target};
use tidegate::origin::operation_of;
use tidegate::origin::query::Query;
use tidegate::origin::stats::Operation;

use super::{percent_decoded, take_text};

/// Three lines: method, path, query.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let texts = (
        take_text(&mut rest),
        take_text(&mut rest),
        take_text(&mut rest),
    );
    let (Some(method), Some(path), Some(query)) = texts else {
        return;
    };
    let target = parse_target(path);
    if let Ok(target) = &target {
        check_target(path, target);
    }
    if let Ok(query) = Query::parse(query) {
        check_query(&query);
    }
    let Ok(method) = Method::from_bytes(method.as_bytes()) else {
        return;
    };
    let Ok(operation) = operation_of(&method, path, query) else {
        return;
    };
    let target = target.expect("an operation has a target");
    // Some of the operations that mean one kind of target only; what changes it most is among them.
    let of_object = [
        Operation::PutObject,
        Operation::GetObject,
        Operation::HeadObject,
        Operation::DeleteObject,
        Operation::CompleteMultipartUpload,
    ];
    let of_bucket = [
        Operation::CreateBucket,
        Operation::HeadBucket,
        Operation::DeleteBucket,
        Operation::DeleteObjects,
        Operation::ListObjects,
        Operation::ListObjectsV2,
        Operation::ListObjectVersions,
    ];
    if of_object.contains(&operation) {
        assert!(matches!(target, Target::Object(..)), "{operation:?}");
    }
    if of_bucket.contains(&operation) {
        assert!(matches!(target, Target::Bucket(_)), "{operation:?}");
    }
    assert_eq!(
        operation == Operation::ListBuckets,
        target == Target::Service
    );
    let writes = matches!(
        operation,
        Operation::PutObject
            | Operation::CreateBucket
            | Operation::DeleteObject
            | Operation::DeleteBucket
    );
    assert!(!writes || method == Method::PUT || method == Method::DELETE);
}

fn check_target(path: &str, target: &Target) {
    let (bucket, key) = match target {
        Target::Service => {
            assert_eq!(path, "/");
            return;
        }
        Target::Bucket(bucket) => (bucket, ""),
        Target::Object(bucket, key) => {
            assert!((1..=OBJECT_KEY_MAX_BYTES).contains(&key.as_str().len()));
            (bucket, key.as_str())
        }
    };
    let bucket = bucket.as_str();
    assert!((3..=63).contains(&bucket.len()));
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    assert!(bucket.bytes().all(allowed) && !bucket.contains(".."));

    // Decoded exactly once: bucket and key are what the path's bytes stand for.
    let meant = percent_decoded(path.as_bytes());
    let spelled = match key {
        "" => format!("/{bucket}"),
        key => format!("/{bucket}/{key}"),
    };
    let meant = meant
        .strip_suffix(b"/")
        .filter(|_| key.is_empty())
        .unwrap_or(&meant);
    assert_eq!(spelled.as_bytes(), meant);
    // And each has a spelling that leads back to it.
    let encoded: String = spelled
        .bytes()
        .enumerate()
        .map(|(at, byte)| match byte {
            b'/' if at == 0 || at == bucket.len() + 1 => "/".to_owned(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    assert_eq!(parse_target(&encoded).as_ref(), Ok(target));
}

fn check_query(query: &Query) {
    let encode = |text: &str| {
        text.bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect::<String>()
    };
    let pairs: Vec<_> = query
        .iter()
        // A pair without a name and a value has no spelling of its own.
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    assert_eq!(Query::parse(&pairs.join("&")).as_ref(), Ok(query));
    for (name, value) in query.iter() {
        assert!(query.has(name));
        if let Ok(found) = query.get(name) {
            assert_eq!(found, Some(value));
        }
    }
}
