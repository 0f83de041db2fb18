//! Binding: the TPM proves that endorsement key and attestation key are in it together (credential activation, TPM 2.0
//! Library part 1, 24).
//!
//! Owns: [`Bound`], which only a proof makes and without which nobody is registered. The credential is made for the
//! endorsement key rebuilt from the template and for the Name computed here, never for what the TPM says they are.
//! An attacker may answer in the TPM's place; without the endorsement key's private half they cannot open it.

use domain::{CertificateDigest, CredentialSecret, TpmName, TpmPublic};
use evidence::{EndorsementKey, ak_names, make_credential};
use tpm::{EkInfo, Identity};

use crate::{
    failure::Failure,
    observe::judge_ak,
    plan::{AkSeen, DevicePlan, Refusal, TpmTarget},
    ports::{Entropy, Tpm},
};

/// A TPM whose endorsement key and attestation key were proven to be together.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) ek: EndorsementKey,
    pub(super) ek_certificate: Option<CertificateDigest>,
    pub(super) ak_public: TpmPublic,
    pub(super) ak_qualified_name: TpmName,
    pub(super) identity: Identity,
}

/// Reads the endorsement key and insists that it is the plan's.
pub(super) fn planned_ek(
    plan: &DevicePlan,
    target: &TpmTarget,
    tpm: &mut dyn Tpm,
) -> Result<(EndorsementKey, Option<CertificateDigest>), Failure> {
    let device = &plan.device;
    let info = tpm.endorsement_key(target.ek_alg).map_err(Failure::tpm(device))?;
    let ek = EndorsementKey::new(&info.public).map_err(|source| Failure::Ek {
        device: device.clone(),
        source,
    })?;
    if ek.digest() != target.ek {
        return Err(Failure::NotBound {
            device: device.clone(),
            what: "another TPM answers than the one that was planned for",
        });
    }
    let certificate = certificate(&ek, &info);
    Ok((ek, certificate))
}

/// Lets the TPM prove it.
pub(super) fn bind(
    plan: &DevicePlan,
    target: &TpmTarget,
    tpm: &mut dyn Tpm,
    entropy: &dyn Entropy,
) -> Result<Bound, Failure> {
    let device = &plan.device;
    let handle = target.ak_handle;
    let (ek, ek_certificate) = planned_ek(plan, target, tpm)?;
    let ak = tpm.read_ak(handle).map_err(Failure::tpm(device))?;
    let ak = ak.map_or(AkSeen::Nothing, |ak| judge_ak(&ek, ak));
    let AkSeen::Good {
        public,
        qualified_name,
    } = ak
    else {
        return Err(Refusal::HandleTaken { handle }.into());
    };
    let Ok((name, _)) = ak_names(&ek, &public) else {
        return Err(Refusal::HandleTaken { handle }.into());
    };

    let secret = CredentialSecret::try_fill(|room| entropy.fill(room))?;
    let mut seed = zeroize::Zeroizing::new([0; 64]);
    entropy.fill(&mut *seed)?;
    let credential = make_credential(&ek, &name, &secret, &seed).map_err(|source| Failure::Credential {
        device: device.clone(),
        source,
    })?;
    let opened = tpm
        .activate_credential(
            target.ek_alg,
            handle,
            &credential.id_object,
            &credential.encrypted_secret,
        )
        .map_err(Failure::tpm(device))?;
    if !opened.ct_eq(&secret) {
        return Err(Failure::NotBound {
            device: device.clone(),
            what: "the TPM did not open the credential that was made for it",
        });
    }
    Ok(Bound {
        ek,
        ek_certificate,
        ak_public: public,
        ak_qualified_name: qualified_name,
        identity: tpm.identity().map_err(Failure::tpm(device))?,
    })
}

/// The certificate's digest, where it is this key's: its DER contains the key's own SubjectPublicKeyInfo. Who signed it
/// is not looked at here: where the profile asks for that, the plan has the answer.
fn certificate(ek: &EndorsementKey, info: &EkInfo) -> Option<CertificateDigest> {
    let der = info.certificate.as_ref()?;
    let spki = ek.spki_der();
    let its_own = !spki.is_empty() && der.windows(spki.len()).any(|window| window == spki);
    its_own.then(|| CertificateDigest::of(der))
}

#[cfg(test)]
mod tests {
    use evidence::{EkAlg, ek::template};

    use super::*;

    /// The generator of P-256: as good a public key as any.
    const POINT: &str = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                         4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";

    #[test]
    fn a_certificate_counts_only_when_it_is_this_keys() {
        let point = data_encoding::HEXLOWER.decode(POINT.as_bytes()).unwrap();
        let mut area = template(EkAlg::EccP256).as_bytes().to_vec();
        // The template ends with two coordinates of 32 zeros.
        area.truncate(area.len() - 2 * (2 + 32));
        for half in point.chunks(32) {
            area.extend([0, 32]);
            area.extend(half);
        }
        let public = TpmPublic::try_from(area).unwrap();
        let ek = EndorsementKey::new(&public).unwrap();
        let with = |der: Option<Vec<u8>>| {
            certificate(
                &ek,
                &EkInfo {
                    public: public.clone(),
                    certificate: der,
                    chain: Vec::new(),
                },
            )
        };
        assert_eq!(with(None), None);
        assert_eq!(with(Some(vec![0x30; 400])), None);
        let its_own = [&[0x30, 0x82][..], ek.spki_der(), &[1, 2, 3]].concat();
        assert_eq!(with(Some(its_own.clone())), Some(CertificateDigest::of(&its_own)));
    }
}
