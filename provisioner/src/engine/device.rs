//! One device: its steps in order, the journal after each, the registry last.

use domain::SealedSecret;
use registry::{DeviceRecord, DeviceState, PskSlots, Registry, TpmIdentity, Version1};

use super::{
    bind,
    bind::Bound,
    idle, seal,
    seal::{Checked, Keys},
};
use crate::{
    failure::Failure,
    journal::{self, Entry},
    observe::journal_path,
    plan::{DevicePlan, Irreversible, Refusal, Step, TpmTarget},
    ports::{Journal, Ports},
    report::{Event, Outcome, Reporter, Summary},
};

/// What the steps so far have proven.
#[derive(Default)]
struct State {
    bound: Option<Bound>,
    checked: Option<Checked>,
    /// What opens the volume that was just written, where the key store does not give it back now.
    kept: Option<SealedSecret>,
    summary: Option<Summary>,
}

pub(super) async fn run(
    plan: &DevicePlan,
    ports: &mut Ports,
    registry: &dyn Registry,
    reporter: &mut dyn Reporter,
) -> Result<Summary, Failure> {
    if plan.steps.is_empty() && plan.irreversible.is_empty() {
        return summary_from_registry(plan, registry, idle()).await;
    }
    if plan.steps == [Step::UpdateRecord] {
        announce(plan, 1, &Step::UpdateRecord, reporter);
        update(plan, registry).await?;
        return summary_from_registry(plan, registry, Outcome::Updated).await;
    }
    let path = journal_path(&plan.target.volume);
    // The lock comes with it; what an earlier run wrote is read under the lock.
    let mut journal = ports.journals.open(&path)?;
    let entries = ports.journals.read(&path)?;
    if entries.len() != plan.target.journal_entries {
        // What was planned for, a volume to replace for one, may be a registered device's by now.
        return Err(Failure::Overtaken {
            device: plan.device.clone(),
        });
    }
    let leftover = journal::may_have_leftover(&entries);
    // Before anything is begun: a person who is asked may go away.
    if plan.target.tpm().is_some_and(|tpm| tpm.seal.pin) && writes(plan) {
        ports.pins.wanted(&plan.device)?;
    }
    let mut keys = match plan.target.tpm() {
        None => Keys::Otp,
        Some(target) => {
            let mut tpm = ports
                .tpms
                .open(&target.tcti)
                .map_err(Failure::tpm(&plan.device))?;
            bind::planned_ek(plan, target, &mut *tpm)?;
            Keys::Tpm(target, tpm)
        }
    };
    journal.append(&Entry::Began {
        at: ports.clock.now(),
        fleet: plan.target.config.fleet.clone(),
        device: plan.device.clone(),
        ek: plan.target.tpm().map(|tpm| tpm.ek),
    })?;
    if let Keys::Tpm(target, tpm) = &mut keys
        && plan.irreversible.contains(&Irreversible::EvictKey)
    {
        tpm.evict_ak(target.ak_handle)
            .map_err(Failure::tpm(&plan.device))?;
    }
    let mut state = State::default();
    for (nth, step) in plan.steps.iter().enumerate() {
        announce(plan, nth.saturating_add(1), step, reporter);
        match step {
            Step::Enrol => enrol(plan, &mut state, ports, registry, &mut *journal).await?,
            Step::UpdateRecord => update(plan, registry).await?,
            step => {
                let note = local(plan, step, leftover, &mut state, &mut keys, ports, &mut *journal)?;
                if let Some(note) = note {
                    let device = &plan.device;
                    reporter.event(&Event::Note { device, note: &note });
                }
            }
        }
    }
    match state.summary {
        Some(summary) => Ok(summary),
        None => summary_from_registry(plan, registry, Outcome::Updated).await,
    }
}

fn writes(plan: &DevicePlan) -> bool {
    plan.steps
        .iter()
        .any(|step| matches!(step, Step::WriteVolume { .. }))
}

