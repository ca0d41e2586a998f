//! Reads the `edge.signing` section, and what a route says about it.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::checked::{Access, Signing};
use super::parsers::{
    credential_part, duration, expression, host, jwks_file, method, one_of, or_none,
    public_key_file, query_parameter, secret_file, secret_variable, text, true_or_false,
};
use super::problem::Reason;
use super::reader::{Entries, Section};
use super::relations::{Names, Relations};
use crate::secret::Secret;
use crate::signing::{
    Accept, CloudFrontKey, DEFAULT_EXPRESSION, Expression, JwkSet, JwtKeys, Key, KeyKind, Methods,
    PublicKey, Scheme, SecureLinkKey, TokenHash, TokenKey, UriSigningKeys,
};

const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn read(signing: &Section<'_>, relations: &Relations<'_>) -> Option<Signing> {
    let mut ids = Names::default();
    let keys = signing.list("keys", Entries::Any, |key| {
        read_key(key, &mut ids, relations)
    });
    let region = signing.optional("region", "any region", credential_part("a region"));
    let clock_leeway = signing.or_default("clock_leeway", "15m", duration(Duration::ZERO..=HOUR));
    let domain = signing.optional("domain", "path style only", host());
    Some(Signing {
        domain: domain?,
        keys: keys?,
        region: region?,
        clock_leeway: clock_leeway?,
    })
}

/// How the text of a secret stands for its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Text,
    Hex,
    Base64,
}

/// Everything that a key may be given; which of it belongs to a scheme, [`Given::into_kind`] says.
struct Given {
    secret_file: Option<Secret>,
    secret_variable: Option<Secret>,
    secret_encoding: Option<Encoding>,
    public_key: Option<PublicKey>,
    jwks: Option<JwkSet>,
    parameter: Option<String>,
    expires_parameter: Option<String>,
    expression: Option<Expression>,
    hash: Option<TokenHash>,
    issuer: Option<String>,
    audience: Option<String>,
    renewal_key: Option<String>,
    path_claim: Option<Option<String>>,
    methods: Option<Vec<String>>,
    allow_sigv2: Option<bool>,
}

fn read_key(key: &Section<'_>, ids: &mut Names, relations: &Relations<'_>) -> Option<Key> {
    let base = relations.base_dir;
    let id = key.required("id", credential_part("a key id"));
    if let Some(id) = &id {
        ids.claim(key, "id", id);
    }
    let scheme = key.or_default("scheme", "sigv4", one_of(&Scheme::WORDS, &Scheme::ALL));
    let secret_file = key.optional("secret_file", "secret_env, or none", secret_file(base));
    let secret_variable = key.optional("secret_env", "secret_file, or none", secret_variable());
    let secret_encoding = key.optional(
        "secret_encoding",
        "text",
        one_of(
            &["text", "hex", "base64"],
            &[Encoding::Text, Encoding::Hex, Encoding::Base64],
        ),
    );
    let public_key = key.optional("public_key_file", "none", public_key_file(base));
    let jwks = key.optional("jwks_file", "none", jwks_file(base));
    let parameter = key.optional("parameter", "as the scheme has it", query_parameter());
    let expires_parameter = key.optional("expires_parameter", "expires", query_parameter());
    let expression = key.optional("expression", "as in nginx's manual", expression());
    let hash = key.optional(
        "hash",
        "sha256",
        one_of(&["sha256", "sha1"], &[TokenHash::Sha256, TokenHash::Sha1]),
    );
    let issuer = key.optional("issuer", "any", text("an issuer"));
    let audience = key.optional("audience", "none", text("an audience"));
    let renewal_key = key.optional(
        "renewal_key",
        "the secret that a token is signed with",
        text("a kid"),
    );
    let path_claim = key.optional("path_claim", "path", or_none(text("a claim")));
    let methods = key.optional_scalars("methods", "GET and HEAD", method());
    let allow_sigv2 = key.optional("allow_sigv2", "false", true_or_false());
    let (id, scheme) = (id?, scheme?);
    let given = Given {
        secret_file: secret_file?,
        secret_variable: secret_variable?,
        secret_encoding: secret_encoding?,
        public_key: public_key?,
        jwks: jwks?,
        parameter: parameter?,
        expires_parameter: expires_parameter?,
        expression: expression?,
        hash: hash?,
        issuer: issuer?,
        audience: audience?,
        renewal_key: renewal_key?,
        path_claim: path_claim?,
        methods: methods?.map(|methods| methods.iter().map(ToString::to_string).collect()),
        allow_sigv2: allow_sigv2?,
    };
    let methods = given.methods.clone().map(Methods);
    let kind = given.into_kind(&id, scheme, key)?;
    Some(Key {
        id,
        methods: methods.unwrap_or_default(),
        kind,
    })
}

