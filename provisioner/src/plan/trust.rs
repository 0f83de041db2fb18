//! Whether an endorsement key is believed, and by what.
//!
//! Owns: the tie from `ek-trust` of the manifest to the judge in `evidence`, and the words of a refusal: every reason, from
//! the outermost to the one behind it. The roots were read by `settings`; the certificates are the TPM's word.

use domain::{CertificateDigest, UnixTime};
use evidence::{
    DenyList, EkTrustPolicy, EndorsementKey, Roots,
    certificate::{EkRefused, Presented, TrustBasis, certificates_in},
};
use registry::CertifiedTpm;
use serde::Serialize;
use tpm::EkInfo;

/// What a maker certified of the TPM at hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Certified {
    /// The EK certificate.
    pub(crate) certificate: CertificateDigest,
    /// What it says, as the registry keeps it.
    pub(crate) tpm: CertifiedTpm,
    /// The same in words.
    pub(crate) words: String,
}

/// Why a TPM's certificate does not make its EK one to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uncertified {
    /// Every reason.
    pub(crate) why: String,
    /// What to do instead, where that is known.
    pub(crate) hint: Option<String>,
}

/// Judges the certificate that the TPM holds.
pub(crate) fn certified(
    ek: &EndorsementKey,
    info: &EkInfo,
    roots: &Roots,
    deny: &DenyList,
    now: UnixTime,
) -> Result<Certified, Uncertified> {
    let chain = intermediates(info);
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let presented = info.certificate.as_ref().map(|certificate| Presented {
        certificate,
        intermediates: &chain,
    });
    let policy = EkTrustPolicy::Chain {
        roots: roots.clone(),
        deny: deny.clone(),
    };
    let trusted = policy
        .judge(ek, presented, now)
        .map_err(|refused| uncertified(&refused))?;
    let TrustBasis::Chain(certificate) = trusted.basis() else {
        return Err(uncertified(&EkRefused::NoCertificate));
    };
    Ok(Certified {
        certificate: certificate.digest(),
        tpm: CertifiedTpm {
            root: certificate.root_digest(),
            maker: certificate.maker().map(|maker| short(&maker.to_string())),
            model: certificate.model().map(|model| short(&model)),
            firmware: certificate
                .firmware()
                .map(|version| version.to_string())
                .or_else(|| certificate.firmware_text())
                .map(|version| short(&version)),
        },
        words: certificate.to_string(),
    })
}

/// Certificates in the TPM's indices: whole ones in each, or one text over several. What is neither is left out: it can
/// only be missing in a chain, which is refused then.
fn intermediates(info: &EkInfo) -> Vec<Vec<u8>> {
    let each: Result<Vec<_>, _> = info.chain.iter().map(|index| certificates_in(index)).collect();
    match each {
        Ok(lists) => lists.into_iter().flatten().collect(),
        Err(_) => certificates_in(&info.chain.concat()).unwrap_or_default(),
    }
}

fn uncertified(refused: &EkRefused) -> Uncertified {
    let hint = match refused {
        EkRefused::Chain(error) => error.hint().map(|hint| hint.to_string()),
        EkRefused::NoCertificate => Some(
            "a TPM without a certificate can be named by its key: `ek-trust = { allow = [..] }`".to_owned(),
        ),
        EkRefused::OtherKey(_) => {
            Some("the certificate was copied from another TPM: do not enrol this one".to_owned())
        }
        EkRefused::Denied(_) => {
            Some("update the TPM's firmware with its maker's tool, or take another TPM".to_owned())
        }
        EkRefused::NotListed(_) => None,
    };
    let mut why = refused.to_string();
    let mut next = std::error::Error::source(refused);
    while let Some(cause) = next {
        why.push_str(": ");
        why.push_str(&cause.to_string());
        next = cause.source();
    }
    Uncertified { why, hint }
}

/// As much of a maker's text as a record keeps.
fn short(text: &str) -> String {
    const MOST: usize = 128;
    let mut kept = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if kept.len().saturating_add(c.len_utf8()) > MOST {
            break;
        }
        kept.push(c);
    }
    kept
}
