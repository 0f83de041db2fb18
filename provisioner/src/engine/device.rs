//! One device: its steps in order, the journal after each, the registry last.

use registry::{DeviceRecord, DeviceState, PskSlots, Registry, TpmIdentity, Version1};

use super::{bind, bind::Bound, idle, seal, seal::Checked};
use crate::{
    failure::Failure,
    journal::{self, Entry},
    observe::journal_path,
    plan::{DevicePlan, Irreversible, Refusal, Step},
    ports::{Journal, Ports, Tpm},
    report::{Event, Outcome, Reporter, Summary},
};

/// What the steps so far have proven.
#[derive(Default)]
struct State {
    bound: Option<Bound>,
    checked: Option<Checked>,
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
    let mut tpm = ports
        .tpms
        .open(&plan.target.tcti)
        .map_err(Failure::tpm(&plan.device))?;
    bind::planned_ek(plan, &mut *tpm)?;
    journal.append(&Entry::Began {
        at: ports.clock.now(),
        fleet: plan.target.config.fleet.clone(),
        device: plan.device.clone(),
        ek: plan.target.ek,
    })?;
    if plan.irreversible.contains(&Irreversible::EvictKey) {
        tpm.evict_ak(plan.target.ak_handle)
            .map_err(Failure::tpm(&plan.device))?;
    }
    let mut state = State::default();
    for (nth, step) in plan.steps.iter().enumerate() {
        announce(plan, nth.saturating_add(1), step, reporter);
        match step {
            Step::Enrol => enrol(plan, &mut state, ports, registry, &mut *journal).await?,
            Step::UpdateRecord => update(plan, registry).await?,
            step => local(plan, step, leftover, &mut state, &mut *tpm, ports, &mut *journal)?,
        }
    }
    match state.summary {
        Some(summary) => Ok(summary),
        None => summary_from_registry(plan, registry, Outcome::Updated).await,
    }
}

/// The steps on the device itself.
fn local(
    plan: &DevicePlan,
    step: &Step,
    leftover: bool,
    state: &mut State,
    tpm: &mut dyn Tpm,
    ports: &mut Ports,
    journal: &mut dyn Journal,
) -> Result<(), Failure> {
    let target = &plan.target;
    match step {
        Step::CreateAk => {
            tpm.create_ak(target.ek_alg, target.ak_handle)
                .map_err(Failure::tpm(&plan.device))?;
        }
        Step::Bind => {
            state.bound = Some(bind::bind(plan, tpm, &*ports.entropy)?);
            journal.append(&Entry::Bound {
                at: ports.clock.now(),
            })?;
        }
        Step::WriteVolume { replace_own } => seal::write(plan, *replace_own, leftover, tpm, ports, journal)?,
        Step::CheckVolume => state.checked = Some(seal::check(plan, tpm, ports)?),
        Step::Enrol | Step::UpdateRecord => {}
    }
    Ok(())
}

/// The last step: everything that was proven, in one transaction.
async fn enrol(
    plan: &DevicePlan,
    state: &mut State,
    ports: &Ports,
    registry: &dyn Registry,
    journal: &mut dyn Journal,
) -> Result<(), Failure> {
    let (Some(bound), Some(checked)) = (state.bound.take(), state.checked.take()) else {
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
        tpm: Some(TpmIdentity {
            ek: bound.ek.digest(),
            ek_certificate: match &plan.target.ek_certified {
                Some(certified) => Some(certified.certificate),
                None => bound.ek_certificate,
            },
            ek_certified: plan
                .target
                .ek_certified
                .as_ref()
                .map(|certified| certified.tpm.clone()),
            ek_trust: plan.target.ek_trust,
            ak_public: bound.ak_public,
            ak_qualified_name: bound.ak_qualified_name,
            manufacturer: bound.identity.manufacturer,
            firmware_version: bound.identity.firmware_version,
        }),
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
