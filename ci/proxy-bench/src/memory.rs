//! What our proxy takes when nobody asks anything.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread::sleep,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use crate::{credentials, message, ours, peers::Running, usage};

#[derive(Serialize)]
pub(crate) struct Memory {
    pub(crate) idle_kib: u64,
    pub(crate) connections: usize,
    pub(crate) connected_kib: u64,
}

/// Lets this program and those that it starts have so many connections.
pub(crate) fn raise_limit(connections: usize) {
    let wanted = u64::try_from(connections + 1000).unwrap();
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= wanted) {
        return;
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(wanted),
            maximum: now.maximum.map(|most| most.max(wanted)),
        },
    )
    .expect("the system allows that many open files");
}

/// Before anything was asked, and with so many connections that asked once each.
pub(crate) fn measure(proxy: &Running, connections: usize) -> Memory {
    sleep(Duration::from_secs(2));
    let idle_kib = usage::resident(proxy.child.id());
    let request = credentials::plain(&ours::plain_key(0));
    let open: Vec<TcpStream> = (0..connections)
        .map(|_| {
            let mut stream = TcpStream::connect(proxy.address).unwrap();
            stream.write_all(&request).unwrap();
            let mut answer = Vec::new();
            let mut room = [0; 4096];
            while message::whole(&answer).is_none() {
                let n = stream.read(&mut room).unwrap();
                assert!(n > 0, "{}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&room[..n]);
            }
            assert!(
                answer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&answer)
            );
            stream
        })
        .collect();
    sleep(Duration::from_secs(2));
    let connected_kib = usage::resident(proxy.child.id());
    let held = usage::descriptors(proxy.child.id());
    assert!(
        held >= connections,
        "{held} descriptors: some connections were closed"
    );
    Memory {
        idle_kib,
        connections: open.len(),
        connected_kib,
    }
}
