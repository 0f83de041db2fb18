//! Reading and extending PCRs.
//!
//! Owns: that the values of one selection belong together. The TPM returns at most eight at a time; its update counter
//! tells whether something was extended between two portions.

use domain::{HashAlg, PcrIndex, PcrSelection, PcrValue, PcrValues};
use tss_esapi::{
    handles::PcrHandle,
    interface_types::algorithm::HashingAlgorithm,
    structures::{Digest, DigestValues, PcrSelectionList, PcrSelectionListBuilder, PcrSlot},
};

use crate::{Tpm, TpmError, error::Doing as _};

/// How often a moving set of PCRs is read again.
pub(crate) const TRIES: usize = 5;

impl Tpm {
    /// Reads the values of a selection, all of one moment.
    ///
    /// # Errors
    /// [`TpmError::NoPcrBank`]; [`TpmError::PcrsKeepMoving`]; [`TpmError::Refused`].
    pub fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError> {
        for _ in 0..TRIES {
            if let Some(values) = self.read_pcrs_once(selection)? {
                return Ok(values);
            }
        }
        Err(TpmError::PcrsKeepMoving)
    }

    /// Extends a PCR of one bank: its value becomes the hash of the value and `digest`.
    ///
    /// # Errors
    /// [`TpmError::Malformed`] when `digest` is of another bank; [`TpmError::Refused`].
    pub fn extend(&mut self, pcr: PcrIndex, bank: HashAlg, digest: &PcrValue) -> Result<(), TpmError> {
        let doing = "extend a PCR";
        if digest.bank() != bank {
            return Err(TpmError::Malformed("the digest (it is of another bank)"));
        }
        let mut values = DigestValues::new();
        values.set(
            hashing_algorithm(bank),
            Digest::try_from(digest.as_bytes()).doing(doing)?,
        );
        let handle = PcrHandle::try_from(u32::from(pcr.get())).doing(doing)?;
        self.with_password(|c| c.pcr_extend(handle, values)).doing(doing)
    }

    /// `None` when a PCR changed between two portions.
    fn read_pcrs_once(&mut self, selection: &PcrSelection) -> Result<Option<PcrValues>, TpmError> {
        let bank = selection.bank();
        let mut left: Vec<PcrIndex> = selection.iter().collect();
        let mut bytes = Vec::with_capacity(bank.digest_len().saturating_mul(left.len()));
        let mut counter = None;
        while !left.is_empty() {
            let list = selection_list(bank, left.iter().copied())?;
            let (now, read, digests) = self.plain(|c| c.pcr_read(list)).doing("read PCRs")?;
            if *counter.get_or_insert(now) != now {
                return Ok(None);
            }
            let read: Vec<PcrSlot> = read
                .get_selections()
                .iter()
                .flat_map(tss_esapi::structures::PcrSelection::selected)
                .collect();
            let before = left.len();
            let mut digests = digests.value().iter();
            // Both lists are ascending; what the TPM left out is asked for again.
            let mut rest = Vec::new();
            for index in left {
                if !read.contains(&slot(index)?) {
                    rest.push(index);
                    continue;
                }
                match digests.next() {
                    Some(digest) if digest.value().len() == bank.digest_len() && rest.is_empty() => {
                        bytes.extend_from_slice(digest.value());
                    }
                    Some(_) => return Err(TpmError::NoPcrBank(bank)),
                    None => return Err(TpmError::Nonsense("fewer PCR values than it says")),
                }
            }
            // A bank that is not allocated is left out without a word.
            if rest.len() == before {
                return Err(TpmError::NoPcrBank(bank));
            }
            left = rest;
        }
        PcrValues::new(*selection, bytes)
            .map(Some)
            .map_err(|_| TpmError::NoPcrBank(bank))
    }
}

/// A selection in tss-esapi's terms.
pub(crate) fn tss_selection(selection: &PcrSelection) -> Result<PcrSelectionList, TpmError> {
    selection_list(selection.bank(), selection.iter())
}

fn selection_list(
    bank: HashAlg,
    indices: impl Iterator<Item = PcrIndex>,
) -> Result<PcrSelectionList, TpmError> {
    let slots = indices.map(slot).collect::<Result<Vec<_>, _>>()?;
    PcrSelectionListBuilder::new()
        .with_selection(hashing_algorithm(bank), &slots)
        .build()
        .doing("select PCRs")
}

fn slot(index: PcrIndex) -> Result<PcrSlot, TpmError> {
    PcrSlot::try_from(1_u32 << index.get()).doing("select PCRs")
}

const fn hashing_algorithm(bank: HashAlg) -> HashingAlgorithm {
    match bank {
        HashAlg::Sha1 => HashingAlgorithm::Sha1,
        HashAlg::Sha256 => HashingAlgorithm::Sha256,
        HashAlg::Sha384 => HashingAlgorithm::Sha384,
    }
}
