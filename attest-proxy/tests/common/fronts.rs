//! Debian's proxies, set up as an ingress is.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A proxy in front, which ends with this.
pub struct Front(Child);

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nginx with one worker and at most so many connections to `proxy` at a time: of one, all clients share it.
pub async fn nginx(dir: &std::path::Path, proxy: SocketAddr, most: u8) -> (Front, SocketAddr) {
    let address = free();
    let (conf, root) = (dir.join("nginx.conf"), dir.display());
    let text = format!(
        "pid {root}/pid;\nerror_log {root}/log;\nworker_processes 1;\nmaster_process off;\nevents {{}}\nhttp {{ access_log off; \
         client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root}; uwsgi_temp_path {root}; scgi_temp_path {root};\n\
         client_header_timeout 2s; client_body_timeout 2s; lingering_close off;\n\
         upstream gate {{ server {proxy} max_conns={most}; keepalive {most}; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://gate; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
         proxy_set_header Host $http_host; proxy_request_buffering off; proxy_buffering off; proxy_read_timeout 5s; }} }} }}\n"
    );
    std::fs::write(&conf, text).unwrap();
    let mut command = Command::new("nginx");
    command
        .args(["-p", &root.to_string(), "-c", conf.to_str().unwrap()])
        .args(["-g", "daemon off;"]);
    (started(command, address).await, address)
}

/// HAProxy with one thread, likewise. `line`: how it speaks there.
pub async fn haproxy(dir: &std::path::Path, proxy: SocketAddr, most: u8, line: &str) -> (Front, SocketAddr) {
    let address = free();
    let conf = dir.join("haproxy.cfg");
    let text = format!(
        "global\n    nbthread 1\n    maxconn 500\ndefaults\n    mode http\n    timeout connect 2s\n    timeout client 2s\n    timeout server 5s\n    \
         timeout http-request 2s\n    timeout http-keep-alive 2s\n    option http-keep-alive\n    http-reuse always\n\
         frontend door\n    bind {address}\n    default_backend gate\nbackend gate\n    server gate {proxy} maxconn {most} {line}\n"
    );
    std::fs::write(&conf, text).unwrap();
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f", conf.to_str().unwrap()]);
    (started(command, address).await, address)
}

fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

async fn started(mut command: Command, address: SocketAddr) -> Front {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let front = Front(
        quiet
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?} (Debian packages nginx, haproxy; ci/setup): {e}")),
    );
    for _ in 0..500 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return front;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{command:?} does not listen");
}
