//! h2spec's cases under their own numbers: what is sent after the preface, and which answers that suite takes.
//!
//! The suite itself is a Go program that no Debian package has; these are its cases written down anew, frame by frame, against a
//! listener without TLS and against one with it. A stream error may be answered by a connection error or by closing
//! (RFC 9113 5.4), as the suite allows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "test code"
)]

mod common;
mod corpus;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use common::{
    Rig,
    http2::{Connection, DATA, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, frame},
    program::{Running, folder},
};
use corpus::h2spec::{self, Case, Step, Want};
use testkit::upstream::Upstream;
use tokio::{net::TcpStream, time::timeout};

/// How long an answer may take that is awaited.
const PATIENCE: Duration = Duration::from_secs(3);

/// What has happened on a connection.
#[derive(Debug, Default)]
struct Seen {
    frames: Vec<Frame>,
    closed: bool,
}

impl Seen {
    fn code(frame: &Frame, at: usize) -> u32 {
        let bytes = frame.payload.get(at..at + 4).expect("a code");
        u32::from_be_bytes(bytes.try_into().unwrap())
    }

    fn ended(&self, stream: u32) -> bool {
        self.frames
            .iter()
            .any(|f| f.stream == stream && matches!(f.kind, DATA | HEADERS) && f.flags & END_STREAM != 0)
    }

    fn gone(&self, codes: &[u32]) -> bool {
        let mut away = self.frames.iter().filter(|f| f.kind == GOAWAY);
        // As the suite has it: closed is ended, whatever was said before. (h2 says PROTOCOL_ERROR where a frame cannot be
        // read, whatever is wrong with it.)
        away.any(|f| codes.contains(&Self::code(f, 4))) || self.closed
    }

    fn is(&self, want: &Want) -> bool {
        match want {
            Want::Answer(stream) => self.ended(*stream),
            Want::Connection(codes) => self.gone(codes),
            Want::Stream(stream, codes) => {
                self.gone(codes)
                    || self.frames.iter().any(|f| {
                        f.kind == RST_STREAM && f.stream == *stream && codes.contains(&Self::code(f, 0))
                    })
            }
            Want::Ack => {
                let acks = |kind, n| {
                    let all = self.frames.iter().filter(|f| f.kind == kind && f.flags & 1 != 0);
                    all.count() >= n
                };
                acks(PING, 1) && acks(SETTINGS, 1)
            }
            Want::Lengths(stream, lengths) => {
                let data = self
                    .frames
                    .iter()
                    .filter(|f| f.kind == DATA && f.stream == *stream);
                data.map(|f| f.payload.len())
                    .take(lengths.len())
                    .eq(lengths.iter().copied())
            }
        }
    }

    /// Whether what happened from now on can change nothing.
    fn settled(&self, want: &Want) -> bool {
        self.closed || self.is(want)
    }
}

async fn read(connection: &mut Connection, seen: &mut Seen, until: impl Fn(&Seen) -> bool) {
    while !until(seen) {
        match timeout(PATIENCE, connection.next()).await {
            Ok(Some(frame)) => seen.frames.push(frame),
            Ok(None) => seen.closed = true,
            Err(_) => return,
        }
    }
}

async fn play(mut connection: Connection, case: &Case) -> Seen {
    let mut seen = Seen::default();
    for step in &case.steps {
        match step {
            Step::Send(bytes) => {
                connection.send(bytes).await;
            }
            Step::Data(stream) => {
                let data = |f: &Frame| f.kind == DATA && f.stream == *stream;
                read(&mut connection, &mut seen, |seen| {
                    seen.closed || seen.frames.iter().any(data)
                })
                .await;
            }
            Step::Answered(stream) => {
                let ended = |seen: &Seen| seen.closed || seen.ended(*stream);
                read(&mut connection, &mut seen, ended).await;
            }
        }
    }
    if let Want::Ack | Want::Lengths(..) = case.want {
        connection.send(&frame(PING, 0, 0, b"h2spec..")).await;
    }
    read(&mut connection, &mut seen, |seen| seen.settled(&case.want)).await;
    seen
}

async fn run(address: SocketAddr, open: impl AsyncFn(SocketAddr, &[u8]) -> Connection) {
    let cases = h2spec::cases();
    let mut wrong = Vec::new();
    for case in &cases {
        let connection = open(address, &case.settings).await;
        let seen = play(connection, case).await;
        let excepted = h2spec::EXCEPT.iter().any(|(name, _)| *name == case.name);
        if seen.is(&case.want) == excepted {
            let said: Vec<_> = seen
                .frames
                .iter()
                .map(|f| {
                    (
                        f.kind,
                        f.flags,
                        f.stream,
                        f.payload.iter().take(12).collect::<Vec<_>>(),
                    )
                })
                .collect();
            wrong.push(format!(
                "{}: wanted {:?}, closed: {}, frames: {said:?}",
                case.name, case.want, seen.closed
            ));
        }
    }
    let but = h2spec::EXCEPT.len();
    println!(
        "h2spec: {} of {} cases",
        cases.len() - but - wrong.len(),
        cases.len()
    );
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_every_case_ends_as_the_suite_wants() {
    let rig = Rig::with(Upstream::json("{\"done\":true}"), "[limits]\nhttp2-streams = 100").await;
    run(rig.address, Connection::open).await;
}

/// Under TLS, ALPN `h2`.
async fn secured(address: SocketAddr, trusted: &[u8], settings: &[u8]) -> Connection {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.to_vec().into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    Connection::over(stream, settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn under_tls_every_case_ends_as_the_suite_wants() {
    let upstream = Upstream::json("{\"done\":true}");
    let (dir, path) = folder(&upstream.url()).await;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.path().join("tls.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let more = "[tls]\ncert = \"tls.pem\"\nkey = \"tls.key\"\n[limits]\nhttp2-streams = 100\n";
    std::fs::write(&path, format!("{text}\n{more}")).unwrap();
    let running = Running::start_at(&path, &[], "ready: https://");
    let trusted = made.cert.der().to_vec();
    run(running.address, async |address, settings: &[u8]| {
        secured(address, &trusted, settings).await
    })
    .await;
    assert_eq!(running.end().0, 0);
}