/// The steps on the device itself; gives what a person should know of them.
fn local(
    plan: &DevicePlan,
    step: &Step,
    leftover: bool,
    state: &mut State,
    keys: &mut Keys<'_>,
    ports: &mut Ports,
    journal: &mut dyn Journal,
) -> Result<Option<String>, Failure> {
    let mut note = None;
    match (step, &mut *keys) {
        (Step::CreateAk, Keys::Tpm(target, tpm)) => {
            tpm.create_ak(target.ek_alg, target.ak_handle)
                .map_err(Failure::tpm(&plan.device))?;
        }
        (Step::Bind, Keys::Tpm(target, tpm)) => {
            state.bound = Some(bind::bind(plan, target, &mut **tpm, &*ports.entropy)?);
            journal.append(&Entry::Bound {
                at: ports.clock.now(),
            })?;
        }
        (Step::WriteVolume { replace_own }, _) => {
            let written = seal::write(plan, *replace_own, leftover, keys, ports, journal)?;
            (state.kept, note) = (written.kept, written.note);
        }
        (Step::CheckVolume, _) => state.checked = Some(seal::check(plan, keys, state.kept.take(), ports)?),
        (Step::CreateAk | Step::Bind, Keys::Otp) | (Step::Enrol | Step::UpdateRecord, _) => {}
    }
    Ok(note)
}

/// The last step: everything that was proven, in one transaction.
async fn enrol(
    plan: &DevicePlan,
    state: &mut State,
    ports: &Ports,
    registry: &dyn Registry,
    journal: &mut dyn Journal,
) -> Result<(), Failure> {
    let (bound, checked) = (state.bound.take(), state.checked.take());
    let (Some(checked), true) = (checked, bound.is_some() == plan.target.tpm().is_some()) else {
        // A plan that registers without having proven anything is not carried out.
        return Err(Failure::NotBound {
            device: plan.device.clone(),
            what: "its keys were not proven to be in one TPM, or its volume was not opened",
        });
    };
    let now = ports.clock.now();
    let record = DeviceRecord {
        version: Version1,
        device: plan.device.clone(),
        state: DeviceState::Active,
        policy: plan.target.policy.clone(),
        profile: plan.target.profile.clone(),
        psk: PskSlots::only(checked.psk),
        client_certificate: plan.target.client_certificate.key,
        tpm: bound
            .zip(plan.target.tpm())
            .map(|(bound, target)| identity(bound, target)),
        measured_boot: plan.target.measured_boot,
        volume_key: Some(checked.volume_key),
        wireguard: None,
        generation: 1,
        enrolled_at: now,
    };
    let summary = Summary::of(&record, Outcome::Enrolled, &plan.target.volume);
    registry.enrol(record).await.map_err(|source| Failure::Enrol {
        device: plan.device.clone(),
        source,
    })?;
    journal.append(&Entry::Enrolled {
        at: now,
        psk: checked.psk,
    })?;
    state.summary = Some(summary);
    Ok(())
}

fn identity(bound: Bound, target: &TpmTarget) -> TpmIdentity {
    TpmIdentity {
        ek: bound.ek.digest(),
        ek_certificate: match &target.ek_certified {
            Some(certified) => Some(certified.certificate),
            None => bound.ek_certificate,
        },
        ek_certified: target
            .ek_certified
            .as_ref()
            .map(|certified| certified.tpm.clone()),
        ek_trust: target.ek_trust,
        ak_public: bound.ak_public,
        ak_qualified_name: bound.ak_qualified_name,
        manufacturer: bound.identity.manufacturer,
        firmware_version: bound.identity.firmware_version,
    }
}

async fn update(plan: &DevicePlan, registry: &dyn Registry) -> Result<(), Failure> {
    let device = &plan.device;
    let stored = registry.device(device).await.map_err(Failure::registry)?;
    let Some(stored) = stored else {
        return Err(Refusal::NotRegistered(device.clone()).into());
    };
    let mut record = stored.value;
    record.policy = plan.target.policy.clone();
    record.profile = plan.target.profile.clone();
    record.measured_boot = plan.target.measured_boot;
    record.client_certificate = plan.target.client_certificate.key;
    record.generation = record.generation.saturating_add(1);
    registry
        .update_device(record, stored.revision)
        .await
        .map(|_| ())
        .map_err(|source| Failure::Update {
            device: device.clone(),
            source,
        })
}

async fn summary_from_registry(
    plan: &DevicePlan,
    registry: &dyn Registry,
    outcome: Outcome,
) -> Result<Summary, Failure> {
    let stored = registry.device(&plan.device).await.map_err(Failure::registry)?;
    match stored {
        Some(stored) => Ok(Summary::of(&stored.value, outcome, &plan.target.volume)),
        None => Err(Refusal::NotRegistered(plan.device.clone()).into()),
    }
}

fn announce(plan: &DevicePlan, number: usize, step: &Step, reporter: &mut dyn Reporter) {
    reporter.event(&Event::Step {
        device: &plan.device,
        number,
        of: plan.steps.len(),
        step,
        words: step.words(plan),
    });
}
