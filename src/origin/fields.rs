//! The fields of a request: which `x-amz-*` ones an operation knows, and which ones are stored with an object.

use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::checksums::Algorithm;
use super::query::Query;

/// The most bytes of user metadata, names and values together (S3, "User-defined object metadata").
pub const USER_METADATA_MAX_BYTES: usize = 2048;
/// What S3 says of an object whose writer said nothing.
pub const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

/// What the fields of S3 begin with.
const AMZ: &str = "x-amz-";
/// The prefix of user metadata.
const USER_METADATA: &str = "x-amz-meta-";
/// The system fields that are stored and returned as they came.
const STORED: [HeaderName; 6] = [
    CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_TYPE,
    EXPIRES,
];
/// Known to every operation: they belong to the signature or change nothing.
const KNOWN_EVERYWHERE: [&str; 14] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    // Both are compared where the caller's rights are.
    "x-amz-expected-bucket-owner",
    "x-amz-expires",
    "x-amz-request-payer",
    // Nobody gets temporary credentials here, so a token cannot narrow what the key may do.
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
    "x-amz-source-expected-bucket-owner",
    "x-amz-user-agent",
    "x-amz-te",
    "x-id",
];

/// A field that cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// An `x-amz-*` field asks for something that this operation does not do. Ignoring it could, for one,
    /// store in the clear what was to be encrypted.
    #[error("{name} implies functionality that is not implemented")]
    NotImplemented {
        /// The field.
        name: String,
    },
    /// A field is given twice, or in the query and in a header with different values.
    #[error("{name} is given more than once")]
    Repeated {
        /// The field.
        name: String,
    },
    /// A field holds what it may not hold.
    #[error("{name} has no valid value")]
    Invalid {
        /// The field.
        name: &'static str,
    },
    /// More than [`USER_METADATA_MAX_BYTES`].
    #[error("user metadata has {bytes} bytes, at most 2048 are stored")]
    MetadataTooLarge {
        /// What came.
        bytes: usize,
    },
}

/// The fields of one request. A presigned URL may carry `x-amz-*` fields in its query; S3 honours them there.
#[derive(Debug, Clone, Copy)]
pub struct RequestFields<'a> {
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The query.
    pub query: &'a Query,
    /// Whether the signature is in the query.
    pub presigned: bool,
}

/// What is stored with an object and returned with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredFields(Vec<(HeaderName, HeaderValue)>);

impl RequestFields<'_> {
    /// Refuses `x-amz-*` fields that neither this operation nor the signature knows. `known` are lower-case
    /// names; a name that ends in `-` stands for everything that begins with it.
    ///
    /// # Errors
    /// [`FieldError::NotImplemented`].
    pub fn refuse_unknown(&self, known: &[&str]) -> Result<(), FieldError> {
        let in_headers = self.headers.keys().map(HeaderName::as_str);
        let in_query = self.query.iter().map(|(name, _)| name);
        for name in in_headers.chain(in_query) {
            let prefix = name.as_bytes().get(..AMZ.len());
            if !prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(AMZ.as_bytes())) {
                continue;
            }
            let lower = name.to_ascii_lowercase();
            let is_known = KNOWN_EVERYWHERE
                .iter()
                .chain(known)
                .any(|known| lower == *known || (known.ends_with('-') && lower.starts_with(known)));
            if !is_known || is_foreign_checksum(&lower) {
                return Err(FieldError::NotImplemented { name: lower });
            }
        }
        Ok(())
    }

    /// The value of an `x-amz-*` field, from a header or the query of a presigned URL.
    ///
    /// # Errors
    /// [`FieldError::Repeated`], or [`FieldError::Invalid`] when the value is not visible ASCII.
    pub fn amz(&self, name: &'static str) -> Result<Option<String>, FieldError> {
        let invalid = |_| FieldError::Invalid { name };
        let mut found: Option<String> = None;
        let in_headers = self.headers.get_all(name).iter().map(HeaderValue::to_str);
        let in_query = self
            .query
            .iter()
            .filter(|(n, _)| self.presigned && n.eq_ignore_ascii_case(name))
            .map(|(_, value)| Ok(value));
        for value in in_headers.chain(in_query) {
            let value = value.map_err(invalid)?;
            if found.as_deref().is_some_and(|found| found != value) {
                return Err(FieldError::Repeated {
                    name: name.to_owned(),
                });
            }
            found = Some(value.to_owned());
        }
        Ok(found)
    }

    /// The value of an `x-amz-*` field that says yes or no; no when it is not there.
    ///
    /// # Errors
    /// [`FieldError::Invalid`] for another word, or as [`RequestFields::amz`].
    pub fn amz_flag(&self, name: &'static str) -> Result<bool, FieldError> {
        match self.amz(name)?.as_deref() {
            None => Ok(false),
            Some(word) if word.eq_ignore_ascii_case("true") => Ok(true),
            Some(word) if word.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(FieldError::Invalid { name }),
        }
    }
}

