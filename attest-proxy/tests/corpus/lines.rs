//! Lines and request lines that are none.

use super::{Case, End};

const REQUEST_LINES: &[&str] = &[
    "GET /api/version",
    "GET  /api/version HTTP/1.1",
    "GET /api/version  HTTP/1.1",
    "GET /api/version HTTP/1.1 ",
    "GET\t/api/version HTTP/1.1",
    "GET /api/version\tHTTP/1.1",
    "GET\u{b}/api/version HTTP/1.1",
    "GET\u{a0}/api/version HTTP/1.1",
    " GET /api/version HTTP/1.1",
    "\tGET /api/version HTTP/1.1",
    "GET /api/version x HTTP/1.1",
    "GET /api/version HTTP/1.1 x",
    "GET /api/version HTTP/1.1\r",
    "GET /api/version\r HTTP/1.1",
    "GET /api/ver\0sion HTTP/1.1",
    "\0GET /api/version HTTP/1.1",
    "G\0ET /api/version HTTP/1.1",
    "GE(T /api/version HTTP/1.1",
    "G\u{e9}T /api/version HTTP/1.1",
    "GET: /api/version HTTP/1.1",
    "/api/version HTTP/1.1",
    "GET HTTP/1.1",
    "GET",
    "x",
    "HTTP/1.1 200 OK",
    // Versions.
    "GET /api/version HTTP/0.9",
    "GET /api/version HTTP/1.2",
    "GET /api/version HTTP/1.",
    "GET /api/version HTTP/1",
    "GET /api/version HTTP/.1",
    "GET /api/version HTTP/11",
    "GET /api/version HTTP/1.10",
    "GET /api/version HTTP/1.01",
    "GET /api/version HTTP/01.1",
    "GET /api/version HTTP/1,1",
    "GET /api/version HTTP/ 1.1",
    "GET /api/version HTTP /1.1",
    "GET /api/version HTTP/1.1x",
    "GET /api/version http/1.1",
    "GET /api/version Http/1.1",
    "GET /api/version HTTPS/1.1",
    "GET /api/version HTTP/2.0",
    "GET /api/version HTTP/2",
    "GET /api/version HTTP/3.0",
    "GET /api/version HTTP/9.9",
    "GET /api/version FTP/1.1",
    "GET /api/version \u{c8}TTP/1.1",
    "GET /api/version HTTP/1.1\u{a0}",
];

/// Field lines that no server should take.
const FIELD_LINES: &[&str] = &[
    "nonsense",
    ": x",
    " : x",
    ":",
    "X : y",
    "X\t: y",
    "X y: z",
    "X\0: y",
    "X: a\0b",
    "X: a\rb",
    "X: a\r",
    "X: a\r\n b",
    "X: a\r\n\tb",
    "X:\r\n b",
    "X: a\u{1}b",
    "X: a\u{7f}b",
    "X: a\u{8}b",
    "X: a\u{1b}[31m",
    "X(y): z",
    "X,y: z",
    "X;y: z",
    "X\"y: z",
    "X/y: z",
    "X=y: z",
    "X@y: z",
    "X[y]: z",
    "X\\y: z",
    "X{y: z",
    "X<y>: z",
    "X\u{e9}: y",
    "\u{ff}: y",
    "\u{b}X: y",
];

pub fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = REQUEST_LINES
        .iter()
        .map(|line| Case::line(line, End::Closed))
        .collect();
    all.extend(FIELD_LINES.iter().map(|line| Case::get(line, End::Closed)));
    let rest = "Host: a\r\n{K}\r\n";
    for (name, template) in [
        (
            "LF alone in the request line",
            format!("GET /api/version HTTP/1.1\n{rest}"),
        ),
        (
            "CR alone in the request line",
            format!("GET /api/version HTTP/1.1\r{rest}"),
        ),
        (
            "LF alone after a field",
            "GET /api/version HTTP/1.1\r\nHost: a\n{K}\r\n".into(),
        ),
        (
            "LF alone at the end",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}\n".into(),
        ),
        (
            "CR CR LF at the end",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}\r\r\n".into(),
        ),
        (
            "LF CR at the end",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}\n\r".into(),
        ),
        (
            "LF alone everywhere",
            "GET /api/version HTTP/1.1\nHost: a\n\n".into(),
        ),
        (
            "CR alone everywhere",
            "GET /api/version HTTP/1.1\rHost: a\r\r".into(),
        ),
        (
            "LF before the request line",
            format!("\nGET /api/version HTTP/1.1\r\n{rest}"),
        ),
        (
            "CR before the request line",
            format!("\rGET /api/version HTTP/1.1\r\n{rest}"),
        ),
        (
            "a space before the first field",
            format!("GET /api/version HTTP/1.1\r\n {rest}"),
        ),
        (
            "a tab before the first field",
            format!("GET /api/version HTTP/1.1\r\n\t{rest}"),
        ),
        (
            "a line of spaces before the first field",
            format!("GET /api/version HTTP/1.1\r\n  \r\n{rest}"),
        ),
        (
            "a byte order mark",
            format!("\u{ef}\u{bb}\u{bf}GET /api/version HTTP/1.1\r\n{rest}"),
        ),
        ("HTTP/0.9", "GET /api/version\r\n".into()),
        ("HTTP/0.9 with LF", "GET /api/version\n".into()),
        (
            "a TLS hello",
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".into(),
        ),
        ("an SSH greeting", "SSH-2.0-OpenSSH_9.2\r\n".into()),
        (
            "PROXY of a stranger",
            format!("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nGET /api/version HTTP/1.1\r\n{rest}"),
        ),
        (
            "PROXY v2 of a stranger",
            format!("\r\n\r\n\0\r\nQUIT\n!\u{11}\0\u{c}abcdabcdefghGET /api/version HTTP/1.1\r\n{rest}"),
        ),
        (
            "HTTP/2's preface, not quite",
            "PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n".into(),
        ),
        (
            "HTTP/2's preface with fields",
            format!("PRI * HTTP/2.0\r\n{rest}"),
        ),
        ("SMTP in a body's place", "EHLO a\r\nMAIL FROM:<a@b>\r\n".into()),
    ] {
        all.push(Case::new(name, &template, End::Closed));
    }
    for size in [33, 100, 100_000] {
        let method = "A".repeat(size);
        all.push(Case::line(
            &format!("{method} /api/version HTTP/1.1"),
            End::Closed,
        ));
        all.push(Case::new(
            format!("a method of {size} and no more"),
            &method,
            End::Closed,
        ));
    }
    all
}
