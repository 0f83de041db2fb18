//! Answers with a byte in the wrong place, read beside hyper: whatever passes here is what hyper reads, to the byte.

use bytes::BytesMut;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

/// Bytes on which parsers disagree.
const EVIL: [u8; 16] = *b"\0\t\n\r 013:;,-xX\x7f\xff";

const ANSWERS: [&str; 8] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nContent-Type: a/b\r\n\r\nhello world",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n00a;x=y\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
    "HTTP/1.1 103 Hint\r\nA: b\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    "HTTP/1.1 204 None\r\nX: y\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
];

type Whole = (StatusCode, Option<HeaderValue>, Vec<u8>);

fn order(message: &Message) -> Order<'_> {
    Order {
        message,
        keep: &[header::CONTENT_TYPE],
        until: None,
    }
}

/// What we make of it, and whether the connection rests.
async fn ours(came: &[u8]) -> Option<(Whole, bool)> {
    let (near, mut far) = duplex(1 << 16);
    far.write_all(came).await.unwrap();
    far.shutdown().await.unwrap();
    read(near).await
}

/// The same, when it comes in pieces of so many bytes.
async fn cut(came: &[u8], size: usize) -> Option<(Whole, bool)> {
    let (near, far) = duplex(size);
    let (mut asked, mut answers) = tokio::io::split(far);
    let server = async {
        // It may be refused before it ends.
        let _ = answers.write_all(came).await;
        let _ = answers.shutdown().await;
        std::future::pending::<()>().await;
    };
    let asked = async {
        let mut room = [0; 64];
        while asked.read(&mut room).await.is_ok_and(|len| len > 0) {}
        std::future::pending::<()>().await;
    };
    tokio::select! {
        read = read(near) => read,
        () = server => None,
        () = asked => None,
    }
}

async fn read(near: DuplexStream) -> Option<(Whole, bool)> {
    let mut link = Link::new(near, None);
    let message = Message::get("/", &HeaderValue::from_static("a"));
    let head = link.ask(order(&message)).await.ok()?;
    let mut body = BytesMut::new();
    while let Some(data) = link.data().await {
        body.extend_from_slice(&data.ok()?);
    }
    let kind = head.fields.get(header::CONTENT_TYPE).cloned();
    Some(((head.status, kind, body.to_vec()), link.rests()))
}

/// What hyper makes of it.
async fn hypers(came: &[u8]) -> Option<Whole> {
    let (near, mut far) = duplex(1 << 16);
    // What comes before it has asked, it does not take for an answer.
    let server = async {
        assert!(far.read(&mut [0; 512]).await.unwrap() > 0);
        far.write_all(came).await.unwrap();
        far.shutdown().await.unwrap();
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near))
        .await
        .unwrap();
    let request = Request::get("/")
        .header("host", "a")
        .body(Full::<Bytes>::default());
    let exchange = async {
        let answer = sender.send_request(request.unwrap()).await.ok()?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.ok()?.to_bytes().to_vec();
        Some((
            parts.status,
            parts.headers.get(header::CONTENT_TYPE).cloned(),
            body,
        ))
    };
    let (answer, _, ()) = tokio::join!(exchange, connection, server);
    answer
}

#[tokio::test]
async fn what_passes_is_what_hyper_reads() {
    let (mut passed, mut refused) = (0, 0);
    for answer in ANSWERS {
        let bytes = answer.as_bytes();
        assert!(ours(bytes).await.is_some(), "{answer:?}");
        for at in 0..bytes.len() {
            for evil in EVIL {
                let replaced = [&bytes[..at], &[evil], &bytes[at + 1..]].concat();
                let inserted = [&bytes[..at], &[evil], &bytes[at..]].concat();
                for came in [replaced, inserted, bytes[..at].to_vec()] {
                    let Some((whole, _)) = ours(&came).await else {
                        refused += 1;
                        continue;
                    };
                    passed += 1;
                    let shown = String::from_utf8_lossy(&came);
                    assert_eq!(Some(whole), hypers(&came).await, "{shown:?}");
                }
            }
        }
    }
    assert!(
        passed > 1000 && refused > 1000,
        "{passed} passed, {refused} were refused"
    );
}

