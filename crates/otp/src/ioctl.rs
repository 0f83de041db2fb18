//! The one `ioctl`, and the one `unsafe` of this workspace.
//!
//! Owns: that the kernel writes inside of our buffer. `IOCTL_MBOX_PROPERTY` is `_IOWR(100, 0, char *)`; the driver
//! (raspberrypi/linux `drivers/char/broadcom/vcio.c`) reads the first word as a number of bytes, and reads and writes
//! that many at the address. So the buffer has a fixed size, and the first word is checked against it here.

use std::{fs::File, io};

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use zeroize::Zeroizing;

/// Words of the largest message: the vendor's layout of an HMAC request, five words of head, three of arguments, 2048
/// bytes of text, one end tag.
pub(crate) const WORDS: usize = 5 + 3 + 512 + 1;
const PROPERTY: Opcode = opcode::read_write::<*mut u8>(100, 0);

/// Exchanges one property message with the firmware behind `device`.
pub(crate) fn property(device: &File, message: &mut [u32]) -> io::Result<()> {
    let mut buffer = Zeroizing::new([0_u32; WORDS]);
    let room = buffer.get_mut(..message.len());
    let room = room.ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(message);
    let said = message.first().and_then(|bytes| usize::try_from(*bytes).ok());
    if said != Some(size_of_val(message)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    exchange(device, &mut buffer)?;
    let answer = buffer.get(..message.len());
    message.copy_from_slice(answer.ok_or(io::ErrorKind::InvalidInput)?);
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "no safe crate knows this ioctl; the bounds are checked by the caller above"
)]
fn exchange(device: &File, buffer: &mut [u32; WORDS]) -> io::Result<()> {
    // SAFETY: the opcode is that of the vcio driver. It reads and writes as many bytes at the address as the first word says, and
    // `property` has compared that word with a length that fits into `WORDS` words. Any bytes are valid words. The buffer is borrowed
    // exclusively for the call and the driver keeps no address. Another device answers an unknown ioctl with ENOTTY.
    unsafe { ioctl(device, Updater::<PROPERTY, _>::new(buffer)) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> File {
        File::options().read(true).write(true).open("/dev/null").unwrap()
    }

    #[test]
    fn the_opcode_is_that_of_the_driver() {
        // On 64-bit machines: _IOWR is 3 << 30, the size of a pointer << 16, 'd' << 8, number 0.
        assert_eq!(u64::from(PROPERTY), 3 << 30 | 8 << 16 | 100 << 8);
    }

    #[test]
    fn a_length_that_is_not_the_messages_own_never_reaches_the_kernel() {
        for first in [0, 24, 32, u32::MAX] {
            let mut message = [first, 0, 1, 4, 0, 0, 0];
            let refused = property(&null(), &mut message).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{first}");
        }
        let mut long = vec![0; WORDS + 1];
        long[0] = u32::try_from(size_of_val(long.as_slice())).unwrap();
        let refused = property(&null(), &mut long).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        assert!(property(&null(), &mut []).is_err());
    }

    #[test]
    fn a_device_that_is_no_mailbox_says_so() {
        let mut message = [28, 0, 1, 4, 0, 0, 0];
        let refused = property(&null(), &mut message).unwrap_err();
        assert_eq!(
            refused.raw_os_error(),
            Some(rustix::io::Errno::NOTTY.raw_os_error())
        );
    }
}
