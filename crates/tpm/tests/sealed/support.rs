//! What several of these tests need.

use domain::{HashAlg, PcrIndex, PcrSelection, Pin, SealedSecret};
use openssl::{
    hash::MessageDigest,
    pkey::{PKey, Private},
    rsa::Rsa,
    sign::Signer,
};
use testkit::Swtpm;
use tpm::{PolicyKey, PolicySignatures, SealEntropy, Tpm, approval};

pub(crate) fn open(swtpm: &Swtpm) -> Tpm {
    Tpm::open(&swtpm.tcti().parse().unwrap()).unwrap()
}

pub(crate) fn index(number: u64) -> PcrIndex {
    PcrIndex::try_from(number).unwrap()
}

pub(crate) fn select(numbers: &[u64]) -> PcrSelection {
    PcrSelection::new(HashAlg::Sha256, numbers.iter().copied().map(index)).unwrap()
}

pub(crate) fn secret(byte: u8) -> SealedSecret {
    SealedSecret::copy_from(&[byte; 32]).unwrap()
}

pub(crate) fn pin(text: &str) -> Pin {
    Pin::parse(text.as_bytes()).unwrap()
}

pub(crate) fn entropy(byte: u8) -> SealEntropy {
    SealEntropy {
        seed: [byte; 64].into(),
        obfuscation: [byte ^ 0xff; 32].into(),
    }
}

/// Transient objects and sessions that are in the TPM, as stock tools see them.
pub(crate) fn leftovers(swtpm: &Swtpm) -> String {
    [
        "handles-transient",
        "handles-loaded-session",
        "handles-saved-session",
    ]
    .map(|kind| String::from_utf8(swtpm.tool("tpm2_getcap", &[kind]).stdout).unwrap())
    .concat()
}

/// The image builder's key, with its private half.
pub(crate) struct Builder {
    key: PKey<Private>,
    pub(crate) public: PolicyKey,
}

impl Builder {
    pub(crate) fn new(bits: u32) -> Self {
        let key = PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
        let public = PolicyKey::from_pem(&key.public_key_to_pem().unwrap()).unwrap();
        Self { key, public }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key).unwrap();
        signer.sign_oneshot_to_vec(message).unwrap()
    }

    /// Approves of the values that the TPM has now.
    pub(crate) fn approve(&self, tpm: &mut Tpm, pcrs: PcrSelection) -> PolicySignatures {
        let approval = approval(&tpm.read_pcrs(&pcrs).unwrap(), false).unwrap();
        let mut signatures = PolicySignatures::default();
        signatures.add(pcrs, &self.public, &approval, &self.sign(approval.message()));
        // Through the file, as a device gets it.
        PolicySignatures::from_json(signatures.to_json().unwrap().as_bytes()).unwrap()
    }
}
