//! The checksums of S3: which there are, how they travel, and how they are computed in passing.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;

/// An additional checksum (S3, "Checking object integrity").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// CRC-32 as in gzip.
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// CRC-64/NVME: what S3 computes when the client names none.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// An algorithm with a value of its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    algorithm: Algorithm,
    value: Vec<u8>,
}

/// A checksum that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// The value is not base64 of the algorithm's length.
    #[error("the value is not base64 of {expected_bytes} bytes")]
    Value {
        /// Bytes that the algorithm yields.
        expected_bytes: usize,
    },
    /// Two that are not CRCs of one kind.
    #[error("two such checksums cannot be joined")]
    NotJoinable,
    /// The name is none of ours.
    #[error("no such checksum algorithm")]
    UnknownAlgorithm,
}

/// A checksum being computed.
pub struct Running {
    algorithm: Algorithm,
    state: State,
}

enum State {
    /// Boxed because it carries its folding tables.
    Crc(Box<crc_fast::Digest>),
    Sha(digest::Context),
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 5] = [
        Algorithm::Crc32,
        Algorithm::Crc32c,
        Algorithm::Crc64Nvme,
        Algorithm::Sha1,
        Algorithm::Sha256,
    ];

    /// The field that carries it, in a header or a trailer.
    pub fn field_name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "x-amz-checksum-crc32",
            Algorithm::Crc32c => "x-amz-checksum-crc32c",
            Algorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Algorithm::Sha1 => "x-amz-checksum-sha1",
            Algorithm::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The element that carries it in a document.
    pub fn element_name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "ChecksumCRC32",
            Algorithm::Crc32c => "ChecksumCRC32C",
            Algorithm::Crc64Nvme => "ChecksumCRC64NVME",
            Algorithm::Sha1 => "ChecksumSHA1",
            Algorithm::Sha256 => "ChecksumSHA256",
        }
    }

    /// S3's name, as in `x-amz-sdk-checksum-algorithm`; also how it is stored.
    pub fn s3_name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "CRC32",
            Algorithm::Crc32c => "CRC32C",
            Algorithm::Crc64Nvme => "CRC64NVME",
            Algorithm::Sha1 => "SHA1",
            Algorithm::Sha256 => "SHA256",
        }
    }

    /// Finds an algorithm by S3's name, in any case.
    ///
    /// # Errors
    /// [`ChecksumError::UnknownAlgorithm`].
    pub fn from_s3_name(name: &str) -> Result<Self, ChecksumError> {
        Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.s3_name().eq_ignore_ascii_case(name))
            .ok_or(ChecksumError::UnknownAlgorithm)
    }

    /// Finds an algorithm by its field name, in any case.
    ///
    /// # Errors
    /// [`ChecksumError::UnknownAlgorithm`].
    pub fn from_field_name(name: &str) -> Result<Self, ChecksumError> {
        Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.field_name().eq_ignore_ascii_case(name))
            .ok_or(ChecksumError::UnknownAlgorithm)
    }

    fn value_bytes(self) -> usize {
        match self {
            Algorithm::Crc32 | Algorithm::Crc32c => 4,
            Algorithm::Crc64Nvme => 8,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
        }
    }
}

impl Checksum {
    /// Reads the base64 form.
    ///
    /// # Errors
    /// [`ChecksumError::Value`] when it has not the algorithm's length.
    pub fn parse(algorithm: Algorithm, base64: &str) -> Result<Self, ChecksumError> {
        let expected_bytes = algorithm.value_bytes();
        match STANDARD.decode(base64.trim()) {
            Ok(value) if value.len() == expected_bytes => Ok(Checksum { algorithm, value }),
            Ok(_) | Err(_) => Err(ChecksumError::Value { expected_bytes }),
        }
    }

    /// Puts a stored value back together.
    ///
    /// # Errors
    /// [`ChecksumError::Value`] when it has not the algorithm's length.
    pub fn from_bytes(algorithm: Algorithm, value: Vec<u8>) -> Result<Self, ChecksumError> {
        let expected_bytes = algorithm.value_bytes();
        if value.len() != expected_bytes {
            return Err(ChecksumError::Value { expected_bytes });
        }
        Ok(Checksum { algorithm, value })
    }

