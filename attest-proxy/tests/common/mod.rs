//! A whole proxy on loopback for each test: real listener, real SQLite registry, scripted upstream, a clock turned by
//! hand, a TPM of which the test holds the key.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code, of which each test binary uses its own part"
)]

pub mod client;
pub mod forge;
pub mod fronts;
pub mod http2;
pub mod kiosk;
pub mod process;
pub mod program;
pub mod servers;

use std::{net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use attest_proxy::{clock::Clock, config::Settings, server::Server, service::Proxy};
use domain::Sha256Digest;
use protocol::{
    binding::Binding,
    headers,
    messages::{Challenge, SessionGranted, SessionRequest},
    signature::{self, RequestParts, SessionKey},
};
use registry::{DeviceRecord, Options, PolicyRecord, Registry, RegistryUrl};
use testkit::{ManualClock, upstream::Upstream};
use tokio::sync::watch;
use zeroize::Zeroizing;

pub use client::{Answer, ask};
use forge::{Bytes, START, Tpm, psk_text};

pub const FLEET: &str = "demo";
pub const AUDIENCE: &str = "https://llm.demo.example";
pub const CHAT: &str = r#"{"model":"smollm2:135m","messages":[{"role":"user","content":"Gleis?"}]}"#;

/// The kiosk must prove its state, the plain device need not.
pub struct Rig {
    pub address: SocketAddr,
    pub operators: SocketAddr,
    pub upstream: Upstream,
    pub registry: Arc<dyn Registry>,
    pub clock: ManualClock,
    pub proxy: Arc<Proxy>,
    pub tpm: Tpm,
    pub stop: watch::Sender<bool>,
    pub dir: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Rig {
    /// An upstream that answers everything with one object.
    pub async fn new() -> Self {
        Self::with(Upstream::json(r#"{"done":true}"#), "").await
    }

    /// A given upstream, and lines for the end of the configuration.
    pub async fn with(upstream: Upstream, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url: RegistryUrl = format!("sqlite:{}", dir.path().join("registry.db").display())
            .parse()
            .unwrap();
        Self::on(upstream, more, dir, &url).await
    }

    /// A given registry too.
    pub async fn on(upstream: Upstream, more: &str, dir: tempfile::TempDir, url: &RegistryUrl) -> Self {
        let fleet = FLEET.parse().unwrap();
        let registry = registry::open(url, &Options::default(), &fleet).await.unwrap();
        let tpm = Tpm::new();
        registry
            .put_policy(&"strict".parse().unwrap(), forge::policy(true), None)
            .await
            .unwrap();
        registry
            .put_policy(&"open".parse().unwrap(), forge::policy(false), None)
            .await
            .unwrap();
        registry
            .enrol(forge::device("kiosk", "strict", Some(&tpm)))
            .await
            .unwrap();
        registry
            .enrol(forge::device("plain", "open", None))
            .await
            .unwrap();
        let path = dir.path().join("attest-proxy.toml");
        let settings = Settings::parse(&path, &config(dir.path(), &upstream.url(), url, more)).unwrap();
        let clock = ManualClock::at(START);
        let turned = clock.clone();
        let server = Server::bind(settings, Clock::Other(Arc::new(move || turned.now())))
            .await
            .unwrap();
        let (stop, stopped) = watch::channel(false);
        let (address, operators, proxy) = (
            server.address().unwrap(),
            server.operator_address().unwrap(),
            server.proxy(),
        );
        let task = tokio::spawn(server.run(stopped));
        let rig = Self {
            address,
            operators,
            upstream,
            registry,
            clock,
            proxy,
            tpm,
            stop,
            dir,
            task,
        };
        tokio::time::timeout(Duration::from_secs(10), rig.proxy.settled())
            .await
            .unwrap();
        rig
    }

    /// Waits until the server has ended.
    pub async fn ended(&mut self) {
        tokio::time::timeout(Duration::from_secs(20), &mut self.task)
            .await
            .unwrap()
            .unwrap();
    }

    /// `POST /api/chat` with these fields.
    pub async fn chat(&self, fields: &[(String, String)]) -> Answer {
        self.post("/api/chat", fields, CHAT).await
    }

    pub async fn post(&self, path: &str, fields: &[(String, String)], body: &str) -> Answer {
        ask(self.address, "POST", path, fields, body).await
    }

    pub async fn get(&self, path: &str, fields: &[(String, String)]) -> Answer {
        ask(self.address, "GET", path, fields, "").await
    }

    pub async fn challenge(&self, device: &str) -> Challenge {
        let answer = self.get(headers::CHALLENGE_PATH, &psk(device)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// What the kiosk's quote must be bound to.
    pub fn qualify(&self, nonce: &[u8], binding: &Binding<'_>) -> [u8; 32] {
        kiosk::qualify(nonce, binding)
    }

    /// The headers of one request of the kiosk with evidence in it.
    pub async fn quoted(&mut self, method: &str, target: &str, body: &str) -> Vec<(String, String)> {
        let challenge = self.challenge("kiosk").await;
        let nonce = challenge.nonce.as_bytes();
        let body = Sha256Digest::of(body.as_bytes());
        let data = self.qualify(
            nonce,
            &Binding::Request {
                method,
                target,
                body: &body,
            },
        );
        let evidence = self.tpm.quote(&data);
        quote_headers(&evidence, nonce)
    }

    /// A session request by the kiosk for `key`.
    pub async fn session_request(&mut self, key: &SessionKey) -> SessionRequest {
        let challenge = self.challenge("kiosk").await;
        let nonce = challenge.nonce.as_bytes();
        let public_key = key.public_key();
        let data = self.qualify(
            nonce,
            &Binding::Session {
                public_key: &public_key,
            },
        );
        let Bytes {
            quote,
            signature,
            pcrs,
        } = self.tpm.quote(&data);
        SessionRequest {
            quote,
            signature,
            pcrs,
            nonce: nonce.to_vec(),
            public_key: public_key.to_vec(),
            event_log: None,
            image_statement: None,
        }
    }

    /// Opens a session for the kiosk.
    pub async fn session(&mut self, key: &SessionKey) -> SessionGranted {
        let request = self.session_request(key).await;
        let answer = self.open(&request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub async fn open(&self, request: &SessionRequest) -> Answer {
        let body = serde_json::to_string(request).unwrap();
        self.post(headers::SESSION_PATH, &psk("kiosk"), &body).await
    }

    /// Edits a device's record, its generation rising.
    pub async fn edit(&self, device: &str, edit: impl FnOnce(&mut DeviceRecord)) {
        let id = device.parse().unwrap();
        let mut record = self.registry.device(&id).await.unwrap().unwrap();
        edit(&mut record.value);
        record.value.generation += 1;
        self.registry
            .update_device(record.value, record.revision)
            .await
            .unwrap();
    }

    /// Edits a policy, its revision rising.
    pub async fn edit_policy(&self, name: &str, edit: impl FnOnce(&mut PolicyRecord)) {
        let name = name.parse().unwrap();
        let mut record = self.registry.policy(&name).await.unwrap().unwrap();
        edit(&mut record.value);
        record.value.revision += 1;
        self.registry
            .put_policy(&name, record.value, Some(record.revision))
            .await
            .unwrap();
    }

    /// Asks until the answer has this status: what the watch brings takes a moment.
    pub async fn chat_until(&self, fields: &[(String, String)], status: u16) -> Answer {
        for _ in 0..400 {
            let answer = self.chat(fields).await;
            if answer.status == status {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("no answer with status {status} within 10 s");
    }
}

/// A configuration on free ports, with a key in its folder.
pub fn config(dir: &Path, upstream: &str, registry: &RegistryUrl, more: &str) -> String {
    let key = dir.join("fleet.key");
    if !key.exists() {
        std::fs::write(&key, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n").unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    // Several servers are named by the test.
    let one = if more.contains("[[upstreams]]") {
        "upstream-poll = \"50ms\"".to_owned()
    } else {
        format!("upstream = \"{upstream}\"")
    };
    format!(
        r#"
listen = "127.0.0.1:0"
operator-listen = "127.0.0.1:0"
fleet = "{FLEET}"
audience = "{AUDIENCE}"
registry = "{registry}"
{one}
{}
[fleet-key]
id = "k1"
file = "fleet.key"
{more}
"#,
        if more.contains("registry-max-age") {
            ""
        } else {
            "registry-max-age = \"30s\""
        }
    )
}

/// The PSK header of a device.
pub fn psk(device: &str) -> Vec<(String, String)> {
    vec![(headers::PSK.to_string(), psk_text(device))]
}

pub fn session_key(seed: u8) -> SessionKey {
    SessionKey::from_seed(&Zeroizing::new([seed; 32]))
}

pub fn quote_headers(evidence: &Bytes, nonce: &[u8]) -> Vec<(String, String)> {
    let mut fields = psk("kiosk");
    for (name, value) in [
        (headers::QUOTE, &evidence.quote[..]),
        (headers::QUOTE_SIGNATURE, &evidence.signature),
        (headers::QUOTE_PCRS, &evidence.pcrs),
        (headers::QUOTE_NONCE, nonce),
    ] {
        fields.push((name.to_string(), headers::bytes(value)));
    }
    fields
}

/// The headers of a signed request of a session. `nth` makes its nonce.
pub fn signed(
    rig: &Rig,
    device: &str,
    session: &str,
    key: &SessionKey,
    (method, path, body): (&str, &str, &str),
    nth: u8,
) -> Vec<(String, String)> {
    let digest = Sha256Digest::of(body.as_bytes());
    let parts = RequestParts {
        method,
        path,
        query: None,
        body_digest: &digest,
        session,
    };
    let signed = signature::sign(key, &parts, rig.clock.now(), [nth; 16]);
    signed_fields(device, session, &signed)
}

/// The fields of a request that is signed in a session.
pub fn signed_fields(
    device: &str,
    session: &str,
    signed: &signature::SignedHeaders,
) -> Vec<(String, String)> {
    let mut fields = psk(device);
    for (name, value) in [
        (headers::SESSION, session),
        (headers::CONTENT_DIGEST, &signed.content_digest),
        (headers::SIGNATURE_INPUT, &signed.signature_input),
        (headers::SIGNATURE, &signed.signature),
    ] {
        fields.push((name.to_string(), value.to_owned()));
    }
    fields
}
