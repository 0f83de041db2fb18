//! The header of a volume: which copy is used, and what it says.
//!
//! Owns: turning the chosen copy (see `copies`) into a valid [`Header`], and what is told of the other. A copy that is chosen and
//! unsupported is the end: the other one is not asked.
//! An attacker controls every byte. Memory is bounded by the largest header of the format, 4 MiB.

use data_encoding::HEXLOWER;
use domain::{Generation, PcrSelection};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    DataCipher, KeyslotId, OtpToken, OtpTokenError, SectorSize, Source, SystemdTpm2, TokenError, Tpm2Token,
    Unsupported,
    authentic::{self, MacToken},
    binary::BinaryHeader,
    compose::uuid,
    content_mac::{self, ContentToken},
    copies::{Chosen, choose},
    metadata::Metadata,
    otp_token,
    recovery::{self, RecoveryToken},
    token,
    validate::Layout,
};

pub use crate::binary::HeaderFault;

/// Which copy of the header was used, and why not the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderCopy {
    /// Both copies are whole and of one age.
    Both,
    /// The first; the second is broken, or older.
    Primary(CopyFault),
    /// The second; the first is broken, or older.
    Secondary(CopyFault),
}

/// What is wrong with the copy that was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyFault {
    /// It cannot be read.
    #[error(transparent)]
    Broken(HeaderFault),
    /// It is whole and has a lower sequence number.
    #[error("it is older")]
    Older,
    /// It is whole and of the same age, and says something else.
    #[error("it is of the same age and says something else")]
    Different,
}

