//! A TPM for tests: quotes as a real one would make them, by a key that the test holds.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code, of which each test binary uses its own part"
)]

use std::collections::BTreeMap;

use domain::{
    DeviceId, EkDigest, HashAlg, PcrIndex, PcrSelection, PcrValue, Psk, PskDigest, TpmName, TpmPublic,
    UnixTime,
};
use evidence::{
    DeclaredPolicy,
    wire::{
        Attest, Attested, Attributes, ClockInfo, Curve, Parameters, PcrSelections, Public, Scheme, Signature,
        SignatureAlg, Symmetric,
    },
};
use registry::{DeviceRecord, DeviceState, EkTrust, PolicyRecord, PskSlots, TpmIdentity, Version1};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};

/// 2026-01-01T00:00:00Z, where every test's clock begins.
pub const START: UnixTime = UnixTime::from_secs(1_767_225_600);

/// An AK and the state of the machine around it.
pub struct Tpm {
    key: EcdsaKeyPair,
    pub public: TpmPublic,
    pub qualified_name: TpmName,
    pub clock: ClockInfo,
    pub pcrs: BTreeMap<PcrIndex, PcrValue>,
}

/// What travels as evidence.
#[derive(Clone)]
pub struct Bytes {
    pub quote: Vec<u8>,
    pub signature: Vec<u8>,
    pub pcrs: Vec<u8>,
}

impl Tpm {
    pub fn new() -> Self {
        let rng = SystemRandom::new();
        let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(signing, &rng).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(signing, document.as_ref(), &rng).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let public = Public {
            name_alg: HashAlg::Sha256,
            attributes: Attributes(0x0005_0072),
            auth_policy: &[],
            parameters: Parameters::Ecc {
                symmetric: Symmetric::Null,
                scheme: Some(Scheme {
                    alg: SignatureAlg::Ecdsa,
                    hash: HashAlg::Sha256,
                }),
                curve: Curve::P256,
                x,
                y,
            },
        };
        let public = TpmPublic::try_from(public.encode()).unwrap();
        let mut qualified_name = HashAlg::Sha256.tpm_id().to_be_bytes().to_vec();
        qualified_name.extend(digest::digest(&digest::SHA256, public.as_bytes()).as_ref());
        Self {
            key,
            public,
            qualified_name: TpmName::try_from(qualified_name).unwrap(),
            clock: ClockInfo {
                clock: 5000,
                reset_count: 3,
                restart_count: 2,
                safe: true,
            },
            pcrs: good_pcrs(),
        }
    }

    /// Quotes all of [`Tpm::pcrs`]; time passes.
    pub fn quote(&mut self, qualifying_data: &[u8; 32]) -> Bytes {
        self.clock.clock += 100;
        let values: Vec<u8> = self.pcrs.values().flat_map(|v| v.as_bytes().to_vec()).collect();
        let selection = PcrSelection::new(HashAlg::Sha256, self.pcrs.keys().copied()).unwrap();
        let selection = PcrSelections::encode_single(&selection);
        let quote = Attest {
            qualified_signer: self.qualified_name.as_bytes(),
            extra_data: qualifying_data,
            clock: self.clock,
            firmware_version: 0x2024_0001,
            attested: Attested::Quote {
                selection: PcrSelections::parse(&selection).unwrap(),
                digest: digest::digest(&digest::SHA256, &values).as_ref(),
            },
        }
        .encode();
        let signature = self.key.sign(&SystemRandom::new(), &quote).unwrap();
        let (r, s) = signature.as_ref().split_at(32);
        let signature = Signature::Ecdsa {
            hash: HashAlg::Sha256,
            r,
            s,
        }
        .encode();
        Bytes {
            quote,
            signature,
            pcrs: values,
        }
    }

    /// Somebody measures something into PCR 11.
    pub fn extend(&mut self) {
        self.pcrs
            .insert(index(11), PcrValue::new(HashAlg::Sha256, &[0xee; 32]).unwrap());
    }

    pub fn identity(&self) -> TpmIdentity {
        TpmIdentity {
            ek: EkDigest::of(self.public.as_bytes()),
            ek_certificate: None,
            ek_certified: None,
            ek_trust: EkTrust::FirstUse,
            ak_public: self.public.clone(),
            ak_qualified_name: self.qualified_name.clone(),
            manufacturer: "TEST".into(),
            firmware_version: 0x2024_0001,
        }
    }
}

pub fn index(i: u64) -> PcrIndex {
    PcrIndex::try_from(i).unwrap()
}

/// PCR 7 and 11, as the policy wants them.
pub fn good_pcrs() -> BTreeMap<PcrIndex, PcrValue> {
    [(7, 0x77), (11, 0xbb)]
        .map(|(i, fill)| (index(i), PcrValue::new(HashAlg::Sha256, &[fill; 32]).unwrap()))
        .into()
}

/// The PSK of a device: its text.
pub fn psk_text(id: &str) -> String {
    let mut entropy = [0; 32];
    entropy[..id.len()].copy_from_slice(id.as_bytes());
    Psk::generate(&entropy).expose(|text| String::from_utf8(text.to_vec()).unwrap())
}

/// An active device under `policy`.
pub fn device(id: &str, policy: &str, tpm: Option<&Tpm>) -> DeviceRecord {
    DeviceRecord {
        version: Version1,
        device: id.parse::<DeviceId>().unwrap(),
        state: DeviceState::Active,
        policy: policy.parse().unwrap(),
        profile: "test".parse().unwrap(),
        psk: PskSlots::only(PskDigest::of(psk_text(id).as_bytes())),
        client_certificate: None,
        tpm: tpm.map(Tpm::identity),
        measured_boot: false,
        volume_key: None,
        wireguard: None,
        generation: 1,
        enrolled_at: START,
    }
}

/// A policy that wants the good PCRs, or nothing but the PSK.
pub fn policy(evidence: bool) -> PolicyRecord {
    PolicyRecord {
        version: Version1,
        revision: 1,
        models: vec!["smollm2:135m".parse().unwrap()],
        endpoints: None,
        options: domain::OptionRules::default(),
        limits: domain::Limits::default(),
        client_certificate: None,
        session_ttl: 600,
        evidence: evidence.then(|| DeclaredPolicy::exact(HashAlg::Sha256, good_pcrs()).unwrap()),
    }
}
