//! Whole boots: a log, and the PCR values that a TPM has after it.

use domain::{HashAlg, PcrSelection};

use super::{
    digest_of,
    log::{IPL, SEPARATOR, VARIABLE, agile, header},
};

pub const AUTHORITY: u32 = 0x8000_00e0;
pub const GLOBAL: [u8; 16] = *b"\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c";
pub const IMAGE_SECURITY: [u8; 16] = *b"\xcb\xb2\x19\xd7\x3a\x3d\x96\x45\xa3\xbc\xda\xd0\x0e\x67\x65\x6f";
pub const SHIM: [u8; 16] = *b"\x50\xab\x5d\x60\x46\xe0\x00\x43\xab\xb6\x3d\xd8\x10\xdd\x8b\x23";

/// What was measured, and what the log says of it.
#[derive(Clone)]
pub struct Step {
    pub pcr: u32,
    pub kind: u32,
    pub measured: Vec<u8>,
    pub data: Vec<u8>,
}

/// A measurement whose data is what was measured.
pub fn step(pcr: u32, kind: u32, data: &[u8]) -> Step {
    Step {
        pcr,
        kind,
        measured: data.to_vec(),
        data: data.to_vec(),
    }
}

pub fn separator(pcr: u32) -> Step {
    step(pcr, SEPARATOR, &[0; 4])
}

/// A variable event.
pub fn variable(kind: u32, vendor: [u8; 16], name: &str, value: &[u8]) -> Step {
    let mut data = super::log::variable(name, value);
    data[..16].copy_from_slice(&vendor);
    step(7, kind, &data)
}

pub fn config(vendor: [u8; 16], name: &str, value: &[u8]) -> Step {
    variable(VARIABLE, vendor, name, value)
}

/// As GRUB writes it: the label and the final zero are not measured.
pub fn grub(label: &str, text: &str) -> Step {
    Step {
        pcr: 8,
        kind: IPL,
        measured: text.into(),
        data: format!("{label}: {text}\0").into(),
    }
}

/// As systemd-stub writes it: UTF-16 with a final zero, all of it measured.
pub fn stub(pcr: u32, text: &str) -> Step {
    let units = text.encode_utf16().chain([0]);
    let bytes: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
    step(pcr, IPL, &bytes)
}

/// Secure Boot on, with one list of each kind, a boot loader of its maker, and shim's level.
pub fn secure_boot() -> Vec<Step> {
    vec![
        config(GLOBAL, "SecureBoot", &[1]),
        config(GLOBAL, "PK", b"the platform key"),
        config(GLOBAL, "KEK", b"the exchange keys"),
        config(IMAGE_SECURITY, "db", b"what may start"),
        config(IMAGE_SECURITY, "dbx", b"what may not"),
        separator(7),
        variable(AUTHORITY, IMAGE_SECURITY, "db", b"the maker's certificate"),
        variable(AUTHORITY, SHIM, "SbatLevel", b"sbat,1,2022052400\n"),
    ]
}

pub fn log(steps: &[Step]) -> Vec<u8> {
    let events = steps.iter().map(|s| agile(s.pcr, s.kind, &s.measured, &s.data));
    [header()].into_iter().chain(events).flatten().collect()
}

/// The values of the PCRs after the boot, concatenated.
pub fn values(steps: &[Step], selection: &PcrSelection) -> Vec<u8> {
    let bank: HashAlg = selection.bank();
    let mut all = Vec::new();
    for pcr in selection.iter() {
        let mut value = vec![0; bank.digest_len()];
        for step in steps.iter().filter(|step| step.pcr == u32::from(pcr.get())) {
            value = digest_of(bank, &[value, digest_of(bank, &step.measured)].concat());
        }
        all.extend(value);
    }
    all
}
