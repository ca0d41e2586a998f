//! Which operation a request asks for: the table of the S3 API.

use http::header::HeaderMap;
use http::{HeaderName, Method};

use super::fault::Fault;
use super::meta::DocumentKind;
use super::names::{BucketName, NameError, ObjectKey, Target, parse_target, parse_target_in};
use super::operations::object_lock::BYPASS;
use super::operations::{
    copy_object, create_bucket, create_multipart_upload, get_object, get_object_attributes,
    put_object, upload_part,
};
use super::query::Query;
use super::stats::Operation;

/// Query parameters by which S3 means an operation or a feature that we do not have. Answering them with the plain
/// operation would be a lie.
const ABSENT: [&str; 19] = [
    "abac",
    "analytics",
    "annotation",
    "intelligent-tiering",
    "inventory",
    "metadataAnnotationTable",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "rename",
    "renameObject",
    "restore",
    "select",
    "select-type",
    "session",
    "torrent",
    "website-configuration",
];

/// Query parameters that S3 knows of buckets alone. With them the plain operation on an object would, for one, delete
/// an object whose lifecycle was to be forgotten.
const OF_BUCKETS: [&str; 16] = [
    "accelerate",
    "cors",
    "encryption",
    "lifecycle",
    "location",
    "logging",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "versioning",
    "website",
];

/// Query parameters that S3 knows of objects alone. With them the plain operation on a bucket would, for one, delete the
/// bucket of an upload whose key was forgotten.
const OF_OBJECTS: [&str; 6] = [
    "attributes",
    "legal-hold",
    "partNumber",
    "retention",
    "uploadId",
    "versionId",
];

/// What can only be read of a bucket.
const READ_ONLY: [&str; 4] = ["location", "policyStatus", "uploads", "versions"];

/// Settings that no bucket of ours ever has: asked for, the answer is S3's word for "none"; set, it is 501.
const UNSET: [(&str, Operation); 6] = [
    ("accelerate", Operation::GetBucketAccelerateConfiguration),
    ("encryption", Operation::GetBucketEncryption),
    ("logging", Operation::GetBucketLogging),
    ("replication", Operation::GetBucketReplication),
    ("requestPayment", Operation::GetBucketRequestPayment),
    ("website", Operation::GetBucketWebsite),
];

/// What is done with a sub-resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// GET
    Get,
    /// PUT
    Put,
    /// DELETE
    Delete,
}

/// An operation with the names it works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Of the store.
    ListBuckets,
    /// Of a bucket.
    Bucket(BucketName, BucketCall),
    /// Of an object.
    Object(BucketName, ObjectKey, ObjectCall),
    /// A browser's question before a request (Fetch, "CORS-preflight request").
    Preflight(BucketName),
}

/// What is asked of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketCall {
    /// `PUT`
    Create,
    /// `HEAD`
    Head,
    /// `DELETE`
    Delete,
    /// `GET ?location`
    Location,
    /// `?versioning`
    Versioning(Verb),
    /// `?policy`, `?acl` and their kin.
    Document(DocumentKind, Verb),
    /// `GET ?policyStatus`
    PolicyStatus,
    /// A setting that is never there.
    Unset(Operation),
    /// `GET`
    ListObjects,
    /// `GET ?list-type=2`
    ListObjectsV2,
    /// `GET ?versions`
    ListObjectVersions,
    /// `GET ?uploads`
    ListMultipartUploads,
    /// `POST ?delete`
    DeleteObjects,
    /// `POST` with a form
    PostObject,
}

/// What is asked of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectCall {
    /// `PUT`
    Put,
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `DELETE`
    Delete,
    /// `PUT` with `x-amz-copy-source`
    Copy,
    /// `GET ?attributes`
    Attributes,
    /// `?tagging`
    Tagging(Verb),
    /// `?acl`
    Acl(Verb),
    /// `?retention`
    Retention(Verb),
    /// `?legal-hold`
    LegalHold(Verb),
    /// `POST ?uploads`
    CreateMultipartUpload,
    /// `PUT ?partNumber&uploadId`
    UploadPart,
    /// The same with `x-amz-copy-source`
    UploadPartCopy,
    /// `GET ?uploadId`
    ListParts,
    /// `POST ?uploadId`
    CompleteMultipartUpload,
    /// `DELETE ?uploadId`
    AbortMultipartUpload,
}

