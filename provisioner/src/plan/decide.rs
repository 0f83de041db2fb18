//! The decision: what a device should be and what was seen, in; steps or a refusal, out. Pure.
//!
//! Owns: the rule that a registered device is never written to, and that what we did not write is overwritten only as an
//! irreversible step. An attacker may have prepared the TPM, the volume's file and the registry; nothing here trusts a
//! name where a digest can be compared.

use domain::{DeviceId, EkDigest, PcrIndex, TpmName, TpmPublic};
use manifest::EkTrust;
use registry::{DeviceRecord, DeviceState, PolicyRecord, TpmIdentity, Versioned};

use super::{
    CertificateTarget, Certified, DevicePlan, Irreversible, PolicyStep, Proof, Refusal, Step, Store, Target,
    TpmTarget, Uncertified, Wanted, WantedTpm, certificate, worth,
};
use crate::ports::Content;

/// What was seen of one device before planning.
#[derive(Debug)]
pub(crate) struct Observed {
    /// Its TPM, where it has one.
    pub(crate) tpm: Option<TpmSeen>,
    pub(crate) volume: VolumeSeen,
    /// Whether the volume that is there has a keyslot for a recovery key.
    pub(crate) recoverable: bool,
    /// Whether there is an escrow file, and none was written for another volume since.
    pub(crate) in_escrow: bool,
    pub(crate) registered: Registered,
    /// Whose the key of its client certificate is, or was, in the registry.
    pub(crate) certificate_owner: Option<DeviceId>,
    /// Entries of the journal.
    pub(crate) journal_entries: usize,
}

/// What was seen of a TPM.
#[derive(Debug)]
pub(crate) struct TpmSeen {
    pub(crate) ek: EkDigest,
    /// What its certificate is worth; asked only where the profile wants one.
    pub(crate) certified: Option<Result<Certified, Uncertified>>,
    /// Whose endorsement key it is in the registry.
    pub(crate) ek_owner: Option<DeviceId>,
    pub(crate) ak: AkSeen,
    /// The PCRs of the seal into which nothing was measured.
    pub(crate) uninitialised: Vec<PcrIndex>,
    /// The PCRs whose present value is not the policy's.
    pub(crate) differing: Vec<PcrIndex>,
}

/// What the registry says of a device.
#[derive(Debug)]
pub(crate) enum Registered {
    No,
    Yes(Box<DeviceRecord>),
}

/// What is at the attestation key's handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AkSeen {
    Nothing,
    /// A key that can attest, child of the endorsement key.
    Good {
        public: TpmPublic,
        qualified_name: TpmName,
    },
    /// Anything else.
    Unfit,
}

/// What is where the volume should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VolumeSeen {
    Nothing,
    /// This key store opens it now. `ours`: an earlier run for this device and TPM wrote it.
    Opens {
        content: Content,
        ours: bool,
        /// Whether it is sealed to what the manifest says.
        as_wished: bool,
    },
    /// It is sealed to something that is not here now: a PIN, an approved state. `ours` as above, by its UUID.
    Locked {
        why: String,
        ours: bool,
    },
    /// Not a volume, or not one that this key store opens now.
    Closed {
        why: String,
    },
}

/// Compares what a device should be with what was seen.
pub(crate) fn decide(wanted: &Wanted, seen: &Observed) -> Result<DevicePlan, Refusal> {
    let tpm = match (&wanted.tpm, &seen.tpm) {
        (Some(wanted_tpm), Some(found)) => Some((wanted_tpm, found)),
        (None, _) => None,
        (Some(_), None) => {
            return Err(Refusal::NotLookedAt {
                device: wanted.device.clone(),
            });
        }
    };
    let certificate = certificate::target(wanted, seen)?;
    let store = match tpm {
        Some((tpm, found)) => Store::Tpm(Box::new(tpm_target(tpm, found, trusted(wanted, tpm, found)?))),
        None => Store::Otp,
    };
    let mut plan = DevicePlan {
        device: wanted.device.clone(),
        target: target(wanted, seen, store, certificate),
        irreversible: Vec::new(),
        steps: Vec::new(),
        proof: Proof::of(wanted.evidence_pcrs(), wanted.measured_boot),
        protects: worth::protects(wanted),
        notes: Vec::new(),
    };
    match &seen.registered {
        Registered::Yes(record) => registered(wanted, seen, tpm, record, &mut plan)?,
        Registered::No => unregistered(wanted, seen, tpm, &mut plan)?,
    }
    notes(wanted, tpm, &mut plan);
    plan.notes.extend(certificate::notes(wanted));
    Ok(plan)
}

