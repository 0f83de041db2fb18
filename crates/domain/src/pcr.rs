//! Platform Configuration Registers: banks, indices, selections and values (TPM 2.0 Library part 1, 17).
//!
//! Owns: which selections exist at all: one bank, at least one PCR, no duplicates, index 0 to 23 (the PC Client
//! profile has 24). What a value should be is a policy's business.

use std::{fmt, str::FromStr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// PCRs of the PC Client Platform TPM Profile.
pub const PCR_COUNT: u8 = 24;

/// A hash algorithm of a PCR bank or a signature scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlg {
    /// Parsed, and refused by policy unless a policy names it.
    Sha1,
    /// The default everywhere.
    Sha256,
    /// For P-384 keys and longer banks.
    Sha384,
}

impl HashAlg {
    /// Length of a digest in bytes.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }

    /// `TPM_ALG_ID` (TCG Algorithm Registry).
    #[must_use]
    pub const fn tpm_id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
        }
    }

    /// The algorithm of a `TPM_ALG_ID`, if it is one of ours.
    #[must_use]
    pub const fn from_tpm_id(id: u16) -> Option<Self> {
        match id {
            0x0004 => Some(Self::Sha1),
            0x000b => Some(Self::Sha256),
            0x000c => Some(Self::Sha384),
            _ => None,
        }
    }

    /// The name that tpm2-tools, systemd and our own files use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
        }
    }
}

impl fmt::Display for HashAlg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a PCR index, selection or value was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPcr {
    /// The index is above 23.
    #[error("PCR {0} does not exist, PCRs are 0 to 23")]
    Index(u64),
    /// No PCR is selected.
    #[error("no PCR is selected, at least one is needed")]
    EmptySelection,
    /// A PCR is named twice.
    #[error("PCR {0} is selected twice")]
    Duplicate(u8),
    /// A digest of another length than the bank's.
    #[error("a {bank} PCR value has {expected} bytes, not {found}")]
    Length {
        /// The bank.
        bank: HashAlg,
        /// Bytes that a value of the bank has, or all values of the selection.
        expected: usize,
        /// Bytes that were there.
        found: usize,
    },
    /// Not hexadecimal text.
    #[error("a PCR value is hexadecimal digits")]
    NotHex,
}

/// The number of a PCR, 0 to 23.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u8")]
pub struct PcrIndex(u8);

impl PcrIndex {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// PCRs that software can reset at will (16 debug, 23 application): never part of an identity.
    #[must_use]
    pub const fn is_resettable(self) -> bool {
        matches!(self.0, 16 | 23)
    }
}

impl TryFrom<u64> for PcrIndex {
    type Error = InvalidPcr;

    fn try_from(index: u64) -> Result<Self, InvalidPcr> {
        match u8::try_from(index) {
            Ok(small) if small < PCR_COUNT => Ok(Self(small)),
            _ => Err(InvalidPcr::Index(index)),
        }
    }
}

impl From<PcrIndex> for u8 {
    fn from(index: PcrIndex) -> u8 {
        index.0
    }
}

impl fmt::Display for PcrIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One bank and at least one PCR of it. Iterates in ascending index, the order in which a TPM hashes them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PcrSelection {
    bank: HashAlg,
    bitmap: [u8; 3],
}

impl PcrSelection {
    /// Selects `indices` of `bank`.
    ///
    /// # Errors
    /// No index at all, or one twice.
    pub fn new(bank: HashAlg, indices: impl IntoIterator<Item = PcrIndex>) -> Result<Self, InvalidPcr> {
        let mut bits = 0_u32;
        for index in indices {
            let bit = 1_u32 << index.get();
            if bits & bit != 0 {
                return Err(InvalidPcr::Duplicate(index.get()));
            }
            bits |= bit;
        }
        let [a, b, c, _] = bits.to_le_bytes();
        Self::from_bitmap(bank, [a, b, c])
    }

    /// Selects by the `pcrSelect` octets of a `TPMS_PCR_SELECTION` (bit 0 of octet 0 is PCR 0).
    ///
    /// # Errors
    /// No bit is set.
    pub const fn from_bitmap(bank: HashAlg, bitmap: [u8; 3]) -> Result<Self, InvalidPcr> {
        match bitmap {
            [0, 0, 0] => Err(InvalidPcr::EmptySelection),
            _ => Ok(Self { bank, bitmap }),
        }
    }

    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> HashAlg {
        self.bank
    }

