//! Random credentials in the shape that S3 clients expect.

use super::FirstStartError;
use crate::secret::Secret;

const UPPER_AND_DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const LETTERS_AND_DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// An access key id: `TG` and 18 capital letters and digits, as long as those of AWS.
pub(super) fn access_key_id() -> Result<String, FirstStartError> {
    Ok(format!("TG{}", random(18, UPPER_AND_DIGITS)?))
}

/// A secret of 40 letters and digits: 238 bits of chance.
pub(super) fn secret() -> Result<Secret, FirstStartError> {
    random(40, LETTERS_AND_DIGITS).map(Secret::new)
}

fn random(length: usize, alphabet: &[u8]) -> Result<String, FirstStartError> {
    // Bytes beyond the last whole multiple are thrown away: taken modulo, they would favour the first letters.
    let fair = 256 - 256 % alphabet.len();
    let mut text = String::with_capacity(length);
    let mut bytes = [0; 64];
    while text.len() < length {
        getrandom::fill(&mut bytes).map_err(FirstStartError::NoRandomness)?;
        let letters = (bytes.iter().copied().map(usize::from))
            .filter(|byte| *byte < fair)
            .map(|byte| char::from(alphabet[byte % alphabet.len()]));
        text.extend(letters.take(length - text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_have_the_shape_that_clients_expect_and_differ_each_time() {
        let (one, other) = (access_key_id().unwrap(), access_key_id().unwrap());
        assert_eq!(one.len(), 20);
        assert!(one.starts_with("TG"));
        assert!(one.bytes().all(|byte| UPPER_AND_DIGITS.contains(&byte)));
        assert_ne!(one, other);
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert_eq!(one.reveal().len(), 40);
        assert!(
            (one.reveal().bytes()).all(|byte| LETTERS_AND_DIGITS.contains(&byte)),
            "a letter outside the alphabet"
        );
        assert!(one != other, "the same secret twice");
    }
}
