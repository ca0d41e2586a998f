//! `CompleteMultipartUpload` (S3 API, CompleteMultipartUpload).

use super::DocumentError;
use super::delete::unquoted;
use super::element::{Element, Limits};
use crate::origin::checksums::{Algorithm, Checksum};

/// The longest document that is read, in bytes: ten thousand parts, each with its ETag and a SHA-256.
pub const COMPLETE_MULTIPART_MAX_BYTES: usize = 4 * 1024 * 1024;
/// The highest part number (S3 user guide, "Multipart upload limits").
pub const PART_NUMBER_MAX: u16 = 10_000;

const LIMITS: Limits = Limits {
    bytes: COMPLETE_MULTIPART_MAX_BYTES,
    elements: 80_001,
};

/// The parts that make the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteMultipart {
    /// At least one; numbers ascend.
    pub parts: Vec<CompletePart>,
}

/// One part as the client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletePart {
    /// 1 to [`PART_NUMBER_MAX`].
    pub number: u16,
    /// Its ETag without quotes.
    pub etag: String,
    /// Its checksums; most clients send one or none.
    pub checksums: Vec<Checksum>,
}

impl CompleteMultipart {
    /// Reads a `CompleteMultipartUpload`.
    ///
    /// # Errors
    /// [`DocumentError::PartOrder`] when numbers do not ascend; [`DocumentError::PartNumber`],
    /// [`DocumentError::PartChecksum`], or a malformed document.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        let root = Element::parse(document, "CompleteMultipartUpload", LIMITS)?;
        root.only(&["Part"])?;
        let parts = root.all("Part").map(read_part);
        let parts: Vec<_> = parts.collect::<Result<_, _>>()?;
        if parts.is_empty() {
            return Err(DocumentError::Missing { element: "Part" });
        }
        if parts
            .windows(2)
            .any(|pair| pair[0].number >= pair[1].number)
        {
            return Err(DocumentError::PartOrder);
        }
        Ok(CompleteMultipart { parts })
    }
}

fn read_part(part: &Element) -> Result<CompletePart, DocumentError> {
    part.only(&[
        "PartNumber",
        "ETag",
        "ChecksumCRC32",
        "ChecksumCRC32C",
        "ChecksumCRC64NVME",
        "ChecksumSHA1",
        "ChecksumSHA256",
    ])?;
    let number = u16::try_from(part.required("PartNumber")?.number()?).ok();
    let number = number.filter(|number| (1..=PART_NUMBER_MAX).contains(number));
    let mut checksums = Vec::new();
    for algorithm in Algorithm::ALL {
        if let Some(value) = part.one(algorithm.element_name())? {
            let checksum = Checksum::parse(algorithm, value.word()?);
            checksums.push(checksum.map_err(|_| DocumentError::PartChecksum {
                field: algorithm.field_name(),
            })?);
        }
    }
    Ok(CompletePart {
        number: number.ok_or(DocumentError::PartNumber)?,
        etag: unquoted(part.required("ETag")?.word()?).to_owned(),
        checksums,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::xml::NAMESPACE;

    fn parse(inner: &str) -> Result<Vec<CompletePart>, &'static str> {
        let root = "CompleteMultipartUpload";
        let document = format!("<{root} xmlns=\"{NAMESPACE}\">{inner}</{root}>");
        let read = CompleteMultipart::parse(document.as_bytes());
        read.map(|read| read.parts).map_err(|error| error.code())
    }

    fn part(number: &str, rest: &str) -> String {
        format!("<Part><PartNumber>{number}</PartNumber>{rest}</Part>")
    }

    #[test]
    fn parts_are_read_with_their_checksums() {
        let crc = "<ChecksumCRC32>AAAAAA==</ChecksumCRC32><ETag>&quot;e&quot;</ETag>";
        let inner = part("1", crc) + "\n" + &part("7", "<ETag>f</ETag>");
        let checksum = Checksum::parse(Algorithm::Crc32, "AAAAAA==").unwrap();
        let expected = vec![
            CompletePart {
                number: 1,
                etag: "e".to_owned(),
                checksums: vec![checksum],
            },
            CompletePart {
                number: 7,
                etag: "f".to_owned(),
                checksums: vec![],
            },
        ];
        assert_eq!(parse(&inner), Ok(expected));
    }

    #[test]
    fn every_algorithm_has_its_element() {
        for algorithm in Algorithm::ALL {
            let name = algorithm.element_name();
            assert_eq!(name, format!("Checksum{}", algorithm.s3_name()));
            let checksum = crate::origin::checksums::Running::new(algorithm).finish();
            let inner = format!("<ETag>e</ETag><{name}>{}</{name}>", checksum.base64());
            let parts = parse(&part("1", &inner)).unwrap();
            assert_eq!(parts[0].checksums, [checksum]);
            let broken = format!("<ETag>e</ETag><{name}>AA==</{name}>");
            assert_eq!(parse(&part("1", &broken)), Err("InvalidRequest"));
        }
    }

    #[test]
    fn numbers_have_a_range_and_ascend() {
        let etag = "<ETag>e</ETag>";
        let parts = |numbers: &[&str]| {
            let parts = numbers.iter().map(|number| part(number, etag));
            parse(&parts.collect::<String>()).map(|parts| parts.len())
        };
        for (numbers, expected) in [
            (&["1"][..], Ok(1)),
            (&["10000"], Ok(1)),
            (&["1", "3", "10000"], Ok(3)),
            (&["0"], Err("InvalidArgument")),
            (&["-1"], Err("InvalidArgument")),
            (&["10001"], Err("InvalidArgument")),
            (&["65537"], Err("InvalidArgument")),
            (&["x"], Err("MalformedXML")),
            (&["2", "1"], Err("InvalidPartOrder")),
            (&["1", "1"], Err("InvalidPartOrder")),
            (&[], Err("MalformedXML")),
        ] {
            assert_eq!(parts(numbers), expected, "{numbers:?}");
        }
        for inner in [
            part("1", ""),
            "<Part><ETag>e</ETag></Part>".to_owned(),
            part("1", "<ETag>e</ETag><Size>1</Size>"),
        ] {
            assert_eq!(parse(&inner), Err("MalformedXML"), "{inner}");
        }
    }

    #[test]
    fn all_parts_there_can_be_fit() {
        let sha = "A".repeat(43) + "=";
        let rest = format!(
            "\n  <ETag>&quot;{}&quot;</ETag>\n  <ChecksumSHA256>{sha}</ChecksumSHA256>\n",
            "0".repeat(32)
        );
        let all: String = (1..=10_000).map(|n| part(&n.to_string(), &rest)).collect();
        assert_eq!(parse(&all).map(|parts| parts.len()), Ok(10_000));
    }
}
