//! systemd 252 (Debian 12): what it enrols, we open; what we seal, it finds enrolled already.

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use data_encoding::{BASE64, HEXLOWER};
use domain::{Pin, SealedSecret};
use serde_json::{Value, json};
use testkit::Swtpm;
use tpm::{
    Conditions, PinAuth, PolicySignatures, PrimaryAlg, SealOptions, SealedObject, SignedPcrs, UnsealError,
};

use crate::support::{Builder, open, pin, secret, select};

const PIN: &str = "correct horse";

/// A kind of enrolment that systemd 252 can express.
#[derive(Debug, Clone, Copy)]
struct Kind {
    exact: bool,
    signed: bool,
    pin: bool,
}

const KINDS: [Kind; 5] = [
    kind(true, false, false),
    kind(true, false, true),
    kind(false, true, false),
    kind(true, true, false),
    kind(true, true, true),
];

const fn kind(exact: bool, signed: bool, pin: bool) -> Kind {
    Kind { exact, signed, pin }
}

/// A machine in the state that all is sealed to, and a volume with a password.
struct Bench {
    swtpm: Swtpm,
    builder: Builder,
    signatures: PolicySignatures,
    pin: Pin,
}

impl Bench {
    fn new() -> Self {
        let swtpm = Swtpm::start();
        swtpm.extend(7, b"secure boot");
        swtpm.extend(11, b"release 1");
        let builder = Builder::new(2048);
        let signatures = builder.approve(&mut open(&swtpm), select(&[11]));
        fs::write(swtpm.dir().join("key.pem"), builder.public.pem()).unwrap();
        fs::write(swtpm.dir().join("sig.json"), signatures.to_json().unwrap()).unwrap();
        fs::write(swtpm.dir().join("password"), "first").unwrap();
        Self {
            swtpm,
            builder,
            signatures,
            pin: pin(PIN),
        }
    }

