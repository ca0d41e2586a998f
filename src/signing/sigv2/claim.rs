//! What a query says about its own signature, and what of a request is signed wherever its signature stands.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::HeaderName;

use crate::signing::sigv4::{decode_query, single_value};
use crate::signing::view::{Item, raw_items};
use crate::signing::{Refusal, SignedRequest};

use super::canonical::{is_ambiguous, sub_resource, write_resource, write_sub_resources};
use super::{ACCESS_KEY_ID, EXPIRES, SIGNATURE};

const CONTENT_MD5: &str = "content-md5";
const CONTENT_TYPE: &str = "content-type";

/// Characters of a signature: HMAC-SHA1 has 20 bytes.
const SIGNATURE_CHARACTERS: usize = 28;

/// The most digits of `Expires`: the year 2286 and all before it.
const EXPIRES_DIGITS_MAX: usize = 10;

/// A parsed but unproven signature of a URL.
pub(super) struct Claim<'a> {
    pub(super) access_key_id: Cow<'a, str>,
    pub(super) expires_seconds: u64,
    pub(super) signature: Cow<'a, str>,
    pub(super) covered: Covered<'a>,
}

impl<'a> Claim<'a> {
    /// Reads query and fields.
    ///
    /// # Errors
    /// [`Refusal::UnsignedParameter`] and everything about missing, repeated and malformed parameters.
    pub(super) fn parse(req: &SignedRequest<'a>) -> Result<Self, Refusal> {
        let query = Parameters::collect(req.query)?;
        let missing = |name| Refusal::MissingParameter { name };
        let access_key_id = query.access_key_id.ok_or(missing(ACCESS_KEY_ID))?;
        let expires = query.expires.ok_or(missing(EXPIRES))?;
        let signature = query.signature.ok_or(missing(SIGNATURE))?;
        let is_decimal = (1..=EXPIRES_DIGITS_MAX).contains(&expires.len())
            && expires.bytes().all(|byte| byte.is_ascii_digit());
        let expires_seconds = (expires.parse().ok())
            .filter(|_| is_decimal)
            .ok_or(Refusal::MalformedExpires)?;
        if signature.len() != SIGNATURE_CHARACTERS {
            return Err(Refusal::MalformedSignature {
                length: signature.len(),
            });
        }
        Ok(Claim {
            access_key_id,
            expires_seconds,
            signature,
            covered: Covered::of(req, expires, query.named)?,
        })
    }
}

/// What a query says that is signed; of a request that is signed in its header, sub-resources only.
#[derive(Default)]
pub(super) struct Named<'a> {
    content_md5: Option<Cow<'a, str>>,
    content_type: Option<Cow<'a, str>>,
    amz: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    sub_resources: Vec<(&'static str, Option<Cow<'a, [u8]>>)>,
}

impl<'a> Named<'a> {
    /// Takes an item of a query that is a sub-resource; false when it is none. `raw_name` is the item's name as it
    /// was sent, `name` what it means.
    ///
    /// # Errors
    /// [`Refusal::UnsignedParameter`] when it is there already or would read as further ones.
    pub(super) fn take_sub_resource(
        &mut self,
        item: &'a str,
        raw_name: &str,
        raw_value: &'a str,
        name: &[u8],
    ) -> Result<bool, Refusal> {
        let Some(name) = sub_resource(name) else {
            return Ok(false);
        };
        let has_value = raw_name.len() < item.len();
        let value = has_value.then(|| decode_query(raw_value)).transpose()?;
        let is_taken = self.sub_resources.iter().any(|(taken, _)| *taken == name);
        if is_taken || value.as_deref().is_some_and(is_ambiguous) {
            return Err(Refusal::UnsignedParameter);
        }
        self.sub_resources.push((name, value));
        Ok(true)
    }
}

/// Everything of a request that is signed, apart from method and path.
pub(super) struct Covered<'a> {
    /// Lower-case names of the header fields that are signed, sorted.
    pub(super) fields: Vec<String>,
    /// `Expires`, or the date; empty for a date that stands in `x-amz-date`.
    date: Cow<'a, str>,
    /// By name, as they are signed.
    amz: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    content_md5: &'a str,
    content_type: &'a str,
    sub_resources: Vec<(&'static str, Option<Cow<'a, [u8]>>)>,
}

