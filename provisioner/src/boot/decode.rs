//! An event's data as fields, by its type.
//!
//! Owns: which type's data is what (PC Client Platform Firmware Profile, sections 9.2 and 10), under the names of
//! `tpm2_eventlog`. The type is the log's word; data that is not what its type says is shown as hexadecimal.

use data_encoding::HEXLOWER;
use evidence::eventlog::{Event, EventType, UefiVariable};

use super::{
    node::Node,
    uefi::{Fields, gpt, load_option, signature, signature_lists, yes_no},
};

const SPEC_ID: &[u8] = b"Spec ID Event03\0";
const STARTUP_LOCALITY: &[u8] = b"StartupLocality\0";

pub(super) const POST_CODE: u32 = 0x1;
pub(super) const ACTION: u32 = 0x5;
pub(super) const S_CRTM_CONTENTS: u32 = 0x7;
pub(super) const VARIABLE_BOOT: u32 = 0x8000_0002;
pub(super) const APPLICATION: u32 = 0x8000_0003;
pub(super) const RUNTIME_DRIVER: u32 = 0x8000_0005;
pub(super) const GPT: u32 = 0x8000_0006;
pub(super) const EFI_ACTION: u32 = 0x8000_0007;
pub(super) const FIRMWARE_BLOB: u32 = 0x8000_0008;
pub(super) const FIRMWARE_BLOB2: u32 = 0x8000_000a;
pub(super) const VARIABLE_BOOT2: u32 = 0x8000_000c;

/// The data decoded; `None` where there is none.
pub(super) fn data(event: &Event<'_>) -> Option<Node> {
    if event.data.is_empty() {
        return None;
    }
    let decoded = match event.kind {
        EventType::EFI_VARIABLE_DRIVER_CONFIG
        | EventType::EFI_VARIABLE_AUTHORITY
        | EventType(VARIABLE_BOOT | VARIABLE_BOOT2) => variable(event),
        EventType::IPL => Some(Node::map([("String", text(event.data))])),
        EventType::EFI_HCRTM_EVENT | EventType(ACTION | S_CRTM_CONTENTS) if event.text().is_some() => {
            Some(ended(event.data))
        }
        EventType(EFI_ACTION) => Some(ended(event.data)),
        EventType(POST_CODE) if event.data.len() != 16 => Some(ended(event.data)),
        EventType(POST_CODE | S_CRTM_CONTENTS | FIRMWARE_BLOB) => blob(event.data),
        EventType(FIRMWARE_BLOB2) => described_blob(event.data),
        EventType(APPLICATION..=RUNTIME_DRIVER) => image(event.data),
        EventType(GPT) => gpt(event.data),
        EventType::NO_ACTION => locality(event.data),
        _ => None,
    };
    Some(decoded.unwrap_or_else(|| Node::text(HEXLOWER.encode(event.data))))
}

/// `TCG_EfiSpecIdEvent` (10.4.5.1), the header of a crypto-agile log.
pub(super) fn spec_id(event: &Event<'_>) -> Option<Node> {
    let mut fields = Fields(event.data.strip_prefix(SPEC_ID)?);
    let class = fields.u32()?;
    let [minor, major, errata, uintn] = [fields.u8()?, fields.u8()?, fields.u8()?, fields.u8()?];
    let count = fields.u32()?;
    let mut algorithms = Vec::new();
    for nth in 0..count {
        let (id, size) = (fields.u16()?, fields.u16()?);
        // The empty field is how tpm2_eventlog numbers them.
        algorithms.push(Node::Map(vec![
            (format!("Algorithm[{nth}]"), Node::text("")),
            ("algorithmId".to_owned(), Node::text(algorithm(id))),
            ("digestSize".to_owned(), Node::Number(size.into())),
        ]));
    }
    let vendor_len = fields.u8()?;
    let mut list = vec![
        ("Signature".to_owned(), Node::text("Spec ID Event03")),
        ("platformClass".to_owned(), Node::Number(class.into())),
        ("specVersionMinor".to_owned(), Node::Number(minor.into())),
        ("specVersionMajor".to_owned(), Node::Number(major.into())),
        ("specErrata".to_owned(), Node::Number(errata.into())),
        ("uintnSize".to_owned(), Node::Number(uintn.into())),
        ("numberOfAlgorithms".to_owned(), Node::Number(count.into())),
        ("Algorithms".to_owned(), Node::List(algorithms)),
        ("vendorInfoSize".to_owned(), Node::Number(vendor_len.into())),
    ];
    if vendor_len > 0 {
        let vendor = fields.take(vendor_len.into())?;
        list.push(("vendorInfo".to_owned(), Node::text(HEXLOWER.encode(vendor))));
    }
    Some(Node::List(vec![Node::Map(list)]))
}

/// The name of a hash, as tpm2-tools write it.
pub(super) fn algorithm(id: u16) -> String {
    match id {
        0x04 => "sha1",
        0x0b => "sha256",
        0x0c => "sha384",
        0x0d => "sha512",
        0x12 => "sm3_256",
        0x27 => "sha3_256",
        0x28 => "sha3_384",
        0x29 => "sha3_512",
        other => return format!("{other:#06x}"),
    }
    .to_owned()
}

