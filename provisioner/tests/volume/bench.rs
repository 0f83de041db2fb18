//! A TPM that was measured into, content with a canary in it, and the program.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use testkit::Swtpm;

use crate::common::{Ran, run};

pub const PSK: &str = "sbx_canary-0123456789abcdefghijklmnopqrstuvwxyz";

/// A factory's table.
pub struct Bench {
    dir: tempfile::TempDir,
    pub tpm: Swtpm,
}

impl Bench {
    pub fn new() -> Self {
        let bench = Self::unmeasured();
        bench.tpm.extend(7, b"secure boot state");
        bench.tpm.extend(11, b"kernel image");
        bench
    }

    pub fn unmeasured() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let content = dir.path().join("content");
        fs::create_dir_all(content.join("etc/app")).unwrap();
        fs::write(content.join("psk"), PSK).unwrap();
        fs::write(content.join("etc/app/settings.toml"), "a = 1\n").unwrap();
        let tpm = Swtpm::start();
        Self { dir, tpm }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Runs a command as it is.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(self.dir.path(), arguments)
    }

    /// Runs a command with the TPM.
    pub fn with_tpm(&self, arguments: &[&str]) -> Ran {
        self.with(&self.tpm, arguments)
    }

    /// Runs a command with some TPM.
    pub fn with(&self, tpm: &Swtpm, arguments: &[&str]) -> Ran {
        let tcti = tpm.tcti();
        let mut all = arguments.to_vec();
        all.extend(["--tcti", &tcti]);
        self.run(&all)
    }

    /// Makes a volume of the content, sealed to PCR 7, with more options.
    pub fn create(&self, name: &str, more: &[&str]) -> Ran {
        let mut all = vec![
            "volume",
            "create",
            name,
            "--content",
            "content",
            "--size",
            "32MiB",
        ];
        if !more.iter().any(|option| option.starts_with("--seal")) {
            all.extend(["--seal-pcrs", "7"]);
        }
        all.extend(more);
        let ran = self.with_tpm(&all);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran
    }

    /// The canary, through the program.
    pub fn psk(&self, name: &str, more: &[&str]) -> Ran {
        let mut all = vec!["volume", "cat", name, "/psk"];
        all.extend(more);
        self.with_tpm(&all)
    }

    pub fn opens(&self, name: &str, more: &[&str]) {
        let ran = self.psk(name, more);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(ran.out, PSK);
    }

    /// The header as cryptsetup reads it.
    pub fn dump(&self, name: &str) -> serde_json::Value {
        let output = Command::new("cryptsetup")
            .args(["luksDump", "--dump-json-metadata"])
            .arg(self.path(name))
            .output()
            .unwrap_or_else(|e| panic!("cryptsetup: {e}: apt-get install cryptsetup-bin"));
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Whether cryptsetup opens a volume with a passphrase.
    pub fn cryptsetup_opens(&self, name: &str, passphrase: &[u8]) -> bool {
        let key = self.file("passphrase", passphrase);
        let output = Command::new("cryptsetup")
            .args([
                "open",
                "--test-passphrase",
                "--disable-external-tokens",
                "--key-file",
            ])
            .arg(key)
            .arg(self.path(name))
            .output()
            .unwrap();
        output.status.success()
    }

    /// A new age identity: its file, and its public half.
    pub fn keeper(&self, name: &str) -> (String, String) {
        let output = Command::new("age-keygen")
            .output()
            .unwrap_or_else(|e| panic!("age-keygen: {e}: apt-get install age"));
        let identity = String::from_utf8(output.stdout).unwrap();
        let public = identity
            .lines()
            .find_map(|line| line.strip_prefix("# public key: "));
        let public = public.unwrap().to_owned();
        self.file(name, &identity);
        (name.to_owned(), public)
    }

    /// A builder's key: `NAME.pem` is its public half.
    pub fn builder(&self, name: &str) {
        let public = format!("{name}.pem");
        for arguments in [
            &["genrsa", "-out", name, "2048"][..],
            &["rsa", "-in", name, "-pubout", "-out", &public],
        ] {
            let output = Command::new("openssl")
                .current_dir(self.dir())
                .args(arguments)
                .output()
                .unwrap();
            assert!(output.status.success());
        }
    }

    /// What that builder's key approves of: the present values of PCR 11, as `systemd-measure sign` writes it.
    pub fn approve(&self, builder: &str, file: &str) {
        let pem = fs::read(self.path(&format!("{builder}.pem"))).unwrap();
        let key = tpm::PolicyKey::from_pem(&pem).unwrap();
        let pcr = domain::PcrIndex::try_from(11).unwrap();
        let pcrs = domain::PcrSelection::new(domain::HashAlg::Sha256, [pcr]).unwrap();
        let mut tpm = tpm::Tpm::open(&self.tpm.tcti().parse().unwrap()).unwrap();
        let approval = tpm::approval(&tpm.read_pcrs(&pcrs).unwrap(), false).unwrap();
        let message = self.file("message", approval.message());
        let output = Command::new("openssl")
            .current_dir(self.dir())
            .args(["dgst", "-sha256", "-sign", builder])
            .arg(message)
            .output()
            .unwrap();
        assert!(output.status.success());
        let mut signatures = tpm::PolicySignatures::default();
        signatures.add(pcrs, &key, &approval, &output.stdout);
        self.file(file, signatures.to_json().unwrap());
    }
}