impl Call {
    /// The operation, as it is counted.
    pub fn operation(&self) -> Operation {
        match self {
            Call::ListBuckets => Operation::ListBuckets,
            Call::Bucket(_, call) => call.operation(),
            Call::Object(_, _, call) => call.operation(),
            Call::Preflight(_) => Operation::Preflight,
        }
    }

    /// The bucket that it is about.
    pub fn bucket(&self) -> Option<&BucketName> {
        match self {
            Call::ListBuckets => None,
            Call::Bucket(bucket, _) | Call::Object(bucket, _, _) | Call::Preflight(bucket) => {
                Some(bucket)
            }
        }
    }

    /// The `x-amz-*` fields that the operation honours.
    pub fn known_fields(&self) -> &'static [&'static str] {
        match self {
            Call::Bucket(_, BucketCall::Create) => &create_bucket::KNOWN_FIELDS,
            Call::Bucket(_, BucketCall::Document(..)) => &[
                "x-amz-acl",
                "x-amz-bucket-object-lock-token",
                "x-amz-checksum-",
                "x-amz-confirm-remove-self-bucket-access",
                "x-amz-grant-",
                "x-amz-sdk-checksum-algorithm",
                "x-amz-skip-destination-validation",
                "x-amz-transition-default-minimum-object-size",
            ],
            Call::Bucket(_, BucketCall::Versioning(_)) => {
                &["x-amz-checksum-", "x-amz-sdk-checksum-algorithm"]
            }
            Call::Bucket(_, BucketCall::DeleteObjects) => {
                &[BYPASS, "x-amz-checksum-", "x-amz-sdk-checksum-algorithm"]
            }
            Call::Bucket(
                _,
                BucketCall::ListObjects
                | BucketCall::ListObjectsV2
                | BucketCall::ListObjectVersions,
            ) => &["x-amz-optional-object-attributes"],
            Call::ListBuckets | Call::Preflight(_) | Call::Bucket(..) => &[],
            Call::Object(_, _, call) => match call {
                ObjectCall::Put => &put_object::KNOWN_FIELDS,
                ObjectCall::Get | ObjectCall::Head => &get_object::KNOWN_FIELDS,
                ObjectCall::Delete => &[BYPASS],
                ObjectCall::Copy => &copy_object::KNOWN_FIELDS,
                ObjectCall::Attributes => &get_object_attributes::KNOWN_FIELDS,
                ObjectCall::Tagging(_) => &["x-amz-checksum-", "x-amz-sdk-checksum-algorithm"],
                ObjectCall::Retention(_) | ObjectCall::LegalHold(_) => {
                    &[BYPASS, "x-amz-checksum-", "x-amz-sdk-checksum-algorithm"]
                }
                ObjectCall::Acl(_) => &[
                    "x-amz-acl",
                    "x-amz-checksum-",
                    "x-amz-grant-",
                    "x-amz-sdk-checksum-algorithm",
                ],
                ObjectCall::CreateMultipartUpload => &create_multipart_upload::KNOWN_FIELDS,
                ObjectCall::UploadPart => &upload_part::KNOWN_FIELDS,
                ObjectCall::UploadPartCopy => &[
                    "x-amz-copy-source",
                    "x-amz-copy-source-if-",
                    "x-amz-copy-source-range",
                ],
                ObjectCall::CompleteMultipartUpload => &[
                    "x-amz-checksum-",
                    "x-amz-mp-object-size",
                    "x-amz-sdk-checksum-algorithm",
                ],
                ObjectCall::ListParts => &[],
                ObjectCall::AbortMultipartUpload => &[],
            },
        }
    }
}

impl BucketCall {
    fn operation(self) -> Operation {
        match self {
            BucketCall::Create => Operation::CreateBucket,
            BucketCall::Head => Operation::HeadBucket,
            BucketCall::Delete => Operation::DeleteBucket,
            BucketCall::Location => Operation::GetBucketLocation,
            BucketCall::Versioning(Verb::Get) => Operation::GetBucketVersioning,
            BucketCall::Versioning(Verb::Put | Verb::Delete) => Operation::PutBucketVersioning,
            BucketCall::Document(kind, verb) => document_operation(kind, verb),
            BucketCall::PolicyStatus => Operation::GetBucketPolicyStatus,
            BucketCall::Unset(operation) => operation,
            BucketCall::ListObjects => Operation::ListObjects,
            BucketCall::ListObjectsV2 => Operation::ListObjectsV2,
            BucketCall::ListObjectVersions => Operation::ListObjectVersions,
            BucketCall::ListMultipartUploads => Operation::ListMultipartUploads,
            BucketCall::DeleteObjects => Operation::DeleteObjects,
            BucketCall::PostObject => Operation::PostObject,
        }
    }
}