    /// The checksum of what `self` is of, followed by `behind_bytes` bytes that `behind` is of, both CRCs of one kind.
    ///
    /// # Errors
    /// [`ChecksumError::NotJoinable`] for others: their bytes would have to be read.
    pub fn joined(&self, behind: &Checksum, behind_bytes: u64) -> Result<Checksum, ChecksumError> {
        let algorithm = self.algorithm;
        let crc = match algorithm {
            Algorithm::Crc32 => CrcAlgorithm::Crc32IsoHdlc,
            Algorithm::Crc32c => CrcAlgorithm::Crc32Iscsi,
            Algorithm::Crc64Nvme => CrcAlgorithm::Crc64Nvme,
            Algorithm::Sha1 | Algorithm::Sha256 => return Err(ChecksumError::NotJoinable),
        };
        if behind.algorithm != algorithm {
            return Err(ChecksumError::NotJoinable);
        }
        let number = |value: &[u8]| value.iter().fold(0u64, |sum, b| (sum << 8) | u64::from(*b));
        let (before, after) = (number(&self.value), number(&behind.value));
        let joined = crc_fast::checksum_combine(crc, before, after, behind_bytes);
        let value = joined.to_be_bytes()[8 - algorithm.value_bytes()..].to_vec();
        Ok(Checksum { algorithm, value })
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The value, big-endian for the CRCs.
    pub fn bytes(&self) -> &[u8] {
        &self.value
    }

    /// The form that travels in a field.
    pub fn base64(&self) -> String {
        STANDARD.encode(&self.value)
    }
}

fn crc(algorithm: CrcAlgorithm) -> State {
    State::Crc(Box::new(crc_fast::Digest::new(algorithm)))
}

impl Running {
    /// Begins.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => crc(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 => State::Sha(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            Algorithm::Sha256 => State::Sha(digest::Context::new(&digest::SHA256)),
        };
        Running { algorithm, state }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Crc(crc) => crc.update(bytes),
            State::Sha(sha) => sha.update(bytes),
        }
    }

    /// The checksum of everything taken in.
    pub fn finish(self) -> Checksum {
        let width = self.algorithm.value_bytes();
        let value = match self.state {
            State::Crc(crc) => crc.finalize().to_be_bytes()[8 - width..].to_vec(),
            State::Sha(sha) => sha.finish().as_ref().to_vec(),
        };
        Checksum {
            algorithm: self.algorithm,
            value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_values_of_the_catalogues_come_out() {
        // The CRC catalogue's check input is "123456789"; the SHA values are FIPS 180 over the same bytes.
        let cases = [
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Crc32c, "e3069283"),
            (Algorithm::Crc64Nvme, "ae8b14860a799888"),
            (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (
                Algorithm::Sha256,
                "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
            ),
        ];
        for (algorithm, expected) in cases {
            let mut running = Running::new(algorithm);
            running.update(b"1234");
            running.update(b"56789");
            let checksum = running.finish();
            assert_eq!(hex::encode(checksum.bytes()), expected);
            assert_eq!(Checksum::parse(algorithm, &checksum.base64()), Ok(checksum));
        }
    }

    #[test]
    fn crcs_of_two_halves_join_to_that_of_the_whole() {
        let of = |algorithm, bytes: &[u8]| {
            let mut running = Running::new(algorithm);
            running.update(bytes);
            running.finish()
        };
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            for (a, b) in [(&b"1234"[..], &b"56789"[..]), (b"", b"x"), (b"x", b"")] {
                let joined = of(algorithm, a).joined(&of(algorithm, b), b.len() as u64);
                assert_eq!(joined, Ok(of(algorithm, &[a, b].concat())));
            }
        }
        let sha = of(Algorithm::Sha256, b"a");
        assert_eq!(sha.joined(&sha, 1), Err(ChecksumError::NotJoinable));
    }

    #[test]
    fn values_of_the_wrong_length_or_alphabet_are_refused() {
        for value in ["", "AAAA", "AAAAAA=", "????", "AAAAAAA="] {
            assert_eq!(
                Checksum::parse(Algorithm::Crc32, value),
                Err(ChecksumError::Value { expected_bytes: 4 }),
                "{value}"
            );
        }
        assert!(Checksum::parse(Algorithm::Crc32, "AAAAAA==").is_ok());
    }

    #[test]
    fn names_are_found_in_any_case() {
        for algorithm in Algorithm::ALL {
            let field = algorithm.field_name().to_ascii_uppercase();
            assert_eq!(Algorithm::from_field_name(&field), Ok(algorithm));
            let name = algorithm.s3_name().to_ascii_lowercase();
            assert_eq!(Algorithm::from_s3_name(&name), Ok(algorithm));
        }
        assert_eq!(
            Algorithm::from_s3_name("md5"),
            Err(ChecksumError::UnknownAlgorithm)
        );
    }
}
