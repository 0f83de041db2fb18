//! Chunks that two servers end in two places: the published names are TERM.EXT, EXT.TERM, TERM.SPILL, SPILL.TERM, ONE.TWO,
//! TWO.ONE, ZERO.TWO and TWO.ZERO ("Funky chunks"; CVE-2025-55315 is one of them). Whoever looks for them watches for a server
//! that waits: so each is sent as it is published, and nothing behind it, and must be answered all the same.

use super::Case;

/// Line ends that are none.
const TERMS: [&str; 7] = ["\n", "\r", "\rX", "\r\r", "\r\r\n", "\n\r", "\0\r\n"];

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |name: &str, term: &str, body: &str| {
        let mut case = Case::post("Transfer-Encoding: chunked", body, super::End::Closed);
        case.name = format!("{name} with {term:?}");
        all.push(case);
    };
    let hidden = "POST /api/pull HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 40\\r\\n\\r\\n";
    for term in TERMS {
        // One server ends the size's line at the odd end, the other reads on to the CRLF.
        add(
            "TERM.EXT",
            term,
            &format!("2;{term}xx\r\n22\r\n0\r\n\r\n{hidden}0\r\n\r\n"),
        );
        add(
            "EXT.TERM",
            term,
            &format!("22;{term}aa\r\n0\r\n\r\n{hidden}\r\n0\r\n\r\n"),
        );
        add(
            "TERM without an extension",
            term,
            &format!("5{term}hello\r\n0\r\n\r\n"),
        );
        add(
            "TERM in a quoted value",
            term,
            &format!("5;a=\"{term}\"\r\nhello\r\n0\r\n\r\n"),
        );
        add(
            "TERM in the last chunk",
            term,
            &format!("{{X}}\r\n{{B}}\r\n0;{term}\r\n\r\n"),
        );
        add(
            "TERM after the last chunk",
            term,
            &format!("{{X}}\r\n{{B}}\r\n0\r\n{term}\r\n"),
        );
        add(
            "TERM in a trailer",
            term,
            &format!("{{X}}\r\n{{B}}\r\n0\r\nX: y{term}Z: a\r\n\r\n"),
        );
    }
    for term in ["\n", "\r", "", "XX", "\rX", "\r\r", "\n\n", "\0\0", " \r\n"] {
        // The data goes on where it should have ended.
        add(
            "TERM.SPILL",
            term,
            &format!("5\r\nAAAAA{term}2d\r\n0\r\n\r\n{hidden}\r\n0\r\n\r\n"),
        );
        add(
            "SPILL.TERM",
            term,
            &format!("5\r\nAAAAA{term}1a\r\n{hidden}\r\n0\r\n\r\n"),
        );
    }
    for term in ["\n", "\r"] {
        add(
            "ONE.TWO",
            term,
            &format!("5\r\nAAAAA{term}\r\n2d\r\n0\r\n\r\n{hidden}"),
        );
        add(
            "TWO.ONE",
            term,
            &format!("5\r\nAAAAA\r{term}2d\r\n0\r\n\r\n{hidden}"),
        );
    }
    add("ZERO.TWO", "", "5\r\nAAAAA2d\r\n0\r\n\r\n");
    add("TWO.ZERO", "", "5\r\nAAAAA\r\n\r\n2d\r\n0\r\n\r\n");
    all
}
