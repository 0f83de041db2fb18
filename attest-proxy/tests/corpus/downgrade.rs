//! HTTP/2 as a way around what is refused in HTTP/1: H2.CL, H2.TE, line ends in names, values and pseudo-fields, fields of
//! HTTP/1's connections, doubled and displaced pseudo-fields (PortSwigger's "HTTP/2: the sequel is always worse" and the
//! permutations of its scanner). Whatever a server behind would make of them in HTTP/1, none gets there.

use crate::common::{CHAT, forge::psk_text, http2::fields};

type Fields = Vec<(String, String)>;

/// Name, fields, body.
type Request = (&'static str, Fields, &'static str);

/// What is to be smuggled.
const HIDDEN: &str = "0\r\n\r\nPOST /api/pull HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";

/// A chat, its body's length said.
pub fn chat() -> Vec<(String, String)> {
    let mut all = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "proxy"),
        (":path", "/api/chat"),
        ("content-length", &CHAT.len().to_string()),
    ]);
    all.push(("x-pre-shared-key".into(), psk_text("plain")));
    all
}

/// `GET /api/version`.
pub fn version() -> Vec<(String, String)> {
    let mut all = without(&with(chat(), ":method", "GET"), "content-length");
    all = with(all, ":path", "/api/version");
    all
}

pub fn with(mut all: Vec<(String, String)>, name: &str, value: &str) -> Vec<(String, String)> {
    let place = all.iter_mut().find(|(n, _)| n == name).unwrap();
    value.clone_into(&mut place.1);
    all
}

pub fn without(all: &[(String, String)], name: &str) -> Vec<(String, String)> {
    all.iter().filter(|(n, _)| n != name).cloned().collect()
}

pub fn and(mut all: Vec<(String, String)>, name: &str, value: &str) -> Vec<(String, String)> {
    all.push((name.to_owned(), value.to_owned()));
    all
}

