//! The other proxies: configured to do as little of our work as they can, which is a key check.
//!
//! Owns: their configurations. Connections are kept alive on both sides and never ended by a count; logs are off, but where a name
//! says otherwise. The backend is the same for all.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Options, cores, ours, tools};

/// A proxy that listens.
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) address: SocketAddr,
    pub(crate) child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx's workers end with their master only if it is asked.
        let pid = Pid::from_child(&self.child);
        let _gone = kill_process(pid, Signal::TERM);
        let _status = self.child.wait();
    }
}

/// Starts those that are wanted.
pub(crate) fn start(options: &Options, dir: &Path, backend: SocketAddr) -> Vec<Running> {
    let keys: Vec<String> = (0..ours::PLAIN).map(ours::plain_key).collect();
    let mut all = Vec::new();
    for (name, log) in [("nginx", false), ("nginx-log", true)] {
        if options.wants(name) {
            all.push(nginx(name, dir, backend, &keys, log));
        }
    }
    if options.wants("haproxy") {
        all.push(haproxy(dir, backend, &keys));
    }
    if options.wants("envoy") {
        all.push(envoy(&options.tools, dir, backend, &keys[0]));
    }
    if options.wants("ollamamq") {
        all.push(ollamamq(&options.tools, dir, backend));
    }
    if options.wants("bare") {
        all.push(bare(dir, backend, &keys));
    }
    all
}

fn nginx(name: &str, dir: &Path, backend: SocketAddr, keys: &[String], log: bool) -> Running {
    let (listen, dir) = (free(), dir.join(name));
    fs::create_dir(&dir).unwrap();
    let at = dir.display();
    let map: String = keys.iter().map(|key| format!("{key} 1;\n")).collect();
    let access = if log {
        format!("{at}/access.log")
    } else {
        "off".to_owned()
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {at}/{name};\n"))
        .collect();
    let config = format!(
        "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log crit;
         events {{ worker_connections 16384; }}
         http {{
           access_log {access};
           {temporary}
           map_hash_max_size 8192; map_hash_bucket_size 128;
           map $http_x_pre_shared_key $known {{ default 0; {map} }}
           upstream ollama {{ server {backend}; keepalive 128; keepalive_requests 100000000; }}
           server {{
             listen {listen};
             keepalive_requests 100000000;
             location = /api/chat {{
               if ($known = 0) {{ return 401; }}
               proxy_pass http://ollama;
               proxy_http_version 1.1;
               proxy_set_header Connection \"\";
               proxy_set_header X-Pre-Shared-Key \"\";
               proxy_buffering off;
             }}
           }}
         }}"
    );
    fs::write(dir.join("nginx.conf"), config).unwrap();
    let program = Path::new("/usr/sbin/nginx");
    let mut command = cores::on_proxy_core(program);
    command.arg("-p").arg(&dir).arg("-c").arg(dir.join("nginx.conf"));
    up(name, tools::version(program, "-v"), listen, command)
}

fn haproxy(dir: &Path, backend: SocketAddr, keys: &[String]) -> Running {
    let listen = free();
    fs::write(dir.join("haproxy.keys"), keys.join("\n")).unwrap();
    let config = format!(
        "global\n  nbthread 1\n  maxconn 4000\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  option http-keep-alive\n  http-reuse always\n\
         frontend clients\n  bind {listen}\n  acl known req.hdr(x-pre-shared-key) -m str -f {}\n\
         \x20 http-request deny deny_status 401 unless known\n  http-request deny deny_status 403 unless {{ path -m str /api/chat }}\n\
         \x20 http-request del-header x-pre-shared-key\n  default_backend ollama\n\
         backend ollama\n  server one {backend}\n",
        dir.join("haproxy.keys").display()
    );
    fs::write(dir.join("haproxy.cfg"), config).unwrap();
    let program = Path::new("/usr/sbin/haproxy");
    let mut command = cores::on_proxy_core(program);
    command.arg("-db").arg("-f").arg(dir.join("haproxy.cfg"));
    up("haproxy", tools::version(program, "-v"), listen, command)
}

/// Envoy has no map of keys without a program of its own in it: one key, compared in the route.
fn envoy(tools: &Path, dir: &Path, backend: SocketAddr, key: &str) -> Running {
    let (listen, program) = (free(), tools::envoy(tools));
    let config = serde_json::json!({
        "static_resources": {
            "listeners": [{
                "address": address(listen),
                "filter_chains": [{ "filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "clients",
                        "generate_request_id": false,
                        "http_filters": [{
                            "name": "envoy.filters.http.router",
                            "typed_config": {
                                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                                "suppress_envoy_headers": true,
                            },
                        }],
                        "route_config": { "virtual_hosts": [{
                            "name": "all",
                            "domains": ["*"],
                            "routes": [{
                                "match": {
                                    "path": "/api/chat",
                                    "headers": [{ "name": "x-pre-shared-key", "string_match": { "exact": key } }],
                                },
                                "route": { "cluster": "ollama" },
                                "request_headers_to_remove": ["x-pre-shared-key"],
                            }],
                        }] },
                    },
                }] }],
            }],
            "clusters": [{
                "name": "ollama",
                "type": "STATIC",
                "load_assignment": {
                    "cluster_name": "ollama",
                    "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(backend) } }] }],
                },
            }],
        },
    });
    fs::write(dir.join("envoy.json"), config.to_string()).unwrap();
    let mut command = cores::on_proxy_core(&program);
    command.args([
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "error",
        "-c",
    ]);
    command.arg(dir.join("envoy.json"));
    let version = tools::version(&program, "--version");
    up(
        "envoy",
        version.rsplit('/').next().unwrap().to_owned(),
        listen,
        command,
    )
}

