//! Looking: what the TPM, the volume's file, its journal and the registry say about a device before anything is planned.
//!
//! Owns: the reading, and turning bytes from the TPM into checked keys. Changes nothing. The TPM is whoever answers;
//! what it says is checked against templates here and proven by credential activation later.

use std::collections::BTreeMap;

use domain::{DeviceId, EkDigest, PcrIndex, PcrValue, SealedSecret, UnixTime};
use evidence::{AttestationKey, DenyList, EndorsementKey, GoldenSet, ak_names};
use manifest::EkTrust;
use registry::{DeviceRecord, Registry};
use tpm::{AkInfo, EkInfo, UnsealError};
use volume::TokenPin;

use crate::{
    escrow,
    failure::Failure,
    journal::{Entry, Whose, is_last, wrote, wrote_volume},
    plan::{AkSeen, Observed, Registered, TpmSeen, VolumeSeen, Wanted, WantedTpm, certified},
    ports::{Found, Lying, Ports, Token, Tpm, VolumeFault},
    sealing::cap,
    tokens,
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
    let registered = registry.device(&wanted.device).await.map_err(Failure::registry)?;
    let entries = ports.journals.read(&journal_path(&wanted.volume))?;
    let found = ports.volumes.find(&wanted.volume)?;
    let recoverable = matches!(&found, Found::Volume(lying) if lying.recoverable);
    let of_this = matches!(&found, Found::Volume(lying) if is_last(&entries, &escrow::uuid(lying.uuid)));
    let (tpm, volume) = match &wanted.tpm {
        Some(wanted_tpm) => {
            let mut tpm = ports
                .tpms
                .open(&wanted_tpm.tcti)
                .map_err(Failure::tpm(&wanted.device))?;
            let seen = look_at_tpm(ports, &mut *tpm, roll, wanted, wanted_tpm)?;
            let whose = whose(wanted, Some(&seen.ek));
            let mut opener = Opener::Tpm(&mut *tpm);
            let volume = look_at_volume(ports, &mut opener, wanted, found, &entries, whose)?;
            (Some(seen), volume)
        }
        None => {
            let whose = whose(wanted, None);
            let volume = look_at_volume(ports, &mut Opener::Otp, wanted, found, &entries, whose)?;
            (None, volume)
        }
    };
    let certificate_owner = match &wanted.certificate {
        None => None,
        Some(certificate) => {
            let owner = registry.certificate_owner(&certificate.key).await;
            owner.map_err(Failure::registry)?
        }
    };
    let registered = match registered {
        Some(record) => Registered::Yes(Box::new(record.value)),
        None => Registered::No,
    };
    Ok(Observed {
        tpm,
        volume,
        recoverable,
        in_escrow: of_this && wanted.escrow_file.symlink_metadata().is_ok(),
        registered,
        certificate_owner,
        journal_entries: entries.len(),
    })
}

fn look_at_tpm(
    ports: &Ports,
    tpm: &mut dyn Tpm,
    roll: &Roll,
    wanted: &Wanted,
    wanted_tpm: &WantedTpm,
) -> Result<TpmSeen, Failure> {
    let device = &wanted.device;
    let info = tpm
        .endorsement_key(wanted_tpm.ek_alg)
        .map_err(Failure::tpm(device))?;
    let ek = endorsement_key(&info, device)?;
    let now = ports.clock.now();
    let certified = match &wanted_tpm.ek_trust {
        EkTrust::Chain(chain) => {
            let deny = DenyList::new(chain.deny.iter().cloned());
            Some(certified(&ek, &info, &wanted_tpm.roots, &deny, now))
        }
        EkTrust::FirstUse | EkTrust::Allow(_) => None,
    };
    let ak = tpm.read_ak(wanted_tpm.ak_handle).map_err(Failure::tpm(device))?;
    Ok(TpmSeen {
        ek: ek.digest(),
        certified,
        ek_owner: roll.owner(&ek.digest()),
        ak: ak.map_or(AkSeen::Nothing, |ak| judge_ak(&ek, ak)),
        uninitialised: uninitialised(tpm, device, wanted_tpm)?,
        differing: differing(tpm, wanted, now)?,
    })
}

