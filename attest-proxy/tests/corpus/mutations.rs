//! One byte in the wrong place: every byte there is, in every place around a length at which a parser might not mind. The
//! places are those of the published scanners (defparam's smuggler; PortSwigger's permutations of characters before and after
//! names and values). Beside each stands a good `Content-Length`: whoever reads the other line as a length has two.

use super::{Case, End};

/// For which bytes a line is harmless.
type Harmless = fn(char) -> bool;

/// Where the byte stands (`%`), and for which bytes the line is one that may be: then it says nothing of the length.
const PLACES: &[(&str, Harmless)] = &[
    ("Transfer-Encoding:% chunked", nothing),
    ("Transfer-Encoding: %chunked", nothing),
    ("Transfer-Encoding:%chunked", nothing),
    ("Transfer-Encoding%: chunked", is_name),
    ("Transfer%-Encoding: chunked", is_name),
    ("Transfer-%Encoding: chunked", is_name),
    ("%Transfer-Encoding: chunked", is_name),
    ("Transfer-Encoding: chunked%", nothing),
    ("Transfer-Encoding: chun%ked", nothing),
    ("X: X%Transfer-Encoding: chunked", is_value),
    ("Transfer-Encoding: chunked%X: X", nothing),
    ("X: X\r%Transfer-Encoding: chunked", nothing),
    ("X: X%\nTransfer-Encoding: chunked", nothing),
    ("Transfer-Encoding: chunked\r%X: X", nothing),
    ("Transfer-Encoding: chunked%\nX: X", nothing),
    ("Content-Length%: 3", is_name),
    ("%Content-Length: 3", is_name),
    ("Content-Length:%3", nothing),
    ("Content-Length: 3%", nothing),
    ("X: X%Content-Length: 3", is_value),
    ("X: X%\nContent-Length: 3", nothing),
];

const fn nothing(_: char) -> bool {
    false
}

/// RFC 9110 5.6.2. An underscore makes a twin of a field that matters only where its dash was.
fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn is_value(c: char) -> bool {
    c == '\t' || (c >= ' ' && c != '\u{7f}')
}

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (place, harmless) in PLACES {
        for c in (0..=255u8).map(char::from) {
            // A colon within a name ends it: what is left is a name that nobody knows.
            let cut = c == ':' && (place.starts_with("Transfer%") || place.starts_with("Transfer-%"));
            let end = if cut || harmless(c) {
                End::InStep(200)
            } else {
                End::Closed
            };
            let line = place.replace('%', &c.to_string());
            let fields = format!("Content-Length: {{L}}\r\n{line}");
            let mut case = Case::post(&fields, "{B}", end);
            case.name = format!("{:#04x} in {place:?}", u32::from(c));
            all.push(case);
        }
    }
    all
}
