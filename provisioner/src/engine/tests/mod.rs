//! A kill after every step, on a real software TPM, real volumes and a real registry: each time either nothing is
//! registered or the device works, and running again finishes.

mod mortal;
mod otp;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use domain::EkDigest;
use registry::Registry;
use testkit::Swtpm;
use tpm::AkHandle;

use self::mortal::{Fate, Mortal, MortalRegistry, partial};
use super::apply;
use crate::{
    adapters, commands,
    failure::Failure,
    observe::{Opener, release},
    plan::{Choice, Plan, Store, Wanted, policy_record, wanted},
    ports::{Found, Ports, VolumeFault},
    report::{Event, Outcome, Reporter, Summary},
};

const MANIFEST: &str = r#"
version = 1
[fleet]
name = "demo"
audience = "https://llm.demo.example"
registry = "sqlite:registry.db"
proxy = "https://llm.demo.example"
[policies.kiosk]
models = ["*"]
[profiles.vm]
key-store = "tpm"
ek = "ecc-p256"
ek-trust = "first-use"
measured-boot = false
[profiles.vm.volume]
path = "{device}.luks"
size = "20MiB"
seal-pcrs = [7]
[[devices]]
id = "kiosk"
profile = "vm"
policy = "kiosk"
"#;

struct Silent;

impl Reporter for Silent {
    fn event(&mut self, _event: &Event<'_>) {}
    fn data(&mut self, _text: &str, _json: &serde_json::Value) -> Result<(), Failure> {
        Ok(())
    }
    fn failed(&mut self, _failure: &Failure) {}
}

/// One device, its TPM, its folder with volume and registry.
struct World {
    tpm: Swtpm,
    dir: tempfile::TempDir,
    manifest: String,
}

impl World {
    fn new() -> Self {
        let tpm = Swtpm::start();
        tpm.extend(7, b"secure boot state");
        let dir = tempfile::tempdir().unwrap();
        let manifest = MANIFEST.to_owned();
        Self { tpm, dir, manifest }
    }

    fn ports(&self, fate: &Fate) -> Ports {
        let real = adapters::real();
        Ports {
            tpms: Box::new(Mortal(fate.clone(), real.tpms)),
            volumes: Box::new(Mortal(fate.clone(), real.volumes)),
            journals: Box::new(Mortal(fate.clone(), real.journals)),
            clock: real.clock,
            entropy: real.entropy,
            ..real
        }
    }

    async fn registry(&self) -> Arc<dyn Registry> {
        let url = format!("sqlite:{}", self.dir.path().join("registry.db").display());
        let options = registry::Options::default();
        registry::open(&url.parse().unwrap(), &options, &"demo".parse().unwrap())
            .await
            .unwrap()
    }

    fn wanted(&self) -> Vec<Wanted> {
        let fleet = manifest::parse("demo.toml", &self.manifest).unwrap();
        let choice = Choice {
            folder: self.dir.path().to_owned(),
            roots: BTreeMap::new(),
            policy_keys: BTreeMap::new(),
            certificates: BTreeMap::new(),
            read_from: self.dir.path().to_owned(),
            tcti: Some(self.tpm.tcti().parse().unwrap()),
            force: false,
            force_uninitialised: false,
        };
        fleet
            .devices
            .iter()
            .filter_map(|device| wanted(&fleet, device, &choice).unwrap())
            .collect()
    }

    fn volume(&self) -> PathBuf {
        self.dir.path().join("kiosk.luks")
    }

    async fn plan(&self) -> Result<Plan, Failure> {
        let fleet = manifest::parse("demo.toml", &self.manifest).unwrap();
        let policies = fleet
            .policies
            .iter()
            .map(|(name, policy)| (name.clone(), policy_record(policy)));
        let policies: BTreeMap<_, _> = policies.collect();
        let mut ports = self.ports(&Fate::immortal());
        let registry = self.registry().await;
        commands::plan(
            &mut ports,
            &*registry,
            fleet.name.clone(),
            policies,
            &self.wanted(),
        )
        .await
    }

