//! Which public areas may attest or endorse, and which may not.

use crate::forge::{AK_ATTRIBUTES, Forge, area, digest_of, ecdsa, rsa};
use domain::{EkDigest, HashAlg, TpmName, TpmPublic};
use evidence::{
    AkError, AttestationKey, EkAlg, EkError, EndorsementKey, ak_names, ek,
    wire::{Attributes, Curve, Parameters, ParseError, Public, Scheme, SignatureAlg, Symmetric},
};

fn name(alg: HashAlg, len: usize) -> TpmName {
    let mut bytes = alg.tpm_id().to_be_bytes().to_vec();
    bytes.resize(2 + len, 0x9a);
    TpmName::try_from(bytes).unwrap()
}

fn ak(public: &TpmPublic) -> Result<AttestationKey, AkError> {
    AttestationKey::new(public, &name(HashAlg::Sha256, 32))
}

fn p256_ak(attributes: u32) -> Result<AttestationKey, AkError> {
    let parameters = ecdsa(Curve::P256, Some(HashAlg::Sha256), &[1; 32], &[2; 32]);
    ak(&area(attributes, parameters))
}

#[test]
fn an_ak_knows_its_names() {
    let forge = Forge::new(Curve::P256);
    let ak = forge.ak();
    let digest = digest_of(HashAlg::Sha256, forge.public.as_bytes());
    assert_eq!(ak.name().as_bytes(), [&[0, 0x0b][..], &digest].concat());
    assert_eq!(ak.qualified_name(), &forge.qualified_name);
    assert_eq!(ak.scheme().to_string(), "ECDSA with sha256");
}

/// Field note 2: each attribute that an AK must have.
#[test]
fn a_key_that_lacks_an_attribute_never_attests() {
    assert!(p256_ak(AK_ATTRIBUTES).is_ok());
    for needed in [
        Attributes::FIXED_TPM,
        Attributes::FIXED_PARENT,
        Attributes::SENSITIVE_DATA_ORIGIN,
        Attributes::RESTRICTED,
        Attributes::SIGN,
    ] {
        let found = p256_ak(AK_ATTRIBUTES & !needed.0);
        assert_eq!(found.unwrap_err(), AkError::Lacks(needed), "{needed}");
    }
    let error = p256_ak(0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the key is not a safe attestation key: it lacks fixedTPM|fixedParent|sensitiveDataOrigin|restricted|sign"
    );
}

#[test]
fn a_key_that_decrypts_never_attests() {
    let found = p256_ak(AK_ATTRIBUTES | Attributes::DECRYPT.0);
    assert_eq!(found.unwrap_err(), AkError::Decrypts);
}

#[test]
fn unknown_attribute_bits_are_refused_and_the_known_ones_are_not() {
    for bit in (0..32).map(|n| 1_u32 << n) {
        let found = p256_ak(AK_ATTRIBUTES | bit);
        match Attributes(bit) {
            Attributes::DECRYPT => assert_eq!(found.unwrap_err(), AkError::Decrypts),
            known if known.unnamed() == 0 => assert!(found.is_ok(), "{known}"),
            _ => assert_eq!(found.unwrap_err(), AkError::UnknownAttributes(bit)),
        }
    }
}

#[test]
fn a_key_without_a_scheme_never_attests() {
    let parameters = ecdsa(Curve::P256, None, &[1; 32], &[2; 32]);
    assert_eq!(
        ak(&area(AK_ATTRIBUTES, parameters)).unwrap_err(),
        AkError::NoScheme
    );
}

#[test]
fn a_signing_key_with_a_cipher_is_refused() {
    let parameters = Parameters::Ecc {
        symmetric: Symmetric::AesCfb { key_bits: 128 },
        scheme: Some(Scheme {
            alg: SignatureAlg::Ecdsa,
            hash: HashAlg::Sha256,
        }),
        curve: Curve::P256,
        x: &[1; 32],
        y: &[2; 32],
    };
    assert!(matches!(
        ak(&area(AK_ATTRIBUTES, parameters)),
        Err(AkError::Key(_))
    ));
}

