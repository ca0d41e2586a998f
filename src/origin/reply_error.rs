//! The one place where faults become S3 errors.
//!
//! [`Fault::row`] gives each [`Fault`] its S3 code, status and blame. None of the matches has a wildcard, so a new fault
//! does not compile until its author has chosen all three.

use http::header::{ALLOW, CONTENT_RANGE, LAST_MODIFIED};
use http::{HeaderValue, Method, StatusCode};

use super::blobs::BlobError;
use super::conditional::ConditionError;
use super::fault::Fault;
use super::fields::FieldError;
use super::form_data::FormError;
use super::listing::ForeignToken;
use super::meta::{ForeignVersionId, MetaError};
use super::names::NameError;
use super::post_policy::PolicyError;
use super::query::Repeated;
use super::receive::UploadError;
use super::reply::{self, Reply};
use super::upload_body::FramingError;
use super::xml::{Document, XmlError};
use crate::byte_range::ContentRange;
use crate::signing::Refusal;

/// Who can mend a fault: it decides how loudly we log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client, by sending something else.
    Client,
    /// Whoever waits or makes room.
    Capacity,
    /// We, or whoever runs us.
    Store,
}

/// How a fault is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// S3's code, also the log's word.
    pub code: &'static str,
    /// The status.
    pub status: StatusCode,
    /// Who can mend it.
    pub blame: Blame,
}

impl Fault {
    /// The S3 code, status and blame of every fault (S3 API reference, "Error responses").
    pub fn row(&self) -> Row {
        match self {
            Fault::Refused { refusal, presigned } => refusal_row(refusal, *presigned),
            Fault::Name(error) => name_row(error),
            Fault::Field(error) => field_row(error),
            Fault::Upload(error) => upload_row(error),
            Fault::Blob(error) => blob_row(error),
            Fault::Meta(error) => meta_row(error),
            Fault::Repeated(Repeated)
            | Fault::InvalidParameter { .. }
            | Fault::ForeignToken(ForeignToken) => client(400, "InvalidArgument"),
            Fault::Condition(ConditionError::Malformed) => client(400, "InvalidArgument"),
            Fault::Condition(ConditionError::WriteDate) => client(501, "NotImplemented"),
            Fault::PreconditionFailed(_) => client(412, "PreconditionFailed"),
            Fault::NoSuchBucket => client(404, "NoSuchBucket"),
            Fault::NoSuchKey => client(404, "NoSuchKey"),
            Fault::BucketExists => client(409, "BucketAlreadyOwnedByYou"),
            Fault::BucketNotEmpty => client(409, "BucketNotEmpty"),
            Fault::NoSuchVersion => client(404, "NoSuchVersion"),
            Fault::NoSuchUpload => client(404, "NoSuchUpload"),
            Fault::NoSuchPart => client(416, "InvalidPartNumber"),
            Fault::DeleteMarker {
                was_named: true, ..
            } => client(405, "MethodNotAllowed"),
            Fault::DeleteMarker {
                was_named: false, ..
            } => client(404, "NoSuchKey"),
            Fault::ForeignVersionId(ForeignVersionId) => client(400, "InvalidArgument"),
            Fault::AccessDenied { .. } | Fault::ObjectLocked => client(403, "AccessDenied"),
            Fault::NoObjectLock => client(400, "InvalidRequest"),
            Fault::RetainedUntilPast => client(400, "InvalidArgument"),
            Fault::VersionsOfLocked => client(409, "InvalidBucketState"),
            Fault::BucketTaken => client(409, "BucketAlreadyExists"),
            Fault::NotConfigured { code } => client(404, code),
            Fault::Document(error) => client(error.status(), error.code()),
            Fault::DigestMissing => client(400, "InvalidRequest"),
            Fault::AclTwice => client(400, "UnexpectedContent"),
            Fault::CorsRefused => client(403, "AccessForbidden"),
            Fault::CorsIncomplete => client(400, "BadRequest"),
            Fault::OverrideUnsigned | Fault::PartAndRange => client(400, "InvalidRequest"),
            Fault::InvalidPart { .. } => client(400, "InvalidPart"),
            Fault::PartTooSmall { .. } => client(400, "EntityTooSmall"),
            Fault::ObjectSize
            | Fault::ChecksumType
            | Fault::ChecksumOfOtherKind { .. }
            | Fault::CopyOfMarker
            | Fault::CopyOntoItself => client(400, "InvalidRequest"),
            Fault::WebhookNotAllowed | Fault::CopySource | Fault::CopySourceRange { .. } => {
                client(400, "InvalidArgument")
            }
            Fault::WrongOffset { .. } => client(400, "InvalidWriteOffset"),
            Fault::NotAppendable => client(400, "InvalidRequest"),
            Fault::RangeUnsatisfiable { .. } => client(416, "InvalidRange"),
            Fault::NotImplemented { .. } => client(501, "NotImplemented"),
            Fault::MethodNotAllowed { .. } => client(405, "MethodNotAllowed"),
            Fault::Xml(XmlError::Malformed { .. }) => client(400, "MalformedXML"),
            Fault::Xml(XmlError::TooLong) => client(400, "MaxMessageLengthExceeded"),
            Fault::OtherRegion => client(400, "IllegalLocationConstraintException"),
            Fault::Form(error) => form_row(error),
            Fault::FormFieldMissing { .. } => client(400, "InvalidArgument"),
            Fault::Policy(error) => policy_row(error),
            Fault::LengthMissing => client(411, "MissingContentLength"),
            Fault::InvalidDigest { .. } => client(400, "InvalidDigest"),
            Fault::ChecksumFields => client(400, "InvalidRequest"),
            Fault::AclNotSupported => client(400, "AccessControlListNotSupported"),
            Fault::AclOfEnforced => client(400, "InvalidBucketAclWithObjectOwnership"),
            Fault::StorageClass => client(400, "InvalidStorageClass"),
            Fault::Overtaken { .. } => capacity("SlowDown"),
            Fault::ClockOutOfRange | Fault::TaskDied => store(500, "InternalError"),
        }
    }

