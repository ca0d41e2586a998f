//! The field `x-amz-object-attributes` (S3 API, GetObjectAttributes).

use http::HeaderMap;

use super::DocumentError;

/// What is asked about an object; at least one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectAttributes {
    /// `ETag`
    pub etag: bool,
    /// `Checksum`
    pub checksum: bool,
    /// `ObjectParts`
    pub parts: bool,
    /// `StorageClass`
    pub storage_class: bool,
    /// `ObjectSize`
    pub size: bool,
}

impl ObjectAttributes {
    /// Reads the field, which may be there more than once; each holds a list.
    ///
    /// # Errors
    /// [`DocumentError::Attributes`] when it is missing or names something else.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, DocumentError> {
        let mut asked = ObjectAttributes::default();
        for value in headers.get_all("x-amz-object-attributes") {
            let value = value.to_str().map_err(|_| DocumentError::Attributes)?;
            for name in value.split(',') {
                let flag = match name.trim() {
                    "ETag" => &mut asked.etag,
                    "Checksum" => &mut asked.checksum,
                    "ObjectParts" => &mut asked.parts,
                    "StorageClass" => &mut asked.storage_class,
                    "ObjectSize" => &mut asked.size,
                    _ => return Err(DocumentError::Attributes),
                };
                *flag = true;
            }
        }
        if asked == ObjectAttributes::default() {
            return Err(DocumentError::Attributes);
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_named_in_one_field_or_in_several() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-amz-object-attributes", value.parse().unwrap());
            }
            ObjectAttributes::from_headers(&headers).map_err(|error| error.code())
        };
        let two = ObjectAttributes {
            etag: true,
            size: true,
            ..ObjectAttributes::default()
        };
        assert_eq!(read(&["ETag, ObjectSize"]), Ok(two));
        assert_eq!(read(&["ObjectSize", "ETag"]), Ok(two));
        let all = ObjectAttributes {
            etag: true,
            checksum: true,
            parts: true,
            storage_class: true,
            size: true,
        };
        let names = "ETag,Checksum,ObjectParts,StorageClass,ObjectSize";
        assert_eq!(read(&[names]), Ok(all));
        for values in [&[][..], &[""], &["etag"], &["ETag,"], &["ETag", "Size"]] {
            assert_eq!(read(values), Err("InvalidArgument"), "{values:?}");
        }
    }
}
