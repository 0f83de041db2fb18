//! Looking and planning: what `plan` shows and `apply` starts from. Changes nothing.

use std::collections::BTreeMap;

use domain::{DeviceId, EkDigest, PolicyName};
use registry::{Absent, Registry};

use crate::{
    adapters,
    cli::PlanArgs,
    failure::Failure,
    observe::{Roll, observe},
    pins::Pins,
    plan::{Plan, Refusal, Wanted, decide, policy_record, policy_step},
    ports::Ports,
    report::Reporter,
    settings::Loaded,
    tokens,
};

/// A plan and what it was made with.
pub(super) struct Prepared {
    pub(super) plan: Plan,
    pub(super) ports: Ports,
    /// The manifest, which knows where the registry is.
    pub(super) loaded: Loaded,
}

/// `provisioner plan`.
pub(super) async fn show(args: &PlanArgs, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let prepared = prepare(args).await?;
    print(&prepared.plan, reporter)
}

/// Prints a plan.
pub(super) fn print(plan: &Plan, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let mut json = serde_json::to_value(plan).unwrap_or_default();
    if let Some(object) = json.as_object_mut() {
        object.insert("digest".to_owned(), plan.digest().to_string().into());
        object.insert("needs-confirmation".to_owned(), plan.is_irreversible().into());
    }
    reporter.data(&plan.to_string(), &json)
}

/// Reads the manifest, looks at everything, and decides.
pub(super) async fn prepare(args: &PlanArgs) -> Result<Prepared, Failure> {
    let loaded = Loaded::read(&args.manifest)?;
    let wanted = loaded.wanted(args)?;
    let registry = loaded.registry(&args.registry, Absent::Empty).await?;
    let mut ports = ports(args)?;
    let mut policies = BTreeMap::new();
    for one in &wanted {
        if let Some(policy) = loaded.fleet.policies.get(&one.policy) {
            policies.insert(one.policy.clone(), policy_record(policy));
        }
    }
    let plan = plan(
        &mut ports,
        &*registry,
        loaded.fleet.name.clone(),
        policies,
        &wanted,
    )
    .await?;
    Ok(Prepared { plan, ports, loaded })
}

/// The ports, with what the command line names.
fn ports(args: &PlanArgs) -> Result<Ports, Failure> {
    let mut ports = adapters::real();
    ports.otp = Box::new(tokens::store(args.otp_nvmem.as_deref()));
    ports.signatures = tokens::signatures(args.pcr_signature.as_deref())?;
    ports.pins = Pins::from_file(args.pin_file.as_deref());
    Ok(ports)
}

/// Looks at every device and decides; all refusals are told at once.
pub(crate) async fn plan(
    ports: &mut Ports,
    registry: &dyn Registry,
    fleet: domain::FleetName,
    policies: BTreeMap<PolicyName, registry::PolicyRecord>,
    wanted: &[Wanted],
) -> Result<Plan, Failure> {
    let roll = Roll::read(registry).await?;
    let mut refusals = Vec::new();
    let mut devices = Vec::new();
    let mut seen: BTreeMap<Option<EkDigest>, DeviceId> = BTreeMap::new();
    for one in wanted {
        let observed = observe(ports, registry, &roll, one).await?;
        let second = one.device.clone();
        // Devices without a TPM open with the key of the one board at hand.
        let ek = observed.tpm.as_ref().map(|tpm| tpm.ek);
        if let Some(first) = seen.insert(ek, second.clone()) {
            refusals.push(match ek {
                Some(ek) => Refusal::SameTpm { first, second, ek },
                None => Refusal::SameBoard { first, second },
            });
            continue;
        }
        match decide(one, &observed) {
            Ok(device) => devices.push(device),
            Err(refusal) => refusals.push(refusal),
        }
    }
    if !refusals.is_empty() {
        return Err(Failure::Refused(refusals));
    }
    let mut steps = Vec::new();
    for (name, record) in policies {
        let stored = registry.policy(&name).await.map_err(Failure::registry)?;
        steps.extend(policy_step(&name, record, stored));
    }
    Ok(Plan {
        fleet,
        policies: steps,
        devices,
    })
}