impl<'a> Covered<'a> {
    /// Reads the fields, beside what the query `named`.
    ///
    /// # Errors
    /// [`Refusal::UnsignedParameter`] where query and field contradict each other; a field that is absent, repeated or
    /// no text.
    pub(super) fn of(
        req: &SignedRequest<'a>,
        date: Cow<'a, str>,
        named: Named<'a>,
    ) -> Result<Self, Refusal> {
        let mut fields = Vec::new();
        let mut covered = |name: &'static str, in_query: Option<&str>| {
            let value = field(req, name)?;
            if value.is_some() {
                fields.push(name.to_owned());
            }
            match (value, in_query) {
                (None, Some(_)) => Err(Refusal::SignedHeaderAbsent {
                    name: HeaderName::from_static(name),
                }),
                (Some(sent), Some(signed)) if sent != signed => Err(Refusal::SignatureMismatch),
                (value, _) => Ok(value.unwrap_or_default()),
            }
        };
        let content_md5 = covered(CONTENT_MD5, named.content_md5.as_deref())?;
        let content_type = covered(CONTENT_TYPE, named.content_type.as_deref())?;
        let mut amz = named.amz;
        for name in req.headers.keys() {
            if !name.as_str().starts_with("x-amz-") {
                continue;
            }
            fields.push(name.as_str().to_owned());
            let value = joined_values(req, name)?;
            if let Some(other) = amz.insert(Cow::Owned(name.as_str().to_owned()), value.clone())
                && other != value
            {
                return Err(Refusal::UnsignedParameter);
            }
        }
        fields.sort_unstable();
        Ok(Covered {
            fields,
            date,
            amz,
            content_md5,
            content_type,
            sub_resources: named.sub_resources,
        })
    }

    /// The text whose keyed hash is the signature.
    pub(super) fn string_to_sign(&self, req: &SignedRequest, domain: Option<&str>) -> Vec<u8> {
        let mut text = Vec::with_capacity(req.path.len() + req.query.len() + 64);
        for line in [req.method, self.content_md5, self.content_type, &self.date] {
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        for (name, value) in &self.amz {
            text.extend_from_slice(name.as_bytes());
            text.push(b':');
            text.extend_from_slice(value.as_bytes());
            text.push(b'\n');
        }
        write_resource(&mut text, req.host, req.path, domain);
        let sub_resources = self.sub_resources.iter();
        write_sub_resources(
            &mut text,
            sub_resources
                .map(|(name, value)| (*name, value.as_deref()))
                .collect(),
        );
        text
    }
}

/// The parameters of a query, decoded; every one has its place or is refused.
#[derive(Default)]
struct Parameters<'a> {
    access_key_id: Option<Cow<'a, str>>,
    expires: Option<Cow<'a, str>>,
    signature: Option<Cow<'a, str>>,
    named: Named<'a>,
}

impl<'a> Parameters<'a> {
    fn collect(query: &'a str) -> Result<Self, Refusal> {
        let mut found = Parameters::default();
        for item in raw_items(query) {
            found.take(item)?;
        }
        Ok(found)
    }

    fn take(&mut self, item: &'a str) -> Result<(), Refusal> {
        let Item {
            name: raw_name,
            value: raw_value,
        } = Item::of(item);
        let name = decode_query(raw_name)?;
        if (self.named).take_sub_resource(item, raw_name, raw_value, &name)? {
            return Ok(());
        }
        let name = text(name)?;
        let value = text(decode_query(raw_value)?)?;
        let (slot, name) = match &*name {
            ACCESS_KEY_ID => (&mut self.access_key_id, ACCESS_KEY_ID),
            EXPIRES => (&mut self.expires, EXPIRES),
            SIGNATURE => (&mut self.signature, SIGNATURE),
            CONTENT_MD5 => (&mut self.named.content_md5, CONTENT_MD5),
            CONTENT_TYPE => (&mut self.named.content_type, CONTENT_TYPE),
            amz if amz.starts_with("x-amz-")
                && HeaderName::from_lowercase(amz.as_bytes()).is_ok() =>
            {
                return match self.named.amz.insert(name, trimmed(value)) {
                    None => Ok(()),
                    Some(_) => Err(Refusal::UnsignedParameter),
                };
            }
            _ => return Err(Refusal::UnsignedParameter),
        };
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(Refusal::DuplicateParameter { name }),
        }
    }
}

/// Decoded bytes as text of one line: a line feed would let one value stand for several lines of what is signed.
fn text(decoded: Cow<'_, [u8]>) -> Result<Cow<'_, str>, Refusal> {
    let text = match decoded {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    };
    text.filter(|text| !text.chars().any(char::is_control))
        .ok_or(Refusal::UnsignedParameter)
}

fn trimmed(value: Cow<'_, str>) -> Cow<'_, str> {
    match value {
        Cow::Borrowed(value) => Cow::Borrowed(value.trim()),
        Cow::Owned(value) => Cow::Owned(value.trim().to_owned()),
    }
}

/// The only value of a field as text, without white space around it.
fn field<'a>(req: &SignedRequest<'a>, name: &'static str) -> Result<Option<&'a str>, Refusal> {
    let Some(value) = single_value(req.headers, name)? else {
        return Ok(None);
    };
    let value = value.to_str().map_err(|_| Refusal::SignatureMismatch)?;
    Ok(Some(value.trim()))
}

/// All values of an `x-amz-*` field, as they are signed.
fn joined_values<'a>(req: &SignedRequest<'a>, name: &HeaderName) -> Result<Cow<'a, str>, Refusal> {
    let values = req.headers.get_all(name).iter();
    let values = values.map(|value| std::str::from_utf8(value.as_bytes()).map(str::trim));
    let values: Vec<&str> = values
        .collect::<Result<_, _>>()
        .map_err(|_| Refusal::SignatureMismatch)?;
    Ok(match values.as_slice() {
        [one] => Cow::Borrowed(*one),
        several => Cow::Owned(several.join(",")),
    })
}
