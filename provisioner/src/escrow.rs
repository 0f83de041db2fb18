//! The recovery key of a volume, encrypted with age to those who keep the fleet's keys.
//!
//! Owns: who may be a recipient, the text inside of an escrow file, and the judgement whether a file belongs to a volume. The
//! text is for people too, since stock `age -d` shows it:
//!
//! ```text
//! signalbox recovery key 1
//! device: edge-1
//! volume: 1b4e28ba-2fa1-41d2-883f-0016d3cca427
//! key: cccjbcbj-dcdjecej-fcfjgcgj-hchjicij-jcjjkckj-lcljncnj-rcrjtctj-ucujvcvj
//! ```
//!
//! Refuses: SSH keys and plugins as recipients (their files need more than an identity file to be opened), a key of low
//! order, and the file of another volume or device: the names inside are authenticated, the file's own name is not.
//! Who may call: the commands that make and recover volumes. Does no I/O; the files are `adapters`' work.
//! An attacker who can write the folder can put a file there that the recipients can open: age says who can read, not who wrote.
//! What is inside of such a file opens nothing. Limits: age keeps the plain text of a file in a buffer of its own, which is not wiped;
//! core dumps are off.

use std::io::{self, Read as _, Write as _};

use age::{
    Decryptor, Encryptor,
    armor::{ArmoredReader, ArmoredWriter, Format},
    x25519,
};
use data_encoding::{HEXLOWER, Specification};
use domain::DeviceId;
use ring::{
    agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral},
    rand::SystemRandom,
};
use volume::RecoveryKey;
use zeroize::Zeroizing;

/// First line of the text.
const TITLE: &str = "signalbox recovery key 1";
/// Most recipients of a file.
const MAX_RECIPIENTS: usize = 32;
/// The longest file, in bytes: 32 recipients are some five thousand.
pub(crate) const MAX_FILE: usize = 64 * 1024;
/// The longest text inside, in bytes: a device id of 63, and the fixed rest.
const MAX_TEXT: usize = 256;

/// Which volume a key is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The device that the volume is for.
    pub(crate) device: DeviceId,
    /// The volume's UUID.
    pub(crate) volume: [u8; 16],
}

/// Those who can open a fleet's escrow files; at least one.
#[derive(Debug, Clone)]
pub(crate) struct Recipients(Vec<x25519::Recipient>);

/// Why a list of recipients is none. Texts that may be secret are not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecipientError {
    #[error("there is no recipient: nobody could open the file")]
    Nobody,
    #[error("there are {0} recipients, at most {MAX_RECIPIENTS} are allowed")]
    TooMany(usize),
    #[error("recipient {0} is a secret key: only its public half (`age-keygen -y`) belongs here")]
    SecretKey(usize),
    #[error("recipient {0} is an SSH key: age's own keys (`age-keygen`) are needed")]
    Ssh(usize),
    #[error("recipient {0} is no age X25519 key: `age1` and 58 letters and digits")]
    Invalid(usize),
    #[error("recipient {0} is a key of low order: anybody could open the file")]
    LowOrder(usize),
    #[error("recipient {0} is there twice")]
    Twice(usize),
}

impl Recipients {
    /// Reads a list of `age1…` texts. Errors count from 1.
    pub(crate) fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, RecipientError> {
        if texts.is_empty() {
            return Err(RecipientError::Nobody);
        }
        if texts.len() > MAX_RECIPIENTS {
            return Err(RecipientError::TooMany(texts.len()));
        }
        let mut all: Vec<x25519::Recipient> = Vec::with_capacity(texts.len());
        for (number, text) in (1..).zip(texts) {
            let recipient = recipient(number, text.as_ref())?;
            if all.contains(&recipient) {
                return Err(RecipientError::Twice(number));
            }
            all.push(recipient);
        }
        Ok(Self(all))
    }
}

fn recipient(number: usize, text: &str) -> Result<x25519::Recipient, RecipientError> {
    if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
        return Err(RecipientError::SecretKey(number));
    }
    if text.starts_with("ssh-") || text.starts_with("ecdsa-") {
        return Err(RecipientError::Ssh(number));
    }
    let invalid = RecipientError::Invalid(number);
    let recipient: x25519::Recipient = text.parse().map_err(|_| invalid.clone())?;
    let point = point(&recipient).ok_or(invalid)?;
    // age itself would panic over such a key, taking it for a sign of bad randomness.
    let contributes = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new())
        .and_then(|key| agree_ephemeral(key, &UnparsedPublicKey::new(&X25519, point), |_| ()));
    contributes.map_err(|_| RecipientError::LowOrder(number))?;
    Ok(recipient)
}

