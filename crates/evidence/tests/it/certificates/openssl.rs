//! Certificates by the openssl command line, in a folder of their own.

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;

/// The extensions of a CA.
pub const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
    subjectKeyIdentifier=hash\n";
/// The extensions of an EK certificate, as the profile has them. openssl takes the first number of a name's line for its
/// place in the name.
pub const EK: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,keyEncipherment\n\
    extendedKeyUsage=2.23.133.8.1\nauthorityKeyIdentifier=keyid\nsubjectAltName=critical,dirName:tpm\n\
    authorityInfoAccess=caIssuers;URI:https://maker.example/ca.crt\n\
    [tpm]\n1.2.23.133.2.1=id:4E544300\n2.2.23.133.2.2=NPCT75x\n3.2.23.133.2.3=id:00070002\n";

pub struct Workshop {
    dir: TempDir,
}

impl Workshop {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Makes `NAME.key`: `RSA:2048`, `RSA-PSS:2048`, `EC:P-256`.
    pub fn key(&self, name: &str, kind: &str) {
        let (algorithm, size) = kind.split_once(':').unwrap();
        let option = match algorithm {
            "EC" => format!("ec_paramgen_curve:{size}"),
            _ => format!("rsa_keygen_bits:{size}"),
        };
        let out = format!("{name}.key");
        self.run(&[
            "genpkey",
            "-algorithm",
            algorithm,
            "-pkeyopt",
            &option,
            "-out",
            &out,
        ]);
    }

    /// A certificate for the key of `name`, by that of `issuer` (itself: self-signed). `options` such as `-sha384`.
    pub fn certify(
        &self,
        name: &str,
        subject: &str,
        issuer: &str,
        extensions: &str,
        options: &[&str],
    ) -> Vec<u8> {
        fs::write(self.path(&format!("{name}.ext")), extensions).unwrap();
        let file = |end: &str| format!("{name}.{end}");
        self.run(&[
            "req",
            "-new",
            "-key",
            &file("key"),
            "-subj",
            subject,
            "-out",
            &file("csr"),
        ]);
        let issuer_key = format!("{issuer}.key");
        let issuer_crt = format!("{issuer}.crt");
        let (csr, ext, crt) = (file("csr"), file("ext"), file("crt"));
        let mut arguments = vec![
            "x509",
            "-req",
            "-in",
            &csr,
            "-days",
            "3650",
            "-set_serial",
            "77",
            "-extfile",
            &ext,
        ];
        if name == issuer {
            arguments.extend(["-signkey", &issuer_key]);
        } else {
            arguments.extend(["-CA", &issuer_crt, "-CAkey", &issuer_key]);
        }
        arguments.extend(options);
        arguments.extend(["-out", &crt]);
        self.run(&arguments);
        fs::read(self.path(&crt)).unwrap()
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn run(&self, arguments: &[&str]) {
        let output = Command::new("openssl")
            .current_dir(self.dir.path())
            .args(arguments)
            .output()
            .expect("openssl cannot run: apt-get install openssl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments:?}: {said}");
    }
}