    /// What the client is told. Faults of ours are not explained to strangers.
    pub fn told(&self) -> String {
        self.message(self.row())
    }

    fn message(&self, row: Row) -> String {
        match row.blame {
            Blame::Store => "We encountered an internal error. Please try again.".to_owned(),
            Blame::Capacity => "The store cannot take this now. Please try again later.".to_owned(),
            Blame::Client => match row.code {
                // One sentence for every cause that would tell a stranger how close a guess came.
                "SignatureDoesNotMatch" => {
                    "The request signature we calculated does not match the signature you provided."
                        .to_owned()
                }
                // Which of the rules it was is nobody's business.
                _ if matches!(self, Fault::AccessDenied { .. }) => "Access Denied".to_owned(),
                _ => self.to_string(),
            },
        }
    }

    /// The reply. A HEAD gets no body (RFC 9110 §9.3.2).
    pub fn reply(&self, method: &Method, path: &str, request_id: &str) -> Reply {
        let row = self.row();
        let mut reply = if method == Method::HEAD {
            reply::empty(row.status)
        } else {
            let mut document = Document::new("Error", None);
            document.text("Code", row.code);
            document.text("Message", &self.message(row));
            if let Fault::PreconditionFailed(condition) = self {
                document.text("Condition", condition.name());
            }
            document.text("Resource", path);
            document.text("RequestId", request_id);
            reply::xml(row.status, document)
        };
        let headers = reply.headers_mut();
        if let Fault::DeleteMarker {
            version_id,
            modified,
            was_named,
        } = self
        {
            headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
            if let Ok(id) = HeaderValue::try_from(version_id.to_string()) {
                headers.insert("x-amz-version-id", id);
            }
            if *was_named
                && let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(*modified))
            {
                headers.insert(LAST_MODIFIED, date);
                headers.insert(ALLOW, HeaderValue::from_static("DELETE"));
            }
        }
        if let Fault::WrongOffset { length_bytes } = self {
            headers.insert("x-amz-object-size", HeaderValue::from(*length_bytes));
        }
        if let Fault::MethodNotAllowed { allow } = self {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Fault::RangeUnsatisfiable { length_bytes } = self {
            let complete = *length_bytes;
            let unsatisfied = ContentRange::Unsatisfied { complete };
            if let Ok(value) = HeaderValue::try_from(unsatisfied.to_string()) {
                headers.insert(CONTENT_RANGE, value);
            }
        }
        reply
    }
}