#[test]
fn curve_and_hash_go_together() {
    use HashAlg::{Sha1, Sha256, Sha384};
    for (curve, hash, good) in [
        (Curve::P256, Sha256, true),
        (Curve::P384, Sha384, true),
        (Curve::P256, Sha1, false),
        (Curve::P256, Sha384, false),
        (Curve::P384, Sha256, false),
    ] {
        let coordinate = vec![1; curve.coordinate_len()];
        let found = ak(&area(
            AK_ATTRIBUTES,
            ecdsa(curve, Some(hash), &coordinate, &coordinate),
        ));
        if good {
            assert_eq!(found.unwrap().scheme().hash, hash);
        } else {
            assert!(matches!(found, Err(AkError::Algorithm(_))), "{curve:?} {hash}");
        }
    }
}

#[test]
fn rsa_keys_have_2048_or_3072_bits_and_a_good_hash() {
    use SignatureAlg::{Rsapss, Rsassa};
    for alg in [Rsassa, Rsapss] {
        for (hash, bits, good) in [
            (HashAlg::Sha256, 2048, true),
            (HashAlg::Sha384, 2048, true),
            (HashAlg::Sha256, 3072, true),
            (HashAlg::Sha384, 3072, true),
            (HashAlg::Sha1, 2048, false),
            (HashAlg::Sha256, 1024, false),
            (HashAlg::Sha256, 4096, false),
        ] {
            let modulus = vec![0xc1; usize::from(bits) / 8];
            for exponent in [0, 65_537] {
                let found = ak(&area(AK_ATTRIBUTES, rsa(alg, hash, bits, exponent, &modulus)));
                if good {
                    assert_eq!(found.unwrap().scheme(), Scheme { alg, hash });
                } else {
                    assert!(
                        matches!(found, Err(AkError::Algorithm(_))),
                        "{alg:?} {hash} {bits}"
                    );
                }
            }
        }
    }
}

#[test]
fn other_rsa_exponents_are_refused() {
    for exponent in [1, 3, 65_539] {
        let parameters = rsa(
            SignatureAlg::Rsassa,
            HashAlg::Sha256,
            2048,
            exponent,
            &[0xc1; 256],
        );
        let found = ak(&area(AK_ATTRIBUTES, parameters)).unwrap_err();
        assert_eq!(found, AkError::Algorithm(format!("RSA exponent {exponent}")));
    }
}

#[test]
fn the_modulus_is_odd_and_as_long_as_it_says() {
    let mut short = [0xc1; 256];
    short[0] = 0x7f;
    let even = [0xc0; 256];
    for modulus in [&[0xc1; 255][..], &[0xc1; 257], &[0xc1; 384], &short, &even, &[]] {
        let parameters = rsa(SignatureAlg::Rsassa, HashAlg::Sha256, 2048, 0, modulus);
        assert!(matches!(
            ak(&area(AK_ATTRIBUTES, parameters)),
            Err(AkError::Key(_))
        ));
    }
}

#[test]
fn coordinates_fit_the_curve() {
    let long = [1; 33];
    for (x, y) in [(&long[..], &[2; 32][..]), (&[1; 32], &long)] {
        let parameters = ecdsa(Curve::P256, Some(HashAlg::Sha256), x, y);
        assert!(matches!(
            ak(&area(AK_ATTRIBUTES, parameters)),
            Err(AkError::Key(_))
        ));
    }
}

#[test]
fn the_qualified_name_is_of_the_keys_kind() {
    let public = Forge::new(Curve::P256).public;
    for other in [
        name(HashAlg::Sha384, 48),
        name(HashAlg::Sha256, 31),
        name(HashAlg::Sha384, 32),
        name(HashAlg::Sha256, 0),
    ] {
        assert_eq!(
            AttestationKey::new(&public, &other).unwrap_err(),
            AkError::QualifiedName(HashAlg::Sha256)
        );
    }
}

#[test]
fn a_sha1_name_is_no_name_for_an_ak() {
    let public = Public {
        name_alg: HashAlg::Sha1,
        attributes: Attributes(AK_ATTRIBUTES),
        auth_policy: &[],
        parameters: ecdsa(Curve::P256, Some(HashAlg::Sha256), &[1; 32], &[2; 32]),
    };
    let public = TpmPublic::try_from(public.encode()).unwrap();
    let found = AttestationKey::new(&public, &name(HashAlg::Sha1, 20));
    assert!(matches!(found, Err(AkError::Algorithm(_))));
}