/// Requests that end here.
pub fn cases() -> Vec<Request> {
    let key = psk_text("plain");
    let chat_without = |name: &str| without(&chat(), name);
    let plus = |name: &str, value: &str| and(chat(), name, value);
    let many = (0..80).fold(chat(), |all, n| and(all, &format!("x-{n}"), "1"));
    let first = |name: &str, value: &str| [fields(&[(name, value)]), chat()].concat();
    let mut all: Vec<Request> = vec![
        ("no authority", chat_without(":authority"), CHAT),
        ("another Host", plus("host", "b"), CHAT),
        (
            "two Hosts",
            and(and(chat_without(":authority"), "host", "a"), "host", "a"),
            CHAT,
        ),
        (
            "a user in the authority",
            with(chat(), ":authority", "u@proxy"),
            CHAT,
        ),
        ("a path in the authority", with(chat(), ":authority", "a/b"), CHAT),
        ("no scheme", chat_without(":scheme"), CHAT),
        ("no path", chat_without(":path"), CHAT),
        ("an empty path", with(chat(), ":path", ""), CHAT),
        ("a path without a slash", with(chat(), ":path", "api/chat"), CHAT),
        ("an asterisk", with(chat(), ":path", "*"), CHAT),
        (
            "an absolute path",
            with(chat(), ":path", "http://b/api/chat"),
            CHAT,
        ),
        (
            "a space in the path",
            with(chat(), ":path", "/api/chat HTTP/1.1"),
            CHAT,
        ),
        (
            "a line end in the path",
            with(chat(), ":path", "/api/chat\r\nX: y"),
            CHAT,
        ),
        ("no method", chat_without(":method"), CHAT),
        (
            "a method with a line end",
            with(chat(), ":method", "POST / HTTP/1.1\r\nX: y"),
            CHAT,
        ),
        ("two paths", first(":path", "/api/tags"), CHAT),
        ("two methods", first(":method", "GET"), CHAT),
        ("two authorities", first(":authority", "b"), CHAT),
        ("an unknown pseudo-field", first(":x", "y"), CHAT),
        ("a pseudo-field of answers", first(":status", "200"), CHAT),
        (
            "a pseudo-field after the others",
            and(chat_without(":path"), ":path", "/api/chat"),
            CHAT,
        ),
        ("a name with capitals", plus("X-Other", "1"), CHAT),
        ("a name with a space", plus("x other", "1"), CHAT),
        ("a name with a colon", plus("x:other", "1"), CHAT),
        ("an empty name", plus("", "1"), CHAT),
        ("a line end in a value", plus("x-other", "1\r\nx: y"), CHAT),
        ("a NUL in a value", plus("x-other", "1\0"), CHAT),
        ("Connection", plus("connection", "close"), CHAT),
        (
            "Connection names the key",
            plus("connection", "x-pre-shared-key"),
            CHAT,
        ),
        ("Keep-Alive", plus("keep-alive", "1"), CHAT),
        ("Proxy-Connection", plus("proxy-connection", "close"), CHAT),
        (
            "Transfer-Encoding",
            and(chat_without("content-length"), "transfer-encoding", "chunked"),
            CHAT,
        ),
        ("an upgrade", plus("upgrade", "h2c"), CHAT),
        ("TE", plus("te", "gzip"), CHAT),
        ("an announced key", plus("trailer", "x-pre-shared-key"), CHAT),
        (
            "two lengths",
            plus("content-length", &CHAT.len().to_string()),
            CHAT,
        ),
        (
            "a length with a sign",
            with(chat(), "content-length", "+72"),
            CHAT,
        ),
        ("a length too short", with(chat(), "content-length", "3"), CHAT),
        ("a length too long", with(chat(), "content-length", "500"), CHAT),
        ("a length and no body", chat(), ""),
        ("an encoded body", plus("content-encoding", "gzip"), CHAT),
        ("two keys", plus("x-pre-shared-key", &key), CHAT),
        (
            "two different keys",
            plus("authorization", "Bearer sbx_another"),
            CHAT,
        ),
        ("an underscore twin", plus("x_pre_shared_key", "x"), CHAT),
        ("an underscore length", plus("content_length", "3"), CHAT),
        ("half a quote", plus("tpm-quote", ":AQ==:"), CHAT),
        ("too many fields", many, CHAT),
        ("too long fields", plus("x-long", &"x".repeat(16_200)), CHAT),
        ("GET with a body", version(), "abc"),
        ("GET with a length", and(version(), "content-length", "3"), "abc"),
        (
            "CONNECT",
            without(
                &without(
                    &with(chat_without("content-length"), ":method", "CONNECT"),
                    ":path",
                ),
                ":scheme",
            ),
            "",
        ),
        (
            "CONNECT with a path",
            with(chat_without("content-length"), ":method", "CONNECT"),
            "",
        ),
        (
            "extended CONNECT",
            [
                fields(&[(":protocol", "websocket")]),
                with(chat_without("content-length"), ":method", "CONNECT"),
            ]
            .concat(),
            "",
        ),
    ];
    all.extend(permutations());
    all
}

