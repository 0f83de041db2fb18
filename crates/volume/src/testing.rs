//! Keys, images and volumes for the tests inside the crate.

use std::{fs::File, os::unix::fs::FileExt as _};

use domain::{SealedSecret, VolumeKey};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::{DataCipher, Existing, Image, Options, RecoveryKey, SystemdTpm2, Volume, create::DATA_OFFSET};

/// Of a volume with 1 MiB of data.
pub(crate) const SIZE: u64 = DATA_OFFSET + (1 << 20);

pub(crate) fn entropy(seed: u8) -> impl FnMut(&mut [u8]) {
    let mut state = u64::from(seed) | 0x100;
    move |room: &mut [u8]| {
        for byte in room {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695);
            *byte = state.to_le_bytes()[5];
        }
    }
}

pub(crate) struct Keys {
    pub(crate) key: VolumeKey,
    pub(crate) secret: SealedSecret,
    pub(crate) recovery: RecoveryKey,
    pub(crate) token: SystemdTpm2,
}

pub(crate) fn keys(seed: u8) -> Keys {
    let mut bytes = [0; 64];
    entropy(seed)(&mut bytes);
    Keys {
        key: VolumeKey::copy_from(&bytes).unwrap(),
        secret: SealedSecret::copy_from(&[seed; 32]).unwrap(),
        recovery: RecoveryKey::new(SealedSecret::copy_from(&[seed ^ 0xff; 32]).unwrap()),
        token: token(seed),
    }
}

/// Each seed has a blob of its own.
fn token(seed: u8) -> SystemdTpm2 {
    let json = serde_json::json!({
        "type": "systemd-tpm2", "keyslots": ["0"], "tpm2-pcrs": [7], "tpm2-pcr-bank": "sha256", "tpm2-primary-alg": "ecc",
        "tpm2-blob": data_encoding::BASE64.encode(&[seed; 200]), "tpm2-policy-hash": "cd".repeat(32), "tpm2-pin": false,
    });
    SystemdTpm2::from_json(json).unwrap()
}

pub(crate) fn volume(keys: &Keys) -> Volume<'_> {
    Volume {
        uuid: [9; 16],
        label: "crashes",
        size: SIZE,
        existing: Existing::Overwrite,
        options: Options {
            cipher: DataCipher::AesXts,
            recovery: Some(&keys.recovery),
            authenticate_content: true,
            ..Options::default()
        },
        volume_key: &keys.key,
        secret: &keys.secret,
        token: &keys.token,
    }
}

pub(crate) fn image(text: &[u8]) -> Image {
    let file = File::from(memfd_create("plain", MemfdFlags::CLOEXEC).unwrap());
    file.write_all_at(text, 0).unwrap();
    Image::of_file(file).unwrap()
}
