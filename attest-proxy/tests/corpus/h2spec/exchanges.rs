//! RFC 7540 8: requests; and RFC 7541: their compression.

use super::*;

pub(super) fn exchanges(all: &mut Cases) {
    let request = |all: &Fields| headers(WHOLE, 1, all);
    all.stream(
        "http2/8.1/1: HEADERS twice, the stream not ended",
        &[
            headers(END_HEADERS, 1, &post()),
            headers(END_HEADERS, 1, &fields(&[("x-test", "ok")])),
        ],
        &[PROTOCOL],
    );
    let stream = |all: &mut Cases, name, fields: &Fields| all.stream(name, &[request(fields)], &[PROTOCOL]);
    stream(
        all,
        "http2/8.1.2/1: a name with capitals",
        &and(get(), "X-TEST", "ok"),
    );
    stream(
        all,
        "http2/8.1.2.1/1: an unknown pseudo-field",
        &first(":test", "ok", get()),
    );
    stream(
        all,
        "http2/8.1.2.1/2: a pseudo-field of answers",
        &first(":status", "200", get()),
    );
    all.stream(
        "http2/8.1.2.1/3: a pseudo-field in trailers",
        &[
            headers(END_HEADERS, 1, &and(post(), "trailer", "x-test")),
            frame(DATA, 0, 1, b"test"),
            headers(WHOLE, 1, &fields(&[(":method", "GET"), ("x-test", "ok")])),
        ],
        &[PROTOCOL],
    );
    stream(
        all,
        "http2/8.1.2.1/4: a pseudo-field behind others",
        &and(without(get(), ":path"), ":path", "/"),
    );
    stream(
        all,
        "http2/8.1.2.2/1: Connection",
        &and(get(), "connection", "keep-alive"),
    );
    stream(all, "http2/8.1.2.2/2: TE", &and(get(), "te", "trailers, deflate"));
    stream(all, "http2/8.1.2.3/1: an empty path", &{
        let mut all = get();
        all[2].1.clear();
        all
    });
    stream(all, "http2/8.1.2.3/2: no method", &without(get(), ":method"));
    stream(all, "http2/8.1.2.3/3: no scheme", &without(get(), ":scheme"));
    stream(all, "http2/8.1.2.3/4: no path", &without(get(), ":path"));
    stream(
        all,
        "http2/8.1.2.3/5: two methods",
        &first(":method", "POST", get()),
    );
    stream(
        all,
        "http2/8.1.2.3/6: two schemes",
        &first(":scheme", "https", get()),
    );
    stream(all, "http2/8.1.2.3/7: two paths", &first(":path", "/", get()));
    let body = |length: &str, parts: &[&[u8]]| {
        let mut out = vec![headers(END_HEADERS, 1, &and(post(), "content-length", length))];
        for (n, part) in parts.iter().enumerate() {
            let last = if n + 1 == parts.len() { END_STREAM } else { 0 };
            out.push(frame(DATA, last, 1, part));
        }
        out
    };
    all.stream(
        "http2/8.1.2.6/1: a length that DATA has not",
        &body("1", &[b"test"]),
        &[PROTOCOL],
    );
    all.stream(
        "http2/8.1.2.6/2: a length that two DATA have not",
        &body("1", &[b"test", b"test"]),
        &[PROTOCOL],
    );
    all.connection(
        "http2/8.2/1: PUSH_PROMISE",
        &[frame(
            PUSH_PROMISE,
            END_HEADERS,
            1,
            &[&[0, 0, 0, 3], &block(&get())[..]].concat(),
        )],
        &[PROTOCOL],
    );
}

pub(super) fn hpack(all: &mut Cases) {
    let plus = |bytes: &[u8]| frame(HEADERS, WHOLE, 1, &[&block(&get())[..], bytes].concat());
    // x-test: as a literal whose value is Huffman-coded and ends as it must not.
    let huffman = |value: &[u8]| {
        let length = u8::try_from(value.len()).unwrap() | 0x80;
        plus(&[b"\0\x06x-test", &[length][..], value].concat())
    };
    all.connection(
        "hpack/2.3.3/1: an index beyond the tables",
        &[plus(&[0xff, 0x80, 0x01])],
        &[COMPRESSION],
    );
    all.connection(
        "hpack/2.3.3/2: a literal's index beyond them",
        &[plus(b"\x7f\x80\x01\x04test")],
        &[COMPRESSION],
    );
    all.connection(
        "hpack/4.2/1: a new size at the end of a block",
        &[plus(&[0x20])],
        &[COMPRESSION],
    );
    all.connection(
        "hpack/5.2/1: padding of more than 7 bits",
        &[huffman(&[0x49, 0x50, 0x9f, 0xff])],
        &[COMPRESSION],
    );
    all.connection(
        "hpack/5.2/2: padding of zeros",
        &[huffman(&[0x49, 0x50, 0x90])],
        &[COMPRESSION],
    );
    all.connection(
        "hpack/5.2/3: an EOS in the text",
        &[huffman(&[0x49, 0x50, 0x9f, 0xff, 0xff, 0xff, 0xff])],
        &[COMPRESSION],
    );
    all.connection("hpack/6.1/1: the index 0", &[plus(&[0x80])], &[COMPRESSION]);
    all.connection(
        "hpack/6.3/1: a table larger than was allowed",
        &[frame(
            HEADERS,
            WHOLE,
            1,
            &[&[0x3f, 0xe2, 0x1f], &block(&get())[..]].concat(),
        )],
        &[COMPRESSION],
    );
    // Positive ones: every way to write a field.
    let rest = block(&without(get(), ":method"));
    for (name, method) in [
        ("generic/5/1: an indexed field", &b"\x82"[..]),
        (
            "generic/5/2: a literal that is indexed, its name too",
            b"\x42\x03GET",
        ),
        (
            "generic/5/3: a literal that is indexed",
            b"\x40\x07:method\x03GET",
        ),
        ("generic/5/6: a literal that is not indexed", b"\x02\x03GET"),
        ("generic/5/10: a literal that never is", b"\x12\x03GET"),
        (
            "generic/5/4: a name in Huffman",
            b"\x40\x85\xb9\x49\x53\x39\xe4\x03GET",
        ),
        ("generic/5/14: a table of size 128", b"\x3f\x61\x82"),
        ("generic/5/15: two new sizes", b"\x3f\x61\x3f\xe1\x1f\x82"),
    ] {
        all.answer(name, &[frame(HEADERS, WHOLE, 1, &[method, &rest].concat())]);
    }
}
