//! The engine: runs the steps of a plan over the ports, in order, with a journal after each.
//!
//! Owns: the order that makes a kill harmless. The registry transaction is last; before it, nothing of the device is
//! registered, and after it the device works, because its volume was opened through the TPM first. What an earlier
//! run left is taken up by the next plan, not repaired here. Errors clean nothing up: a kill would not either.

mod bind;
mod device;
mod seal;
#[cfg(test)]
mod tests;

use registry::Registry;

use crate::{
    failure::Failure,
    plan::{Confirmed, Plan, PolicyStep},
    ports::Ports,
    report::{Event, Outcome, Reporter, Summary},
};

/// Does what a plan says. `Confirmed` shows that whoever asks has read it, if it cannot be undone.
pub(crate) async fn apply(
    plan: &Plan,
    _confirmed: &Confirmed,
    ports: &mut Ports,
    registry: &dyn Registry,
    reporter: &mut dyn Reporter,
) -> Result<Vec<Summary>, Failure> {
    reporter.event(&Event::Started {
        fleet: &plan.fleet,
        devices: plan.devices.len(),
        plan: plan.digest(),
    });
    for step in &plan.policies {
        put_policy(step, registry).await?;
        reporter.event(&Event::PolicyPut {
            policy: &step.policy,
            revision: step.record.revision,
        });
    }
    let mut summaries = Vec::new();
    for device in &plan.devices {
        for note in &device.notes {
            reporter.event(&Event::Note {
                device: &device.device,
                note,
            });
        }
        let summary = device::run(device, ports, registry, reporter).await?;
        reporter.event(&Event::DeviceDone(&summary));
        summaries.push(summary);
    }
    Ok(summaries)
}

async fn put_policy(step: &PolicyStep, registry: &dyn Registry) -> Result<(), Failure> {
    registry
        .put_policy(&step.policy, step.record.clone(), step.replaces)
        .await
        .map(|_| ())
        .map_err(|source| Failure::PutPolicy {
            policy: step.policy.clone(),
            source,
        })
}

/// What happened to a device whose plan has no steps.
const fn idle() -> Outcome {
    Outcome::Unchanged
}
