//! Where does a request end? `Content-Length`, `Transfer-Encoding` and chunks, in every form on which two servers disagree.

use super::{Case, End};

/// Field lines that some server takes for `Transfer-Encoding: chunked`, and another does not.
const CODINGS: &[&str] = &[
    // Space around the name or the colon.
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "\u{b}Transfer-Encoding: chunked",
    "Transfer-Encoding:\u{b}chunked",
    "Transfer-Encoding:\u{c}chunked",
    "Transfer-Encoding: chunked\u{b}",
    "Transfer-Encoding:\u{a0}chunked",
    "Transfer-Encoding: chunked\u{85}",
    "Transfer-Encoding\u{a0}: chunked",
    // Folded, or with a line end that is none.
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding:\r\n\tchunked",
    "Transfer-Encoding:\n chunked",
    "Transfer-Encoding: chunked\r\n , identity",
    "Transfer-Encoding\r\n : chunked",
    "Transfer-Encoding\n: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\r\r\nTransfer-Encoding: chunked",
    "X: y\n\rTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r",
    "Transfer-Encoding: chun\rked",
    // NUL.
    "Transfer-Encoding: chunked\0",
    "Transfer-Encoding:\0chunked",
    "Transfer-Encoding\0: chunked",
    "\0Transfer-Encoding: chunked",
    // Another coding, or several.
    "Transfer-Encoding:",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chunk",
    "Transfer-Encoding: chunked chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: cow, chunked",
    "Transfer-Encoding: chunked, cow",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: , chunked",
    "Transfer-Encoding: chunked;",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: [chunked]",
    "Transfer-Encoding: \\chunked",
    "Transfer-Encoding: =?iso-8859-1?B?Y2h1bmtlZA==?=",
    "Transfer-Encoding: %63hunked",
    "Transfer-Encoding: ch\u{fc}nked",
    "Transfer-Encoding:: chunked",
    "Transfer-Encoding: : chunked",
    "Transfer-Encoding: Transfer-Encoding: chunked",
    // Twice.
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-encoding: cow",
    "Transfer-Encoding: cow\r\nTRANSFER-ENCODING: chunked",
    "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
    // Another name.
    "Transfer_Encoding: chunked",
    "Transfer Encoding: chunked",
    "Transfer\\Encoding: chunked",
    "Transfer-Enc\u{f6}ding: chunked",
    "Transfer-Encoding",
    "Transfer-Encoding chunked",
    "Transfer-Encoding; chunked",
    "Transfer-Encoding = chunked",
    "Transfer-Encoding(x): chunked",
    "Content-Encoding: chunked",
];

/// Values that some server takes for a length, and another does not.
const LENGTHS: &[&str] = &[
    "",
    "+{L}",
    "0{L}",
    "000{L}",
    "00",
    "-{L}",
    "-0",
    "-1",
    "0x{X}",
    "0X{X}",
    "0o17",
    "{L}.",
    "{L}.0",
    "{L}e0",
    "1e1",
    "{L} {L}",
    "{L} 0",
    "{L},{L}",
    "{L}, {L}",
    "{L},",
    ",{L}",
    ", {L}",
    "{L}, 0",
    "0, {L}",
    "{L};",
    "{L};x",
    "'{L}'",
    "\"{L}\"",
    "{L}\u{b}",
    "\u{b}{L}",
    "\u{c}{L}",
    "{L}\0",
    "\0{L}",
    "{L}\u{a0}",
    "\u{a0}{L}",
    "\u{b2}",
    "{L}x",
    "x{L}",
    "{L}_0",
    "1_0",
    "none",
    "NaN",
    "true",
    "99999999999999999999",
    "18446744073709551616",
    "18446744073709551700",
    "9223372036854775808",
    "340282366920938463463374607431768211456",
    "({L})",
    "%36%39",
    "{L}\r\n 0",
    "\r\n {L}",
    "{L}\r\n\t",
    "{L}\r",
    "{L}\n0",
    "{L}\r0",
];

