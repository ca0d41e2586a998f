//! CloudFront signed URLs and cookies.

use std::sync::LazyLock;

use http::HeaderMap;
use tidegate::signing::{
    CloudFrontKey, CloudFrontSpec, KeyKind, PrivateKey, PublicKey, Verifier, sign_url,
};

use super::credentials::{END, PRIVATE_KEY, PUBLIC_KEY, is_granted, verifier};
use super::{Line, fields, take_line, take_number, take_text};

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let key = PublicKey::from_pem(PUBLIC_KEY.as_bytes()).expect("it is a public key");
    verifier([KeyKind::CloudFront(CloudFrontKey {
        id: "k0".into(),
        key,
    })])
});

static PRIVATE: LazyLock<PrivateKey> =
    LazyLock::new(|| PrivateKey::from_pem(PRIVATE_KEY.as_bytes()).expect("it is a private key"));

/// Six lines (host, path, query, a policy, position of an edit, text of the edit), then fields.
///
/// The request is judged as it stands, then signed with a canned policy, judged, edited and judged again; the policy is
/// signed as it stands and judged.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let texts = (
        take_text(&mut rest),
        take_text(&mut rest),
        take_text(&mut rest),
        take_text(&mut rest),
    );
    let (Some(host), Some(path), Some(query), Some(policy)) = texts else {
        return;
    };
    let position = take_number(&mut rest);
    let text = take_line(&mut rest);
    let fields = fields(rest.split(|byte| *byte == b'\n'));
    let line = Line {
        method: "GET".to_owned(),
        host: host.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
    };
    assert!(
        !is_granted(&VERIFIER, &line, &fields),
        "nobody has signed this"
    );

    let nothing = HeaderMap::new();
    let proven = signed(&line, Some(policy));
    // Judged by what it says, whatever that is.
    is_granted(&VERIFIER, &proven, &nothing);

    if !path.starts_with('/') || host.contains(['/', '?']) || path.contains('?') {
        return;
    }
    let signed = signed(&line, None);
    if VERIFIER.carriers().query_without(&signed.query) != line.query {
        // It has parameters of its own with names that belong to the scheme: there would be two of each.
        return;
    }
    assert!(
        is_granted(&VERIFIER, &signed, &nothing),
        "what we sign, we accept: {signed:?}"
    );
    let Some(edited) = signed.edited(position, text) else {
        return;
    };
    if is_granted(&VERIFIER, &edited, &nothing) {
        let without = VERIFIER.carriers().query_without(&edited.query);
        assert_eq!((&edited.host, &edited.path), (&signed.host, &signed.path));
        assert_eq!(without, line.query);
    }
}

fn signed(line: &Line, policy: Option<&str>) -> Line {
    let spec = CloudFrontSpec {
        key_pair_id: "k0",
        expires: END,
        resource: None,
        not_before: None,
        source_ip: None,
        policy,
    };
    let query = if line.query.is_empty() {
        String::new()
    } else {
        format!("?{}", line.query)
    };
    let url = format!("https://{}{}{query}", line.host, line.path);
    let signed = sign_url(&url, &spec, &PRIVATE).expect("there are random numbers");
    let added = &signed[url.len() + 1..];
    let separator = if line.query.is_empty() { "" } else { "&" };
    Line {
        query: format!("{}{separator}{added}", line.query),
        ..line.clone()
    }
}
