//! The bundled S3-compatible store: what the edge falls back to when nobody names another origin.
//!
//! Invariants, by the names that tests and comments use:
//! - `row-is-truth`: an object exists exactly when its metadata row is committed; one SQL transaction is the
//!   only commit point ([`meta`]).
//! - `durable-before-visible`: a blob never changes, and is synced together with its folder before that
//!   transaction begins ([`blobs`]).
//! - `delete-needs-proof`: nothing is removed because of its age; a blob goes when a committed transaction
//!   has released it, or when no row names it and its writer is not the live one.
//! - `ownership-is-speed`: locks and generations keep writers apart; were they to fail, the fence inside
//!   the transaction still decides.
//! - `verify-on-read`: every block that is sent was compared with its checksum.
//!
//! The path of a request, in the order of `dispatch`:
//!
//! | step | function | outcomes |
//! |---|---|---|
//! | who asks | [`authorize::authorize`] | a caller, or a refusal; a form is signed inside ([`operations::post_object`]) |
//! | for what | [`names::parse_target`] or [`names::parse_target_in`], [`query::Query::parse`] | a target, or a bad name |
//! | which operation | `choose` | an operation, 405 or 501 |
//! | do it | one file in [`operations`] | a reply, or a fault |
//! | tell faults | [`reply_error::Fault::reply`] | S3's error document |

pub mod access;
pub mod authorize;
pub mod blobs;
pub mod checksums;
pub mod conditional;
pub mod disk;
pub mod documents;
pub mod fields;
pub mod form_data;
pub mod latch;
pub mod listing;
pub mod meta;
pub mod names;
pub mod operations;
pub mod post_policy;
pub mod query;
pub mod receive;
pub mod reply;
pub mod reply_error;
mod request_body;
mod serve;
pub mod stats;
mod store;
pub mod upload_body;
pub mod xml;

use bytes::Bytes;
use http::header::SERVER;
use http::request::Parts;
use http::{HeaderValue, Method, Request};
use hyper::body::Body;

pub use reply_error::Fault;
pub use serve::serve;
pub use store::{Created, OpenError, Store};

use authorize::authorize;
use fields::RequestFields;
use form_data::FormError;
use names::{BucketName, ObjectKey, Target, parse_target, parse_target_in};
use operations::get_object::Want;
use operations::{
    create_bucket, delete_bucket, delete_object, get_bucket_location, get_object, head_bucket,
    list_buckets, list_objects_v2, post_object, put_object,
};
use query::Query;
use reply::{Reply, ReplyBody};
use reply_error::Blame;
use request_body::RequestBody;
use stats::Operation;

use crate::signing::{Refusal, Rules, carries_presignature, virtual_bucket};

/// Query parameters by which S3 means another operation, or a feature that we do not have. Answering them
/// with the plain operation would be a lie.
const SUBRESOURCES: [&str; 43] = [
    "accelerate",
    "acl",
    "analytics",
    "attributes",
    "bucket-region",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "logging",
    "marker",
    "max-buckets",
    "max-parts",
    "max-uploads",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "part-number-marker",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "rename",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
    "append",
];

/// Answers one request. Never fails: every fault becomes an S3 error here.
async fn answer<B>(store: &Store, request: Request<B>) -> Reply
where
    B: Body<Data = Bytes> + Send + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let request_id = store.next_request_id();
    let (parts, body) = request.into_parts();
    let mut body = RequestBody::new(body, &parts.headers);
    let mut operation = Operation::None;
    let outcome = dispatch(store, &parts, &mut body, &mut operation).await;
    let mut reply = match outcome {
        Ok(reply) => reply,
        Err(fault) => {
            log_fault(&fault, operation, &request_id);
            body.drain().await;
            fault.reply(&parts.method, parts.uri.path(), &request_id)
        }
    };
    let headers = reply.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("Tidegate"));
    let id = HeaderValue::from_str(&request_id).expect("a request id is hexadecimal");
    headers.insert("x-amz-request-id", id);
    let stats = store.stats();
    stats.count_response(operation, reply.status().as_u16());
    if let ReplyBody::Whole(Some(bytes)) = reply.body() {
        stats.count_sent(bytes.len());
    }
    reply
}

