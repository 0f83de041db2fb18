//! A policy of every part on real parts: golden sets, rules on the event log, an image statement that openssl signed.

use std::{
    fs,
    process::Command,
    time::{Duration, SystemTime},
};

use domain::{HashAlg, PcrValue, Sha256Digest, UnixTime};

use crate::{
    forge::boot::{Step, log, stub},
    harness::{Backing, DEVICE, Line, boot},
};

const GOOD: &str = "quiet root=/dev/mapper/root";
const SHELL: &str = "quiet root=/dev/mapper/root init=/bin/sh";

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixTime::from_secs(since.as_secs())
}

/// A line whose kernel was given a command line, which its stub measured.
struct Kiosk {
    line: Line,
}

impl Kiosk {
    fn start() -> Self {
        let kiosk = Self {
            line: Line::start(Backing::Sqlite),
        };
        kiosk.line.apply().succeeded();
        kiosk.started_with(GOOD);
        kiosk.openssl(&[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            "image.key",
        ]);
        kiosk.openssl(&["pkey", "-in", "image.key", "-pubout", "-out", "image.pem"]);
        kiosk.openssl(&[
            "pkey",
            "-in",
            "image.key",
            "-pubout",
            "-outform",
            "DER",
            "-out",
            "image.der",
        ]);
        fs::write(
            kiosk.line.path("edge.toml"),
            format!(
                "event-log = {:?}\nimage-statement = {:?}\n",
                kiosk.line.path("log"),
                kiosk.line.path("image-statement.json")
            ),
        )
        .unwrap();
        kiosk
    }

