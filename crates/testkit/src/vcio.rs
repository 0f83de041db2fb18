//! A fake of a Raspberry Pi's firmware behind `/dev/vcio`, for machines that are none.
//!
//! Owns: the contract as it is documented and was seen, on the words of a property message: the tags of `rpifwcrypto.h`
//! (raspberrypi/utils) with one OTP key, its lock bits, its error codes and the limit of 2048 bytes; what the kernel's
//! driver makes of a failure (`EINVAL`, and the answer is thrown away: `drivers/char/broadcom/vcio.c` and
//! `drivers/firmware/raspberrypi.c` of raspberrypi/linux); that an unknown tag is left without its mark while the whole
//! message succeeds.
//! Its HMAC gives what a real `start4.elf` gave, run in an emulator by rusty-pi/pimu (`testdata/boot/linux.toml`): a test of `otp` says so.
//! Limits: no real board was asked. What a [`Fault`] does is what could go wrong, not what was seen.

use std::{
    io,
    sync::{Arc, Mutex},
};

use ring::hmac;

const LAST_ERROR: u32 = 0x0003_008e;
const NUM_KEYS: u32 = 0x0003_008f;
const KEY_STATUS: u32 = 0x0003_0090;
const SET_KEY_STATUS: u32 = 0x0003_8090;
const HMAC_SHA256: u32 = 0x0003_0092;
const PRIVATE_KEY: u32 = 0x0003_0094;

const KEY_ID: u32 = 1;
const DEVICE_KEY: u32 = 1;
const LOCK_BITS: u32 = 0x0f00;
const READ_LOCKED: u32 = 1 << 8;
const HMAC_LOCKED: u32 = 1 << 11;
const MAX_MESSAGE: u32 = 2048;
const ANSWERED: u32 = 0x8000_0000;

/// The order of P-256, which a key must be below.
const ORDER: [u32; 8] = [
    0xffff_ffff,
    0x0000_0000,
    0xffff_ffff,
    0xffff_ffff,
    0xbce6_faad,
    0xa717_9e84,
    0xf3b9_cac2,
    0xfc63_2551,
];

/// Something that goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No device at all.
    NoDevice,
    /// The device is there and may not be opened.
    NoPermission,
    /// A firmware from before the cryptography: its tags are unknown.
    OldFirmware,
    /// A firmware that knows the status of keys, and says of every use that it is not supported.
    NotSupported,
    /// An HMAC of so many bytes.
    ShortHmac(u32),
    /// The answer never comes: the request comes back with all marks of an answer.
    Echo,
    /// The whole answer is stamped so.
    Code(u32),
    /// The answer belongs to another tag.
    OtherTag(u32),
    /// Locks are said to be set, and are not.
    LocksIgnored,
    /// The first word of a value says that it failed, with this code as the last error.
    FailedValue(u32),
    /// Requests fail, and the last error is success.
    NoReason,
}

/// A board: copies of it are the same board.
#[derive(Debug, Clone)]
pub struct FakeFirmware {
    board: Arc<Mutex<Board>>,
}

#[derive(Debug)]
struct Board {
    rows: [u32; 8],
    device_key: bool,
    locks: u32,
    last_error: u32,
    fault: Option<Fault>,
    asked: Vec<u32>,
}

impl FakeFirmware {
    /// A board whose rows 56 to 63 hold `key`, a big-endian number.
    #[must_use]
    pub fn with_key(key: &[u8; 32]) -> Self {
        let mut rows = [0; 8];
        for (row, bytes) in rows.iter_mut().zip(key.as_chunks::<4>().0) {
            *row = u32::from_be_bytes(*bytes);
        }
        Self {
            board: Arc::new(Mutex::new(Board {
                rows,
                device_key: true,
                locks: 0,
                last_error: 0,
                fault: None,
                asked: Vec::new(),
            })),
        }
    }

    /// A board as it leaves the factory.
    #[must_use]
    pub fn blank() -> Self {
        Self::with_key(&[0; 32])
    }

    /// From now on this goes wrong.
    pub fn fail(&self, fault: Fault) {
        self.board.lock().unwrap().fault = Some(fault);
    }

    /// The slot holds a key that is not the device's own.
    pub fn not_the_device_key(&self) {
        self.board.lock().unwrap().device_key = false;
    }

    /// As `lock_device_private_key=1` in config.txt, or a program before ours, leaves it.
    pub fn lock(&self, bits: u32) {
        self.board.lock().unwrap().locks |= bits & LOCK_BITS;
    }

    /// Locks last until here.
    pub fn reboot(&self) {
        self.board.lock().unwrap().locks = 0;
    }

