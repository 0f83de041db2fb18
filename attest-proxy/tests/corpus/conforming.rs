//! Requests that are odd and right: each must be answered 200, and reach the upstream as often as it asks.

use super::fill;

/// Name, template, answers. `{K}` and the like as everywhere.
const REQUESTS: &[(&str, &str, usize)] = &[
    ("plain", "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}\r\n", 1),
    (
        "HTTP/1.0 with a Host",
        "GET /api/version HTTP/1.0\r\nHost: a\r\n{K}\r\n",
        1,
    ),
    (
        "an empty line before it",
        "\r\nGET /api/version HTTP/1.1\r\nHost: a\r\n{K}\r\n",
        1,
    ),
    (
        "two empty lines before it",
        "\r\n\r\nGET /api/version HTTP/1.1\r\nHost: a\r\n{K}\r\n",
        1,
    ),
    (
        "no space after a colon",
        "GET /api/version HTTP/1.1\r\nHost:a\r\nX:y\r\n{K}\r\n",
        1,
    ),
    (
        "space after a colon",
        "GET /api/version HTTP/1.1\r\nHost: \t  a\r\nX:\t\ty\r\n{K}\r\n",
        1,
    ),
    (
        "space after a value",
        "GET /api/version HTTP/1.1\r\nHost: a \t\r\nX: y  \r\n{K}\r\n",
        1,
    ),
    (
        "no value",
        "GET /api/version HTTP/1.1\r\nHost: a\r\nX:\r\nY: \r\n{K}\r\n",
        1,
    ),
    (
        "names in any case",
        "GET /api/version HTTP/1.1\r\nhOsT: a\r\nACCEPT: */*\r\n{K}\r\n",
        1,
    ),
    (
        "names with every character",
        "GET /api/version HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~09azAZ: y\r\n{K}\r\n",
        1,
    ),
    (
        "a value of Latin-1",
        "GET /api/version HTTP/1.1\r\nHost: a\r\nX: \u{e9}\u{ff}\u{80}\r\n{K}\r\n",
        1,
    ),
    (
        "a field twice",
        "GET /api/version HTTP/1.1\r\nHost: a\r\nX: y\r\nX: z\r\n{K}\r\n",
        1,
    ),
    (
        "a port",
        "GET /api/version HTTP/1.1\r\nHost: a.example:8443\r\n{K}\r\n",
        1,
    ),
    (
        "an address",
        "GET /api/version HTTP/1.1\r\nHost: [::1]:80\r\n{K}\r\n",
        1,
    ),
    (
        "a query",
        "GET /api/version?a=b&c=%20 HTTP/1.1\r\nHost: a\r\n{K}\r\n",
        1,
    ),
    (
        "an empty query",
        "GET /api/version? HTTP/1.1\r\nHost: a\r\n{K}\r\n",
        1,
    ),
    ("HEAD", "HEAD /api/version HTTP/1.1\r\nHost: a\r\n{K}\r\n", 1),
    (
        "GET with no length",
        "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}Content-Length: 0\r\n\r\n",
        1,
    ),
    (
        "keep-alive",
        "GET /api/version HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n{K}\r\n",
        1,
    ),
    (
        "Connection names something of the client's",
        "GET /api/version HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, close\r\nX-Hop: y\r\n{K}\r\n",
        1,
    ),
    (
        "TE",
        "GET /api/version HTTP/1.1\r\nHost: a\r\nTE: trailers, deflate;q=0.5\r\nConnection: TE\r\n{K}\r\n",
        1,
    ),
    (
        "the same key in two fields",
        "GET /api/version HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {P}\r\n{K}\r\n",
        1,
    ),
    (
        "a long value",
        "GET /api/version HTTP/1.1\r\nHost: a\r\nCookie: {4K}\r\n{K}\r\n",
        1,
    ),
    (
        "a body",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: {L}\r\n\r\n{B}",
        1,
    ),
    (
        "a length with space",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: \t{L} \t\r\n\r\n{B}",
        1,
    ),
    (
        "a body on HTTP/1.0",
        "POST /api/chat HTTP/1.0\r\nHost: a\r\n{K}Content-Length: {L}\r\n\r\n{B}",
        1,
    ),
    (
        "a chunk",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\r\n\r\n",
        1,
    ),
    (
        "capitals",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}TRANSFER-ENCODING: CHUNKED\r\n\r\n{X}\r\n{B}\r\n0\r\n\r\n",
        1,
    ),
    (
        "space around the coding",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding:\tchunked \r\n\r\n{X}\r\n{B}\r\n0\r\n\r\n",
        1,
    ),
    (
        "sizes with zeros",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n0000{X}\r\n{B}\r\n0000\r\n\r\n",
        1,
    ),
    (
        "extensions",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n{X};a\r\n{B}\r\n0;b=c\r\n\r\n",
        1,
    ),
    (
        "extensions with quotes and space",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n{X} ; a = \"b;\\\"c\\\\\";\td\r\n{B}\r\n0\r\n\r\n",
        1,
    ),
    (
        "a signature for a chunk",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n{X};chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n{B}\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n",
        1,
    ),
    (
        "a trailer",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\r\nX-Checksum: abc\r\n\r\n",
        1,
    ),
    (
        "trailers that were announced",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Trailer: X-Checksum, Server-Timing\r\nTransfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\r\nX-Checksum:\tabc \r\nServer-Timing:\r\n\r\n",
        1,
    ),
    (
        "a trailer, then another request",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n{X};a=b\r\n{B}\r\n0;c\r\nX: y\r\n\r\nGET /api/version HTTP/1.1\r\nHost: a\r\n{K}\r\n",
        2,
    ),
    (
        "an absolute form",
        "GET http://a/api/version HTTP/1.1\r\nHost: a\r\n{K}\r\n",
        1,
    ),
    (
        "an absolute form behind TLS",
        "GET https://a:8443/api/version?x HTTP/1.1\r\nHost: a:8443\r\n{K}\r\n",
        1,
    ),
    (
        "an absolute form in capitals",
        "GET HTTP://a/api/version HTTP/1.1\r\nHost: a\r\n{K}\r\n",
        1,
    ),
    (
        "a range of what is posted",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Range: bytes=0-10\r\nContent-Length: {L}\r\n\r\n{B}",
        1,
    ),
    (
        "an expectation that nobody knows",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Expect: 200-ok\r\nContent-Length: {L}\r\n\r\n{B}",
        1,
    ),
    (
        "an expectation without a body",
        "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}Expect: 100-continue\r\n\r\n",
        1,
    ),
    (
        "an expectation on HTTP/1.0",
        "POST /api/chat HTTP/1.0\r\nHost: a\r\n{K}Expect: 100-continue\r\nContent-Length: {L}\r\n\r\n{B}",
        1,
    ),
    (
        "an expectation",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Expect: 100-continue\r\nContent-Length: {L}\r\n\r\n{B}",
        1,
    ),
    (
        "an expectation in capitals",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Expect: 100-CONTINUE\r\nContent-Length: {L}\r\n\r\n{B}",
        1,
    ),
    (
        "three in a row",
        "GET /api/version HTTP/1.1\r\nHost: a\r\n{K}\r\nPOST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Content-Length: {L}\r\n\r\n{B}GET /api/version HTTP/1.1\r\nHost: a\r\n{K}\r\n",
        3,
    ),
    (
        "chunks, then another",
        "POST /api/chat HTTP/1.1\r\nHost: a\r\n{K}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\r\n\r\nGET /api/version HTTP/1.1\r\nHost: a\r\n{K}\r\n",
        2,
    ),
];

/// Name, bytes, and how many answers there must be.
pub fn cases() -> Vec<(&'static str, Vec<u8>, usize)> {
    let long = "c".repeat(4096);
    let mut all: Vec<_> = REQUESTS
        .iter()
        .map(|(name, template, answers)| (*name, fill(&template.replace("{4K}", &long)), *answers))
        .collect();
    let many: String = (0..40).map(|n| format!("X-{n}: y\r\n")).collect();
    all.push((
        "many fields",
        fill(&format!(
            "GET /api/version HTTP/1.1\r\nHost: a\r\n{many}{{K}}\r\n"
        )),
        1,
    ));
    let body = super::CHAT;
    let chunks: String = body.chars().map(|c| format!("1\r\n{c}\r\n")).collect();
    all.push((
        "a chunk for each byte",
        fill(&format!(
            "POST /api/chat HTTP/1.1\r\nHost: a\r\n{{K}}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        )),
        1,
    ));
    all
}
