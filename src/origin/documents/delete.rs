//! `Delete` and `DeleteResult` (S3 API, DeleteObjects).

use std::time::SystemTime;

use super::element::{Element, Limits};
use super::{DocumentError, times};
use crate::origin::names::{NameError, ObjectKey};
use crate::origin::xml::Document;

/// The longest `Delete` that is read, in bytes: a thousand keys of 1024 bytes each, with room for references.
pub const DELETE_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The most objects of one request.
const OBJECTS_MAX: usize = 1000;
const LIMITS: Limits = Limits {
    bytes: DELETE_MAX_BYTES,
    elements: 6 * OBJECTS_MAX + 100,
};

/// What is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Whether the result names only what failed.
    pub is_quiet: bool,
    /// 1 to 1000 of them.
    pub objects: Vec<DeleteKey>,
}

/// One object, or one version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteKey {
    /// Its key.
    pub key: ObjectKey,
    /// `VersionId`: which version goes for good; none makes a delete marker in a bucket with versions.
    pub version_id: Option<String>,
    /// What must be true of it.
    pub condition: DeleteCondition,
}

/// What must be true of an object for it to be deleted. Nothing is asked by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteCondition {
    /// `ETag` without quotes; `*` is any.
    pub etag: Option<String>,
    /// `LastModifiedTime`, exact to the second.
    pub modified: Option<SystemTime>,
    /// `Size` in bytes.
    pub size_bytes: Option<u64>,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteResult {
    /// What is gone, in the order of the request. It is left out of an answer that is to be quiet.
    pub deleted: Vec<Deleted>,
    /// What is not.
    pub errors: Vec<DeleteError>,
}

/// An object that is gone, or was not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// Its key.
    pub key: String,
    /// The version that the request named.
    pub version_id: Option<String>,
    /// The delete marker that was made, or that was the version which is gone.
    pub delete_marker_version_id: Option<String>,
}

/// An object that was not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteError {
    /// Its key.
    pub key: String,
    /// The version that the request named.
    pub version_id: Option<String>,
    /// S3's code.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl DeleteRequest {
    /// Reads a `Delete`.
    ///
    /// # Errors
    /// [`DocumentError`]: malformed, without objects or with more than 1000, or a key that there cannot be.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        let root = Element::parse(document, "Delete", LIMITS)?;
        root.only(&["Quiet", "Object"])?;
        let is_quiet = match root.one("Quiet")? {
            Some(quiet) => quiet.flag()?,
            None => false,
        };
        let objects = root.all("Object").map(read_object);
        let objects: Vec<_> = objects.collect::<Result<_, _>>()?;
        match objects.len() {
            0 => Err(DocumentError::Missing { element: "Object" }),
            1..=OBJECTS_MAX => Ok(DeleteRequest { is_quiet, objects }),
            _ => Err(DocumentError::TooMany {
                element: "Object",
                max: OBJECTS_MAX,
            }),
        }
    }
}

impl DeleteCondition {
    /// Whether anything is asked.
    pub fn is_none(&self) -> bool {
        *self == DeleteCondition::default()
    }

    /// Whether an object fulfils it. `etag` is without quotes.
    pub fn holds(&self, etag: &str, modified: SystemTime, size_bytes: u64) -> bool {
        let seconds = |time: SystemTime| {
            let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH);
            since_epoch.map(|time| time.as_secs()).ok()
        };
        let is_etag = |own: &String| own == "*" || own == etag;
        self.etag.as_ref().is_none_or(is_etag)
            && (self.modified).is_none_or(|own| seconds(own) == seconds(modified))
            && self.size_bytes.is_none_or(|own| own == size_bytes)
    }
}

impl DeleteResult {
    /// Writes it into a `DeleteResult`. `is_quiet` leaves out what went well.
    pub fn write(&self, is_quiet: bool, document: &mut Document) {
        for deleted in self.deleted.iter().filter(|_| !is_quiet) {
            document.element("Deleted", |document| {
                document.text("Key", &deleted.key);
                if let Some(version_id) = &deleted.version_id {
                    document.text("VersionId", version_id);
                }
                if let Some(version_id) = &deleted.delete_marker_version_id {
                    document.text("DeleteMarker", "true");
                    document.text("DeleteMarkerVersionId", version_id);
                }
            });
        }
        for error in &self.errors {
            document.element("Error", |document| {
                document.text("Key", &error.key);
                if let Some(version_id) = &error.version_id {
                    document.text("VersionId", version_id);
                }
                document.text("Code", error.code);
                document.text("Message", &error.message);
            });
        }
    }
}

