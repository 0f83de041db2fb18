//! The keys of one volume, and sealing them: in the TPM at hand, for one that is not here, or with OTP fuses.
//!
//! Owns: the lifetime of a volume's secrets until they are written. What a TPM or the fuses give is compared before it is used, where
//! this machine can see it.

use std::path::PathBuf;

use domain::{DeviceId, SealedSecret, VolumeKey};
use otp::{KeyId, Recipe};
use tpm::{ReadBack, Tpm};
use volume::{KeyslotId, OtpToken, RecoveryKey, SealToken};

use crate::{
    cli::CreateArgs,
    commands::{
        inventory::Collected,
        volume::{entropy::Stream, opening, sealing::Seal, usage},
    },
    failure::Failure,
    report::Reporter,
};

/// What seals.
pub(super) enum Sealer {
    Here(Seal, Box<Tpm>),
    /// A TPM for each target, or one for all.
    Away(Seal, Vec<Collected>),
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
    let uuid = random_uuid(stream.draw()?);
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
            let (token, read_back) = seal.here(tpm, &secret, &mut stream)?;
            (secret, Box::new(token), Some(read_back))
        }
        Sealer::Away(seal, all) => {
            let secret = SealedSecret::try_fill(|room| stream.try_fill(room))?;
            let collected = all
                .get(nth)
                .or_else(|| all.first())
                .ok_or_else(|| usage("there is no --srk-public", "name what `inventory collect` wrote"))?;
            let values = seal.exact().map(|pcrs| collected.values(pcrs)).transpose()?;
            let token = seal.away(
                collected.storage_key(seal.template())?,
                values.as_ref(),
                &secret,
                &mut stream,
            )?;
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

/// Derives a secret from the fuses, twice: a firmware that is not sure of itself makes no volume.
fn derive(
    args: &CreateArgs,
    token: &OtpToken,
    volume: [u8; 16],
    reporter: &mut dyn Reporter,
) -> Result<SealedSecret, Failure> {
    let mut store = opening::store(args.otp_nvmem.as_deref())();
    let recipe = Recipe {
        device: &token.device,
        volume,
        salt: &token.salt,
    };
    let mut derive = || store.derive(KeyId::DEVICE, &recipe).map_err(Failure::Otp);
    let (first, second) = (derive()?, derive()?);
    if !first.secret.ct_eq(&second.secret) {
        return Err(usage(
            "the OTP device key gave two different secrets for one message",
            "this board's firmware cannot be relied on",
        ));
    }
    if let Some(warning) = first.source.warning() {
        reporter.note(warning);
    }
    Ok(first.secret)
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

/// Version 4, variant 1 (RFC 9562, 5.4).
pub(super) const fn random_uuid(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}
