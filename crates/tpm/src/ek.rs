//! The endorsement key.
//!
//! Owns: making it from the TCG template (it is a primary, the same each time), authorizing its use by policy, and
//! reading the manufacturer's certificate. Judging either is the business of `evidence`.

use domain::TpmPublic;
use tss_esapi::{
    constants::{PropertyTag, SessionType},
    handles::{AuthHandle, KeyHandle, NvIndexHandle, NvIndexTpmHandle, TpmHandle},
    interface_types::{
        resource_handles::{Hierarchy, NvAuth},
        session_handles::{AuthSession, PolicySession},
    },
    structures::{Digest, Nonce, Public},
    traits::Marshall as _,
};

use crate::{EkAlg, Tpm, TpmError, error::Doing as _, template};

/// Where the TCG EK Credential Profile has the certificates between the EK's and the root's.
const FIRST_OF_CHAIN: u32 = 0x01c0_0100;
const LAST_OF_CHAIN: u32 = 0x01c0_01ff;
/// How many indices of it are read: real chains have two certificates or three.
const MAX_CHAIN: u32 = 16;

/// The endorsement key as the TPM shows it. Unverified: the TPM's word, or that of whoever answers in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EkInfo {
    /// The marshalled `TPMT_PUBLIC`.
    pub public: TpmPublic,
    /// The manufacturer's certificate, X.509 in DER, where the TPM has one (TCG EK Credential Profile 2.2.1.4).
    pub certificate: Option<Vec<u8>>,
    /// What the TPM holds of the chain above it, one entry for each NV index, as it is: certificates one after
    /// the other, which may go on in the next index.
    pub chain: Vec<Vec<u8>>,
}

impl Tpm {
    /// Makes the EK from its template, reads its public area and its certificate.
    ///
    /// # Errors
    /// [`TpmError::Refused`]: the endorsement hierarchy is disabled or has a password, or the TPM lacks the algorithm.
    pub fn endorsement_key(&mut self, alg: EkAlg) -> Result<EkInfo, TpmError> {
        let public = self.with_ek(alg, |_, _, public| marshalled(public))?;
        Ok(EkInfo {
            public,
            certificate: self.ek_certificate(alg)?,
            chain: self.ek_chain()?,
        })
    }

    /// Loads the EK for `f` and flushes it.
    pub(crate) fn with_ek<T>(
        &mut self,
        alg: EkAlg,
        f: impl FnOnce(&mut Self, KeyHandle, &Public) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let template = template::endorsement_key(alg)?;
        let ek = self
            .with_password(|c| c.create_primary(Hierarchy::Endorsement, template, None, None, None, None))
            .doing("make the endorsement key")?;
        self.flush_after(ek.key_handle.into(), |tpm| f(tpm, ek.key_handle, &ek.out_public))
    }

    /// Opens a policy session salted by the EK that fulfils the EK's policy for one use, and runs `f` with it. The TPM
    /// resets the policy after each use, so every use has its own.
    pub(crate) fn with_ek_policy<T>(
        &mut self,
        ek: KeyHandle,
        f: impl FnOnce(&mut Self, AuthSession) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        self.with_salted_session(ek, SessionType::Policy, |tpm, session| {
            let policy = PolicySession::try_from(session).doing("use a policy session")?;
            tpm.with_password(|c| {
                c.policy_secret(
                    policy,
                    AuthHandle::Endorsement,
                    Nonce::default(),
                    Digest::default(),
                    Nonce::default(),
                    None,
                )
            })
            .doing("authorize the use of the endorsement key")?;
            f(tpm, session)
        })
    }

    fn ek_certificate(&mut self, alg: EkAlg) -> Result<Option<Vec<u8>>, TpmError> {
        let number = match alg {
            EkAlg::Rsa2048 => 0x01c0_0002,
            EkAlg::EccP256 => 0x01c0_000a,
            EkAlg::EccP384 => 0x01c0_0016,
        };
        if !self.exists(number)? {
            return Ok(None);
        }
        self.read_number(number).map(|padded| Some(unpad(padded)))
    }

