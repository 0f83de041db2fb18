//! A software TPM that `swtpm_setup` certified by its own local CA, as virtualisation hosts do: stock tools make the CA, the EK certificate and
//! the NV index, ours judge them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]

mod common;

use std::{fs, path::PathBuf, process::Command};

use common::{DEMO, Station, run};

/// What swtpm_localca leaves beside its keys: the root's certificate and the one that signs EK certificates.
const ROOT: &str = "swtpm-localca-rootca-cert.pem";
const ISSUER: &str = "issuercert.pem";

/// A station whose TPM comes out of `swtpm_setup --create-ek-cert`.
struct Host {
    station: Station,
}

impl Host {
    fn new() -> Self {
        let mut station = Station::unmeasured();
        station.tpm.kill();
        let dir = station.tpm.dir();
        let host = Self { station };
        host.configure();
        let output = Command::new("swtpm_setup")
            .args([
                "--tpm2",
                "--create-ek-cert",
                "--overwrite",
                "--pcr-banks",
                "sha256",
            ])
            .arg("--tpmstate")
            .arg(&dir)
            .arg("--config")
            .arg(host.ca().join("swtpm_setup.conf"))
            .output()
            .expect("swtpm_setup, from Debian's swtpm-tools");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{told}");
        let Self { mut station } = host;
        station.tpm.revive();
        station.tpm.extend(7, b"signalbox demo: secure boot state");
        station.tpm.extend(11, b"signalbox demo: kernel image");
        let host = Self { station };
        host.trust(&[ROOT, ISSUER]);
        let trust = "ek-trust = { roots = \"roots\" }";
        let text = DEMO.replace("ek-trust = \"first-use\"", trust);
        assert!(text.contains(trust), "the demo trusts on first use");
        fs::write(host.station.path().join("demo.toml"), text).unwrap();
        host
    }

    /// Where the CA keeps its keys and certificates.
    fn ca(&self) -> PathBuf {
        self.station.path().join("ca")
    }

    /// A CA of the test's own: the machine's is root's business.
    fn configure(&self) {
        let ca = self.ca();
        fs::create_dir(&ca).unwrap();
        let at = |name: &str| ca.join(name).display().to_string();
        let localca = format!(
            "statedir = {}\nsigningkey = {}\nissuercert = {}\ncertserial = {}\n",
            ca.display(),
            at("signkey.pem"),
            at(ISSUER),
            at("certserial")
        );
        fs::write(at("localca.conf"), localca).unwrap();
        let platform = "--platform-manufacturer Example\n--platform-version 1.0\n--platform-model Host\n";
        fs::write(at("localca.options"), platform).unwrap();
        let setup = format!(
            "create_certs_tool= /usr/bin/swtpm_localca\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n",
            at("localca.conf"),
            at("localca.options")
        );
        fs::write(at("swtpm_setup.conf"), setup).unwrap();
    }

    fn trust(&self, names: &[&str]) {
        let roots = self.station.path().join("roots");
        let _first_time = fs::remove_dir_all(&roots);
        fs::create_dir(&roots).unwrap();
        for name in names {
            fs::copy(self.ca().join(name), roots.join(name)).unwrap();
        }
    }

    /// Reads an EK certificate out of the TPM's NV with stock tools.
    fn certificate(&self, index: &str, file: &str) {
        let file = self.station.path().join(file).display().to_string();
        self.station
            .tpm
            .tool("tpm2_nvread", &["-C", "o", index, "-o", &file]);
    }
}

#[test]
fn a_tpm_of_swtpm_setup_is_trusted_by_its_local_ca() {
    let host = Host::new();
    host.certificate("0x1c00002", "rsa.der");
    host.certificate("0x1c00016", "ecc.der");
    let tpm = &host.station.tpm;
    tpm.tool("tpm2_createek", &["-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub"]);
    tpm.tool("tpm2_flushcontext", &["-t"]);
    let public = tpm.dir().join("ek.pub").display().to_string();
    let ek = |more: &[&str]| {
        let asked = ["evidence", "ek", "--roots", "roots", "--cert"];
        run(host.station.path(), &[&asked[..], more].concat())
    };
    let chain = "intermediate    CN=swtpm-localca\nroot            CN=swtpm-localca-rootca\n";
    for more in [&["rsa.der", "--ek", &public][..], &["ecc.der"]] {
        let ran = ek(more);
        assert_eq!(ran.code, 0, "{more:?}: {}{}", ran.out, ran.err);
        assert!(ran.out.contains(chain), "{}", ran.out);
        assert!(
            ran.out.contains("swtpm, a software TPM (00001014)"),
            "{}",
            ran.out
        );
    }
    // The certificate of the TPM's other key.
    let other = ek(&["ecc.der", "--ek", &public]);
    assert_eq!(other.code, 3, "{}", other.out);
    assert!(
        other.out.contains("refused: the EK certificate is for"),
        "{}",
        other.out
    );

    let applied = host.station.run(&["apply", "demo.toml"]);
    assert_eq!(applied.code, 0, "{}", applied.err);
    let shown = host.station.device("show");
    assert_eq!(shown["ek-trust"], "certified by its maker");
    assert_eq!(shown["ek-certified"]["model"], "swtpm");
    let digest = domain::CertificateDigest::of(&fs::read(host.station.path().join("rsa.der")).unwrap());
    assert_eq!(shown["ek-certificate"], digest.to_string());
}

#[test]
fn without_the_local_cas_certificates_it_is_refused() {
    let host = Host::new();
    host.certificate("0x1c00002", "rsa.der");
    host.trust(&[ROOT]);
    let ran = run(
        host.station.path(),
        &["evidence", "ek", "--cert", "rsa.der", "--roots", "roots"],
    );
    assert_eq!(ran.code, 3, "{}", ran.out);
    assert!(
        ran.out
            .contains("breaks at the EK certificate itself: no certificate of its issuer CN=swtpm-localca"),
        "{}",
        ran.out
    );
    let applied = host.station.run(&["apply", "demo.toml"]);
    assert_eq!(applied.code, 3, "{}", applied.err);
    assert!(
        applied.err.contains("the EK certificate is not trusted"),
        "{}",
        applied.err
    );
    // The issuer alone is no root: it did not sign itself.
    host.trust(&[ISSUER]);
    let applied = host.station.run(&["apply", "demo.toml"]);
    assert_eq!(applied.code, 2, "{}", applied.err);
    assert!(
        applied.err.contains("there is no root certificate in"),
        "{}",
        applied.err
    );
    assert!(!host.station.volume().exists() && !host.station.path().join("registry.db").exists());
}
