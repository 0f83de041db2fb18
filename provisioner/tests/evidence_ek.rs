//! `provisioner evidence ek` on the EK of a software TPM, certified by openssl as a maker would.
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

use std::fs;

use common::{Ran, run};
use testkit::Swtpm;

const CA: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n";
const EK: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,keyEncipherment\nextendedKeyUsage=2.23.133.8.1\n\
    authorityInfoAccess=caIssuers;URI:https://maker.example/ca.crt\nsubjectAltName=critical,dirName:tpm\n\
    [tpm]\n1.2.23.133.2.1=id:4E544300\n2.2.23.133.2.2=NPCT75x\n3.2.23.133.2.3=id:00070002\n";

/// A maker with a root and an intermediate, which certified the EK of `tpm`.
struct Maker {
    tpm: Swtpm,
}

impl Maker {
    fn new() -> Self {
        let maker = Self { tpm: Swtpm::start() };
        let dir = maker.tpm.dir();
        fs::create_dir(dir.join("roots")).unwrap();
        fs::write(dir.join("ca.ext"), CA).unwrap();
        fs::write(dir.join("ek.ext"), EK).unwrap();
        for (name, issuer) in [("root", "root"), ("ca", "root"), ("stranger", "stranger")] {
            maker.openssl(&format!(
                "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"
            ));
            maker.openssl(&format!(
                "req -new -key {name}.key -subj /CN={name} -out {name}.csr"
            ));
            let by = if name == issuer {
                format!("-signkey {issuer}.key")
            } else {
                format!("-CA {issuer}.crt -CAkey {issuer}.key")
            };
            maker.openssl(&format!(
                "x509 -req -in {name}.csr -days 3650 -extfile ca.ext {by} -set_serial 7 -out {name}.crt"
            ));
        }
        maker
            .tpm
            .tool("tpm2_createek", &["-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub"]);
        maker.tpm.tool("tpm2_flushcontext", &["-t"]);
        maker
            .tpm
            .tool("tpm2_readpublic", &["-c", "ek.ctx", "-f", "pem", "-o", "ek.pem"]);
        maker.tpm.tool("tpm2_flushcontext", &["-t"]);
        // Any request will do, the key in it is replaced by the EK's.
        maker.openssl(
            "x509 -req -in ca.csr -force_pubkey ek.pem -subj / -days 3650 -extfile ek.ext -CA ca.crt -CAkey ca.key \
             -set_serial 9 -out ek.crt",
        );
        maker.trust(&["root", "ca"]);
        maker
    }

    fn openssl(&self, arguments: &str) {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let output = self
            .tpm
            .command("openssl")
            .args(&arguments)
            .output()
            .expect("openssl, from Debian");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Makes the folder of roots hold these.
    fn trust(&self, names: &[&str]) {
        let dir = self.tpm.dir();
        fs::remove_dir_all(dir.join("roots")).unwrap();
        fs::create_dir(dir.join("roots")).unwrap();
        for name in names {
            fs::copy(
                dir.join(format!("{name}.crt")),
                dir.join(format!("roots/{name}.pem")),
            )
            .unwrap();
        }
    }

    fn ek(&self, more: &[&str]) -> Ran {
        let asked = ["evidence", "ek", "--cert", "ek.crt", "--roots", "roots"];
        run(&self.tpm.dir(), &[&asked[..], more].concat())
    }
}

#[test]
fn a_chain_to_a_root_is_shown() {
    let maker = Maker::new();
    let ran = maker.ek(&["--ek", "ek.pub"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "EK certificate  (no name)",
            "intermediate    CN=ca",
            "root            CN=root"
        ]
    );
    assert_eq!(
        lines.last(),
        Some(
            &"trusted: the endorsement key is that of Nuvoton Technology (NTC) NPCT75x, firmware 7.2, by CN=root"
        )
    );
    let alone = maker.ek(&[]);
    assert_eq!(alone.code, 0);
    assert!(
        alone
            .out
            .contains("not checked: whether a TPM at hand has this key"),
        "{}",
        alone.out
    );
    let json = maker.ek(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["verdict"], "trusted");
    assert_eq!(
        json["chain"],
        serde_json::json!(["(no name)", "CN=ca", "CN=root"])
    );
    assert_eq!((&json["roots"], &json["intermediates"]), (&1.into(), &1.into()));
}

/// Intel's and Microsoft's TPMs hold the intermediates behind the certificate; others give them as one PEM file.
#[test]
fn intermediates_may_come_with_the_certificate() {
    let maker = Maker::new();
    maker.trust(&["root"]);
    let dir = maker.tpm.dir();
    let together = [
        fs::read(dir.join("ek.crt")).unwrap(),
        fs::read(dir.join("ca.crt")).unwrap(),
    ]
    .concat();
    fs::write(dir.join("ek.crt"), together).unwrap();
    let ran = maker.ek(&["--ek", "ek.pub"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("intermediate    CN=ca\nroot            CN=root"),
        "{}",
        ran.out
    );
    // What comes along is no root.
    maker.trust(&["stranger"]);
    let all = [
        fs::read(dir.join("ek.crt")).unwrap(),
        fs::read(dir.join("root.crt")).unwrap(),
    ]
    .concat();
    fs::write(dir.join("ek.crt"), all).unwrap();
    assert_eq!(maker.ek(&[]).code, 3);
}

#[test]
fn where_a_chain_breaks_is_told() {
    let maker = Maker::new();
    maker.trust(&["root"]);
    let ran = maker.ek(&[]);
    assert_eq!((ran.code, ran.err.as_str()), (3, ""));
    assert!(
        ran.out.starts_with("refused: the chain of the EK certificate breaks at the EK certificate itself: no certificate of its issuer CN=ca"),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .contains("hint: the certificate says that its issuer's is at https://maker.example/ca.crt")
    );
    maker.trust(&["stranger", "ca"]);
    let json = maker.ek(&["--json"]);
    assert_eq!(json.code, 3);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (&json["verdict"], &json["breaks-at"]["depth"]),
        (&"refused".into(), &1.into())
    );
}

#[test]
fn a_certificate_of_another_key_is_refused_and_a_file_that_is_none_is_exit_2() {
    let maker = Maker::new();
    let other = Swtpm::start();
    other.tool("tpm2_createek", &["-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub"]);
    fs::copy(other.dir().join("ek.pub"), maker.tpm.dir().join("other.pub")).unwrap();
    let ran = maker.ek(&["--ek", "other.pub"]);
    assert_eq!(ran.code, 3);
    assert!(
        ran.out.contains("refused: the EK certificate is for the key"),
        "{}",
        ran.out
    );

    fs::write(maker.tpm.dir().join("roots/README"), "makers' roots").unwrap();
    let odd = maker.ek(&["--ek", "ek.pub"]);
    assert_eq!(odd.code, 0);
    assert!(odd.out.starts_with("left out     README: "), "{}", odd.out);

    fs::write(maker.tpm.dir().join("ek.crt"), "not it").unwrap();
    let none = maker.ek(&[]);
    assert_eq!((none.code, none.out.as_str()), (2, ""));
    assert!(none.err.contains("'ek.crt' is no EK certificate"), "{}", none.err);
    assert_eq!(maker.ek(&["--ek", "ek.crt"]).code, 2);
    fs::remove_dir_all(maker.tpm.dir().join("roots")).unwrap();
    assert_eq!(maker.ek(&[]).code, 1);
}
