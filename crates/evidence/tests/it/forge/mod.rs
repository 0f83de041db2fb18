//! A forge for tests: quotes as a TPM would make them, from keys that `ring` makes, and every way to spoil them.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

pub mod boot;
pub mod log;

use std::collections::BTreeMap;

use domain::{HashAlg, PcrIndex, PcrValue, TpmName, TpmPublic};
use evidence::{
    Attachments, AttestationKey, Attested, Counters, Evidence, Expected, PcrPolicy, Rejected, appraise,
    appraise_with,
    wire::{
        self, Attributes, ClockInfo, Curve, Parameters, Public, Scheme, Signature, SignatureAlg, Symmetric,
    },
};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    },
};

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign: what tpm2_createak makes.
pub const AK_ATTRIBUTES: u32 = 0x0005_0072;
pub const QUALIFYING_DATA: [u8; 32] = [0x51; 32];

/// An AK whose private half the test holds.
pub struct Forge {
    key: EcdsaKeyPair,
    curve: Curve,
    hash: HashAlg,
    pub public: TpmPublic,
    pub qualified_name: TpmName,
}

impl Forge {
    pub fn new(curve: Curve) -> Self {
        let (signing, hash) = match curve {
            Curve::P256 => (&ECDSA_P256_SHA256_FIXED_SIGNING, HashAlg::Sha256),
            Curve::P384 => (&ECDSA_P384_SHA384_FIXED_SIGNING, HashAlg::Sha384),
        };
        let rng = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(signing, &rng).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(signing, document.as_ref(), &rng).unwrap();
        let point = key.public_key().as_ref();
        let (x, y) = point[1..].split_at(curve.coordinate_len());
        let public = area(AK_ATTRIBUTES, ecdsa(curve, Some(hash), x, y));
        let mut qualified_name = HashAlg::Sha256.tpm_id().to_be_bytes().to_vec();
        qualified_name.extend([0x9a; 32]);
        Self {
            key,
            curve,
            hash,
            public,
            qualified_name: TpmName::try_from(qualified_name).unwrap(),
        }
    }

    pub fn ak(&self) -> AttestationKey {
        AttestationKey::new(&self.public, &self.qualified_name).unwrap()
    }

    /// A `TPMT_SIGNATURE` over `message`.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.key.sign(&SystemRandom::new(), message).unwrap();
        let (r, s) = signature.as_ref().split_at(self.curve.coordinate_len());
        let hash = self.hash;
        Signature::Ecdsa { hash, r, s }.encode()
    }

    /// A whole piece of evidence that [`Case::expected`] accepts.
    pub fn case(&self) -> Case<'_> {
        let values = values();
        let pcrs: Vec<u8> = values.values().flat_map(|v| v.as_bytes().to_vec()).collect();
        let policy = PcrPolicy::exact(HashAlg::Sha256, values).unwrap();
        Case {
            forge: self,
            ak: self.ak(),
            qualified_signer: self.qualified_name.as_bytes().to_vec(),
            extra_data: QUALIFYING_DATA.to_vec(),
            clock: ClockInfo {
                clock: 5000,
                reset_count: 3,
                restart_count: 2,
                safe: true,
            },
            selection: wire::PcrSelections::encode_single(&policy.selection()),
            digest: None,
            pcrs,
            policy,
            last: None,
        }
    }
}

/// Evidence for `policy` from a device whose PCRs are these.
pub fn case_of<'f>(forge: &'f Forge, policy: PcrPolicy, pcrs: Vec<u8>) -> Case<'f> {
    let mut case = forge.case();
    case.selection = wire::PcrSelections::encode_single(&policy.selection());
    case.policy = policy;
    case.pcrs = pcrs;
    case
}

/// PCR 7 and 11 of the SHA-256 bank.
pub fn values() -> BTreeMap<PcrIndex, PcrValue> {
    [(7, 0x77), (11, 0xbb)]
        .map(|(i, fill)| (index(i), PcrValue::new(HashAlg::Sha256, &[fill; 32]).unwrap()))
        .into()
}

