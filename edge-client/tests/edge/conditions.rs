//! Volumes that want more than PCRs: a signed PCR policy, a PIN, both; and what is refused of each.

use std::{
    fs,
    io::{Read as _, Write as _},
    process::{Command, Output, Stdio},
};

use domain::{Pin, SealedSecret};
use tpm::{Conditions, PinAuth, PinSalt, PolicyKey, PolicySignatures, SealOptions, SignedPcrs, approval};
use volume::{KeyslotId, PrimaryAlg, TokenPin, TokenSigned, Tpm2Token};

use crate::{
    support::{Device, Making, PSK, run, selection, stderr, stdout},
    unlock::cryptsetup_opens,
};

const PROXY: &str = "http://127.0.0.1:1";
const PIN: &str = "canary-horse";
const SEED: u8 = 0x5a;
const QUOTE: [&str; 3] = [
    "quote",
    "--nonce",
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
];

/// A device with a volume that wants more, and who approves of its PCR 11.
struct Picky {
    device: Device,
    key: PolicyKey,
}

impl Picky {
    fn new(signed: bool, pin: TokenPin) -> Self {
        let device = Device::new(PROXY);
        fs::remove_file(device.volume()).unwrap();
        let at = |name: &str| device.dir.path().join(name).display().to_string();
        openssl(&["genrsa", "-out", &at("builder"), "2048"]);
        openssl(&[
            "rsa",
            "-in",
            &at("builder"),
            "-pubout",
            "-out",
            &at("builder.pem"),
        ]);
        let key = PolicyKey::from_pem(&fs::read(at("builder.pem")).unwrap()).unwrap();
        let picky = Self { device, key };
        picky.write(signed, pin);
        picky
    }

    fn write(&self, signed: bool, pin: TokenPin) {
        let secret = SealedSecret::copy_from(&[SEED; 32]).unwrap();
        let (kernel, firmware) = (selection(&[11]), selection(&[7]));
        let typed = Pin::parse(PIN.as_bytes()).unwrap();
        let conditions = Conditions {
            exact: (!signed).then_some(firmware),
            signed: signed.then_some(SignedPcrs {
                key: &self.key,
                pcrs: kernel,
                signatures: None,
            }),
            pin: match pin {
                TokenPin::None => None,
                TokenPin::Plain => Some(PinAuth {
                    pin: &typed,
                    salt: None,
                }),
                TokenPin::Salted(salt) => Some(PinAuth {
                    pin: &typed,
                    salt: Some(PinSalt(salt)),
                }),
            },
        };
        let sealed = self
            .device
            .tpm()
            .seal_with(&secret, &conditions, SealOptions::default());
        let (object, _) = sealed.unwrap();
        let token = Tpm2Token {
            keyslot: KeyslotId::SEALED,
            blob: object.private_then_public,
            bank: firmware.bank(),
            exact: conditions.exact,
            signed: signed.then(|| TokenSigned {
                pcrs: kernel,
                key_pem: self.key.pem().to_vec(),
            }),
            pin,
            primary_alg: PrimaryAlg::Ecc,
            policy_hash: object.policy_hash,
            srk: None,
        };
        let making = Making {
            seed: SEED,
            ..Making::default()
        };
        self.device
            .write_under(&self.device.volume(), &making, &secret, &token);
    }

    fn at(&self, name: &str) -> String {
        self.device.dir.path().join(name).display().to_string()
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.at(name), text).unwrap();
        self.at(name)
    }

    /// Approves of what PCR 11 is now, and writes the file as systemd has it.
    fn approve(&self, name: &str) -> String {
        let kernel = selection(&[11]);
        let approval = approval(&self.device.tpm().read_pcrs(&kernel).unwrap(), false).unwrap();
        fs::write(self.at("message"), approval.message()).unwrap();
        let (key, message, signature) = (self.at("builder"), self.at("message"), self.at("signature"));
        openssl(&["dgst", "-sha256", "-sign", &key, "-out", &signature, &message]);
        let mut signatures = PolicySignatures::default();
        signatures.add(kernel, &self.key, &approval, &fs::read(signature).unwrap());
        self.file(name, &signatures.to_json().unwrap())
    }

    fn unlock(&self, arguments: &[&str]) -> Output {
        self.device
            .run(&[&["unlock", "--extend", "none"], arguments].concat())
    }

    /// How many wrong authorizations the TPM has counted.
    fn counted(&self) -> u32 {
        let listed = self.device.swtpm.tool("tpm2_getcap", &["properties-variable"]);
        let listed = String::from_utf8(listed.stdout).unwrap();
        let line = listed
            .lines()
            .find(|line| line.starts_with("TPM2_PT_LOCKOUT_COUNTER"));
        let number = line.unwrap().rsplit_once("0x").unwrap().1;
        u32::from_str_radix(number, 16).unwrap()
    }
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