fn refusal_row(refusal: &Refusal, presigned: bool) -> Row {
    let malformed = if presigned {
        client(400, "AuthorizationQueryParametersError")
    } else {
        client(400, "AuthorizationHeaderMalformed")
    };
    match refusal {
        Refusal::NotSigned
        | Refusal::HostNotSigned
        | Refusal::UnsignedHeader { .. }
        | Refusal::UnsignedParameter
        | Refusal::SignedHeaderAbsent { .. }
        | Refusal::NotYetValid { .. }
        | Refusal::NoSigningDate
        | Refusal::Expired { .. } => client(403, "AccessDenied"),
        Refusal::UnknownAccessKeyId => client(403, "InvalidAccessKeyId"),
        Refusal::SignatureMismatch
        | Refusal::ChunkSignatureMismatch { .. }
        | Refusal::TrailerSignatureMismatch => client(403, "SignatureDoesNotMatch"),
        Refusal::ClockSkew { .. } => client(403, "RequestTimeTooSkewed"),
        Refusal::UnsupportedScheme | Refusal::SignedTwice | Refusal::UnsupportedPayload => {
            client(400, "InvalidRequest")
        }
        Refusal::MissingParameter { .. }
        | Refusal::DuplicateParameter { .. }
        | Refusal::MalformedAuthorization
        | Refusal::MalformedCredential
        | Refusal::MalformedDate
        | Refusal::MalformedExpires
        | Refusal::ExpiresOutOfRange { .. }
        | Refusal::MalformedSignedHeaders
        | Refusal::MalformedSignature { .. }
        | Refusal::CredentialDateMismatch
        | Refusal::WrongRegion
        | Refusal::WrongService => malformed,
        Refusal::MalformedEscape { .. } => client(400, "InvalidURI"),
        Refusal::MalformedPayloadHash | Refusal::MalformedVersion2 => {
            client(400, "InvalidArgument")
        }
        // The store speaks no other scheme.
        Refusal::Credential { .. } => client(403, "AccessDenied"),
    }
}

fn name_row(error: &NameError) -> Row {
    match error {
        NameError::BucketLength { .. }
        | NameError::BucketCharacter { .. }
        | NameError::BucketDots { .. }
        | NameError::BucketAddress
        | NameError::BucketReserved => client(400, "InvalidBucketName"),
        NameError::KeyTooLong { .. } => client(400, "KeyTooLongError"),
        NameError::KeyEmpty
        | NameError::PercentEncoding { .. }
        | NameError::NotUtf8
        | NameError::NotAbsolute => client(400, "InvalidURI"),
    }
}

fn field_row(error: &FieldError) -> Row {
    match error {
        FieldError::NotImplemented { .. } => client(501, "NotImplemented"),
        FieldError::Repeated { .. } | FieldError::Invalid { .. } => client(400, "InvalidArgument"),
        FieldError::MetadataTooLarge { .. } => client(400, "MetadataTooLarge"),
    }
}

fn upload_row(error: &UploadError) -> Row {
    match error {
        UploadError::Signature(refusal) => refusal_row(refusal, false),
        UploadError::Blob(error) => blob_row(error),
        UploadError::Framing(
            FramingError::TooLittleData { .. }
            | FramingError::TooMuchData { .. }
            | FramingError::Truncated { .. },
        )
        | UploadError::Incomplete { .. }
        | UploadError::BrokeOff { .. } => client(400, "IncompleteBody"),
        UploadError::Framing(
            FramingError::ChunkHead { .. }
            | FramingError::ChunkEnd { .. }
            | FramingError::Excess { .. },
        ) => client(400, "InvalidRequest"),
        UploadError::Framing(FramingError::Trailer { .. })
        | UploadError::TrailerFields
        | UploadError::TrailerChecksum(_) => client(400, "MalformedTrailerError"),
        UploadError::Silent { .. } => client(400, "RequestTimeout"),
        UploadError::TooLarge { .. } => client(400, "EntityTooLarge"),
        UploadError::Md5Mismatch | UploadError::ChecksumMismatch { .. } => client(400, "BadDigest"),
        UploadError::Sha256Mismatch => client(400, "XAmzContentSHA256Mismatch"),
        UploadError::WriterDied => store(500, "InternalError"),
    }
}

fn form_row(error: &FormError) -> Row {
    match error {
        FormError::NotFormData => client(412, "PreconditionFailed"),
        FormError::Malformed { .. } => client(400, "MalformedPOSTRequest"),
        FormError::TooLong => client(400, "MaxPostPreDataLengthExceededError"),
        FormError::Truncated { .. } => client(400, "IncompleteBody"),
        FormError::NoFile => client(400, "InvalidArgument"),
    }
}

fn policy_row(error: &PolicyError) -> Row {
    match error {
        PolicyError::Malformed { .. } => client(400, "InvalidPolicyDocument"),
        PolicyError::Expired
        | PolicyError::ConditionFailed { .. }
        | PolicyError::ExtraField { .. } => client(403, "AccessDenied"),
        PolicyError::TooSmall { .. } => client(400, "EntityTooSmall"),
        PolicyError::TooLarge { .. } => client(400, "EntityTooLarge"),
    }
}

