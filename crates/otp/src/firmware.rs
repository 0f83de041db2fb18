//! The firmware's cryptography with OTP keys: status, locks, HMAC.
//!
//! Owns: the tags and their words, as `rpifwcrypto.c` and `.h` of raspberrypi/utils lay them out, and what is asked before a key is used: is it
//! this device's own, is its HMAC still allowed. A failing tag makes the kernel say "invalid argument" and throw the answer away; why it failed is asked
//! in a message of its own.
//! Refuses messages that the firmware has no room for. Never asks for the private key (tag 0x00030094) or for raw rows.

use std::io;

use zeroize::Zeroizing;

use crate::{
    error::{FirmwareError, Refusal},
    mailbox::{Mailbox, ask},
};

const LAST_ERROR: u32 = 0x0003_008e;
const KEY_STATUS: u32 = 0x0003_0090;
const SET_KEY_STATUS: u32 = 0x0003_8090;
const HMAC_SHA256: u32 = 0x0003_0092;

/// The longest message of an HMAC, in bytes.
const MAX_MESSAGE: usize = 2048;
/// Bytes of an HMAC request: flags, key id, length and the room for the message.
const HMAC_ROOM: u32 = 3 * 4 + 2048;
/// In the first word of a value: this tag failed.
const FAILED: u32 = 0x8000_0000;
/// In a status: the key is the device's own.
const DEVICE_KEY: u32 = 1;

/// The number of an OTP key. They begin at 1; no firmware of 2026 has a second one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId(u32);

impl KeyId {
    /// The device's private key: rows 56 to 63 of a BCM2711.
    pub const DEVICE: Self = Self(1);

    /// A key by its number; `None` outside of 1 to 15.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match number {
            1..=15 => Some(Self(number)),
            _ => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Uses of a key that the firmware refuses until the next reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locks(u32);

impl Locks {
    /// Reading the raw key through the mailbox (bit 8). Before the bootloader of 2026-01-09 another tag still gave it out (rpi-eeprom, #793).
    pub const READ: Self = Self(1 << 8);
    /// Generating a key (bit 9).
    pub const GENERATE: Self = Self(1 << 9);
    /// Signing (bit 10).
    pub const SIGN: Self = Self(1 << 10);
    /// HMAC (bit 11): no volume opens after it until the next reboot.
    pub const HMAC: Self = Self(1 << 11);
    /// All of them.
    pub const ALL: Self = Self::READ.and(Self::GENERATE).and(Self::SIGN).and(Self::HMAC);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What the firmware says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyStatus(u32);

impl KeyStatus {
    /// Whether the key is unique to this device.
    #[must_use]
    pub const fn is_device_key(self) -> bool {
        self.0 & DEVICE_KEY != 0
    }