    /// The tags that were asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<u32> {
        self.board.lock().unwrap().asked.clone()
    }

    /// The nvmem file's bytes: the rows as words of this machine, or an error where reading is locked.
    ///
    /// # Errors
    /// `InvalidInput`, as the driver passes on the firmware's refusal.
    pub fn nvmem(&self) -> io::Result<Vec<u8>> {
        let board = self.board.lock().unwrap();
        if board.locks & READ_LOCKED != 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(board.rows.iter().flat_map(|row| row.to_ne_bytes()).collect())
    }

    /// What the ioctl does with a message.
    ///
    /// # Errors
    /// As the kernel says them.
    pub fn property(&self, message: &mut [u32]) -> io::Result<()> {
        self.board.lock().unwrap().property(message)
    }
}

impl Board {
    fn property(&mut self, message: &mut [u32]) -> io::Result<()> {
        match self.fault {
            Some(Fault::NoDevice) => return Err(io::ErrorKind::NotFound.into()),
            Some(Fault::NoPermission) => return Err(io::ErrorKind::PermissionDenied.into()),
            _ => {}
        }
        // The driver copies as many bytes as the first word says; beyond the buffer it would fault.
        assert_eq!(
            message[0] as usize,
            size_of_val(message),
            "the size is the buffer's own"
        );
        assert_eq!(message.last(), Some(&0), "the end tag is there");
        assert_eq!(message[1], 0, "it is a request");
        let (tag, room) = (message[2], message[3]);
        assert_eq!(
            room as usize,
            (message.len() - 6) * 4,
            "one tag fills the message"
        );
        self.asked.push(tag);
        let mut answer = message.to_vec();
        let end = answer.len() - 1;
        match self.tag(tag, &mut answer[5..end]) {
            Some(Ok(())) => answer[4] |= ANSWERED,
            // The message succeeds as a whole, without a word about this tag.
            None => {}
            Some(Err(error)) => {
                self.last_error = error;
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
        answer[1] = ANSWERED;
        match self.fault {
            Some(Fault::Code(code)) => answer[1] = code,
            Some(Fault::OtherTag(other)) => answer[2] = other,
            _ => {}
        }
        message.copy_from_slice(&answer);
        Ok(())
    }

    /// Answers in place; `None` is a tag that the firmware does not know, an error its code.
    fn tag(&mut self, tag: u32, value: &mut [u32]) -> Option<Result<(), u32>> {
        if tag == LAST_ERROR && self.fault != Some(Fault::OldFirmware) {
            value[0] = if self.fault == Some(Fault::NoReason) {
                0
            } else {
                self.last_error
            };
            return Some(Ok(()));
        }
        match (self.fault, tag) {
            (Some(Fault::OldFirmware), _) => return None,
            (Some(Fault::NoReason), _) => return Some(Err(1)),
            (Some(Fault::FailedValue(code)), _) => {
                self.last_error = code;
                value[0] = 0x8000_0000;
                return Some(Ok(()));
            }
            (Some(Fault::NotSupported), HMAC_SHA256) => return Some(Err(8)),
            (Some(Fault::Echo), HMAC_SHA256) => return Some(Ok(())),
            _ => {}
        }
        let answer = match tag {
            NUM_KEYS => {
                value[0] = 1;
                Ok(())
            }
            KEY_STATUS => self.key(value[0]).map(|()| value[0] = self.status()),
            SET_KEY_STATUS => self.key(value[0]).map(|()| {
                if self.fault != Some(Fault::LocksIgnored) {
                    self.locks |= value[1] & LOCK_BITS;
                }
                value[0] = 0;
            }),
            HMAC_SHA256 => self.hmac(value),
            PRIVATE_KEY if self.locks & READ_LOCKED != 0 => Err(4),
            _ => return None,
        };
        if answer.is_ok() {
            self.last_error = 0;
        }
        Some(answer)
    }

    fn key(&self, id: u32) -> Result<(), u32> {
        if id == KEY_ID { Ok(()) } else { Err(3) }
    }

    fn status(&self) -> u32 {
        self.locks | if self.device_key { DEVICE_KEY } else { 0 }
    }

    fn hmac(&self, value: &mut [u32]) -> Result<(), u32> {
        let (flags, id, len) = (value[0], value[1], value[2]);
        self.key(id)?;
        if flags != 0 || len == 0 || len > MAX_MESSAGE || value.len() != 3 + 512 {
            return Err(2);
        }
        if self.locks & HMAC_LOCKED != 0 {
            return Err(4);
        }
        if self.rows == [0; 8] {
            return Err(6);
        }
        if self.rows >= ORDER {
            return Err(7);
        }
        let key: Vec<u8> = self.rows.iter().flat_map(|row| row.to_be_bytes()).collect();
        let message: Vec<u8> = value[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message[..len as usize]);
        value[0] = 0;
        value[1] = match self.fault {
            Some(Fault::ShortHmac(len)) => len,
            _ => 32,
        };
        for (word, bytes) in value[2..].iter_mut().zip(tag.as_ref().as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*bytes);
        }
        Ok(())
    }
}
