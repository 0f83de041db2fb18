//! The first line of a chunk: its size and its extensions (RFC 9112 7.1).
//!
//! Owns: the grammar of that line, read byte by byte and to the letter. Extensions that are well-formed are passed over, as
//! a recipient must that does not know them (RFC 9112 7.1.1); nobody behind this is told of them. Everything on which servers
//! disagree is refused: a size that is not 1 to 8 hexadecimal digits, an extension without a name, a quoted text that does
//! not end in its line, space where the grammar has none, more of them than anybody needs.
//! Line ends are not read here: a bare CR or LF has been refused before ([`Line`](super::line::Line)).
//! Pure. An attacker controls every byte.

use super::{line::is_token, vet::Violation};

/// Digits of a size.
const DIGITS: u8 = 8;
/// What the extensions of one chunk may have, in bytes.
const LONGEST: u16 = 256;
/// What the extensions of one body may have, in bytes. A signature for each 64 KiB of 6 MiB fits.
const ALTOGETHER: u16 = 8 << 10;

/// Reads the lines of one body, one after the other.
#[derive(Debug)]
pub(crate) struct ChunkLine {
    at: At,
    size: u64,
    digits: u8,
    here: u16,
    altogether: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Size,
    /// After space that only a semicolon may follow.
    Gap,
    /// After a semicolon.
    Semicolon,
    Name,
    /// After space behind a name.
    Named,
    /// After an equals sign.
    Equals,
    Value,
    Quoted,
    /// After a backslash in quotes.
    Escaped,
    /// After the closing quote.
    Closed,
}

impl ChunkLine {
    pub(crate) const fn new() -> Self {
        Self {
            at: At::Size,
            size: 0,
            digits: 0,
            here: 0,
            altogether: 0,
        }
    }

    /// Takes a byte of the line.
    pub(crate) fn push(&mut self, byte: u8) -> Result<(), Violation> {
        let space = matches!(byte, b' ' | b'\t');
        self.at = match (self.at, byte) {
            (At::Size, _) if byte.is_ascii_hexdigit() && self.digits < DIGITS => {
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                self.size = self.size.saturating_mul(16).saturating_add(u64::from(digit));
                self.digits = self.digits.saturating_add(1);
                return Ok(());
            }
            (At::Size, _) if self.digits == 0 => return Err(Violation::Chunk),
            (At::Size | At::Gap | At::Name | At::Named | At::Value | At::Closed, b';') => At::Semicolon,
            (At::Size | At::Gap | At::Value | At::Closed, _) if space => At::Gap,
            (At::Semicolon | At::Equals, _) if space => self.at,
            (At::Semicolon | At::Name, _) if is_token(byte) => At::Name,
            (At::Name | At::Named, _) if space => At::Named,
            (At::Name | At::Named, b'=') => At::Equals,
            (At::Equals | At::Value, _) if is_token(byte) => At::Value,
            (At::Equals, b'"') => At::Quoted,
            (At::Quoted, b'"') => At::Closed,
            (At::Quoted, b'\\') => At::Escaped,
            // Control characters have been refused before.
            (At::Quoted | At::Escaped, _) => At::Quoted,
            _ => return Err(Violation::Chunk),
        };
        self.here = self.here.saturating_add(1);
        self.altogether = self.altogether.saturating_add(1);
        if self.here > LONGEST || self.altogether > ALTOGETHER {
            return Err(Violation::Extensions);
        }
        Ok(())
    }

    /// Ends the line; the size of the chunk.
    pub(crate) const fn end(&mut self) -> Result<u64, Violation> {
        if self.digits == 0 || !matches!(self.at, At::Size | At::Name | At::Value | At::Closed) {
            return Err(Violation::Chunk);
        }
        let size = self.size;
        *self = Self {
            altogether: self.altogether,
            ..Self::new()
        };
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<u64, Violation> {
        let mut line = ChunkLine::new();
        text.bytes().try_for_each(|b| line.push(b))?;
        line.end()
    }

    #[test]
    fn well_formed_extensions_are_passed_over() {
        for (text, size) in [
            ("0", 0),
            ("3", 3),
            ("00aF", 0xaf),
            ("ffffffff", 0xffff_ffff),
            ("3;a", 3),
            ("3;a=b", 3),
            ("3;a=b;c;d=\"e\"", 3),
            ("3 ; a = b ;\tc", 3),
            ("3;a=\"\"", 3),
            ("3;a=\";=\\\"\\\\ \t\u{e9}\"", 3),
            ("0;last", 0),
            ("3;0;1=2", 3),
        ] {
            assert_eq!(line(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn whatever_servers_disagree_on_is_refused() {
        for text in [
            "",
            ";",
            ";a",
            " 3",
            "3 ",
            "3\t",
            "0x3",
            "3x",
            "-1",
            "+1",
            "000000003",
            "3;",
            "3; ",
            "3;;a",
            "3;=b",
            "3;a=",
            "3;a= ",
            "3;a b",
            "3;a=b c",
            "3;a=b ",
            "3;a ",
            "3;a=\"b",
            "3;a=\"b\\\"",
            "3;a=\"b\"c",
            "3;a\"b\"",
            "3;a==b",
            "3;(a)",
            "3;a=b/c",
            "3,a",
            "3 a",
            "3 =a",
            "3;a=b\"c\"",
            "3;a=\"b\" ",
            "3\u{e9}",
            "3;\u{e9}",
        ] {
            assert_eq!(line(text), Err(Violation::Chunk), "{text:?}");
        }
    }

    #[test]
    fn extensions_are_bounded() {
        let long = |n: usize| format!("3;{}", "a".repeat(n));
        assert_eq!(line(&long(255)), Ok(3));
        assert_eq!(line(&long(256)), Err(Violation::Extensions));
        let mut body = ChunkLine::new();
        for n in 0..100 {
            let result = long(255).bytes().try_for_each(|b| body.push(b));
            if n == 32 {
                assert_eq!(result, Err(Violation::Extensions));
                return;
            }
            assert_eq!(body.end(), Ok(3));
        }
        panic!("extensions without end");
    }
}