/// The bytes of a recipient, whose checksum was verified: five bits a letter (BIP 173) between `age1` and six letters of checksum.
fn point(recipient: &x25519::Recipient) -> Option<Vec<u8>> {
    let text = recipient.to_string();
    let letters = text.strip_prefix("age1")?;
    let letters = letters.get(..letters.len().checked_sub(6)?)?;
    let mut letters_of_bech32 = Specification::new();
    letters_of_bech32
        .symbols
        .push_str("qpzry9x8gf2tvdw0s3jn54khce6mua7l");
    let bytes = letters_of_bech32
        .encoding()
        .ok()?
        .decode(letters.as_bytes())
        .ok()?;
    (bytes.len() == 32).then_some(bytes)
}

/// Secret keys out of an identity file.
pub(crate) struct Identities(Vec<x25519::Identity>);

/// Why a file has no identities. Lines are counted and never shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("the identity file has no secret key")]
    Nobody,
    #[error("the identity file is itself encrypted: pass what `age -d` makes of it, through a pipe")]
    Encrypted,
    #[error(
        "line {0} of the identity file is no age X25519 secret key; plugins and SSH keys are not supported"
    )]
    Line(usize),
    #[error("the identity file is longer than {MAX_FILE} bytes")]
    TooLong,
}

impl Identities {
    /// Reads what `age-keygen` writes: a key a line, comments and empty lines between.
    pub(crate) fn parse(file: &[u8]) -> Result<Self, IdentityError> {
        if file.len() > MAX_FILE {
            return Err(IdentityError::TooLong);
        }
        if file.starts_with(b"age-encryption.org/") || file.starts_with(b"-----BEGIN AGE ENCRYPTED FILE") {
            return Err(IdentityError::Encrypted);
        }
        let mut all = Vec::new();
        for (number, line) in (1..).zip(file.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let key = str::from_utf8(line).ok().and_then(|text| text.parse().ok());
            all.push(key.ok_or(IdentityError::Line(number))?);
        }
        if all.is_empty() {
            return Err(IdentityError::Nobody);
        }
        Ok(Self(all))
    }
}

/// Why a key was not put away or not found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EscrowError {
    #[error("the recovery key cannot be encrypted")]
    Encrypt(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the escrow file is longer than {MAX_FILE} bytes")]
    TooLong,
    #[error("none of these identities opens the escrow file")]
    NotOurs,
    #[error("the escrow file is broken")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the escrow file holds something else than a recovery key of version 1")]
    NotAKey,
    #[error("the escrow file is of the volume {found}, not of {wanted}")]
    OtherVolume { found: String, wanted: String },
    #[error("the escrow file is of the device {found}, not of {wanted}")]
    OtherDevice { found: DeviceId, wanted: DeviceId },
}

/// Encrypts the recovery key of a volume; the file's text, in ASCII.
pub(crate) fn seal(to: &Recipients, of: &Subject, key: &RecoveryKey) -> Result<String, EscrowError> {
    let failed = |why: Box<dyn std::error::Error + Send + Sync>| EscrowError::Encrypt(why);
    let recipients = to.0.iter().map(|recipient| recipient as &dyn age::Recipient);
    let encryptor = Encryptor::with_recipients(recipients).map_err(|e| failed(e.into()))?;
    let file = write(encryptor, &text(of, key)).map_err(|e| failed(e.into()))?;
    String::from_utf8(file).map_err(|e| failed(e.into()))
}

fn write(encryptor: Encryptor, text: &[u8]) -> io::Result<Vec<u8>> {
    let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
    let mut writer = encryptor.wrap_output(armor)?;
    writer.write_all(text)?;
    writer.finish()?.finish()
}

