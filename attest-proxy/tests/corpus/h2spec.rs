//! The cases of h2spec (2.6), by its groups: generic, http2 (numbers of RFC 7540), hpack (RFC 7541).

use crate::common::{
    CHAT,
    forge::psk_text,
    http2::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, block, fields, frame,
    },
};

/// What is done in turn.
#[derive(Debug, Clone)]
pub enum Step {
    Send(Vec<u8>),
    /// The answer on this stream is awaited.
    Answered(u32),
    /// Some DATA on this stream is awaited.
    Data(u32),
}

/// What the suite takes.
#[derive(Debug, Clone)]
pub enum Want {
    /// An answer on this stream.
    Answer(u32),
    /// The end of the connection, for one of these reasons, or without a word.
    Connection(Vec<u32>),
    /// The end of this stream for one of these reasons, or of the connection.
    Stream(u32, Vec<u32>),
    /// Nothing: what follows is acknowledged as ever.
    Ack,
    /// DATA of these lengths at first.
    Lengths(u32, Vec<usize>),
}

/// What the suite would call a failure, and why it stays.
pub const EXCEPT: &[(&str, &str)] = &[(
    "http2/8.1.2.1/3: a pseudo-field in trailers",
    "h2 throws it away, and we the trailers: nothing of it is ever seen. The request goes on, and is answered",
)];

/// A case.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: &'static str,
    /// Payload of the client's first SETTINGS.
    pub settings: Vec<u8>,
    pub steps: Vec<Step>,
    pub want: Want,
}

const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;
const CLOSED: u32 = 5;
const SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;
const PUSH_PROMISE: u8 = 5;
const PADDED: u8 = 8;
const PRIORITY_FLAG: u8 = 0x20;
const WHOLE: u8 = END_HEADERS | END_STREAM;

type Fields = Vec<(String, String)>;

/// A request that is answered.
fn get() -> Fields {
    let mut all = fields(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/api/version"),
        (":authority", "proxy"),
    ]);
    all.push(("x-pre-shared-key".into(), psk_text("plain")));
    all
}

fn post() -> Fields {
    let mut all = get();
    all[0].1 = "POST".into();
    all[2].1 = "/api/chat".into();
    all
}

fn and(mut all: Fields, name: &str, value: &str) -> Fields {
    all.push((name.to_owned(), value.to_owned()));
    all
}

fn without(all: Fields, name: &str) -> Fields {
    all.into_iter().filter(|(n, _)| n != name).collect()
}

fn first(name: &str, value: &str, all: Fields) -> Fields {
    [fields(&[(name, value)]), all].concat()
}

fn headers(flags: u8, stream: u32, all: &Fields) -> Vec<u8> {
    frame(HEADERS, flags, stream, &block(all))
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

fn send(parts: &[Vec<u8>]) -> Vec<Step> {
    vec![Step::Send(parts.concat())]
}

/// A request that is answered before the rest is sent.
fn after_answer(parts: &[Vec<u8>]) -> Vec<Step> {
    vec![
        Step::Send(headers(WHOLE, 1, &get())),
        Step::Answered(1),
        Step::Send(parts.concat()),
    ]
}

struct Cases(Vec<Case>);

impl Cases {
    fn add(&mut self, name: &'static str, steps: Vec<Step>, want: Want) {
        self.set(name, Vec::new(), steps, want);
    }

    fn set(&mut self, name: &'static str, settings: Vec<u8>, steps: Vec<Step>, want: Want) {
        self.0.push(Case {
            name,
            settings,
            steps,
            want,
        });
    }

    fn connection(&mut self, name: &'static str, parts: &[Vec<u8>], codes: &[u32]) {
        self.add(name, send(parts), Want::Connection(codes.into()));
    }

    /// Of the stream 1.
    fn stream(&mut self, name: &'static str, parts: &[Vec<u8>], codes: &[u32]) {
        self.add(name, send(parts), Want::Stream(1, codes.into()));
    }

    fn answer(&mut self, name: &'static str, parts: &[Vec<u8>]) {
        self.add(name, send(parts), Want::Answer(1));
    }

    fn ack(&mut self, name: &'static str, parts: &[Vec<u8>]) {
        self.add(name, send(parts), Want::Ack);
    }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut all = Cases(Vec::new());
    generic(&mut all);
    frames(&mut all);
    streams(&mut all);
    definitions(&mut all);
    settings_and_windows(&mut all);
    exchanges(&mut all);
    hpack(&mut all);
    all.0
}

fn generic(all: &mut Cases) {
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

fn frames(all: &mut Cases) {
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

fn streams(all: &mut Cases) {
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

fn definitions(all: &mut Cases) {
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

fn settings_and_windows(all: &mut Cases) {
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

fn exchanges(all: &mut Cases) {
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

fn hpack(all: &mut Cases) {
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
