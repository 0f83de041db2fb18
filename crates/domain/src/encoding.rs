//! Text forms of bytes in JSON and TOML: standard padded base64, for use with `#[serde(with = ..)]`.
//!
//! Owns: nothing but the choice of alphabet (RFC 4648 section 4, padding required, no line breaks).

/// Bytes as standard padded base64 (`b64` of the wire contract).
pub mod b64 {
    use std::borrow::Cow;

    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    /// Writes bytes as base64 text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes.as_ref()))
    }

    /// The bytes of a text in the one spelling that they have: padded, with no stray bits, and padding nowhere but at its
    /// end. `BASE64` alone would take texts that were put together of padded ones.
    #[must_use]
    pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
        let bytes = BASE64.decode(text).ok()?;
        // Each four characters are three bytes, less one for each padding: where some is within the text, bytes are missing.
        let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
        let whole = text.len().checked_div(4)?.saturating_mul(3);
        (bytes.len().saturating_add(padding) == whole).then_some(bytes)
    }

    /// Reads base64 text into anything that is made from a byte vector.
    ///
    /// # Errors
    /// Text that is not canonical padded base64, or bytes that the target refuses (a wrong length).
    pub fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<u8>>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = decode(text.as_bytes()).ok_or_else(|| D::Error::custom("not padded base64"))?;
        T::try_from(bytes).map_err(|_| D::Error::custom("wrong number of bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::b64::decode;

    #[test]
    fn bytes_have_one_spelling() {
        assert_eq!(decode(b"YQ=="), Some(b"a".to_vec()));
        assert_eq!(decode(b"YWI="), Some(b"ab".to_vec()));
        assert_eq!(decode(b""), Some(Vec::new()));
        // Two padded texts in a row, stray bits, padding that is missing or too much, a line break.
        for other in [
            "YQ==YQ==",
            "YWI=YQ==",
            "YQ==YWJj",
            "YWI=YWJj",
            "YWJjYQ==YWJj",
            "YQ==YWI=YQ==",
            "YR==",
            "YQ",
            "YQ=",
            "YWJj====",
            "YWJjYQ======",
            "YQ==\n",
            "=",
            "====",
        ] {
            assert_eq!(decode(other.as_bytes()), None, "{other}");
        }
    }
}
