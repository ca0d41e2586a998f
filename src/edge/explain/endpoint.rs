//! `GET /explain?url=…&method=…&header=…` on the admin address.
//!
//! | answer | when |
//! |---|---|
//! | 200 | explained: as text, or as JSON when `Accept` names `application/json` |
//! | 400 | the parameters stand for no request that is let in; the text says why |
//! | 403 | `Host` is a name that could be anybody's (see [`crate::edge::purge`]) |
//! | 405 | neither GET nor HEAD |

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::inquiry::{Inquiry, InquiryFault};
use super::words::Told;
use crate::cache::policy::cache_control::list_items;
use crate::edge::Node;
use crate::edge::admit::GateRefusal;
use crate::observe::admin::{Endpoint, Question};
use crate::observe::admin_json::names_this_machine;

/// The path on the admin address.
pub const PATH: &str = "/explain";

/// Answers [`PATH`].
pub(in crate::edge) struct ExplainEndpoint {
    pub(in crate::edge) node: Arc<Node>,
}

/// Why nothing is explained.
#[derive(Debug, thiserror::Error)]
enum ExplainRefusal {
    #[error("use GET")]
    Method,
    #[error("Host must be localhost, a loopback address or the address of this listener")]
    Host,
    #[error(transparent)]
    Inquiry(#[from] InquiryFault),
    #[error("no such request is let in: {0}")]
    Gate(#[from] GateRefusal),
}

impl ExplainRefusal {
    fn status(&self) -> StatusCode {
        match self {
            ExplainRefusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            ExplainRefusal::Host => StatusCode::FORBIDDEN,
            ExplainRefusal::Inquiry(_) | ExplainRefusal::Gate(_) => StatusCode::BAD_REQUEST,
        }
    }
}

#[async_trait]
impl Endpoint for ExplainEndpoint {
    fn path(&self) -> &'static str {
        PATH
    }

    fn summary(&self) -> &'static str {
        "?url=…&header=Name:%20value&method=GET: how it would be answered now, and why"
    }

    async fn answer(&self, question: Question) -> Response<Full<Bytes>> {
        let is_json = takes_json(question.request.headers());
        match self.explain(&question).await {
            Ok(told) if is_json => reply(StatusCode::OK, is_json, told.to_json().to_string()),
            Ok(told) => reply(StatusCode::OK, is_json, told.to_string()),
            Err(refusal) => {
                let reason = refusal.to_string();
                let body = match is_json {
                    true => json!({ "error": reason }).to_string(),
                    false => reason,
                };
                let mut response = reply(refusal.status(), is_json, body);
                if matches!(refusal, ExplainRefusal::Method) {
                    let allow = HeaderValue::from_static("GET, HEAD");
                    response.headers_mut().insert(ALLOW, allow);
                }
                response
            }
        }
    }
}

impl ExplainEndpoint {
    async fn explain(&self, question: &Question) -> Result<Told, ExplainRefusal> {
        let request = &question.request;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(ExplainRefusal::Method);
        }
        if !names_this_machine(request, question.reached) {
            return Err(ExplainRefusal::Host);
        }
        let inquiry = Inquiry::from_query(request.uri().query().unwrap_or_default())?;
        Ok(Told::of(&self.node.explain(&inquiry).await?))
    }
}

/// Whether `Accept` names JSON; weights are left aside, since nobody who names it means to refuse it.
fn takes_json(fields: &HeaderMap) -> bool {
    let lines = fields.get_all(ACCEPT).iter();
    let mut items = lines.flat_map(|line| list_items(line.as_bytes()));
    items.any(|item| {
        let essence = item.split(|byte| *byte == b';').next().unwrap_or_default();
        let essence = essence.trim_ascii();
        essence.eq_ignore_ascii_case(b"application/json")
    })
}

fn reply(status: StatusCode, is_json: bool, mut body: String) -> Response<Full<Bytes>> {
    if !body.ends_with('\n') {
        body.push('\n');
    }
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let format = match is_json {
        true => HeaderValue::from_static("application/json"),
        false => HeaderValue::from_static("text/plain; charset=utf-8"),
    };
    response.headers_mut().insert(CONTENT_TYPE, format);
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}
