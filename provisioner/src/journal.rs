//! The journal of one device's enrolment: JSON lines beside its volume, synced after each step.
//!
//! Owns: what an entry says, and the question that a later run asks: which keys did we write? It holds digests, never a
//! key. A line that was cut short by a kill is the last one and is dropped; any other line that cannot be read makes
//! the journal unusable, because guessing would mean overwriting somebody's volume.
//! An attacker who can write here could make us take up a volume of theirs, so it must be ours alone (mode 0600).

use std::path::PathBuf;

use domain::{DeviceId, EkDigest, FleetName, PskDigest, UnixTime, VolumeKeyDigest};
use serde::{Deserialize, Serialize};

/// The longest journal that is read, in bytes.
pub(crate) const MAX_LEN: u64 = 1024 * 1024;

/// One step that was done, or is about to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "entry",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
pub(crate) enum Entry {
    /// A run began for this device and this TPM.
    Began {
        at: UnixTime,
        fleet: FleetName,
        device: DeviceId,
        /// Its TPM's endorsement key; `None`: it has no TPM.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ek: Option<EkDigest>,
    },
    /// The attestation key is in the TPM, and the TPM proved that it is beside this endorsement key.
    Bound { at: UnixTime },
    /// A volume with this key is about to be written.
    Writing {
        at: UnixTime,
        psk: PskDigest,
        /// The volume's UUID, by which it is known while it does not open; journals of old have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        volume: Option<String>,
    },
    /// It is written and synced, beside its target.
    Written {
        at: UnixTime,
        volume_key: VolumeKeyDigest,
    },
    /// It is in its place.
    Placed { at: UnixTime },
    /// The registry has the device.
    Enrolled { at: UnixTime, psk: PskDigest },
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalFault {
    /// The file.
    #[error("cannot {doing} the journal '{}'", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// A line that says nothing we know.
    #[error("line {line} of the journal '{}' cannot be read", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        source: serde_json::Error,
    },
    /// A link, a pipe, a folder.
    #[error("'{}' is not a regular file, so it is no journal", path.display())]
    NotAFile { path: PathBuf },
    /// Far longer than any journal.
    #[error("'{}' is too long for a journal", path.display())]
    TooLong { path: PathBuf },
    /// Others can write to it.
    #[error("others may write to the journal '{}'", path.display())]
    Exposed { path: PathBuf },
    /// Another run has it.
    #[error("another run works on '{}'", path.display())]
    Locked { path: PathBuf },
}

impl JournalFault {
    /// What a person can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Line { path, .. } | Self::TooLong { path } => Some(format!(
                "was it written by a newer version? moving '{}' away starts anew",
                path.display()
            )),
            Self::NotAFile { path } => Some(format!("move '{}' away", path.display())),
            Self::Exposed { path } => Some(format!(
                "chmod 600 '{}', if nobody else wrote to it",
                path.display()
            )),
            Self::Locked { .. } => {
                Some("wait for it, or end it; what it began is finished by the next run".to_owned())
            }
            Self::File { .. } => None,
        }
    }
}

/// Reads the lines of a journal; also returns how many bytes of whole lines there are.
pub(crate) fn parse(path: &std::path::Path, text: &[u8]) -> Result<(Vec<Entry>, usize), JournalFault> {
    let whole = text
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at.saturating_add(1));
    let lines = text.get(..whole).unwrap_or_default();
    let mut entries = Vec::new();
    for (nth, line) in lines
        .split(|b| *b == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
    {
        let entry = serde_json::from_slice(line).map_err(|source| JournalFault::Line {
            path: path.to_owned(),
            line: nth.saturating_add(1),
            source,
        })?;
        entries.push(entry);
    }
    let rest = text.get(whole..).unwrap_or_default();
    if let Err(source) = torn(rest) {
        return Err(JournalFault::Line {
            path: path.to_owned(),
            line: lines.iter().filter(|b| **b == b'\n').count().saturating_add(1),
            source,
        });
    }
    Ok((entries, whole))
}

/// Whether this may be the beginning of an entry: what a kill left, or the zeros that a power cut leaves in its place.
/// Anything else is somebody's text, and would be lost if it were cut off.
fn torn(rest: &[u8]) -> Result<(), serde_json::Error> {
    const BEGINS: &[u8] = b"{\"entry\":\"";
    let alike = rest.iter().zip(BEGINS).all(|(a, b)| a == b);
    if alike || rest.iter().all(|b| *b == 0) {
        return Ok(());
    }
    serde_json::from_slice::<Entry>(rest).map(drop)
}

/// For whom a volume was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose<'a> {
    pub(crate) fleet: &'a FleetName,
    pub(crate) device: &'a DeviceId,
    /// Its TPM's endorsement key, where it has a TPM.
    pub(crate) ek: Option<&'a EkDigest>,
}

/// Whether an earlier run for this very device and TPM wrote a volume with this key.
pub(crate) fn wrote(entries: &[Entry], whose: Whose<'_>, psk: &PskDigest) -> bool {
    written(entries, whose).any(|(written, _)| written == psk)
}

/// Whether an earlier run for this very device and TPM wrote the volume with this UUID.
pub(crate) fn wrote_volume(entries: &[Entry], whose: Whose<'_>, uuid: &str) -> bool {
    written(entries, whose).any(|(_, volume)| volume == Some(uuid))
}