    async fn run(&self, plan: &Plan, fate: &Fate) -> Result<Vec<Summary>, Failure> {
        let registry = MortalRegistry(self.registry().await, fate.clone());
        let confirmed = plan.confirm(None)?;
        apply(plan, &confirmed, &mut self.ports(fate), &registry, &mut Silent).await
    }

    /// What the registry has, if anything; and if so, that the device can open its volume and has the key in it.
    async fn nothing_or_works(&self) -> bool {
        let id = "kiosk".parse().unwrap();
        let Some(stored) = self.registry().await.device(&id).await.unwrap() else {
            return false;
        };
        let mut ports = self.ports(&Fate::immortal());
        let Found::Volume(lying) = ports.volumes.find(&self.volume()).unwrap() else {
            panic!("registered without a volume");
        };
        let mut tpm = ports.tpms.open(&self.tpm.tcti().parse().unwrap()).unwrap();
        let secret = release(&mut ports, &mut Opener::Tpm(&mut *tpm), &id, &lying).unwrap();
        let content = ports.volumes.read(&self.volume(), &secret).unwrap();
        assert_eq!(content.psk, stored.value.psk.current);
        assert_eq!(Some(content.volume_key), stored.value.volume_key);
        let ak = tpm.read_ak(AkHandle::default()).unwrap().unwrap();
        assert_eq!(ak.public, stored.value.tpm.unwrap().ak_public);
        true
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Dies after `changes`; `true` when it got that far.
fn killed(world: &World, changes: usize, torn: bool) -> bool {
    let plan = block_on(world.plan()).unwrap();
    let fate = Fate::die_after(changes, torn);
    catch_unwind(AssertUnwindSafe(|| block_on(world.run(&plan, &fate)).unwrap())).is_err()
}

#[test]
fn a_kill_after_any_change_leaves_nothing_registered_or_a_device_that_works_and_the_next_run_finishes() {
    let mut registered_after = Vec::new();
    for torn in [false, true] {
        for changes in 1.. {
            let world = World::new();
            if !killed(&world, changes, torn) {
                assert!(changes > 10, "a whole run changes the world {changes} times");
                break;
            }
            if block_on(world.nothing_or_works()) {
                registered_after.push(changes);
            }
            let plan = block_on(world.plan()).unwrap_or_else(|e| panic!("after {changes}: {e}"));
            assert!(!plan.is_irreversible());
            let done = block_on(world.run(&plan, &Fate::immortal()))
                .unwrap_or_else(|e| panic!("after {changes}: {e}"));
            assert_eq!(done.len(), 1);
            assert!(block_on(world.nothing_or_works()), "after {changes}");
            assert!(!partial(&world.volume()).exists(), "after {changes}");
            assert!(block_on(world.plan()).unwrap().is_empty(), "after {changes}");
        }
    }
    // The transaction is the last change but the journal's note of it, whole or torn.
    assert_eq!(registered_after.len(), 4, "{registered_after:?}");
}

#[test]
fn two_kills_in_a_row_are_no_worse() {
    let world = World::new();
    assert!(killed(&world, 7, true));
    assert!(killed(&world, 4, false));
    assert!(!block_on(world.nothing_or_works()));
    let plan = block_on(world.plan()).unwrap();
    block_on(world.run(&plan, &Fate::immortal())).unwrap();
    assert!(block_on(world.nothing_or_works()));
}

#[test]
fn a_tpm_that_cannot_open_the_credential_is_not_registered() {
    let world = World::new();
    let plan = block_on(world.plan()).unwrap();
    let fate = Fate::immortal();
    fate.lies.store(true, Ordering::SeqCst);
    let failure = block_on(world.run(&plan, &fate)).unwrap_err();
    assert!(matches!(failure, Failure::NotBound { .. }), "{failure}");
    assert_eq!(failure.exit(), 1);
    assert!(!block_on(world.nothing_or_works()));
    assert!(!world.volume().exists());
}

#[test]
fn another_tpm_than_the_planned_one_is_not_touched() {
    let world = World::new();
    let mut plan = block_on(world.plan()).unwrap();
    let Store::Tpm(target) = &mut plan.devices[0].target.store else {
        panic!("no TPM");
    };
    target.ek = EkDigest::of(b"another");
    let failure = block_on(world.run(&plan, &Fate::immortal())).unwrap_err();
    assert!(matches!(failure, Failure::NotBound { .. }), "{failure}");
    let mut ports = world.ports(&Fate::immortal());
    let mut tpm = ports.tpms.open(&world.tpm.tcti().parse().unwrap()).unwrap();
    assert_eq!(tpm.read_ak(AkHandle::default()).unwrap(), None);
}

#[test]
fn a_plan_that_proves_nothing_registers_nobody() {
    let world = World::new();
    let mut plan = block_on(world.plan()).unwrap();
    plan.devices[0]
        .steps
        .retain(|step| *step == crate::plan::Step::Enrol);
    let failure = block_on(world.run(&plan, &Fate::immortal())).unwrap_err();
    assert!(matches!(failure, Failure::NotBound { .. }), "{failure}");
    assert!(!block_on(world.nothing_or_works()));
}

#[test]
fn a_volume_that_appears_after_planning_is_kept() {
    let world = World::new();
    let plan = block_on(world.plan()).unwrap();
    std::fs::write(world.volume(), "theirs").unwrap();
    let failure = block_on(world.run(&plan, &Fate::immortal())).unwrap_err();
    assert!(
        matches!(failure, Failure::Volume(VolumeFault::Exists { .. })),
        "{failure}"
    );
    assert_eq!(std::fs::read(world.volume()).unwrap(), b"theirs");
    assert!(!block_on(world.nothing_or_works()));
}

#[test]
fn changed_settings_replace_an_interrupted_volume_and_a_changed_policy_moves_the_record() {
    let mut world = World::new();
    assert!(killed(&world, 10, false), "just before the transaction");
    world.manifest = MANIFEST.replace(
        "proxy = \"https://llm.demo.example\"",
        "proxy = \"https://other.example\"",
    );
    let plan = block_on(world.plan()).unwrap();
    let done = block_on(world.run(&plan, &Fate::immortal())).unwrap();
    assert_eq!(done[0].outcome, Outcome::Enrolled);
    assert!(block_on(world.nothing_or_works()));

    world.manifest = world
        .manifest
        .replace("measured-boot = false", "measured-boot = true")
        .replace("\"*\"", "\"m\"");
    let plan = block_on(world.plan()).unwrap();
    assert_eq!(plan.policies.len(), 1);
    assert_eq!(plan.policies[0].record.revision, 2);
    let done = block_on(world.run(&plan, &Fate::immortal())).unwrap();
    assert_eq!((done[0].outcome, done[0].generation), (Outcome::Updated, 2));
    assert!(block_on(world.plan()).unwrap().is_empty());
}

/// Two runs planned at the same time; the first one finished. The second would replace what is registered by now.
#[test]
fn a_plan_that_was_overtaken_is_not_carried_out() {
    let mut world = World::new();
    assert!(killed(&world, 10, false), "just before the transaction");
    world.manifest = MANIFEST.replace("https://llm.demo.example", "https://other.example");
    let late = block_on(world.plan()).unwrap();
    let replace = crate::plan::Step::WriteVolume { replace_own: true };
    assert!(late.devices[0].steps.contains(&replace));
    let plan = block_on(world.plan()).unwrap();
    block_on(world.run(&plan, &Fate::immortal())).unwrap();
    let failure = block_on(world.run(&late, &Fate::immortal())).unwrap_err();
    // The policy is put first, and is registered by now; without one in the plan it is the journal that tells.
    assert!(
        matches!(failure, Failure::PutPolicy { .. } | Failure::Overtaken { .. }),
        "{failure}"
    );
    let late = Plan {
        policies: vec![],
        ..late
    };
    let failure = block_on(world.run(&late, &Fate::immortal())).unwrap_err();
    assert!(matches!(failure, Failure::Overtaken { .. }), "{failure}");
    assert!(block_on(world.nothing_or_works()));
}