fn opened(picky: &Picky, output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    assert!(cryptsetup_opens(&picky.device.volume(), &output.stdout));
    assert!(!stderr(output).contains(PIN), "{}", stderr(output));
}

fn shut(output: &Output, why: &str) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(why), "{said}");
    assert!(output.stdout.is_empty());
    assert!(!said.contains("canary") && !said.contains(PSK), "{said}");
}

#[test]
fn a_signed_policy_opens_what_its_key_approves_of_and_nothing_else() {
    let picky = Picky::new(true, TokenPin::None);
    shut(&picky.unlock(&[]), "no signature by the policy key approves");
    let first = picky.approve("first.json");
    opened(&picky, &picky.unlock(&["--tpm2-signature", &first]));

    // The next release of the operating system comes with the next signature; the volume stays as it is.
    picky.device.swtpm.extend(11, b"another kernel");
    shut(
        &picky.unlock(&["--tpm2-signature", &first]),
        "no signature by the policy key approves",
    );
    let second = picky.approve("second.json");
    opened(&picky, &picky.unlock(&["--tpm2-signature", &second]));

    // Named in the configuration, for every command; the command line knows better.
    let config = format!(
        "volume = {:?}\ntcti = {:?}\ntpm2-signature = {second:?}\n",
        picky.device.volume(),
        picky.device.swtpm.tcti()
    );
    let config = picky.file("edge.toml", &config);
    let quoted = run(&[&QUOTE[..], &["--config", &config]].concat());
    assert_eq!(quoted.status.code(), Some(0), "{}", stderr(&quoted));
    assert!(stdout(&quoted).contains("TPM-Quote: "));
    let told = [&QUOTE[..], &["--config", &config, "--tpm2-signature", &first]].concat();
    shut(&run(&told), "no signature by the policy key approves");
}

#[test]
fn a_file_of_signatures_that_is_none_opens_nothing() {
    let picky = Picky::new(true, TokenPin::None);
    let sound = fs::read_to_string(picky.approve("sound.json")).unwrap();
    shut(
        &picky.unlock(&["--tpm2-signature", "/nonexistent"]),
        "cannot read",
    );
    let odd = picky.file("odd.json", "{");
    shut(
        &picky.unlock(&["--tpm2-signature", &odd]),
        "is no tpm2-pcr-signature.json",
    );
    shut(
        &picky.unlock(&["--tpm2-signature", "/dev/zero"]),
        "at most 1048576 bytes",
    );
    // A signature of somebody else's over the right values.
    let mut forged: serde_json::Value = serde_json::from_str(&sound).unwrap();
    forged["sha256"][0]["sig"] = data_encoding::BASE64.encode(&[0x11; 256]).into();
    let forged = picky.file("forged.json", &forged.to_string());
    shut(
        &picky.unlock(&["--tpm2-signature", &forged]),
        "the signature over the PCR policy is wrong",
    );
}

