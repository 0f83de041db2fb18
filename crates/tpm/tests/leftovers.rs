//! What killed clients leave in a TPM without a resource manager does not stop the next one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use domain::{HashAlg, PcrIndex, PcrSelection, SealedSecret};
use testkit::Swtpm;
use tpm::{EkAlg, Tpm};

/// `TPM2_StartAuthSession`, unsalted and unbound, as a client does it that dies before it flushes.
fn leave_a_session(swtpm: &Swtpm, kind: u8) {
    let tcti = swtpm.tcti();
    let (_, port) = tcti.rsplit_once("port=").unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
    let mut body = vec![0, 0, 1, 0x76, 0x40, 0, 0, 7, 0x40, 0, 0, 7, 0, 16];
    body.extend([0xa5; 16]);
    body.extend([0, 0, kind, 0, 0x10, 0, 0x0b]);
    let mut command = vec![0x80, 1];
    command.extend(u32::try_from(body.len() + 6).unwrap().to_be_bytes());
    command.extend(body);
    stream.write_all(&command).unwrap();
    let mut head = [0; 10];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[6..], [0; 4], "the TPM refused");
}

fn handles(swtpm: &Swtpm, which: &str) -> String {
    let listed = swtpm.tool("tpm2_getcap", &[which]);
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn leftovers_of_killed_clients_do_not_stop_the_next() {
    let swtpm = Swtpm::start();
    swtpm.extend(7, b"measured");
    // Objects first: the tools use sessions of their own.
    for _ in 0..3 {
        swtpm.tool("tpm2_createprimary", &["-C", "o", "-G", "ecc"]);
    }
    for kind in [0, 1, 3] {
        leave_a_session(&swtpm, kind);
    }
    assert_eq!(handles(&swtpm, "handles-transient").lines().count(), 3);
    assert_eq!(handles(&swtpm, "handles-loaded-session").lines().count(), 3);

    let mut tpm = Tpm::open(&swtpm.tcti().parse().unwrap()).unwrap();
    tpm.endorsement_key(EkAlg::EccP256).unwrap();
    let seven = PcrSelection::new(HashAlg::Sha256, [PcrIndex::try_from(7).unwrap()]).unwrap();
    let secret = SealedSecret::copy_from(&[1; 32]).unwrap();
    tpm.seal(&secret, &seven, false).unwrap();
    drop(tpm);
    assert_eq!(handles(&swtpm, "handles-transient"), "");
    assert_eq!(handles(&swtpm, "handles-loaded-session"), "");
}

#[test]
fn files_of_tpm2_tools_outlive_our_opening() {
    let swtpm = Swtpm::start();
    let file = |name: &str| swtpm.dir().join(name).display().to_string();
    let (session, key) = (file("session.ctx"), file("key.ctx"));
    swtpm.tool("tpm2_createprimary", &["-C", "o", "-G", "ecc", "-c", &key]);
    swtpm.tool("tpm2_startauthsession", &["--policy-session", "-S", &session]);
    assert_eq!(handles(&swtpm, "handles-saved-session").lines().count(), 1);
    drop(Tpm::open(&swtpm.tcti().parse().unwrap()).unwrap());
    swtpm.tool("tpm2_policypcr", &["-S", &session, "-l", "sha256:7"]);
    swtpm.tool("tpm2_readpublic", &["-c", &key]);
}
