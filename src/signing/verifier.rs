//! The keys that count on a route, and the one question that is asked of them.

use std::sync::Arc;
use std::time::SystemTime;

use super::carriers::Carriers;
use super::cloudfront::{self, CloudFrontKey};
use super::jwt::{self, JwtKeys, UriSigningKeys};
use super::secure_link::{self, SecureLinkKey};
use super::token::{self, TokenKey};
use super::view::RequestView;
use super::{
    CredentialRefusal, Explained, Granted, Keyring, Refusal, Rules, Scheme, carries_presignature,
    carries_signature_header, verify_header, verify_presigned,
};
use crate::secret::Secret;

/// A key that signs, or verifies what was signed.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its id, which no other key has.
    pub id: String,
    /// The methods that it is for when the signature does not say: all but AWS signatures.
    pub methods: Methods,
    /// What it is.
    pub kind: KeyKind,
}

/// What kind of key it is, with all that is needed to verify.
#[derive(Debug, Clone)]
pub enum KeyKind {
    /// An access key id.
    SigV4 {
        /// Its secret.
        secret: Secret,
        /// Whether it may sign URLs with Signature Version 2 as well, default false.
        allow_sigv2: bool,
    },
    /// The public half of a key pair.
    CloudFront(CloudFrontKey),
    /// Of tokens.
    Token(TokenKey),
    /// Of nginx's links.
    SecureLink(SecureLinkKey),
    /// The issuer of JWTs.
    Jwt(JwtKeys),
    /// The issuer of tokens for URI signing.
    UriSigning(UriSigningKeys),
}

impl KeyKind {
    /// The scheme that it is for.
    pub fn scheme(&self) -> Scheme {
        match self {
            KeyKind::SigV4 { .. } => Scheme::SigV4,
            KeyKind::CloudFront(_) => Scheme::CloudFront,
            KeyKind::Token(_) => Scheme::Token,
            KeyKind::SecureLink(_) => Scheme::SecureLink,
            KeyKind::Jwt(_) => Scheme::Jwt,
            KeyKind::UriSigning(_) => Scheme::UriSigning,
        }
    }
}

/// Methods, in upper case; GET and HEAD unless told otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods(pub Vec<String>);

impl Default for Methods {
    fn default() -> Self {
        Methods(vec!["GET".to_owned(), "HEAD".to_owned()])
    }
}

impl Methods {
    fn hold(&self, method: &str) -> bool {
        self.0.iter().any(|known| known == method)
    }
}

/// Which keys count on a route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accept {
    /// Keys of these schemes; `None`: of all.
    pub schemes: Option<Vec<Scheme>>,
    /// Keys with these ids; `None`: all.
    pub keys: Option<Vec<String>>,
}

impl Accept {
    /// Whether a key counts.
    pub fn takes(&self, key: &Key) -> bool {
        let schemes = self.schemes.as_ref();
        let keys = self.keys.as_ref();
        schemes.is_none_or(|schemes| schemes.contains(&key.kind.scheme()))
            && keys.is_none_or(|keys| keys.contains(&key.id))
    }
}

/// What one key says of a request.
pub(super) enum Verdict {
    /// The request carries nothing for this key.
    Nothing,
    /// What it carries was not made with this key; another may have made it.
    Unproven(CredentialRefusal),
    /// It was, and grants the request.
    Granted(Granted),
}

/// Asks the keys of a scheme in turn. The first one that has made the credential decides, also when it refuses what
/// was asked for; `None` when there is nothing for any of them.
///
/// # Errors
/// The [`CredentialRefusal`] with which a key ended the search, or else the last reason for which a credential was
/// not proven.
pub(super) fn first_to_prove<K>(
    keys: &[K],
    mut ask: impl FnMut(&K) -> Result<Verdict, CredentialRefusal>,
) -> Result<Option<Granted>, CredentialRefusal> {
    let mut unproven = None;
    for key in keys {
        match ask(key)? {
            Verdict::Nothing => {}
            Verdict::Unproven(refusal) => unproven = Some(refusal),
            Verdict::Granted(granted) => return Ok(Some(granted)),
        }
    }
    unproven.map_or(Ok(None), Err)
}

/// The keys that count on a route, by what they verify.
#[derive(Debug, Default)]
pub struct Verifier {
    keyring: Option<Keyring>,
    cloudfront: Vec<CloudFrontKey>,
    tokens: Vec<TokenKey>,
    secure_links: Vec<SecureLinkKey>,
    jwt: Vec<JwtKeys>,
    uri_signing: Vec<UriSigningKeys>,
    methods: Vec<(Arc<str>, Methods)>,
    carriers: Carriers,
}