impl Given {
    /// The key, if what is given is what its scheme asks for, and nothing else.
    fn into_kind(self, id: &str, scheme: Scheme, key: &Section<'_>) -> Option<KeyKind> {
        let settings: &[&str] = match scheme {
            Scheme::SigV4 => &["secret_file", "secret_env", "allow_sigv2"],
            Scheme::CloudFront => &["public_key_file", "methods"],
            Scheme::Token => &[
                "secret_file",
                "secret_env",
                "secret_encoding",
                "parameter",
                "hash",
                "methods",
            ],
            Scheme::SecureLink => &[
                "secret_file",
                "secret_env",
                "parameter",
                "expires_parameter",
                "expression",
                "methods",
            ],
            Scheme::Jwt => &[
                "jwks_file",
                "parameter",
                "issuer",
                "audience",
                "path_claim",
                "methods",
            ],
            Scheme::UriSigning => &[
                "jwks_file",
                "parameter",
                "issuer",
                "audience",
                "renewal_key",
                "methods",
            ],
        };
        let mut sound = true;
        for (setting, is_given) in self.given() {
            if is_given && !settings.contains(&setting) {
                key.problem(setting, Reason::NotOfScheme(scheme));
                sound = false;
            }
        }
        let parameter = |default: &str| self.parameter.clone().unwrap_or(default.to_owned());
        let required = |setting: &str| {
            if !key.gives(setting) {
                key.problem(setting, Reason::Missing);
            }
        };
        let kind = match scheme {
            Scheme::SigV4 => KeyKind::SigV4 {
                secret: self.secret(key)?,
                allow_sigv2: self.allow_sigv2.unwrap_or_default(),
            },
            Scheme::CloudFront => {
                required("public_key_file");
                KeyKind::CloudFront(CloudFrontKey {
                    id: id.into(),
                    key: self.public_key?,
                })
            }
            Scheme::Token => {
                let secret = self.secret_bytes(key)?;
                let hash = self.hash.unwrap_or(TokenHash::Sha256);
                KeyKind::Token(TokenKey::new(id, &parameter("hdnts"), hash, &secret))
            }
            Scheme::SecureLink => {
                let secret = self.secret(key)?;
                let parameter = parameter("md5").into();
                let expires_parameter = self.expires_parameter.unwrap_or("expires".to_owned());
                let expression = self.expression.unwrap_or_else(|| {
                    Expression::parse(DEFAULT_EXPRESSION).expect("the default is an expression")
                });
                KeyKind::SecureLink(SecureLinkKey {
                    id: id.into(),
                    parameter,
                    expires_parameter: expires_parameter.into(),
                    expression,
                    secret,
                })
            }
            Scheme::Jwt => {
                required("jwks_file");
                KeyKind::Jwt(JwtKeys {
                    id: id.into(),
                    parameter: parameter("token").into(),
                    keys: self.jwks?,
                    issuer: self.issuer,
                    audience: self.audience,
                    path_claim: self.path_claim.unwrap_or(Some("path".to_owned())),
                })
            }
            Scheme::UriSigning => {
                required("jwks_file");
                let parameter = parameter("URISigningPackage");
                let (issuer, audience) = (self.issuer, self.audience);
                let keys = UriSigningKeys::new(id, self.jwks?, &parameter, issuer, audience);
                KeyKind::UriSigning(match self.renewal_key {
                    None => keys,
                    Some(kid) => {
                        let keys = keys.renewing_with(&kid);
                        if keys.is_none() {
                            key.problem("renewal_key", Reason::NoSecretOfSet(kid));
                        }
                        keys?
                    }
                })
            }
        };
        sound.then_some(kind)
    }

