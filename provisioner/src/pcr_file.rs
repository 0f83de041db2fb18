//! PCR values from a file, in the forms that `tpm2_quote --pcr` writes.
//!
//! Owns: telling the two forms apart and taking the values out. `--pcrs_format values` is the values one after the
//! other, in the order of the selection. `--pcrs_format serialized` (the default) is C structures as they lie in the
//! memory of a little-endian machine: `TPML_PCR_SELECTION`, a count, then so many `TPML_DIGEST`s with all their unused
//! room; any other machine's differ. Nothing in the file is believed: values count when they hash to the quoted digest.
//! An attacker may control every byte.

/// `sizeof(TPML_PCR_SELECTION)`: a count, then 16 of hash, size and 4 octets, aligned to 2.
const SELECTION: usize = 4 + 16 * 8;
/// `sizeof(TPML_DIGEST)`: a count, then 8 of size and 64 octets.
const DIGESTS: usize = 4 + 8 * DIGEST;
const DIGEST: usize = 2 + 64;

/// The values one after the other.
pub(crate) fn values(file: &[u8]) -> Vec<u8> {
    serialized(file).unwrap_or_else(|| file.to_vec())
}

/// `None` for what is not exactly the serialized form. No row of values has its length but that of 4 lists or more.
fn serialized(file: &[u8]) -> Option<Vec<u8>> {
    let (selection, rest) = file.split_at_checked(SELECTION)?;
    let (banks, _) = selection.split_first_chunk::<4>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let lists = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    if !(1..=16).contains(&u32::from_le_bytes(*banks)) || rest.len() != lists.checked_mul(DIGESTS)? {
        return None;
    }
    let mut values = Vec::new();
    while let Some((list, after)) = rest.split_at_checked(DIGESTS).filter(|_| !rest.is_empty()) {
        rest = after;
        let (count, digests) = list.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_le_bytes(*count))
            .ok()
            .filter(|n| *n <= 8)?;
        for digest in digests.chunks_exact(DIGEST).take(count) {
            let (size, bytes) = digest.split_first_chunk::<2>()?;
            values.extend_from_slice(bytes.get(..usize::from(u16::from_le_bytes(*size)))?);
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(lists: &[&[&[u8]]]) -> Vec<u8> {
        let mut out = vec![0; SELECTION];
        out[0] = 1;
        out.extend(u32::try_from(lists.len()).unwrap().to_le_bytes());
        for list in lists {
            out.extend(u32::try_from(list.len()).unwrap().to_le_bytes());
            for nth in 0..8 {
                let digest = list.get(nth).copied().unwrap_or_default();
                let mut room = u16::try_from(digest.len()).unwrap().to_le_bytes().to_vec();
                room.extend(digest);
                room.resize(DIGEST, 0);
                out.extend(room);
            }
        }
        out
    }

    #[test]
    fn both_forms_give_the_values() {
        let [a, b, c] = [[1; 32], [2; 32], [3; 32]];
        assert_eq!(values(&file(&[&[&a, &b], &[&c]])), [a, b, c].concat());
        let row = [a, b, c].concat();
        assert_eq!(values(&row), row);
        assert!(values(&[]).is_empty());
    }

    #[test]
    fn what_is_not_whole_is_a_row_of_values_and_will_not_hash_to_a_quote() {
        let whole = file(&[&[&[1; 32]]]);
        let mut bad = vec![whole[..whole.len() - 1].to_vec()];
        // No bank, too many lists, too many digests, a digest longer than its room.
        for (at, value) in [(0, 0), (SELECTION, 2), (SELECTION + 4, 9), (SELECTION + 8, 65)] {
            let mut one = whole.clone();
            one[at] = value;
            bad.push(one);
        }
        for file in bad {
            assert_eq!(values(&file), file);
        }
    }
}
