//! RSAPSS with the longest salt, as older TPMs sign: made by openssl, accepted; every other length and any damage refused.

use std::{fs, path::Path, process::Command};

use crate::forge::{AK_ATTRIBUTES, Forge, QUALIFYING_DATA, area, digest_of, rsa};
use domain::{HashAlg, TpmName};
use evidence::{
    AttestationKey, Attested, Evidence, Expected, Failure, Rejected, appraise,
    wire::{Curve, Scheme, Signature, SignatureAlg},
};

/// A key that openssl made, and a quote that names it as its signer.
struct OpensslKey {
    dir: tempfile::TempDir,
    modulus: Vec<u8>,
    ak: AttestationKey,
    hash: HashAlg,
    alg: SignatureAlg,
}

pub(crate) fn openssl(dir: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    let output = command.current_dir(dir).args(arguments).output();
    let output = output.expect("openssl cannot run: apt-get install openssl");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

impl OpensslKey {
    fn new(bits: u16, alg: SignatureAlg, hash: HashAlg, qualified_name: &TpmName) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("rsa_keygen_bits:{bits}");
        openssl(
            dir.path(),
            &["genpkey", "-algorithm", "RSA", "-pkeyopt", &size, "-out", "key"],
        );
        let modulus = openssl(dir.path(), &["rsa", "-in", "key", "-noout", "-modulus"]);
        let modulus = String::from_utf8(modulus).unwrap();
        let digits = modulus.trim().strip_prefix("Modulus=").unwrap();
        let modulus = data_encoding::HEXUPPER.decode(digits.as_bytes()).unwrap();
        let public = area(AK_ATTRIBUTES, rsa(alg, hash, bits, 0, &modulus));
        let ak = AttestationKey::new(&public, qualified_name).unwrap();
        Self {
            dir,
            modulus,
            ak,
            hash,
            alg,
        }
    }

    /// Signs by PSS, whatever the AK's scheme says.
    fn sign(&self, message: &[u8], salt: &str) -> Vec<u8> {
        let dir = self.dir.path();
        fs::write(dir.join("digest"), digest_of(self.hash, message)).unwrap();
        let digest = format!("digest:{}", self.hash);
        let salt = format!("rsa_pss_saltlen:{salt}");
        let arguments = [
            "pkeyutl",
            "-sign",
            "-inkey",
            "key",
            "-in",
            "digest",
            "-pkeyopt",
            &digest,
            "-pkeyopt",
            "rsa_padding_mode:pss",
            "-pkeyopt",
            &salt,
        ];
        let bytes = openssl(dir, &arguments);
        self.signature(&bytes)
    }

    /// The number whose power `signature` is, or the power of a number: no padding is looked at.
    fn bare_rsa(&self, operation: &str, number: &[u8]) -> Vec<u8> {
        let dir = self.dir.path();
        fs::write(dir.join("number"), number).unwrap();
        let padding = ["-pkeyopt", "rsa_padding_mode:none"];
        let arguments = ["pkeyutl", operation, "-inkey", "key", "-in", "number"];
        openssl(dir, &[&arguments[..], &padding].concat())
    }

    fn signature(&self, bytes: &[u8]) -> Vec<u8> {
        let scheme = Scheme {
            alg: self.alg,
            hash: self.hash,
        };
        Signature::Rsa { scheme, bytes }.encode()
    }
}

/// The forge's evidence, its quote digested by the key's hash, judged with the key's signature.
fn judge(
    forge: &Forge,
    key: &OpensslKey,
    signature: &dyn Fn(&[u8]) -> Vec<u8>,
) -> Result<Attested, Rejected> {
    let mut case = forge.case();
    case.digest = Some(digest_of(key.hash, &case.pcrs));
    let quote = case.quote();
    let signature = signature(&quote);
    let evidence = Evidence {
        quote: &quote,
        signature: &signature,
        pcrs: &case.pcrs,
    };
    let expected = Expected {
        ak: &key.ak,
        qualifying_data: &QUALIFYING_DATA,
        last: None,
        policy: &case.policy,
    };
    appraise(evidence, &expected)
}

fn is_forged(found: &Result<Attested, Rejected>) -> bool {
    let failures = found.as_ref().err().map(Rejected::failures);
    matches!(failures, Some([Failure::Forged { .. }]))
}