/// Every place where a second line may hide.
fn permutations() -> Vec<Request> {
    let plus = |name: &str, value: &str| and(chat(), name, value);
    let te = "\r\ntransfer-encoding: chunked\r\nx: x";
    let unsaid = || without(&chat(), "content-length");
    let odd = |pseudo: &str, value: String| with(unsaid(), pseudo, &value);
    let mut all = vec![
        ("a line in a value", plus("foo", &format!("b{te}")), HIDDEN),
        (
            "a line in a value, without a length",
            and(unsaid(), "foo", &format!("b{te}")),
            HIDDEN,
        ),
        (
            "a line in the authority",
            odd(":authority", format!("proxy:443{te}")),
            HIDDEN,
        ),
        (
            "a line in the path",
            odd(":path", format!("/api/chat HTTP/1.1{te}")),
            HIDDEN,
        ),
        (
            "a line in the scheme",
            odd(":scheme", format!("http://a/api/chat HTTP/1.1{te}")),
            HIDDEN,
        ),
        (
            "a target in the scheme",
            odd(":scheme", "http://a/api/pull?x=".into()),
            HIDDEN,
        ),
        ("a scheme that nobody speaks", odd(":scheme", "ftp".into()), CHAT),
        ("an empty scheme", odd(":scheme", String::new()), CHAT),
        (
            "a line in the method",
            odd(":method", format!("POST /api/pull HTTP/1.1{te}")),
            HIDDEN,
        ),
        (
            "a target in the method",
            odd(":method", "POST /api/pull".into()),
            HIDDEN,
        ),
        ("a method of its own", odd(":method", "GPOST".into()), CHAT),
        ("TRACE", odd(":method", "TRACE".into()), ""),
        (
            "a control character in the path",
            odd(":path", "/api/chat%0d%0a".into()),
            CHAT,
        ),
        ("a backslash in the path", odd(":path", "/api\\chat".into()), CHAT),
        ("H2.TE", and(unsaid(), "transfer-encoding", "chunked"), HIDDEN),
        (
            "H2.TE beside a length",
            plus("transfer-encoding", "chunked"),
            HIDDEN,
        ),
        (
            "H2.TE, identity",
            and(unsaid(), "transfer-encoding", "identity"),
            CHAT,
        ),
        (
            "H2.TE with an underscore",
            and(unsaid(), "transfer_encoding", "chunked"),
            HIDDEN,
        ),
        ("H2.CL, nothing said", with(chat(), "content-length", "0"), HIDDEN),
        ("H2.CL, less said", with(chat(), "content-length", "5"), HIDDEN),
        (
            "H2.CL, zeros in front",
            with(chat(), "content-length", &format!("0{}", CHAT.len())),
            CHAT,
        ),
        (
            "H2.CL, a list",
            with(chat(), "content-length", &format!("{0}, {0}", CHAT.len())),
            CHAT,
        ),
        ("H2.CL, no number", with(chat(), "content-length", "x"), CHAT),
        ("H2.CL on GET", and(version(), "content-length", "5"), ""),
        ("space before a value", plus("x-other", " 1"), CHAT),
        ("space behind a value", plus("x-other", "1\t"), CHAT),
        (
            "Content-Type twice",
            and(plus("content-type", "a/b"), "content-type", "c/d"),
            CHAT,
        ),
        (
            "HTTP2-Settings",
            and(plus("upgrade", "h2c"), "http2-settings", "AAMAAABk"),
            CHAT,
        ),
        ("two authorities, one later", plus(":authority", "b"), CHAT),
        (
            "an authority with a line",
            odd(":authority", "proxy\r\nHost: b".into()),
            CHAT,
        ),
        ("a list of authorities", odd(":authority", "proxy,b".into()), CHAT),
    ];
    for name in [
        "transfer-encoding:chunked ",
        "transfer-encoding chunked ",
        "transfer-encoding\r\nxz",
        "transfer-encoding: chunked\r\nxz",
        "transfer-Encoding",
        "transfer-encoding ",
        " transfer-encoding",
        "\ttransfer-encoding",
        "transfer-encoding\0",
        "transfer-encoding\r",
        "transfer-encoding\n",
        "foo\r\ntransfer-encoding",
        "content-length ",
        "content-length\t",
        "content-length:",
        "host\r\nx",
        "x-pre-shared-key\r\nx",
    ] {
        all.push(("an odd name", and(unsaid(), name, "chunked"), HIDDEN));
    }
    for value in ["1\r", "1\n", "1\n2", "1\r2", "1\0", "\n1", "1\u{7f}", "1\u{1}"] {
        all.push(("an odd value", plus("x-other", value), CHAT));
    }
    all
}
