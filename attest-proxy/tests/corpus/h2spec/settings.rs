//! RFC 7540 6 and 7: each kind of frame, settings, windows.

use super::*;

pub(super) fn definitions(all: &mut Cases) {
    let open = headers(END_HEADERS, 1, &post());
    all.connection(
        "http2/6.1/1: DATA of no stream",
        &[frame(DATA, END_STREAM, 0, b"test")],
        &[PROTOCOL],
    );
    all.stream(
        "http2/6.1/2: DATA on a stream that is not open",
        &[headers(WHOLE, 1, &get()), frame(DATA, END_STREAM, 1, b"test")],
        &[CLOSED],
    );
    all.connection(
        "http2/6.1/3: more padding than DATA",
        &[
            open.clone(),
            frame(DATA, PADDED | END_STREAM, 1, &[6, b't', b'e', b's', b't']),
        ],
        &[PROTOCOL],
    );
    all.connection(
        "http2/6.2/3: HEADERS of no stream",
        &[headers(WHOLE, 0, &get())],
        &[PROTOCOL],
    );
    all.connection(
        "http2/6.2/4: more padding than HEADERS",
        &[frame(
            HEADERS,
            WHOLE | PADDED,
            1,
            &[&[255], &block(&get())[..]].concat(),
        )],
        &[PROTOCOL],
    );
    all.connection(
        "http2/6.3/1: PRIORITY of no stream",
        &[frame(PRIORITY, 0, 0, &[128, 0, 0, 1, 10])],
        &[PROTOCOL],
    );
    all.stream(
        "http2/6.3/2: PRIORITY of four bytes",
        &[open.clone(), frame(PRIORITY, 0, 1, &[0; 4])],
        &[SIZE],
    );
    all.connection(
        "http2/6.4/1: RST_STREAM of no stream",
        &[frame(RST_STREAM, 0, 0, &[0, 0, 0, 8])],
        &[PROTOCOL],
    );
    all.connection(
        "http2/6.4/2: RST_STREAM of an idle one",
        &[frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])],
        &[PROTOCOL],
    );
    all.connection(
        "http2/6.4/3: RST_STREAM of three bytes",
        &[open, frame(RST_STREAM, 0, 1, &[0; 3])],
        &[SIZE],
    );
    all.ack("http2/6.7/1: PING", &[]);
    all.ack(
        "http2/6.7/2: PING as an answer",
        &[frame(PING, 1, 0, b"invalid.")],
    );
    all.connection(
        "http2/6.7/3: PING of a stream",
        &[frame(PING, 0, 1, &[0; 8])],
        &[PROTOCOL],
    );
    all.connection(
        "http2/6.7/4: PING of six bytes",
        &[frame(PING, 0, 0, &[0; 6])],
        &[SIZE],
    );
    all.connection(
        "http2/6.8/1: GOAWAY of a stream",
        &[frame(GOAWAY, 0, 1, &[0; 8])],
        &[PROTOCOL],
    );
    all.answer(
        "http2/7/1: GOAWAY for an unknown reason",
        &[
            headers(WHOLE, 1, &get()),
            frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 255]),
        ],
    );
    all.ack(
        "http2/7/2: RST_STREAM for an unknown reason",
        &[
            headers(END_HEADERS, 1, &post()),
            frame(RST_STREAM, 0, 1, &[0, 0, 0, 255]),
        ],
    );
}

pub(super) fn settings_and_windows(all: &mut Cases) {
    let set = |id, value| frame(SETTINGS, 0, 0, &setting(id, value));
    let window = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    all.connection(
        "http2/6.5/1: SETTINGS as an answer with a payload",
        &[frame(SETTINGS, 1, 0, &setting(1, 1))],
        &[SIZE],
    );
    all.connection(
        "http2/6.5/2: SETTINGS of a stream",
        &[frame(SETTINGS, 0, 1, &setting(3, 1))],
        &[PROTOCOL],
    );
    all.connection(
        "http2/6.5/3: SETTINGS of five bytes",
        &[frame(SETTINGS, 0, 0, &[0; 5])],
        &[SIZE],
    );
    all.connection("http2/6.5.2/1: ENABLE_PUSH of 2", &[set(2, 2)], &[PROTOCOL]);
    all.connection(
        "http2/6.5.2/2: INITIAL_WINDOW_SIZE of 2^31",
        &[set(4, 1 << 31)],
        &[FLOW],
    );
    all.connection(
        "http2/6.5.2/3: MAX_FRAME_SIZE of 2^14 - 1",
        &[set(5, 16383)],
        &[PROTOCOL],
    );
    all.connection(
        "http2/6.5.2/4: MAX_FRAME_SIZE of 2^24",
        &[set(5, 1 << 24)],
        &[PROTOCOL],
    );
    all.ack("http2/6.5.2/5: an unknown setting", &[set(255, 1)]);
    all.add(
        "http2/6.5.3/1: the last of two values counts",
        send(&[
            frame(SETTINGS, 0, 0, &[setting(4, 100), setting(4, 1)].concat()),
            headers(WHOLE, 1, &get()),
        ]),
        Want::Lengths(1, vec![1]),
    );
    all.ack("http2/6.5.3/2: SETTINGS are acknowledged", &[set(3, 100)]);
    all.connection(
        "http2/6.9/1: WINDOW_UPDATE of nothing",
        &[window(0, 0)],
        &[PROTOCOL],
    );
    let open = headers(END_HEADERS, 1, &post());
    all.stream(
        "http2/6.9/2: WINDOW_UPDATE of nothing for a stream",
        &[open.clone(), window(1, 0)],
        &[PROTOCOL],
    );
    all.connection(
        "http2/6.9/3: WINDOW_UPDATE of three bytes",
        &[frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
        &[SIZE],
    );
    all.set(
        "http2/6.9.1/1: no more DATA than the window has",
        setting(4, 1),
        send(&[headers(WHOLE, 1, &get())]),
        Want::Lengths(1, vec![1]),
    );
    let most = (1u32 << 31) - 1;
    all.connection(
        "http2/6.9.1/2: the connection's window overflows",
        &[window(0, most), window(0, most)],
        &[FLOW],
    );
    all.stream(
        "http2/6.9.1/3: a stream's window overflows",
        &[open, window(1, most), window(1, most)],
        &[FLOW],
    );
    all.set(
        "http2/6.9.2/1: the window changes after HEADERS",
        setting(4, 0),
        send(&[headers(WHOLE, 1, &get()), set(4, 1)]),
        Want::Lengths(1, vec![1]),
    );
    all.set(
        "http2/6.9.2/2: the window is negative",
        setting(4, 3),
        vec![
            Step::Send(headers(WHOLE, 1, &get())),
            Step::Data(1),
            Step::Send([set(4, 2), window(1, 2)].concat()),
        ],
        Want::Lengths(1, vec![3, 1]),
    );
    all.connection(
        "http2/6.9.2/3: INITIAL_WINDOW_SIZE beyond its bound",
        &[set(4, u32::MAX)],
        &[FLOW],
    );
}
