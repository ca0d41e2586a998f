//! The list of header fields that a signature covers.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

use crate::signing::Refusal;

/// Lower-case field names in strictly ascending order, separated by semicolons.
///
/// Every signer sorts the list, so a list out of order is refused instead of being given a second
/// meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SignedHeaders<'a>(Cow<'a, str>);

impl<'a> SignedHeaders<'a> {
    /// Checks a list.
    ///
    /// # Errors
    /// [`Refusal::MalformedSignedHeaders`].
    pub(super) fn parse(text: Cow<'a, str>) -> Result<Self, Refusal> {
        let mut previous = "";
        for name in text.split(';') {
            // Names are compared byte by byte, and the empty name sorts first: this refuses it.
            if name <= previous || HeaderName::from_lowercase(name.as_bytes()).is_err() {
                return Err(Refusal::MalformedSignedHeaders);
            }
            previous = name;
        }
        Ok(SignedHeaders(text))
    }

    /// The list as it is signed.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The names, ascending.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split(';')
    }

    /// Checks that the signature covers what it must: the host, and every `x-amz-*` field that was sent. That
    /// every signed field was sent is noticed where its value is needed.
    ///
    /// # Errors
    /// [`Refusal::HostNotSigned`], [`Refusal::UnsignedHeader`].
    pub(super) fn check_coverage(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if !self.covers("host") {
            return Err(Refusal::HostNotSigned);
        }
        for name in headers.keys() {
            if name.as_str().starts_with("x-amz-") && !self.covers(name.as_str()) {
                return Err(Refusal::UnsignedHeader { name: name.clone() });
            }
        }
        Ok(())
    }

    /// The refusal for a field that is signed but was not sent.
    pub(super) fn absent(name: &str) -> Refusal {
        match HeaderName::from_lowercase(name.as_bytes()) {
            Ok(name) => Refusal::SignedHeaderAbsent { name },
            Err(_) => Refusal::MalformedSignedHeaders,
        }
    }

    fn covers(&self, wanted: &str) -> bool {
        self.names().any(|name| name == wanted)
    }
}
