//! Every secret of Signalbox, in one place.
//!
//! Owns: their memory. None has Debug, Display, Clone, Serialize or PartialEq; each is wiped on drop, compared in
//! constant time, and shown only inside a closure, the narrowest scope. A secret sits on the heap from the start, so
//! that moving the value copies a pointer and leaves nothing behind on the stack.
//! Limits: a page can still be swapped out; the programs forbid core dumps, the operator encrypts swap.

use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::PskDigest;

/// The shortest imported PSK, in characters.
pub const PSK_MIN_LEN: usize = 32;
/// The longest PSK, in characters.
pub const PSK_MAX_LEN: usize = 256;
/// What a generated PSK begins with, so that secret scanners can know one when they see it.
pub const PSK_PREFIX: &str = "sbx_";

macro_rules! secret_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        pub struct $name(Box<Zeroizing<[u8; $len]>>);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Makes the secret in place: `fill` gets its zeroed memory.
            ///
            /// # Errors
            /// Those of `fill`.
            pub fn try_fill<E>(fill: impl FnOnce(&mut [u8; $len]) -> Result<(), E>) -> Result<Self, E> {
                let mut room = Box::new(Zeroizing::new([0; $len]));
                fill(&mut room)?;
                Ok(Self(room))
            }

            /// Copies a secret out of a buffer that the caller wipes; `None` when the length is another.
            #[must_use]
            pub fn copy_from(bytes: &[u8]) -> Option<Self> {
                Self::try_fill(|room| {
                    (bytes.len() == $len).then(|| room.copy_from_slice(bytes)).ok_or(())
                })
                .ok()
            }

            /// Shows the bytes to `f`, and to nobody else.
            pub fn expose<R>(&self, f: impl FnOnce(&[u8; $len]) -> R) -> R {
                f(&self.0)
            }

            /// Whether both hold the same bytes, in constant time.
            #[must_use]
            pub fn ct_eq(&self, other: &Self) -> bool {
                self.0.as_slice().ct_eq(other.0.as_slice()).into()
            }
        }
    };
}

secret_bytes!(
    /// The root key of a fleet: challenge and token keys are derived from it.
    FleetRoot, 32
);
secret_bytes!(
    /// What a TPM or OTP key store releases; the passphrase of a keyslot is its base64 text.
    SealedSecret, 32
);
secret_bytes!(
    /// The key of a volume's data segment: AES-256-XTS, two 256-bit keys.
    VolumeKey, 64
);
secret_bytes!(
    /// What credential activation proves knowledge of.
    CredentialSecret, 32
);

/// Why a text cannot be a PSK. Says nothing about the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pre-shared key is {PSK_MIN_LEN} to {PSK_MAX_LEN} visible ASCII characters")]
pub struct InvalidPsk;

/// A device's pre-shared key: 32 to 256 visible ASCII characters.
pub struct Psk(Zeroizing<Box<[u8]>>);

impl Psk {
    /// Makes a PSK from 32 bytes of entropy: `sbx_` and their base64url text.
    #[must_use]
    pub fn generate(entropy: &[u8; 32]) -> Self {
        let mut text = Zeroizing::new(vec![0; BASE64URL_NOPAD.encode_len(entropy.len())]);
        BASE64URL_NOPAD.encode_mut(entropy, &mut text);
        // Exact size from the start: a growing vector would leave copies behind.
        let mut all = Vec::with_capacity(PSK_PREFIX.len().saturating_add(text.len()));
        all.extend_from_slice(PSK_PREFIX.as_bytes());
        all.extend_from_slice(&text);
        Self(Zeroizing::new(all.into_boxed_slice()))
    }

    /// Takes an imported PSK; the caller wipes its own copy.
    ///
    /// # Errors
    /// Too short, too long, or a character that is not visible ASCII.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidPsk> {
        let fits = (PSK_MIN_LEN..=PSK_MAX_LEN).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
        if fits {
            Ok(Self(Zeroizing::new(text.into())))
        } else {
            Err(InvalidPsk)
        }
    }

    /// SHA-256 over the text: what the registry holds.
    #[must_use]
    pub fn digest(&self) -> PskDigest {
        PskDigest::of(&self.0)
    }

    /// Shows the text to `f`, and to nobody else.
    pub fn expose<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        f(&self.0)
    }

    /// Whether both are the same text, in constant time for texts of one length.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// The longest PIN, in bytes.
pub const PIN_MAX_LEN: usize = 256;

/// Why a text cannot be a PIN. Says nothing about the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a PIN is 1 to {PIN_MAX_LEN} bytes without a zero byte")]
pub struct InvalidPin;

/// What a person types so that a TPM releases a secret. systemd calls it PIN too; it need not be digits.
pub struct Pin(Zeroizing<Box<[u8]>>);

impl Pin {
    /// Takes what was typed, without its line end; the caller wipes its own copy.
    ///
    /// # Errors
    /// Empty, too long, or with a zero byte, which systemd could not be given.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidPin> {
        if (1..=PIN_MAX_LEN).contains(&text.len()) && !text.contains(&0) {
            Ok(Self(Zeroizing::new(text.into())))
        } else {
            Err(InvalidPin)
        }
    }

    /// Shows the text to `f`, and to nobody else.
    pub fn expose<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        f(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_psk_is_its_prefix_and_base64url() {
        let psk = Psk::generate(&[0xfb; 32]);
        psk.expose(|text| {
            assert_eq!(text.len(), 47);
            assert_eq!(
                text,
                format!("sbx_{}", BASE64URL_NOPAD.encode(&[0xfb; 32])).as_bytes()
            );
        });
        assert_eq!(psk.digest(), psk.expose(PskDigest::of));
        assert!(psk.ct_eq(&Psk::generate(&[0xfb; 32])));
        assert!(!psk.ct_eq(&Psk::generate(&[0xfa; 32])));
    }

    #[test]
    fn imported_psks_keep_their_bounds() {
        assert!(Psk::parse(&[b'x'; 32]).is_ok());
        assert!(Psk::parse(&[b'x'; 256]).is_ok());
        for bad in [
            &[b'x'; 31][..],
            &[b'x'; 257],
            &[b' '; 40],
            &[0x7f; 40],
            &[0xc3; 40],
        ] {
            assert!(Psk::parse(bad).is_err());
        }
    }

    #[test]
    fn secret_bytes_take_their_length_alone() {
        assert!(FleetRoot::copy_from(&[1; 32]).is_some());
        assert!(FleetRoot::copy_from(&[1; 31]).is_none());
        assert!(
            VolumeKey::copy_from(&[1; 64])
                .unwrap()
                .ct_eq(&VolumeKey::copy_from(&[1; 64]).unwrap())
        );
        assert!(
            !FleetRoot::copy_from(&[1; 32])
                .unwrap()
                .ct_eq(&FleetRoot::copy_from(&[2; 32]).unwrap())
        );
        assert!(SealedSecret::try_fill(|_| Err::<(), _>("no entropy")).is_err());
    }

    #[test]
    fn pins_keep_their_bounds() {
        assert!(Pin::parse(b"1234").unwrap().expose(|text| text == b"1234"));
        assert!(Pin::parse(&[b'x'; 256]).is_ok());
        for bad in [&b""[..], &[b'x'; 257], b"12\x0034"] {
            assert_eq!(Pin::parse(bad).err(), Some(InvalidPin));
        }
    }
}
