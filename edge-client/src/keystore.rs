//! What gives the secret of a volume: this machine's TPM, or the OTP device key of a Raspberry Pi.
//!
//! Owns: which of the two is asked, read off the volume's tokens: a TPM's token first, then one of a device key. After the firmware derived
//! a secret, the raw key is locked until the next reboot, so that nobody who becomes root later can carry it away.
//! Refuses a volume with neither, and says why a token that is there cannot be used.
//! All of a TPM's tokens are tried in their order; the signatures that approve of PCR values and the PIN are looked for when a token wants them.
//! The TPM is used through the storage keys that the configuration pins, if it does: another TPM gets no secret and gives none.
//! An attacker may have written the tokens: he gets another secret or none. Limits: the firmware derives again for whoever may open its mailbox,
//! until it is locked ([`crate::closing`]) or the machine is off.

use std::path::PathBuf;

use domain::SealedSecret;
use opening::{Answers, NotReleased, signatures};
use otp::{KeyId, KeyStore, Locks, Recipe, Source};
use tpm::{SrkPin, Tcti, Tpm, TpmError, UnsealError};
use volume::{Header, OtpToken};

use crate::{device::DeviceError, pin::PinSource, report};

/// How often a person is asked for one PIN.
const TRIES: usize = 3;

/// The key stores of this machine. Nothing is opened before a volume asks for it.
pub(crate) struct Keys {
    tcti: Tcti,
    pub(crate) otp: KeyStore,
    pins: Vec<SrkPin>,
    answers: Given,
    asked: Option<Store>,
}

/// What a TPM may want to be shown beside its PCRs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    /// The file of signatures over PCR policies, if not the one that systemd would find.
    pub(crate) signatures: Option<PathBuf>,
    /// Where the PIN comes from.
    pub(crate) pin: PinSource,
}

/// Who was asked for a volume's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// The TPM.
    Tpm,
    /// The firmware of a Raspberry Pi, with this key.
    Firmware(KeyId),
    /// The raw key's file: there is no firmware cryptography.
    RawKey,
}

impl Keys {
    pub(crate) const fn new(tcti: Tcti, otp: KeyStore, pins: Vec<SrkPin>, answers: Given) -> Self {
        Self {
            tcti,
            otp,
            pins,
            answers,
            asked: None,
        }
    }

    /// Who was asked last; `None` where no volume came so far.
    pub(crate) const fn asked(&self) -> Option<Store> {
        self.asked
    }

    /// The TPM, with its storage keys pinned.
    pub(crate) fn tpm(&self) -> Result<Tpm, TpmError> {
        let mut tpm = Tpm::open(&self.tcti)?;
        tpm.pin_storage_keys(self.pins.iter().cloned());
        Ok(tpm)
    }

    /// The secret that opens the volume with this header.
    pub(crate) fn release(&mut self, header: &Header) -> Result<SealedSecret, DeviceError> {
        if !header.sealed_tokens().is_empty() {
            self.asked = Some(Store::Tpm);
            return self.unseal(header);
        }
        if let Some(token) = header.otp_tokens().first() {
            return self.derive(header, token);
        }
        match (
            header.unusable_tokens().first(),
            header.unusable_otp_tokens().first(),
        ) {
            (Some(why), _) => Err(DeviceError::Token(why.clone().into())),
            (None, Some(why)) => Err(DeviceError::Token(why.clone().into())),
            (None, None) => Err(DeviceError::NotSealed),
        }
    }