fn address(of: SocketAddr) -> serde_json::Value {
    serde_json::json!({ "socket_address": { "address": of.ip().to_string(), "port_value": of.port() } })
}

/// It has no keys at all: what it does instead is to queue per user.
fn ollamamq(tools: &Path, dir: &Path, backend: SocketAddr) -> Running {
    let (listen, program) = (free(), tools::ollamamq(tools));
    let dir = dir.join("ollamamq");
    fs::create_dir(&dir).unwrap();
    let config = format!(
        "backends:\n  - http://{backend}\nsettings:\n  port: {}\n  host: 127.0.0.1\n  max_concurrent_per_backend: 128\n\
         models:\n  - name: \"smollm2:135m\"\n    max_concurrent_requests: 128\n",
        listen.port()
    );
    fs::write(dir.join("appconf.yaml"), config).unwrap();
    let mut command = cores::on_proxy_core(&program);
    command
        .args(["--no-tui", "--model-config"])
        .arg(dir.join("appconf.yaml"))
        .current_dir(&dir)
        // It says so much otherwise that this would be what is measured.
        .env("RUST_LOG", "error");
    let running = up("ollamamq", tools::version(&program, "--version"), listen, command);
    // It asks the backend for its models first, now and every ten seconds.
    thread::sleep(Duration::from_secs(3));
    running
}

fn bare(dir: &Path, backend: SocketAddr, keys: &[String]) -> Running {
    let listen = free();
    fs::write(dir.join("bare.keys"), keys.join("\n")).unwrap();
    let mut command = cores::on_proxy_core(std::env::current_exe().unwrap());
    command.args([
        "bare",
        "--listen",
        &listen.to_string(),
        "--upstream",
        &backend.to_string(),
        "--keys",
    ]);
    command.arg(dir.join("bare.keys"));
    up("bare", "hyper 1".to_owned(), listen, command)
}

fn up(name: &str, version: String, address: SocketAddr, mut command: Command) -> Running {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    let running = Running {
        name: name.to_owned(),
        version,
        address,
        child,
    };
    let patience = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < patience, "{name} does not listen");
        thread::sleep(Duration::from_millis(50));
    }
    running
}

/// The address behind `prefix` on a line of a program's log, once it is there.
pub(crate) fn address_after(log: &Path, prefix: &str) -> SocketAddr {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(prefix));
        if let Some(address) = line.and_then(|a| a.parse().ok()) {
            return address;
        }
        assert!(Instant::now() < patience, "it does not get ready: {text}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
