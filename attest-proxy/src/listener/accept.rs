//! Accepting, also when the system has nothing left to accept with.
//!
//! Owns: what is done when it fails. A client that has left again is nobody's concern. Out of descriptors or memory, those
//! who are connected come first: accepting pauses, and goes on. An attacker controls how often this happens, so that it
//! is told once in a while.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rustix::io::Errno;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How often the same trouble is told.
const TOLD: Duration = Duration::from_secs(10);

/// What went wrong lately.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    pause: Option<Duration>,
    told: Option<Instant>,
}

/// Accepts the next connection, as long as it takes.
pub(crate) async fn accept(listener: &TcpListener, trouble: &mut Trouble) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                trouble.pause = None;
                return accepted;
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                if trouble.told.is_none_or(|told| told.elapsed() > TOLD) {
                    trouble.told = Some(Instant::now());
                    tracing::error!(target: "server", error = %error, "connections cannot be accepted at the moment");
                }
                let pause = trouble.pause.unwrap_or(PAUSE);
                trouble.pause = Some(pause.saturating_mul(2).min(LONGEST_PAUSE));
                sleep(pause).await;
            }
        }
    }
}

/// accept(2), "Error handling": of a connection that is gone already.
fn is_the_clients(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    errno.is_some_and(|errno| [Errno::CONNABORTED, Errno::INTR, Errno::PROTO].contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_left_is_no_trouble() {
        let error = |errno: Errno| io::Error::from(errno);
        assert!(is_the_clients(&error(Errno::CONNABORTED)));
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(!is_the_clients(&error(errno)));
        }
        assert!(!is_the_clients(&io::ErrorKind::Other.into()));
    }
}
