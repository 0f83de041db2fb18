//! A device without a TPM: its volume opens with the OTP device key of the board, here the firmware's fake behind the real mailbox code.

use std::collections::BTreeMap;

use domain::{DeviceId, EkDigest};
use otp::KeyStore;
use registry::Registry;
use testkit::{FakeFirmware, vcio::Fault};

use super::{Silent, block_on};
use crate::{
    adapters, commands,
    engine::apply,
    failure::Failure,
    observe::{Kept, Opener, release},
    plan::{Choice, Plan, Refusal, Step, policy_record, wanted},
    ports::{Found, Ports},
    report::{Event, Outcome, Reporter, Summary},
};

const MANIFEST: &str = r#"
version = 1
[fleet]
name = "demo"
audience = "https://llm.demo.example"
registry = "sqlite:registry.db"
proxy = "https://llm.demo.example"
[policies.signs]
models = ["*"]
[profiles.pi]
key-store = "otp"
[profiles.pi.volume]
path = "{device}.luks"
size = "20MiB"
cipher = "adiantum"
content = "content"
[[devices]]
id = "sign-1"
profile = "pi"
policy = "signs"
[[devices]]
id = "sign-2"
profile = "pi"
policy = "signs"
"#;

struct Bench {
    board: FakeFirmware,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("content")).unwrap();
        std::fs::write(dir.path().join("content/page.html"), "a page").unwrap();
        Self {
            board: FakeFirmware::with_key(&[0x31; 32]),
            dir,
        }
    }

    fn ports(&self) -> Ports {
        let board = self.board.clone();
        Ports {
            otp: Box::new(move || {
                let board = board.clone();
                KeyStore::new(Box::new(move |message: &mut [u32]| board.property(message)))
            }),
            ..adapters::real()
        }
    }

    async fn registry(&self) -> std::sync::Arc<dyn Registry> {
        let url = format!("sqlite:{}", self.dir.path().join("registry.db").display());
        let options = registry::Options::default();
        registry::open(&url.parse().unwrap(), &options, &"demo".parse().unwrap())
            .await
            .unwrap()
    }

    async fn plan(&self, devices: &[&str]) -> Result<Plan, Failure> {
        let fleet = manifest::parse("demo.toml", MANIFEST).unwrap();
        let choice = Choice {
            folder: self.dir.path().to_owned(),
            read_from: self.dir.path().to_owned(),
            roots: BTreeMap::new(),
            policy_keys: BTreeMap::new(),
            certificates: BTreeMap::new(),
            tcti: None,
            force: false,
            force_uninitialised: false,
        };
        let chosen = fleet
            .devices
            .iter()
            .filter(|device| devices.contains(&device.id.as_str()));
        let wanted: Vec<_> = chosen
            .filter_map(|device| wanted(&fleet, device, &choice).unwrap())
            .collect();
        let policies = fleet
            .policies
            .iter()
            .map(|(name, policy)| (name.clone(), policy_record(policy)));
        let registry = self.registry().await;
        commands::plan(
            &mut self.ports(),
            &*registry,
            fleet.name.clone(),
            policies.collect(),
            &wanted,
        )
        .await
    }

    async fn run(&self, plan: &Plan, reporter: &mut dyn Reporter) -> Result<Vec<Summary>, Failure> {
        let registry = self.registry().await;
        let confirmed = plan.confirm(None)?;
        apply(plan, &confirmed, &mut self.ports(), &*registry, reporter).await
    }

    /// What is in the volume, opened by a board.
    fn opens(&self, id: &DeviceId) -> Result<crate::ports::Content, Kept> {
        let mut ports = self.ports();
        let path = self.dir.path().join(format!("{id}.luks"));
        let Found::Volume(lying) = ports.volumes.find(&path).unwrap() else {
            panic!("no volume");
        };
        let secret = release(&mut ports, &mut Opener::Otp, id, &lying)?;
        let content = ports.volumes.read(&path, &secret);
        content.map_err(|fault| Kept::from(Failure::from(fault)))
    }
}

/// Keeps what is noted.
#[derive(Default)]
struct Notes(Vec<String>);

impl Reporter for Notes {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Note { note, .. } = event {
            self.0.push((*note).to_owned());
        }
    }
    fn data(&mut self, _text: &str, _json: &serde_json::Value) -> Result<(), Failure> {
        Ok(())
    }
    fn failed(&mut self, _failure: &Failure) {}
}

