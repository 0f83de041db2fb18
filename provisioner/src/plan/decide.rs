//! The decision: what a device should be and what was seen, in; steps or a refusal, out. Pure.
//!
//! Owns: the rule that a registered device is never written to, and that what we did not write is overwritten only as an
//! irreversible step. An attacker may have prepared the TPM, the volume's file and the registry; nothing here trusts a
//! name where a digest can be compared.

use domain::{DeviceId, EkDigest, PcrIndex, TpmName, TpmPublic};
use manifest::EkTrust;
use registry::{DeviceRecord, DeviceState, PolicyRecord, TpmIdentity, Versioned};

use super::{
    Certified, DevicePlan, Irreversible, PolicyStep, Proof, Refusal, Step, Target, Uncertified, Wanted,
};
use crate::ports::Content;

/// What was seen of one device before planning.
#[derive(Debug)]
pub(crate) struct Observed {
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
    pub(crate) volume: VolumeSeen,
    pub(crate) registered: Registered,
    /// Entries of the journal.
    pub(crate) journal_entries: usize,
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
    /// This TPM opens it now. `ours`: an earlier run for this device and TPM wrote it.
    Opens {
        content: Content,
        ours: bool,
    },
    /// Not a volume, or not one that this TPM opens now.
    Closed {
        why: String,
    },
}

/// Compares what a device should be with what was seen.
pub(crate) fn decide(wanted: &Wanted, seen: &Observed) -> Result<DevicePlan, Refusal> {
    let trust = trusted(wanted, seen)?;
    let mut plan = DevicePlan {
        device: wanted.device.clone(),
        target: target(wanted, seen, trust),
        irreversible: Vec::new(),
        steps: Vec::new(),
        proof: Proof::of(wanted.evidence_pcrs(), wanted.measured_boot),
        notes: Vec::new(),
    };
    match &seen.registered {
        Registered::Yes(record) => registered(wanted, seen, record, &mut plan)?,
        Registered::No => unregistered(wanted, seen, &mut plan)?,
    }
    if trust == registry::EkTrust::FirstUse {
        let note =
            "ek-trust is first-use: whatever answers here is taken, nothing proves that it is a genuine TPM";
        plan.notes.push(note.to_owned());
    }
    if let Some(evidence) = &wanted.evidence
        && (evidence.policy().wants_image_statement() || evidence.policy().wants_event_log())
    {
        let note = "not looked at here: the image statement and the event log that the policy asks for; the device sends them";
        plan.notes.push(note.to_owned());
    }
    for index in &seen.differing {
        let note =
            format!("PCR {index} is not what the policy expects: as it is now, this device would be refused");
        plan.notes.push(note);
    }
    Ok(plan)
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
        record,
        replaces: Some(revision),
    })
}

fn trusted(wanted: &Wanted, seen: &Observed) -> Result<registry::EkTrust, Refusal> {
    let ek = &seen.ek;
    let refused = |why: &str, hint: Option<String>| Refusal::EkUncertified {
        device: wanted.device.clone(),
        ek: *ek,
        why: why.to_owned(),
        hint,
    };
    match &wanted.ek_trust {
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

fn target(wanted: &Wanted, seen: &Observed, ek_trust: registry::EkTrust) -> Target {
    Target {
        tcti: wanted.tcti.clone(),
        ek_alg: wanted.ek_alg,
        ek: seen.ek,
        ek_trust,
        ek_certified: seen.certified.clone().and_then(Result::ok),
        ak_handle: wanted.ak_handle,
        volume: wanted.volume.clone(),
        size: wanted.size,
        cipher: wanted.cipher,
        escrow: wanted.escrow.clone(),
        seal: wanted.seal,
        force_uninitialised: wanted.force_uninitialised,
        config: wanted.config.clone(),
        policy: wanted.policy.clone(),
        profile: wanted.profile.clone(),
        measured_boot: wanted.measured_boot,
        journal_entries: seen.journal_entries,
    }
}

/// A registered device is looked at, never written to: its keys are fixed.
fn registered(
    wanted: &Wanted,
    seen: &Observed,
    record: &DeviceRecord,
    plan: &mut DevicePlan,
) -> Result<(), Refusal> {
    let device = || wanted.device.clone();
    let path = || wanted.volume.clone();
    let Some(tpm) = &record.tpm else {
        return Err(Refusal::NoTpmRegistered { device: device() });
    };
    if tpm.ek != seen.ek {
        return Err(Refusal::OtherEk {
            device: device(),
            registered: tpm.ek,
            found: seen.ek,
        });
    }
    if record.state == DeviceState::Retired {
        return Err(Refusal::Retired(device()));
    }
    if !same_ak(&seen.ak, tpm) {
        return Err(Refusal::AkLost {
            device: device(),
            handle: wanted.ak_handle,
        });
    }
    let content = match &seen.volume {
        VolumeSeen::Nothing => {
            return Err(Refusal::VolumeLost {
                device: device(),
                path: path(),
            });
        }
        VolumeSeen::Closed { why } => {
            return Err(Refusal::VolumeForeign {
                device: device(),
                path: path(),
                why: why.clone(),
            });
        }
        VolumeSeen::Opens { content, .. } => content,
    };
    let its_own = content.psk == record.psk.current && record.volume_key == Some(content.volume_key);
    if !its_own {
        let why = "it holds another key".to_owned();
        return Err(Refusal::VolumeForeign {
            device: device(),
            path: path(),
            why,
        });
    }
    let same = record.policy == wanted.policy
        && record.profile == wanted.profile
        && record.measured_boot == wanted.measured_boot;
    if !same {
        plan.steps.push(Step::UpdateRecord);
    }
    if tpm.ek_trust != plan.target.ek_trust {
        plan.notes.push(format!(
            "its endorsement key was registered as {}, and its record keeps that: what held at enrolment counts",
            super::show::trust(tpm.ek_trust)
        ));
    }
    if record.state == DeviceState::Suspended {
        plan.notes
            .push("the device is suspended: `provisioner device resume` admits it again".to_owned());
    }
    if content.config.as_ref() != Some(&wanted.config) {
        let note =
            "its volume was written with other settings (/device.toml); the volume stays as it is".to_owned();
        plan.notes.push(note);
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

fn unregistered(wanted: &Wanted, seen: &Observed, plan: &mut DevicePlan) -> Result<(), Refusal> {
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
                handle: wanted.ak_handle,
            });
        }
    }
    plan.steps.push(Step::Bind);
    let write = match &seen.volume {
        VolumeSeen::Nothing => Some(false),
        VolumeSeen::Opens { content, ours: true } if content.config.as_ref() == Some(&wanted.config) => None,
        VolumeSeen::Opens { ours: true, .. } => Some(true),
        VolumeSeen::Opens { .. } | VolumeSeen::Closed { .. } if wanted.force => {
            plan.irreversible.push(Irreversible::OverwriteVolume);
            Some(false)
        }
        VolumeSeen::Opens { .. } => {
            let why =
                "it is a volume that this TPM opens, but no journal of ours says that we wrote it".to_owned();
            return Err(Refusal::VolumeExists {
                path: wanted.volume.clone(),
                why,
            });
        }
        VolumeSeen::Closed { why } => {
            return Err(Refusal::VolumeExists {
                path: wanted.volume.clone(),
                why: why.clone(),
            });
        }
    };
    match write {
        Some(_) if !seen.uninitialised.is_empty() && !wanted.force_uninitialised => {
            return Err(Refusal::Uninitialised(seen.uninitialised.clone()));
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
