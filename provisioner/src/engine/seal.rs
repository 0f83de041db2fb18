//! The volume of a device: a new key sealed into it, and the proof that it opens.
//!
//! Owns: the lifetime of the pre-shared key and of the sealed secret: they are made here, go into the volume, and are
//! wiped when these functions return. What leaves is digests, and the secret of a volume that its own TPM does not open in the
//! state in which it is now, for the one check that follows. `check` reads the volume as the device will.

use domain::{Generation, Psk, PskDigest, SealedSecret, VolumeKeyDigest};
use otp::KeyId;
use tpm::ReadBack;
use volume::{KeyslotId, OtpToken, SealToken};
use zeroize::Zeroizing;

use crate::{
    escrow::{self, Recipients},
    failure::Failure,
    journal::Entry,
    observe::{Kept, Opener, release},
    plan::{DevicePlan, Irreversible, Refusal, TpmTarget, Unfit},
    ports::{Found, Journal, NewEscrow, NewVolume, Ports, Token, Tpm},
    sealing::{self, Seal},
    tokens,
};

/// What keeps the secret of the volume.
pub(super) enum Keys<'p> {
    /// A TPM, which is open.
    Tpm(&'p TpmTarget, Box<dyn Tpm>),
    /// The OTP device key of this board.
    Otp,
}

impl Keys<'_> {
    fn opener(&mut self) -> Opener<'_> {
        match self {
            Self::Tpm(_, tpm) => Opener::Tpm(&mut **tpm),
            Self::Otp => Opener::Otp,
        }
    }
}

/// A volume that was opened through its key store, and what is in it.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) psk: PskDigest,
    pub(super) volume_key: VolumeKeyDigest,
}

/// A volume that is in its place.
pub(super) struct Written {
    /// What opens it, where the TPM does not say so now.
    pub(super) kept: Option<SealedSecret>,
    /// What a person should know.
    pub(super) note: Option<String>,
}

/// What a volume's secret is, and how the device gets it back.
struct Sealed {
    secret: SealedSecret,
    token: Box<dyn SealToken>,
    /// Whether the key store gave it back.
    seen: bool,
    note: Option<String>,
    generation: Option<Generation>,
}

/// Makes the key, seals, writes beside the target, places.
pub(super) fn write(
    plan: &DevicePlan,
    replace_own: bool,
    leftover: bool,
    keys: &mut Keys<'_>,
    ports: &mut Ports,
    journal: &mut dyn Journal,
) -> Result<Written, Failure> {
    let target = &plan.target;
    let mut entropy = Zeroizing::new([0; 32]);
    ports.entropy.fill(&mut *entropy)?;
    let psk = Psk::generate(&entropy);
    let mut uuid = [0; 16];
    ports.entropy.fill(&mut uuid)?;
    let uuid = escrow::random_uuid(uuid);
    let sealed = seal(plan, keys, uuid, ports)?;
    journal.append(&Entry::Writing {
        at: ports.clock.now(),
        psk: psk.digest(),
        volume: Some(escrow::uuid(uuid)),
    })?;
    let recipients = match target.escrow.as_slice() {
        [] => None,
        keys => Some(Recipients::parse(keys).map_err(Unfit::Escrow)?),
    };
    let replace = replace_own || plan.irreversible.contains(&Irreversible::OverwriteVolume);
    let volume_key = ports.volumes.write(&NewVolume {
        target: &target.volume,
        uuid,
        size: target.size,
        cipher: target.cipher,
        sector_size: target.sector_size,
        content: target.content.as_deref(),
        escrow: recipients.as_ref().map(|keepers| NewEscrow {
            device: &plan.device,
            keepers,
            file: &target.escrow_file,
        }),
        // That of a run that was stopped before its volume was placed, or of a volume that goes now.
        replace_escrow: leftover || replace,
        psk: &psk,
        config: &target.config,
        secret: &sealed.secret,
        token: &*sealed.token,
        generation: sealed.generation,
        leftover,
    })?;
    let at = ports.clock.now();
    journal.append(&Entry::Written { at, volume_key })?;
    ports.volumes.place(&target.volume, replace)?;
    journal.append(&Entry::Placed {
        at: ports.clock.now(),
    })?;
    Ok(Written {
        kept: (!sealed.seen).then_some(sealed.secret),
        note: sealed.note,
    })
}