#[test]
fn a_board_is_enrolled_and_its_firmware_alone_opens_the_volume() {
    let bench = Bench::new();
    let id: DeviceId = "sign-1".parse().unwrap();
    let plan = block_on(bench.plan(&["sign-1"])).unwrap();
    let write = Step::WriteVolume { replace_own: false };
    assert_eq!(plan.devices[0].steps, [write, Step::CheckVolume, Step::Enrol]);
    let text = plan.to_string();
    for said in [
        "this board's OTP device key; no TPM",
        "which software runs",
        "lock_device_private_key=1",
        "no recovery key",
        "whoever has the pre-shared key is admitted",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    let mut notes = Notes::default();
    let done = block_on(bench.run(&plan, &mut notes)).unwrap();
    assert_eq!(
        (done[0].outcome, done[0].ek, &done[0].ak),
        (Outcome::Enrolled, None, &None)
    );
    assert!(
        notes
            .0
            .iter()
            .any(|note| note.contains("ties nothing to this board")),
        "{:?}",
        notes.0
    );

    let record = block_on(async { bench.registry().await.device(&id).await })
        .unwrap()
        .unwrap()
        .value;
    assert!(record.tpm.is_none() && !record.measured_boot);
    let content = bench.opens(&id).unwrap();
    assert_eq!(content.psk, record.psk.current);
    assert_eq!(Some(content.volume_key), record.volume_key);
    let config = content.config.unwrap();
    assert_eq!((config.ak_handle, config.pcrs), (None, None));

    assert!(block_on(bench.plan(&["sign-1"])).unwrap().is_empty());
    let other = Bench {
        board: FakeFirmware::with_key(&[0x32; 32]),
        dir: bench.dir,
    };
    assert!(matches!(other.opens(&id), Err(Kept::Closed(_))));
    let refused = block_on(other.plan(&["sign-1"])).unwrap_err();
    assert!(
        matches!(&refused, Failure::Refused(all) if matches!(all[..], [Refusal::VolumeForeign { .. }])),
        "{refused}"
    );
}

#[test]
fn two_devices_are_two_boards() {
    let bench = Bench::new();
    let refused = block_on(bench.plan(&["sign-1", "sign-2"])).unwrap_err();
    assert!(
        matches!(&refused, Failure::Refused(all) if matches!(all[..], [Refusal::SameBoard { .. }])),
        "{refused}"
    );
    assert!(refused.hint().unwrap().contains("--device"));
}

#[test]
fn a_board_without_a_key_makes_nothing() {
    let bench = Bench {
        board: FakeFirmware::blank(),
        ..Bench::new()
    };
    let plan = block_on(bench.plan(&["sign-1"])).unwrap();
    let failure = block_on(bench.run(&plan, &mut Silent)).unwrap_err();
    assert!(matches!(failure, Failure::Otp(_)), "{failure}");
    assert!(failure.hint().is_some());
    assert!(!bench.dir.path().join("sign-1.luks").exists());
    let bench = Bench::new();
    bench.board.fail(Fault::NoDevice);
    let plan = block_on(bench.plan(&["sign-1"])).unwrap();
    let failure = block_on(bench.run(&plan, &mut Silent)).unwrap_err();
    assert!(matches!(failure, Failure::Otp(_)), "{failure}");
}

/// An id that was registered with a TPM is not taken over by a board without one, nor the other way round.
#[test]
fn a_device_does_not_change_its_kind() {
    let bench = Bench::new();
    let plan = block_on(bench.plan(&["sign-1"])).unwrap();
    block_on(bench.run(&plan, &mut Silent)).unwrap();
    block_on(async {
        let registry = bench.registry().await;
        let id: DeviceId = "sign-2".parse().unwrap();
        let mut record = registry
            .device(&"sign-1".parse().unwrap())
            .await
            .unwrap()
            .unwrap()
            .value;
        record.device = id;
        record.psk = registry::PskSlots::only(domain::PskDigest::of(b"another"));
        record.tpm = Some(registry::TpmIdentity {
            ek: EkDigest::of(b"ek"),
            ek_certificate: None,
            ek_certified: None,
            ek_trust: registry::EkTrust::FirstUse,
            ak_public: domain::TpmPublic::try_from(vec![1; 80]).unwrap(),
            ak_qualified_name: domain::TpmName::try_from(vec![2; 34]).unwrap(),
            manufacturer: "IBM".to_owned(),
            firmware_version: 1,
        });
        registry.enrol(record).await.unwrap();
    });
    let refused = block_on(bench.plan(&["sign-2"])).unwrap_err();
    assert!(
        matches!(&refused, Failure::Refused(all) if matches!(all[..], [Refusal::TpmRegistered { .. }])),
        "{refused}"
    );
}