impl StoredFields {
    /// Picks what is stored out of an upload's fields.
    ///
    /// # Errors
    /// [`FieldError::MetadataTooLarge`], or a field that cannot be read.
    pub fn from_request(request: &RequestFields<'_>) -> Result<Self, FieldError> {
        let mut stored = Vec::new();
        for name in STORED {
            let mut values: Vec<HeaderValue> = if name == CONTENT_ENCODING {
                without_aws_chunked(request.headers)?
            } else {
                request.headers.get_all(&name).iter().cloned().collect()
            };
            if name == CONTENT_TYPE && values.is_empty() {
                values.push(HeaderValue::from_static(DEFAULT_CONTENT_TYPE));
            }
            stored.extend(values.into_iter().map(|value| (name.clone(), value)));
        }
        stored.extend(user_metadata(request)?);
        Ok(StoredFields(stored))
    }

    /// Only a content type, for objects that the program itself puts.
    pub fn with_content_type(content_type: HeaderValue) -> Self {
        StoredFields(vec![(CONTENT_TYPE, content_type)])
    }

    /// The form in the metadata row: `name:value` lines. A field value holds no line feed.
    pub fn to_row(&self) -> Vec<u8> {
        let mut row = Vec::new();
        for (name, value) in &self.0 {
            row.extend_from_slice(name.as_str().as_bytes());
            row.push(b':');
            row.extend_from_slice(value.as_bytes());
            row.push(b'\n');
        }
        row
    }

    /// Reads [`StoredFields::to_row`]; `None` when that could not have written it.
    pub fn from_row(row: &[u8]) -> Option<Self> {
        let mut fields = Vec::new();
        for line in row.split_inclusive(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\n")?;
            let colon = line.iter().position(|b| *b == b':')?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            let value = HeaderValue::from_bytes(&line[colon + 1..]).ok()?;
            fields.push((name, value));
        }
        Some(StoredFields(fields))
    }

    /// Adds them to a response.
    pub fn apply(self, response: &mut HeaderMap) {
        for (name, value) in self.0 {
            response.append(name, value);
        }
    }
}

/// Whether a field carries a checksum of an algorithm that S3 has and we do not. To pass over it would be to store bytes
/// that nobody has compared.
fn is_foreign_checksum(name: &str) -> bool {
    name.strip_prefix("x-amz-checksum-").is_some_and(|rest| {
        !matches!(rest, "algorithm" | "mode" | "type") && Algorithm::from_field_name(name).is_err()
    })
}

/// `Content-Encoding` without `aws-chunked`, which describes the transfer and not the object.
fn without_aws_chunked(headers: &HeaderMap) -> Result<Vec<HeaderValue>, FieldError> {
    let invalid = FieldError::Invalid {
        name: "content-encoding",
    };
    let mut kept = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let text = value.to_str().map_err(|_| invalid.clone())?;
        let codings: Vec<&str> = text
            .split(',')
            .map(str::trim)
            .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
            .collect();
        if !codings.is_empty() {
            let joined = HeaderValue::from_str(&codings.join(", ")).map_err(|_| invalid.clone())?;
            kept.push(joined);
        }
    }
    Ok(kept)
}

