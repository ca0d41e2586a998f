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
//! | who asks | [`authorize::authorize`] | a caller, a stranger, or a refusal; a form is signed inside ([`operations::post_object`]) |
//! | for what | [`call::read_call`] | an operation with its names; a bad name, 405 or 501 |
//! | may they | [`permission`] | yes, or access denied |
//! | do it | one file in [`operations`] | a reply, or a fault |
//! | tell faults | [`Fault::reply`] | S3's error document |
//!
//! What happens later, lifecycle rules, webhooks, purges of an edge, scrubbing, is in [`jobs`].

pub mod access;
pub mod admin;
pub mod ask;
pub mod authorize;
pub mod blobs;
pub mod call;
pub mod check;
pub mod checksums;
pub mod conditional;
pub mod coord;
pub mod disk;
pub mod documents;
pub mod fault;
pub mod fields;
pub mod followers;
pub mod form_data;
mod import;
pub mod jobs;
pub mod latch;
pub mod listing;
mod listing_markers;
pub mod meta;
pub mod names;
mod needed_actions;
pub mod object_reader;
mod opaque_number;
pub mod operations;
pub mod permission;
mod plain_reads;
pub mod post_policy;
pub mod query;
pub mod receive;
pub mod reply;
pub mod reply_error;
mod request_body;
pub mod retention;
mod serial_queue;
mod serve;
pub mod stats;
mod store;
pub mod tail;
pub mod upload_body;
pub mod xml;

use bytes::Bytes;
use http::header::{CONNECTION, SERVER};
use http::request::Parts;
use http::{HeaderValue, Method, Request};
use http_body_util::BodyExt as _;
use hyper::body::Body;

pub use fault::Fault;
pub use import::ImportError;
pub use serve::serve;
pub use store::{Created, OpenError, Store};

use ask::{Ask, Incoming};
use authorize::{Caller, authorize};
use call::{BucketCall, Call, ObjectCall, Verb, read_call};
use fields::RequestFields;
use operations::get_object::Want;
use operations::{
    abort_multipart_upload, bucket_document, bucket_versioning, complete_multipart_upload,
    copy_object, create_bucket, create_multipart_upload, delete_bucket, delete_object,
    delete_objects, get_bucket_location, get_bucket_policy_status, get_bucket_unset, get_object,
    get_object_attributes, head_bucket, list_buckets, list_multipart_uploads, list_object_versions,
    list_objects, list_objects_v2, list_parts, object_acl, object_lock, object_tagging,
    post_object, preflight, put_object, upload_part, upload_part_copy,
};
use permission::Seen;
use reply::{Reply, ReplyBody};
use reply_error::Blame;
use request_body::RequestBody;
use stats::Operation;

use crate::signing::{Rules, carries_presignature, virtual_bucket};