    /// A person may mistype; what comes out of a file is the same a second time.
    fn unseal(&self, header: &Header) -> Result<SealedSecret, DeviceError> {
        let mut tries = match self.answers.pin {
            PinSource::Person => TRIES,
            PinSource::File(_) => 1,
        };
        let mut tpm = self.tpm()?;
        loop {
            tries = tries.saturating_sub(1);
            let answers: Answers<'_, DeviceError> = Answers {
                signatures: &mut || Ok(signatures::load(self.answers.signatures.as_deref())?),
                pin: &mut || Ok(self.answers.pin.pin()?),
            };
            match opening::release(&mut tpm, header.sealed_tokens(), answers) {
                Err(DeviceError::Unseal(why @ UnsealError::WrongPin)) if tries > 0 => {
                    report::note(&format!("{why}, and the TPM counts it; try again"));
                }
                other => return other.map(|released| released.secret),
            }
        }
    }

    fn derive(&mut self, header: &Header, token: &OtpToken) -> Result<SealedSecret, DeviceError> {
        let key = KeyId::new(token.key_id).ok_or(DeviceError::NotSealed)?;
        let recipe = Recipe {
            device: &token.device,
            volume: header.uuid_bytes().ok_or(DeviceError::Uuid)?,
            salt: &token.salt,
        };
        self.asked = Some(Store::Firmware(key));
        let derived = self.otp.derive(key, &recipe)?;
        if derived.source == Source::NvmemFallback {
            self.asked = Some(Store::RawKey);
        }
        if let Some(warning) = derived.source.warning() {
            report::note(&format!("warning: {warning}"));
        }
        if derived.source == Source::Firmware
            && let Err(why) = self.otp.lock(key, Locks::READ)
        {
            report::note(&format!(
                "warning: the raw device key cannot be locked, so root can read it: {}",
                report::chain(&why)
            ));
        }
        Ok(derived.secret)
    }
}