fn document_operation(kind: DocumentKind, verb: Verb) -> Operation {
    let [get, put, delete] = match kind {
        DocumentKind::Acl => [
            Operation::GetBucketAcl,
            Operation::PutBucketAcl,
            Operation::PutBucketAcl,
        ],
        DocumentKind::Cors => [
            Operation::GetBucketCors,
            Operation::PutBucketCors,
            Operation::DeleteBucketCors,
        ],
        DocumentKind::Lifecycle => [
            Operation::GetBucketLifecycleConfiguration,
            Operation::PutBucketLifecycleConfiguration,
            Operation::DeleteBucketLifecycle,
        ],
        DocumentKind::Notification => [
            Operation::GetBucketNotificationConfiguration,
            Operation::PutBucketNotificationConfiguration,
            Operation::PutBucketNotificationConfiguration,
        ],
        DocumentKind::ObjectLock => [
            Operation::GetObjectLockConfiguration,
            Operation::PutObjectLockConfiguration,
            Operation::PutObjectLockConfiguration,
        ],
        DocumentKind::OwnershipControls => [
            Operation::GetBucketOwnershipControls,
            Operation::PutBucketOwnershipControls,
            Operation::DeleteBucketOwnershipControls,
        ],
        DocumentKind::Policy => [
            Operation::GetBucketPolicy,
            Operation::PutBucketPolicy,
            Operation::DeleteBucketPolicy,
        ],
        DocumentKind::PublicAccessBlock => [
            Operation::GetPublicAccessBlock,
            Operation::PutPublicAccessBlock,
            Operation::DeletePublicAccessBlock,
        ],
        DocumentKind::Tagging => [
            Operation::GetBucketTagging,
            Operation::PutBucketTagging,
            Operation::DeleteBucketTagging,
        ],
    };
    match verb {
        Verb::Get => get,
        Verb::Put => put,
        Verb::Delete => delete,
    }
}

impl ObjectCall {
    fn operation(self) -> Operation {
        match self {
            ObjectCall::Put => Operation::PutObject,
            ObjectCall::Get => Operation::GetObject,
            ObjectCall::Head => Operation::HeadObject,
            ObjectCall::Delete => Operation::DeleteObject,
            ObjectCall::Copy => Operation::CopyObject,
            ObjectCall::Attributes => Operation::GetObjectAttributes,
            ObjectCall::Tagging(Verb::Get) => Operation::GetObjectTagging,
            ObjectCall::Tagging(Verb::Put) => Operation::PutObjectTagging,
            ObjectCall::Tagging(Verb::Delete) => Operation::DeleteObjectTagging,
            ObjectCall::Acl(Verb::Get) => Operation::GetObjectAcl,
            ObjectCall::Acl(Verb::Put | Verb::Delete) => Operation::PutObjectAcl,
            ObjectCall::Retention(Verb::Get) => Operation::GetObjectRetention,
            ObjectCall::Retention(Verb::Put | Verb::Delete) => Operation::PutObjectRetention,
            ObjectCall::LegalHold(Verb::Get) => Operation::GetObjectLegalHold,
            ObjectCall::LegalHold(Verb::Put | Verb::Delete) => Operation::PutObjectLegalHold,
            ObjectCall::CreateMultipartUpload => Operation::CreateMultipartUpload,
            ObjectCall::UploadPart => Operation::UploadPart,
            ObjectCall::UploadPartCopy => Operation::UploadPartCopy,
            ObjectCall::ListParts => Operation::ListParts,
            ObjectCall::CompleteMultipartUpload => Operation::CompleteMultipartUpload,
            ObjectCall::AbortMultipartUpload => Operation::AbortMultipartUpload,
        }
    }
}