    /// The stub measures a command line, and the firmware's log says so. No firmware runs here: the log is written by the test, about what was
    /// truly extended into the TPM.
    fn started_with(&self, command_line: &str) {
        let steps: [Step; 1] = [stub(12, command_line)];
        self.line.tpm.extend(12, &steps[0].measured);
        fs::write(self.line.path("log"), log(&steps)).unwrap();
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        let output = command
            .current_dir(self.line.folder.path())
            .args(arguments)
            .output();
        let output = output.unwrap_or_else(|error| panic!("openssl (Debian package openssl): {error}"));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn pcr(&self, number: u64) -> PcrValue {
        let file = self.line.path("value").display().to_string();
        self.line
            .tpm
            .tool("tpm2_pcrread", &[&format!("sha256:{number}"), "-o", &file]);
        PcrValue::new(HashAlg::Sha256, &fs::read(file).unwrap()).unwrap()
    }

    /// What an image builder does with a release, by docs/image-statements.md and openssl alone.
    fn release(&self, number: u64) {
        let digest = Sha256Digest::of(self.pcr(11).as_bytes());
        let statement = format!(
            r#"{{"bank":"sha256","digest":"{digest}","pcrs":[11],"phase":"ready","profile":"kiosk-vm","release":{number}}}"#
        );
        fs::write(self.line.path("statement.json"), &statement).unwrap();
        self.openssl(&[
            "dgst",
            "-sha256",
            "-sign",
            "image.key",
            "-out",
            "signature",
            "statement.json",
        ]);
        let b64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
        let file = format!(
            r#"{{"statement":"{}","signature":"{}","key":"{}"}}"#,
            b64(statement.as_bytes()),
            b64(&fs::read(self.line.path("signature")).unwrap()),
            Sha256Digest::of(&fs::read(self.line.path("image.der")).unwrap())
        );
        fs::write(self.line.path("image-statement.json"), file).unwrap();
    }

    /// Puts the whole policy in the place of the example's exact values, as an operator does: edits the manifest, and applies it. Today's set
    /// ends at `until`.
    fn declare(&self, until: Option<UnixTime>) {
        let until = until.map_or_else(String::new, |until| format!("until = {until}\n"));
        let [head, _, tail] = self.sections();
        let (today, next) = (self.pcr(7), "77".repeat(32));
        let key = fs::read_to_string(self.line.path("image.pem")).unwrap();
        let evidence = format!(
            r#"[policies.kiosk.evidence.golden."2026-11"]
{until}pcrs = {{ 7 = "{today}" }}

[policies.kiosk.evidence.golden."2026-12"]
pcrs = {{ 7 = "{next}" }}

[policies.kiosk.evidence.statement]
keys = ["""
{key}"""]
profile = "kiosk-vm"
least-release = 7
pcrs = [11]

[policies.kiosk.evidence.log]
command-line = ["quiet root=* **"]
no-debug-shell = true

"#
        );
        fs::write(self.line.manifest(), format!("{head}{evidence}{tail}")).unwrap();
        self.line.apply().succeeded();
        let shown = self.line.device(&["show", DEVICE]).succeeded().json();
        let asks = shown["asks"].to_string();
        for part in [
            "golden set `2026-11`",
            "`2026-12`",
            "an image statement",
            "an event log",
        ] {
            assert!(asks.contains(part), "{part}: {asks}");
        }
    }

    /// The manifest before its policy's PCR values, these values, and what follows.
    fn sections(&self) -> [String; 3] {
        let text = fs::read_to_string(self.line.manifest()).unwrap();
        let (head, rest) = text.split_once("[policies.kiosk.evidence.pcrs]\n").unwrap();
        let (values, tail) = rest.split_once("[profiles.").unwrap();
        [head.to_owned(), values.to_owned(), format!("[profiles.{tail}")]
    }

    fn ask(&self) -> crate::harness::Ended {
        let config = self.line.path("edge.toml").display().to_string();
        self.line.ask(&["--config", &config])
    }

    /// Asks until the proxy has the policy.
    fn admitted(&self) {
        for _ in 0..50 {
            if self.ask().code == Some(0) {
                return;
            }
        }
        panic!("never admitted: {:?}", self.ask());
    }

    /// Refused with this code; the operator is told why, the client is not.
    fn refused(&self, code: &str, why: &str) {
        let refused = self.ask();
        assert_eq!(
            (refused.code, refused.refusal().as_str()),
            (Some(3), code),
            "{refused:?}"
        );
        let log = self.line.proxy_log();
        let entry = log
            .lines()
            .rfind(|entry| entry.contains(code))
            .expect("a line for the operator");
        assert!(entry.contains(why) && entry.contains(DEVICE), "{why}: {entry}");
        assert!(entry.contains("\"failed\":"), "{entry}");
        for told in [&refused.stdout, &refused.stderr] {
            assert!(!told.contains(why), "the client was told: {told}");
        }
    }
}

#[test]
fn a_boot_is_judged_by_its_log_its_image_and_its_golden_set() {
    let kiosk = Kiosk::start();
    kiosk.release(7);
    kiosk.declare(None);
    kiosk.admitted();

    kiosk.release(6);
    kiosk.refused(
        "evidence-mismatch",
        "the image is release 6, the policy wants 7 at least",
    );
    kiosk.release(8);
    kiosk.admitted();

    let told = fs::read(kiosk.line.path("log")).unwrap();
    fs::remove_file(kiosk.line.path("log")).unwrap();
    kiosk.refused(
        "evidence-missing",
        "the policy has rules on the boot, no event log was sent",
    );
    fs::write(kiosk.line.path("log"), log(&[stub(12, "quiet root=/dev/sda")])).unwrap();
    kiosk.refused(
        "evidence-invalid",
        "the event log proves nothing: PCR 12 does not replay",
    );
    fs::write(kiosk.line.path("log"), told).unwrap();
    fs::remove_file(kiosk.line.path("image-statement.json")).unwrap();
    kiosk.refused(
        "evidence-missing",
        "the policy wants an image statement, none was sent",
    );
    kiosk.release(7);
    kiosk.admitted();

    // Somebody is at the boot menu; firmware and image are the same.
    kiosk.line.tpm.reset();
    boot(&kiosk.line.tpm);
    kiosk.started_with(SHELL);
    kiosk.refused("evidence-mismatch", "the boot was told to give a shell");
    kiosk.line.tpm.reset();
    boot(&kiosk.line.tpm);
    kiosk.started_with(GOOD);
    kiosk.admitted();
}

#[test]
fn a_golden_set_ends_while_everything_runs() {
    let kiosk = Kiosk::start();
    kiosk.release(7);
    let end = now().plus(Duration::from_secs(8));
    kiosk.declare(Some(end));
    kiosk.admitted();
    while now() < end {
        std::thread::sleep(Duration::from_millis(100));
    }
    kiosk.refused(
        "evidence-mismatch",
        "the PCRs are those of golden set `2026-11`, which ended",
    );
}

#[test]
fn stock_headers_are_told_that_a_session_is_wanted() {
    let kiosk = Kiosk::start();
    kiosk.release(7);
    kiosk.declare(None);
    kiosk.admitted();
    // A quote for one request, in its headers.
    let body = r#"{"model":"smollm2:135m","prompt":"hello"}"#;
    fs::write(kiosk.line.path("body"), body).unwrap();
    let mut quote = crate::harness::program("edge-client");
    quote
        .args([
            "quote",
            "--challenge",
            "--target",
            "/api/generate",
            "--tcti",
            &kiosk.line.tpm.tcti(),
        ])
        .args(["--proxy", &kiosk.line.proxy])
        .arg("--body")
        .arg(kiosk.line.path("body"))
        .arg("--volume")
        .arg(kiosk.line.volume(DEVICE));
    let quoted = kiosk.line.run(&mut quote).succeeded();
    let headers = format!("{}X-Pre-Shared-Key: {}\n", quoted.stdout, kiosk.line.psk());
    fs::write(kiosk.line.path("headers"), headers).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-H", "@headers", "--data-binary", "@body"])
        .arg(format!("{}/api/generate", kiosk.line.proxy))
        .current_dir(kiosk.line.folder.path());
    let answer = kiosk.line.run(&mut curl).succeeded();
    assert!(answer.stdout.contains("\"evidence-missing\""), "{answer:?}");
    let told = "headers have no room for";
    let log = kiosk.line.proxy_log();
    assert!(
        log.contains("which headers have no room for: it comes in a session request"),
        "{log}"
    );
    assert!(!answer.stdout.contains(told));
}
