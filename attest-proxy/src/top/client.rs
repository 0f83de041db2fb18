//! `attest-proxy top`, the program: reads `/top` again and again and draws it.
//!
//! Owns: the terminal while it runs (the alternate screen, given back at the end, also at Ctrl-C), and `--once`, which draws
//! one frame of what is there and ends.

use std::{io::Write as _, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};

use super::{Top, screen};

/// How long an answer may take: the proxy asks its upstream for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const MAX_ANSWER: usize = 4 << 20;

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// No answer.
    #[error("no answer from the operators' listener at {0}: {1}")]
    Unreachable(SocketAddr, String),
    /// An answer of something else.
    #[error("{0} is not the operators' listener of an attest-proxy")]
    NotOurs(SocketAddr),
    /// The terminal.
    #[error("cannot write to the terminal: {0}")]
    Terminal(#[from] std::io::Error),
}

/// Reads `/top` once; its text too, as it came.
///
/// # Errors
/// [`TopError`].
pub async fn read(address: SocketAddr) -> Result<(Top, Bytes), TopError> {
    let unreachable = |why: String| TopError::Unreachable(address, why);
    let body = timeout(PATIENCE, get(address))
        .await
        .map_err(|_| unreachable(format!("none within {PATIENCE:?}")))?
        .map_err(unreachable)?;
    let top = serde_json::from_slice(&body).map_err(|_| TopError::NotOurs(address))?;
    Ok((top, body))
}

/// Draws until a signal says that it is enough.
///
/// # Errors
/// [`TopError`]; the terminal is given back before.
pub async fn run(address: SocketAddr, every: Duration) -> Result<(), TopError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // The first reading before the screen is taken: its failure is best read on the screen of before.
    let (mut now, _) = read(address).await?;
    write("\x1b[?1049h\x1b[?25l")?;
    let mut before: Option<Top> = None;
    let result = loop {
        let (width, height) = size();
        let mut frame = String::from("\x1b[H");
        for line in screen::draw(&now, before.as_ref(), width, height.saturating_sub(1)) {
            frame.push_str(&line);
            frame.push_str("\x1b[K\r\n");
        }
        frame.push_str("\x1b[J");
        if let Err(error) = write(&frame) {
            break Err(error.into());
        }
        tokio::select! {
            () = sleep(every) => {}
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
        }
        match read(address).await {
            Ok((next, _)) => before = Some(std::mem::replace(&mut now, next)),
            Err(error) => break Err(error),
        }
    };
    write("\x1b[?25h\x1b[?1049l")?;
    result
}

/// The terminal's columns and lines; of what is none, those of old.
#[must_use]
pub fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (120, 40),
    }
}

fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

async fn get(address: SocketAddr) -> Result<Bytes, String> {
    let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let driving = tokio::spawn(async move { drop(connection.await) });
    let request = Request::get("/top")
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let whole = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        whole
            .map(http_body_util::Collected::to_bytes)
            .map_err(|e| e.to_string())
    };
    let body = answer.await;
    driving.abort();
    body
}