    /// Whether all of these locks are in force.
    #[must_use]
    pub const fn has(self, locks: Locks) -> bool {
        self.0 & locks.0 == locks.0
    }
}

/// The status of a key.
pub(crate) fn status(mailbox: &mut dyn Mailbox, key: KeyId) -> Result<KeyStatus, FirmwareError> {
    let value = request(mailbox, KEY_STATUS, &[key.0], 4)?;
    let status = first(KEY_STATUS, &value)?;
    Ok(KeyStatus(status))
}

/// Sets locks, and sees that they are in force.
pub(crate) fn lock(mailbox: &mut dyn Mailbox, key: KeyId, locks: Locks) -> Result<KeyStatus, FirmwareError> {
    request(mailbox, SET_KEY_STATUS, &[key.0, locks.0], 8)?;
    let after = status(mailbox, key)?;
    if after.has(locks) {
        Ok(after)
    } else {
        Err(FirmwareError::LocksIgnored)
    }
}

/// HMAC-SHA256 of a message under a key, after a look at whether the key may be used.
pub(crate) fn hmac(
    mailbox: &mut dyn Mailbox,
    key: KeyId,
    message: &[u8],
) -> Result<Zeroizing<[u8; 32]>, FirmwareError> {
    let len = u32::try_from(message.len())
        .ok()
        .filter(|_| (1..=MAX_MESSAGE).contains(&message.len()))
        .ok_or(FirmwareError::MessageSize(message.len()))?;
    let status = status(mailbox, key)?;
    if status.has(Locks::HMAC) {
        return Err(Refusal::Locked.into());
    }
    if !status.is_device_key() {
        return Err(FirmwareError::NotTheDeviceKey);
    }
    let mut arguments = vec![0, key.0, len];
    arguments.extend(message.chunks(4).map(word));
    let value = request(mailbox, HMAC_SHA256, &arguments, HMAC_ROOM)?;
    let [_, said, hmac @ ..] = value.as_slice() else {
        return Err(FirmwareError::Length {
            tag: HMAC_SHA256,
            len: 0,
        });
    };
    // The key's id is where the length comes: an answer that never came is known by it.
    if *said != 32 {
        let (tag, len) = (HMAC_SHA256, *said);
        return Err(FirmwareError::Length { tag, len });
    }
    let mut bytes = Zeroizing::new([0; 32]);
    let (to, _) = bytes.as_chunks_mut::<4>();
    for (to, from) in to.iter_mut().zip(hmac) {
        // The firmware writes bytes into the buffer; they are words to us only on the way.
        *to = from.to_ne_bytes();
    }
    Ok(bytes)
}

/// Four bytes of a message, or its last ones and zeros, as they lie in memory.
fn word(bytes: &[u8]) -> u32 {
    let mut word = [0; 4];
    word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u32::from_ne_bytes(word)
}

/// Asks, and finds out why where the answer is a failure.
fn request(
    mailbox: &mut dyn Mailbox,
    tag: u32,
    arguments: &[u32],
    room: u32,
) -> Result<Zeroizing<Vec<u32>>, FirmwareError> {
    match ask(mailbox, tag, arguments, room) {
        // EINVAL is what the kernel makes of a response code that is not success.
        Err(FirmwareError::Mailbox(source)) if source.kind() == io::ErrorKind::InvalidInput => {
            Err(why(mailbox).unwrap_or(FirmwareError::Mailbox(source)))
        }
        Err(FirmwareError::Response(code)) => Err(why(mailbox).unwrap_or(FirmwareError::Response(code))),
        Err(other) => Err(other),
        // Neither a status nor a key's id has this bit.
        Ok(value) if value.first().is_some_and(|word| word & FAILED != 0) => {
            Err(why(mailbox).unwrap_or(FirmwareError::Refused(Refusal::Failed)))
        }
        Ok(value) => Ok(value),
    }
}

/// What the firmware says of its last failure, if it says anything.
fn why(mailbox: &mut dyn Mailbox) -> Option<FirmwareError> {
    let value = ask(mailbox, LAST_ERROR, &[], 4).ok()?;
    match value.first()? {
        0 => None,
        code => Some(Refusal::of(*code).into()),
    }
}

fn first(tag: u32, value: &[u32]) -> Result<u32, FirmwareError> {
    value
        .first()
        .copied()
        .ok_or(FirmwareError::Length { tag, len: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_does_not_fit_is_never_sent() {
        for len in [0, MAX_MESSAGE + 1] {
            let mut never = |_: &mut [u32]| -> io::Result<()> { panic!("it was sent") };
            let refused = hmac(&mut never, KeyId::DEVICE, &vec![0; len]);
            assert!(matches!(refused, Err(FirmwareError::MessageSize(l)) if l == len));
        }
    }

    #[test]
    fn the_longest_message_fits_into_the_layout() {
        let mut seen = 0;
        let mut mailbox = |message: &mut [u32]| {
            seen = seen.max(message.len());
            message[1] = 0x8000_0000;
            message[4] = 0x8000_0000;
            match message[2] {
                KEY_STATUS => message[5] = DEVICE_KEY,
                // The last four bytes of the text are where the vendor's layout has them.
                _ => assert_eq!(message[519], u32::from_ne_bytes([9, 9, 9, 0])),
            }
            Ok(())
        };
        let text = vec![9; MAX_MESSAGE - 1];
        let answer = hmac(&mut mailbox, KeyId::DEVICE, &text);
        assert!(matches!(answer, Err(FirmwareError::Length { .. })));
        assert_eq!(seen, crate::ioctl::WORDS);
    }
}