fn notes(wanted: &Wanted, tpm: Option<(&WantedTpm, &TpmSeen)>, plan: &mut DevicePlan) {
    if plan
        .target
        .tpm()
        .is_some_and(|tpm| tpm.ek_trust == registry::EkTrust::FirstUse)
    {
        let note =
            "ek-trust is first-use: whatever answers here is taken, nothing proves that it is a genuine TPM";
        plan.notes.push(note.to_owned());
    }
    if tpm.is_none() {
        let note = "the registry ties nothing to this board: who has the pre-shared key is this device";
        plan.notes.push(note.to_owned());
    }
    if let Some(evidence) = &wanted.evidence
        && (evidence.policy().wants_image_statement() || evidence.policy().wants_event_log())
    {
        let note = "not looked at here: the image statement and the event log that the policy asks for; the device sends them";
        plan.notes.push(note.to_owned());
    }
    for index in tpm.iter().flat_map(|(_, found)| &found.differing) {
        let note =
            format!("PCR {index} is not what the policy expects: as it is now, this device would be refused");
        plan.notes.push(note);
    }
}

/// What is to be done about a policy; `None` when the registry has it as it should be.
pub(crate) fn policy_step(
    name: &domain::PolicyName,
    wanted: PolicyRecord,
    stored: Option<Versioned<PolicyRecord>>,
) -> Option<PolicyStep> {
    let policy = name.clone();
    let Some(Versioned { value, revision }) = stored else {
        return Some(PolicyStep {
            policy,
            record: wanted,
            replaces: None,
            drops_certificates: false,
        });
    };
    let as_stored = PolicyRecord {
        revision: value.revision,
        ..wanted
    };
    if as_stored == value {
        return None;
    }
    let record = PolicyRecord {
        revision: value.revision.saturating_add(1),
        ..as_stored
    };
    Some(PolicyStep {
        policy,
        drops_certificates: value.client_certificate.is_some() && record.client_certificate.is_none(),
        record,
        replaces: Some(revision),
    })
}

fn trusted(wanted: &Wanted, tpm: &WantedTpm, seen: &TpmSeen) -> Result<registry::EkTrust, Refusal> {
    let ek = &seen.ek;
    let refused = |why: &str, hint: Option<String>| Refusal::EkUncertified {
        device: wanted.device.clone(),
        ek: *ek,
        why: why.to_owned(),
        hint,
    };
    match &tpm.ek_trust {
        EkTrust::FirstUse => Ok(registry::EkTrust::FirstUse),
        EkTrust::Allow(list) if list.contains(ek) => Ok(registry::EkTrust::Allowed),
        EkTrust::Allow(_) => Err(Refusal::EkNotAllowed(*ek)),
        EkTrust::Chain(_) => match &seen.certified {
            Some(Ok(_)) => Ok(registry::EkTrust::Chain),
            Some(Err(no)) => Err(refused(&no.why, no.hint.clone())),
            None => Err(refused("its certificate was not looked at", None)),
        },
    }
}

fn tpm_target(wanted: &WantedTpm, seen: &TpmSeen, ek_trust: registry::EkTrust) -> TpmTarget {
    TpmTarget {
        tcti: wanted.tcti.clone(),
        ek_alg: wanted.ek_alg,
        ek: seen.ek,
        ek_trust,
        ek_certified: seen.certified.clone().and_then(Result::ok),
        ak_handle: wanted.ak_handle,
        seal: wanted.seal.clone(),
        rollback_counter: wanted.rollback_counter,
    }
}

