//! One event of a log: its PCR, type, digests and data.
//!
//! Owns: the names of event types and the reading of what data may hold. Type and data are the log's claims:
//! [`Event::data_is_measured`] tells whether the data is what was measured; nothing ever tells that of the type.

use std::fmt;

use data_encoding::HEXLOWER;
use domain::HashAlg;

use crate::hash;

/// `TCG_EVENTTYPE`: what an event claims to be. Not measured, so no rule may rest on it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventType(pub u32);

impl EventType {
    /// Says something about the log, measures nothing.
    pub const NO_ACTION: Self = Self(0x0000_0003);
    /// The end of the firmware's measurements into a PCR.
    pub const SEPARATOR: Self = Self(0x0000_0004);
    /// Boot loaders: commands, configuration, kernels.
    pub const IPL: Self = Self(0x0000_000d);
    /// Secure Boot state and keys.
    pub const EFI_VARIABLE_DRIVER_CONFIG: Self = Self(0x8000_0001);
    /// The hardware's own measurement of the first firmware, before TPM2_Startup.
    pub const EFI_HCRTM_EVENT: Self = Self(0x8000_0010);
    /// The certificate or hash that let an image start.
    pub const EFI_VARIABLE_AUTHORITY: Self = Self(0x8000_00e0);
}

/// The TCG's name, as tpm2_eventlog prints it, or the number.
impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0x0000_0000 => "EV_PREBOOT_CERT",
            0x0000_0001 => "EV_POST_CODE",
            0x0000_0002 => "EV_UNUSED",
            0x0000_0003 => "EV_NO_ACTION",
            0x0000_0004 => "EV_SEPARATOR",
            0x0000_0005 => "EV_ACTION",
            0x0000_0006 => "EV_EVENT_TAG",
            0x0000_0007 => "EV_S_CRTM_CONTENTS",
            0x0000_0008 => "EV_S_CRTM_VERSION",
            0x0000_0009 => "EV_CPU_MICROCODE",
            0x0000_000a => "EV_PLATFORM_CONFIG_FLAGS",
            0x0000_000b => "EV_TABLE_OF_DEVICES",
            0x0000_000c => "EV_COMPACT_HASH",
            0x0000_000d => "EV_IPL",
            0x0000_000e => "EV_IPL_PARTITION_DATA",
            0x0000_000f => "EV_NONHOST_CODE",
            0x0000_0010 => "EV_NONHOST_CONFIG",
            0x0000_0011 => "EV_NONHOST_INFO",
            0x0000_0012 => "EV_OMIT_BOOT_DEVICE_EVENTS",
            0x0000_0013 => "EV_POST_CODE2",
            0x8000_0001 => "EV_EFI_VARIABLE_DRIVER_CONFIG",
            0x8000_0002 => "EV_EFI_VARIABLE_BOOT",
            0x8000_0003 => "EV_EFI_BOOT_SERVICES_APPLICATION",
            0x8000_0004 => "EV_EFI_BOOT_SERVICES_DRIVER",
            0x8000_0005 => "EV_EFI_RUNTIME_SERVICES_DRIVER",
            0x8000_0006 => "EV_EFI_GPT_EVENT",
            0x8000_0007 => "EV_EFI_ACTION",
            0x8000_0008 => "EV_EFI_PLATFORM_FIRMWARE_BLOB",
            0x8000_0009 => "EV_EFI_HANDOFF_TABLES",
            0x8000_000a => "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
            0x8000_000b => "EV_EFI_HANDOFF_TABLES2",
            0x8000_000c => "EV_EFI_VARIABLE_BOOT2",
            0x8000_0010 => "EV_EFI_HCRTM_EVENT",
            0x8000_00e0 => "EV_EFI_VARIABLE_AUTHORITY",
            0x8000_00e1 => "EV_EFI_SPDM_FIRMWARE_BLOB",
            0x8000_00e2 => "EV_EFI_SPDM_FIRMWARE_CONFIG",
            0x8000_00e3 => "EV_EFI_SPDM_DEVICE_POLICY",
            0x8000_00e4 => "EV_EFI_SPDM_DEVICE_AUTHORITY",
            other => return write!(f, "event type {other:#010x}"),
        };
        f.pad(name)
    }
}

/// The digests of one event, by algorithm. Ones of algorithms that are not ours are kept and not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digests<'a> {
    /// The SHA-1 format: one digest of 20 bytes.
    Sha1(&'a [u8; 20]),
    /// The crypto-agile format: `TPMT_HA`s one after the other, little-endian identifiers, with the header's sizes.
    Agile {
        /// The marshalled digests.
        bytes: &'a [u8],
        /// The header's algorithms with their digests' lengths in bytes.
        sizes: &'a [u8],
    },
}

