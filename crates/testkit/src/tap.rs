//! A listener on the bus: stands between a program and its TPM and writes down every byte, both ways.
//!
//! Owns: two consecutive loopback ports that lead to a swtpm's two. It changes nothing: a listener, no interposer.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use crate::swtpm::{self, Swtpm};

/// A tapped way to a TPM. Its threads end with the process.
#[derive(Debug)]
pub struct Tap {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    /// Taps the way to `swtpm`.
    ///
    /// # Panics
    /// No two consecutive free ports.
    #[must_use]
    pub fn on(swtpm: &Swtpm) -> Self {
        let heard = Arc::default();
        for _ in 0..100 {
            let Some(port) = swtpm::free_pair() else { continue };
            let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            if let (Ok(data), Ok(control)) = (bind(port), bind(port + 1)) {
                listen(data, swtpm.port(), &heard);
                listen(control, swtpm.port() + 1, &heard);
                return Self { port, heard };
            }
        }
        panic!("no two consecutive free ports");
    }

    /// How tpm2-tss reaches the TPM through the tap.
    #[must_use]
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Everything that crossed, commands and responses in order.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn listen(listener: TcpListener, to: u16, heard: &Arc<Mutex<Vec<u8>>>) {
    let heard = Arc::clone(heard);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(tpm)) = (client, TcpStream::connect((Ipv4Addr::LOCALHOST, to))) else {
                return;
            };
            let (Ok(client_again), Ok(tpm_again)) = (client.try_clone(), tpm.try_clone()) else {
                return;
            };
            forward(client, tpm, &heard);
            forward(tpm_again, client_again, &heard);
        }
    });
}

fn forward(mut from: TcpStream, mut to: TcpStream, heard: &Arc<Mutex<Vec<u8>>>) {
    let heard = Arc::clone(heard);
    thread::spawn(move || {
        let mut room = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut room) {
            heard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(&room[..count]);
            if to.write_all(&room[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
