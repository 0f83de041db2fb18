//! The recovery key: what opens a volume when the TPM does not, in systemd's format.
//!
//! Owns: the text (64 modhex letters in eight groups of eight, `systemd-cryptenroll --recovery-key`), which is the
//! passphrase as it stands, and the `systemd-recovery` token. The key has 256 random bits.
//! Refuses to show itself but to a closure; who keeps it is the caller's business.

use domain::SealedSecret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::KeyslotId;

/// The type that systemd knows.
pub(crate) const TYPE: &str = "systemd-recovery";
/// Letters that are in the same place on most keyboards, in the order of their values.
const MODHEX: &[u8; 16] = b"cbdefghijklnrtuv";
/// Letters of a group.
const GROUP: usize = 8;

/// A recovery key. Without Debug, Clone and Display, wiped on drop.
pub struct RecoveryKey(SealedSecret);

/// Why a text is no recovery key. Says nothing about the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a recovery key is eight groups of eight letters of \"cbdefghijklnrtuv\", with dashes between them")]
pub struct InvalidRecoveryKey;

impl RecoveryKey {
    /// Makes a key of 32 random bytes.
    #[must_use]
    pub const fn new(entropy: SealedSecret) -> Self {
        Self(entropy)
    }

    /// Reads what a person typed: in either case, with all dashes or none.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidRecoveryKey> {
        let dashed = text.contains(&b'-');
        let mut letters = Zeroizing::new(Vec::with_capacity(2 * SealedSecret::LEN));
        for (place, byte) in text.iter().enumerate().take(80) {
            if dashed && place % (GROUP + 1) == GROUP {
                if *byte != b'-' {
                    return Err(InvalidRecoveryKey);
                }
            } else {
                letters.push(value(*byte).ok_or(InvalidRecoveryKey)?);
            }
        }
        let (pairs, []) = letters.as_chunks::<2>() else {
            return Err(InvalidRecoveryKey);
        };
        if pairs.len() != SealedSecret::LEN || text.last() == Some(&b'-') {
            return Err(InvalidRecoveryKey);
        }
        SealedSecret::try_fill(|room| {
            for (byte, [high, low]) in room.iter_mut().zip(pairs) {
                *byte = high << 4 | low;
            }
            Ok(())
        })
        .map(Self)
    }

    /// What the text is made of, and the header's authentication with it.
    pub(crate) const fn secret(&self) -> &SealedSecret {
        &self.0
    }

    /// Shows the text, 71 letters and dashes, to `f`.
    pub fn expose<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        // Exact size from the start: a growing vector would leave copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(2 * SealedSecret::LEN + GROUP));
        self.0.expose(|bytes| {
            for (place, byte) in bytes.iter().enumerate() {
                if place > 0 && place % (GROUP / 2) == 0 {
                    text.push(b'-');
                }
                for nibble in [byte >> 4, byte & 0xf] {
                    text.extend(MODHEX.get(usize::from(nibble)));
                }
            }
        });
        f(&text)
    }
}

fn value(letter: u8) -> Option<u8> {
    let lower = letter.to_ascii_lowercase();
    let place = MODHEX.iter().position(|known| *known == lower)?;
    u8::try_from(place).ok()
}

/// The token: which keyslots a recovery key opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecoveryToken {
    r#type: String,
    pub(crate) keyslots: Vec<KeyslotId>,
}

impl RecoveryToken {
    pub(crate) fn new(keyslot: KeyslotId) -> Self {
        Self {
            r#type: TYPE.to_owned(),
            keyslots: vec![keyslot],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> RecoveryKey {
        RecoveryKey::new(
            SealedSecret::try_fill(|room| {
                for (byte, value) in room.iter_mut().zip((0..=255).step_by(8)) {
                    *byte = value;
                }
                Ok::<_, ()>(())
            })
            .unwrap(),
        )
    }

    const TEXT: &str = "cccjbcbj-dcdjecej-fcfjgcgj-hchjicij-jcjjkckj-lcljncnj-rcrjtctj-ucujvcvj";

    #[test]
    fn the_text_round_trips_as_systemd_has_it() {
        key().expose(|text| assert_eq!(std::str::from_utf8(text).unwrap(), TEXT));
        for typed in [TEXT.to_owned(), TEXT.to_uppercase(), TEXT.replace('-', "")] {
            RecoveryKey::parse(typed.as_bytes())
                .unwrap()
                .expose(|text| assert_eq!(text, TEXT.as_bytes()));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            String::new(),
            TEXT.replace('-', " "),
            TEXT.replacen('-', "", 1),
            TEXT.replacen('c', "a", 1),
            format!("{TEXT}-"),
            format!("{TEXT}-cccccccc"),
            format!("{TEXT}{TEXT}"),
            TEXT.get(..70).unwrap().to_owned(),
            format!("-{}", TEXT.replace('-', "")),
        ] {
            assert!(RecoveryKey::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