/// `Content-Length` lines that are wrong beside their value.
const LENGTH_LINES: &[&str] = &[
    "Content-Length : {L}",
    "Content-Length\t: {L}",
    " Content-Length: {L}",
    "Content-Length\r\n: {L}",
    "Content-Length\n: {L}",
    "Content-Length\0: {L}",
    "Content_Length: {L}",
    "Content Length: {L}",
    "Content-Length {L}",
    "Content-Length={L}",
    "Content-Length\u{a0}: {L}",
    "X: y\nContent-Length: {L}",
    "X: y\rContent-Length: {L}",
    "Content-Length: {L}\r\nContent-Length: {L}",
    "Content-Length: {L}\r\nContent-Length: 0",
    "Content-Length: 0\r\nContent-Length: {L}",
    "Content-Length: {L}\r\ncontent-length: 3",
    "Content-Length: {L}\r\nContent_Length: 3",
    "Content-Length: {L}\r\nContent-Length : 3",
    "Content-Length: {L}\r\nContent-Length:",
    "Content-Length: {L}\r\nContent-Length: +{L}",
    "Content-Length: {L}\r\nX: y\r\n Content-Length: 3",
];

/// Both at once, in either order.
const BOTH: &[&str] = &[
    "Content-Length: {L}\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: {L}",
    "Content-Length: 0\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 0",
    "Content-Length: 4\r\nTransfer-Encoding:chunked",
    "content-length: 4\r\ntransfer-encoding: CHUNKED",
    "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 4",
    "Transfer-Encoding: chunked\r\nContent-Length: x",
    "Transfer-Encoding: x\r\nContent-Length: 4",
    "Content-Length: 4\r\nTransfer-Encoding: identity",
];

