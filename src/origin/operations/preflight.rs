//! What pages of other sites are told (Fetch, "CORS protocol"; S3, "Using cross-origin resource sharing"): the answer to
//! a preflight, and the fields on the answers to what follows.

use std::sync::Arc;

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::origin::ask::Ask;
use crate::origin::call::Call;
use crate::origin::documents::CorsRules;
use crate::origin::fault::Fault;
use crate::origin::meta::BucketRow;
use crate::origin::names::BucketName;
use crate::origin::reply::{self, Reply};
use crate::origin::store::Store;

/// Answers a preflight.
///
/// # Errors
/// [`Fault::CorsRefused`] when no rule matches, [`Fault::CorsIncomplete`] when it is no preflight.
pub async fn run(ask: &Ask<'_>, bucket: &BucketName) -> Result<Reply, Fault> {
    let headers = ask.fields.headers;
    let (Some(origin), Some(method)) = (
        text(headers, &ORIGIN),
        text(headers, &ACCESS_CONTROL_REQUEST_METHOD),
    ) else {
        return Err(Fault::CorsIncomplete);
    };
    let row = ask.store.bucket(bucket).await?;
    let asked = text(headers, &ACCESS_CONTROL_REQUEST_HEADERS);
    let answer = row
        .cors()?
        .and_then(|rules| rules.answer(origin, method, asked));
    let answer = answer.ok_or(Fault::CorsRefused)?;
    let mut reply = reply::empty(StatusCode::OK);
    answer.apply(reply.headers_mut());
    Ok(reply)
}

/// Adds the fields to the answer to a request that a page made. An error gets them as well: a page may read why. The bucket
/// is looked for unless the answer has `seen` it.
pub async fn add_cors(
    store: &Store,
    request: &Parts,
    call: &Call,
    seen: Option<Arc<BucketRow>>,
    reply: &mut Reply,
) {
    let (false, Some(bucket)) = (request.method == Method::OPTIONS, call.bucket()) else {
        return;
    };
    let row = match seen {
        Some(row) => row,
        None => match store.inner.meta.bucket(bucket).await {
            Ok(Some(row)) => row,
            Ok(None) | Err(_) => return,
        },
    };
    let Ok(Some(rules)) = row.cors() else {
        return;
    };
    let headers = reply.headers_mut();
    // Whether a rule matches or not: an answer to one site is not that to another.
    headers.append(VARY, HeaderValue::from_static(CorsRules::VARY));
    if let Some(origin) = text(&request.headers, &ORIGIN)
        && let Some(answer) = rules.answer(origin, request.method.as_str(), None)
    {
        headers.remove(VARY);
        answer.apply(headers);
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