impl Verifier {
    /// Of `keys`, those that `accept` takes.
    pub fn new(keys: &[Key], accept: &Accept) -> Self {
        let mut verifier = Verifier::default();
        let (mut secrets, mut sigv2) = (Vec::new(), Vec::new());
        for key in keys.iter().filter(|key| accept.takes(key)) {
            match &key.kind {
                KeyKind::SigV4 {
                    secret,
                    allow_sigv2,
                } => {
                    secrets.push((key.id.clone(), secret.clone()));
                    sigv2.extend(allow_sigv2.then_some(&key.id));
                }
                KeyKind::CloudFront(key) => verifier.cloudfront.push(key.clone()),
                KeyKind::Token(key) => verifier.tokens.push(key.clone()),
                KeyKind::SecureLink(key) => verifier.secure_links.push(key.clone()),
                KeyKind::Jwt(keys) => verifier.jwt.push(keys.clone()),
                KeyKind::UriSigning(keys) => verifier.uri_signing.push(keys.clone()),
            }
            verifier
                .methods
                .push((key.id.as_str().into(), key.methods.clone()));
        }
        verifier.keyring = (!secrets.is_empty()).then(|| {
            let keyring = Keyring::new(secrets);
            sigv2
                .into_iter()
                .fold(keyring, |keyring, id| keyring.allow_sigv2(id))
        });
        verifier.carriers = verifier.carriers_of_keys();
        verifier
    }

    fn carriers_of_keys(&self) -> Carriers {
        let mut carriers = Carriers::default();
        if !self.cloudfront.is_empty() {
            cloudfront::carry(&mut carriers);
        }
        self.tokens.iter().for_each(|key| key.carry(&mut carriers));
        for key in &self.secure_links {
            key.carry(&mut carriers);
        }
        self.jwt.iter().for_each(|keys| keys.carry(&mut carriers));
        for keys in &self.uri_signing {
            keys.carry(&mut carriers);
        }
        carriers
    }

    /// Where the credentials stand that are for these keys.
    pub fn carriers(&self) -> &Carriers {
        &self.carriers
    }

    /// Decides whether something that a request carries is genuine and grants it.
    ///
    /// Schemes are tried in the order of [`Scheme::ALL`], each with the first credential of its own
    /// that the request carries; the first that is genuine grants.
    ///
    /// # Errors
    /// The [`Refusal`] of the first scheme whose credential there is; [`Refusal::NotSigned`] when
    /// there is none.
    pub fn verify(
        &self,
        view: &RequestView,
        rules: &Rules,
        now: SystemTime,
    ) -> Result<Granted, Refusal> {
        let mut first = None;
        for scheme in Scheme::ALL {
            match self.verify_by(scheme, view, rules, now) {
                Ok(Some(granted)) => return Ok(granted),
                Ok(None) => {}
                Err(refusal) => {
                    first.get_or_insert(refusal);
                }
            }
        }
        Err(first.unwrap_or(Refusal::NotSigned))
    }

    /// The grant by one scheme; `None` when the request carries nothing for it.
    fn verify_by(
        &self,
        scheme: Scheme,
        view: &RequestView,
        rules: &Rules,
        now: SystemTime,
    ) -> Result<Option<Granted>, Refusal> {
        let leeway = rules.clock_leeway;
        let granted = match scheme {
            Scheme::SigV4 => return self.verify_sigv4(view, rules, now),
            Scheme::CloudFront if self.cloudfront.is_empty() => Ok(None),
            Scheme::CloudFront => cloudfront::verify(view, &self.cloudfront, leeway, now),
            Scheme::Token => token::verify(view, &self.tokens, leeway, now),
            Scheme::SecureLink => secure_link::verify(view, &self.secure_links, now),
            Scheme::Jwt => jwt::verify(view, &self.jwt, leeway, now),
            Scheme::UriSigning => jwt::verify_uri_signing(view, &self.uri_signing, now),
        };
        let granted = granted.and_then(|granted| self.for_method(granted, view.request.method));
        granted.map_err(|refusal| Refusal::Credential { scheme, refusal })
    }

