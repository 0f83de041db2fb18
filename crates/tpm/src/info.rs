//! What a TPM says about itself: who made it, its clock, its random numbers.

use tss_esapi::{
    constants::PropertyTag,
    handles::ObjectHandle,
    structures::{AttestInfo, Data, SignatureScheme},
};

use crate::{Counters, Tpm, TpmError, error::Doing as _};

/// Who made the TPM and what runs in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The manufacturer's four letters (TCG Vendor ID Registry), such as `IFX` or `IBM`.
    pub manufacturer: String,
    /// The vendor's own text, such as `SLB9670`.
    pub vendor: String,
    /// The firmware's version, as quotes carry it.
    pub firmware_version: u64,
}

impl Tpm {
    /// Reads who made the TPM. Unverified: a hint for people and deny-lists.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn identity(&mut self) -> Result<Identity, TpmError> {
        let manufacturer = self.property(PropertyTag::Manufacturer)?;
        let vendor = [
            self.property(PropertyTag::VendorString1)?,
            self.property(PropertyTag::VendorString2)?,
            self.property(PropertyTag::VendorString3)?,
            self.property(PropertyTag::VendorString4)?,
        ];
        let high = self.property(PropertyTag::FirmwareVersion1)?;
        let low = self.property(PropertyTag::FirmwareVersion2)?;
        Ok(Identity {
            manufacturer: letters(&[manufacturer]),
            vendor: letters(&vendor),
            firmware_version: (u64::from(high) << 32) | u64::from(low),
        })
    }

    /// Reads clock and counters, true ones: the TPM obfuscates them in what a key of the owner hierarchy signs, and tells
    /// them in `TPM2_GetTime` to whoever has the endorsement hierarchy's authorization. (tss-esapi has no
    /// `TPM2_ReadClock`.)
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn clock(&mut self) -> Result<Counters, TpmError> {
        let password = Some(tss_esapi::interface_types::session_handles::AuthSession::Password);
        let (attest, _) = self
            .context
            .execute_with_sessions((password, password, None), |c| {
                c.get_time(ObjectHandle::Null.into(), Data::default(), SignatureScheme::Null)
            })
            .doing("read the TPM's clock")?;
        let AttestInfo::Time { info } = attest.attested() else {
            return Err(TpmError::Nonsense("another attestation than the time"));
        };
        let clock = info.time_info().clock_info();
        Ok(Counters {
            reset_count: clock.reset_count(),
            restart_count: clock.restart_count(),
            clock: clock.clock(),
            safe: clock.safe(),
        })
    }

    /// Fills `room` from the TPM's random number generator, encrypted on the bus.
    ///
    /// # Errors
    /// [`TpmError::Refused`]; `room` may then be partly filled.
    pub fn random(&mut self, room: &mut [u8]) -> Result<(), TpmError> {
        let doing = "read random bytes";
        let parent = self.salting_template();
        self.with_storage_parent(parent, |tpm, srk| {
            tpm.with_salted_session(srk, tss_esapi::constants::SessionType::Hmac, |tpm, session| {
                // 32 bytes at most: a TPM gives no more at once than its longest digest.
                for part in room.chunks_mut(32) {
                    // The session encrypts the answer alone: the command has no parameter to encrypt.
                    tpm.encrypt_only(session)?;
                    let bytes = tpm
                        .context
                        .execute_with_session(Some(session), |c| c.get_random(part.len()))
                        .doing(doing)?;
                    if bytes.value().len() != part.len() {
                        return Err(TpmError::Nonsense("fewer random bytes than asked for"));
                    }
                    part.copy_from_slice(bytes.value());
                }
                Ok(())
            })
        })
    }

    fn property(&mut self, tag: PropertyTag) -> Result<u32, TpmError> {
        let value = self
            .context
            .get_tpm_property(tag)
            .doing("read the TPM's properties")?;
        Ok(value.unwrap_or(0))
    }
}

/// Four letters in each word, big-endian; zeros and spaces around them are padding.
fn letters(words: &[u32]) -> String {
    let text: String = words
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .filter(|byte| byte.is_ascii_graphic() || *byte == b' ')
        .map(char::from)
        .collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_lose_their_padding_and_anything_unprintable() {
        assert_eq!(letters(&[0x4946_5800]), "IFX");
        assert_eq!(letters(&[0x4942_4d20]), "IBM");
        assert_eq!(letters(&[0x534c_4239, 0x3637_3000, 0, 0]), "SLB9670");
        assert_eq!(letters(&[0x1b5b_324a]), "[2J");
    }
}
