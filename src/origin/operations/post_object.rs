//! PostObject: a form that a browser posts to `/bucket` (S3 API, POST Object).
//!
//! The form signs itself: its `policy` says what may be sent and its signature who said so. The file passes
//! from the connection to the disk as in PutObject, and success means the same.

use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION,
    CONTENT_TYPE, ETAG, EXPIRES, LOCATION,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use hyper::body::{Body, Frame};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::field_value;
use super::object_acl::Owned;
use super::put_object::{
    self, Committed, Upload, checksum_plan, commit, content_md5, refuse_early,
};
use crate::origin::ask::Ask;
use crate::origin::authorize::host;
use crate::origin::conditional::WriteCondition;
use crate::origin::documents::{TagOwner, Tags};
use crate::origin::fault::Fault;
use crate::origin::fields::{FieldError, RequestFields, StoredFields};
use crate::origin::form_data::{FIELDS_MAX_BYTES, FormDecoder, FormError, Piece, boundary};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::permission::{self, Asked, Brought};
use crate::origin::post_policy::{PolicyError, PostPolicy};
use crate::origin::query::Query;
use crate::origin::receive::{Plan, UploadError, next_bytes, receive};
use crate::origin::reply::{self, Reply};
use crate::origin::xml::Document;
use crate::signing::{Rules, carries_presignature, carries_signature_header, verify_form};

/// The `x-amz-*` fields that this operation knows.
const KNOWN_FIELDS: [&str; 7] = [
    "x-amz-acl",
    "x-amz-checksum-",
    "x-amz-meta-",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-storage-class",
];

/// Form fields that are stored with the object, as a PutObject's header fields are.
const STORED: [HeaderName; 6] = [
    CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_TYPE,
    EXPIRES,
];

/// What its commit is called in messages.
const EVENT: &str = "ObjectCreated:Post";

/// Fields of which a form that is signed has some.
const SIGNED: [&str; 6] = [
    "policy",
    "awsaccesskeyid",
    "signature",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-signature",
];

/// What a browser would put in its place: the name of the chosen file.
const FILENAME: &str = "${filename}";

/// How an object key stands in a URL.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// Whether a request is a form that signs itself: everything else needs a signature in its head.
pub fn is_form(method: &Method, query: &str, headers: &HeaderMap) -> bool {
    method == Method::POST
        && content_type(headers).is_some_and(|value| boundary(value).is_ok())
        && !carries_presignature(query)
        && !carries_signature_header(headers)
}

/// Takes in the form and commits its file.
///
/// # Errors
/// [`Fault`]; nothing was committed unless the fault is [`Fault::Meta`] with an unknown outcome.
pub async fn run(
    ask: &mut Ask<'_>,
    bucket: BucketName,
    rules: &Rules<'_>,
    is_form: bool,
) -> Result<Reply, Fault> {
    if !is_form {
        return Err(Fault::Form(FormError::NotFormData));
    }
    let (store, request) = (ask.store, ask.request);
    let content_type = content_type(&request.headers).unwrap_or_default();
    let mut file = FileBody::new(&mut *ask.body, &boundary(content_type)?);
    let form = Form::read(&mut file).await?;
    let inner = &store.inner;
    let now = inner.clock.wall();
    let mut caller = ask.caller.clone();
    let mut length_bytes = 0..=u64::MAX;
    if form.is_signed() {
        let grant = verify_form(|name| form.get(name), &inner.keyring, rules, now);
        let grant = grant.map_err(|refusal| Fault::Refused {
            refusal,
            presigned: false,
        })?;
        caller.access_key_id = Some(grant.access_key_id);
        caller.signed_at = grant.signed_at;
        let policy = PostPolicy::parse(form.get("policy").unwrap_or_default())?;
        policy.check(&form.fields, bucket.as_str(), now)?;
        length_bytes = policy.length_bytes();
    }
    let key = form
        .get("key")
        .ok_or(Fault::FormFieldMissing { name: "key" })?;
    let key = ObjectKey::new(key)?;
    let headers = form.headers()?;
    let nothing = Query::default();
    let fields = RequestFields {
        headers: &headers,
        query: &nothing,
        presigned: false,
    };
    fields.refuse_unknown(&KNOWN_FIELDS)?;
    let storage_class = put_object::storage_class(store, &fields)?;
    let plan = Plan {
        length_bytes: None,
        framing: None,
        signer: None,
        sha256: None,
        md5: content_md5(&headers)?,
        checksum: checksum_plan(&fields, false)?,
        also: None,
        tier: storage_class.tier(),
    };
    let tags = match form.get("tagging") {
        None => Tags::default(),
        Some(document) => Tags::parse(document.as_bytes(), TagOwner::Object)?,
    };
    let brought = Brought {
        tags,
        lock: super::object_lock::in_fields(&fields, store.now_ms()?)?,
    };
    let asked = Asked {
        store,
        request,
        fields: &fields,
        caller: &caller,
        brought: &brought,
        by_form: true,
    };
    permission::check_write(asked, &bucket, &key).await?;
    let row = refuse_early(store, &bucket, &key, &WriteCondition::default()).await?;
    let modified_ms = store.now_ms()?;
    let lock = super::object_lock::of_upload(&fields, &row, modified_ms)?;
    let owned = Owned::of_upload(&fields, &row, caller.owner())?;
    let upload = Upload {
        bucket: bucket.clone(),
        key: key.clone(),
        condition: WriteCondition::default(),
        append: None,
        fields: StoredFields::from_request(&fields)?,
        tags: brought.tags.to_header(),
        acl: owned.acl,
        storage_class,
        lock,
        owner: owned.owner,
        modified_ms,
        messages: put_object::messages_of(
            store,
            caller.owner(),
            ask.request_id,
            &row,
            &key,
            EVENT,
        )?,
    };
    file.length_bytes = length_bytes.clone();
    let arrived = receive(Arc::clone(&inner.blobs), &mut file, plan, &inner.stats).await;
    let arrived = match (arrived, file.fault.take()) {
        (_, Some(fault)) => return Err(fault),
        (arrived, None) => arrived?,
    };
    let (bytes, min_bytes) = (file.bytes, *length_bytes.start());
    if bytes < min_bytes {
        return Err(Fault::Policy(PolicyError::TooSmall { bytes, min_bytes }));
    }
    let committed = commit(store.clone(), upload, arrived).await?;
    Ok(success(request, &form, &bucket, &key, &committed))
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()
}