#[test]
fn a_volume_without_a_signed_policy_looks_for_no_signatures() {
    let device = Device::new(PROXY);
    let output = device.run(&["unlock", "--extend", "none", "--tpm2-signature", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_pin_opens_and_a_wrong_one_is_counted_until_the_tpm_locks() {
    for pin in [TokenPin::Plain, TokenPin::Salted([9; 32])] {
        let picky = Picky::new(false, pin);
        let (right, wrong) = (picky.file("right", PIN), picky.file("wrong", "canary-mule\n"));
        let before = picky.counted();
        opened(&picky, &picky.unlock(&["--pin-file", &right]));
        assert_eq!(picky.counted(), before);
        shut(&picky.unlock(&["--pin-file", &wrong]), "the PIN is wrong");
        assert_eq!(picky.counted(), before + 1);

        // Where a PCR differs no PIN is tried, and none is counted.
        let quoted = picky.device.run(&[&QUOTE[..], &["--pin-file", &right]].concat());
        assert_eq!(quoted.status.code(), Some(0), "{}", stderr(&quoted));
        picky
            .device
            .swtpm
            .tool("tpm2_dictionarylockout", &["--setup-parameters", "--max-tries=3"]);
        let mut last = picky.unlock(&["--pin-file", &wrong]);
        for _ in 0..3 {
            shut(&last, "");
            last = picky.unlock(&["--pin-file", &wrong]);
        }
        shut(&last, "lockout");
        shut(&picky.unlock(&["--pin-file", &right]), "lockout");
        picky
            .device
            .swtpm
            .tool("tpm2_dictionarylockout", &["--clear-lockout"]);
        opened(&picky, &picky.unlock(&["--pin-file", &right]));
        let counted = picky.counted();
        picky.device.swtpm.extend(7, b"other firmware");
        shut(
            &picky.unlock(&["--pin-file", &right]),
            "is not what the secret was sealed to",
        );
        assert_eq!(picky.counted(), counted);
    }
}

#[test]
fn a_pin_comes_through_a_pipe_and_never_out_of_nowhere() {
    let picky = Picky::new(true, TokenPin::Plain);
    let signatures = picky.approve("signatures.json");
    // Without a terminal, which `setsid` takes away, nobody is asked and nothing is counted.
    let (volume, tcti) = (picky.device.volume(), picky.device.swtpm.tcti());
    let unlock = |more: &[&str], stdin: &str| {
        let mut child = Command::new("setsid")
            .args([
                "--wait",
                env!("CARGO_BIN_EXE_edge-client"),
                "unlock",
                "--extend",
                "none",
            ])
            .args([
                "--volume",
                &volume,
                "--tcti",
                &tcti,
                "--tpm2-signature",
                &signatures,
            ])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Who does not want it has gone.
        let _gone = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap()
    };
    let counted = picky.counted();
    shut(
        &unlock(&[], PIN),
        "the volume wants a PIN, and nobody can be asked",
    );
    shut(&unlock(&["--pin-file", "-"], ""), "no PIN");
    assert_eq!(picky.counted(), counted);
    opened(&picky, &unlock(&["--pin-file", "-"], &format!("{PIN}\n")));
    opened(&picky, &unlock(&["--pin-file", "/dev/fd/0"], PIN));
    // The right PIN and an image that nobody approved of.
    picky.device.swtpm.extend(11, b"another kernel");
    shut(
        &unlock(&["--pin-file", "-"], PIN),
        "no signature by the policy key approves",
    );
    assert_eq!(picky.counted(), counted);
}

#[test]
fn a_person_is_asked_again_after_a_slip_and_nothing_is_shown() {
    let picky = Picky::new(false, TokenPin::Plain);
    let key = picky.at("key");
    let command = format!(
        "{} unlock --extend none --volume {} --tcti {} | cat > {key}",
        env!("CARGO_BIN_EXE_edge-client"),
        picky.device.volume(),
        picky.device.swtpm.tcti()
    );
    // script(1) gives it a terminal of its own, and us what that terminal shows.
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("script: {e}: apt-get install bsdutils"));
    let (mut typing, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = String::new();
    let mut byte = [0];
    for line in ["canary-mule\n", "canary-horse\n"] {
        let asked = shown.matches("PIN: ").count() + 1;
        while shown.matches("PIN: ").count() < asked {
            assert_eq!(screen.read(&mut byte).unwrap(), 1, "{shown}");
            shown.push(char::from(byte[0]));
        }
        typing.write_all(line.as_bytes()).unwrap();
    }
    screen.read_to_string(&mut shown).unwrap();
    child.wait().unwrap();
    assert!(
        cryptsetup_opens(&picky.device.volume(), &fs::read(key).unwrap()),
        "{shown}"
    );
    assert!(
        shown.contains("the PIN is wrong, and the TPM counts it; try again"),
        "{shown}"
    );
    assert!(!shown.contains("canary"), "{shown}");
}