fn user_metadata(
    request: &RequestFields<'_>,
) -> Result<Vec<(HeaderName, HeaderValue)>, FieldError> {
    let mut metadata: Vec<(HeaderName, HeaderValue)> = request
        .headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with(USER_METADATA))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let in_query = request.query.iter().filter(|(name, _)| {
        request.presigned && name.to_ascii_lowercase().starts_with(USER_METADATA)
    });
    for (name, value) in in_query {
        let invalid = FieldError::Invalid {
            name: USER_METADATA,
        };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid.clone())?;
        let value = HeaderValue::from_str(value).map_err(|_| invalid)?;
        if metadata.iter().any(|(n, v)| *n == name && *v != value) {
            return Err(FieldError::Repeated {
                name: name.as_str().to_owned(),
            });
        }
        if !metadata.iter().any(|(n, _)| *n == name) {
            metadata.push((name, value));
        }
    }
    let bytes = metadata
        .iter()
        .map(|(name, value)| name.as_str().len() - USER_METADATA.len() + value.len())
        .sum();
    if bytes > USER_METADATA_MAX_BYTES {
        return Err(FieldError::MetadataTooLarge { bytes });
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_fields::fields as headers;

    fn request<'a>(headers: &'a HeaderMap, query: &'a Query) -> RequestFields<'a> {
        RequestFields {
            headers,
            query,
            presigned: true,
        }
    }

    #[test]
    fn stored_fields_survive_the_row_and_lose_aws_chunked() {
        let headers = headers(&[
            ("content-encoding", "aws-chunked, gzip"),
            ("cache-control", "max-age=5"),
            ("expires", "whenever"),
            ("x-amz-meta-who", "me: you"),
            ("accept", "*/*"),
        ]);
        let query = Query::parse("X-Amz-Meta-Hoisted=yes&prefix=x").unwrap();
        let stored = StoredFields::from_request(&request(&headers, &query)).unwrap();
        let row = stored.to_row();
        assert_eq!(
            String::from_utf8(row.clone()).unwrap(),
            "cache-control:max-age=5\ncontent-encoding:gzip\ncontent-type:binary/octet-stream\n\
             expires:whenever\nx-amz-meta-who:me: you\nx-amz-meta-hoisted:yes\n"
        );
        assert_eq!(StoredFields::from_row(&row), Some(stored));
        assert_eq!(StoredFields::from_row(b"no line feed: x"), None);
        assert_eq!(StoredFields::from_row(b"no colon\n"), None);
    }

    #[test]
    fn user_metadata_is_bounded_on_both_sides_of_the_limit() {
        for (length, fits) in [(2048 - 1, true), (2048, false)] {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_str(&"v".repeat(length)).unwrap();
            headers.insert("x-amz-meta-a", value);
            let query = Query::default();
            let outcome = StoredFields::from_request(&request(&headers, &query));
            assert_eq!(outcome.is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn a_field_in_header_and_query_must_agree() {
        let headers = headers(&[("x-amz-checksum-crc32", "AAAAAA==")]);
        for (raw, agrees) in [
            ("x-amz-checksum-crc32=AAAAAA%3D%3D", true),
            ("X-Amz-Checksum-Crc32=BBBBBB%3D%3D", false),
        ] {
            let query = Query::parse(raw).unwrap();
            let value = request(&headers, &query).amz("x-amz-checksum-crc32");
            assert_eq!(value.is_ok(), agrees, "{raw}");
        }
        let query = Query::parse("x-amz-checksum-crc32=AAAAAA%3D%3D").unwrap();
        let unsigned = RequestFields {
            presigned: false,
            ..request(&headers, &query)
        };
        let none = HeaderMap::new();
        let unsigned = RequestFields {
            headers: &none,
            ..unsigned
        };
        assert_eq!(unsigned.amz("x-amz-checksum-crc32"), Ok(None));
    }

    #[test]
    fn an_amz_field_that_nobody_knows_is_refused() {
        let query = Query::default();
        let known = headers(&[("x-amz-date", "x"), ("x-amz-meta-a", "b"), ("range", "x")]);
        assert_eq!(
            request(&known, &query).refuse_unknown(&["x-amz-meta-"]),
            Ok(())
        );
        for name in ["x-amz-checksum-sha256", "x-amz-checksum-type"] {
            let known = headers(&[(name, "x")]);
            assert_eq!(
                request(&known, &query).refuse_unknown(&["x-amz-checksum-"]),
                Ok(()),
                "{name}"
            );
        }
        let foreign = headers(&[("x-amz-checksum-sha512", "x")]);
        assert!(
            request(&foreign, &query)
                .refuse_unknown(&["x-amz-checksum-"])
                .is_err()
        );
        let unknown = headers(&[("x-amz-server-side-encryption", "AES256")]);
        assert!(
            request(&unknown, &query)
                .refuse_unknown(&["x-amz-meta-"])
                .is_err()
        );
    }
}
