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

    /// Reads base64 text into anything that is made from a byte vector.
    ///
    /// # Errors
    /// Text that is not canonical padded base64, or bytes that the target refuses (a wrong length).
    pub fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<u8>>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = BASE64
            .decode(text.as_bytes())
            .map_err(|_| D::Error::custom("not padded base64"))?;
        T::try_from(bytes).map_err(|_| D::Error::custom("wrong number of bytes"))
    }
}