pub fn index(i: u64) -> PcrIndex {
    PcrIndex::try_from(i).unwrap()
}

/// Evidence to be spoiled, and what is expected of it.
pub struct Case<'f> {
    forge: &'f Forge,
    ak: AttestationKey,
    pub qualified_signer: Vec<u8>,
    pub extra_data: Vec<u8>,
    pub clock: ClockInfo,
    pub selection: Vec<u8>,
    /// `None`: the true digest of `pcrs`.
    pub digest: Option<Vec<u8>>,
    pub pcrs: Vec<u8>,
    pub policy: PcrPolicy,
    pub last: Option<Counters>,
}

impl Case<'_> {
    pub fn quote(&self) -> Vec<u8> {
        let digest = self
            .digest
            .clone()
            .unwrap_or_else(|| digest_of(self.forge.hash, &self.pcrs));
        self.statement(wire::Attested::Quote {
            selection: wire::PcrSelections::parse(&self.selection).unwrap(),
            digest: &digest,
        })
    }

    pub fn statement(&self, attested: wire::Attested<'_>) -> Vec<u8> {
        wire::Attest {
            qualified_signer: &self.qualified_signer,
            extra_data: &self.extra_data,
            clock: self.clock,
            firmware_version: 0x2024_0001,
            attested,
        }
        .encode()
    }

    pub fn expected(&self) -> Expected<'_> {
        Expected {
            ak: &self.ak,
            qualifying_data: &QUALIFYING_DATA,
            last: self.last.as_ref(),
            policy: &self.policy,
        }
    }

    /// Quotes, signs and appraises.
    pub fn judge(&self) -> Result<Attested, Rejected> {
        let quote = self.quote();
        self.judge_signed(&quote, &self.forge.sign(&quote))
    }

    /// The same with something attached.
    pub fn judge_with(&self, attachments: Attachments<'_>) -> Result<Attested, Rejected> {
        let quote = self.quote();
        let evidence = Evidence {
            quote: &quote,
            signature: &self.forge.sign(&quote),
            pcrs: &self.pcrs,
        };
        appraise_with(evidence, &self.expected(), attachments)
    }

    pub fn judge_signed(&self, quote: &[u8], signature: &[u8]) -> Result<Attested, Rejected> {
        let evidence = Evidence {
            quote,
            signature,
            pcrs: &self.pcrs,
        };
        appraise(evidence, &self.expected())
    }
}

pub fn digest_of(hash: HashAlg, bytes: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        HashAlg::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        HashAlg::Sha256 => &digest::SHA256,
        HashAlg::Sha384 => &digest::SHA384,
    };
    digest::digest(algorithm, bytes).as_ref().to_vec()
}

/// A public area with a SHA-256 Name and no policy.
pub fn area(attributes: u32, parameters: Parameters<'_>) -> TpmPublic {
    let public = Public {
        name_alg: HashAlg::Sha256,
        attributes: Attributes(attributes),
        auth_policy: &[],
        parameters,
    };
    TpmPublic::try_from(public.encode()).unwrap()
}

pub fn ecdsa<'a>(curve: Curve, hash: Option<HashAlg>, x: &'a [u8], y: &'a [u8]) -> Parameters<'a> {
    let alg = SignatureAlg::Ecdsa;
    Parameters::Ecc {
        symmetric: Symmetric::Null,
        scheme: hash.map(|hash| Scheme { alg, hash }),
        curve,
        x,
        y,
    }
}

pub fn rsa(alg: SignatureAlg, hash: HashAlg, key_bits: u16, exponent: u32, modulus: &[u8]) -> Parameters<'_> {
    Parameters::Rsa {
        symmetric: Symmetric::Null,
        scheme: Some(Scheme { alg, hash }),
        key_bits,
        exponent,
        modulus,
    }
}
