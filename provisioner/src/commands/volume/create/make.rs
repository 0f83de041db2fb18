//! The keys of one volume, and sealing them: in the TPM at hand, for one that is not here, or with OTP fuses.
//!
//! Owns: the lifetime of a volume's secrets until they are written. What a TPM or the fuses give is compared before it is used, where
//! this machine can see it.

use std::path::PathBuf;

use domain::{DeviceId, SealedSecret, VolumeKey};
use otp::KeyId;
use tpm::{ReadBack, SealEntropy, Tpm};
use volume::{KeyslotId, OtpToken, RecoveryKey, SealToken};
use zeroize::Zeroizing;

use crate::{
    cli::CreateArgs,
    commands::{
        inventory::Collected,
        volume::{entropy::Stream, opening, usage},
    },
    escrow,
    failure::Failure,
    report::Reporter,
    sealing::Seal,
    tokens,
};

/// What seals.
pub(super) enum Sealer {
    Here(Seal<'static>, Box<Tpm>),
    /// A TPM for each target, or one for all.
    Away(Seal<'static>, Vec<Collected>),
    Otp,
}

/// All that one volume is made of.
pub(super) struct Made {
    pub(super) device: Option<DeviceId>,
    pub(super) uuid: [u8; 16],
    pub(super) key: VolumeKey,
    pub(super) secret: SealedSecret,
    pub(super) token: Box<dyn SealToken>,
    pub(super) read_back: Option<ReadBack>,
    pub(super) recovery: Option<RecoveryKey>,
    pub(super) escrow: Option<PathBuf>,
    pub(super) stream: Stream,
}

/// The secrets of one volume, sealed.
pub(super) fn make(
    args: &CreateArgs,
    sealer: &mut Sealer,
    nth: usize,
    device: Option<DeviceId>,
    mut stream: Stream,
    recoverable: bool,
    reporter: &mut dyn Reporter,
) -> Result<Made, Failure> {
    let uuid = escrow::random_uuid(stream.draw()?);
    let key = VolumeKey::try_fill(|room| stream.try_fill(room))?;
    let recovery = if recoverable {
        Some(RecoveryKey::new(SealedSecret::try_fill(|room| {
            stream.try_fill(room)
        })?))
    } else {
        None
    };
    let (secret, token, read_back): (SealedSecret, Box<dyn SealToken>, _) = match sealer {
        Sealer::Here(seal, tpm) => {
            let secret = SealedSecret::try_fill(|room| stream.try_fill(room))?;
            let (token, read_back) = seal.here(&mut **tpm, &secret, stream.draw()?)?;
            (secret, Box::new(token), Some(read_back))
        }
        Sealer::Away(seal, all) => {
            let secret = SealedSecret::try_fill(|room| stream.try_fill(room))?;
            let collected = all
                .get(nth)
                .or_else(|| all.first())
                .ok_or_else(|| usage("there is no --srk-public", "name what `inventory collect` wrote"))?;
            let values = seal
                .wish()
                .exact
                .as_ref()
                .map(|pcrs| collected.values(pcrs))
                .transpose()?;
            let srk = collected.storage_key(seal.wish().template())?;
            let salt = stream.draw()?;
            let entropy = SealEntropy {
                seed: Zeroizing::new(stream.draw()?),
                obfuscation: Zeroizing::new(stream.draw()?),
            };
            let token = seal.away(srk, values.as_ref(), &secret, salt, entropy)?;
            (secret, Box::new(token), None)
        }
        Sealer::Otp => {
            let device = device
                .clone()
                .ok_or_else(|| usage("which device is it for?", "--device ID"))?;
            let token = OtpToken {
                keyslot: KeyslotId::SEALED,
                key_id: KeyId::DEVICE.get(),
                device,
                salt: stream.draw()?,
            };
            (
                derive(args, &token, uuid, reporter)?,
                Box::new(token),
                Some(ReadBack::Compared),
            )
        }
    };
    Ok(Made {
        device,
        uuid,
        key,
        secret,
        token,
        read_back,
        recovery,
        escrow: None,
        stream,
    })
}

/// Derives a secret from the fuses.
fn derive(
    args: &CreateArgs,
    token: &OtpToken,
    volume: [u8; 16],
    reporter: &mut dyn Reporter,
) -> Result<SealedSecret, Failure> {
    let mut store = tokens::store(args.otp_nvmem.as_deref())();
    let derived = tokens::derive_twice(&mut store, token, volume)?;
    if let Some(warning) = derived.source.warning() {
        reporter.note(warning);
    }
    Ok(derived.secret)
}

pub(super) fn sealer(args: &CreateArgs) -> Result<Sealer, Failure> {
    if args.otp {
        return Ok(Sealer::Otp);
    }
    let seal = Seal::of_args(&args.seal, args.pcr_signature.as_deref())?;
    if args.srk_public.is_empty() {
        let tpm = opening::open_tpm(args.tcti.as_ref())?;
        return Ok(Sealer::Here(seal, Box::new(tpm)));
    }
    if args.srk_public.len() != 1 && args.srk_public.len() != args.targets.len() {
        return Err(usage(
            "there is neither one --srk-public for all targets nor one for each",
            "they belong together in their order",
        ));
    }
    let all: Result<Vec<_>, _> = args.srk_public.iter().map(|path| Collected::read(path)).collect();
    Ok(Sealer::Away(seal, all?))
}