impl<'a> Digests<'a> {
    /// `TPM_ALG_ID` and digest of each, in the log's order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let (mut rest, sizes, mut sha1) = match *self {
            Self::Sha1(digest) => (&[][..], &[][..], Some(digest)),
            Self::Agile { bytes, sizes } => (bytes, sizes, None),
        };
        std::iter::from_fn(move || {
            if let Some(digest) = sha1.take() {
                return Some((HashAlg::Sha1.tpm_id(), &digest[..]));
            }
            // Every digest was found to be in the header and within the bytes when the log was read.
            let (id, after) = rest.split_first_chunk::<2>()?;
            let id = u16::from_le_bytes(*id);
            let (digest, after) = after.split_at_checked(size_in(sizes, id)?)?;
            rest = after;
            Some((id, digest))
        })
    }

    /// The digest of one bank.
    #[must_use]
    pub fn of(&self, bank: HashAlg) -> Option<&'a [u8]> {
        self.iter()
            .find(|(id, _)| *id == bank.tpm_id())
            .map(|(_, digest)| digest)
    }
}

/// The digest length of an algorithm in the header's list of little-endian pairs.
pub(super) fn size_in(sizes: &[u8], wanted: u16) -> Option<usize> {
    sizes.chunks_exact(4).find_map(|pair| match *pair {
        [a, b, c, d] if u16::from_le_bytes([a, b]) == wanted => Some(u16::from_le_bytes([c, d]).into()),
        _ => None,
    })
}

/// One entry of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Position in the log, from 0; the crypto-agile header is number 0. tpm2_eventlog counts likewise.
    pub number: usize,
    /// The PCR extended: 0 to 23, or anything for a [`EventType::NO_ACTION`].
    pub pcr: u32,
    /// What the event claims to be.
    pub kind: EventType,
    /// What was extended.
    pub digests: Digests<'a>,
    /// What the event claims to be about.
    pub data: &'a [u8],
}

impl<'a> Event<'a> {
    /// Whether the event extended its PCR. An `EV_NO_ACTION` never does.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.kind != EventType::NO_ACTION
    }

    /// Whether the data is what was measured: it hashes to the digest. Where it does not, the digest is of something
    /// else (of an image, for instance) and the data is the log's word alone.
    #[must_use]
    pub fn data_is_measured(&self, bank: HashAlg) -> bool {
        self.is_measured() && self.digests.of(bank) == Some(hash::digest(bank, &[self.data]).as_ref())
    }

    /// The data as text, if it is printable ASCII or UTF-8 without control characters but a final zero.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        let bytes = self.data.strip_suffix(&[0]).unwrap_or(self.data);
        let text = std::str::from_utf8(bytes).ok()?;
        (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
    }
}

/// `UEFI_VARIABLE_DATA` (Firmware Profile, 10.2.6), the data of the variable events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UefiVariable<'a> {
    /// The vendor's GUID as stored: the first three groups little-endian.
    pub vendor: [u8; 16],
    /// The variable's name.
    pub name: String,
    /// Its value.
    pub data: &'a [u8],
}

impl<'a> UefiVariable<'a> {
    /// Reads a variable that fills the data, or `None`.
    #[must_use]
    pub fn parse(event_data: &'a [u8]) -> Option<Self> {
        Self::parse_prefix(event_data).and_then(|(variable, rest)| rest.is_empty().then_some(variable))
    }

    /// Reads a variable, and what is behind it: older shims left a few bytes of their memory there, and measured most
    /// of them (seen in logs of several distributions). `None` where the data ends before the variable does.
    #[must_use]
    pub fn parse_prefix(event_data: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (vendor, rest) = event_data.split_first_chunk::<16>()?;
        let (name_len, rest) = rest.split_first_chunk::<8>()?;
        let (data_len, rest) = rest.split_first_chunk::<8>()?;
        let units = usize::try_from(u64::from_le_bytes(*name_len)).ok()?;
        let (name, data) = rest.split_at_checked(units.checked_mul(2)?)?;
        let data_len = usize::try_from(u64::from_le_bytes(*data_len)).ok()?;
        let (data, rest) = data.split_at_checked(data_len)?;
        let units = name.chunks_exact(2).map(|unit| match *unit {
            [low, high] => u16::from_le_bytes([low, high]),
            _ => 0,
        });
        let name = char::decode_utf16(units).collect::<Result<String, _>>().ok()?;
        let variable = Self {
            vendor: *vendor,
            name,
            data,
        };
        Some((variable, rest))
    }

    /// `8be4df61-93ca-11d2-aa0d-00e098032b8c`, as the UEFI specification writes a GUID.
    #[must_use]
    pub fn vendor_guid(&self) -> String {
        let [a, b, c, d, e, f, g, h, i, j, node @ ..] = self.vendor;
        let groups: [&[u8]; 5] = [&[d, c, b, a], &[f, e], &[h, g], &[i, j], &node];
        groups.map(|group| HEXLOWER.encode(group)).join("-")
    }
}