fn target(wanted: &Wanted, seen: &Observed, store: Store, certificate: CertificateTarget) -> Target {
    Target {
        store,
        volume: wanted.volume.clone(),
        size: wanted.size,
        cipher: wanted.cipher,
        sector_size: wanted.sector_size,
        content: wanted.content.clone(),
        escrow: wanted.escrow.clone(),
        escrow_file: wanted.escrow_file.clone(),
        force_uninitialised: wanted.force_uninitialised,
        config: wanted.config.clone(),
        policy: wanted.policy.clone(),
        profile: wanted.profile.clone(),
        client_certificate: certificate,
        measured_boot: wanted.measured_boot,
        journal_entries: seen.journal_entries,
    }
}

/// A registered device is looked at, never written to: its keys are fixed.
fn registered(
    wanted: &Wanted,
    seen: &Observed,
    tpm: Option<(&WantedTpm, &TpmSeen)>,
    record: &DeviceRecord,
    plan: &mut DevicePlan,
) -> Result<(), Refusal> {
    let device = || wanted.device.clone();
    let path = || wanted.volume.clone();
    match (&record.tpm, tpm) {
        (Some(identity), Some((wanted_tpm, found))) => {
            same_tpm(&device(), record, identity, wanted_tpm, found)?;
        }
        (None, Some(_)) => return Err(Refusal::NoTpmRegistered { device: device() }),
        (Some(_), None) => return Err(Refusal::TpmRegistered { device: device() }),
        (None, None) => {}
    }
    if record.state == DeviceState::Retired {
        return Err(Refusal::Retired(device()));
    }
    let foreign = |why: &str| Refusal::VolumeForeign {
        device: device(),
        path: path(),
        why: why.to_owned(),
    };
    match &seen.volume {
        VolumeSeen::Nothing => {
            return Err(Refusal::VolumeLost {
                device: device(),
                path: path(),
            });
        }
        VolumeSeen::Closed { why } => return Err(foreign(why)),
        VolumeSeen::Locked { why, .. } => {
            plan.notes.push(format!(
                "its volume was not looked into: {why}; what is in it is not known"
            ));
        }
        VolumeSeen::Opens {
            content, as_wished, ..
        } => {
            if content.psk != record.psk.current || record.volume_key != Some(content.volume_key) {
                return Err(foreign("it holds another key"));
            }
            if content.config.as_ref() != Some(&wanted.config) {
                let note =
                    "its volume was written with other settings (/device.toml); the volume stays as it is";
                plan.notes.push(note.to_owned());
            }
            if !as_wished {
                let note = "its volume is sealed otherwise than the manifest says; the volume stays as it is: \
                            `provisioner volume reseal` seals it anew";
                plan.notes.push(note.to_owned());
            }
        }
    }
    let same = record.policy == wanted.policy
        && record.profile == wanted.profile
        && record.measured_boot == wanted.measured_boot
        && !plan.target.client_certificate.changes();
    if !same {
        plan.steps.push(Step::UpdateRecord);
    }
    if let (Some(identity), Some(planned)) = (&record.tpm, plan.target.tpm())
        && identity.ek_trust != planned.ek_trust
    {
        plan.notes.push(format!(
            "its endorsement key was registered as {}, and its record keeps that: what held at enrolment counts",
            super::show::trust(identity.ek_trust)
        ));
    }
    if record.state == DeviceState::Suspended {
        plan.notes
            .push("the device is suspended: `provisioner device resume` admits it again".to_owned());
    }
    keepers(wanted, seen, plan);
    Ok(())
}

/// A volume from before the fleet had keepers, or whose escrow file went elsewhere.
fn keepers(wanted: &Wanted, seen: &Observed, plan: &mut DevicePlan) {
    if wanted.escrow.is_empty() || seen.in_escrow && seen.recoverable {
        return;
    }
    let volume = wanted.volume.display();
    let file = wanted.escrow_file.display();
    let to: String = wanted
        .escrow
        .iter()
        .map(|key| format!(" --escrow-to {key}"))
        .collect();
    let tpm = wanted.tpm.as_ref().map(|tpm| format!(" --tcti {}", tpm.tcti));
    let tpm = tpm.unwrap_or_default();
    let command = format!(
        "`provisioner volume reseal {volume}{tpm} --device {}{to} --escrow-file {file}`",
        wanted.device
    );
    plan.notes.push(if seen.recoverable {
        format!("there is no escrow file at {file}: if it was moved to its keepers, all is well; else {command} makes a new recovery key")
    } else {
        format!("its volume is from before `fleet.escrow` and has no recovery key: {command} gives it one")
    });
}

