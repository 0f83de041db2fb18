//! `attest-proxy top`, the program: reads `/top` again and again and draws it.
//!
//! Owns: the terminal while it runs (the alternate screen and the keys, given back at the end, also at Ctrl-C), and `--once`,
//! which draws one frame of what is there and ends; and `attest-proxy ready`, which reads `/readyz`.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::{
    net::TcpStream,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Top,
    screen::{self, Sort},
};
use crate::operators::Readiness;

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
    let body = get(address, "/top").await?;
    let top = serde_json::from_slice(&body).map_err(|_| TopError::NotOurs(address))?;
    Ok((top, body))
}

/// Reads `/readyz` once.
///
/// # Errors
/// [`TopError`].
pub async fn ready(address: SocketAddr) -> Result<Readiness, TopError> {
    let body = get(address, "/readyz").await?;
    serde_json::from_slice(&body).map_err(|_| TopError::NotOurs(address))
}

async fn get(address: SocketAddr, path: &str) -> Result<Bytes, TopError> {
    let unreachable = |why: String| TopError::Unreachable(address, why);
    timeout(PATIENCE, fetch(address, path))
        .await
        .map_err(|_| unreachable(format!("none within {PATIENCE:?}")))?
        .map_err(unreachable)
}

/// Draws until a signal, or `q`, says that it is enough.
///
/// # Errors
/// [`TopError`]; the terminal is given back before.
pub async fn run(address: SocketAddr, every: Duration, sort: Sort) -> Result<(), TopError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // The first reading before the screen is taken: its failure is best read on the screen of before.
    let (mut now, _) = read(address).await?;
    let (terminal, mut keys) = keys();
    write("\x1b[?1049h\x1b[?25l")?;
    let result = draw_on(
        address,
        every,
        sort,
        (&mut interrupt, &mut terminate),
        &mut keys,
        &mut now,
    )
    .await;
    if let Some(terminal) = terminal {
        // If it is gone, nothing is left to be given back.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &terminal);
    }
    write("\x1b[?25h\x1b[?1049l")?;
    result
}

type Signals<'a> = (
    &'a mut tokio::signal::unix::Signal,
    &'a mut tokio::signal::unix::Signal,
);

async fn draw_on(
    address: SocketAddr,
    every: Duration,
    mut sort: Sort,
    (interrupt, terminate): Signals<'_>,
    keys: &mut mpsc::UnboundedReceiver<u8>,
    now: &mut Top,
) -> Result<(), TopError> {
    let mut before: Option<Top> = None;
    let mut next = Instant::now();
    loop {
        let (width, height) = size();
        let mut frame = String::from("\x1b[H");
        for line in screen::draw(now, before.as_ref(), sort, width, height.saturating_sub(1)) {
            frame.push_str(&line);
            frame.push_str("\x1b[K\r\n");
        }
        frame.push_str("\x1b[J");
        write(&frame)?;
        next = next.max(Instant::now().checked_sub(every).unwrap_or(next));
        let due = next.checked_add(every).unwrap_or(next);
        tokio::select! {
            () = sleep_until(due) => {
                next = due;
                let (reading, _) = read(address).await?;
                before = Some(std::mem::replace(now, reading));
            }
            Some(key) = keys.recv() => match key {
                b'q' | b'Q' => return Ok(()),
                key => sort = Sort::of_key(key).unwrap_or(sort),
            },
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
    }
}

/// Keys as they are pressed, without an echo, and how the terminal was before. Of what is no terminal, none.
fn keys() -> (Option<Termios>, mpsc::UnboundedReceiver<u8>) {
    let (pressed, keys) = mpsc::unbounded_channel();
    let Ok(before) = tcgetattr(std::io::stdin()) else {
        return (None, keys);
    };
    let mut raw = before.clone();
    // Ctrl-C stays a signal.
    raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
    if tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).is_err() {
        return (None, keys);
    }
    // It waits for a key for as long as the program lives.
    std::thread::spawn(move || {
        let mut key = [0];
        while std::io::stdin().read_exact(&mut key).is_ok() {
            let [key] = key;
            if pressed.send(key).is_err() {
                return;
            }
        }
    });
    (Some(before), keys)
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

async fn fetch(address: SocketAddr, path: &str) -> Result<Bytes, String> {
    let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let driving = tokio::spawn(async move { drop(connection.await) });
    let request = Request::get(path)
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
