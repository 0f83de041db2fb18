//! What names the way to a keyslot's secret: a token.
//!
//! Owns: the one thing that this crate wants of a token, whatever released the secret. Refuses to write a token that its
//! own reader would not take back.

use serde_json::Value;

use crate::{KeyslotId, OtpToken, SystemdTpm2, TokenError};

/// The token of a sealed secret: [`SystemdTpm2`], or [`OtpToken`] for a device key in fuses.
pub trait SealToken: Sync {
    /// The keyslot whose passphrase the secret is.
    fn keyslot(&self) -> KeyslotId;

    /// The JSON object, with `type` and `keyslots`, after it was read back.
    ///
    /// # Errors
    /// It would not be read again.
    fn object(&self) -> Result<Value, TokenError>;
}

impl SealToken for SystemdTpm2 {
    fn keyslot(&self) -> KeyslotId {
        self.keyslot
    }

    fn object(&self) -> Result<Value, TokenError> {
        let json = self.to_json().map_err(|e| TokenError::Malformed(e.to_string()))?;
        Self::from_json(json.clone()).map(|_| json)
    }
}

impl SealToken for OtpToken {
    fn keyslot(&self) -> KeyslotId {
        self.keyslot
    }

    fn object(&self) -> Result<Value, TokenError> {
        let malformed = |why: String| TokenError::Malformed(why);
        let json = self.to_json().map_err(|e| malformed(e.to_string()))?;
        let read = Self::from_json(json.clone());
        read.map(|_| json).map_err(|e| malformed(e.to_string()))
    }
}
