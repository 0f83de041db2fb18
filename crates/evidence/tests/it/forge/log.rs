//! Event logs as firmware writes them, and what a TPM holds after them.

use domain::{HashAlg, PcrSelection, PcrValues};

use super::{digest_of, index};

pub const BANKS: [HashAlg; 3] = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384];
pub const SEPARATOR: u32 = 4;
pub const IPL: u32 = 13;
pub const VARIABLE: u32 = 0x8000_0001;
/// `UEFI_IMAGE_LOAD_EVENT` without a device path.
pub const IMAGE_LOAD: &[u8] = b"\0\0\x40\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

pub fn le(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn sized(data: &[u8]) -> Vec<u8> {
    [&le(&[u32::try_from(data.len()).unwrap()]), data].concat()
}

/// `TCG_PCClientPCREvent`.
pub fn sha1_event(pcr: u32, kind: u32, digest: &[u8], data: &[u8]) -> Vec<u8> {
    [&le(&[pcr, kind]), digest, &sized(data)].concat()
}

pub fn spec_id(pairs: &[(u16, u16)], vendor: &[u8]) -> Vec<u8> {
    let mut data = b"Spec ID Event03\0\0\0\0\0\0\x02\x00\x02".to_vec();
    data.extend(le(&[u32::try_from(pairs.len()).unwrap()]));
    for (id, size) in pairs {
        data.extend([id.to_le_bytes(), size.to_le_bytes()].concat());
    }
    data.push(u8::try_from(vendor.len()).unwrap());
    data.extend(vendor);
    data
}

pub fn header_of(pairs: &[(u16, u16)]) -> Vec<u8> {
    sha1_event(0, 3, &[0; 20], &spec_id(pairs, b""))
}

pub fn header() -> Vec<u8> {
    header_of(&[(0x04, 20), (0x0b, 32), (0x0c, 48)])
}

pub fn agile_with(pcr: u32, kind: u32, digests: &[(u16, &[u8])], data: &[u8]) -> Vec<u8> {
    let mut out = le(&[pcr, kind, u32::try_from(digests.len()).unwrap()]);
    for (id, digest) in digests {
        out.extend(id.to_le_bytes());
        out.extend(*digest);
    }
    out.extend(sized(data));
    out
}

/// `TCG_PCR_EVENT2` that measures `measured` and claims `data`.
pub fn agile(pcr: u32, kind: u32, measured: &[u8], data: &[u8]) -> Vec<u8> {
    let digests = BANKS.map(|bank| (bank.tpm_id(), digest_of(bank, measured)));
    let digests: Vec<_> = digests.iter().map(|(id, d)| (*id, &d[..])).collect();
    agile_with(pcr, kind, &digests, data)
}

pub fn variable(name: &str, value: &[u8]) -> Vec<u8> {
    // EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c.
    let mut out = b"\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c".to_vec();
    let units: Vec<u16> = name.encode_utf16().collect();
    out.extend(u64::try_from(units.len()).unwrap().to_le_bytes());
    out.extend(u64::try_from(value.len()).unwrap().to_le_bytes());
    out.extend(units.iter().flat_map(|u| u.to_le_bytes()));
    out.extend(value);
    out
}

/// A small boot: firmware version, Secure Boot, separators, a kernel whose digest is not that of the event's data.
pub fn boot() -> Vec<Vec<u8>> {
    let secure_boot = variable("SecureBoot", &[1]);
    vec![
        header(),
        agile(0, 8, b"v1.0", b"v1.0"),
        agile(7, VARIABLE, &secure_boot, &secure_boot),
        agile(7, SEPARATOR, &[0; 4], &[0; 4]),
        agile(0, SEPARATOR, &[0; 4], &[0; 4]),
        agile(4, 0x8000_0003, b"the kernel image", IMAGE_LOAD),
        agile(11, IPL, b".linux", b".linux\0"),
    ]
}

/// The values of the PCRs after `events`, each of which extends `(pcr, measured)`.
pub fn quoted(bank: HashAlg, pcrs: &[u64], events: &[(u64, &[u8])]) -> PcrValues {
    let selection = PcrSelection::new(bank, pcrs.iter().map(|i| index(*i))).unwrap();
    let mut all = Vec::new();
    for pcr in pcrs {
        let mut value = vec![0; bank.digest_len()];
        for (_, measured) in events.iter().filter(|(i, _)| i == pcr) {
            value = digest_of(bank, &[value, digest_of(bank, measured)].concat());
        }
        all.extend(value);
    }
    PcrValues::new(selection, all).unwrap()
}

pub fn boot_quoted(bank: HashAlg) -> PcrValues {
    let secure_boot = variable("SecureBoot", &[1]);
    let events: [(u64, &[u8]); 6] = [
        (0, b"v1.0"),
        (7, &secure_boot),
        (7, &[0; 4]),
        (0, &[0; 4]),
        (4, b"the kernel image"),
        (11, b".linux"),
    ];
    quoted(bank, &[0, 4, 7, 8, 11], &events)
}