    /// Each setting that belongs to some schemes only, and whether it is given.
    fn given(&self) -> [(&'static str, bool); 15] {
        [
            ("secret_file", self.secret_file.is_some()),
            ("secret_env", self.secret_variable.is_some()),
            ("secret_encoding", self.secret_encoding.is_some()),
            ("public_key_file", self.public_key.is_some()),
            ("jwks_file", self.jwks.is_some()),
            ("parameter", self.parameter.is_some()),
            ("expires_parameter", self.expires_parameter.is_some()),
            ("expression", self.expression.is_some()),
            ("hash", self.hash.is_some()),
            ("issuer", self.issuer.is_some()),
            ("audience", self.audience.is_some()),
            ("renewal_key", self.renewal_key.is_some()),
            ("path_claim", self.path_claim.is_some()),
            ("methods", self.methods.is_some()),
            ("allow_sigv2", self.allow_sigv2.is_some()),
        ]
    }

    fn secret(&self, key: &Section<'_>) -> Option<Secret> {
        one_secret(
            key,
            self.secret_file.as_ref(),
            self.secret_variable.as_ref(),
        )
    }

    fn secret_bytes(&self, key: &Section<'_>) -> Option<Zeroizing<Vec<u8>>> {
        let secret = self.secret(key)?;
        let text = secret.reveal();
        let (bytes, wanted) = match self.secret_encoding.unwrap_or(Encoding::Text) {
            Encoding::Text => (Some(text.as_bytes().to_vec()), "text"),
            Encoding::Hex => (hex::decode(text).ok(), "hexadecimal"),
            Encoding::Base64 => (STANDARD.decode(text).ok(), "base64"),
        };
        if bytes.is_none() {
            key.problem("secret_encoding", Reason::NotEncoded(wanted));
        }
        bytes.map(Zeroizing::new)
    }
}

/// The secret of whoever must have one: in `secret_file` or in `secret_env`.
pub(super) fn read_secret(section: &Section<'_>, base: &Path) -> Option<Secret> {
    let in_file = section.optional("secret_file", "secret_env is given", secret_file(base));
    let in_variable = section.optional("secret_env", "secret_file is given", secret_variable());
    one_secret(section, in_file?.as_ref(), in_variable?.as_ref())
}

fn one_secret(
    section: &Section<'_>,
    in_file: Option<&Secret>,
    in_variable: Option<&Secret>,
) -> Option<Secret> {
    match (in_file, in_variable) {
        (Some(secret), None) | (None, Some(secret)) => Some(secret.clone()),
        (None, None) | (Some(_), Some(_)) => {
            section.problem_here(Reason::NotExactlyOne(&["secret_file", "secret_env"]));
            None
        }
    }
}

/// Which keys count on a route: its `signing` section.
pub(super) fn read_of_route(
    route: &Section<'_>,
    access: Option<Access>,
    signing: Option<&Signing>,
) -> Option<Accept> {
    let accept = route.section("signing", |section| {
        let schemes = one_of(&Scheme::WORDS, &Scheme::ALL);
        let schemes = section.optional_scalars("schemes", "all", schemes)?;
        let keys = section.optional_scalars("keys", "all", credential_part("a key id"))?;
        Some(Accept { schemes, keys })
    })?;
    if access == Some(Access::Public) && route.gives("signing") {
        route.problem("signing", Reason::SigningOnPublicRoute);
    }
    // When `edge.signing` itself could not be read, its own problem is enough.
    let (Some(Access::Signed), Some(signing)) = (access, signing) else {
        return Some(accept);
    };
    let mut sound = true;
    let mut problem = |key: &str, reason| {
        route.problem(key, reason);
        sound = false;
    };
    for id in accept.keys.iter().flatten() {
        if !signing.keys.iter().any(|key| key.id == *id) {
            problem("signing.keys", Reason::UnknownSigningKey(id.clone()));
        }
    }
    for scheme in accept.schemes.iter().flatten() {
        let of_scheme = |key: &Key| key.kind.scheme() == *scheme;
        if !signing.keys.iter().any(of_scheme) {
            problem("signing.schemes", Reason::SchemeWithoutKeys(*scheme));
        }
    }
    if sound && !signing.keys.iter().any(|key| accept.takes(key)) {
        route.problem("access", Reason::SignedWithoutKeys);
    }
    Some(accept)
}