    fn conditions(&self, kind: Kind) -> Conditions<'_> {
        Conditions {
            exact: kind.exact.then(|| select(&[7])),
            signed: kind.signed.then(|| SignedPcrs {
                key: &self.builder.public,
                pcrs: select(&[11]),
                signatures: Some(&self.signatures),
            }),
            pin: kind.pin.then_some(PinAuth {
                pin: &self.pin,
                salt: None,
            }),
        }
    }

    fn volume(&self, name: &str) -> PathBuf {
        let volume = self.swtpm.dir().join(name);
        File::create(&volume).unwrap().set_len(32 << 20).unwrap();
        self.cryptsetup(&[
            "luksFormat",
            "--batch-mode",
            "--type",
            "luks2",
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
            name,
            "password",
        ]);
        volume
    }

    fn cryptsetup(&self, arguments: &[&str]) {
        let output = Command::new("cryptsetup")
            .current_dir(self.swtpm.dir())
            .args(arguments)
            .output()
            .unwrap_or_else(|e| panic!("cryptsetup: {e}: apt-get install cryptsetup-bin"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }

    /// Runs systemd-cryptenroll to success; what it said.
    fn enroll(&self, kind: Kind, volume: &str) -> String {
        let mut command = Command::new("systemd-cryptenroll");
        command
            .current_dir(self.swtpm.dir())
            .env("PASSWORD", "first")
            .env("NEWPIN", PIN)
            .arg(format!("--tpm2-device={}", self.swtpm.tcti()))
            .arg(if kind.exact {
                "--tpm2-pcrs=7"
            } else {
                "--tpm2-pcrs="
            });
        if kind.signed {
            command.args(["--tpm2-public-key=key.pem", "--tpm2-public-key-pcrs=11"]);
            command.arg(format!(
                "--tpm2-signature={}",
                self.swtpm.dir().join("sig.json").display()
            ));
        }
        if kind.pin {
            command.arg("--tpm2-with-pin=yes");
        }
        let output = command
            .arg(volume)
            .output()
            .unwrap_or_else(|e| panic!("systemd-cryptenroll: {e}: apt-get install systemd"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{kind:?}: {said}");
        // systemd 252 leaves its session behind.
        self.swtpm.tool("tpm2_flushcontext", &["-l"]);
        said
    }

    fn token(&self, volume: &str) -> Value {
        let dump = Command::new("cryptsetup")
            .current_dir(self.swtpm.dir())
            .args(["luksDump", "--dump-json-metadata", volume])
            .output()
            .unwrap();
        let metadata: Value = serde_json::from_slice(&dump.stdout).unwrap();
        metadata["tokens"]["0"].clone()
    }

    fn opens(&self, volume: &str, secret: &SealedSecret) -> bool {
        let mut open = Command::new("cryptsetup")
            .current_dir(self.swtpm.dir())
            .args([
                "open",
                "--test-passphrase",
                "--key-slot",
                "1",
                "--key-file",
                "-",
                volume,
            ])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let passphrase = secret.expose(|bytes| BASE64.encode(bytes));
        open.stdin
            .take()
            .unwrap()
            .write_all(passphrase.as_bytes())
            .unwrap();
        open.wait().unwrap().success()
    }
}

fn sealed_object(token: &Value) -> SealedObject {
    let text = |field: &str| token[field].as_str().unwrap();
    SealedObject {
        private_then_public: BASE64.decode(text("tpm2-blob").as_bytes()).unwrap(),
        policy_hash: HEXLOWER
            .decode(text("tpm2-policy-hash").as_bytes())
            .unwrap()
            .try_into()
            .unwrap(),
        primary_alg: text("tpm2-primary-alg").parse().unwrap(),
    }
}

#[test]
fn what_systemd_enrolled_opens_whatever_its_kind() {
    let bench = Bench::new();
    for (number, kind) in KINDS.into_iter().enumerate() {
        let name = format!("volume{number}");
        bench.volume(&name);
        bench.enroll(kind, &name);
        let token = bench.token(&name);
        assert_eq!(token["tpm2-pin"], json!(kind.pin));
        let object = sealed_object(&token);
        let back = open(&bench.swtpm)
            .unseal_with(&object, &bench.conditions(kind))
            .unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        assert!(bench.opens(&name, &back), "{kind:?}");
        if kind.pin {
            let wrong = pin("wrong horse");
            let mut conditions = bench.conditions(kind);
            conditions.pin = Some(PinAuth {
                pin: &wrong,
                salt: None,
            });
            let refused = open(&bench.swtpm).unseal_with(&object, &conditions).err();
            assert_eq!(refused, Some(UnsealError::WrongPin), "{kind:?}");
        }
    }
}

#[test]
fn what_we_sealed_systemd_finds_enrolled_already() {
    let bench = Bench::new();
    for (number, kind) in KINDS.into_iter().enumerate() {
        let name = format!("volume{number}");
        bench.volume(&name);
        let (object, _) = open(&bench.swtpm)
            .seal_with(&secret(1), &bench.conditions(kind), SealOptions::default())
            .unwrap();
        let mut token = json!({
            "type": "systemd-tpm2", "keyslots": ["0"], "tpm2-blob": BASE64.encode(&object.private_then_public),
            "tpm2-pcrs": if kind.exact { vec![7] } else { vec![] }, "tpm2-pcr-bank": "sha256",
            "tpm2-primary-alg": PrimaryAlg::Ecc.name(), "tpm2-policy-hash": HEXLOWER.encode(&object.policy_hash),
            "tpm2-pin": kind.pin
        });
        if kind.signed {
            token["tpm2_pubkey_pcrs"] = json!([11]);
            token["tpm2_pubkey"] = json!(BASE64.encode(bench.builder.public.pem()));
        }
        fs::write(bench.swtpm.dir().join("token.json"), token.to_string()).unwrap();
        bench.cryptsetup(&["token", "import", "--json-file", "token.json", &name]);
        let said = bench.enroll(kind, &name);
        assert!(said.contains("already enrolled"), "{kind:?}: {said}");
        // And not another kind.
        let mut other = kind;
        other.pin = !kind.pin;
        let said = bench.enroll(other, &name);
        assert!(!said.contains("already enrolled"), "{kind:?}: {said}");
    }
}