/// What is inside of a file.
fn text(of: &Subject, key: &RecoveryKey) -> Zeroizing<Vec<u8>> {
    // Enough from the start: a growing vector would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_TEXT));
    let head = format!(
        "{TITLE}\ndevice: {}\nvolume: {}\nkey: ",
        of.device,
        uuid(of.volume)
    );
    text.extend_from_slice(head.as_bytes());
    key.expose(|key| text.extend_from_slice(key));
    text.push(b'\n');
    text
}

/// A recovery key that was in escrow. It is given out for its own volume alone.
pub(crate) struct Escrowed {
    of: Subject,
    key: RecoveryKey,
}

/// Opens an escrow file, armored or not.
pub(crate) fn open(file: &[u8], with: &Identities) -> Result<Escrowed, EscrowError> {
    if file.len() > MAX_FILE {
        return Err(EscrowError::TooLong);
    }
    let decryptor = Decryptor::new_buffered(ArmoredReader::new(file)).map_err(refused)?;
    let identities = with.0.iter().map(|identity| identity as &dyn age::Identity);
    let mut reader = decryptor.decrypt(identities).map_err(refused)?;
    let mut room = Zeroizing::new([0; MAX_TEXT]);
    let mut len = 0;
    // To the very end: only there does age say whether the file was cut short.
    loop {
        let rest = room.get_mut(len..).filter(|rest| !rest.is_empty());
        let Some(rest) = rest else {
            return Err(EscrowError::NotAKey);
        };
        match reader.read(rest).map_err(|e| EscrowError::Broken(e.into()))? {
            0 => break,
            more => len = len.saturating_add(more),
        }
    }
    parse(room.get(..len).unwrap_or_default()).ok_or(EscrowError::NotAKey)
}

/// Whether a file looks like one that age has encrypted, armored or not; who wrote it and what for is not known without a key.
pub(crate) fn is_encrypted(file: &[u8]) -> bool {
    const HEADS: [&[u8]; 2] = [b"-----BEGIN AGE ENCRYPTED FILE-----", b"age-encryption.org/v1"];
    HEADS.iter().any(|head| file.starts_with(head))
}

fn refused(error: age::DecryptError) -> EscrowError {
    match error {
        age::DecryptError::NoMatchingKeys => EscrowError::NotOurs,
        other => EscrowError::Broken(other.into()),
    }
}

/// Exactly what [`text`] writes.
fn parse(bytes: &[u8]) -> Option<Escrowed> {
    let mut lines = bytes.strip_suffix(b"\n")?.split(|byte| *byte == b'\n');
    let mut line = |name: &str| lines.next()?.strip_prefix(name.as_bytes());
    line(TITLE)?.is_empty().then_some(())?;
    let device = str::from_utf8(line("device: ")?).ok()?.parse().ok()?;
    let volume = line("volume: ")?;
    let key = RecoveryKey::parse(line("key: ")?).ok()?;
    if lines.next().is_some() {
        return None;
    }
    let digits: Vec<u8> = volume.iter().copied().filter(|byte| *byte != b'-').collect();
    let bytes = HEXLOWER.decode(&digits).ok()?.try_into().ok()?;
    let of = Subject {
        device,
        volume: bytes,
    };
    // One text for one subject.
    (uuid(bytes).as_bytes() == volume).then_some(Escrowed { of, key })
}

impl Escrowed {
    /// What the file says it is of.
    pub(crate) const fn of(&self) -> &Subject {
        &self.of
    }

    /// The key, if the file is of this volume, and of this device where that is known.
    pub(crate) fn for_volume(
        self,
        volume: [u8; 16],
        device: Option<&DeviceId>,
    ) -> Result<RecoveryKey, EscrowError> {
        if self.of.volume != volume {
            return Err(EscrowError::OtherVolume {
                found: uuid(self.of.volume),
                wanted: uuid(volume),
            });
        }
        match device {
            Some(wanted) if *wanted != self.of.device => Err(EscrowError::OtherDevice {
                found: self.of.device,
                wanted: wanted.clone(),
            }),
            _ => Ok(self.key),
        }
    }
}

/// Random bytes as a UUID: version 4, variant 1 (RFC 9562, 5.4).
pub(crate) const fn random_uuid(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// 8-4-4-4-12 hexadecimal digits (RFC 9562, 4).
pub(crate) fn uuid(bytes: [u8; 16]) -> String {
    let mut text = HEXLOWER.encode(&bytes);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text
}

#[cfg(test)]
mod tests;