    /// The `pcrSelect` octets.
    #[must_use]
    pub const fn bitmap(&self) -> [u8; 3] {
        self.bitmap
    }

    /// Whether `index` is selected.
    #[must_use]
    pub const fn contains(&self, index: PcrIndex) -> bool {
        self.bits() & (1 << index.get()) != 0
    }

    /// Whether every PCR of `other` is selected here too, in the same bank.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.bank == other.bank && self.bits() & other.bits() == other.bits()
    }

    /// The selected indices, ascending.
    pub fn iter(&self) -> impl Iterator<Item = PcrIndex> + use<> {
        let bits = self.bits();
        (0..PCR_COUNT).filter(move |i| bits & (1 << i) != 0).map(PcrIndex)
    }

    /// How many PCRs are selected, at least 1.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.bits().count_ones() as usize
    }

    const fn bits(&self) -> u32 {
        let [a, b, c] = self.bitmap;
        u32::from_le_bytes([a, b, c, 0])
    }
}

/// `sha256:7,11`, as tpm2-tools write it.
impl fmt::Display for PcrSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.bank)?;
        for (nth, index) in self.iter().enumerate() {
            if nth > 0 {
                f.write_str(",")?;
            }
            fmt::Display::fmt(&index, f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for PcrSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PcrSelection({self})")
    }
}

/// The value of one PCR: a digest of its bank's length. Kept in place, without a heap.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PcrValue {
    bank: HashAlg,
    bytes: [u8; 48],
}

impl PcrValue {
    /// Takes a digest of the bank's length.
    ///
    /// # Errors
    /// Another length.
    pub fn new(bank: HashAlg, value: &[u8]) -> Result<Self, InvalidPcr> {
        let mut bytes = [0; 48];
        match bytes.get_mut(..value.len()) {
            Some(room) if value.len() == bank.digest_len() => room.copy_from_slice(value),
            _ => {
                return Err(InvalidPcr::Length {
                    bank,
                    expected: bank.digest_len(),
                    found: value.len(),
                });
            }
        }
        Ok(Self { bank, bytes })
    }

    /// Reads hexadecimal text, in either case, with or without `0x`.
    ///
    /// # Errors
    /// Not hexadecimal, or another length than the bank's.
    pub fn from_hex(bank: HashAlg, text: &str) -> Result<Self, InvalidPcr> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let value = HEXLOWER_PERMISSIVE
            .decode(digits.as_bytes())
            .map_err(|_| InvalidPcr::NotHex)?;
        Self::new(bank, &value)
    }

    /// The bank that the value is of.
    #[must_use]
    pub const fn bank(&self) -> HashAlg {
        self.bank
    }

    /// The digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.bank.digest_len()).unwrap_or(&self.bytes)
    }

    /// All zero or all ones: what a PCR holds that nothing has measured into. Sealing to it protects nothing.
    #[must_use]
    pub fn is_uninitialised(&self) -> bool {
        let bytes = self.as_bytes();
        bytes.iter().all(|b| *b == 0) || bytes.iter().all(|b| *b == 0xff)
    }
}

impl fmt::Display for PcrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(self.as_bytes()))
    }
}

impl fmt::Debug for PcrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PcrValue({}:{self})", self.bank)
    }
}

impl Serialize for PcrValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a value whose bank is told by its length: 20, 32 or 48 bytes.
impl<'de> Deserialize<'de> for PcrValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl FromStr for PcrValue {
    type Err = InvalidPcr;

    fn from_str(text: &str) -> Result<Self, InvalidPcr> {
        let bank = match text.strip_prefix("0x").unwrap_or(text).len() {
            40 => HashAlg::Sha1,
            96 => HashAlg::Sha384,
            _ => HashAlg::Sha256,
        };
        Self::from_hex(bank, text)
    }
}

/// The values of a selection, ascending by index, concatenated: what `TPM-Quote-PCRs` carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrValues {
    selection: PcrSelection,
    bytes: Box<[u8]>,
}

impl PcrValues {
    /// Takes the concatenated values of `selection`.
    ///
    /// # Errors
    /// Another number of bytes than the selection has.
    pub fn new(selection: PcrSelection, bytes: Vec<u8>) -> Result<Self, InvalidPcr> {
        let bank = selection.bank();
        let expected = bank.digest_len().saturating_mul(selection.count());
        if bytes.len() != expected {
            return Err(InvalidPcr::Length {
                bank,
                expected,
                found: bytes.len(),
            });
        }
        Ok(Self {
            selection,
            bytes: bytes.into(),
        })
    }

