//! `CreateBucketConfiguration` (S3 API, CreateBucket).

use super::element::{Element, Limits};
use super::tagging::read_tags;
use super::{DocumentError, TagOwner, Tags};

/// The longest document that is read, in bytes: the tags take the most.
pub const CREATE_BUCKET_MAX_BYTES: usize = 256 * 1024;

const LIMITS: Limits = Limits {
    bytes: CREATE_BUCKET_MAX_BYTES,
    elements: 1000,
};

/// How a bucket is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateBucket {
    /// `LocationConstraint`: the region, if it names one.
    pub location: Option<String>,
    /// `Tags`.
    pub tags: Tags,
}

impl CreateBucket {
    /// Reads a `CreateBucketConfiguration`; an empty document asks for nothing.
    ///
    /// # Errors
    /// [`DocumentError::NotImplemented`] for a directory bucket, tags that break a rule, or a malformed document.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        if document.is_empty() {
            return Ok(CreateBucket::default());
        }
        let root = Element::parse(document, "CreateBucketConfiguration", LIMITS)?;
        root.only(&["LocationConstraint", "Location", "Bucket", "Tags"])?;
        if root.one("Location")?.is_some() || root.one("Bucket")?.is_some() {
            return Err(DocumentError::NotImplemented {
                what: "directory buckets are not implemented",
            });
        }
        let location = match root.one("LocationConstraint")? {
            Some(location) => Some(location.word()?.to_owned()).filter(|name| !name.is_empty()),
            None => None,
        };
        let tags = match root.one("Tags")? {
            Some(tags) => Tags::new(read_tags(tags)?, TagOwner::Bucket)?,
            None => Tags::default(),
        };
        Ok(CreateBucket { location, tags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_and_tags_are_read() {
        let parse = |inner: &str| {
            let root = "CreateBucketConfiguration";
            let read = CreateBucket::parse(format!("<{root}>{inner}</{root}>").as_bytes());
            let read = read.map_err(|error| error.code())?;
            Ok((read.location, read.tags.to_header()))
        };
        let located = |name: &str| Some(name.to_owned());
        for (inner, expected) in [
            ("", Ok((None, String::new()))),
            ("<LocationConstraint/>", Ok((None, String::new()))),
            (
                "\n<LocationConstraint> eu-west-1\n</LocationConstraint>\n",
                Ok((located("eu-west-1"), String::new())),
            ),
            (
                "<Tags><Tag><Key>a</Key><Value>1</Value></Tag></Tags>",
                Ok((None, "a=1".to_owned())),
            ),
            (
                "<Bucket><Type>Directory</Type></Bucket>",
                Err("NotImplemented"),
            ),
            (
                "<Tags><Tag><Key/><Value>1</Value></Tag></Tags>",
                Err("InvalidTag"),
            ),
            ("<Other/>", Err("MalformedXML")),
            ("text", Err("MalformedXML")),
        ] {
            assert_eq!(parse(inner), expected, "{inner}");
        }
        assert_eq!(CreateBucket::parse(b""), Ok(CreateBucket::default()));
        assert!(CreateBucket::parse(b"<Other/>").is_err());
    }
}
