//! The PROXY protocol's header, versions 1 and 2 (haproxy.org, proxy-protocol.txt): who a proxy before us speaks for.
//!
//! Owns: its bytes, read strictly, and no byte beyond it. Who may send one, and who must, is the settings'.
//! Refuses: other families than TCP over IPv4 and IPv6, numbers that are not in their plain form, headers without an end.
//! Pure but for [`read`]. Only configured peers are read by this; one of them that is not careful passes on what an
//! attacker made up.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Begins version 2 (2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end included (2.1).
const LONGEST_LINE: usize = 107;
/// The shortest one, `PROXY UNKNOWN` with its end.
const SHORTEST_LINE: usize = 15;
/// The longest header of version 2 that is read, its additions included. HAProxy's own buffer for it is no larger.
const LONGEST: usize = 4096;

/// Whom a proxy speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// Itself, or it does not know.
    Itself,
    /// A client with this address.
    Client(IpAddr),
}

/// How far a header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It has at least so many bytes in all.
    Needs(usize),
    /// It is complete, and so long.
    Done(Announced, usize),
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Neither version begins like this.
    #[error("no PROXY header")]
    None,
    /// A line of version 1 that is not as it should be.
    #[error("a malformed PROXY line")]
    Line,
    /// Version 2 with another version or command.
    #[error("an unknown version or command of PROXY")]
    Command,
    /// Not TCP over IPv4 or IPv6.
    #[error("a PROXY header for something else than TCP")]
    Family,
    /// Longer than any is, or too short for its addresses, or with additions that do not fit.
    #[error("a PROXY header of a wrong length")]
    Length,
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are none.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// Reads a header, and nothing of what follows it.
///
/// # Errors
/// [`ReadError`].
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Announced, ReadError> {
    let mut bytes = Vec::with_capacity(64);
    loop {
        match parse(&bytes)? {
            Progress::Done(announced, _) => return Ok(announced),
            Progress::Needs(total) => {
                let have = bytes.len();
                bytes.resize(total, 0);
                stream
                    .read_exact(bytes.get_mut(have..).unwrap_or_default())
                    .await?;
            }
        }
    }
}

/// Looks at what has come.
///
/// # Errors
/// [`HeaderError`]: whatever follows, it is no header.
pub fn parse(bytes: &[u8]) -> Result<Progress, HeaderError> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(SIGNATURE) {
        match bytes.get(SIGNATURE.len()..) {
            Some(&[command, family, high, low, ref rest @ ..]) => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                return version2(command, family, length, rest);
            }
            Some(&[]) | None if bytes.len() < SIGNATURE.len() => return Ok(Progress::Needs(SIGNATURE.len())),
            _ => return Ok(Progress::Needs(SIGNATURE.len().saturating_add(4))),
        }
    }
    if begins(b"PROXY ") {
        return version1(bytes);
    }
    Err(HeaderError::None)
}

fn version1(bytes: &[u8]) -> Result<Progress, HeaderError> {
    let bytes = bytes.get(..LONGEST_LINE).unwrap_or(bytes);
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
        // Two bytes end a line, of which one may be there.
        let more = if bytes.last() == Some(&b'\r') { 1 } else { 2 };
        let total = bytes.len().saturating_add(more).max(SHORTEST_LINE);
        return if total > LONGEST_LINE {
            Err(HeaderError::Line)
        } else {
            Ok(Progress::Needs(total))
        };
    };
    let line = bytes
        .get(..end)
        .and_then(|line| line.strip_suffix(b"\r"))
        .and_then(|line| std::str::from_utf8(line).ok())
        .filter(|line| !line.contains('\r'))
        .ok_or(HeaderError::Line)?;
    let done = |announced| Ok(Progress::Done(announced, end.saturating_add(1)));
    // What follows UNKNOWN is to be ignored (2.1).
    if line == "PROXY UNKNOWN" || line.starts_with("PROXY UNKNOWN ") {
        return done(Announced::Itself);
    }
    let mut words = line.split(' ').skip(1);
    let (Some(family), Some(source), Some(destination), Some(from), Some(to), None) = (
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
    ) else {
        return Err(HeaderError::Line);
    };
    if !is_port(from) || !is_port(to) {
        return Err(HeaderError::Line);
    }
    let source = match family {
        "TCP4" => both::<Ipv4Addr>(source, destination),
        "TCP6" => both::<Ipv6Addr>(source, destination),
        _ => return Err(HeaderError::Family),
    };
    done(Announced::Client(source.ok_or(HeaderError::Line)?))
}