async fn dispatch<B>(
    store: &Store,
    request: &Parts,
    body: &mut RequestBody<B>,
    operation: &mut Operation,
) -> Result<Reply, Fault>
where
    B: Body<Data = Bytes> + Send + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let inner = &store.inner;
    let now = inner.clock.wall();
    let domain = inner.domain.as_deref();
    let rules = Rules {
        region: Some(&inner.region),
        clock_leeway: authorize::CLOCK_LEEWAY,
        domain,
    };
    let raw_query = request.uri.query().unwrap_or("");
    let refused = |refusal| Fault::Refused {
        refusal,
        presigned: carries_presignature(raw_query),
    };
    let is_form = post_object::is_form(&request.method, raw_query, &request.headers);
    let caller = if is_form {
        // It carries its signature in its body.
        None
    } else {
        Some(authorize(request, &inner.keyring, &rules, now).map_err(refused)?)
    };
    let host = authorize::host(request).unwrap_or_default();
    let bucket = domain.and_then(|domain| virtual_bucket(host, domain));
    let (call, query) = read_call(&request.method, bucket, request.uri.path(), raw_query)?;
    *operation = call.operation();
    if let Call::PostObject(bucket) = call {
        return match caller {
            None => post_object::run(store, bucket, request, &rules, body).await,
            Some(_) => Err(Fault::Form(FormError::NotFormData)),
        };
    }
    let caller = caller.ok_or(refused(Refusal::NotSigned))?;
    let fields = RequestFields {
        headers: &request.headers,
        query: &query,
        presigned: caller.presigned,
    };
    fields.refuse_unknown(call.known_fields())?;
    let id = caller.access_key_id.as_str();
    let payload = caller.payload;
    match call {
        Call::ListBuckets => list_buckets::run(store, id).await,
        Call::CreateBucket(bucket) => {
            create_bucket::run(store, bucket, &fields, payload, body).await
        }
        Call::HeadBucket(bucket) => head_bucket::run(store, &bucket).await,
        Call::DeleteBucket(bucket) => delete_bucket::run(store, bucket).await,
        Call::GetBucketLocation(bucket) => get_bucket_location::run(store, &bucket).await,
        Call::ListObjectsV2(bucket) => list_objects_v2::run(store, &bucket, &query, id).await,
        Call::PutObject(bucket, key) => {
            put_object::run(store, bucket, key, &fields, payload, body).await
        }
        Call::GetObject(bucket, key) => {
            get_object::run(store, &bucket, &key, &fields, Want::Body).await
        }
        Call::HeadObject(bucket, key) => {
            get_object::run(store, &bucket, &key, &fields, Want::Head).await
        }
        Call::DeleteObject(bucket, key) => delete_object::run(store, bucket, key, &fields).await,
        Call::PostObject(_) => Err(Fault::Form(FormError::NotFormData)),
    }
}

/// An operation with the names it works on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    ListBuckets,
    CreateBucket(BucketName),
    HeadBucket(BucketName),
    DeleteBucket(BucketName),
    GetBucketLocation(BucketName),
    ListObjectsV2(BucketName),
    PutObject(BucketName, ObjectKey),
    GetObject(BucketName, ObjectKey),
    HeadObject(BucketName, ObjectKey),
    DeleteObject(BucketName, ObjectKey),
    PostObject(BucketName),
}

impl Call {
    fn operation(&self) -> Operation {
        match self {
            Call::ListBuckets => Operation::ListBuckets,
            Call::CreateBucket(_) => Operation::CreateBucket,
            Call::HeadBucket(_) => Operation::HeadBucket,
            Call::DeleteBucket(_) => Operation::DeleteBucket,
            Call::GetBucketLocation(_) => Operation::GetBucketLocation,
            Call::ListObjectsV2(_) => Operation::ListObjectsV2,
            Call::PutObject(..) => Operation::PutObject,
            Call::GetObject(..) => Operation::GetObject,
            Call::HeadObject(..) => Operation::HeadObject,
            Call::DeleteObject(..) => Operation::DeleteObject,
            Call::PostObject(_) => Operation::PostObject,
        }
    }

