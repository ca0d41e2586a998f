//! Tokens with a keyed hash, and nginx's secure links.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use http::HeaderMap;
use tidegate::secret::Secret;
use tidegate::signing::{
    Expression, KeyKind, SecureLinkKey, TokenHash, TokenKey, TokenSpec, Verifier, sign_secure_link,
    sign_token,
};

use super::credentials::{END, is_granted, verifier};
use super::{Line, fields, percent_decoded, take_line, take_number, take_text};

static TOKEN: LazyLock<TokenKey> =
    LazyLock::new(|| TokenKey::new("k0", "hdnts", TokenHash::Sha256, b"known-to-the-harness"));

static LINK: LazyLock<SecureLinkKey> = LazyLock::new(|| SecureLinkKey {
    id: "k1".into(),
    parameter: "md5".into(),
    expires_parameter: "expires".into(),
    expression: Expression::parse("$secure_link_expires$uri $secret").expect("it is complete"),
    secret: Secret::new("known-to-the-harness"),
});

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    verifier([
        KeyKind::Token(TOKEN.clone()),
        KeyKind::SecureLink(LINK.clone()),
    ])
});

/// Five lines (path, query, an access list, position of an edit, text of the edit), then fields.
///
/// The request is judged as it stands, then signed in three ways; each is judged, edited and judged again.
pub fn check(data: &[u8]) {
    // An expression is read by the configuration only, and yet nothing may break it.
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Expression::parse(text);
    }
    let mut rest = data;
    let texts = (
        take_text(&mut rest),
        take_text(&mut rest),
        take_text(&mut rest),
    );
    let (Some(path), Some(query), Some(acl)) = texts else {
        return;
    };
    let position = take_number(&mut rest);
    let text = take_line(&mut rest);
    let fields = fields(rest.split(|byte| *byte == b'\n'));
    let line = Line {
        method: "GET".to_owned(),
        host: "h".to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
    };
    assert!(
        !is_granted(&VERIFIER, &line, &fields),
        "nobody has signed this"
    );
    if !path.starts_with('/') || path.contains('?') || path.contains('~') {
        return;
    }
    let nothing = HeaderMap::new();
    let spec = |acl| TokenSpec {
        expires: END,
        not_before: None,
        acl,
        ip: None,
    };
    let of_path = sign_token(&TOKEN, path, &spec(None));
    let of_list = sign_token(&TOKEN, path, &spec(Some(acl)));
    let nobody = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let link = sign_secure_link(&LINK, path, END, nobody).ok();
    let with = |query: String| Line {
        query,
        ..line.clone()
    };

    let signed = with(format!("hdnts={of_path}"));
    assert!(
        is_granted(&VERIFIER, &signed, &nothing),
        "what we sign, we accept: {signed:?}"
    );
    if let Some(edited) = signed.edited(position, text)
        && is_granted(&VERIFIER, &edited, &nothing)
    {
        assert_eq!(edited.path, signed.path);
    }
    // Whether a list opens this path depends on the list.
    if !acl.contains(['~', '&', '?']) {
        is_granted(&VERIFIER, &with(format!("hdnts={of_list}")), &nothing);
    }
    let Some(link) = link else { return };
    let signed = with(link);
    assert!(
        is_granted(&VERIFIER, &signed, &nothing),
        "what we sign, we accept: {signed:?}"
    );
    if let Some(edited) = signed.edited(position, text)
        && is_granted(&VERIFIER, &edited, &nothing)
    {
        let decoded = |line: &Line| percent_decoded(line.path.as_bytes());
        assert_eq!(decoded(&edited), decoded(&signed));
    }
}
