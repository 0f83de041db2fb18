//! The chain: what makes a line of the audit log belong to the lines before it.
//!
//! Owns: a line's end, `,"hash":"<64 hex>","mac":"<32 hex>"}`. `hash = SHA-256("signalbox/audit/1" || hash of the line before ||
//! the line up to here)`, which anyone can check; `mac = HMAC-SHA256(audit key of the fleet, hash)`, cut to 16 bytes, which only the
//! holder of the fleet's root can make: whoever rewrites the whole file and all its hashes still has no MAC.
//! Pure. When a file is verified, an attacker controls every byte of it.

use data_encoding::HEXLOWER;
use ring::{digest, hmac};

const LABEL: &[u8] = b"signalbox/audit/1";
const HASH_FIELD: &[u8] = b",\"hash\":\"";
const MAC_FIELD: &[u8] = b"\",\"mac\":\"";
const END: &[u8] = b"\"}";
const MAC_LEN: usize = 16;

/// The hash of a line, and so of all lines before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash([u8; 32]);

impl Hash {
    /// What the first line of a chain follows.
    pub(super) const NONE: Self = Self([0; 32]);

    /// Reads it as it is shown.
    #[must_use]
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(Self(HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()?))
    }

    fn of(previous: &Self, content: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(LABEL);
        context.update(&previous.0);
        context.update(content);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }

    fn hex(&self) -> [u8; 64] {
        let mut digits = [0; 64];
        HEXLOWER.encode_mut(&self.0, &mut digits);
        digits
    }

    /// The MAC, in hexadecimal.
    fn mac(&self, key: &hmac::Key) -> [u8; 2 * MAC_LEN] {
        let tag = hmac::sign(key, &self.0);
        let mut digits = [0; 2 * MAC_LEN];
        HEXLOWER.encode_mut(tag.as_ref().get(..MAC_LEN).unwrap_or_default(), &mut digits);
        digits
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// Ends the line that begins at `start` of `out`, a JSON object without its closing brace, and its line; the hash is the next line's
/// `previous`.
pub(super) fn seal(out: &mut Vec<u8>, start: usize, previous: &Hash, key: &hmac::Key) -> Hash {
    let hash = Hash::of(previous, out.get(start..).unwrap_or_default());
    out.extend_from_slice(HASH_FIELD);
    out.extend_from_slice(&hash.hex());
    out.extend_from_slice(MAC_FIELD);
    out.extend_from_slice(&hash.mac(key));
    out.extend_from_slice(END);
    out.push(b'\n');
    hash
}

/// A line taken apart, without its line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sealed<'a> {
    content: &'a [u8],
    hash: Hash,
    mac: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Takes a line apart; `None`: it does not end as a line does.
    #[must_use]
    pub(super) fn split(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_suffix(END)?;
        let (rest, mac) = rest.split_at_checked(rest.len().checked_sub(2 * MAC_LEN)?)?;
        let rest = rest.strip_suffix(MAC_FIELD)?;
        let (rest, hash) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
        let content = rest.strip_suffix(HASH_FIELD)?;
        let hash = HEXLOWER.decode(hash).ok()?.try_into().ok()?;
        Some(Self {
            content,
            hash: Hash(hash),
            mac,
        })
    }

    /// The hash that the line claims.
    #[must_use]
    pub(super) const fn hash(&self) -> Hash {
        self.hash
    }

    /// Whether it is the hash of this line after `previous`.
    #[must_use]
    pub(super) fn follows(&self, previous: &Hash) -> bool {
        Hash::of(previous, self.content) == self.hash
    }

    /// Whether its MAC was made with `key`.
    #[must_use]
    pub(super) fn is_by(&self, key: &hmac::Key) -> bool {
        // The file is at hand in whole: how long a comparison takes tells nobody anything.
        self.hash.mac(key).as_slice() == self.mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32])
    }

    #[test]
    fn a_line_is_bound_to_its_content_its_place_and_the_key() {
        let mut out = Vec::new();
        let first = seal_text(&mut out, r#"{"seq":1"#, &Hash::NONE);
        let second = seal_text(&mut out, r##"{"seq":2,"x":",\"hash\":\"""##, &first);
        let lines: Vec<_> = out.split(|b| *b == b'\n').collect();
        let [one, two] = [lines[0], lines[1]].map(|line| Sealed::split(line).unwrap());
        assert!(one.follows(&Hash::NONE) && two.follows(&first));
        assert_eq!(two.hash(), second);
        assert!(!two.follows(&Hash::NONE), "a line was left out");
        assert!(one.is_by(&key(1)) && !one.is_by(&key(2)));
        let json: serde_json::Value = serde_json::from_slice(lines[1]).unwrap();
        assert_eq!(json["hash"], second.to_string());
        for at in 0..lines[1].len() {
            let mut line = lines[1].to_vec();
            line[at] ^= 1;
            let good = Sealed::split(&line).is_some_and(|s| s.follows(&first) && s.is_by(&key(1)));
            assert!(!good, "byte {at} can be changed");
        }
    }

    #[test]
    fn what_is_no_line_is_none() {
        for text in ["", "{}", r#"{"seq":1,"hash":"00","mac":"00"}"#] {
            assert_eq!(Sealed::split(text.as_bytes()), None, "{text}");
        }
    }

    fn seal_text(out: &mut Vec<u8>, text: &str, previous: &Hash) -> Hash {
        let start = out.len();
        out.extend_from_slice(text.as_bytes());
        seal(out, start, previous, &key(1))
    }
}
