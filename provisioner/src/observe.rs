//! Looking: what the TPM, the volume's file, its journal and the registry say about a device before anything is planned.
//!
//! Owns: the reading, and turning bytes from the TPM into checked keys. Changes nothing. The TPM is whoever answers;
//! what it says is checked against templates here and proven by credential activation later.

use std::collections::BTreeMap;

use domain::{DeviceId, EkDigest, PcrIndex, PcrValue, UnixTime};
use evidence::{AttestationKey, DenyList, EndorsementKey, GoldenSet, ak_names};
use manifest::EkTrust;
use registry::{DeviceRecord, Registry};
use tpm::{AkInfo, EkInfo, SealedObject, UnsealError};
use volume::SystemdTpm2;

use crate::{
    failure::Failure,
    journal::{Entry, wrote},
    plan::{AkSeen, Observed, Registered, VolumeSeen, Wanted, certified},
    ports::{Content, Found, Ports, Tpm, VolumeFault},
};

/// Which device has which endorsement key, from the registry.
#[derive(Debug)]
pub(crate) struct Roll {
    devices: Vec<DeviceRecord>,
}

impl Roll {
    /// Reads all devices.
    pub(crate) async fn read(registry: &dyn Registry) -> Result<Self, Failure> {
        let listing = registry.devices().await.map_err(Failure::registry)?;
        let devices = listing.devices.into_iter().map(|device| device.value).collect();
        Ok(Self { devices })
    }

    fn owner(&self, ek: &EkDigest) -> Option<DeviceId> {
        let is_its = |record: &&DeviceRecord| record.tpm.as_ref().is_some_and(|tpm| tpm.ek == *ek);
        self.devices
            .iter()
            .find(is_its)
            .map(|record| record.device.clone())
    }
}

/// Looks at one device.
pub(crate) async fn observe(
    ports: &mut Ports,
    registry: &dyn Registry,
    roll: &Roll,
    wanted: &Wanted,
) -> Result<Observed, Failure> {
    let device = &wanted.device;
    let registered = registry.device(device).await.map_err(Failure::registry)?;
    let entries = ports.journals.read(&journal_path(&wanted.volume))?;
    let mut tpm = ports.tpms.open(&wanted.tcti).map_err(Failure::tpm(device))?;
    let info = tpm.endorsement_key(wanted.ek_alg).map_err(Failure::tpm(device))?;
    let ek = endorsement_key(&info, device)?;
    let now = ports.clock.now();
    let certified = match &wanted.ek_trust {
        EkTrust::Chain(chain) => {
            let deny = DenyList::new(chain.deny.iter().cloned());
            Some(certified(&ek, &info, &wanted.roots, &deny, now))
        }
        EkTrust::FirstUse | EkTrust::Allow(_) => None,
    };
    let ak = tpm.read_ak(wanted.ak_handle).map_err(Failure::tpm(device))?;
    let ak = ak.map_or(AkSeen::Nothing, |ak| judge_ak(&ek, ak));
    let volume = look_at_volume(ports, &mut *tpm, wanted, &entries, &ek.digest())?;
    let registered = match registered {
        Some(record) => Registered::Yes(Box::new(record.value)),
        None => Registered::No,
    };
    Ok(Observed {
        ek: ek.digest(),
        certified,
        ek_owner: roll.owner(&ek.digest()),
        ak,
        uninitialised: uninitialised(&mut *tpm, wanted)?,
        differing: differing(&mut *tpm, wanted, now)?,
        volume,
        registered,
        journal_entries: entries.len(),
    })
}

/// Where the journal of a volume is.
pub(crate) fn journal_path(volume: &std::path::Path) -> std::path::PathBuf {
    let mut name = volume.as_os_str().to_owned();
    name.push(".journal");
    name.into()
}

/// Checks an endorsement key against the TCG's template.
fn endorsement_key(info: &EkInfo, device: &DeviceId) -> Result<EndorsementKey, Failure> {
    EndorsementKey::new(&info.public).map_err(|source| Failure::Ek {
        device: device.clone(),
        source,
    })
}

