//! What is asked of `explain`: a URL, a method and request fields. Pure; the command and the node
//! read it alike.

use std::fmt::Write;

use http::header::{HOST, HeaderName};
use http::{HeaderMap, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::cache::url::{Url, UrlFault};

/// The request that is to be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// Its URL.
    pub url: Url,
    /// Its method, as it would be sent.
    pub method: String,
    /// Its fields; without `Host`, which the URL names.
    pub fields: HeaderMap,
}

/// Why an inquiry stands for no request. Values of fields are not repeated: they may be secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InquiryFault {
    /// No URL.
    #[error("url is missing: give the absolute URL that a client would ask for")]
    NoUrl,
    /// What stands for a URL is none.
    #[error("url is not a URL that is let in: {0}")]
    Url(#[from] UrlFault),
    /// A header that is not `Name: value`.
    #[error("header number {0} is not \"Name: value\" in visible characters")]
    Header(usize),
    /// A header that the URL stands for.
    #[error("header number {0} is Host, which the URL already names")]
    HostGiven(usize),
    /// A parameter that is not known.
    #[error("unknown parameter {0:?}; known are url, method and header")]
    Unknown(String),
    /// A parameter that may be given once.
    #[error("parameter {0} is given more than once")]
    Repeated(&'static str),
    /// A parameter whose escapes are not UTF-8.
    #[error("parameter {0} is not percent-encoded UTF-8")]
    Encoding(&'static str),
}

impl Inquiry {
    /// An inquiry after `url`; `headers` are `Name: value` each.
    ///
    /// # Errors
    /// [`InquiryFault`]; headers are counted from 1.
    pub fn new(url: &str, method: &str, headers: &[String]) -> Result<Self, InquiryFault> {
        let mut fields = HeaderMap::new();
        for (index, header) in headers.iter().enumerate() {
            let fault = || InquiryFault::Header(index + 1);
            let (name, value) = header.split_once(':').ok_or_else(fault)?;
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fault())?;
            let value =
                HeaderValue::from_str(value.trim_matches([' ', '\t'])).map_err(|_| fault())?;
            if name == HOST {
                return Err(InquiryFault::HostGiven(index + 1));
            }
            fields.append(name, value);
        }
        Ok(Inquiry {
            url: Url::parse(url)?,
            method: method.to_owned(),
            fields,
        })
    }

    /// Reads the query of `/explain`: `url`, `method` (GET when absent) and any number of `header`,
    /// percent-encoded; a `+` is a plus.
    ///
    /// # Errors
    /// [`InquiryFault`].
    pub fn from_query(query: &str) -> Result<Self, InquiryFault> {
        let (mut url, mut method, mut headers) = (None, None, Vec::new());
        for item in query.split('&').filter(|item| !item.is_empty()) {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            match name {
                "url" => once("url", &mut url, value)?,
                "method" => once("method", &mut method, value)?,
                "header" => headers.push(decoded("header", value)?),
                unknown => return Err(InquiryFault::Unknown(unknown.to_owned())),
            }
        }
        let url = url.ok_or(InquiryFault::NoUrl)?;
        Inquiry::new(&url, method.as_deref().unwrap_or("GET"), &headers)
    }
}

/// The query that [`Inquiry::from_query`] reads as this.
pub fn to_query(url: &str, method: &str, headers: &[String]) -> String {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let mut query = format!("url={}&method={}", encoded(url), encoded(method));
    for header in headers {
        let _ = write!(query, "&header={}", encoded(header));
    }
    query
}

fn once(name: &'static str, known: &mut Option<String>, value: &str) -> Result<(), InquiryFault> {
    match known.replace(decoded(name, value)?) {
        Some(_) => Err(InquiryFault::Repeated(name)),
        None => Ok(()),
    }
}

fn decoded(name: &'static str, value: &str) -> Result<String, InquiryFault> {
    let text = percent_decode_str(value).decode_utf8();
    let text = text.map_err(|_| InquiryFault::Encoding(name))?;
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_command_sends_is_what_the_node_reads() {
        let (url, method) = ("https://h/a%20b?c=d&e=+#", "HEAD");
        let url = url.trim_end_matches('#');
        let headers = ["A: b&c=d", "A: 2", "Accept-Language:de;q=0.5, \u{e9}+"].map(str::to_owned);
        let told = Inquiry::new(url, method, &headers);
        assert_eq!(told.clone().unwrap().url.to_string(), url);
        assert_eq!(Inquiry::from_query(&to_query(url, method, &headers)), told);
        let plain = Inquiry::from_query("url=http://h/a%3Fb").unwrap();
        assert_eq!(
            (plain.method.as_str(), plain.url.query.as_deref()),
            ("GET", Some("b"))
        );
    }

    #[test]
    fn what_stands_for_no_request_is_refused_with_its_reason() {
        for (query, expected) in [
            ("", InquiryFault::NoUrl),
            ("method=GET", InquiryFault::NoUrl),
            ("url=", InquiryFault::Url(UrlFault::Scheme)),
            ("url=h/a", InquiryFault::Url(UrlFault::Scheme)),
            ("url=http://h/&url=http://h/", InquiryFault::Repeated("url")),
            (
                "url=http://h/&methd=GET",
                InquiryFault::Unknown("methd".to_owned()),
            ),
            ("url=%ff", InquiryFault::Encoding("url")),
            ("url=http://h/&header=a:1&header=b", InquiryFault::Header(2)),
            ("url=http://h/&header=a%20b:1", InquiryFault::Header(1)),
            ("url=http://h/&header=a:%0ab:1", InquiryFault::Header(1)),
            ("url=http://h/&header=HOST:h", InquiryFault::HostGiven(1)),
        ] {
            assert_eq!(Inquiry::from_query(query), Err(expected), "{query}");
        }
    }
}