/// Chunked bodies that are none.
const CHUNKS: &[&str] = &[
    // The size.
    "\r\n{B}\r\n0\r\n\r\n",
    "0x{X}\r\n{B}\r\n0\r\n\r\n",
    "+{X}\r\n{B}\r\n0\r\n\r\n",
    "-{X}\r\n{B}\r\n0\r\n\r\n",
    "-1\r\n{B}\r\n0\r\n\r\n",
    " {X}\r\n{B}\r\n0\r\n\r\n",
    "\t{X}\r\n{B}\r\n0\r\n\r\n",
    "{X} \r\n{B}\r\n0\r\n\r\n",
    "{X}\t\r\n{B}\r\n0\r\n\r\n",
    "{X}\u{b}\r\n{B}\r\n0\r\n\r\n",
    "{X}\0\r\n{B}\r\n0\r\n\r\n",
    "{X}h\r\n{B}\r\n0\r\n\r\n",
    "{X}_0\r\n{B}\r\n0\r\n\r\n",
    "{X},\r\n{B}\r\n0\r\n\r\n",
    "\"{X}\"\r\n{B}\r\n0\r\n\r\n",
    "{X}.0\r\n{B}\r\n0\r\n\r\n",
    "g\r\n{B}\r\n0\r\n\r\n",
    "\u{b2}\r\n{B}\r\n0\r\n\r\n",
    "0000000{X}\r\n{B}\r\n0\r\n\r\n",
    "100000000000000{X}\r\n{B}\r\n0\r\n\r\n",
    "ffffffffffffffff\r\n{B}\r\n0\r\n\r\n",
    "fffffffffffffffff\r\n{B}\r\n0\r\n\r\n",
    "8000000000000000\r\n{B}\r\n0\r\n\r\n",
    "1{X}00000000\r\n{B}\r\n0\r\n\r\n",
    // Extensions that are none: servers disagree on where they end (CVE-2025-55315 and its kin).
    "{X}; \r\n{B}\r\n0\r\n\r\n",
    "{X};;a\r\n{B}\r\n0\r\n\r\n",
    "{X};=b\r\n{B}\r\n0\r\n\r\n",
    "{X};a=\r\n{B}\r\n0\r\n\r\n",
    "{X};a \r\n{B}\r\n0\r\n\r\n",
    "{X};a b\r\n{B}\r\n0\r\n\r\n",
    "{X};a=b c\r\n{B}\r\n0\r\n\r\n",
    "{X};a=\"b\r\n{B}\r\n0\r\n\r\n",
    "{X};a=\"b\\\"\r\n{B}\r\n0\r\n\r\n",
    "{X};a=\"b\"c\r\n{B}\r\n0\r\n\r\n",
    "{X};a='b c'\r\n{B}\r\n0\r\n\r\n",
    "{X};a=\"b\nc\"\r\n{B}\r\n0\r\n\r\n",
    "{X};a=\"b\\\r\n\"\r\n{B}\r\n0\r\n\r\n",
    "{X};a=b\0\r\n{B}\r\n0\r\n\r\n",
    "{X};a\u{b}\r\n{B}\r\n0\r\n\r\n",
    "{X};\u{e9}\r\n{B}\r\n0\r\n\r\n",
    "{X};a=b,c\r\n{B}\r\n0\r\n\r\n",
    "{X}:a=b\r\n{B}\r\n0\r\n\r\n",
    "{X}\r\n{B}\r\n0; \r\n\r\n",
    "{X}\r\n{B}\r\n0;a=\"\r\n\r\n",
    "{X};\r\n{B}\r\n0\r\n\r\n",
    "{X};a=\"\r\n\"\r\n{B}\r\n0\r\n\r\n",
    "{X};a\n{B}\r\n0\r\n\r\n",
    "{X};\n{B}\r\n0\r\n\r\n",
    "{X};a\r{B}\r\n0\r\n\r\n",
    "{X};a\rb\r\n{B}\r\n0\r\n\r\n",
    "{X}\r\n{B}\r\n0;\n\r\n",
    // Line ends.
    "{X}\n{B}\r\n0\r\n\r\n",
    "{X}\r{B}\r\n0\r\n\r\n",
    "{X}\r\r\n{B}\r\n0\r\n\r\n",
    "\n{X}\r\n{B}\r\n0\r\n\r\n",
    "{X}\n\r{B}\r\n0\r\n\r\n",
    "{X}\r\n{B}\n0\r\n\r\n",
    "{X}\r\n{B}\r0\r\n\r\n",
    "{X}\r\n{B}0\r\n\r\n",
    "{X}\r\n{B}xx0\r\n\r\n",
    "{X}\r\n{B}\r\n0\n\r\n",
    "{X}\r\n{B}\r\n0\r\n\n",
    "{X}\r\n{B}\r\n0\r\n\r\r\n",
    "{X}\r\n{B}\r\n\r\n0\r\n\r\n",
    // More or less data than was said.
    "3\r\n{B}\r\n0\r\n\r\n",
    "1\r\n{B}\r\n0\r\n\r\n",
    "{X}\r\n{B}extra\r\n0\r\n\r\n",
    "{X}0\r\n{B}\r\n0\r\n\r\n",
    "{X}\r\n{B}",
    "{X}\r\n{B}\r\n",
    "{X}\r\n{B}\r\n0\r\n",
    // The last chunk.
    "{X}\r\n{B}\r\n-0\r\n\r\n",
    "{X}\r\n{B}\r\n0x0\r\n\r\n",
    "{X}\r\n{B}\r\n 0\r\n\r\n",
    "{X}\r\n{B}\r\n000000000\r\n\r\n",
    // Trailers that say what only a head may say, in any spelling; and lines that are none.
    "{X}\r\n{B}\r\n0\r\nX: y\r\nHost: b\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nhost: b\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nContent-Type: text/plain\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nContent-Encoding: gzip\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nConnection: close\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nExpect: 100-continue\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nX_Pre_Shared_Key: {P}\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nContent_Length: 3\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nX : y\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nX: y\n\r\n",
    "{X}\r\n{B}\r\n0\r\nX: y\rz\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nX: y\r\n z\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nX: y\0\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\n: y\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nX-Pre-Shared-Key: {P}\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nAttestation-Session: x\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nTPM-Quote: :AA==:\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nAuthorization: Bearer {P}\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nContent-Length: 3\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\n X: y\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nx\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\n\0\r\n\r\n",
    "{X}\r\n{B}\r\n0\r\nPOST /api/pull HTTP/1.1\r\n\r\n",
];