#[test]
fn the_longest_salt_and_the_hashs_length_are_good_and_no_other() {
    let forge = Forge::new(Curve::P256);
    for (bits, hash) in [(2048, HashAlg::Sha256), (3072, HashAlg::Sha384)] {
        let key = OpensslKey::new(bits, SignatureAlg::Rsapss, hash, &forge.qualified_name);
        for salt in ["max", "digest"] {
            let found = judge(&forge, &key, &|quote| key.sign(quote, salt));
            assert!(found.is_ok(), "{bits} {salt}: {}", found.unwrap_err());
        }
        let longest = usize::from(bits) / 8 - hash.digest_len() - 2;
        for salt in [0, 20, hash.digest_len() + 1, longest - 1] {
            let found = judge(&forge, &key, &|quote| key.sign(quote, &salt.to_string()));
            assert!(is_forged(&found), "{bits} {salt}");
        }
    }
}

#[test]
fn a_long_salt_covers_the_message() {
    let forge = Forge::new(Curve::P256);
    let key = OpensslKey::new(2048, SignatureAlg::Rsapss, HashAlg::Sha256, &forge.qualified_name);
    let found = judge(&forge, &key, &|_| key.sign(b"another quote", "max"));
    assert!(is_forged(&found));
    let other = OpensslKey::new(2048, SignatureAlg::Rsapss, HashAlg::Sha256, &forge.qualified_name);
    let found = judge(&forge, &key, &|quote| other.sign(quote, "max"));
    assert!(is_forged(&found));
}

#[test]
fn no_damage_to_a_long_salted_signature_is_accepted() {
    let forge = Forge::new(Curve::P256);
    let key = OpensslKey::new(2048, SignatureAlg::Rsapss, HashAlg::Sha256, &forge.qualified_name);
    let good = key.sign(&quote_of(&forge), "max");
    // sigAlg, hash and size come before the number.
    let number = &good[6..];
    for at in [0, 1, 100, 254, 255] {
        let mut spoilt = number.to_vec();
        spoilt[at] ^= 1;
        assert!(
            is_forged(&judge(&forge, &key, &|_| key.signature(&spoilt))),
            "{at}"
        );
    }
    let longer = [&[0], number].concat();
    for wrong in [&[0xff; 256][..], &[0; 256], &number[1..], &longer, &[1]] {
        assert!(is_forged(&judge(&forge, &key, &|_| key.signature(wrong))));
    }
}

#[test]
fn every_bit_around_a_long_salt_is_looked_at() {
    let forge = Forge::new(Curve::P256);
    let key = OpensslKey::new(2048, SignatureAlg::Rsapss, HashAlg::Sha256, &forge.qualified_name);
    let is_good = |block: &[u8]| {
        let signature = key.bare_rsa("-decrypt", block);
        let found = judge(&forge, &key, &|_| key.signature(&signature));
        assert!(found.is_ok() || is_forged(&found));
        found.is_ok()
    };
    let quote = quote_of(&forge);
    // Salt is random: one whose block is below the modulus with its first bit too.
    let block = loop {
        let block = key.bare_rsa("-verifyrecover", &key.sign(&quote, "max")[6..]);
        if block[0] | 0x80 < key.modulus[0] {
            break block;
        }
    };
    assert!(is_good(&block));
    for (at, bit) in [
        (0, 0x80),
        (0, 0x40),
        (0, 1),
        (1, 1),
        (222, 1),
        (223, 1),
        (254, 1),
        (255, 1),
    ] {
        let mut spoilt = block.clone();
        spoilt[at] ^= bit;
        assert!(
            spoilt >= key.modulus || !is_good(&spoilt),
            "bit {bit:#x} of octet {at}"
        );
    }
}

fn quote_of(forge: &Forge) -> Vec<u8> {
    forge.case().quote()
}

#[test]
fn an_rsassa_key_takes_no_pss_under_its_own_scheme() {
    let forge = Forge::new(Curve::P256);
    let key = OpensslKey::new(2048, SignatureAlg::Rsassa, HashAlg::Sha256, &forge.qualified_name);
    for salt in ["max", "digest"] {
        assert!(is_forged(&judge(&forge, &key, &|quote| key.sign(quote, salt))));
    }
}