/// Answers one request. Never fails: every fault becomes an S3 error here.
async fn answer<B>(store: &Store, request: Request<B>, peer: std::net::IpAddr) -> Reply
where
    B: Body<Data = Bytes> + Send + Sync + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let request_id = store.next_request_id();
    let (parts, body) = request.into_parts();
    let body = RequestBody::new(body, &parts.headers);
    let mut body = body.map_err(|error| ask::BodyError(error.to_string()));
    let mut about = About::default();
    let outcome = dispatch(store, &parts, &mut body, peer, &request_id, &mut about).await;
    let About { call: asked, seen } = about;
    let operation = asked.as_ref().map_or(Operation::None, Call::operation);
    let mut reply = match outcome {
        Ok(reply) => reply,
        Err(fault) => {
            log_fault(&fault, operation, &request_id);
            let is_read = body.get_mut().drain().await;
            let mut reply = fault.reply(&parts.method, parts.uri.path(), &request_id);
            if !is_read {
                // Or the client would send its next request on a connection that is being closed.
                let headers = reply.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            reply
        }
    };
    if body.get_ref().waits_in_vain() {
        let close = HeaderValue::from_static("close");
        reply.headers_mut().insert(CONNECTION, close);
    }
    if let Some(call) = &asked {
        // What changes a bucket answers by what it is now.
        let bucket = seen.bucket.filter(|_| matches!(call, Call::Object(..)));
        preflight::add_cors(store, &parts, call, bucket, &mut reply).await;
    }
    let headers = reply.headers_mut();
    // An edge forgets by it what it has stored of the object, be it that there is none.
    if let Some(Call::Object(bucket, key, ObjectCall::Get | ObjectCall::Head)) = &asked {
        let tag = jobs::cache_tag(bucket.as_str(), key.as_str());
        let tag =
            HeaderValue::try_from(tag).expect("a bucket's name and a digest are visible ASCII");
        headers.insert("cache-tag", tag);
    }
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

/// What is known of a request, however it ends.
#[derive(Default)]
struct About {
    /// For what, once that is read.
    call: Option<Call>,
    /// What was looked up to let it through.
    seen: Seen,
}

async fn dispatch(
    store: &Store,
    request: &Parts,
    body: Incoming<'_>,
    peer: std::net::IpAddr,
    request_id: &str,
    about: &mut About,
) -> Result<Reply, Fault> {
    let inner = &store.inner;
    let now = inner.clock.wall();
    let domain = inner.domain.as_deref();
    let rules = Rules {
        region: Some(&inner.region),
        clock_leeway: authorize::CLOCK_LEEWAY,
        domain,
    };
    let raw_query = request.uri.query().unwrap_or("");
    let is_form = post_object::is_form(&request.method, raw_query, &request.headers);
    let (caller, payload) = if is_form || request.method == Method::OPTIONS {
        // A form carries its signature in its body, and a browser's question has none.
        Caller::stranger(peer)
    } else {
        authorize(request, &inner.keyring, &rules, now, peer).map_err(|refusal| Fault::Refused {
            refusal,
            presigned: carries_presignature(raw_query),
        })?
    };
    let host = authorize::host(request).unwrap_or_default();
    let bucket = domain.and_then(|domain| virtual_bucket(host, domain));
    let path = request.uri.path();
    let (call, query) = read_call(&request.method, bucket, path, raw_query, &request.headers)?;
    about.call = Some(call.clone());
    let fields = RequestFields {
        headers: &request.headers,
        query: &query,
        presigned: caller.presigned,
    };
    if !is_form {
        fields.refuse_unknown(call.known_fields())?;
        permission::check(store, request, &fields, &caller, &call, &mut about.seen).await?;
    }
    let mut ask = Ask {
        store,
        request,
        fields,
        caller: &caller,
        request_id,
        payload,
        body,
    };
    let seen = &about.seen;
    match call {
        Call::ListBuckets => list_buckets::run(&ask).await,
        Call::Preflight(bucket) => preflight::run(&ask, &bucket).await,
        Call::Bucket(bucket, call) => match call {
            BucketCall::Create => create_bucket::run(&mut ask, bucket).await,
            BucketCall::Head => head_bucket::run(store, &bucket).await,
            BucketCall::Delete => delete_bucket::run(store, bucket).await,
            BucketCall::Location => get_bucket_location::run(store, &bucket).await,
            BucketCall::Versioning(Verb::Get) => bucket_versioning::get(&ask, &bucket).await,
            BucketCall::Versioning(_) => bucket_versioning::put(&mut ask, &bucket).await,
            BucketCall::Document(kind, Verb::Get) => {
                bucket_document::get(&ask, &bucket, kind).await
            }
            BucketCall::Document(kind, Verb::Put) => {
                bucket_document::put(&mut ask, &bucket, kind).await
            }
            BucketCall::Document(kind, Verb::Delete) => {
                bucket_document::delete(&ask, &bucket, kind).await
            }
            BucketCall::PolicyStatus => get_bucket_policy_status::run(&ask, &bucket).await,
            BucketCall::Unset(operation) => get_bucket_unset::run(&ask, &bucket, operation).await,
            BucketCall::ListObjects => list_objects::run(&ask, &bucket).await,
            BucketCall::ListObjectsV2 => list_objects_v2::run(&ask, &bucket).await,
            BucketCall::ListObjectVersions => list_object_versions::run(&ask, &bucket).await,
            BucketCall::ListMultipartUploads => list_multipart_uploads::run(&ask, &bucket).await,
            BucketCall::DeleteObjects => delete_objects::run(&mut ask, bucket).await,
            BucketCall::PostObject => post_object::run(&mut ask, bucket, &rules, is_form).await,
        },
        Call::Object(bucket, key, call) => match call {
            ObjectCall::Put => put_object::run(ask, bucket, key).await,
            ObjectCall::Get => get_object::run(&ask, &bucket, &key, Want::Body, seen).await,
            ObjectCall::Head => get_object::run(&ask, &bucket, &key, Want::Head, seen).await,
            ObjectCall::Delete => delete_object::run(&ask, bucket, key).await,
            ObjectCall::Copy => copy_object::run(&ask, bucket, key).await,
            ObjectCall::Attributes => get_object_attributes::run(&ask, &bucket, &key).await,
            ObjectCall::Tagging(Verb::Get) => object_tagging::get(&ask, &bucket, &key).await,
            ObjectCall::Tagging(Verb::Put) => object_tagging::put(&mut ask, &bucket, &key).await,
            ObjectCall::Tagging(Verb::Delete) => object_tagging::delete(&ask, &bucket, &key).await,
            ObjectCall::Acl(Verb::Get) => object_acl::get(&ask, &bucket, &key).await,
            ObjectCall::Acl(_) => object_acl::put(&mut ask, &bucket, &key).await,
            ObjectCall::Retention(Verb::Get) => {
                object_lock::get_retention(&ask, &bucket, &key).await
            }
            ObjectCall::Retention(_) => object_lock::put_retention(&mut ask, &bucket, &key).await,
            ObjectCall::LegalHold(Verb::Get) => {
                object_lock::get_legal_hold(&ask, &bucket, &key).await
            }
            ObjectCall::LegalHold(_) => object_lock::put_legal_hold(&mut ask, &bucket, &key).await,
            ObjectCall::CreateMultipartUpload => {
                create_multipart_upload::run(&ask, bucket, key).await
            }
            ObjectCall::UploadPart => upload_part::run(ask, &bucket, &key).await,
            ObjectCall::UploadPartCopy => upload_part_copy::run(&ask, &bucket, &key).await,
            ObjectCall::ListParts => list_parts::run(&ask, &bucket, &key).await,
            ObjectCall::CompleteMultipartUpload => {
                complete_multipart_upload::run(&mut ask, bucket, key).await
            }
            ObjectCall::AbortMultipartUpload => {
                abort_multipart_upload::run(&ask, &bucket, &key).await
            }
        },
    }
}

/// The operation that a request with this method, path and query asks for, all as sent, in path style.
///
/// # Errors
/// A name or an encoding that breaks a rule, or the fault that says that S3 has the operation and we
/// do not.
pub fn operation_of(method: &Method, raw_path: &str, raw_query: &str) -> Result<Operation, Fault> {
    let none = http::HeaderMap::new();
    read_call(method, None, raw_path, raw_query, &none).map(|(call, _)| call.operation())
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
