//! Evidence as a whole, and the keys and certificates that enrolment looks at.

use std::sync::LazyLock;

use domain::{HashAlg, TpmName, TpmPublic, UnixTime};
use evidence::{
    AttestationKey, EndorsementKey, Evidence, Expected, PcrPolicy, ak_names, appraise,
    certificate::{Roots, TlsCertificate, certificates_in, verify_ek_certificate},
};

use crate::vector::Vector;

struct Good {
    ak: AttestationKey,
    policy: PcrPolicy,
    qualifying_data: [u8; 32],
    quote: Vec<u8>,
    pcrs: Vec<u8>,
}

/// Its key made this one quote and no other.
static GOOD: LazyLock<Good> = LazyLock::new(|| {
    let vector = Vector::read(include_str!(
        "../../crates/evidence/vectors/accepted-ecdsa-p256.json"
    ));
    Good {
        ak: vector.ak(),
        policy: vector.policy(),
        qualifying_data: vector.bytes("/qualifying_data").try_into().expect("32 octets"),
        quote: vector.bytes("/quote"),
        pcrs: vector.bytes("/pcrs"),
    }
});

/// Two lengths, then quote, signature and PCR values: accepted only if quote and values are the ones that were signed.
pub fn evidence(data: &[u8]) {
    let Some(([a, b], rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let Some((quote, rest)) = rest.split_at_checked(usize::from(*a)) else {
        return;
    };
    let Some((signature, pcrs)) = rest.split_at_checked(usize::from(*b)) else {
        return;
    };
    let good = &*GOOD;
    let expected = Expected {
        ak: &good.ak,
        qualifying_data: &good.qualifying_data,
        last: None,
        policy: &good.policy,
    };
    let evidence = Evidence {
        quote,
        signature,
        pcrs,
    };
    match appraise(evidence, &expected) {
        Ok(attested) => {
            assert_eq!((quote, pcrs), (&good.quote[..], &good.pcrs[..]));
            assert_eq!(attested.ak_name(), good.ak.name());
        }
        Err(rejected) => {
            assert!(!rejected.failures().is_empty());
            assert!(!rejected.to_string().is_empty());
        }
    }
}

/// A public area shown at enrolment, as an AK and as an EK.
pub fn keys(data: &[u8]) {
    let Ok(public) = TpmPublic::try_from(data.to_vec()) else {
        return;
    };
    let mut qualified = HashAlg::Sha256.tpm_id().to_be_bytes().to_vec();
    qualified.extend([7; 32]);
    let qualified = TpmName::try_from(qualified).expect("a name");
    if let Ok(ak) = AttestationKey::new(&public, &qualified) {
        assert_eq!(ak.qualified_name(), &qualified);
    }
    if let Ok(ek) = EndorsementKey::new(&public) {
        assert_eq!(ek.public(), &public);
        // An EK decrypts, so it never attests.
        assert!(AttestationKey::new(&public, &qualified).is_err());
        let _names = ak_names(&ek, &public);
    }
}

/// The root that signed the one good certificate among the seeds.
const ROOT: &[u8] = include_bytes!("../certificates/root.der");
const EK: &[u8] = include_bytes!("../certificates/ek.der");

/// A file of an operator's folder, and the certificate of an EK: only the good one chains to the root, whatever comes
/// along with it.
pub fn certificates(data: &[u8]) {
    let now = UnixTime::from_secs(1_800_000_000);
    let list = certificates_in(data).unwrap_or_default();
    for der in list.iter().map(Vec::as_slice).chain([data]) {
        if let Ok(certificate) = TlsCertificate::read(der) {
            assert!(!certificate.subject().contains(char::is_control));
            let _fit = certificate.for_clients();
            let _ended = certificate.has_ended(now);
        }
    }
    // Its own root, if it is one.
    let own = Roots::read([("fuzz", data)]);
    let _verdict = verify_ek_certificate(data, &[data], &own, now);
    let roots = Roots::read([("root", ROOT)]);
    if let Ok(certificate) = verify_ek_certificate(data, &[data], &roots, now) {
        let good = verify_ek_certificate(EK, &[], &roots, now).expect("the good certificate");
        assert_eq!(certificate.spki_der(), good.spki_der());
    }
}