    /// Which PCRs these are.
    #[must_use]
    pub const fn selection(&self) -> &PcrSelection {
        &self.selection
    }

    /// The concatenation, ascending by index.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Each index with its value, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (PcrIndex, PcrValue)> + '_ {
        let bank = self.selection.bank();
        let values = self
            .bytes
            .chunks_exact(bank.digest_len())
            .filter_map(move |v| PcrValue::new(bank, v).ok());
        self.selection.iter().zip(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(list: &[u64]) -> Vec<PcrIndex> {
        list.iter().map(|i| PcrIndex::try_from(*i).unwrap()).collect()
    }

    #[test]
    fn indices_stop_at_23() {
        assert_eq!(PcrIndex::try_from(23).unwrap().get(), 23);
        assert_eq!(PcrIndex::try_from(24), Err(InvalidPcr::Index(24)));
        assert_eq!(PcrIndex::try_from(256), Err(InvalidPcr::Index(256)));
        assert!(PcrIndex::try_from(16).unwrap().is_resettable());
        assert!(!PcrIndex::try_from(7).unwrap().is_resettable());
    }

    #[test]
    fn selections_are_never_empty_nor_doubled() {
        assert_eq!(
            PcrSelection::new(HashAlg::Sha256, []),
            Err(InvalidPcr::EmptySelection)
        );
        assert_eq!(
            PcrSelection::new(HashAlg::Sha256, indices(&[7, 7])),
            Err(InvalidPcr::Duplicate(7))
        );
        assert_eq!(
            PcrSelection::from_bitmap(HashAlg::Sha256, [0; 3]),
            Err(InvalidPcr::EmptySelection)
        );
    }

    #[test]
    fn selections_are_in_the_tpm_bit_order() {
        let sel = PcrSelection::new(HashAlg::Sha256, indices(&[11, 7, 23])).unwrap();
        assert_eq!(sel.bitmap(), [0x80, 0x08, 0x80]);
        assert_eq!(sel.to_string(), "sha256:7,11,23");
        assert_eq!(sel.count(), 3);
        let seven = PcrSelection::new(HashAlg::Sha256, indices(&[7])).unwrap();
        assert!(sel.covers(&seven));
        assert!(!seven.covers(&sel));
        assert!(!sel.covers(&PcrSelection::new(HashAlg::Sha384, indices(&[7])).unwrap()));
    }

    #[test]
    fn values_have_their_banks_length() {
        assert!(PcrValue::new(HashAlg::Sha256, &[1; 32]).is_ok());
        assert!(PcrValue::new(HashAlg::Sha256, &[1; 48]).is_err());
        assert!(PcrValue::new(HashAlg::Sha384, &[1; 49]).is_err());
        assert!(PcrValue::from_hex(HashAlg::Sha1, "zz").is_err());
        let v = PcrValue::from_hex(HashAlg::Sha256, &format!("0x{}", "Ab".repeat(32))).unwrap();
        assert_eq!(v.to_string(), "ab".repeat(32));
        assert_eq!(
            "ab".repeat(48).parse::<PcrValue>().unwrap().bank(),
            HashAlg::Sha384
        );
    }

    #[test]
    fn untouched_pcrs_are_told() {
        assert!(
            PcrValue::new(HashAlg::Sha256, &[0; 32])
                .unwrap()
                .is_uninitialised()
        );
        assert!(
            PcrValue::new(HashAlg::Sha256, &[0xff; 32])
                .unwrap()
                .is_uninitialised()
        );
        let mut one = [0; 32];
        one[31] = 1;
        assert!(!PcrValue::new(HashAlg::Sha256, &one).unwrap().is_uninitialised());
    }

    #[test]
    fn value_lists_fit_their_selection() {
        let sel = PcrSelection::new(HashAlg::Sha256, indices(&[7, 11])).unwrap();
        assert!(PcrValues::new(sel, vec![0; 63]).is_err());
        let mut bytes = vec![1; 32];
        bytes.extend([2; 32]);
        let values = PcrValues::new(sel, bytes).unwrap();
        let list: Vec<_> = values.iter().map(|(i, v)| (i.get(), v.as_bytes()[0])).collect();
        assert_eq!(list, [(7, 1), (11, 2)]);
    }
}
