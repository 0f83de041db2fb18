//! An event in one line.
//!
//! Owns: what of an event a person looks for first, printable whatever the bytes are, and never long.

use evidence::eventlog::{Event, EventType, UefiVariable};

use super::{
    decode::{
        APPLICATION, FIRMWARE_BLOB, FIRMWARE_BLOB2, GPT, RUNTIME_DRIVER, VARIABLE_BOOT, VARIABLE_BOOT2,
        is_boot_option,
    },
    node::Node,
    uefi::{Fields, gpt, load_option, signature_lists, utf16},
};

/// Characters that are shown of one event.
const MOST: usize = 96;

/// The event in a few words, without its type.
pub(crate) fn summary(event: &Event<'_>) -> String {
    let words = match event.kind {
        EventType::SEPARATOR => separator(event.data),
        EventType::EFI_VARIABLE_DRIVER_CONFIG
        | EventType::EFI_VARIABLE_AUTHORITY
        | EventType(VARIABLE_BOOT | VARIABLE_BOOT2) => variable(event),
        EventType(APPLICATION..=RUNTIME_DRIVER) => image(event.data),
        EventType(GPT) => partitions(event.data),
        EventType(FIRMWARE_BLOB | FIRMWARE_BLOB2) => Some("a firmware volume".to_owned()),
        EventType::NO_ACTION => note(event.data),
        _ => text(event.data),
    };
    clean(&words.unwrap_or_else(|| format!("{} bytes", event.data.len())))
}

fn separator(data: &[u8]) -> Option<String> {
    match data {
        [0, 0, 0, 0] | [0xff, 0xff, 0xff, 0xff] => Some("the firmware is done with this PCR".to_owned()),
        [1, 0, 0, 0] => Some("the firmware met an error".to_owned()),
        // shim and others put text here.
        other => text(other),
    }
}

/// What measures nothing and says something about the log (Firmware Profile, 10.4.5).
fn note(data: &[u8]) -> Option<String> {
    let (name, rest) = data.split_at_checked(16)?;
    match (name, rest) {
        (b"Spec ID Event03\0", _) => Some("the log's header".to_owned()),
        (b"StartupLocality\0", [locality, ..]) => {
            Some(format!("the TPM was started from locality {locality}"))
        }
        _ => text(name),
    }
}

fn variable(event: &Event<'_>) -> Option<String> {
    let (variable, _) = UefiVariable::parse_prefix(event.data)?;
    let name = variable.name.as_str();
    if event.kind == EventType::EFI_VARIABLE_AUTHORITY {
        return Some(match name {
            "SbatLevel" => format!("SbatLevel {}", text(variable.data)?.lines().next()?),
            _ => format!("vouched for by a key in {name}"),
        });
    }
    Some(match name {
        "SecureBoot" => {
            let state = if variable.data == [1] { "on" } else { "off" };
            format!("Secure Boot is {state}")
        }
        "PK" | "KEK" | "db" | "dbx" => {
            let keys = match signature_lists(variable.data) {
                Some(Node::List(lists)) => lists.iter().map(keys).sum::<usize>(),
                _ => return Some(format!("{name}, unreadable")),
            };
            format!("{name}: {keys} entr{}", if keys == 1 { "y" } else { "ies" })
        }
        _ if is_boot_option(name) => match load_option(variable.data)?.get("Description") {
            Some(Node::Text(description)) => format!("{name}: {description}"),
            _ => name.to_owned(),
        },
        _ => name.to_owned(),
    })
}

fn keys(list: &Node) -> usize {
    match list.get("Keys") {
        Some(Node::List(keys)) => keys.len(),
        _ => 0,
    }
}

/// The file names in the device path (UEFI 2.10, 10.3.5.4): media, file path.
fn image(data: &[u8]) -> Option<String> {
    const END: u8 = 0x7f;
    let mut fields = Fields(data);
    let [_, len, _, _] = [fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?];
    let mut names = Vec::new();
    while let (Some(kind), Some(sub), Some(node_len)) = (fields.u8(), fields.u8(), fields.u16()) {
        let Some(body) = usize::from(node_len)
            .checked_sub(4)
            .and_then(|len| fields.take(len))
        else {
            break;
        };
        if (kind, sub) == (4, 4) {
            names.push(utf16(body));
        }
        if kind == END {
            break;
        }
    }
    Some(if names.is_empty() {
        format!("an image of {len} bytes, from memory")
    } else {
        names.join("")
    })
}

fn partitions(data: &[u8]) -> Option<String> {
    match gpt(data)?.get("Partitions") {
        Some(Node::List(list)) => Some(format!("partition table: {} used", list.len())),
        _ => None,
    }
}

/// Text, in UTF-8 or, as systemd-boot writes it, UTF-16.
fn text(data: &[u8]) -> Option<String> {
    let bytes = data.strip_suffix(&[0]).unwrap_or(data);
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.is_empty()
        && !text.contains('\0')
    {
        return Some(text.to_owned());
    }
    let wide = utf16(data);
    let whole = wide.encode_utf16().count().saturating_add(1).saturating_mul(2) >= data.len();
    // A GUID is UTF-16 too, of a kind: texts of firmware are mostly ASCII.
    let ascii = wide.chars().filter(char::is_ascii_graphic).count();
    let plausible = ascii.saturating_mul(2) >= wide.chars().count();
    (!wide.is_empty() && whole && plausible && data.len().is_multiple_of(2) && !wide.contains('\u{fffd}'))
        .then_some(wide)
}

/// One line of printable characters.
fn clean(text: &str) -> String {
    let mut out = String::new();
    for c in text.trim().chars() {
        if out.chars().count() >= MOST {
            out.push('…');
            break;
        }
        match c {
            '\n' => out.push_str("; "),
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}') =>
            {
                out.push('?');
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert_eq!(clean("a\u{1b}[2Jb\nc\u{202e}d"), "a?[2Jb; c?d");
        assert_eq!(clean(&"x".repeat(200)).chars().count(), MOST + 1);
    }

    #[test]
    fn what_measures_nothing_is_told_all_the_same() {
        assert_eq!(
            note(b"StartupLocality\0\x03").unwrap(),
            "the TPM was started from locality 3"
        );
        assert_eq!(note(b"SP800-155 Event\0more").unwrap(), "SP800-155 Event");
        assert_eq!(note(b"short"), None);
    }

    #[test]
    fn both_encodings_of_boot_loaders_are_text() {
        assert_eq!(text(b"grub_cmd: boot\0").unwrap(), "grub_cmd: boot");
        let wide: Vec<u8> = "quiet\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(text(&wide).unwrap(), "quiet");
        assert_eq!(text(&[0, 0, 0, 0]), None);
        assert_eq!(text(&[0xff, 0, 0xff]), None);
        let guid = b"\x1e\xfb\x6b\x54\x0c\x1d\x41\x40\xad\xa4\xbf\x1f\x20\x38\x4e\x55";
        assert_eq!(text(guid), None, "a version that is a GUID");
    }
}