/// The fields of a form, by lower-case name, `${filename}` put in.
struct Form {
    fields: Vec<(String, String)>,
}

impl Form {
    /// Reads up to the file.
    async fn read<B>(file: &mut FileBody<B>) -> Result<Self, Fault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut fields: Vec<(String, String)> = Vec::new();
        let filename = loop {
            match file.decoder.next_piece()? {
                Some(Piece::Field { name, value }) => {
                    let name = name.to_ascii_lowercase();
                    if fields.iter().any(|(known, _)| *known == name) {
                        return Err(Fault::Field(FieldError::Repeated { name }));
                    }
                    fields.push((name, value));
                }
                Some(Piece::File { filename }) => break filename,
                Some(Piece::Data(_) | Piece::FileEnd) => {
                    return Err(Fault::Form(FormError::NoFile));
                }
                None => match next_bytes(&mut file.body, file.received).await? {
                    Some(bytes) => file.push(&bytes),
                    None => file.decoder.finish()?,
                },
            }
        };
        for (name, value) in &mut fields {
            // What is signed counts as it was signed.
            if name != "policy" && value.contains(FILENAME) {
                *value = value.replace(FILENAME, &filename);
            }
        }
        Ok(Form { fields })
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known == name);
        values.next().map(|(_, value)| value.as_str())
    }

    /// Whether it claims to be somebody's. One that does not is anybody's, and what nobody may do it may not either.
    fn is_signed(&self) -> bool {
        SIGNED.iter().any(|name| self.get(name).is_some())
    }

    /// The fields as a PutObject would have them in its head.
    fn headers(&self) -> Result<HeaderMap, Fault> {
        let invalid = Fault::InvalidParameter {
            name: "a field of the form",
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &self.fields {
            let name = match name.as_str() {
                "acl" => "x-amz-acl",
                name => name,
            };
            let counts = name.starts_with("x-amz-")
                || name == "content-md5"
                || STORED.iter().any(|stored| stored == name);
            if !counts {
                continue;
            }
            let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(name.as_bytes()),
                HeaderValue::from_bytes(value.as_bytes()),
            ) else {
                return Err(invalid);
            };
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

/// The file of a form on its way in.
struct FileBody<B> {
    body: B,
    decoder: FormDecoder,
    /// Bytes of the whole form so far.
    received: u64,
    /// Bytes behind the file so far.
    behind: usize,
    /// Bytes of the file so far.
    bytes: u64,
    /// How long the file may be.
    length_bytes: RangeInclusive<u64>,
    /// Why it broke off, when it was not the connection.
    fault: Option<Fault>,
}

/// The file broke off; [`FileBody::fault`] says more.
#[derive(Debug, thiserror::Error)]
#[error("the form broke off")]
struct BrokeOff;

impl<B> FileBody<B> {
    fn new(body: B, boundary: &str) -> Self {
        FileBody {
            body,
            decoder: FormDecoder::new(boundary),
            received: 0,
            behind: 0,
            bytes: 0,
            length_bytes: 0..=u64::MAX,
            fault: None,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.received += bytes.len() as u64;
        self.decoder.push(bytes);
    }

    fn fail(&mut self, fault: impl Into<Fault>) -> Poll<Option<Result<Frame<Bytes>, BrokeOff>>> {
        self.fault = Some(fault.into());
        Poll::Ready(Some(Err(BrokeOff)))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for FileBody<B> {
    type Data = Bytes;
    type Error = BrokeOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokeOff>>> {
        let file = self.get_mut();
        loop {
            match file.decoder.next_piece() {
                Ok(Some(Piece::Data(bytes))) => {
                    file.bytes += bytes.len() as u64;
                    let (bytes_so_far, max_bytes) = (file.bytes, *file.length_bytes.end());
                    if bytes_so_far > max_bytes {
                        return file.fail(PolicyError::TooLarge {
                            bytes: bytes_so_far,
                            max_bytes,
                        });
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Ok(Some(Piece::Field { .. } | Piece::File { .. } | Piece::FileEnd) | None) => {}
                Err(error) => return file.fail(error),
            }
            match ready!(Pin::new(&mut file.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    let Some(bytes) = frame.data_ref() else {
                        continue;
                    };
                    if file.decoder.is_done() {
                        // Read, so that the connection stays of use, and not looked at.
                        file.behind += bytes.len();
                        if file.behind > FIELDS_MAX_BYTES {
                            return file.fail(FormError::TooLong);
                        }
                    } else {
                        file.received += bytes.len() as u64;
                        file.decoder.push(bytes);
                    }
                }
                Some(Err(_)) => {
                    let received_bytes = file.received;
                    return file.fail(UploadError::BrokeOff { received_bytes });
                }
                None => {
                    return match file.decoder.finish() {
                        Ok(()) => Poll::Ready(None),
                        Err(error) => file.fail(error),
                    };
                }
            }
        }
    }
}

/// What the form asked to be told: a redirection, or 200, 201 or 204.
fn success(
    request: &Parts,
    form: &Form,
    bucket: &BucketName,
    key: &ObjectKey,
    committed: &Committed,
) -> Reply {
    let etag = format!("\"{}\"", committed.etag);
    // The path by which the client would ask for the object, in the style in which it posted.
    let in_path = request.uri.path().trim_matches('/').is_empty();
    let prefix = if in_path {
        String::new()
    } else {
        format!("/{bucket}")
    };
    let path = format!("{prefix}/{}", utf8_percent_encode(key.as_str(), IN_PATH));
    if let Some(redirect) = redirection(form, bucket, key, &etag) {
        let mut reply = reply::empty(StatusCode::SEE_OTHER);
        let headers = reply.headers_mut();
        headers.insert(LOCATION, redirect);
        // Caches on the way learn from it what changed (RFC 9111 §4.4).
        headers.insert(CONTENT_LOCATION, field_value(&path));
        headers.insert(ETAG, field_value(&etag));
        return reply;
    }
    let location = match host(request) {
        Some(host) => format!("{}://{host}{path}", scheme(&request.headers)),
        None => path,
    };
    let mut reply = match form.get("success_action_status") {
        Some("200") => reply::empty(StatusCode::OK),
        Some("201") => {
            let mut document = Document::new("PostResponse", None);
            document.text("Location", &location);
            document.text("Bucket", bucket.as_str());
            document.text("Key", key.as_str());
            document.text("ETag", &etag);
            reply::xml(StatusCode::CREATED, document)
        }
        // 204 and, as S3 has it, whatever else the form says.
        _ => reply::empty(StatusCode::NO_CONTENT),
    };
    let headers = reply.headers_mut();
    headers.insert(ETAG, field_value(&etag));
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(LOCATION, location);
    }
    reply
}

/// The scheme that the client used, as far as an edge in front of us says.
fn scheme(headers: &HeaderMap) -> &'static str {
    match headers.get("x-forwarded-proto").map(HeaderValue::as_bytes) {
        Some(b"https") => "https",
        _ => "http",
    }
}

/// Where the form asks to be redirected to; what is no URL of the web is not followed, as S3 has it.
fn redirection(
    form: &Form,
    bucket: &BucketName,
    key: &ObjectKey,
    etag: &str,
) -> Option<HeaderValue> {
    let redirect = form
        .get("success_action_redirect")
        .or(form.get("redirect"))?;
    let mut url = Url::parse(redirect).ok()?;
    if !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    url.query_pairs_mut()
        .append_pair("bucket", bucket.as_str())
        .append_pair("key", key.as_str())
        .append_pair("etag", etag);
    HeaderValue::try_from(url.as_str()).ok()
}
