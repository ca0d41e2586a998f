//! The ways of signing that are spoken here, by the word that configuration, log and command line use.

use std::fmt;

/// A way of signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// AWS Signature Version 4, in the query or in `Authorization`.
    SigV4,
    /// CloudFront signed URLs and signed cookies.
    CloudFront,
    /// A keyed hash over expiry and paths: `hdnts=exp=…~acl=…~hmac=…`.
    Token,
    /// nginx's `secure_link_md5`.
    SecureLink,
    /// A JSON Web Token (RFC 7519).
    Jwt,
    /// URI signing for CDN interconnection (RFC 9246).
    UriSigning,
}

impl Scheme {
    /// All, in the order in which a request is tried by them.
    pub const ALL: [Scheme; 6] = [
        Scheme::SigV4,
        Scheme::CloudFront,
        Scheme::Token,
        Scheme::SecureLink,
        Scheme::Jwt,
        Scheme::UriSigning,
    ];

    /// The words of [`Scheme::ALL`], in its order.
    pub const WORDS: [&'static str; 6] = [
        "sigv4",
        "cloudfront",
        "token",
        "secure_link",
        "jwt",
        "uri_signing",
    ];

    /// The word.
    pub const fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_has_the_word_in_its_place() {
        for (place, scheme) in Scheme::ALL.into_iter().enumerate() {
            assert_eq!(scheme as usize, place);
        }
        assert_eq!(Scheme::UriSigning.word(), "uri_signing");
    }
}
