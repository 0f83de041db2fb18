//! The file of a statement: the signed bytes, the signature, and the name of the key.
//!
//! Owns: the outer JSON and every bound on it. The inner JSON is read only after its signature was checked.

use domain::{Sha256Digest, encoding::b64};
use serde::{Deserialize, Serialize};

use super::{ImageKey, ImageStatement};

/// The longest file that is read, in bytes. Real ones have about 400.
pub const MAX_STATEMENT_LEN: usize = 4096;

/// Why bytes are not an image statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Longer than any statement is.
    #[error("it has {0} bytes, {MAX_STATEMENT_LEN} are read at most")]
    TooLong(usize),
    /// The file is not the JSON that it should be.
    #[error("its file is malformed: {0}")]
    File(String),
    /// What was signed is not the JSON that it should be.
    #[error("what was signed is malformed: {0}")]
    Statement(String),
    /// The right JSON in a second spelling: spaces, another order, another way to write a character.
    #[error("what was signed is not canonical JSON")]
    NotCanonical,
    /// Not signed by the key that it names.
    #[error("it is not signed by the key that it names")]
    Signature,
    /// No PCRs, or not in ascending order.
    #[error("its PCRs are none, or not in ascending order")]
    Pcrs,
}

/// A statement as it travels: unverified until [`SignedStatement::verify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedStatement {
    #[serde(with = "b64")]
    statement: Vec<u8>,
    #[serde(with = "b64")]
    signature: Vec<u8>,
    key: Sha256Digest,
}

impl SignedStatement {
    /// Puts a statement together with the signature that `key` made over [`ImageStatement::to_be_signed`]: an ASN.1 DER
    /// `ECDSA-Sig-Value`, as `openssl dgst -sha256 -sign` writes it.
    #[must_use]
    pub fn new(statement: &ImageStatement, signature: Vec<u8>, key: &ImageKey) -> Self {
        Self {
            statement: statement.to_be_signed(),
            signature,
            key: *key.digest(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Too long, or not the JSON object of three fields that it is.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        if bytes.len() > MAX_STATEMENT_LEN {
            return Err(StatementError::TooLong(bytes.len()));
        }
        // serde would take an array of three for the object.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(StatementError::File("it is not a JSON object".to_owned()));
        }
        serde_json::from_slice(bytes).map_err(|error| StatementError::File(error.to_string()))
    }

    /// The file.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a structure of three texts is always JSON")]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("JSON")
    }

    /// Which key the file says signed it. Finds a key among the policy's, proves nothing.
    #[must_use]
    pub const fn key(&self) -> &Sha256Digest {
        &self.key
    }

    /// Checks the signature with `key`, and only then reads what was signed.
    ///
    /// # Errors
    /// Not signed by this key; or signed, and not a statement.
    pub fn verify(&self, key: &ImageKey) -> Result<ImageStatement, StatementError> {
        if !key.signed(&self.statement, &self.signature) {
            return Err(StatementError::Signature);
        }
        ImageStatement::from_canonical(&self.statement)
    }
}
