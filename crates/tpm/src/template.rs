//! The templates of the keys that this crate makes.
//!
//! Owns: EK (TCG EK Credential Profile 2.5, B.3.3 and B.3.4: templates L-1 and L-2), storage primaries (TCG Provisioning
//! Guidance 7.5.1, and systemd's own), AK, sealed object. A storage primary is a function of its template and the
//! owner seed: one changed bit here and no volume that was sealed before opens again.

use tss_esapi::{
    attributes::{ObjectAttributes, ObjectAttributesBuilder},
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        ecc::EccCurve,
        key_bits::RsaKeyBits,
    },
    structures::{
        Digest, EccParameter, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, KeyedHashScheme,
        Public, PublicBuilder, PublicEccParametersBuilder, PublicKeyRsa, PublicKeyedHashParameters,
        PublicRsaParametersBuilder, RsaExponent, RsaScheme, SymmetricDefinitionObject,
    },
};

use crate::{EkAlg, StorageTemplate, TpmError, error::Doing as _};

/// `PolicySecret(TPM_RH_ENDORSEMENT)`: PolicyA of the EK Credential Profile.
const EK_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

const DOING: &str = "build a key template";

/// The EK's template with an empty key, as `TPM2_CreatePrimary` takes it.
pub(crate) fn endorsement_key(alg: EkAlg) -> Result<Public, TpmError> {
    let attributes = storage_attributes()
        .with_admin_with_policy(true)
        .build()
        .doing(DOING)?;
    let policy = Digest::try_from(EK_POLICY.as_slice()).doing(DOING)?;
    match alg {
        EkAlg::Rsa2048 => rsa_storage(
            attributes,
            policy,
            PublicKeyRsa::new_empty_with_size(RsaKeyBits::Rsa2048),
        ),
        EkAlg::EccP256 => ecc_storage(attributes, policy, zero_point()?),
        EkAlg::EccP384 => Err(TpmError::EkUnsupported(alg)),
    }
}

/// The areas from which the storage primary of a template may have been made. The TCG's has zeros for a point; systemd 254
/// and tpm2-tools leave it empty, which gives another key.
pub(crate) fn storage_parents(parent: StorageTemplate) -> Result<Vec<Public>, TpmError> {
    let mut areas = vec![storage_parent(parent)?];
    if parent == StorageTemplate::TcgEcc {
        let attributes = storage_attributes().with_user_with_auth(true).with_no_da(true);
        areas.push(ecc_storage(
            attributes.build().doing(DOING)?,
            Digest::default(),
            EccPoint::default(),
        )?);
    }
    Ok(areas)
}

/// The template of a storage primary.
pub(crate) fn storage_parent(parent: StorageTemplate) -> Result<Public, TpmError> {
    let attributes = storage_attributes().with_user_with_auth(true);
    match parent {
        StorageTemplate::TcgEcc => {
            let attributes = attributes.with_no_da(true).build().doing(DOING)?;
            ecc_storage(attributes, Digest::default(), zero_point()?)
        }
        StorageTemplate::SystemdEcc => ecc_storage(
            attributes.build().doing(DOING)?,
            Digest::default(),
            EccPoint::default(),
        ),
        StorageTemplate::SystemdRsa => rsa_storage(
            attributes.build().doing(DOING)?,
            Digest::default(),
            PublicKeyRsa::default(),
        ),
    }
}

/// The AK: a restricted ECDSA P-256 SHA-256 signing key. noDA, because its password is empty: there is nothing to guess,
/// and a lockout of the TPM must not silence the device's attestation.
pub(crate) fn attestation_key() -> Result<Public, TpmError> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_sign_encrypt(true)
        .build()
        .doing(DOING)?;
    let parameters = PublicEccParametersBuilder::new()
        .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_curve(EccCurve::NistP256)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_is_signing_key(true)
        .with_restricted(true)
        .build()
        .doing(DOING)?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
        .doing(DOING)
}

/// A sealed object as systemd makes it: fixedTPM and fixedParent alone, so that nothing but the policy releases it.
pub(crate) fn sealed(policy: &[u8; 32]) -> Result<Public, TpmError> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .build()
        .doing(DOING)?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(Digest::try_from(policy.as_slice()).doing(DOING)?)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()
        .doing(DOING)
}

fn storage_attributes() -> ObjectAttributesBuilder {
    ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_restricted(true)
        .with_decrypt(true)
}

fn zero_point() -> Result<EccPoint, TpmError> {
    let zero = EccParameter::try_from([0; 32].as_slice()).doing(DOING)?;
    Ok(EccPoint::new(zero.clone(), zero))
}

fn ecc_storage(attributes: ObjectAttributes, policy: Digest, unique: EccPoint) -> Result<Public, TpmError> {
    let parameters = PublicEccParametersBuilder::new_restricted_decryption_key(
        SymmetricDefinitionObject::AES_128_CFB,
        EccCurve::NistP256,
    );
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(policy)
        .with_ecc_parameters(parameters.build().doing(DOING)?)
        .with_ecc_unique_identifier(unique)
        .build()
        .doing(DOING)
}

fn rsa_storage(
    attributes: ObjectAttributes,
    policy: Digest,
    unique: PublicKeyRsa,
) -> Result<Public, TpmError> {
    let parameters = PublicRsaParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::AES_128_CFB)
        .with_scheme(RsaScheme::Null)
        .with_key_bits(RsaKeyBits::Rsa2048)
        .with_exponent(RsaExponent::default())
        .with_is_decryption_key(true)
        .with_restricted(true);
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Rsa)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(policy)
        .with_rsa_parameters(parameters.build().doing(DOING)?)
        .with_rsa_unique_identifier(unique)
        .build()
        .doing(DOING)
}

#[cfg(test)]
mod tests {
    use tss_esapi::traits::Marshall as _;

    use super::*;

    #[test]
    fn the_ek_template_is_the_one_that_evidence_pins() {
        let refused = endorsement_key(EkAlg::EccP384).unwrap_err();
        assert!(matches!(refused, TpmError::EkUnsupported(EkAlg::EccP384)));
        for alg in [EkAlg::Rsa2048, EkAlg::EccP256] {
            let ours = endorsement_key(alg).unwrap().marshall().unwrap();
            assert_eq!(ours, evidence::ek::template(alg).as_bytes());
        }
    }

    #[test]
    fn a_sealed_object_has_no_other_way_in_than_its_policy() {
        let public = sealed(&[7; 32]).unwrap();
        let attributes = public.object_attributes();
        assert!(attributes.fixed_tpm() && attributes.fixed_parent());
        assert!(!attributes.user_with_auth() && !attributes.admin_with_policy() && !attributes.no_da());
        assert_eq!(public.auth_policy().value(), [7; 32]);
    }
}