    /// The indices that the profile reserves for the certificates between the EK's and the root's.
    fn ek_chain(&mut self) -> Result<Vec<Vec<u8>>, TpmError> {
        let mut chain = Vec::new();
        for number in self.handles(FIRST_OF_CHAIN, MAX_CHAIN)? {
            if number <= LAST_OF_CHAIN {
                chain.push(self.read_number(number)?);
            }
        }
        Ok(chain)
    }

    fn read_number(&mut self, number: u32) -> Result<Vec<u8>, TpmError> {
        let doing = "read the endorsement key's certificate";
        let index = NvIndexTpmHandle::new(number).doing(doing)?;
        let mut object = self
            .plain(|c| c.tr_from_tpm_public(TpmHandle::NvIndex(index)))
            .doing(doing)?;
        let read = self.read_index(object.into());
        let closed = self.context.tr_close(&mut object).doing(doing);
        let content = read?;
        closed?;
        Ok(content)
    }

    /// Reads an NV index whole, in portions that the TPM takes, with the index's own (empty) password.
    fn read_index(&mut self, index: NvIndexHandle) -> Result<Vec<u8>, TpmError> {
        let doing = "read the endorsement key's certificate";
        let (public, _) = self.plain(|c| c.nv_read_public(index)).doing(doing)?;
        let most = self
            .context
            .get_tpm_property(PropertyTag::NvBufferMax)
            .doing(doing)?
            .unwrap_or(0);
        // Every TPM takes 512 bytes; tpm2-tss has room for 2048.
        let most = usize::try_from(most).unwrap_or(0).clamp(512, 2048);
        let mut content = Vec::with_capacity(public.data_size());
        while content.len() < public.data_size() {
            let left = public.data_size().saturating_sub(content.len()).min(most);
            let (Ok(size), Ok(offset)) = (u16::try_from(left), u16::try_from(content.len())) else {
                return Err(TpmError::Nonsense("an index of that size"));
            };
            let part = self
                .with_password(|c| c.nv_read(NvAuth::NvIndex(index), index, size, offset))
                .doing(doing)?;
            if part.is_empty() {
                return Err(TpmError::Nonsense("an index that ends early"));
            }
            content.extend_from_slice(part.value());
        }
        Ok(content)
    }
}

pub(crate) fn marshalled(public: &Public) -> Result<TpmPublic, TpmError> {
    let bytes = public.marshall().doing("read a public area")?;
    TpmPublic::try_from(bytes).map_err(|_| TpmError::Nonsense("a public area of that size"))
}

/// NV indices are often larger than the certificate in them: cuts behind the DER SEQUENCE. Anything else stays as it is,
/// for the parser of certificates to refuse.
fn unpad(mut padded: Vec<u8>) -> Vec<u8> {
    let length = match padded.as_slice() {
        [0x30, 0x81, len, ..] => Some(usize::from(*len).saturating_add(3)),
        [0x30, 0x82, high, low, ..] => Some(usize::from(u16::from_be_bytes([*high, *low])).saturating_add(4)),
        [0x30, len @ 0..=0x7f, ..] => Some(usize::from(*len).saturating_add(2)),
        _ => None,
    };
    if let Some(length) = length {
        padded.truncate(length);
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_behind_a_certificate_is_cut_and_other_bytes_are_not() {
        assert_eq!(unpad(vec![0x30, 2, 5, 0, 0xff, 0xff]), [0x30, 2, 5, 0]);
        assert_eq!(unpad(vec![0x30, 0x81, 1, 9, 0]), [0x30, 0x81, 1, 9]);
        assert_eq!(unpad(vec![0x30, 0x82, 0, 1, 9, 0]), [0x30, 0x82, 0, 1, 9]);
        assert_eq!(
            unpad(vec![0x30, 0x82, 0xff, 0xff, 9]),
            [0x30, 0x82, 0xff, 0xff, 9]
        );
        assert_eq!(unpad(vec![1, 2, 3]), [1, 2, 3]);
        assert!(unpad(vec![]).is_empty());
    }
}
