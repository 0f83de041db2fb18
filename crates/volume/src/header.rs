//! The header of a volume: which copy is used, and what it says.
//!
//! Owns: reading both copies, choosing between them and turning the chosen one into a valid [`Header`]. A broken first
//! copy is no reason to give up: the second is used, and the header says so. A first copy that is whole but
//! unsupported is the end: looking further would let an attacker choose.
//! An attacker controls every byte. Memory is bounded by the largest header of the format, 4 MiB.

use data_encoding::HEXLOWER;
use domain::{Generation, PcrSelection};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    DataCipher, KeyslotId, OtpToken, OtpTokenError, SectorSize, Source, SystemdTpm2, TokenError, Tpm2Token,
    Unsupported,
    authentic::{self, MacToken},
    binary::{self, BinaryHeader, Copy},
    compose::uuid,
    content_mac::{self, ContentToken},
    metadata::{Metadata, MetadataError},
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
    /// The JSON area of a whole copy is none.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
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
    let primary = read_copy(source, Copy::Primary, 0);
    let secondary = match &primary {
        Ok(first) => read_copy(source, Copy::Secondary, first.binary.size),
        Err(_) => search_secondary(source),
    };
    let (chosen, copy) = match (primary, secondary) {
        (Ok(first), Ok(second)) if second.binary.seqid > first.binary.seqid => {
            (second, HeaderCopy::Secondary(CopyFault::Older))
        }
        (Ok(first), Ok(second)) if second.binary.seqid < first.binary.seqid => {
            (first, HeaderCopy::Primary(CopyFault::Older))
        }
        (Ok(first), Ok(second)) if first.says(&second) => (first, HeaderCopy::Both),
        (Ok(first), Ok(_)) => (first, HeaderCopy::Primary(CopyFault::Different)),
        (Ok(first), Err(why)) => (first, HeaderCopy::Primary(CopyFault::Broken(why))),
        (Err(why), Ok(second)) => (second, HeaderCopy::Secondary(CopyFault::Broken(why))),
        (Err(primary), Err(secondary)) => return Err(InspectError::NoHeader { primary, secondary }),
    };
    let metadata = Metadata::parse(&chosen.json)?;
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

/// One copy whose checksum matches.
struct WholeCopy {
    binary: BinaryHeader,
    json: Vec<u8>,
}

impl WholeCopy {
    /// Whether the other copy says the same; only salt, place and checksum differ.
    fn says(&self, other: &Self) -> bool {
        let one = (&self.binary.uuid, &self.binary.label, &self.json);
        one == (&other.binary.uuid, &other.binary.label, &other.json)
    }
}

fn read_copy(source: &impl Source, copy: Copy, at: u64) -> Result<WholeCopy, HeaderFault> {
    let read = |buffer: &mut [u8], offset| {
        source.read_at(buffer, offset).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => HeaderFault::Truncated,
            kind => HeaderFault::Unreadable(kind),
        })
    };
    let mut bytes = [0; binary::LEN];
    read(&mut bytes, at)?;
    let header = BinaryHeader::parse(&bytes, copy, at)?;
    // One of nine sizes up to 4 MiB, so neither the subtraction nor the conversion fails.
    let json_len = header.size.saturating_sub(binary::LEN_U64);
    let mut json = vec![0; usize::try_from(json_len).map_err(|_| HeaderFault::Size(header.size))?];
    read(&mut json, at.saturating_add(binary::LEN_U64))?;
    binary::verify(&bytes, &json)?;
    Ok(WholeCopy { binary: header, json })
}

/// Without a first copy the place of the second is not known: it is at one of the sizes that a header can have.
fn search_secondary(source: &impl Source) -> Result<WholeCopy, HeaderFault> {
    let mut fault = HeaderFault::Magic;
    for at in binary::SIZES {
        match read_copy(source, Copy::Secondary, at) {
            Ok(copy) => return Ok(copy),
            // The most telling fault: that of a place where there was a magic at least.
            Err(HeaderFault::Magic | HeaderFault::Truncated) => {}
            Err(other) => fault = other,
        }
    }
    Err(fault)
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
