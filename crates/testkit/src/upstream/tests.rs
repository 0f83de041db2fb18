use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
};

use super::*;

/// Sends `request` and reads until the server closes or says nothing more for a while.
fn talk(upstream: &Upstream, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(upstream.address()).unwrap();
    stream.write_all(request).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

async fn settled(upstream: &Upstream) {
    upstream
        .until("a whole request", |up| {
            up.received().iter().any(|r| r.body_complete)
        })
        .await;
}

#[tokio::test]
async fn a_request_is_recorded_as_it_was_sent() {
    let upstream = Upstream::json("{}");
    let request = b"POST /api/chat?x=%2f HTTP/1.1\r\nHost: a\r\nX-Twice: one\r\nx-twice:  two \r\nContent-Length: 4\r\n\r\nbody";
    let answer = talk(&upstream, request);
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n{}"),
        "{answer}"
    );
    settled(&upstream).await;
    let received = &upstream.received()[0];
    assert_eq!(
        (received.method.as_str(), received.target.as_str()),
        ("POST", "/api/chat?x=%2f")
    );
    assert_eq!(received.header("X-TWICE"), ["one", "two"]);
    assert_eq!(received.headers[2].0, "x-twice");
    assert_eq!(received.text(), "body");
    assert_eq!([&received.head[..], &received.raw_body].concat(), request);
}

#[tokio::test]
async fn chunks_are_kept_raw_and_decoded_with_their_trailers() {
    let upstream = Upstream::json("{}");
    let body = "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Trailer: t\r\n\r\n";
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    talk(&upstream, format!("{head}{body}").as_bytes());
    settled(&upstream).await;
    let received = &upstream.received()[0];
    assert_eq!(received.text(), "abcde");
    assert_eq!(received.raw_body, body.as_bytes());
}

#[tokio::test]
async fn one_connection_carries_several_requests_and_a_cut_body_is_told() {
    let upstream = Upstream::start(|request| Reply::json(200, &format!("\"{}\"", request.target)));
    let answers = talk(&upstream, b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
    assert!(
        answers.contains("\"/1\"") && answers.contains("\"/2\""),
        "{answers}"
    );
    assert_eq!((upstream.connections(), upstream.received().len()), (1, 2));
    let mut stream = TcpStream::connect(upstream.address()).unwrap();
    stream
        .write_all(b"POST /3 HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    upstream
        .until("the cut body", |up| {
            up.received().get(2).is_some_and(|r| r.body == b"half")
        })
        .await;
    assert!(!upstream.received()[2].body_complete);
}

#[tokio::test]
async fn a_stream_comes_in_its_chunks_waits_at_its_gate_and_breaks_off() {
    let gate = Gate::closed();
    let hold = gate.clone();
    let upstream = Upstream::start(move |request| match request.target.as_str() {
        "/gate" => Reply::stream(200, "text/plain")
            .chunk("first")
            .wait(&hold)
            .chunk("second"),
        "/break" => Reply::stream(200, "text/plain").chunk("first").break_off(),
        "/raw" => Reply::raw(vec![Step::Bytes(b"not http".to_vec()), Step::Close]),
        _ => {
            Reply::ndjson(&["{\"a\":1}", "{\"done\":true}"], Duration::from_millis(5)).header("X-More", "yes")
        }
    });
    let whole = talk(&upstream, b"GET / HTTP/1.1\r\n\r\n");
    assert!(whole.contains("X-More: yes\r\n"), "{whole}");
    assert!(
        whole.ends_with("8\r\n{\"a\":1}\n\r\ne\r\n{\"done\":true}\n\r\n0\r\n\r\n"),
        "{whole}"
    );
    let broken = talk(&upstream, b"GET /break HTTP/1.1\r\n\r\n");
    assert!(broken.ends_with("5\r\nfirst\r\n"), "{broken}");
    assert_eq!(talk(&upstream, b"GET /raw HTTP/1.1\r\n\r\n"), "not http");
    let held = talk(&upstream, b"GET /gate HTTP/1.1\r\n\r\n");
    assert!(held.ends_with("first\r\n"), "{held}");
    upstream
        .until("the client to be missed", |up| up.abandoned() == 1)
        .await;
    gate.open();
    let passed = talk(&upstream, b"GET /gate HTTP/1.1\r\n\r\n");
    assert!(passed.ends_with("second\r\n0\r\n\r\n"), "{passed}");
}