#[test]
fn what_is_no_public_area_is_told() {
    let bytes = TpmPublic::try_from(vec![0, 1, 0]).unwrap();
    let truncated = ParseError::Truncated { field: "nameAlg" };
    assert_eq!(ak(&bytes).unwrap_err(), AkError::Malformed(truncated));
    assert_eq!(
        EndorsementKey::new(&bytes).unwrap_err(),
        EkError::Malformed(truncated)
    );
    let good = EndorsementKey::new(&p256_ek()).unwrap();
    assert_eq!(ak_names(&good, &bytes), Err(truncated));
}

/// The base point of P-256 (SEC 2, 2.4.2): a public key whose private key is 1.
const G: (&str, &str) = (
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
);

fn p256_ek() -> TpmPublic {
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    let mut bytes = ek::template(EkAlg::EccP256).as_bytes().to_vec();
    let x = bytes.len() - 66;
    bytes[x..x + 32].copy_from_slice(&hex(G.0));
    bytes[x + 34..].copy_from_slice(&hex(G.1));
    TpmPublic::try_from(bytes).unwrap()
}

/// The base point of P-384 (SEC 2, 2.5.1).
const G384: (&str, &str) = (
    "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7",
    "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
);

fn p384_ek() -> TpmPublic {
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    // The template ends with two empty coordinates.
    let template = ek::template(EkAlg::EccP384);
    let head = template.as_bytes().strip_suffix(&[0; 4]).unwrap();
    let bytes = [head, &[0, 48], &hex(G384.0), &[0, 48], &hex(G384.1)].concat();
    TpmPublic::try_from(bytes).unwrap()
}

fn rsa_ek() -> TpmPublic {
    let mut bytes = ek::template(EkAlg::Rsa2048).as_bytes().to_vec();
    let modulus = bytes.len() - 256;
    bytes[modulus..].fill(0xc1);
    TpmPublic::try_from(bytes).unwrap()
}

/// TCG EK Credential Profile, B.3.3, B.3.4 and the H-3 of B.4, spelt out.
#[test]
fn the_templates_are_the_tcgs() {
    let policy = "0020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
    let hex = |public: &TpmPublic| data_encoding::HEXLOWER.encode(public.as_bytes());
    assert_eq!(
        hex(&ek::template(EkAlg::Rsa2048)),
        format!(
            "0001000b000300b2{policy}0006008000430010080000000000{}{}",
            "0100",
            "00".repeat(256)
        )
    );
    assert_eq!(
        hex(&ek::template(EkAlg::EccP256)),
        format!(
            "0023000b000300b2{policy}000600800043001000030010{0}{0}",
            format!("0020{}", "00".repeat(32))
        )
    );
    let policy =
        "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12";
    assert_eq!(
        hex(&ek::template(EkAlg::EccP384)),
        format!("0023000c000300f20030{policy}000601000043001000040010") + "00000000"
    );
}

#[test]
fn an_ek_is_known_by_its_key() {
    for (public, alg, len, name_alg) in [
        (p256_ek(), EkAlg::EccP256, 91, HashAlg::Sha256),
        (rsa_ek(), EkAlg::Rsa2048, 294, HashAlg::Sha256),
        (p384_ek(), EkAlg::EccP384, 120, HashAlg::Sha384),
    ] {
        let key = EndorsementKey::new(&public).unwrap();
        assert_eq!(key.alg(), alg);
        assert_eq!(key.public(), &public);
        assert_eq!(key.spki_der().len(), len);
        assert_eq!(key.digest(), EkDigest::of(key.spki_der()));
        let digest = digest_of(name_alg, public.as_bytes());
        let id = name_alg.tpm_id().to_be_bytes();
        assert_eq!(key.name().as_bytes(), [&id[..], &digest].concat());
    }
}

