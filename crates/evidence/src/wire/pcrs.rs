//! `TPML_PCR_SELECTION` (10.9.7): which PCRs of which banks.
//!
//! Owns: the list as sent, several banks included, and the one conversion into a [`PcrSelection`], which has one bank,
//! no duplicates and at least one PCR. `sizeofSelect` is at least 3 (`PCR_SELECT_MIN` of a platform with 24 PCRs,
//! 10.6.1); octets past the third exist only on platforms with more PCRs and must be zero to be usable here.

use std::fmt;

use domain::{HashAlg, PcrSelection};

use super::reader::{ParseError, Reader};

/// The most banks in one list: the implementations' `HASH_COUNT` is 3 to 5, tpm2-tss has room for 16.
const MAX_BANKS: u32 = 16;
/// `PCR_SELECT_MIN` for 24 PCRs.
const SELECT_MIN: usize = 3;

/// One `TPMS_PCR_SELECTION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcrSelectionEntry<'a> {
    /// The bank.
    pub bank: HashAlg,
    /// `pcrSelect`, at least 3 octets: bit 0 of octet 0 is PCR 0.
    pub bitmap: &'a [u8],
}

impl<'a> PcrSelectionEntry<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let bank = reader.hash("pcrSelections.hash")?;
        let len = usize::from(reader.u8("sizeofSelect")?);
        if len < SELECT_MIN {
            return Err(ParseError::Length {
                field: "pcrSelect",
                len,
                min: SELECT_MIN,
                max: usize::from(u8::MAX),
            });
        }
        let bitmap = reader.take("pcrSelect", len)?;
        Ok(Self { bank, bitmap })
    }
}

/// A whole list, every entry of which was found readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcrSelections<'a> {
    count: u32,
    entries: &'a [u8],
}

/// Why a list is not one selection that a policy could want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableSelection {
    /// No bank, or no PCR in it.
    #[error("no PCR is selected")]
    Empty,
    /// More than one bank is listed, or one bank twice.
    #[error("{0} banks are selected, one is allowed")]
    SeveralBanks(u32),
    /// A PCR above 23.
    #[error("a PCR above 23 is selected")]
    BeyondPcr23,
}

impl<'a> PcrSelections<'a> {
    /// Reads a marshalled list that ends with the bytes.
    ///
    /// # Errors
    /// Not a list of at most 16 selections, each of a known bank and at least 3 octets.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(bytes);
        let list = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(list)
    }

    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let count = reader.u32("pcrSelect.count")?;
        if count > MAX_BANKS {
            return Err(super::reader::unsupported("pcrSelect.count", count));
        }
        let start = reader.rest();
        for _ in 0..count {
            PcrSelectionEntry::read(reader)?;
        }
        let len = start.len().saturating_sub(reader.rest().len());
        let entries = Reader::new(start).take("pcrSelect", len)?;
        Ok(Self { count, entries })
    }

    /// The entries in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = PcrSelectionEntry<'a>> + use<'a> {
        let mut reader = Reader::new(self.entries);
        // Every entry was read once already, so this ends with the last one.
        std::iter::from_fn(move || PcrSelectionEntry::read(&mut reader).ok())
    }

    /// The list as one selection.
    ///
    /// # Errors
    /// Not exactly one bank, no PCR in it, or one above 23.
    pub fn single(&self) -> Result<PcrSelection, UnusableSelection> {
        if self.count > 1 {
            return Err(UnusableSelection::SeveralBanks(self.count));
        }
        let entry = self.iter().next().ok_or(UnusableSelection::Empty)?;
        let Some((low, high)) = entry.bitmap.split_first_chunk::<3>() else {
            return Err(UnusableSelection::Empty);
        };
        if high.iter().any(|octet| *octet != 0) {
            return Err(UnusableSelection::BeyondPcr23);
        }
        PcrSelection::from_bitmap(entry.bank, *low).map_err(|_| UnusableSelection::Empty)
    }

    /// Appends the marshalled list.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(self.entries);
    }

    /// Marshals a list of the one selection, as TPM2_Quote and TPM2_PCR_Read take it.
    #[must_use]
    pub fn encode_single(selection: &PcrSelection) -> Vec<u8> {
        let mut out = 1_u32.to_be_bytes().to_vec();
        out.extend_from_slice(&selection.bank().tpm_id().to_be_bytes());
        out.push(3);
        out.extend_from_slice(&selection.bitmap());
        out
    }
}