impl HeaderCopy {
    /// Why the copy that was not used may be the one that another tool uses, if it may.
    #[must_use]
    pub const fn doubt(self) -> Option<HeaderFault> {
        match self {
            Self::Primary(CopyFault::Broken(fault)) | Self::Secondary(CopyFault::Broken(fault))
                if fault.is_doubtful() =>
            {
                Some(fault)
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for HeaderCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Both => f.write_str("both headers are whole"),
            Self::Primary(why) => write!(f, "the primary header is used, not the secondary: {why}"),
            Self::Secondary(why) => write!(f, "the secondary header is used, not the primary: {why}"),
        }
    }
}

/// Why a header cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The length of the device cannot be known.
    #[error("the volume cannot be read")]
    Io(#[source] std::io::Error),
    /// Neither copy is whole.
    #[error("there is no LUKS2 header: of the primary, {primary}; of the secondary, {secondary}")]
    NoHeader {
        /// What is wrong with the copy at the start.
        primary: HeaderFault,
        /// What is wrong with the other.
        secondary: HeaderFault,
    },
    /// The first copy is of another version, such as LUKS1. No tool looks for a second one then.
    #[error("this is a LUKS volume of version {0}, only version 2 is read")]
    Version(u16),
    /// The device ends before the headers and the room for keyslots do.
    #[error("the headers need {needed} bytes, {found} are there: the volume is cut off")]
    TooShort {
        /// Bytes of both headers and the room for keyslots.
        needed: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// Well-formed, and refused.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
}

/// A header that this crate opens.
#[derive(Debug, Clone)]
pub struct Header {
    copy: HeaderCopy,
    uuid: String,
    label: String,
    seqid: u64,
    tokens: Vec<SystemdTpm2>,
    sealed: Vec<Tpm2Token>,
    unusable: Vec<TokenError>,
    otp: Vec<OtpToken>,
    unusable_otp: Vec<OtpTokenError>,
    other: Vec<Value>,
    recovery: Vec<KeyslotId>,
    macs: Vec<MacToken>,
    content: Option<ContentToken>,
    pub(crate) layout: Layout,
}

impl Header {
    /// Which copy was read; anything but [`HeaderCopy::Both`] deserves a warning.
    #[must_use]
    pub const fn copy(&self) -> HeaderCopy {
        self.copy
    }

    /// The UUID's text as it is written. Not authenticated.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The label, often empty. Not authenticated.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The 16 bytes of the UUID; `None` where its text is none in the usual form. Not authenticated.
    #[must_use]
    pub fn uuid_bytes(&self) -> Option<[u8; 16]> {
        let digits: String = self.uuid.split('-').collect();
        let bytes = HEXLOWER.decode(digits.as_bytes()).ok()?.try_into().ok()?;
        // One text for one value: the dashes are where they belong.
        (uuid(bytes) == self.uuid).then_some(bytes)
    }

    /// How often the header was changed.
    #[must_use]
    pub const fn seqid(&self) -> u64 {
        self.seqid
    }

    /// The well-formed `systemd-tpm2` tokens of every kind, those with exact PCRs alone among them, in the order of their
    /// numbers.
    #[must_use]
    pub fn sealed_tokens(&self) -> &[Tpm2Token] {
        &self.sealed
    }

    /// The `systemd-tpm2` tokens with exact PCRs alone, in the order of their numbers.
    #[must_use]
    pub fn tpm2_tokens(&self) -> &[SystemdTpm2] {
        &self.tokens
    }

    /// Tokens of type `systemd-tpm2` that want more than exact PCRs, or are malformed, and why.
    #[must_use]
    pub fn unusable_tokens(&self) -> &[TokenError] {
        &self.unusable
    }

    /// The usable `signalbox-otp` tokens, in the order of their numbers.
    #[must_use]
    pub fn otp_tokens(&self) -> &[OtpToken] {
        &self.otp
    }

    /// Tokens of type `signalbox-otp` that cannot be used, and why.
    #[must_use]
    pub fn unusable_otp_tokens(&self) -> &[OtpTokenError] {
        &self.unusable_otp
    }

    /// The keyslots that a `systemd-recovery` token names.
    #[must_use]
    pub fn recovery_keyslots(&self) -> &[KeyslotId] {
        &self.recovery
    }

    /// Tokens of types that are none of this crate's, as they stand. An attacker controls them; other key stores read theirs
    /// here.
    #[must_use]
    pub fn other_tokens(&self) -> &[Value] {
        &self.other
    }

    /// Bytes of content that [`crate::verify`] can authenticate, if the volume was made so.
    #[must_use]
    pub fn authenticated_content(&self) -> Option<u64> {
        self.content.as_ref().map(|token| token.len.0)
    }

    /// The MAC of the content, if there is one.
    pub(crate) const fn content(&self) -> Option<&ContentToken> {
        self.content.as_ref()
    }

    /// The sectors of the data.
    #[must_use]
    pub const fn sector_size(&self) -> SectorSize {
        self.layout.data.sector
    }

    /// The keyslots that hold the key of the data.
    pub fn keyslots(&self) -> impl Iterator<Item = KeyslotId> {
        self.layout.slots.keys().copied()
    }

    /// The keyslots whose secrets authenticate this header, if it is as they say: opening with one of them verifies that.
    pub fn authenticated_keyslots(&self) -> impl Iterator<Item = KeyslotId> {
        self.macs.iter().map(|mac| mac.keyslot)
    }

    /// The generation that the header claims for what opens a keyslot. Not authenticated: see [`crate::OpenVolume::generation`].
    #[must_use]
    pub fn claimed_generation(&self, keyslot: KeyslotId) -> Option<Generation> {
        self.mac(keyslot)?.generation()
    }

    /// The MAC of a keyslot's secret over this header, if there is one.
    pub(crate) fn mac(&self, keyslot: KeyslotId) -> Option<&MacToken> {
        self.macs.iter().find(|mac| mac.keyslot == keyslot)
    }

    /// The PCRs of each usable token.
    pub fn sealed_to(&self) -> impl Iterator<Item = &PcrSelection> {
        self.tokens.iter().map(|token| &token.pcrs)
    }

    /// The cipher of the data.
    #[must_use]
    pub const fn cipher(&self) -> DataCipher {
        self.layout.data.cipher
    }

    /// Bytes of plain data.
    #[must_use]
    pub const fn data_len(&self) -> u64 {
        self.layout.data.extent.len
    }
}

/// Reads and checks the header of a volume, without any secret.
///
/// # Errors
/// [`InspectError`]; nothing inside a header is trusted before all of it was checked.
pub fn inspect(source: &impl Source) -> Result<Header, InspectError> {
    load(source).map(|loaded| loaded.header)
}

/// A header, and what it was made of.
pub(crate) struct Loaded {
    pub(crate) header: Header,
    pub(crate) metadata: Metadata,
    /// Bytes of the binary header and the JSON area.
    pub(crate) size: u64,
}

/// As [`inspect`], for who changes a header.
pub(crate) fn load(source: &impl Source) -> Result<Loaded, InspectError> {
    let device_len = source.len().map_err(InspectError::Io)?;
    let Chosen { whole: chosen, copy } = choose(source, device_len)?;
    let metadata = Metadata::new(&chosen.metadata).map_err(|e| Unsupported::Field(e.to_string()))?;
    let layout = Layout::new(&metadata, chosen.binary.size, device_len)?;
    let (tokens, unusable) = parsed(&metadata, token::TYPE, SystemdTpm2::from_json);
    let (sealed, _) = parsed(&metadata, token::TYPE, Tpm2Token::from_json);
    let (otp, unusable_otp) = parsed(&metadata, otp_token::TYPE, OtpToken::from_json);
    let recovery = of_type(&metadata, recovery::TYPE);
    let recovery = recovery.flat_map(|token: RecoveryToken| token.keyslots).collect();
    let macs = of_type(&metadata, authentic::TYPE).collect();
    let content = of_type(&metadata, content_mac::TYPE).next();
    let BinaryHeader {
        uuid,
        label,
        seqid,
        size,
        ..
    } = chosen.binary;
    let header = Header {
        copy,
        uuid,
        label,
        seqid,
        tokens,
        sealed,
        unusable,
        otp,
        unusable_otp,
        other: other_tokens(&metadata),
        recovery,
        macs,
        content,
        layout,
    };
    Ok(Loaded {
        header,
        metadata,
        size,
    })
}

/// The tokens of a type: those that its parser takes, and why it does not take the others.
fn parsed<T, E>(metadata: &Metadata, name: &str, parse: impl Fn(Value) -> Result<T, E>) -> (Vec<T>, Vec<E>) {
    let (mut usable, mut unusable) = (Vec::new(), Vec::new());
    for json in metadata.tokens.values() {
        if json.get("type").and_then(Value::as_str) != Some(name) {
            continue;
        }
        match parse(json.clone()) {
            Ok(token) => usable.push(token),
            Err(why) => unusable.push(why),
        }
    }
    (usable, unusable)
}

fn other_tokens(metadata: &Metadata) -> Vec<Value> {
    let ours = [
        token::TYPE,
        otp_token::TYPE,
        recovery::TYPE,
        authentic::TYPE,
        content_mac::TYPE,
    ];
    let is_ours = |json: &Value| {
        json.get("type")
            .and_then(Value::as_str)
            .is_some_and(|t| ours.contains(&t))
    };
    let tokens = metadata.tokens.values();
    tokens.filter(|json| !is_ours(json)).cloned().collect()
}

/// The tokens of a type that can be read; one that cannot is as good as none.
fn of_type<'a, T: DeserializeOwned + 'a>(
    metadata: &'a Metadata,
    name: &'a str,
) -> impl Iterator<Item = T> + 'a {
    let tokens = metadata.tokens.values();
    tokens
        .filter(move |json| json.get("type").and_then(Value::as_str) == Some(name))
        .filter_map(|json| serde_json::from_value(json.clone()).ok())
}