/// Field note 18: one flipped bit outside the key gives another Name for the same key, and would still activate.
#[test]
fn no_bit_of_the_template_may_be_flipped() {
    for (public, key_len) in [(p256_ek(), 68), (rsa_ek(), 256), (p384_ek(), 100)] {
        let bytes = public.as_bytes();
        for at in 0..bytes.len() - key_len {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1 << bit;
                let flipped = TpmPublic::try_from(flipped).unwrap();
                assert!(EndorsementKey::new(&flipped).is_err(), "byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn each_field_beside_the_key_is_pinned() {
    for (public, alg) in [
        (p256_ek(), EkAlg::EccP256),
        (rsa_ek(), EkAlg::Rsa2048),
        (p384_ek(), EkAlg::EccP384),
    ] {
        let with = |change: &dyn Fn(&mut Public<'_>)| {
            let mut area = Public::parse(public.as_bytes()).unwrap();
            change(&mut area);
            let found = EndorsementKey::new(&TpmPublic::try_from(area.encode()).unwrap());
            found.unwrap_err()
        };
        let pinned = EkError::NotTheTemplate(alg);
        assert_eq!(with(&|p| p.attributes.0 ^= Attributes::USER_WITH_AUTH.0), pinned);
        assert_eq!(with(&|p| p.auth_policy = &[]), pinned);
        let zeros: &[u8] = if alg == EkAlg::EccP384 { &[0; 48] } else { &[0; 32] };
        assert_eq!(with(&|p| p.auth_policy = zeros), pinned);
        let longer = |p: &mut Public<'_>| match &mut p.parameters {
            Parameters::Rsa { symmetric, .. } | Parameters::Ecc { symmetric, .. } => {
                *symmetric = Symmetric::AesCfb { key_bits: 192 };
            }
        };
        assert_eq!(with(&longer), pinned);
        // 65537 may be written out elsewhere, not in the template.
        let exponent = |p: &mut Public<'_>| {
            if let Parameters::Rsa { exponent, .. } = &mut p.parameters {
                *exponent = 65_537;
            } else {
                p.attributes.0 ^= 2;
            }
        };
        assert_eq!(with(&exponent), pinned);
    }
}

#[test]
fn an_ek_has_a_valid_key() {
    let template = |alg| EndorsementKey::new(&ek::template(alg)).unwrap_err();
    assert_eq!(template(EkAlg::Rsa2048), EkError::Key(EkAlg::Rsa2048));
    assert_eq!(template(EkAlg::EccP256), EkError::Key(EkAlg::EccP256));
    assert_eq!(template(EkAlg::EccP384), EkError::Key(EkAlg::EccP384));

    let mut even = rsa_ek().as_bytes().to_vec();
    *even.last_mut().unwrap() = 0xc0;
    let even = TpmPublic::try_from(even).unwrap();
    assert_eq!(
        EndorsementKey::new(&even).unwrap_err(),
        EkError::Key(EkAlg::Rsa2048)
    );

    for (public, alg) in [(p256_ek(), EkAlg::EccP256), (p384_ek(), EkAlg::EccP384)] {
        let mut off_curve = public.as_bytes().to_vec();
        *off_curve.last_mut().unwrap() ^= 1;
        let off_curve = TpmPublic::try_from(off_curve).unwrap();
        assert_eq!(EndorsementKey::new(&off_curve).unwrap_err(), EkError::Key(alg));
    }
    // Coordinates of the other curve's length.
    for (curve, alg, len) in [
        (Curve::P384, EkAlg::EccP384, 32),
        (Curve::P256, EkAlg::EccP256, 48),
    ] {
        let other = area(0x0003_00b2, ecdsa(curve, None, &vec![1; len], &vec![2; len]));
        assert_eq!(EndorsementKey::new(&other).unwrap_err(), EkError::Key(alg));
    }
}

#[test]
fn names_follow_from_parent_and_area() {
    let key = EndorsementKey::new(&p256_ek()).unwrap();
    let forge = Forge::new(Curve::P256);
    let (name, qualified) = ak_names(&key, &forge.public).unwrap();
    assert_eq!(&name, forge.ak().name());
    let hash = |parts: &[&[u8]]| {
        let digest = digest_of(HashAlg::Sha256, &parts.concat());
        [&[0, 0x0b][..], &digest].concat()
    };
    let ek_qualified = hash(&[&[0x40, 0, 0, 0x0b], key.name().as_bytes()]);
    assert_eq!(qualified.as_bytes(), hash(&[&ek_qualified, name.as_bytes()]));
    let other = EndorsementKey::new(&rsa_ek()).unwrap();
    assert_ne!(ak_names(&other, &forge.public).unwrap().1, qualified);
}

#[test]
fn debug_output_is_short() {
    let forge = Forge::new(Curve::P256);
    assert!(format!("{:?}", forge.ak()).starts_with("AttestationKey(ECDSA with sha256, TpmName(000b"));
    let key = EndorsementKey::new(&rsa_ek()).unwrap();
    assert_eq!(
        format!("{key:?}"),
        format!("EndorsementKey(RSA-2048, {})", key.digest())
    );
}