fn whose<'a>(wanted: &'a Wanted, ek: Option<&'a EkDigest>) -> Whose<'a> {
    Whose {
        fleet: &wanted.config.fleet,
        device: &wanted.device,
        ek,
    }
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

/// What opens a volume here.
pub(crate) enum Opener<'a> {
    Tpm(&'a mut dyn Tpm),
    Otp,
}

/// Why a volume's secret was not released.
#[derive(Debug)]
pub(crate) enum Kept {
    /// By something that is not here now, and may be another time: a PIN, an approved state.
    Locked(String),
    /// By the TPM, or it has no TPM's token.
    Closed(Box<Failure>),
}

impl From<Failure> for Kept {
    fn from(failure: Failure) -> Self {
        Self::Closed(Box::new(failure))
    }
}

/// The secret of a volume, from the key store of its device.
pub(crate) fn release(
    ports: &mut Ports,
    opener: &mut Opener<'_>,
    device: &DeviceId,
    lying: &Lying,
) -> Result<SealedSecret, Kept> {
    match (&lying.token, opener) {
        (Token::Tpm(token), Opener::Tpm(tpm)) => {
            let key = tokens::policy_key(token)?;
            let pin = match token.pin {
                TokenPin::None => None,
                TokenPin::Plain | TokenPin::Salted(_) => match ports.pins.known(device)? {
                    Some(pin) => Some(pin),
                    None => return Err(Kept::Locked("it wants a PIN (--pin-file)".to_owned())),
                },
            };
            let conditions = tokens::conditions(token, key.as_ref(), ports.signatures.as_ref(), pin);
            match tpm.unseal_with(&tokens::object(token), &conditions) {
                Ok(secret) => Ok(secret),
                Err(why @ UnsealError::NotApproved(_)) => Err(Kept::Locked(why.to_string())),
                Err(UnsealError::Tpm(source)) => Err(Failure::tpm(device)(source).into()),
                Err(why) => Err(Failure::Unseal(why).into()),
            }
        }
        (Token::Otp(token), Opener::Otp) => {
            let mut store = (ports.otp)();
            Ok(tokens::derive(&mut store, token, lying.uuid)?.secret)
        }
        (Token::Tpm(_), Opener::Otp) => Err(Failure::OtherStore("a TPM, and its profile has none").into()),
        (Token::Otp(_), Opener::Tpm(_)) => {
            Err(Failure::OtherStore("an OTP device key, and its profile has a TPM").into())
        }
    }
}

fn look_at_volume(
    ports: &mut Ports,
    opener: &mut Opener<'_>,
    wanted: &Wanted,
    found: Found,
    entries: &[Entry],
    whose: Whose<'_>,
) -> Result<VolumeSeen, Failure> {
    let lying = match found {
        Found::Nothing => return Ok(VolumeSeen::Nothing),
        Found::Other(why) => return Ok(VolumeSeen::Closed { why }),
        Found::Volume(lying) => lying,
    };
    let secret = match release(ports, opener, &wanted.device, &lying) {
        Ok(secret) => secret,
        Err(Kept::Locked(why)) => {
            let ours = wrote_volume(entries, whose, &escrow::uuid(lying.uuid));
            return Ok(VolumeSeen::Locked { why, ours });
        }
        Err(Kept::Closed(failure)) => {
            return match *failure {
                Failure::Unseal(why) => Ok(VolumeSeen::Closed { why: why.to_string() }),
                why @ Failure::OtherStore(_) => Ok(VolumeSeen::Closed { why: why.to_string() }),
                other => Err(other),
            };
        }
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
    let as_wished = match (&wanted.tpm, &lying.token) {
        (Some(tpm), Token::Tpm(token)) => tpm.seal.is_of(token),
        (None, Token::Otp(token)) => token.device == wanted.device,
        _ => false,
    };
    let ours = wrote(entries, whose, &content.psk);
    Ok(VolumeSeen::Opens {
        content,
        ours,
        as_wished,
    })
}

fn uninitialised(tpm: &mut dyn Tpm, device: &DeviceId, wanted: &WantedTpm) -> Result<Vec<PcrIndex>, Failure> {
    let Some(exact) = &wanted.seal.exact else {
        return Ok(Vec::new());
    };
    let values = tpm.read_pcrs(exact).map_err(Failure::tpm(device))?;
    let (empty, measured): (Vec<_>, Vec<_>) = values.iter().partition(|(_, value)| value.is_uninitialised());
    let empty: Vec<PcrIndex> = empty.into_iter().map(|(index, _)| index).collect();
    // As sealing judges it.
    if !measured.is_empty() && empty.as_slice() == cap().as_slice() {
        return Ok(Vec::new());
    }
    Ok(empty)
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
