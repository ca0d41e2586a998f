//! Keys made for one run, requests to be judged, and URLs that are almost right.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use super::{PrivateKey, RequestView, SignedRequest};

/// A key pair in PEM.
pub(super) struct Pair {
    private: String,
    pub(super) public: String,
}

impl Pair {
    fn new(private: &[u8], public: &[u8]) -> Self {
        Pair {
            private: pem("PRIVATE KEY", private),
            public: pem("PUBLIC KEY", public),
        }
    }

    pub(super) fn private(&self) -> PrivateKey {
        PrivateKey::from_pem(self.private.as_bytes()).unwrap()
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

pub(super) static RSA: LazyLock<Pair> = LazyLock::new(|| {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let private = AsDer::<Pkcs8V1Der>::as_der(&pair).unwrap();
    let public = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap();
    Pair::new(private.as_ref(), public.as_ref())
});

pub(super) static P256: LazyLock<Pair> = LazyLock::new(|| {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let public = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap();
    Pair::new(pair.to_pkcs8v1().unwrap().as_ref(), public.as_ref())
});

pub(super) static ED25519: LazyLock<Pair> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::generate().unwrap();
    let public = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).unwrap();
    Pair::new(pair.to_pkcs8().unwrap().as_ref(), public.as_ref())
});

/// A GET of a URL, raw.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    scheme: String,
    host: String,
    path: String,
    query: String,
    pub(super) method: &'static str,
    pub(super) fields: HeaderMap,
    pub(super) client: IpAddr,
    pub(super) prefix_length: usize,
}

impl Asked {
    pub(super) fn new(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (host, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Asked {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            method: "GET",
            fields: HeaderMap::new(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            prefix_length: 1,
        }
    }

    pub(super) fn view(&self) -> RequestView<'_> {
        RequestView {
            request: SignedRequest {
                method: self.method,
                path: &self.path,
                query: &self.query,
                host: &self.host,
                headers: &self.fields,
            },
            scheme: &self.scheme,
            client: self.client,
            prefix_length: self.prefix_length,
        }
    }
}

/// A URL with each of its bytes replaced, removed and doubled, and with its query's items removed,
/// doubled, swapped and joined by others. None of them is the URL itself.
pub(super) fn mutations(url: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, byte) in url.bytes().enumerate() {
        let with = |middle: &str| [&url[..at], middle, &url[at + 1..]].concat();
        let other = match byte {
            b'a' => "b",
            b'/' => "-",
            _ => "a",
        };
        let case = if byte.is_ascii_lowercase() {
            byte.to_ascii_uppercase()
        } else {
            byte.to_ascii_lowercase()
        };
        let own = char::from(byte);
        found.push(with(other));
        found.push(with(&char::from(case).to_string()));
        found.push(with(""));
        found.push(with(&format!("{own}{own}")));
    }
    let (target, query) = url.split_once('?').unwrap_or((url, ""));
    let items: Vec<&str> = query.split('&').collect();
    let joined = |items: &[&str]| format!("{target}?{}", items.join("&"));
    for at in 0..items.len() {
        let mut fewer = items.clone();
        fewer.remove(at);
        found.push(joined(&fewer));
        let mut more = items.clone();
        more.insert(at, items[at]);
        found.push(joined(&more));
        let mut further = items.clone();
        further.insert(at, "z=1");
        found.push(joined(&further));
    }
    found.retain(|mutated| mutated != url);
    found
}
