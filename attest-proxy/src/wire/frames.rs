//! Frames of HTTP/2 (RFC 9113 4), counted as they come.
//!
//! Owns: what a client's frames may cost us beside what its requests do: a state machine beside h2's own that reads frame
//! headers alone. It refuses floods of frames that we must answer or keep (PING, SETTINGS, RST_STREAM, PRIORITY, empty
//! or tiny DATA, unknown ones), of window updates, and header blocks that do not end (CVE-2019-9511 to -9518,
//! CVE-2023-44487, CVE-2024-27316).
//! Pure: the time is given. An attacker controls every byte and where the reads split. What h2 refuses on its own, it
//! still refuses; what a frame says is h2's to read.

use super::vet::Violation;

/// Length of the client's preface, which h2 compares.
const PREFACE: usize = 24;
/// Length of a frame's header.
const HEADER: usize = 9;
/// Shorter DATA than this moves too little to be worth a frame.
const TINY: u32 = 256;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Watches one connection's frames.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes to come that are skipped: the preface, then each frame's payload.
    skip: usize,
    header: [u8; HEADER],
    read: usize,
    /// Bytes of the header block that has not ended; `None`: none has begun.
    block: Option<usize>,
    longest_block: usize,
    begun: bool,
    control: Bucket,
    window: Bucket,
}

/// So many at once, and so many per second after that.
#[derive(Debug)]
struct Bucket {
    left: u32,
    most: u32,
    per_second: u32,
    filled: u64,
}

impl Bucket {
    const fn new(most: u32, per_second: u32) -> Self {
        Self {
            left: most,
            most,
            per_second,
            filled: 0,
        }
    }

    /// Takes one, at a time in milliseconds.
    fn take(&mut self, now: u64) -> Result<(), Violation> {
        if self.left == 0 {
            let seconds = now.saturating_sub(self.filled) / 1000;
            if seconds > 0 {
                self.filled = now;
                let more = u64::from(self.per_second).saturating_mul(seconds);
                self.add(u32::try_from(more).unwrap_or(u32::MAX));
            }
        }
        self.left = self.left.checked_sub(1).ok_or(Violation::Flood)?;
        Ok(())
    }

    fn add(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(self.most);
    }
}

impl Frames {
    /// `longest_block`: what the fields of one head may have. `crowd`: for how many clients the other end speaks.
    pub(super) const fn new(longest_block: usize, crowd: u32) -> Self {
        Self {
            skip: PREFACE,
            header: [0; HEADER],
            read: 0,
            block: None,
            longest_block,
            begun: false,
            control: Bucket::new(200_u32.saturating_mul(crowd), 20_u32.saturating_mul(crowd)),
            window: Bucket::new(2000_u32.saturating_mul(crowd), 200_u32.saturating_mul(crowd)),
        }
    }

    /// Whether a head, or the connection's own, has begun and not ended.
    pub(super) const fn in_head(&self) -> bool {
        self.block.is_some() || !self.begun
    }

    /// We wrote something, which a client answers with window updates.
    pub(super) fn wrote(&mut self) {
        self.window.add(4);
    }

    /// Looks at bytes in the order in which they came, at a time in milliseconds. After an error the connection is done
    /// with.
    pub(super) fn feed(&mut self, mut bytes: &[u8], now: u64) -> Result<(), Violation> {
        while !bytes.is_empty() {
            let here = if self.skip > 0 {
                let here = self.skip.min(bytes.len());
                self.skip = self.skip.saturating_sub(here);
                if self.skip == 0 {
                    self.begun = true;
                }
                here
            } else {
                let room = self.header.get_mut(self.read..).unwrap_or_default();
                let here = room.len().min(bytes.len());
                for (room, byte) in room.iter_mut().zip(bytes) {
                    *room = *byte;
                }
                self.read = self.read.saturating_add(here);
                if self.read == HEADER {
                    self.read = 0;
                    self.frame(now)?;
                }
                here
            };
            bytes = bytes.get(here..).unwrap_or_default();
        }
        Ok(())
    }