fn read_object(object: &Element) -> Result<DeleteKey, DocumentError> {
    object.only(&["Key", "VersionId", "ETag", "LastModifiedTime", "Size"])?;
    let key = object.required("Key")?.text()?;
    let key = ObjectKey::new(key).map_err(|error| match error {
        NameError::KeyTooLong { bytes } => DocumentError::Key { bytes },
        _ => DocumentError::Key { bytes: 0 },
    })?;
    let version_id = match object.one("VersionId")? {
        Some(version) => Some(version.word()?.to_owned()).filter(|id| !id.is_empty()),
        None => None,
    };
    let etag = match object.one("ETag")? {
        Some(etag) => Some(unquoted(etag.word()?).to_owned()),
        None => None,
    };
    let modified = match object.one("LastModifiedTime")? {
        Some(modified) => {
            let text = modified.word()?;
            let time = httpdate::parse_http_date(text).ok();
            let time = time.or_else(|| times::parse(text));
            Some(time.ok_or(modified.bad_value())?)
        }
        None => None,
    };
    let size_bytes = match object.one("Size")? {
        Some(size) => {
            let bytes = u64::try_from(size.number()?);
            Some(bytes.map_err(|_| size.bad_value())?)
        }
        None => None,
    };
    Ok(DeleteKey {
        key,
        version_id,
        condition: DeleteCondition {
            etag,
            modified,
            size_bytes,
        },
    })
}

