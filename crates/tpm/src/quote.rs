//! Quotes: the TPM's signed word on its PCRs, clock and counters.
//!
//! Owns: that the PCR values handed out are the ones that the quote signs. A quote holds only their digest; values are
//! read before it and both are thrown away when a PCR moved in between.

use domain::{HashAlg, PcrSelection, PcrValues};
use sha2::{Digest as _, Sha256, Sha384};
use tss_esapi::{
    handles::KeyHandle,
    interface_types::algorithm::HashingAlgorithm,
    structures::{AttestInfo, Data, Signature, SignatureScheme},
    traits::Marshall as _,
};

use crate::{
    AkHandle, Tpm, TpmError,
    error::Doing as _,
    pcrs::{TRIES, tss_selection},
};

/// A quote with the PCR values that it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// The marshalled `TPMS_ATTEST`, as the TPM signed it.
    pub attest: Vec<u8>,
    /// The marshalled `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
    /// The PCR values whose digest the quote holds.
    pub pcrs: PcrValues,
}

impl Tpm {
    /// Quotes a selection of PCRs under the AK, bound to `qualifying_data` (32 bytes: every TPM accepts them). Starts over
    /// when a PCR is extended in between.
    ///
    /// # Errors
    /// [`TpmError::NoAk`]; [`TpmError::PcrsKeepMoving`]; [`TpmError::NoPcrBank`]; [`TpmError::Refused`].
    pub fn quote(
        &mut self,
        ak: AkHandle,
        qualifying_data: &[u8; 32],
        selection: &PcrSelection,
    ) -> Result<Quote, TpmError> {
        self.quote_between(ak, qualifying_data, selection, |_| Ok(()))
    }

    /// As [`Tpm::quote`]; `between` runs after the PCRs are read and before they are quoted.
    fn quote_between(
        &mut self,
        ak: AkHandle,
        qualifying_data: &[u8; 32],
        selection: &PcrSelection,
        mut between: impl FnMut(&mut Self) -> Result<(), TpmError>,
    ) -> Result<Quote, TpmError> {
        let quote = self.with_persistent(ak.get(), |tpm, key| {
            for _ in 0..TRIES {
                let pcrs = tpm.read_pcrs(selection)?;
                between(tpm)?;
                if let Some(quote) = tpm.quote_once(key, qualifying_data, pcrs)? {
                    return Ok(quote);
                }
            }
            Err(TpmError::PcrsKeepMoving)
        })?;
        quote.ok_or(TpmError::NoAk(ak))
    }

    /// `None` when the quote is over other values than `pcrs`.
    fn quote_once(
        &mut self,
        ak: KeyHandle,
        qualifying_data: &[u8; 32],
        pcrs: PcrValues,
    ) -> Result<Option<Quote>, TpmError> {
        let doing = "quote";
        let data = Data::try_from(qualifying_data.as_slice()).doing(doing)?;
        let selection = tss_selection(pcrs.selection())?;
        let (attest, signature) = self
            .with_password(|c| c.quote(ak, data, SignatureScheme::Null, selection))
            .doing(doing)?;
        let AttestInfo::Quote { info } = attest.attested() else {
            return Err(TpmError::Nonsense("another attestation than a quote"));
        };
        // The digest is over the values with the hash of the signature's scheme, which need not be the bank's.
        let digest = match scheme_hash(&signature)? {
            HashAlg::Sha384 => Sha384::digest(pcrs.as_bytes()).to_vec(),
            _ => Sha256::digest(pcrs.as_bytes()).to_vec(),
        };
        if info.pcr_digest().value() != digest {
            return Ok(None);
        }
        Ok(Some(Quote {
            attest: attest.marshall().doing(doing)?,
            signature: signature.marshall().doing(doing)?,
            pcrs,
        }))
    }
}

fn scheme_hash(signature: &Signature) -> Result<HashAlg, TpmError> {
    let hash = match signature {
        Signature::RsaSsa(rsa) | Signature::RsaPss(rsa) => rsa.hashing_algorithm(),
        Signature::EcDsa(ecc) => ecc.hashing_algorithm(),
        _ => return Err(TpmError::Nonsense("a signature of a scheme that we do not use")),
    };
    match hash {
        HashingAlgorithm::Sha256 => Ok(HashAlg::Sha256),
        HashingAlgorithm::Sha384 => Ok(HashAlg::Sha384),
        _ => Err(TpmError::Nonsense("a signature with a hash that we do not use")),
    }
}

#[cfg(test)]
mod tests {
    use domain::{PcrIndex, PcrValue};
    use testkit::Swtpm;

    use super::*;
    use crate::EkAlg;

    /// Quotes while PCR 7 is extended between reading and quoting, the first `times` times.
    fn quote_under_extends(times: usize) -> Result<usize, TpmError> {
        let swtpm = Swtpm::start();
        let mut tpm = Tpm::open(&swtpm.tcti().parse().unwrap()).unwrap();
        let seven = PcrIndex::try_from(7).unwrap();
        let pcrs = PcrSelection::new(HashAlg::Sha256, [seven]).unwrap();
        tpm.create_ak(EkAlg::EccP256, AkHandle::default()).unwrap();
        let mut tries = 0;
        let quote = tpm.quote_between(AkHandle::default(), &[1; 32], &pcrs, |tpm| {
            tries += 1;
            if tries > times {
                return Ok(());
            }
            tpm.extend(
                seven,
                HashAlg::Sha256,
                &PcrValue::new(HashAlg::Sha256, &[2; 32]).unwrap(),
            )
        })?;
        assert_eq!(quote.pcrs, tpm.read_pcrs(&pcrs).unwrap());
        Ok(tries)
    }

    #[test]
    fn a_quote_starts_over_when_a_pcr_moves_and_gives_up_when_it_never_rests() {
        assert_eq!(quote_under_extends(2), Ok(3));
        assert_eq!(quote_under_extends(usize::MAX), Err(TpmError::PcrsKeepMoving));
    }
}
