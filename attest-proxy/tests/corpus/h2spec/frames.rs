//! RFC 7540 3 to 5 and 6.10: frames, header blocks, the states of streams.

use super::*;

pub(super) fn frames(all: &mut Cases) {
    all.connection(
        "http2/3.5/2: no preface",
        &[b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec()],
        &[PROTOCOL, SIZE],
    );
    all.ack(
        "http2/4.1/1: a frame of an unknown kind",
        &[frame(22, 0, 0, &[0; 8])],
    );
    all.ack(
        "http2/4.1/2: flags that mean nothing",
        &[frame(PING, 22, 0, &[0; 8])],
    );
    all.ack(
        "http2/4.1/3: the reserved bit",
        &[frame(PING, 0, 1 << 31, &[0; 8])],
    );
    all.answer(
        "http2/4.2/1: DATA of 2^14",
        &[
            headers(END_HEADERS, 1, &post()),
            frame(DATA, END_STREAM, 1, &[b' '; 16384]),
        ],
    );
    all.stream(
        "http2/4.2/2: DATA that is too long",
        &[
            headers(END_HEADERS, 1, &post()),
            frame(DATA, END_STREAM, 1, &[b' '; 16385]),
        ],
        &[SIZE],
    );
    let long = (0..5).fold(get(), |all, n| {
        and(all, &format!("x-dummy{n}"), &"x".repeat(4000))
    });
    all.connection(
        "http2/4.2/3: HEADERS that are too long",
        &[headers(WHOLE, 1, &long)],
        &[SIZE],
    );
    all.connection(
        "http2/4.3/1: a block that is none",
        &[frame(HEADERS, WHOLE, 1, &[0xff; 8])],
        &[COMPRESSION],
    );
    let open = frame(HEADERS, END_STREAM, 1, &block(&get()));
    all.connection(
        "http2/4.3/2: PRIORITY within a block",
        &[open.clone(), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 255])],
        &[PROTOCOL],
    );
    all.connection(
        "http2/4.3/3: another stream within a block",
        &[open.clone(), headers(WHOLE, 3, &get())],
        &[PROTOCOL],
    );
    all.connection(
        "http2/5.5/2: an unknown frame within a block",
        &[open.clone(), frame(22, 0, 0, &[0; 8])],
        &[PROTOCOL],
    );
    all.ack("http2/5.5/1: an unknown extension", &[frame(22, 1, 0, &[0; 8])]);
    all.connection(
        "http2/5.4.1/1: an invalid PING ends it",
        &[frame(PING, 0, 3, &[0; 8])],
        &[PROTOCOL],
    );
    // 6.10.
    all.answer(
        "http2/6.10/1: CONTINUATION twice",
        &[
            open.clone(),
            frame(CONTINUATION, 0, 1, &block(&fields(&[("x-a", "1")]))),
            frame(CONTINUATION, END_HEADERS, 1, &block(&fields(&[("x-b", "1")]))),
        ],
    );
    all.connection(
        "http2/6.10/2: DATA within a block",
        &[open.clone(), frame(DATA, END_STREAM, 1, b"test")],
        &[PROTOCOL],
    );
    all.connection(
        "http2/6.10/3: CONTINUATION of no stream",
        &[open.clone(), frame(CONTINUATION, END_HEADERS, 0, &[])],
        &[PROTOCOL],
    );
    all.connection(
        "http2/6.10/4: CONTINUATION behind whole HEADERS",
        &[
            headers(END_HEADERS, 1, &post()),
            frame(CONTINUATION, END_HEADERS, 1, &[]),
        ],
        &[PROTOCOL],
    );
    all.connection(
        "http2/6.10/5: CONTINUATION behind the last CONTINUATION",
        &[
            frame(HEADERS, 0, 1, &block(&post())),
            frame(CONTINUATION, END_HEADERS, 1, &[]),
            frame(CONTINUATION, END_HEADERS, 1, &[]),
        ],
        &[PROTOCOL],
    );
    all.connection(
        "http2/6.10/6: CONTINUATION behind DATA",
        &[
            headers(END_HEADERS, 1, &post()),
            frame(DATA, 0, 1, b"test"),
            frame(CONTINUATION, END_HEADERS, 1, &[]),
        ],
        &[PROTOCOL],
    );
}