/// `sha1:0,1+sha256:7`, as tpm2-tools write it; `none` where nothing is selected.
impl fmt::Display for PcrSelections<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("none");
        }
        for (nth, entry) in self.iter().enumerate() {
            let plus = if nth > 0 { "+" } else { "" };
            write!(f, "{plus}{}:", entry.bank)?;
            let set = entry
                .bitmap
                .iter()
                .enumerate()
                .flat_map(|(octet, bits)| (0..8).map(move |bit| (octet, bit, bits >> bit & 1 == 1)))
                .filter(|(_, _, set)| *set);
            let mut comma = "";
            for (octet, bit, _) in set {
                write!(f, "{comma}{}", octet.saturating_mul(8).saturating_add(bit))?;
                comma = ",";
            }
            if comma.is_empty() {
                f.write_str("none")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use domain::PcrIndex;

    use super::*;

    fn list(entries: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = u32::try_from(entries.len()).unwrap().to_be_bytes().to_vec();
        for (bank, bitmap) in entries {
            out.extend(bank.to_be_bytes());
            out.push(u8::try_from(bitmap.len()).unwrap());
            out.extend(*bitmap);
        }
        out
    }

    fn single(entries: &[(u16, &[u8])]) -> Result<PcrSelection, UnusableSelection> {
        PcrSelections::parse(&list(entries)).unwrap().single()
    }

    #[test]
    fn one_bank_becomes_a_selection() {
        let wanted =
            PcrSelection::new(HashAlg::Sha256, [7, 11].map(|i| PcrIndex::try_from(i).unwrap())).unwrap();
        assert_eq!(single(&[(0x000b, &[0x80, 0x08, 0])]), Ok(wanted));
        assert_eq!(
            PcrSelections::encode_single(&wanted),
            list(&[(0x000b, &[0x80, 0x08, 0])])
        );
    }

    #[test]
    fn longer_bitmaps_are_taken_only_with_zeros() {
        assert!(single(&[(0x000b, &[0x80, 0, 0, 0])]).is_ok());
        assert_eq!(
            single(&[(0x000b, &[0x80, 0, 0, 1])]),
            Err(UnusableSelection::BeyondPcr23)
        );
    }

    #[test]
    fn nothing_selected_is_unusable() {
        assert_eq!(single(&[]), Err(UnusableSelection::Empty));
        assert_eq!(single(&[(0x000b, &[0; 3])]), Err(UnusableSelection::Empty));
    }

    #[test]
    fn several_banks_are_unusable_even_if_one_is_empty_or_a_twin() {
        let seven: &[u8] = &[0x80, 0, 0];
        for other in [(0x0004, &[0_u8; 3][..]), (0x000b, seven), (0x000c, seven)] {
            assert_eq!(
                single(&[(0x000b, seven), other]),
                Err(UnusableSelection::SeveralBanks(2))
            );
        }
    }

    #[test]
    fn bounds_of_the_list_are_kept() {
        let short = PcrSelections::parse(&[0, 0, 0, 1, 0, 0x0b, 2, 0x80, 0]);
        assert!(matches!(short, Err(ParseError::Length { len: 2, .. })));
        let unknown = list(&[(0x0012, &[0x80, 0, 0])]);
        assert!(matches!(
            PcrSelections::parse(&unknown),
            Err(ParseError::Unsupported { value: 0x12, .. })
        ));
        let most = list(&[(0x000b, &[0_u8; 3][..]); 16]);
        assert_eq!(PcrSelections::parse(&most).unwrap().iter().count(), 16);
        assert!(matches!(
            PcrSelections::parse(&17_u32.to_be_bytes()),
            Err(ParseError::Unsupported { value: 17, .. })
        ));
        assert!(matches!(
            PcrSelections::parse(&u32::MAX.to_be_bytes()),
            Err(ParseError::Unsupported { .. })
        ));
        assert!(matches!(
            PcrSelections::parse(&[0, 0, 0, 1, 0, 0x0b, 255, 1]),
            Err(ParseError::Truncated { .. })
        ));
        assert_eq!(
            PcrSelections::parse(&[0, 0, 0, 0, 9]),
            Err(ParseError::Trailing { count: 1 })
        );
    }

    #[test]
    fn prints_as_the_tools_do() {
        let text = |entries: &[(u16, &[u8])]| PcrSelections::parse(&list(entries)).unwrap().to_string();
        assert_eq!(text(&[]), "none");
        assert_eq!(
            text(&[(0x0004, &[3, 0, 0]), (0x000b, &[0x80, 0, 0, 1])]),
            "sha1:0,1+sha256:7,24"
        );
        assert_eq!(text(&[(0x000c, &[0, 0, 0])]), "sha384:none");
    }
}