const CHUNKED: &str = "{X}\r\n{B}\r\n0\r\n\r\n";

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for line in CODINGS {
        // Alone, and with a length beside it: TE.TE, CL.TE and TE.CL.
        all.push(Case::post(line, CHUNKED, End::Closed));
        all.push(Case::post(
            &format!("Content-Length: {{L}}\r\n{line}"),
            CHUNKED,
            End::Closed,
        ));
        all.push(Case::post(
            &format!("{line}\r\nContent-Length: 4"),
            CHUNKED,
            End::Closed,
        ));
    }
    for value in LENGTHS {
        all.push(Case::post(
            &format!("Content-Length: {value}"),
            "{B}",
            End::Closed,
        ));
    }
    for line in LENGTH_LINES {
        all.push(Case::post(line, "{B}", End::Closed));
    }
    for lines in BOTH {
        // CL.TE and TE.CL: a request hidden in what one of the two takes for the body.
        for body in [
            CHUNKED,
            "0\r\n\r\nPOST /api/pull HTTP/1.1\r\nX: ",
            "{X}\r\n{B}\r\n0\r\n\r\nG",
        ] {
            all.push(Case::post(lines, body, End::Closed));
        }
    }
    for body in CHUNKS {
        all.push(Case::post("Transfer-Encoding: chunked", body, End::Closed));
    }
    for size in [1000, 20_000, 200_000] {
        let long = "a".repeat(size);
        let body = format!("{{X}};{long}\r\n{{B}}\r\n0\r\n\r\n");
        all.push(Case::post("Transfer-Encoding: chunked", &body, End::Closed));
    }
    // A body where none belongs, and none where one does.
    for fields in [
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Content-Length: {L}",
    ] {
        all.push(Case::get(fields, End::Closed));
    }
    all.push(Case::new(
        "chunks on HTTP/1.0",
        &format!("POST /api/chat HTTP/1.0\r\nHost: a\r\n{{K}}Transfer-Encoding: chunked\r\n\r\n{CHUNKED}"),
        End::Closed,
    ));
    all.push(Case::new(
        "both on HTTP/1.0",
        &format!("POST /api/chat HTTP/1.0\r\nHost: a\r\n{{K}}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{CHUNKED}"),
        End::Closed,
    ));
    // What other proxies were broken by. Pingora: bytes behind an upgrade that nobody has agreed to (CVE-2026-2833), chunks on
    // HTTP/1.0 and codings beside `chunked` (CVE-2026-2835), a body that is left lying when the answer needs none of it
    // (CVE-2025-4366; its cache, CVE-2026-2836, has no counterpart). hyper: a sign before a length and a chunk's size that
    // overflows (RUSTSEC-2021-0078, -0020).
    for (name, template) in [
        (
            "CVE-2026-2833",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}Connection: Upgrade\r\nUpgrade: foo\r\n\r\nPOST /api/pull HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "CVE-2026-2835, HTTP/1.0",
            "POST /api/chat HTTP/1.0\r\nHost: a\r\n{K}Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 29\r\n\r\n0\r\n\r\nGET /api/pull HTTP/1.1\r\nX: ",
        ),
        (
            "CVE-2026-2835, several codings",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: identity, chunked\r\nContent-Length: 29\r\n\r\n0\r\n\r\nGET /api/pull HTTP/1.1\r\nX: ",
        ),
        (
            "CVE-2025-4366",
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}Content-Length: 36\r\n\r\nGET /api/pull HTTP/1.1\r\nHost: a\r\nX: y",
        ),
        (
            "RUSTSEC-2021-0078",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: +3\r\n\r\nabc",
        ),
        (
            "RUSTSEC-2021-0020",
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\nf0000000000000003\r\nabc\r\n0\r\n\r\n",
        ),
    ] {
        all.push(Case::new(name, template, End::Closed));
    }
    // CL.0 and 0.CL: a length that is kept, and a body that is a request.
    all.push(Case::post("Content-Length: 0", "", End::Closed));
    all.push(Case::post("X: y", "", End::Closed));
    all
}