/// Reads out of a request's line which operation it asks for, and on what; `bucket` is the one that its host
/// names.
///
/// # Errors
/// A name or an encoding that breaks a rule, or the fault that says that S3 has the operation and we do not.
pub fn read_call(
    method: &Method,
    bucket: Option<&str>,
    raw_path: &str,
    raw_query: &str,
    headers: &HeaderMap,
) -> Result<(Call, Query), Fault> {
    let query = Query::parse(raw_query)?;
    let target = target(bucket, raw_path)?;
    let call = choose(method, target, &query, headers)?;
    Ok((call, query))
}

fn target(bucket: Option<&str>, raw_path: &str) -> Result<Target, NameError> {
    match bucket {
        Some(bucket) => parse_target_in(bucket, raw_path),
        None => parse_target(raw_path),
    }
}

fn choose(
    method: &Method,
    target: Target,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Call, Fault> {
    refuse(&ABSENT, query)?;
    match target {
        Target::Service => match *method {
            Method::GET => Ok(Call::ListBuckets),
            _ => Err(Fault::MethodNotAllowed { allow: "GET" }),
        },
        Target::Bucket(bucket) if method == Method::OPTIONS => Ok(Call::Preflight(bucket)),
        Target::Object(bucket, _) if method == Method::OPTIONS => Ok(Call::Preflight(bucket)),
        Target::Bucket(bucket) => {
            refuse(&OF_OBJECTS, query)?;
            Ok(Call::Bucket(bucket, bucket_call(method, query)?))
        }
        Target::Object(bucket, key) => {
            refuse(&OF_BUCKETS, query)?;
            let call = object_call(method, query, headers)?;
            Ok(Call::Object(bucket, key, call))
        }
    }
}

fn refuse(names: &[&'static str], query: &Query) -> Result<(), Fault> {
    match names.iter().find(|name| query.has(name)) {
        None => Ok(()),
        Some(what) => Err(Fault::NotImplemented { what }),
    }
}

fn verb(method: &Method) -> Result<Verb, Fault> {
    match *method {
        Method::GET => Ok(Verb::Get),
        Method::PUT => Ok(Verb::Put),
        Method::DELETE => Ok(Verb::Delete),
        _ => Err(Fault::MethodNotAllowed {
            allow: "GET, PUT, DELETE",
        }),
    }
}

fn bucket_call(method: &Method, query: &Query) -> Result<BucketCall, Fault> {
    for kind in DocumentKind::ALL {
        if query.has(kind.name()) {
            return match (kind, verb(method)?) {
                (
                    DocumentKind::Acl | DocumentKind::Notification | DocumentKind::ObjectLock,
                    Verb::Delete,
                ) => Err(Fault::MethodNotAllowed { allow: "GET, PUT" }),
                (kind, verb) => Ok(BucketCall::Document(kind, verb)),
            };
        }
    }
    for (name, operation) in UNSET {
        if query.has(name) {
            return match verb(method)? {
                Verb::Get => Ok(BucketCall::Unset(operation)),
                Verb::Put | Verb::Delete => Err(Fault::NotImplemented { what: name }),
            };
        }
    }
    if query.has("versioning") {
        return match verb(method)? {
            Verb::Delete => Err(Fault::MethodNotAllowed { allow: "GET, PUT" }),
            verb => Ok(BucketCall::Versioning(verb)),
        };
    }
    let only_read = READ_ONLY.iter().any(|name| query.has(name));
    if only_read && matches!(*method, Method::PUT | Method::DELETE) {
        return Err(Fault::MethodNotAllowed { allow: "GET" });
    }
    match *method {
        Method::GET if query.has("location") => Ok(BucketCall::Location),
        Method::GET if query.has("policyStatus") => Ok(BucketCall::PolicyStatus),
        Method::GET if query.has("versions") => Ok(BucketCall::ListObjectVersions),
        Method::GET if query.has("uploads") => Ok(BucketCall::ListMultipartUploads),
        Method::GET => match query.get("list-type")? {
            Some("2") => Ok(BucketCall::ListObjectsV2),
            Some("1") | None => Ok(BucketCall::ListObjects),
            Some(_) => Err(Fault::InvalidParameter { name: "list-type" }),
        },
        Method::PUT => Ok(BucketCall::Create),
        Method::HEAD => Ok(BucketCall::Head),
        Method::DELETE => Ok(BucketCall::Delete),
        Method::POST if query.has("delete") => Ok(BucketCall::DeleteObjects),
        Method::POST => Ok(BucketCall::PostObject),
        _ => Err(Fault::MethodNotAllowed {
            allow: "GET, HEAD, PUT, POST, DELETE, OPTIONS",
        }),
    }
}

fn object_call(method: &Method, query: &Query, headers: &HeaderMap) -> Result<ObjectCall, Fault> {
    let copies = headers.contains_key(COPY_SOURCE);
    if query.has("tagging") {
        return verb(method).map(ObjectCall::Tagging);
    }
    if let Some(call) = setting_without_delete(query) {
        return match verb(method)? {
            Verb::Delete => Err(Fault::MethodNotAllowed { allow: "GET, PUT" }),
            verb => Ok(call(verb)),
        };
    }
    if query.has("uploads") && query.has("uploadId") {
        return Err(Fault::InvalidParameter { name: "uploadId" });
    }
    match *method {
        Method::GET if query.has("attributes") => Ok(ObjectCall::Attributes),
        Method::GET if query.has("uploadId") => Ok(ObjectCall::ListParts),
        Method::GET => Ok(ObjectCall::Get),
        Method::HEAD => Ok(ObjectCall::Head),
        Method::PUT if query.has("uploadId") || query.has("partNumber") => Ok(if copies {
            ObjectCall::UploadPartCopy
        } else {
            ObjectCall::UploadPart
        }),
        Method::PUT if copies => Ok(ObjectCall::Copy),
        Method::PUT => Ok(ObjectCall::Put),
        Method::DELETE if query.has("uploadId") => Ok(ObjectCall::AbortMultipartUpload),
        Method::DELETE => Ok(ObjectCall::Delete),
        Method::POST if query.has("uploads") => Ok(ObjectCall::CreateMultipartUpload),
        Method::POST if query.has("uploadId") => Ok(ObjectCall::CompleteMultipartUpload),
        Method::POST => Err(Fault::MethodNotAllowed {
            allow: "GET, HEAD, PUT, DELETE, OPTIONS",
        }),
        _ => Err(Fault::MethodNotAllowed {
            allow: "GET, HEAD, PUT, POST, DELETE, OPTIONS",
        }),
    }
}

/// A setting of an object that is there or is changed, and never taken away.
fn setting_without_delete(query: &Query) -> Option<fn(Verb) -> ObjectCall> {
    if query.has("acl") {
        Some(ObjectCall::Acl)
    } else if query.has("retention") {
        Some(ObjectCall::Retention)
    } else if query.has("legal-hold") {
        Some(ObjectCall::LegalHold)
    } else {
        None
    }
}

/// The source of a copy.
pub const COPY_SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &Method, path: &str, query: &str) -> Result<Operation, u16> {
        read_call(method, None, path, query, &HeaderMap::new())
            .map(|(call, _)| call.operation())
            .map_err(|fault| fault.row().status.as_u16())
    }

    #[test]
    fn a_parameter_of_something_else_never_means_the_plain_operation() {
        let elsewhere = OF_BUCKETS
            .iter()
            .chain(&ABSENT)
            .map(|name| ("/films/a", *name));
        let elsewhere = elsewhere.chain(OF_OBJECTS.iter().chain(&ABSENT).map(|n| ("/films", *n)));
        for (path, name) in elsewhere {
            for method in [&Method::GET, &Method::PUT, &Method::DELETE, &Method::POST] {
                assert_eq!(read(method, path, name), Err(501), "{method} {path}?{name}");
            }
        }
        for name in READ_ONLY {
            for method in [&Method::PUT, &Method::DELETE] {
                assert_eq!(read(method, "/films", name), Err(405), "{method} {name}");
            }
        }
    }

    #[test]
    fn what_sdks_add_to_every_query_changes_nothing() {
        let cases = [
            (
                &Method::PUT,
                "/films/a",
                "x-id=PutObject",
                Operation::PutObject,
            ),
            (
                &Method::DELETE,
                "/films/a",
                "x-id=DeleteObject&versionId=null",
                Operation::DeleteObject,
            ),
            (
                &Method::DELETE,
                "/films",
                "x-id=DeleteBucket",
                Operation::DeleteBucket,
            ),
            (
                &Method::GET,
                "/films",
                "list-type=2&x-id=ListObjectsV2",
                Operation::ListObjectsV2,
            ),
        ];
        for (method, path, query, operation) in cases {
            assert_eq!(read(method, path, query), Ok(operation), "{path}?{query}");
        }
    }
}