fn blob_row(error: &BlobError) -> Row {
    match error {
        BlobError::WritesRefused => store(503, "ServiceUnavailable"),
        BlobError::NoSpace { .. } => capacity("ServiceUnavailable"),
        BlobError::IdsExhausted { .. }
        | BlobError::Write { .. }
        | BlobError::Read { .. }
        | BlobError::Missing { .. }
        | BlobError::Length { .. }
        | BlobError::Corrupt { .. }
        | BlobError::ChecksumCount { .. } => store(500, "InternalError"),
    }
}

fn meta_row(error: &MetaError) -> Row {
    match error {
        MetaError::WritesRefused | MetaError::Fenced { .. } => store(503, "ServiceUnavailable"),
        MetaError::NoSpace(_) | MetaError::Closed => capacity("ServiceUnavailable"),
        MetaError::Sql(_) | MetaError::ImpossibleRow { .. } => store(500, "InternalError"),
    }
}

fn client(status: u16, code: &'static str) -> Row {
    row(status, code, Blame::Client)
}

fn capacity(code: &'static str) -> Row {
    row(503, code, Blame::Capacity)
}

fn store(status: u16, code: &'static str) -> Row {
    row(status, code, Blame::Store)
}

fn row(status: u16, code: &'static str, blame: Blame) -> Row {
    Row {
        code,
        status: StatusCode::from_u16(status).expect("the table holds valid statuses"),
        blame,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::conditional::Condition;
    use crate::origin::reply::ReplyBody;

    fn text(reply: &Reply) -> &str {
        match reply.body() {
            ReplyBody::Whole(Some(bytes)) => std::str::from_utf8(bytes).unwrap(),
            ReplyBody::Empty
            | ReplyBody::Whole(None)
            | ReplyBody::Blob(_)
            | ReplyBody::Following(_) => "",
        }
    }

    #[test]
    fn an_error_is_an_s3_document_and_a_head_gets_none() {
        let fault = Fault::PreconditionFailed(Condition::IfMatch);
        let reply = fault.reply(&Method::PUT, "/films/<a>", "ID");
        assert_eq!(reply.status(), 412);
        assert_eq!(
            text(&reply),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>PreconditionFailed</Code>\
             <Message>If-Match does not hold</Message><Condition>If-Match</Condition>\
             <Resource>/films/&lt;a&gt;</Resource><RequestId>ID</RequestId></Error>"
        );
        let head = fault.reply(&Method::HEAD, "/films/a", "ID");
        assert_eq!((head.status().as_u16(), text(&head)), (412, ""));
    }

    #[test]
    fn a_fault_of_ours_is_not_explained_to_strangers() {
        let fault = Fault::Blob(BlobError::Missing { id: 0xb10b });
        let reply = fault.reply(&Method::GET, "/films/a", "ID");
        assert_eq!(reply.status(), 500);
        assert!(!text(&reply).contains("b10b"), "{}", text(&reply));
    }

    #[test]
    fn refusals_have_the_codes_of_s3() {
        let cases = [
            (Refusal::NotSigned, false, 403, "AccessDenied"),
            (
                Refusal::UnknownAccessKeyId,
                false,
                403,
                "InvalidAccessKeyId",
            ),
            (
                Refusal::SignatureMismatch,
                true,
                403,
                "SignatureDoesNotMatch",
            ),
            (
                Refusal::WrongRegion,
                false,
                400,
                "AuthorizationHeaderMalformed",
            ),
            (
                Refusal::WrongRegion,
                true,
                400,
                "AuthorizationQueryParametersError",
            ),
        ];
        for (refusal, presigned, status, code) in cases {
            let row = Fault::Refused { refusal, presigned }.row();
            assert_eq!((row.status.as_u16(), row.code), (status, code));
        }
    }

    #[test]
    fn a_405_says_what_is_allowed_and_a_416_how_long_the_object_is() {
        let reply = |fault: Fault| fault.reply(&Method::PATCH, "/", "ID");
        let wrong_method = reply(Fault::MethodNotAllowed { allow: "GET" });
        assert_eq!(wrong_method.headers()[ALLOW], "GET");
        let behind = reply(Fault::RangeUnsatisfiable { length_bytes: 7 });
        assert_eq!(behind.headers()[CONTENT_RANGE], "bytes */7");
    }
}