impl From<NotReleased> for DeviceError {
    fn from(refused: NotReleased) -> Self {
        match refused {
            NotReleased::NoToken => Self::NotSealed,
            NotReleased::PolicyKey(why) => Self::Token(why.into()),
            NotReleased::Unseal(why) => Self::Unseal(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use domain::{PcrIndex, VolumeKey};
    use testkit::{FakeFirmware, vcio::Fault};
    use tpm::Opening;
    use volume::{Existing, FilesystemIds, Image, KeyslotId, Options, Output, Volume};

    use super::*;
    use crate::closing::close;

    const UUID: [u8; 16] = [0x3b; 16];

    fn keys(board: &FakeFirmware) -> Keys {
        let board = board.clone();
        let otp = KeyStore::new(Box::new(move |message: &mut [u32]| board.property(message)));
        Keys::new(
            "device:/nonexistent/tpm".parse().unwrap(),
            otp,
            Vec::new(),
            Given::default(),
        )
    }

    fn board() -> FakeFirmware {
        FakeFirmware::with_key(&[0x11; 32])
    }

    /// A volume whose secret is that of the board for this token, written over `uuid`.
    fn volume(board: &FakeFirmware, uuid: [u8; 16]) -> File {
        let token = OtpToken {
            keyslot: KeyslotId::SEALED,
            key_id: 1,
            device: "edge-1".parse().unwrap(),
            salt: [9; 32],
        };
        let recipe = Recipe {
            device: &token.device,
            volume: UUID,
            salt: &token.salt,
        };
        let derived = keys(board).otp.derive(KeyId::DEVICE, &recipe).unwrap();
        let target = tempfile::tempfile().unwrap();
        let mut counter = 0_u8;
        let mut entropy = |room: &mut [u8]| {
            for byte in room {
                counter = counter.wrapping_add(1);
                *byte = counter;
            }
        };
        let ids = FilesystemIds {
            uuid: [1; 16],
            hash_seed: [2; 16],
        };
        let key: Vec<u8> = (0..64).collect();
        let output = Output {
            target: &target,
            volume: Volume {
                uuid,
                label: "",
                size: 17 << 20,
                existing: Existing::Refuse,
                options: Options::default(),
                volume_key: &VolumeKey::copy_from(&key).unwrap(),
                secret: &derived.secret,
                token: &token,
            },
            entropy: &mut entropy,
        };
        let image = Image::of_files(&[], 1 << 20, ids).unwrap();
        volume::write(&image, vec![output], &()).pop().unwrap().unwrap();
        target
    }

    fn opens(keys: &mut Keys, file: &File) -> Result<(), DeviceError> {
        let header = volume::inspect(file).unwrap();
        let secret = keys.release(&header)?;
        volume::open(file.try_clone().unwrap(), &secret)?;
        Ok(())
    }

    #[test]
    fn the_firmware_opens_the_volume_and_the_raw_key_is_locked() {
        let board = board();
        let file = volume(&board, UUID);
        assert!(board.nvmem().is_ok());
        opens(&mut keys(&board), &file).unwrap();
        assert!(board.nvmem().is_err(), "root reads the key no more");
        opens(&mut keys(&board), &file).unwrap();
        // A firmware that does not lock is told, and is no reason to stay shut.
        board.reboot();
        board.fail(Fault::LocksIgnored);
        opens(&mut keys(&board), &file).unwrap();
    }

    #[test]
    fn a_firmware_that_was_closed_derives_nothing_until_a_reboot() {
        let (board, pcr) = (board(), PcrIndex::try_from(15).unwrap());
        let file = volume(&board, UUID);
        let mut store = keys(&board);
        opens(&mut store, &file).unwrap();
        assert_eq!(store.asked(), Some(Store::Firmware(KeyId::DEVICE)));
        close(&mut store, pcr, Opening::Released).unwrap();
        assert!(matches!(
            opens(&mut keys(&board), &file),
            Err(DeviceError::Otp(_))
        ));
        board.reboot();
        opens(&mut keys(&board), &file).unwrap();
        // A board that does not lock is told: the secret is then kept back.
        board.reboot();
        board.fail(Fault::LocksIgnored);
        let mut store = keys(&board);
        opens(&mut store, &file).unwrap();
        assert!(close(&mut store, pcr, Opening::Released).is_err());
    }

    #[test]
    fn a_volume_that_says_nothing_closes_the_firmware_too() {
        let (board, pcr) = (board(), PcrIndex::try_from(15).unwrap());
        let file = volume(&board, UUID);
        // There is no TPM here, which is told; the firmware is locked all the same.
        assert!(close(&mut keys(&board), pcr, Opening::Failed).is_err());
        assert!(opens(&mut keys(&board), &file).is_err());
    }

    #[test]
    fn a_volume_that_does_not_open_leaves_no_store_open_whichever_it_names() {
        let pcr = PcrIndex::try_from(15).unwrap();
        for named in [Store::Tpm, Store::Firmware(KeyId::new(2).unwrap()), Store::RawKey] {
            let board = board();
            let file = volume(&board, UUID);
            let mut store = keys(&board);
            store.asked = Some(named);
            let closed = close(&mut store, pcr, Opening::Failed);
            // Neither a TPM nor a second key is here, which is told where the volume named one.
            assert_eq!(closed.is_err(), named != Store::RawKey, "{named:?}: {closed:?}");
            assert!(
                matches!(opens(&mut keys(&board), &file), Err(DeviceError::Otp(_))),
                "{named:?}"
            );
        }
    }

    #[test]
    fn another_board_or_another_volume_does_not_open() {
        let file = volume(&board(), UUID);
        let other = FakeFirmware::with_key(&[0x12; 32]);
        assert!(matches!(
            opens(&mut keys(&other), &file),
            Err(DeviceError::Open(_))
        ));
        // The token of one volume in the header of another.
        let moved = volume(&board(), [0x3c; 16]);
        assert!(matches!(
            opens(&mut keys(&board()), &moved),
            Err(DeviceError::Open(_))
        ));
    }

    #[test]
    fn a_board_without_a_key_derives_nothing() {
        let file = volume(&board(), UUID);
        let refused = opens(&mut keys(&FakeFirmware::blank()), &file).unwrap_err();
        assert!(matches!(refused, DeviceError::Otp(_)));
        assert!(refused.hint().unwrap().contains("genkey"));
        let locked = board();
        locked.lock(1 << 11);
        let refused = opens(&mut keys(&locked), &file).unwrap_err();
        assert!(refused.hint().unwrap().contains("reboot"));
    }
}