    fn for_method(
        &self,
        granted: Option<Granted>,
        method: &str,
    ) -> Result<Option<Granted>, CredentialRefusal> {
        let Some(granted) = granted else {
            return Ok(None);
        };
        let mut methods = self.methods.iter();
        let methods = methods.find(|(id, _)| *id == granted.key_id);
        if methods.is_some_and(|(_, methods)| methods.hold(method)) {
            Ok(Some(granted))
        } else {
            Err(CredentialRefusal::WrongMethod)
        }
    }

    fn verify_sigv4(
        &self,
        view: &RequestView,
        rules: &Rules,
        now: SystemTime,
    ) -> Result<Option<Granted>, Refusal> {
        let (request, Some(keyring)) = (&view.request, &self.keyring) else {
            return Ok(None);
        };
        let presigned = carries_presignature(request.query);
        if carries_signature_header(request.headers) && !presigned {
            let grant = verify_header(request, keyring, rules, now)?;
            return Ok(Some(Granted {
                scheme: Scheme::SigV4,
                key_id: grant.access_key_id.into(),
                expires: None,
                not_before: None,
                client_bound: false,
                covers_fields: true,
                renewed: None,
            }));
        }
        if !presigned {
            return Ok(None);
        }
        let grant = verify_presigned(request, keyring, rules, now)?;
        Ok(Some(Granted {
            scheme: Scheme::SigV4,
            key_id: grant.access_key_id.into(),
            expires: Some(grant.expires),
            not_before: None,
            client_bound: false,
            covers_fields: !grant.signed_headers.is_empty(),
            renewed: None,
        }))
    }

    /// What was signed, by everything that the request carries for these keys but AWS signatures,
    /// which [`super::explain_presigned`] explains.
    pub fn explain(&self, view: &RequestView) -> Vec<Result<Explained, CredentialRefusal>> {
        let mut found = Vec::new();
        if !self.cloudfront.is_empty() {
            found.push(cloudfront::explain(view));
        }
        found.extend(self.tokens.iter().map(|key| token::explain(view, key)));
        found.extend((self.secure_links.iter()).map(|key| secure_link::explain(view, key)));
        found.extend(self.jwt.iter().map(|keys| jwt::explain(view, keys)));
        found.extend((self.uri_signing.iter()).map(|keys| jwt::explain_uri_signing(view, keys)));
        found.into_iter().filter_map(Result::transpose).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::CONTENT_TYPE;
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::signing::test_support::Asked;
    use crate::signing::{
        AuthorizeSpec, PresignSpec, PresignV2Spec, TokenHash, TokenSpec, authorize_headers,
        presign, presign_v2, sign_token,
    };

    const RULES: Rules<'static> = Rules {
        region: None,
        clock_leeway: Duration::ZERO,
        domain: None,
    };

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn token_key(id: &str, secret: &str) -> TokenKey {
        TokenKey::new(id, "hdnts", TokenHash::Sha256, secret.as_bytes())
    }

    fn keys() -> Vec<Key> {
        let token = |id: &str, secret: &str| Key {
            id: id.to_owned(),
            methods: Methods::default(),
            kind: KeyKind::Token(token_key(id, secret)),
        };
        vec![
            Key {
                id: "demo".to_owned(),
                methods: Methods::default(),
                kind: KeyKind::SigV4 {
                    secret: Secret::new("secret"),
                    allow_sigv2: false,
                },
            },
            token("this-year", "one"),
            token("next-year", "two"),
        ]
    }

    fn presigned() -> String {
        let spec = PresignSpec {
            method: "GET",
            host: "h",
            path: "/a",
            query: &[],
            access_key_id: "demo",
            region: "us-east-1",
            expires: Duration::from_secs(60),
        };
        presign(&spec, &Secret::new("secret"), now()).unwrap()
    }

    fn token(secret: &str) -> String {
        let spec = TokenSpec {
            expires: 1_700_000_001,
            not_before: None,
            acl: Some("/*"),
            ip: None,
        };
        sign_token(&token_key("any", secret), "/a", &spec)
    }