/// Whether the volume with this UUID is the last one that was begun here, as far as the journal knows: an escrow file is written for
/// that one.
pub(crate) fn is_last(entries: &[Entry], uuid: &str) -> bool {
    let last = entries.iter().rev().find_map(|entry| match entry {
        Entry::Writing { volume, .. } => Some(volume),
        _ => None,
    });
    last.and_then(Option::as_ref).is_none_or(|volume| volume == uuid)
}

fn written<'a>(
    entries: &'a [Entry],
    whose: Whose<'a>,
) -> impl Iterator<Item = (&'a PskDigest, Option<&'a str>)> {
    let mut ours = false;
    entries.iter().filter_map(move |entry| match entry {
        Entry::Began {
            fleet, device, ek, ..
        } => {
            ours = fleet == whose.fleet && device == whose.device && ek.as_ref() == whose.ek;
            None
        }
        Entry::Writing { psk, volume, .. } if ours => Some((psk, volume.as_deref())),
        _ => None,
    })
}

/// Whether an earlier run began to write here, so that a half-written file may lie beside the target.
pub(crate) fn may_have_leftover(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| matches!(entry, Entry::Writing { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let at = UnixTime::from_secs(1);
        vec![
            Entry::Began {
                at,
                fleet: "demo".parse().unwrap(),
                device: "kiosk".parse().unwrap(),
                ek: Some(EkDigest::of(b"ek")),
            },
            Entry::Bound { at },
            Entry::Writing {
                at,
                psk: PskDigest::of(b"one"),
                volume: Some("1b4e28ba-2fa1-41d2-883f-0016d3cca427".to_owned()),
            },
        ]
    }

    fn text(entries: &[Entry]) -> Vec<u8> {
        entries
            .iter()
            .flat_map(|e| [serde_json::to_vec(e).unwrap(), b"\n".to_vec()].concat())
            .collect()
    }

    #[test]
    fn lines_round_trip_and_a_torn_last_one_is_dropped() {
        let path = std::path::Path::new("x.journal");
        let mut bytes = text(&entries());
        let whole = bytes.len();
        assert_eq!(parse(path, &bytes).unwrap(), (entries(), whole));
        bytes.extend(b"{\"entry\":\"wri");
        assert_eq!(parse(path, &bytes).unwrap(), (entries(), whole));
        assert_eq!(parse(path, b"").unwrap(), (vec![], 0));
    }

    /// What versions before OTP and escrow wrote is still read.
    #[test]
    fn old_lines_are_read() {
        let ek = EkDigest::of(b"ek");
        let psk = PskDigest::of(b"one");
        let old = format!(
            "{{\"entry\":\"began\",\"at\":1,\"fleet\":\"demo\",\"device\":\"kiosk\",\"ek\":\"{ek}\"}}\n\
             {{\"entry\":\"writing\",\"at\":1,\"psk\":\"{psk}\"}}\n"
        );
        let (entries, _) = parse(std::path::Path::new("x.journal"), old.as_bytes()).unwrap();
        let (fleet, device) = ("demo".parse().unwrap(), "kiosk".parse().unwrap());
        let whose = Whose {
            fleet: &fleet,
            device: &device,
            ek: Some(&ek),
        };
        assert!(wrote(&entries, whose, &psk));
    }

    #[test]
    fn a_line_that_is_not_known_stops_everything() {
        let bytes = [text(&entries()), b"{\"entry\":\"fused\"}\n".to_vec()].concat();
        let wrong = parse(std::path::Path::new("x.journal"), &bytes).unwrap_err();
        assert!(matches!(wrong, JournalFault::Line { line: 4, .. }));
        assert!(wrong.hint().is_some());
    }

    #[test]
    fn only_this_devices_keys_on_this_tpm_are_ours() {
        let (fleet, device) = ("demo".parse().unwrap(), "kiosk".parse().unwrap());
        let ours = |device: &DeviceId, ek: &[u8], psk: &[u8]| {
            let ek = EkDigest::of(ek);
            let whose = Whose {
                fleet: &fleet,
                device,
                ek: Some(&ek),
            };
            wrote(&entries(), whose, &PskDigest::of(psk))
        };
        assert!(ours(&device, b"ek", b"one"));
        assert!(!ours(&device, b"ek", b"two"));
        assert!(!ours(&device, b"other", b"one"));
        assert!(!ours(&"other".parse().unwrap(), b"ek", b"one"));
        let ek = EkDigest::of(b"ek");
        let volume = |ek, uuid| {
            let whose = Whose {
                fleet: &fleet,
                device: &device,
                ek,
            };
            wrote_volume(&entries(), whose, uuid)
        };
        assert!(volume(Some(&ek), "1b4e28ba-2fa1-41d2-883f-0016d3cca427"));
        assert!(!volume(None, "1b4e28ba-2fa1-41d2-883f-0016d3cca427"));
        assert!(!volume(Some(&ek), "1b4e28ba-2fa1-41d2-883f-0016d3cca428"));
        assert!(is_last(&entries(), "1b4e28ba-2fa1-41d2-883f-0016d3cca427"));
        assert!(!is_last(&entries(), "1b4e28ba-2fa1-41d2-883f-0016d3cca428"));
        assert!(
            is_last(&entries()[..2], "1b4e28ba-2fa1-41d2-883f-0016d3cca428"),
            "nothing is known"
        );
        assert!(may_have_leftover(&entries()));
        assert!(!may_have_leftover(&entries()[..2]));
    }
}