/// An ETag without its quotes; clients write it with and without.
pub(super) fn unquoted(etag: &str) -> &str {
    etag.strip_prefix('"')
        .and_then(|etag| etag.strip_suffix('"'))
        .unwrap_or(etag)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::origin::xml::NAMESPACE;

    fn parse(inner: &str) -> Result<DeleteRequest, DocumentError> {
        DeleteRequest::parse(format!("<Delete xmlns=\"{NAMESPACE}\">{inner}</Delete>").as_bytes())
    }

    fn object(inner: &str) -> String {
        format!("<Object>{inner}</Object>")
    }

    #[test]
    fn objects_are_read_with_their_versions_and_conditions() {
        let inner = "<Quiet>true</Quiet>\
             <Object><Key> a&amp;b&#x1;\n</Key></Object>\
             <Object><VersionId>v1</VersionId><Key>c</Key><ETag>\"e\"</ETag>\
             <LastModifiedTime>Thu, 01 Jan 1970 00:01:00 GMT</LastModifiedTime><Size>5</Size></Object>\
             <Object><Key>d</Key><VersionId/><LastModifiedTime>1970-01-01T00:01:00Z</LastModifiedTime></Object>";
        let minute = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(60));
        let request = parse(inner).unwrap();
        assert!(request.is_quiet);
        let plain = DeleteKey {
            key: ObjectKey::new(" a&b\u{1}\n").unwrap(),
            version_id: None,
            condition: DeleteCondition::default(),
        };
        let whole = DeleteKey {
            key: ObjectKey::new("c").unwrap(),
            version_id: Some("v1".to_owned()),
            condition: DeleteCondition {
                etag: Some("e".to_owned()),
                modified: minute,
                size_bytes: Some(5),
            },
        };
        let dated = DeleteKey {
            key: ObjectKey::new("d").unwrap(),
            version_id: None,
            condition: DeleteCondition {
                modified: minute,
                ..DeleteCondition::default()
            },
        };
        assert_eq!(request.objects, [plain, whole, dated]);
        assert!(!parse(&object("<Key>a</Key>")).unwrap().is_quiet);
    }

    #[test]
    fn there_are_1_to_1000_objects() {
        let many = |count: usize| object("<Key>a</Key>").repeat(count);
        assert_eq!(parse(&many(1)).unwrap().objects.len(), 1);
        assert_eq!(parse(&many(1000)).unwrap().objects.len(), 1000);
        for count in [0, 1001] {
            let error = parse(&many(count)).unwrap_err();
            assert_eq!(
                (error.code(), error.status()),
                ("MalformedXML", 400),
                "{count}"
            );
        }
        let full = "<Key>a</Key><VersionId>v</VersionId><ETag>e</ETag><LastModifiedTime>1970-01-01</LastModifiedTime><Size>1</Size>";
        assert!(parse(&object(full).repeat(1000)).is_ok());
        // The longest keys, every byte as a reference of the usual kind.
        let longest = object(&format!("<Key>{}</Key>", "&lt;".repeat(1000)));
        assert!(parse(&longest.repeat(1000)).is_ok());
    }

    #[test]
    fn objects_that_cannot_be_are_refused() {
        let long = |bytes: usize| object(&format!("<Key>{}</Key>", "k".repeat(bytes)));
        assert!(parse(&long(1024)).is_ok());
        for (inner, code) in [
            (long(1025), "KeyTooLongError"),
            (object("<Key/>"), "UserKeyMustBeSpecified"),
            (object(""), "MalformedXML"),
            (object("<Key>a</Key><Key>b</Key>"), "MalformedXML"),
            (object("<Key>a</Key><Size>-1</Size>"), "MalformedXML"),
            (object("<Key>a</Key><Size>x</Size>"), "MalformedXML"),
            (
                object("<Key>a</Key><LastModifiedTime>x</LastModifiedTime>"),
                "MalformedXML",
            ),
            (object("<Key>a</Key><Name/>"), "MalformedXML"),
            (
                "<Quiet>maybe</Quiet>".to_owned() + &object("<Key>a</Key>"),
                "MalformedXML",
            ),
        ] {
            assert_eq!(parse(&inner).unwrap_err().code(), code, "{inner:.80}");
        }
    }

    #[test]
    fn a_condition_holds_for_what_it_names() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let condition = |etag: Option<&str>, modified, size_bytes| DeleteCondition {
            etag: etag.map(str::to_owned),
            modified,
            size_bytes,
        };
        for (condition, expected) in [
            (condition(None, None, None), true),
            (condition(Some("e"), None, None), true),
            (condition(Some("*"), None, None), true),
            (condition(Some("f"), None, None), false),
            (condition(None, Some(at(5000)), None), true),
            (condition(None, Some(at(5999)), None), true),
            (condition(None, Some(at(6000)), None), false),
            (condition(None, Some(at(4999)), None), false),
            (condition(None, None, Some(7)), true),
            (condition(None, None, Some(8)), false),
            (condition(Some("e"), Some(at(5000)), Some(8)), false),
        ] {
            assert_eq!(condition.holds("e", at(5500), 7), expected, "{condition:?}");
        }
    }

    #[test]
    fn a_quiet_result_names_only_what_failed() {
        let result = DeleteResult {
            deleted: vec![
                Deleted {
                    key: "a".to_owned(),
                    version_id: None,
                    delete_marker_version_id: Some("m".to_owned()),
                },
                Deleted {
                    key: "b".to_owned(),
                    version_id: Some("v".to_owned()),
                    delete_marker_version_id: None,
                },
            ],
            errors: vec![DeleteError {
                key: "c".to_owned(),
                version_id: None,
                code: "AccessDenied",
                message: "Access Denied".to_owned(),
            }],
        };
        let write = |is_quiet| {
            let mut document = Document::new("DeleteResult", None);
            result.write(is_quiet, &mut document);
            String::from_utf8(document.finish()).unwrap()
        };
        let error =
            "<Error><Key>c</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
        let deleted = "<Deleted><Key>a</Key><DeleteMarker>true</DeleteMarker>\
             <DeleteMarkerVersionId>m</DeleteMarkerVersionId></Deleted>\
             <Deleted><Key>b</Key><VersionId>v</VersionId></Deleted>";
        let declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
        let whole = format!("{declaration}<DeleteResult>{deleted}{error}</DeleteResult>");
        assert_eq!(write(false), whole);
        let quiet = format!("{declaration}<DeleteResult>{error}</DeleteResult>");
        assert_eq!(write(true), quiet);
    }
}
