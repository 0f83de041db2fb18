//! Where an HTTP/1.1 message ends, found as cheaply as can be: load and backend share one core.
//!
//! Owns: nothing of HTTP but lengths. Trusts what it reads: it comes from programs that this crate started.

use memchr::memmem;

/// A message that is all there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole {
    /// Bytes of head and body.
    pub(crate) len: usize,
    /// Bytes of the head.
    pub(crate) head: usize,
}

/// The first message of `bytes`, if all of it is there.
pub(crate) fn whole(bytes: &[u8]) -> Option<Whole> {
    let head = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let mut length = 0;
    for line in bytes[..head].split(|b| *b == b'\n').skip(1) {
        match line.first() {
            Some(b'c' | b'C') if has_name(line, b"content-length:") => {
                let digits = line[15..].trim_ascii();
                length = std::str::from_utf8(digits).unwrap().parse().unwrap();
            }
            Some(b't' | b'T') if has_name(line, b"transfer-encoding:") => {
                // Nobody pipelines here, so a chunked body ends where the bytes do.
                return bytes[head..].ends_with(b"0\r\n\r\n").then_some(Whole {
                    len: bytes.len(),
                    head,
                });
            }
            _ => {}
        }
    }
    let len = head + length;
    (bytes.len() >= len).then_some(Whole { len, head })
}

fn has_name(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_where_its_head_says() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nServer: x\r\n\r\nabc";
        assert!(whole(&text[..text.len() - 1]).is_none());
        let found = whole(text).unwrap();
        assert_eq!((found.len, &text[found.head..]), (text.len(), &b"abc"[..]));
        assert!(whole(b"GET / HTTP/1.1\r\nHost: a\r\n").is_none());
        assert_eq!(whole(b"GET / HTTP/1.1\r\n\r\n").unwrap().len, 18);
    }

    #[test]
    fn a_chunked_one_ends_with_its_last_chunk() {
        let text = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        assert!(whole(&text[..text.len() - 2]).is_none());
        assert_eq!(whole(text).unwrap().len, text.len());
    }
}
