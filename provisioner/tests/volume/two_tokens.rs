//! Volumes with several of systemd's tokens, and tokens of systemd 255 and later, which Debian 12 has not: each made by stock tools.

use std::{
    fs,
    process::{Command, Stdio},
};

use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};

use crate::bench::Bench;

const VOLUME: &str = "x.luks";
/// The header's MAC is of the recovery key; what others enrolled has none.
const FOREIGN: &str = "--unauthenticated";

/// A volume with a file system that only its recovery key opens; the key is in the file `key`.
fn unsealed(bench: &Bench) {
    let (identity, public) = bench.keeper("keeper");
    bench.create(VOLUME, &["--escrow-to", &public]);
    let shown = bench.run(&[
        "volume",
        "recover",
        VOLUME,
        "--identity",
        &identity,
        "--no-reseal",
        "--show",
    ]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    bench.file("key", shown.out.lines().last().unwrap());
    enrol(bench, &["--wipe-slot=tpm2"]);
    assert!(slots(bench).is_empty());
}

/// Runs systemd-cryptenroll to success.
fn enrol(bench: &Bench, arguments: &[&str]) {
    let output = Command::new("systemd-cryptenroll")
        .current_dir(bench.dir())
        .env("PASSWORD", fs::read_to_string(bench.path("key")).unwrap())
        .args(arguments)
        .arg(VOLUME)
        .output()
        .unwrap_or_else(|e| panic!("systemd-cryptenroll: {e}: apt-get install systemd"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    // systemd 252 leaves its session behind.
    bench.tpm.tool("tpm2_flushcontext", &["-l"]);
}

fn enrol_tpm(bench: &Bench, pcr: &str) {
    let device = format!("--tpm2-device={}", bench.tpm.tcti());
    enrol(bench, &[&device, &format!("--tpm2-pcrs={pcr}")]);
}

/// The keyslots of systemd's tokens, in the order of these; `""` for one that is gone.
fn slots(bench: &Bench) -> Vec<String> {
    let dump = bench.dump(VOLUME);
    let tokens = dump["tokens"].as_object().unwrap().values();
    tokens
        .filter(|token| token["type"] == "systemd-tpm2")
        .map(|token| token["keyslots"][0].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn cryptsetup(bench: &Bench, arguments: &[&str]) {
    let output = Command::new("cryptsetup")
        .current_dir(bench.dir())
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("cryptsetup: {e}: apt-get install cryptsetup-bin"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

#[test]
fn whichever_of_two_enrolments_fits_opens_until_none_is_left() {
    let bench = Bench::new();
    unsealed(&bench);
    enrol_tpm(&bench, "7");
    enrol_tpm(&bench, "11");
    let [of_7, of_11] = slots(&bench).try_into().unwrap();
    assert_ne!(of_7, of_11);
    bench.opens(VOLUME, &[FOREIGN]);
    let info = bench.run(&["volume", "info", VOLUME]);
    assert!(
        info.out.contains("sealed to PCRs sha256:7") && info.out.contains("sealed to PCRs sha256:11"),
        "{}",
        info.out
    );

    // The second one fits alone, then the first alone.
    bench.tpm.extend(7, b"new firmware");
    bench.opens(VOLUME, &[FOREIGN]);
    enrol(&bench, &[&format!("--wipe-slot={of_7}")]);
    enrol_tpm(&bench, "7");
    bench.opens(VOLUME, &[FOREIGN]);
    bench.tpm.extend(11, b"another kernel");
    bench.opens(VOLUME, &[FOREIGN]);

    // cryptsetup leaves the token of a keyslot that it removes, and that token opens nothing.
    cryptsetup(
        &bench,
        &[
            "luksKillSlot",
            "--batch-mode",
            "--key-file",
            "key",
            VOLUME,
            &of_11,
        ],
    );
    let left = slots(&bench);
    assert_eq!(left.iter().filter(|slot| slot.is_empty()).count(), 1, "{left:?}");
    bench.opens(VOLUME, &[FOREIGN]);
    let last = left.iter().find(|slot| !slot.is_empty()).unwrap();
    cryptsetup(
        &bench,
        &["luksKillSlot", "--batch-mode", "--key-file", "key", VOLUME, last],
    );
    let refused = bench.psk(VOLUME, &[FOREIGN]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(
        refused.err.contains("a keyslot that was removed") && refused.err.contains("--recovery-key-file"),
        "{}",
        refused.err
    );
    let recovered = bench.run(&["volume", "cat", VOLUME, "/psk", "--recovery-key-file", "key"]);
    assert_eq!(recovered.code, 0, "{}", recovered.err);
}

/// The TCG's storage root key, persistent, and its handle as `Esys_TR_Serialize` writes it: systemd's `tpm2_srk`.
fn persistent_srk(bench: &Bench) -> Vec<u8> {
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    bench.tpm.tool(
        "tpm2_createprimary",
        &[
            "-C",
            "o",
            "-G",
            "ecc256:null:aes128cfb",
            "-g",
            "sha256",
            "-a",
            attributes,
            "-c",
            "srk.ctx",
        ],
    );
    let evict = ["-C", "o", "-c", "srk.ctx", "-o", "srk.handle", "0x81000001"];
    bench.tpm.tool("tpm2_evictcontrol", &evict);
    bench.tpm.tool("tpm2_flushcontext", &["-t"]);
    fs::read(bench.tpm.dir().join("srk.handle")).unwrap()
}

/// What stock tools write of a secret under PCR 7 and an authValue: blob and policy digest.
fn seal(bench: &Bench, secret: &[u8], auth: &str) -> (Vec<u8>, Vec<u8>) {
    let in_tpm = bench.tpm.dir();
    fs::write(in_tpm.join("secret"), secret).unwrap();
    bench.tpm.tool("tpm2_startauthsession", &["-S", "trial"]);
    bench
        .tpm
        .tool("tpm2_policypcr", &["-S", "trial", "-l", "sha256:7"]);
    bench
        .tpm
        .tool("tpm2_policyauthvalue", &["-S", "trial", "-L", "policy"]);
    bench.tpm.tool("tpm2_flushcontext", &["trial"]);
    let create = [
        "-C",
        "0x81000001",
        "-i",
        "secret",
        "-L",
        "policy",
        "-a",
        "fixedtpm|fixedparent",
        "-p",
        auth,
        "-u",
        "public",
        "-r",
        "private",
    ];
    bench.tpm.tool("tpm2_create", &create);
    bench.tpm.tool("tpm2_flushcontext", &["-t"]);
    let read = |name| fs::read(in_tpm.join(name)).unwrap();
    ([read("private"), read("public")].concat(), read("policy"))
}

/// The authValue of a PIN since systemd 255, by openssl: SHA-256 of the base64 text of PBKDF2 (tpm2-util.c, `tpm2_seal`).
fn salted(pin: &str, salt: &[u8]) -> String {
    let derived = Command::new("openssl")
        .args([
            "kdf",
            "-keylen",
            "32",
            "-binary",
            "-kdfopt",
            "digest:SHA256",
            "-kdfopt",
        ])
        .arg(format!("pass:{pin}"))
        .arg("-kdfopt")
        .arg(format!("hexsalt:{}", HEXLOWER.encode(salt)))
        .args(["-kdfopt", "iter:10000", "PBKDF2"])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert_eq!(derived.stdout.len(), 32);
    let digest = domain::Sha256Digest::of(BASE64.encode(&derived.stdout).as_bytes());
    format!("hex:{}", HEXLOWER.encode(digest.as_bytes()))
}

#[test]
fn a_salted_pin_under_the_persistent_storage_key_opens() {
    const PIN: &str = "1234567";
    let bench = Bench::new();
    unsealed(&bench);
    let (secret, salt) = ([0x6b; 32], [0x1f; 32]);
    let srk = persistent_srk(&bench);
    let (blob, policy) = seal(&bench, &secret, &salted(PIN, &salt));
    bench.file("passphrase", BASE64.encode(&secret));
    let more = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    cryptsetup(
        &bench,
        &[
            &[
                "luksAddKey",
                "--batch-mode",
                "--key-file",
                "key",
                "--key-slot",
                "5",
            ],
            &more[..],
            &[VOLUME, "passphrase"],
        ]
        .concat(),
    );
    let token = |blob: Value, policy: Value| {
        json!({
            "type": "systemd-tpm2", "keyslots": ["5"], "tpm2-blob": blob, "tpm2-pcrs": [7], "tpm2-pcr-bank": "sha256",
            "tpm2-primary-alg": "ecc", "tpm2-policy-hash": policy, "tpm2-pin": true, "tpm2_pcrlock": false,
            "tpm2_pubkey_pcrs": [], "tpm2_salt": BASE64.encode(&salt), "tpm2_srk": BASE64.encode(&srk)
        })
    };
    let (blob, policy) = (json!(BASE64.encode(&blob)), json!(HEXLOWER.encode(&policy)));
    bench.file("pin", PIN);
    bench.file("wrong", "7654321");
    // Since 257, which systemd 252's plugin for cryptsetup does not know, both may be lists: a secret in one shard here.
    for (id, token) in [
        ("7", token(blob.clone(), policy.clone())),
        ("8", token(json!([blob]), json!([policy]))),
    ] {
        bench.file("token.json", token.to_string());
        cryptsetup(
            &bench,
            &[
                "token",
                "import",
                "--disable-external-tokens",
                "--token-id",
                id,
                "--json-file",
                "token.json",
                VOLUME,
            ],
        );
        bench.opens(VOLUME, &[FOREIGN, "--pin-file", "pin"]);
        let wrong = bench.psk(VOLUME, &[FOREIGN, "--pin-file", "wrong"]);
        assert_eq!(wrong.code, 1, "{}", wrong.err);
        assert!(wrong.err.contains("PIN"), "{}", wrong.err);
        let info = bench.run(&["volume", "info", VOLUME]);
        assert!(!info.out.contains("unusable"), "{}", info.out);
        cryptsetup(&bench, &["token", "remove", "--token-id", id, VOLUME]);
    }
}