    fn verdict(accept: &Accept, asked: &Asked) -> Result<String, &'static str> {
        let verifier = Verifier::new(&keys(), accept);
        let granted = verifier.verify(&asked.view(), &RULES, now());
        granted
            .map(|granted| granted.key_id.to_string())
            .map_err(|refusal| refusal.reason())
    }

    #[test]
    fn a_route_takes_the_keys_that_it_names_and_no_others() {
        let accept = |schemes: Option<&[Scheme]>, ids: Option<&[&str]>| Accept {
            schemes: schemes.map(<[Scheme]>::to_vec),
            keys: ids.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect()),
        };
        let all = Accept::default();
        let tokens = accept(Some(&[Scheme::Token]), None);
        let next = accept(None, Some(&["next-year", "demo"]));
        let none = accept(Some(&[Scheme::SigV4]), Some(&["next-year"]));
        let by_url = |target: String| Asked::new(&format!("http://h{target}"));
        let sigv4 = by_url(presigned());
        let one = by_url(format!("/a?hdnts={}", token("one")));
        let two = by_url(format!("/a?hdnts={}", token("two")));
        for (accept, asked, expected) in [
            (&all, &sigv4, Ok("demo")),
            (&all, &one, Ok("this-year")),
            (&all, &two, Ok("next-year")),
            (&tokens, &sigv4, Err("not_signed")),
            (&tokens, &one, Ok("this-year")),
            (&next, &sigv4, Ok("demo")),
            (&next, &one, Err("signature_mismatch")),
            (&next, &two, Ok("next-year")),
            (&none, &sigv4, Err("not_signed")),
            (&none, &two, Err("not_signed")),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(verdict(accept, asked), expected, "{accept:?} {asked:?}");
        }
    }

    #[test]
    fn of_several_credentials_one_that_is_genuine_is_enough_and_the_first_cause_is_told() {
        let all = Accept::default();
        let (good, bad) = (
            presigned(),
            presigned().replace("Signature=", "Signature=0"),
        );
        for (target, expected) in [
            (format!("{bad}&hdnts={}", token("one")), Ok("this-year")),
            (
                format!("{bad}&hdnts={}", token("three")),
                Err("malformed_signature"),
            ),
            // What is signed twice is not as it was signed.
            (
                format!("{good}&hdnts={}", token("three")),
                Err("signature_mismatch"),
            ),
            ("/a".to_owned(), Err("not_signed")),
        ] {
            let asked = Asked::new(&format!("http://h{target}"));
            let expected = expected.map(str::to_owned);
            assert_eq!(verdict(&all, &asked), expected, "{target}");
        }
    }

    #[test]
    fn a_signature_that_covers_fields_says_so() {
        let keys = [Key {
            id: "demo".to_owned(),
            methods: Methods::default(),
            kind: KeyKind::SigV4 {
                secret: Secret::new("secret"),
                allow_sigv2: true,
            },
        }];
        let verifier = Verifier::new(&keys, &Accept::default());
        let covers = |asked: &Asked| {
            let granted = verifier.verify(&asked.view(), &RULES, now());
            granted.map(|granted| granted.covers_fields).ok()
        };
        // Of a presigned URL the host is covered, which is nothing that the cache changes.
        assert_eq!(
            covers(&Asked::new(&format!("http://h{}", presigned()))),
            Some(false)
        );
        let nothing = HeaderMap::new();
        let spec = AuthorizeSpec {
            method: "GET",
            host: "h",
            path: "/a",
            query: "",
            headers: &nothing,
            payload: "UNSIGNED-PAYLOAD",
            access_key_id: "demo",
            region: "us-east-1",
        };
        let mut by_header = Asked::new("http://h/a");
        let fields = authorize_headers(&spec, &Secret::new("secret"), now()).unwrap();
        by_header.fields.extend(fields);
        assert_eq!(covers(&by_header), Some(true));
        for (fields, expected) in [
            (HeaderMap::new(), false),
            (
                HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("a/b"))]),
                true,
            ),
        ] {
            let spec = PresignV2Spec {
                method: "GET",
                host: "h",
                domain: None,
                path: "/a",
                query: &[],
                headers: &fields,
                access_key_id: "demo",
                expires: Duration::from_secs(60),
            };
            let target = presign_v2(&spec, &Secret::new("secret"), now()).unwrap();
            let mut asked = Asked::new(&format!("http://h{target}"));
            asked.fields = fields;
            assert_eq!(covers(&asked), Some(expected), "{asked:?}");
        }
    }

    #[test]
    fn a_key_that_says_no_method_is_for_reading() {
        let all = Accept::default();
        for (method, expected) in [
            ("GET", Ok("this-year".to_owned())),
            ("HEAD", Ok("this-year".to_owned())),
            ("PUT", Err("wrong_method")),
            ("POST", Err("wrong_method")),
            ("get", Err("wrong_method")),
        ] {
            let mut asked = Asked::new(&format!("http://h/a?hdnts={}", token("one")));
            asked.method = method;
            assert_eq!(verdict(&all, &asked), expected, "{method}");
        }
    }
}