/// The first of two addresses of one family.
fn both<A: std::str::FromStr + Into<IpAddr>>(source: &str, destination: &str) -> Option<IpAddr> {
    let source: A = source.parse().ok()?;
    destination.parse::<A>().ok()?;
    Some(source.into())
}

fn is_port(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain && text.parse::<u16>().is_ok()
}

fn version2(command: u8, family: u8, length: usize, rest: &[u8]) -> Result<Progress, HeaderError> {
    let total = SIGNATURE.len().saturating_add(4).saturating_add(length);
    if total > LONGEST {
        return Err(HeaderError::Length);
    }
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(HeaderError::Command),
    };
    let addresses = match family {
        // A proxy's own connection has no addresses that matter (2.2, LOCAL and UNSPEC).
        _ if local => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        _ => return Err(HeaderError::Family),
    };
    if length < addresses {
        return Err(HeaderError::Length);
    }
    let Some(body) = rest.get(..length) else {
        return Ok(Progress::Needs(total));
    };
    if local || family == 0x00 {
        return Ok(Progress::Done(Announced::Itself, total));
    }
    let source = match family {
        0x11 => body.first_chunk::<4>().map(|a| IpAddr::from(*a)),
        _ => body.first_chunk::<16>().map(|a| IpAddr::from(*a)),
    };
    additions(body.get(addresses..).unwrap_or_default())?;
    let source = source.ok_or(HeaderError::Length)?;
    Ok(Progress::Done(Announced::Client(source), total))
}