    /// The `x-amz-*` fields that the operation honours.
    fn known_fields(&self) -> &'static [&'static str] {
        match self {
            Call::PutObject(..) => &put_object::KNOWN_FIELDS,
            Call::GetObject(..) | Call::HeadObject(..) => &get_object::KNOWN_FIELDS,
            Call::CreateBucket(_) => &["x-amz-acl"],
            Call::ListBuckets
            | Call::HeadBucket(_)
            | Call::DeleteBucket(_)
            | Call::GetBucketLocation(_)
            | Call::ListObjectsV2(_)
            | Call::DeleteObject(..)
            | Call::PostObject(_) => &[],
        }
    }
}

/// Reads out of a request's line which operation it asks for, and on what; `bucket` is the one that its host
/// names.
fn read_call(
    method: &Method,
    bucket: Option<&str>,
    raw_path: &str,
    raw_query: &str,
) -> Result<(Call, Query), Fault> {
    let query = Query::parse(raw_query)?;
    let target = match bucket {
        Some(bucket) => parse_target_in(bucket, raw_path)?,
        None => parse_target(raw_path)?,
    };
    let call = choose(method, target, &query)?;
    Ok((call, query))
}

/// The operation that a request with this method, path and query asks for, all as sent, in path style.
///
/// # Errors
/// A name or an encoding that breaks a rule, or the fault that says that S3 has the operation and we
/// do not.
pub fn operation_of(method: &Method, raw_path: &str, raw_query: &str) -> Result<Operation, Fault> {
    read_call(method, None, raw_path, raw_query).map(|(call, _)| call.operation())
}

/// Chooses the operation, or says that S3 has it and we do not.
fn choose(method: &Method, target: Target, query: &Query) -> Result<Call, Fault> {
    for what in SUBRESOURCES {
        if query.has(what) {
            return Err(Fault::NotImplemented { what });
        }
    }
    let location = query.has("location");
    match target {
        Target::Service => match *method {
            Method::GET => Ok(Call::ListBuckets),
            _ => Err(Fault::MethodNotAllowed { allow: "GET" }),
        },
        Target::Bucket(bucket) => match *method {
            Method::GET if location => Ok(Call::GetBucketLocation(bucket)),
            Method::GET if query.get("list-type")? == Some("2") => Ok(Call::ListObjectsV2(bucket)),
            Method::GET => Err(Fault::NotImplemented {
                what: "ListObjects version 1",
            }),
            Method::PUT => Ok(Call::CreateBucket(bucket)),
            Method::HEAD => Ok(Call::HeadBucket(bucket)),
            Method::DELETE => Ok(Call::DeleteBucket(bucket)),
            Method::POST => Ok(Call::PostObject(bucket)),
            _ => Err(Fault::MethodNotAllowed {
                allow: "GET, HEAD, PUT, POST, DELETE",
            }),
        },
        Target::Object(bucket, key) => match *method {
            Method::GET => Ok(Call::GetObject(bucket, key)),
            Method::HEAD => Ok(Call::HeadObject(bucket, key)),
            Method::PUT => Ok(Call::PutObject(bucket, key)),
            Method::DELETE => Ok(Call::DeleteObject(bucket, key)),
            Method::POST => Err(Fault::NotImplemented { what: "POST" }),
            _ => Err(Fault::MethodNotAllowed {
                allow: "GET, HEAD, PUT, DELETE",
            }),
        },
    }
}

/// A client's fault is everyday news, a refused signature worth a line, and a fault of ours an error.
fn log_fault(fault: &Fault, operation: Operation, request_id: &str) {
    let operation = operation.name();
    let code = fault.row().code;
    match (fault, fault.row().blame) {
        (Fault::Refused { refusal, .. }, _) => {
            let reason = refusal.reason();
            tracing::info!(request_id, operation, code, reason, "signature refused");
        }
        (_, Blame::Client) => {
            tracing::debug!(request_id, operation, code, %fault, "request refused");
        }
        (_, Blame::Capacity) => {
            tracing::warn!(request_id, operation, code, fault = ?fault, "request put off");
        }
        (_, Blame::Store) => {
            tracing::error!(request_id, operation, code, fault = ?fault, "request failed");
        }
    }
}