#[tokio::test]
async fn however_an_answer_is_cut_the_same_is_read() {
    for answer in ANSWERS {
        let bytes = answer.as_bytes();
        for at in 0..bytes.len() {
            for evil in EVIL {
                let came = [&bytes[..at], &[evil], &bytes[at..]].concat();
                let whole = ours(&came).await.map(|(whole, _)| whole);
                for size in [1, 5] {
                    let cut = cut(&came, size).await.map(|(whole, _)| whole);
                    assert_eq!(cut, whole, "{:?} by {size}", String::from_utf8_lossy(&came));
                }
            }
        }
    }
}

#[tokio::test]
async fn a_connection_rests_after_a_whole_answer_and_nothing_more() {
    for (came, rests) in [
        (ANSWERS[0].to_owned(), true),
        (ANSWERS[1].to_owned(), true),
        (ANSWERS[4].to_owned(), true),
        (ANSWERS[5].to_owned(), false),
        (format!("{}H", ANSWERS[0]), false),
        (format!("{}\r\n", ANSWERS[1]), false),
    ] {
        let (_, rested) = ours(came.as_bytes()).await.unwrap();
        assert_eq!(rested, rests, "{came:?}");
    }
}

#[tokio::test]
async fn the_answer_to_head_has_no_body_whatever_it_says_of_its_length() {
    for (fields, rests) in [
        ("Content-Length: 17\r\n", true),
        ("Transfer-Encoding: chunked\r\n", true),
        ("", false),
    ] {
        let (near, mut far) = duplex(1 << 10);
        let mut link = Link::new(near, None);
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        far.write_all(head.as_bytes()).await.unwrap();
        let message = Message::new(&http::Method::HEAD, "/", &HeaderValue::from_static("a"));
        let message = message.with_body(Bytes::new());
        link.ask(order(&message)).await.unwrap();
        assert!(link.is_done() && link.left() == Some(0), "{fields:?}");
        assert!(link.data().await.is_none());
        assert_eq!(link.rests(), rests, "{fields:?}");
    }
}

#[tokio::test]
async fn who_answers_before_it_heard_all_is_heard_and_not_used_again() {
    let body = vec![b'x'; 1 << 20];
    let message =
        Message::new(&http::Method::POST, "/", &HeaderValue::from_static("a")).with_body(body.into());
    for closes in [false, true] {
        let (near, mut far) = duplex(1 << 10);
        let mut link = Link::new(near, None);
        far.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
            .await
            .unwrap();
        let far = if closes { None } else { Some(far) };
        // A duplex that is gone takes nothing, and gives what was written into it.
        let head = link.ask(order(&message)).await.unwrap();
        assert_eq!(head.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(link.data().await.unwrap().unwrap(), "{}");
        assert!(link.data().await.is_none());
        assert!(!link.rests());
        drop(far);
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_or_spoke_unasked_is_not_used() {
    let (near, mut far) = duplex(1 << 10);
    let mut link = Link::new(near, None);
    assert!(link.is_open());
    far.write_all(b"H").await.unwrap();
    assert!(!link.is_open());
    let (near, far) = duplex(1 << 10);
    let mut link = Link::new(near, None);
    drop(far);
    assert!(!link.is_open());
    let message = Message::get("/", &HeaderValue::from_static("a"));
    assert!(link.ask(order(&message)).await.is_err());
    assert!(link.is_untouched() && !link.has_heard());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_waited_for_until_then() {
    let (near, _far) = duplex(1 << 10);
    let mut link = Link::new(near, None);
    let message = Message::get("/", &HeaderValue::from_static("a"));
    let order = Order {
        until: Some(Instant::now()),
        ..order(&message)
    };
    assert!(matches!(link.ask(order).await, Err(LinkError::Late)));
    assert!(!link.is_untouched());
}