/// Type, length and value, one after the other, nothing left over (2.2.x). None is looked into.
fn additions(mut bytes: &[u8]) -> Result<(), HeaderError> {
    while !bytes.is_empty() {
        let [_, high, low, rest @ ..] = bytes else {
            return Err(HeaderError::Length);
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        bytes = rest.get(length..).ok_or(HeaderError::Length)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Announced {
        Announced::Client(text.parse().unwrap())
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend([command, family]);
        out.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        out.extend(body);
        out
    }

    /// Whoever reads no more than is needed reads the header and nothing else.
    fn read_all(bytes: &[u8]) -> Result<(Announced, usize), HeaderError> {
        let mut have = 0;
        loop {
            match parse(&bytes[..have])? {
                Progress::Needs(total) => {
                    assert!(total > have && total <= bytes.len(), "{total} of {}", bytes.len());
                    have = total;
                }
                Progress::Done(announced, len) => {
                    assert_eq!(len, have);
                    return Ok((announced, len));
                }
            }
        }
    }

    #[test]
    fn lines_are_read_to_their_end() {
        for (line, announced) in [
            ("PROXY UNKNOWN\r\n", Announced::Itself),
            ("PROXY UNKNOWN ffff::1 what ever 1\r\n", Announced::Itself),
            (
                "PROXY TCP4 192.0.2.7 198.51.100.1 65535 0\r\n",
                client("192.0.2.7"),
            ),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", client("1.1.1.1")),
            ("PROXY TCP6 2001:db8::7 ::1 1234 443\r\n", client("2001:db8::7")),
        ] {
            let more = format!("{line}GET / HTTP/1.1\r\n\r\n");
            assert_eq!(read_all(more.as_bytes()), Ok((announced, line.len())), "{line}");
        }
    }

    #[test]
    fn other_lines_are_refused() {
        for line in [
            "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
            "PROXY  TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n",
            "PROXY TCP4 192.0.2.07 198.51.100.1 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 ::1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1\r2\r\n",
            "PROXY UNKNOWNX\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(HeaderError::Line), "{line:?}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        assert_eq!(parse(long.as_bytes()), Err(HeaderError::Line));
        assert_eq!(parse(&long.as_bytes()[..110]), Err(HeaderError::Line));
        assert_eq!(
            parse(b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n"),
            Err(HeaderError::Family)
        );
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(HeaderError::None));
        assert_eq!(parse(b"proxy UNKNOWN\r\n"), Err(HeaderError::None));
    }

    #[test]
    fn binary_headers_are_read_to_their_end() {
        let four = [192, 0, 2, 7, 198, 51, 100, 1, 0, 80, 1, 187];
        let mut six = [0; 36];
        six[15] = 7;
        let mut with = four.to_vec();
        with.extend([0x04, 0, 2, 9, 9, 0x20, 0, 0]);
        for (bytes, announced) in [
            (v2(0x21, 0x11, &four), client("192.0.2.7")),
            (v2(0x21, 0x21, &six), client("::7")),
            (v2(0x21, 0x11, &with), client("192.0.2.7")),
            (v2(0x20, 0x00, &[]), Announced::Itself),
            (v2(0x20, 0x11, &four), Announced::Itself),
            (v2(0x21, 0x00, &[1, 2, 3]), Announced::Itself),
        ] {
            let more = [&bytes[..], b"GET /"].concat();
            assert_eq!(read_all(&more), Ok((announced, bytes.len())), "{bytes:?}");
        }
    }

    #[test]
    fn other_binary_headers_are_refused() {
        let four = [1; 12];
        assert_eq!(parse(&v2(0x11, 0x11, &four)), Err(HeaderError::Command));
        assert_eq!(parse(&v2(0x22, 0x11, &four)), Err(HeaderError::Command));
        for family in [0x10, 0x12, 0x22, 0x31, 0x41] {
            assert_eq!(parse(&v2(0x21, family, &[0; 216])), Err(HeaderError::Family));
        }
        assert_eq!(parse(&v2(0x21, 0x11, &four[..11])), Err(HeaderError::Length));
        assert_eq!(parse(&v2(0x21, 0x21, &[0; 35])), Err(HeaderError::Length));
        assert_eq!(parse(&v2(0x21, 0x11, &[1; 13])), Err(HeaderError::Length));
        assert_eq!(parse(&v2(0x21, 0x11, &[0; 5000])), Err(HeaderError::Length));
        let mut cut = v2(0x21, 0x11, &four);
        cut[3] = b'X';
        assert_eq!(parse(&cut), Err(HeaderError::None));
    }

    proptest::proptest! {
        /// Whatever comes: a header never claims bytes that are not there, and no prefix of it is another header.
        #[test]
        fn no_bytes_confuse_it(start in 0..3_usize, rest in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let bytes = [[&b""[..], b"PROXY ", &SIGNATURE[..]][start], &rest].concat();
            match parse(&bytes) {
                Ok(Progress::Needs(total)) => proptest::prop_assert!(total > bytes.len() && total <= LONGEST),
                Ok(Progress::Done(announced, len)) => {
                    proptest::prop_assert!(len <= bytes.len());
                    proptest::prop_assert_eq!(read_all(&bytes), Ok((announced, len)));
                }
                Err(_) => {}
            }
        }
    }

    #[tokio::test]
    async fn what_is_cut_off_is_no_header() {
        let whole = v2(0x21, 0x11, &[1; 12]);
        for end in 0..whole.len() {
            let broken = read(&mut &whole[..end]).await;
            assert!(matches!(broken, Err(ReadError::Io(_))), "{end}");
        }
        let mut stream = &[&whole[..], b"rest"].concat()[..];
        assert_eq!(read(&mut stream).await.unwrap(), client("1.1.1.1"));
        assert_eq!(stream, b"rest");
        assert!(matches!(
            read(&mut &b"GET / HTTP/1.1"[..]).await,
            Err(ReadError::Header(HeaderError::None))
        ));
    }
}