fn same_tpm(
    device: &DeviceId,
    record: &DeviceRecord,
    identity: &TpmIdentity,
    wanted: &WantedTpm,
    seen: &TpmSeen,
) -> Result<(), Refusal> {
    if identity.ek != seen.ek {
        return Err(Refusal::OtherEk {
            device: device.clone(),
            registered: identity.ek,
            found: seen.ek,
        });
    }
    // Told before its key is missed.
    if record.state == DeviceState::Retired {
        return Err(Refusal::Retired(device.clone()));
    }
    if !same_ak(&seen.ak, identity) {
        return Err(Refusal::AkLost {
            device: device.clone(),
            handle: wanted.ak_handle,
        });
    }
    Ok(())
}

fn same_ak(seen: &AkSeen, registered: &TpmIdentity) -> bool {
    match seen {
        AkSeen::Good {
            public,
            qualified_name,
        } => *public == registered.ak_public && *qualified_name == registered.ak_qualified_name,
        AkSeen::Nothing | AkSeen::Unfit => false,
    }
}

fn unregistered(
    wanted: &Wanted,
    seen: &Observed,
    tpm: Option<(&WantedTpm, &TpmSeen)>,
    plan: &mut DevicePlan,
) -> Result<(), Refusal> {
    if let Some((tpm, found)) = tpm {
        keys(wanted, tpm, found, plan)?;
        plan.steps.push(Step::Bind);
    }
    let exists = |why: &str| Refusal::VolumeExists {
        path: wanted.volume.clone(),
        why: why.to_owned(),
    };
    let config = Some(&wanted.config);
    let write = match &seen.volume {
        VolumeSeen::Nothing => Some(false),
        VolumeSeen::Opens {
            content,
            ours: true,
            as_wished: true,
        } if content.config.as_ref() == config
            && (wanted.escrow.is_empty() || seen.recoverable && seen.in_escrow) =>
        {
            None
        }
        VolumeSeen::Opens { ours: true, .. } | VolumeSeen::Locked { ours: true, .. } => Some(true),
        VolumeSeen::Opens { .. } | VolumeSeen::Locked { .. } | VolumeSeen::Closed { .. } if wanted.force => {
            plan.irreversible.push(Irreversible::OverwriteVolume);
            Some(false)
        }
        VolumeSeen::Opens { .. } => {
            let what = if tpm.is_some() { "TPM" } else { "board" };
            return Err(exists(&format!(
                "it is a volume that this {what} opens, but no journal of ours says that we wrote it"
            )));
        }
        VolumeSeen::Locked { why, .. } | VolumeSeen::Closed { why } => return Err(exists(why)),
    };
    let empty = tpm
        .map(|(_, found)| found.uninitialised.as_slice())
        .unwrap_or_default();
    match write {
        Some(_) if !empty.is_empty() && !wanted.force_uninitialised => {
            return Err(Refusal::Uninitialised(empty.to_vec()));
        }
        Some(replace_own) => plan.steps.push(Step::WriteVolume { replace_own }),
        None => plan
            .notes
            .push("the volume of an interrupted run is taken up again".to_owned()),
    }
    plan.steps.push(Step::CheckVolume);
    plan.steps.push(Step::Enrol);
    Ok(())
}

/// The TPM's own keys: whose they are, and whether there is a good attestation key.
fn keys(wanted: &Wanted, tpm: &WantedTpm, seen: &TpmSeen, plan: &mut DevicePlan) -> Result<(), Refusal> {
    if let Some(owner) = &seen.ek_owner {
        return Err(Refusal::EkTaken {
            ek: seen.ek,
            owner: owner.clone(),
        });
    }
    match &seen.ak {
        AkSeen::Nothing => plan.steps.push(Step::CreateAk),
        // Whoever made it: it can only sign for this TPM, and binding proves where it is.
        AkSeen::Good { .. } => {}
        AkSeen::Unfit if wanted.force => {
            plan.irreversible.push(Irreversible::EvictKey);
            plan.steps.push(Step::CreateAk);
        }
        AkSeen::Unfit => {
            return Err(Refusal::HandleTaken {
                handle: tpm.ak_handle,
            });
        }
    }
    Ok(())
}
