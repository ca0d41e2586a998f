//! What the targets of the schemes that are not AWS signatures share: keys, and requests to be judged.

use std::net::{IpAddr, Ipv4Addr};

use http::HeaderMap;
use tidegate::signing::{
    Accept, Granted, Key, KeyKind, Methods, RequestView, Rules, SignedRequest, Verifier,
};

use super::{Line, now};

/// Known to everybody, and good for nothing but these targets.
pub(super) const PRIVATE_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgR0RQ59DEtN5rHeMX
N8bnPfWwHP1fObRha50rwv7bK6+hRANCAAR/voO47mocpwcuOIgti6xJf5j6CxBv
alDFNDTsBz3CVpP+mz3YY4FXVLLogMADObju3j81wX3pSQGRNs/x2/wb
-----END PRIVATE KEY-----
";
pub(super) const PUBLIC_KEY: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf76DuO5qHKcHLjiILYusSX+Y+gsQ
b2pQxTQ07Ac9wlaT/ps92GOBV1Sy6IDAAzm47t4/NcF96UkBkTbP8dv8Gw==
-----END PUBLIC KEY-----
";

/// The last second before everything that is signed here expires, since 1970.
pub(super) const END: u64 = 1_369_353_660;

const RULES: Rules<'static> = Rules {
    region: None,
    clock_leeway: std::time::Duration::ZERO,
    domain: None,
};

pub(super) fn verifier(kinds: impl IntoIterator<Item = KeyKind>) -> Verifier {
    let keys: Vec<Key> = (kinds.into_iter().enumerate())
        .map(|(number, kind)| Key {
            id: format!("k{number}"),
            methods: Methods::default(),
            kind,
        })
        .collect();
    Verifier::new(&keys, &Accept::default())
}

fn view<'a>(line: &'a Line, headers: &'a HeaderMap) -> RequestView<'a> {
    RequestView {
        request: SignedRequest {
            method: &line.method,
            path: &line.path,
            query: &line.query,
            host: &line.host,
            headers,
        },
        scheme: "https",
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        prefix_length: 1,
    }
}

/// Whether a request is granted.
pub(super) fn is_granted(verifier: &Verifier, line: &Line, headers: &HeaderMap) -> bool {
    judged(verifier, line, headers).is_some()
}

/// What a request is granted. Whatever it is, explaining it and taking its credentials out goes well.
pub(super) fn judged(verifier: &Verifier, line: &Line, headers: &HeaderMap) -> Option<Granted> {
    let view = view(line, headers);
    for explained in verifier.explain(&view) {
        assert!(!format!("{explained:?}").contains("PRIVATE"));
    }
    check_stripping(verifier, line, headers);
    verifier.verify(&view, &RULES, now()).ok()
}

/// What has been taken out is gone, and what is left was there.
fn check_stripping(verifier: &Verifier, line: &Line, headers: &HeaderMap) {
    let carriers = verifier.carriers();
    let query = (!line.query.is_empty()).then_some(&*line.query);
    // A path has no question mark: the query begins with the first.
    if !line.path.contains('?')
        && let Some(target) = carriers.target_without(&line.path, query, 1)
    {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), query.to_owned()),
            None => (target, String::new()),
        };
        assert!(path.len() + query.len() < line.path.len() + line.query.len());
        let mut items = line.query.split('&');
        let in_order = query
            .split('&')
            .all(|item| items.any(|other| other == item));
        assert!(
            query.is_empty() || in_order,
            "what is kept, stays as it was"
        );
    }
    let mut left = headers.clone();
    if carriers.strip_fields(&mut left) {
        let mut again = left.clone();
        assert!(!carriers.strip_fields(&mut again));
        assert_eq!(again, left);
    }
    let others = |fields: &HeaderMap| {
        let mut fields = fields.clone();
        fields.remove("cookie");
        fields.remove("authorization");
        fields
    };
    assert_eq!(others(&left), others(headers));
}