/// Whether a key can attest and is a child of this endorsement key: its qualified name is computed here.
pub(crate) fn judge_ak(ek: &EndorsementKey, ak: AkInfo) -> AkSeen {
    let child = ak_names(ek, &ak.public).is_ok_and(|(_, qualified)| qualified == ak.qualified_name);
    if child && AttestationKey::new(&ak.public, &ak.qualified_name).is_ok() {
        AkSeen::Good {
            public: ak.public,
            qualified_name: ak.qualified_name,
        }
    } else {
        AkSeen::Unfit
    }
}

fn look_at_volume(
    ports: &Ports,
    tpm: &mut dyn Tpm,
    wanted: &Wanted,
    entries: &[Entry],
    ek: &EkDigest,
) -> Result<VolumeSeen, Failure> {
    let token = match ports.volumes.find(&wanted.volume)? {
        Found::Nothing => return Ok(VolumeSeen::Nothing),
        Found::Other(why) => return Ok(VolumeSeen::Closed { why }),
        Found::Volume(token) => token,
    };
    let secret = match tpm.unseal(&sealed_object(&token), &token.pcrs) {
        Ok(secret) => secret,
        Err(UnsealError::Tpm(source)) => return Err(Failure::tpm(&wanted.device)(source)),
        Err(why) => return Ok(VolumeSeen::Closed { why: why.to_string() }),
    };
    let content = match ports.volumes.read(&wanted.volume, &secret) {
        Ok(content) => content,
        Err(VolumeFault::Open { source, .. }) => {
            return Ok(VolumeSeen::Closed {
                why: source.to_string(),
            });
        }
        Err(fault) => return Err(fault.into()),
    };
    let ours = is_ours(&content, entries, wanted, ek);
    Ok(VolumeSeen::Opens { content, ours })
}

fn is_ours(content: &Content, entries: &[Entry], wanted: &Wanted, ek: &EkDigest) -> bool {
    wrote(entries, &wanted.config.fleet, &wanted.device, ek, &content.psk)
}

/// What a token says, as the TPM takes it.
pub(crate) fn sealed_object(token: &SystemdTpm2) -> SealedObject {
    SealedObject {
        private_then_public: token.blob.clone(),
        policy_hash: token.policy_hash,
        primary_alg: match token.primary_alg {
            volume::PrimaryAlg::Ecc => tpm::PrimaryAlg::Ecc,
            volume::PrimaryAlg::Rsa => tpm::PrimaryAlg::Rsa,
        },
    }
}

fn uninitialised(tpm: &mut dyn Tpm, wanted: &Wanted) -> Result<Vec<PcrIndex>, Failure> {
    let values = tpm
        .read_pcrs(&wanted.seal)
        .map_err(Failure::tpm(&wanted.device))?;
    let empty = values.iter().filter(|(_, value)| value.is_uninitialised());
    Ok(empty.map(|(index, _)| index).collect())
}

/// PCRs that are not what the policy expects: the exact values, and those of the nearest golden set that has not ended.
fn differing(tpm: &mut dyn Tpm, wanted: &Wanted, now: UnixTime) -> Result<Vec<PcrIndex>, Failure> {
    let (Some(evidence), Some(pcrs)) = (&wanted.evidence, wanted.evidence_pcrs()) else {
        return Ok(Vec::new());
    };
    let values = tpm.read_pcrs(&pcrs).map_err(Failure::tpm(&wanted.device))?;
    let found: BTreeMap<PcrIndex, PcrValue> = values.iter().collect();
    let against = |expected: &BTreeMap<PcrIndex, PcrValue>| -> Vec<PcrIndex> {
        let other = expected
            .iter()
            .filter(|(index, value)| found.get(index) != Some(value));
        other.map(|(index, _)| *index).collect()
    };
    let parts = evidence.parts();
    let mut differing = against(&parts.exact);
    let is_live = |set: &&GoldenSet| set.until.is_none_or(|until| now < until);
    let nearest = parts
        .golden
        .iter()
        .filter(is_live)
        .map(|set| against(&set.values));
    let all = || {
        parts
            .golden
            .first()
            .map(|set| set.values.keys().copied().collect())
    };
    differing.extend(nearest.min_by_key(Vec::len).or_else(all).unwrap_or_default());
    differing.sort();
    Ok(differing)
}

#[cfg(test)]
mod tests;
