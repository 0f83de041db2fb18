//! The property interface of the firmware: one tag, its arguments, its answer.
//!
//! Owns: the layout of a message (raspberrypi/firmware wiki, "Mailbox property interface") and what makes an answer one:
//! the response code of the whole, the mark of the tag. What a tag's words mean is `firmware`'s business.
//! The firmware is trusted with the key, and yet its answers are checked: they share the buffer with the request, so an
//! answer that never came looks like the request.

use std::io;

use zeroize::Zeroizing;

use crate::error::FirmwareError;

/// The response code of a whole message that was processed.
const SUCCESS: u32 = 0x8000_0000;
/// In a tag's third word: this is an answer.
const ANSWERED: u32 = 0x8000_0000;
/// Words before a tag's value.
const HEAD: usize = 5;

/// Something that exchanges a property message with the firmware: [`Vcio`](crate::Vcio), or a test's fake.
///
/// The message is a whole property buffer: its size in bytes, a code, one tag, the end tag. It is answered in place.
pub trait Mailbox: Send {
    /// Exchanges a message.
    ///
    /// # Errors
    /// As the kernel reports them: `NotFound` without a device, `InvalidInput` when the firmware fails a request.
    fn property(&mut self, message: &mut [u32]) -> io::Result<()>;
}

impl<F: FnMut(&mut [u32]) -> io::Result<()> + Send> Mailbox for F {
    fn property(&mut self, message: &mut [u32]) -> io::Result<()> {
        self(message)
    }
}

/// Asks one tag with the words of `request`, and gives its value of `room` bytes, a multiple of 4, back.
pub(crate) fn ask(
    mailbox: &mut dyn Mailbox,
    tag: u32,
    request: &[u32],
    room: u32,
) -> Result<Zeroizing<Vec<u32>>, FirmwareError> {
    let words = usize::try_from(room / 4).unwrap_or(usize::MAX);
    let len = words.saturating_add(HEAD).saturating_add(1);
    let bytes = u32::try_from(len.saturating_mul(4)).unwrap_or(u32::MAX);
    // Exact size from the start: the answer may be a key.
    let mut message = Zeroizing::new(Vec::with_capacity(len));
    message.extend_from_slice(&[bytes, 0, tag, room, 0]);
    message.extend_from_slice(request);
    message.resize(len, 0);
    mailbox.property(&mut message).map_err(FirmwareError::Mailbox)?;
    let [_, code, answered_tag, _, mark, value @ ..] = message.as_slice() else {
        return Err(FirmwareError::Length { tag, len: 0 });
    };
    if *code != SUCCESS {
        return Err(FirmwareError::Response(*code));
    }
    if *answered_tag != tag {
        return Err(FirmwareError::OtherTag(*answered_tag));
    }
    if mark & ANSWERED == 0 {
        return Err(FirmwareError::Unanswered(tag));
    }
    let value = value.get(..words).unwrap_or_default();
    Ok(Zeroizing::new(value.to_vec()))
}
