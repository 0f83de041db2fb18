//! A device without a TPM: its volume opens with the OTP device key of a Raspberry Pi. There is none here, so that the raw key's file
//! stands in for the firmware, which it does with a warning.

use std::{
    fs,
    path::PathBuf,
    process::Output,
    time::{SystemTime, UNIX_EPOCH},
};

use domain::VolumeKey;
use otp::{KeyId, KeyStore, Recipe};
use testkit::FakeFirmware;
use volume::{
    ContentFile, DeviceConfig, Existing, FilesystemIds, Image, KeyslotId, Options, OtpToken, Volume,
};
use zeroize::Zeroizing;

use crate::support::{Answer, Fake, MODEL, PSK, run, stderr, stdout};

const UUID: [u8; 16] = [0x77; 16];

struct Pi {
    dir: tempfile::TempDir,
    board: FakeFirmware,
}

impl Pi {
    fn new(origin: &str) -> Self {
        let pi = Self {
            dir: tempfile::tempdir().unwrap(),
            board: FakeFirmware::with_key(&[0x2a; 32]),
        };
        let token = OtpToken {
            keyslot: KeyslotId::SEALED,
            key_id: 1,
            device: "kiosk-bern-01".parse().unwrap(),
            salt: [5; 32],
        };
        let recipe = Recipe {
            device: &token.device,
            volume: UUID,
            salt: &token.salt,
        };
        let board = pi.board.clone();
        let mut store = KeyStore::new(Box::new(move |message: &mut [u32]| board.property(message)));
        let secret = store.derive(KeyId::DEVICE, &recipe).unwrap().secret;
        let config = DeviceConfig {
            fleet: "demo".parse().unwrap(),
            device: token.device.clone(),
            audience: "https://llm.demo.example".parse().unwrap(),
            proxy: origin.to_owned(),
            ak_handle: None,
            pcrs: None,
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
                data: Zeroizing::new(config.to_toml().unwrap().into_bytes()),
            },
        ];
        let target = fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(pi.volume())
            .unwrap();
        let key: Vec<u8> = (0..64).collect();
        let ids = FilesystemIds {
            uuid: [1; 16],
            hash_seed: [2; 16],
        };
        let mut counter = 0_u8;
        let mut entropy = |room: &mut [u8]| {
            for byte in room {
                counter = counter.wrapping_add(1);
                *byte = counter;
            }
        };
        let output = volume::Output {
            target: &target,
            volume: Volume {
                uuid: UUID,
                label: "signalbox",
                size: 18 << 20,
                existing: Existing::Refuse,
                options: Options::default(),
                volume_key: &VolumeKey::copy_from(&key).unwrap(),
                secret: &secret,
                token: &token,
            },
            entropy: &mut entropy,
        };
        let image = Image::of_files(&files, 2 << 20, ids).unwrap();
        volume::write(&image, vec![output], &()).pop().unwrap().unwrap();
        pi
    }

    fn volume(&self) -> PathBuf {
        self.dir.path().join("device.luks")
    }

    /// Runs a command with the nvmem file of a board.
    fn run(&self, board: &FakeFirmware, arguments: &[&str]) -> Output {
        let nvmem = self.dir.path().join("nvmem");
        fs::write(&nvmem, board.nvmem().unwrap()).unwrap();
        let config = self.dir.path().join("edge.toml");
        let text = format!(
            "volume = {:?}\ntcti = \"device:/nonexistent/tpm\"\notp-nvmem = {:?}\n",
            self.volume(),
            nvmem
        );
        fs::write(&config, text).unwrap();
        run(&[&["--config", config.to_str().unwrap()], arguments].concat())
    }
}

/// Of a policy that the pre-shared key alone meets.
fn challenge() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    format!(
        "{{\"nonce\":\"{}\",\"audience\":\"https://llm.demo.example\",\"bank\":\"sha256\",\"select\":[],\
         \"expires_in\":60,\"now\":{now}}}",
        data_encoding::BASE64.encode(&[2; 32])
    )
}

