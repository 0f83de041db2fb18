//! The device: swtpm with something measured, an attestation key, and a sealed volume.

use std::fs::File;

use domain::{Generation, HashAlg, PcrIndex, PcrSelection, Psk, SealedSecret, VolumeKey, VolumeKeyDigest};
use testkit::Swtpm;
use tpm::{AkHandle, EkAlg, Tpm};
use volume::{
    ContentFile, DeviceConfig, Existing, KeyslotId, Options, PrimaryAlg, Recipe, SealToken, SystemdTpm2,
};
use zeroize::Zeroizing;

pub const PSK: &str = "sbx_canary-canary-canary-canary-canary-canary-0";
pub const MODEL: &str = "smollm2:135m";

pub struct Device {
    pub swtpm: Swtpm,
    pub dir: tempfile::TempDir,
    pub config: DeviceConfig,
}

/// What differs between volumes; all have the same UUID.
pub struct Making {
    pub seed: u8,
    pub psk: &'static str,
    pub pcrs: &'static [u64],
    pub generation: Option<Generation>,
}

impl Default for Making {
    fn default() -> Self {
        Self {
            seed: 0x5a,
            psk: PSK,
            pcrs: &[7],
            generation: None,
        }
    }
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
            ak_handle: Some(AkHandle::default().get()),
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
        self.tpm().create_ak(EkAlg::Rsa2048, AkHandle::default()).unwrap();
        self.write(&self.volume(), &Making::default());
    }

    pub fn tpm(&self) -> Tpm {
        Tpm::open(&self.swtpm.tcti().parse().unwrap()).unwrap()
    }

    /// Seals to this device's TPM as it is now.
    pub fn seal(&self, secret: &SealedSecret, pcrs: &[u64]) -> SystemdTpm2 {
        let pcrs = selection(pcrs);
        let sealed = self.tpm().seal(secret, &pcrs, false).unwrap();
        SystemdTpm2 {
            keyslot: KeyslotId::SEALED,
            blob: sealed.private_then_public,
            pcrs,
            primary_alg: PrimaryAlg::Ecc,
            policy_hash: sealed.policy_hash,
        }
    }

    /// Writes a volume that is sealed to this device's TPM as it is now; gives the digest of its key.
    pub fn write(&self, path: &str, making: &Making) -> VolumeKeyDigest {
        let secret = SealedSecret::copy_from(&[making.seed; 32]).unwrap();
        let token = self.seal(&secret, making.pcrs);
        self.write_under(path, making, &secret, &token)
    }

    /// As [`Device::write`], for a secret that is sealed already.
    pub fn write_under(
        &self,
        path: &str,
        making: &Making,
        secret: &SealedSecret,
        token: &dyn SealToken,
    ) -> VolumeKeyDigest {
        let files = [
            ContentFile {
                path: "/psk",
                mode: 0o400,
                data: Zeroizing::new(making.psk.as_bytes().to_vec()),
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
        let key: Vec<u8> = (making.seed..).take(64).collect();
        let target = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .unwrap();
        let mut counter = 0_u8;
        let mut entropy = |room: &mut [u8]| {
            for byte in room {
                counter = counter.wrapping_add(1);
                *byte = counter;
            }
        };
        let volume_key = VolumeKey::copy_from(&key).unwrap();
        let options = Options {
            generation: making.generation,
            ..Options::default()
        };
        volume::create_with(
            &target,
            &recipe,
            options,
            &volume_key,
            secret,
            token,
            &mut entropy,
        )
        .unwrap()
        .volume_key_digest
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