pub(super) fn streams(all: &mut Cases) {
    let request = headers(WHOLE, 1, &get());
    let data = frame(DATA, END_STREAM, 1, b"test");
    let more = frame(CONTINUATION, END_HEADERS, 1, &block(&get()));
    let reset = frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    all.connection(
        "http2/5.1/1: DATA in idle",
        std::slice::from_ref(&data),
        &[PROTOCOL],
    );
    all.connection(
        "http2/5.1/2: RST_STREAM in idle",
        std::slice::from_ref(&reset),
        &[PROTOCOL],
    );
    all.connection(
        "http2/5.1/3: WINDOW_UPDATE in idle",
        &[frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 100])],
        &[PROTOCOL],
    );
    all.connection(
        "http2/5.1/4: CONTINUATION in idle",
        std::slice::from_ref(&more),
        &[PROTOCOL],
    );
    all.stream(
        "http2/5.1/5: DATA in half-closed (remote)",
        &[request.clone(), data.clone()],
        &[CLOSED],
    );
    all.stream(
        "http2/5.1/6: HEADERS in half-closed (remote)",
        &[request.clone(), request.clone()],
        &[CLOSED],
    );
    all.stream(
        "http2/5.1/7: CONTINUATION in half-closed (remote)",
        &[request.clone(), more.clone()],
        &[CLOSED, PROTOCOL],
    );
    let open = headers(END_HEADERS, 1, &post());
    all.stream(
        "http2/5.1/8: DATA after a reset",
        &[open.clone(), reset.clone(), data.clone()],
        &[CLOSED],
    );
    all.stream(
        "http2/5.1/9: HEADERS after a reset",
        &[open.clone(), reset.clone(), request.clone()],
        &[CLOSED],
    );
    all.stream(
        "http2/5.1/10: CONTINUATION after a reset",
        &[open.clone(), reset.clone(), more.clone()],
        &[CLOSED, PROTOCOL],
    );
    let closed = |codes: &[u32]| Want::Stream(1, codes.into());
    all.add(
        "http2/5.1/11: DATA in closed",
        after_answer(std::slice::from_ref(&data)),
        closed(&[CLOSED]),
    );
    all.add(
        "http2/5.1/12: HEADERS in closed",
        after_answer(std::slice::from_ref(&request)),
        closed(&[CLOSED, PROTOCOL]),
    );
    all.add(
        "http2/5.1/13: CONTINUATION in closed",
        after_answer(&[more]),
        closed(&[CLOSED, PROTOCOL]),
    );
    all.connection(
        "http2/5.1.1/1: an even number",
        &[headers(WHOLE, 2, &get())],
        &[PROTOCOL],
    );
    all.connection(
        "http2/5.1.1/2: a smaller number",
        &[headers(WHOLE, 5, &get()), headers(WHOLE, 3, &get())],
        &[PROTOCOL],
    );
    let many: Vec<_> = (0..=100)
        .map(|n| headers(END_HEADERS, 2 * n + 1, &post()))
        .collect();
    all.add(
        "http2/5.1.2/1: more streams than were allowed",
        send(&many),
        Want::Stream(201, vec![PROTOCOL, REFUSED]),
    );
    all.stream(
        "http2/5.3.1/1: HEADERS that depend on themselves",
        &[frame(
            HEADERS,
            WHOLE | PRIORITY_FLAG,
            1,
            &[&[0, 0, 0, 1, 255], &block(&get())[..]].concat(),
        )],
        &[PROTOCOL],
    );
    all.stream(
        "http2/5.3.1/2: PRIORITY that depends on itself",
        &[frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 255])],
        &[PROTOCOL],
    );
}