/// Makes a secret and seals it in the TPM, or derives one from the board's fuses.
fn seal(
    plan: &DevicePlan,
    keys: &mut Keys<'_>,
    uuid: [u8; 16],
    ports: &mut Ports,
) -> Result<Sealed, Failure> {
    let mut salt = [0; 32];
    ports.entropy.fill(&mut salt)?;
    match keys {
        Keys::Tpm(target, tpm) => {
            let secret = SealedSecret::try_fill(|room| ports.entropy.fill(room))?;
            let pin = match target.seal.pin {
                false => None,
                true => Some(ports.pins.known(&plan.device)?.ok_or_else(|| Failure::NoPin {
                    device: plan.device.clone(),
                })?),
            };
            let seal = Seal::new(
                target.seal.clone(),
                pin,
                ports.signatures.as_ref(),
                plan.target.force_uninitialised,
            );
            let (token, seen) = seal
                .here(&mut **tpm, &secret, salt)
                .map_err(|failure| match failure {
                    Failure::SealHere(source) => Failure::Seal {
                        device: plan.device.clone(),
                        source,
                    },
                    other => other,
                })?;
            let generation = target
                .rollback_counter
                .map(|index| tpm.next_generation(index))
                .transpose();
            let generation = generation.map_err(|source| Failure::Counter {
                device: plan.device.clone(),
                source,
            })?;
            let compared = seen == ReadBack::Compared;
            Ok(Sealed {
                secret,
                token: Box::new(token),
                seen: compared,
                generation,
                note: (!compared).then(|| format!("seal: {}", sealing::seen(Some(seen)))),
            })
        }
        Keys::Otp => {
            let token = OtpToken {
                keyslot: KeyslotId::SEALED,
                key_id: KeyId::DEVICE.get(),
                device: plan.device.clone(),
                salt,
            };
            let mut store = (ports.otp)();
            let derived = tokens::derive_twice(&mut store, &token, uuid)?;
            Ok(Sealed {
                note: derived.source.warning().map(str::to_owned),
                secret: derived.secret,
                token: Box::new(token),
                seen: true,
                generation: None,
            })
        }
    }
}

/// Opens the volume at its target through its key store and compares what is in it with the plan. `kept`: the secret, where it is
/// known that the key store does not release it now.
pub(super) fn check(
    plan: &DevicePlan,
    keys: &mut Keys<'_>,
    kept: Option<SealedSecret>,
    ports: &mut Ports,
) -> Result<Checked, Failure> {
    let path = &plan.target.volume;
    let lying = match ports.volumes.find(path)? {
        Found::Volume(lying) => lying,
        Found::Nothing => {
            return Err(Refusal::VolumeLost {
                device: plan.device.clone(),
                path: path.clone(),
            }
            .into());
        }
        Found::Other(why) => {
            return Err(Refusal::VolumeExists {
                path: path.clone(),
                why,
            }
            .into());
        }
    };
    let secret = match kept {
        Some(secret) => secret,
        None => release(ports, &mut keys.opener(), &plan.device, &lying).map_err(|kept| match kept {
            Kept::Locked(why) => Failure::NotOpened {
                device: plan.device.clone(),
                why,
            },
            Kept::Closed(failure) => *failure,
        })?,
    };
    let content = ports.volumes.read(path, &secret)?;
    let as_planned = match (plan.target.tpm(), &lying.token) {
        (Some(tpm), Token::Tpm(token)) => tpm.seal.is_of(token),
        (None, Token::Otp(token)) => token.device == plan.device,
        _ => false,
    };
    if !as_planned || content.config.as_ref() != Some(&plan.target.config) {
        return Err(Failure::Differs {
            device: plan.device.clone(),
        });
    }
    Ok(Checked {
        psk: content.psk,
        volume_key: content.volume_key,
    })
}