/// Text as it is, its final zero included; where it is not UTF-8, each other byte is a character of Latin-1.
fn text(bytes: &[u8]) -> Node {
    match std::str::from_utf8(bytes) {
        Ok(text) => Node::text(text),
        Err(_) => Node::Text(bytes.iter().map(|byte| char::from(*byte)).collect()),
    }
}

/// Text without the zeros that end it.
fn ended(bytes: &[u8]) -> Node {
    let end = bytes.iter().rposition(|byte| *byte != 0);
    let len = end.map_or(0, |last| last.saturating_add(1));
    text(bytes.get(..len).unwrap_or_default())
}

/// What old versions of shim left behind a variable is not shown: it is of no meaning, and EventSize tells of it.
fn variable(event: &Event<'_>) -> Option<Node> {
    let (variable, _) = UefiVariable::parse_prefix(event.data)?;
    let units = variable.name.encode_utf16().count();
    let mut fields = vec![
        ("VariableName".to_owned(), Node::Text(variable.vendor_guid())),
        (
            "UnicodeNameLength".to_owned(),
            Node::Number(u64::try_from(units).ok()?),
        ),
        (
            "VariableDataLength".to_owned(),
            Node::Number(u64::try_from(variable.data.len()).ok()?),
        ),
        ("UnicodeName".to_owned(), Node::text(variable.name.as_str())),
    ];
    if let Some(value) = value(event.kind, &variable) {
        fields.push(("VariableData".to_owned(), value));
    }
    Some(Node::Map(fields))
}

/// A variable's value; `None` where it is empty and has no other meaning.
fn value(kind: EventType, variable: &UefiVariable<'_>) -> Option<Node> {
    let bytes = variable.data;
    let enabled = || {
        (bytes.len() <= 1).then(|| Node::map([("Enabled", yes_no(bytes.first().is_some_and(|b| *b != 0)))]))
    };
    let decoded = match (kind, variable.name.as_str()) {
        (EventType::EFI_VARIABLE_DRIVER_CONFIG, "SecureBoot") => enabled(),
        (EventType::EFI_VARIABLE_AUTHORITY, "MokListTrusted") => enabled(),
        (EventType::EFI_VARIABLE_DRIVER_CONFIG, "PK" | "KEK" | "db" | "dbx") => signature_lists(bytes),
        (EventType::EFI_VARIABLE_AUTHORITY, "db" | "Shim") => {
            signature(bytes).map(|one| Node::List(vec![one]))
        }
        (EventType::EFI_VARIABLE_AUTHORITY, "SbatLevel") => Some(Node::map([("String", text(bytes))])),
        (EventType(VARIABLE_BOOT | VARIABLE_BOOT2), "BootOrder") => boot_order(bytes),
        (EventType(VARIABLE_BOOT | VARIABLE_BOOT2), name) if is_boot_option(name) => load_option(bytes),
        _ => None,
    };
    decoded.or_else(|| (!bytes.is_empty()).then(|| Node::text(HEXLOWER.encode(bytes))))
}

pub(super) fn is_boot_option(name: &str) -> bool {
    name.strip_prefix("Boot")
        .is_some_and(|number| number.len() == 4 && number.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn boot_order(bytes: &[u8]) -> Option<Node> {
    let mut fields = Fields(bytes);
    let mut list = Vec::new();
    while !fields.0.is_empty() {
        list.push(Node::Text(format!("Boot{:04x}", fields.u16()?)));
    }
    Some(Node::List(list))
}

/// `UEFI_PLATFORM_FIRMWARE_BLOB` (10.2.3).
fn blob(bytes: &[u8]) -> Option<Node> {
    let mut fields = Fields(bytes);
    let node = Node::map([
        ("BlobBase", Node::Hex(fields.u64()?)),
        ("BlobLength", Node::Hex(fields.u64()?)),
    ]);
    fields.0.is_empty().then_some(node)
}

/// `UEFI_PLATFORM_FIRMWARE_BLOB2` (10.2.3).
fn described_blob(bytes: &[u8]) -> Option<Node> {
    let mut fields = Fields(bytes);
    let len = fields.u8()?;
    let description = fields.take(len.into())?;
    let name = description.strip_suffix(&[0]).unwrap_or(description);
    let node = Node::map([
        ("BlobDescriptionSize", Node::Number(len.into())),
        ("BlobDescription", Node::text(HEXLOWER.encode(name))),
        ("BlobBase", Node::Hex(fields.u64()?)),
        ("BlobLength", Node::Hex(fields.u64()?)),
    ]);
    fields.0.is_empty().then_some(node)
}

/// `UEFI_IMAGE_LOAD_EVENT` (10.2.4).
fn image(bytes: &[u8]) -> Option<Node> {
    let mut fields = Fields(bytes);
    let [location, len, link_time, path_len] = [fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?];
    Some(Node::map([
        ("ImageLocationInMemory", Node::Hex(location)),
        ("ImageLengthInMemory", Node::Number(len)),
        ("ImageLinkTimeAddress", Node::Hex(link_time)),
        ("LengthOfDevicePath", Node::Number(path_len)),
        ("DevicePath", Node::text(HEXLOWER.encode(fields.0))),
    ]))
}

fn locality(bytes: &[u8]) -> Option<Node> {
    let locality = Fields(bytes.strip_prefix(STARTUP_LOCALITY)?).u8()?;
    Some(Node::map([("StartupLocality", Node::Number(locality.into()))]))
}
