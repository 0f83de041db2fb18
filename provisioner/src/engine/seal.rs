//! The volume of a device: a new key sealed into it, and the proof that it opens.
//!
//! Owns: the lifetime of the pre-shared key and of the sealed secret: they are made here, go into the volume, and are
//! wiped when these functions return. What leaves is digests. `check` reads the volume as the device will.

use domain::{Psk, PskDigest, SealedSecret, VolumeKeyDigest};
use zeroize::Zeroizing;

use crate::{
    escrow::Recipients,
    failure::Failure,
    journal::Entry,
    observe::sealed_object,
    plan::{DevicePlan, Irreversible, Refusal, Unfit},
    ports::{Found, Journal, NewVolume, Ports, Tpm},
};

/// A volume that was opened through the TPM, and what is in it.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) psk: PskDigest,
    pub(super) volume_key: VolumeKeyDigest,
}

/// Makes the key, seals, writes beside the target, places.
pub(super) fn write(
    plan: &DevicePlan,
    replace_own: bool,
    leftover: bool,
    tpm: &mut dyn Tpm,
    ports: &mut Ports,
    journal: &mut dyn Journal,
) -> Result<(), Failure> {
    let target = &plan.target;
    let mut entropy = Zeroizing::new([0; 32]);
    ports.entropy.fill(&mut *entropy)?;
    let psk = Psk::generate(&entropy);
    let secret = SealedSecret::try_fill(|room| ports.entropy.fill(room))?;
    let sealed = tpm
        .seal(&secret, &target.seal, target.force_uninitialised)
        .map_err(|source| Failure::Seal {
            device: plan.device.clone(),
            source,
        })?;
    journal.append(&Entry::Writing {
        at: ports.clock.now(),
        psk: psk.digest(),
    })?;
    let recipients = match target.escrow.as_slice() {
        [] => None,
        keys => Some(Recipients::parse(keys).map_err(Unfit::Escrow)?),
    };
    let replace = replace_own || plan.irreversible.contains(&Irreversible::OverwriteVolume);
    let volume_key = ports.volumes.write(&NewVolume {
        target: &target.volume,
        size: target.size,
        cipher: target.cipher,
        escrow: recipients.as_ref().map(|keepers| (&plan.device, keepers)),
        // That of a run that was stopped before its volume was placed, or of a volume that goes now.
        replace_escrow: leftover || replace,
        psk: &psk,
        config: &target.config,
        secret: &secret,
        sealed: &sealed,
        seal: target.seal,
        leftover,
    })?;
    let at = ports.clock.now();
    journal.append(&Entry::Written { at, volume_key })?;
    ports.volumes.place(&target.volume, replace)?;
    journal.append(&Entry::Placed {
        at: ports.clock.now(),
    })?;
    Ok(())
}

/// Opens the volume at its target through the TPM and compares what is in it with the plan.
pub(super) fn check(plan: &DevicePlan, tpm: &mut dyn Tpm, ports: &Ports) -> Result<Checked, Failure> {
    let path = &plan.target.volume;
    let token = match ports.volumes.find(path)? {
        Found::Volume(token) => token,
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
    let secret = tpm
        .unseal(&sealed_object(&token), &token.pcrs)
        .map_err(Failure::Unseal)?;
    let content = ports.volumes.read(path, &secret)?;
    if token.pcrs != plan.target.seal || content.config.as_ref() != Some(&plan.target.config) {
        return Err(Failure::Differs {
            device: plan.device.clone(),
        });
    }
    Ok(Checked {
        psk: content.psk,
        volume_key: content.volume_key,
    })
}