#[test]
fn a_device_without_a_tpm_asks_with_its_psk() {
    let answer = "{\"model\":\"m\",\"message\":{\"content\":\"Fine.\"},\"done\":true,\"eval_count\":1}\n";
    let challenge = challenge();
    let proxy = Fake::start(move |request| match request.target.as_str() {
        "/attest/v1/challenge" => Answer::ok(challenge.clone()),
        _ => Answer::ok(answer),
    });
    let pi = Pi::new(&proxy.origin);
    let output = pi.run(&pi.board, &["ask", "--model", MODEL, "How are you?"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("Fine."));
    let said = stderr(&output);
    assert!(
        said.contains("warning: the firmware has no HMAC, so the raw device key was read"),
        "{said}"
    );
    assert!(!said.contains(PSK));
    assert_eq!(proxy.calls(), ["GET /attest/v1/challenge", "POST /api/chat"]);
    for request in proxy.received() {
        assert_eq!(request.header("x-pre-shared-key"), Some(PSK));
    }
}

#[test]
fn stock_cryptsetup_opens_with_what_is_unlocked_and_leaves_the_token_alone() {
    let pi = Pi::new("http://127.0.0.1:1");
    let output = pi.run(&pi.board, &["unlock"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(crate::unlock::cryptsetup_opens(
        pi.volume().to_str().unwrap(),
        &output.stdout
    ));
    assert!(!crate::unlock::cryptsetup_opens(
        pi.volume().to_str().unwrap(),
        b"something else"
    ));
    let dump = std::process::Command::new("/usr/sbin/cryptsetup")
        .arg("luksDump")
        .arg(pi.volume())
        .output()
        .expect("apt-get install cryptsetup-bin");
    let dump = String::from_utf8(dump.stdout).unwrap();
    assert!(dump.contains("0: signalbox-otp\n"), "{dump}");
}

#[test]
fn another_board_and_an_empty_one_open_nothing() {
    let pi = Pi::new("http://127.0.0.1:1");
    for (board, said) in [
        (
            FakeFirmware::with_key(&[0x2b; 32]),
            "does not open with what this device's key store released",
        ),
        (FakeFirmware::blank(), "the key was never programmed"),
    ] {
        let output = pi.run(&board, &["unlock"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
}

/// A policy that asks for evidence after all: the device says why it cannot give any, and sends nothing on.
#[test]
fn a_policy_with_evidence_is_not_met_without_a_tpm() {
    let asks = challenge().replace("\"select\":[]", "\"select\":[7]");
    let proxy = Fake::start(move |_| Answer::ok(asks.clone()));
    let pi = Pi::new(&proxy.origin);
    let output = pi.run(&pi.board, &["ask", "--model", MODEL, "How are you?"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("provisioned without a TPM: it has no key to quote with"),
        "{said}"
    );
    assert!(
        said.contains("hint: its policy must be one that asks for no evidence"),
        "{said}"
    );
    assert_eq!(proxy.calls(), ["GET /attest/v1/challenge"]);
}

#[test]
fn doctor_finds_no_fault_in_a_missing_tpm() {
    let challenge = challenge();
    let proxy = Fake::start(move |_| Answer::ok(challenge.clone()));
    let pi = Pi::new(&proxy.origin);
    let output = pi.run(&pi.board, &["doctor"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    for part in [
        "note    TPM      ",
        "hint: the volume opens by the OTP device key; a TPM is only for a policy that asks for a quote",
        "ok      volume   ",
        " opens by this board's OTP device key; it is kiosk-bern-01's",
        "ok      key      none, and none is needed: the device was provisioned without a TPM",
        "ok      policy   the device's configuration asks for no PCRs: the pre-shared key alone is enough",
        "ok      session  the proxy accepts the pre-shared key and asks for no quote",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    // Where the volume does not open, the missing TPM is still not to blame.
    let output = pi.run(&FakeFirmware::with_key(&[0x2b; 32]), &["doctor"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("note    TPM ") && text.contains("FAILS   volume "),
        "{text}"
    );
}
