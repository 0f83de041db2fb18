//! The device: swtpm with something measured, an attestation key, and a sealed volume.

use std::fs::File;

use domain::{HashAlg, PcrIndex, PcrSelection, Psk, SealedSecret, VolumeKey};
use testkit::Swtpm;
use tpm::{AkHandle, EkAlg, Tpm};
use volume::{ContentFile, DeviceConfig, Existing, KeyslotId, PrimaryAlg, Recipe, SystemdTpm2};
use zeroize::Zeroizing;

pub const PSK: &str = "sbx_canary-canary-canary-canary-canary-canary-0";
pub const MODEL: &str = "smollm2:135m";

pub struct Device {
    pub swtpm: Swtpm,
    pub dir: tempfile::TempDir,
    pub config: DeviceConfig,
}

impl Device {
    /// Provisions a device for the proxy at `origin`, with PCRs 7 and 11 in its policy.
    pub fn new(origin: &str) -> Self {
        Self::with(origin, Some(selection(&[7, 11])))
    }

    pub fn with(origin: &str, pcrs: Option<PcrSelection>) -> Self {
        let swtpm = Swtpm::start();
        swtpm.extend(7, b"secure boot");
        swtpm.extend(11, b"kernel");
        let config = DeviceConfig {
            fleet: "demo".parse().unwrap(),
            device: "kiosk-bern-01".parse().unwrap(),
            audience: "https://llm.demo.example".parse().unwrap(),
            proxy: origin.to_owned(),
            ak_handle: AkHandle::default().get(),
            pcrs,
        };
        let device = Self {
            swtpm,
            dir: tempfile::tempdir().unwrap(),
            config,
        };
        device.provision();
        device
    }

    fn provision(&self) {
        let secret = SealedSecret::copy_from(&[0x5a; 32]).unwrap();
        let pcrs = selection(&[7]);
        let sealed = {
            let mut tpm = Tpm::open(&self.swtpm.tcti().parse().unwrap()).unwrap();
            tpm.create_ak(EkAlg::Rsa2048, AkHandle::default()).unwrap();
            tpm.seal(&secret, &pcrs, false).unwrap()
        };
        let token = SystemdTpm2 {
            keyslot: KeyslotId::SEALED,
            blob: sealed.private_then_public,
            pcrs,
            primary_alg: PrimaryAlg::Ecc,
            policy_hash: sealed.policy_hash,
        };
        let files = [
            ContentFile {
                path: "/psk",
                mode: 0o400,
                data: Zeroizing::new(PSK.as_bytes().to_vec()),
            },
            ContentFile {
                path: "/device.toml",
                mode: 0o444,
                data: Zeroizing::new(self.config.to_toml().unwrap().into_bytes()),
            },
        ];
        let recipe = Recipe {
            uuid: [7; 16],
            label: "signalbox",
            size: 32 << 20,
            files: &files,
            existing: Existing::Refuse,
        };
        let key: Vec<u8> = (0..64).collect();
        let target = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.volume())
            .unwrap();
        let mut counter = 0_u8;
        let mut entropy = |room: &mut [u8]| {
            for byte in room {
                counter = counter.wrapping_add(1);
                *byte = counter;
            }
        };
        let volume_key = VolumeKey::copy_from(&key).unwrap();
        volume::create(&target, &recipe, &volume_key, &secret, &token, &mut entropy).unwrap();
    }

    pub fn volume(&self) -> String {
        self.dir.path().join("device.luks").display().to_string()
    }

    /// Runs a command on this device.
    pub fn run(&self, arguments: &[&str]) -> std::process::Output {
        let (volume, tcti) = (self.volume(), self.swtpm.tcti());
        let place = ["--volume", &volume, "--tcti", &tcti];
        super::run(&[&place, arguments].concat())
    }

    pub fn psk(&self) -> Psk {
        Psk::parse(PSK.as_bytes()).unwrap()
    }
}

pub fn selection(indices: &[u64]) -> PcrSelection {
    let indices = indices.iter().map(|i| PcrIndex::try_from(*i).unwrap());
    PcrSelection::new(HashAlg::Sha256, indices).unwrap()
}
