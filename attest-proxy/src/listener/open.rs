//! Opening a port.
//!
//! Owns: what connections inherit from it. Of an answer that its client does not take, the kernel holds so much and no more:
//! without a bound it takes up to 4 MiB of each, which then looks to us like an answer that was taken.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Bytes that the kernel may hold of one connection's answers; it doubles them for its own use (tcp(7)).
const SEND_BUFFER: u32 = 128 << 10;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Listens on an address.
///
/// # Errors
/// What the system says.
pub(crate) fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // As other servers do: a port that was in use a moment ago is free.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_the_kernel_holds_of_an_answer_is_bounded() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = open(address.parse().unwrap()).unwrap();
            let at = listener.local_addr().unwrap();
            let reader = if at.is_ipv4() {
                TcpSocket::new_v4().unwrap()
            } else {
                TcpSocket::new_v6().unwrap()
            };
            reader.set_recv_buffer_size(4 << 10).unwrap();
            let reader = reader.connect(at).await.unwrap();
            let (writer, _) = listener.accept().await.unwrap();
            let mut held = 0;
            // It never reads.
            while tokio::time::timeout(Duration::from_millis(300), writer.writable())
                .await
                .is_ok()
            {
                held += writer.try_write(&[0; 16 << 10]).unwrap_or(0);
            }
            assert!(held > 0 && held < 512 << 10, "{held}");
            drop(reader);
        }
    }
}