    fn frame(&mut self, now: u64) -> Result<(), Violation> {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.skip = usize::try_from(length).unwrap_or(usize::MAX);
        match kind {
            HEADERS | CONTINUATION => {
                let block = self.block.unwrap_or(0).saturating_add(self.skip);
                if block > self.longest_block {
                    return Err(Violation::HeaderBlock);
                }
                self.block = (flags & END_HEADERS == 0).then_some(block);
                if kind == CONTINUATION {
                    self.control.take(now)?;
                }
            }
            DATA if length >= TINY => {}
            // The last piece of a body may be short.
            DATA if length > 0 && flags & END_STREAM != 0 => {}
            DATA if length > 0 => self.window.take(now)?,
            WINDOW_UPDATE => self.window.take(now)?,
            DATA if flags & END_STREAM != 0 => {}
            _ => self.control.take(now)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE_BYTES: &[u8; PREFACE] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut out = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        out.resize(HEADER + payload, 0xff);
        out
    }

    fn begun() -> Frames {
        let mut frames = Frames::new(16 << 10, 1);
        assert!(frames.in_head());
        frames.feed(PREFACE_BYTES, 0).unwrap();
        assert!(!frames.in_head());
        frames
    }

    fn how_many(kind: u8, flags: u8, payload: usize) -> usize {
        let mut frames = begun();
        (0..10_000)
            .take_while(|_| frames.feed(&frame(kind, flags, payload), 0).is_ok())
            .count()
    }

    #[test]
    fn floods_end() {
        for (name, kind, payload) in [
            ("PRIORITY", 2, 5),
            ("RST_STREAM", 3, 4),
            ("SETTINGS", 4, 0),
            ("PING", 6, 8),
            ("unknown", 99, 1),
        ] {
            assert_eq!(how_many(kind, 0, payload), 200, "{name}");
        }
        assert_eq!(how_many(DATA, 0, 0), 200);
        assert_eq!(how_many(DATA, 0, 1), 2000);
        assert_eq!(how_many(WINDOW_UPDATE, 0, 4), 2000);
        assert_eq!(how_many(CONTINUATION, 0, 0), 200);
    }

    #[test]
    fn who_speaks_for_many_may_send_as_much_as_many() {
        let mut frames = Frames::new(16 << 10, 3);
        frames.feed(PREFACE_BYTES, 0).unwrap();
        let taken = (0..10_000).take_while(|_| frames.feed(&frame(6, 0, 8), 0).is_ok());
        assert_eq!(taken.count(), 600);
    }

    #[test]
    fn requests_are_no_flood() {
        assert_eq!(how_many(HEADERS, END_HEADERS | END_STREAM, 100), 10_000);
        assert_eq!(how_many(DATA, 0, 16_000), 10_000);
        assert_eq!(how_many(DATA, END_STREAM, 0), 10_000);
        assert_eq!(how_many(DATA, END_STREAM, 3), 10_000);
    }

    #[test]
    fn what_was_spent_comes_back() {
        let mut bucket = Bucket::new(200, 20);
        for _ in 0..200 {
            bucket.take(0).unwrap();
        }
        assert_eq!(bucket.take(999), Err(Violation::Flood));
        for _ in 0..20 {
            bucket.take(1000).unwrap();
        }
        assert_eq!(bucket.take(1000), Err(Violation::Flood));
        // Window updates answer what we write.
        let mut frames = begun();
        for _ in 0..5000 {
            frames.wrote();
            frames.feed(&frame(WINDOW_UPDATE, 0, 4), 0).unwrap();
        }
    }

    #[test]
    fn a_header_block_ends() {
        let mut frames = begun();
        frames.feed(&frame(HEADERS, 0, 10_000), 0).unwrap();
        assert!(frames.in_head());
        assert_eq!(
            frames.feed(&frame(CONTINUATION, 0, 10_000), 0),
            Err(Violation::HeaderBlock)
        );
        let mut frames = begun();
        frames.feed(&frame(HEADERS, 0, 5_000), 0).unwrap();
        frames.feed(&frame(CONTINUATION, END_HEADERS, 5_000), 0).unwrap();
        assert!(!frames.in_head());
        frames.feed(&frame(HEADERS, END_HEADERS, 10_000), 0).unwrap();
    }

    #[test]
    fn reads_may_split_anywhere() {
        let mut bytes = PREFACE_BYTES.to_vec();
        for _ in 0..200 {
            bytes.extend(frame(6, 0, 8));
            bytes.extend(frame(HEADERS, END_HEADERS, 3));
        }
        let end = bytes.len();
        bytes.extend(frame(6, 0, 8));
        for step in [1, 2, 7, 9, 10, 33, 1000] {
            let mut frames = Frames::new(16 << 10, 1);
            for part in bytes[..end].chunks(step) {
                frames.feed(part, 0).unwrap();
            }
            let last = bytes[end..]
                .chunks(step)
                .try_for_each(|part| frames.feed(part, 0));
            assert_eq!(last, Err(Violation::Flood), "{step}");
        }
    }
}
