//! What every server must take.

use super::*;

pub(super) fn cases(all: &mut Cases) {
    let chat = CHAT.as_bytes();
    all.ack("generic/1/1: a connection begins", &[]);
    all.ack(
        "generic/2/1: PRIORITY in idle",
        &[frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 15])],
    );
    all.add(
        "generic/2/2: WINDOW_UPDATE in half-closed (remote)",
        send(&[
            headers(WHOLE, 1, &get()),
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 100]),
        ]),
        Want::Answer(1),
    );
    all.add(
        "generic/2/3: PRIORITY in half-closed (remote)",
        send(&[
            headers(WHOLE, 1, &get()),
            frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 15]),
        ]),
        Want::Answer(1),
    );
    all.add(
        "generic/2/4: RST_STREAM in half-closed (remote)",
        send(&[headers(WHOLE, 1, &get()), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])]),
        Want::Ack,
    );
    all.add(
        "generic/2/5: PRIORITY in closed",
        after_answer(&[frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 15])]),
        Want::Ack,
    );
    all.answer(
        "generic/3.1/1: DATA",
        &[headers(END_HEADERS, 1, &post()), frame(DATA, END_STREAM, 1, chat)],
    );
    all.answer(
        "generic/3.1/2: several DATA",
        &[
            headers(END_HEADERS, 1, &post()),
            frame(DATA, 0, 1, &chat[..9]),
            frame(DATA, END_STREAM, 1, &chat[9..]),
        ],
    );
    all.answer(
        "generic/3.1/3: DATA with padding",
        &[
            headers(END_HEADERS, 1, &post()),
            frame(DATA, PADDED | END_STREAM, 1, &[&[3], chat, &[0; 3]].concat()),
        ],
    );
    all.answer("generic/3.2/1: HEADERS", &[headers(WHOLE, 1, &get())]);
    all.answer(
        "generic/3.2/2: HEADERS with padding",
        &[frame(
            HEADERS,
            WHOLE | PADDED,
            1,
            &[&[5], &block(&get())[..], &[0; 5]].concat(),
        )],
    );
    all.answer(
        "generic/3.2/3: HEADERS with priority",
        &[frame(
            HEADERS,
            WHOLE | PRIORITY_FLAG,
            1,
            &[&[0, 0, 0, 0, 255], &block(&get())[..]].concat(),
        )],
    );
    for (name, payload) in [
        ("generic/3.3/1: PRIORITY of 1", [0, 0, 0, 0, 0]),
        ("generic/3.3/2: PRIORITY of 256", [0, 0, 0, 0, 255]),
        ("generic/3.3/3: PRIORITY with a dependency", [0, 0, 0, 3, 10]),
        ("generic/3.3/4: PRIORITY, exclusive", [128, 0, 0, 3, 10]),
    ] {
        all.answer(
            name,
            &[frame(PRIORITY, 0, 1, &payload), headers(WHOLE, 1, &get())],
        );
    }
    all.ack(
        "generic/3.4/1: RST_STREAM",
        &[
            headers(END_HEADERS, 1, &post()),
            frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        ],
    );
    all.ack(
        "generic/3.5/1: SETTINGS",
        &[frame(SETTINGS, 0, 0, &setting(3, 100))],
    );
    all.ack("generic/3.7/1: PING", &[]);
    all.ack("generic/3.7/2: PING as an answer", &[frame(PING, 1, 0, &[7; 8])]);
    all.answer(
        "generic/3.8/1: GOAWAY",
        &[headers(WHOLE, 1, &get()), frame(GOAWAY, 0, 0, &[0; 8])],
    );
    all.answer(
        "generic/3.9/1: WINDOW_UPDATE of the connection",
        &[
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
            headers(WHOLE, 1, &get()),
        ],
    );
    all.answer(
        "generic/3.9/2: WINDOW_UPDATE of a stream",
        &[
            headers(WHOLE, 1, &get()),
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        ],
    );
    let whole = block(&get());
    let (a, rest) = whole.split_at(20);
    let (b, c) = rest.split_at(20);
    all.answer(
        "generic/3.10/1: CONTINUATION",
        &[
            frame(HEADERS, END_STREAM, 1, a),
            frame(CONTINUATION, END_HEADERS, 1, rest),
        ],
    );
    all.answer(
        "generic/3.10/2: several CONTINUATION",
        &[
            frame(HEADERS, END_STREAM, 1, a),
            frame(CONTINUATION, 0, 1, b),
            frame(CONTINUATION, END_HEADERS, 1, c),
        ],
    );
    let mut head = get();
    head[0].1 = "HEAD".into();
    all.answer("generic/4/2: HEAD", &[headers(WHOLE, 1, &head)]);
    head[0].1 = "OPTIONS".into();
    all.answer("generic/4/4: OPTIONS", &[headers(WHOLE, 1, &head)]);
    all.answer(
        "generic/4/5: POST with trailers",
        &[
            headers(END_HEADERS, 1, &and(post(), "trailer", "x-test")),
            frame(DATA, 0, 1, chat),
            headers(WHOLE, 1, &fields(&[("x-test", "ok")])),
        ],
    );
}
