//! Requests as devices send them, made before the clock runs.
//!
//! Owns: the body of all requests, and what stands beside a key: signatures of sessions, quotes of TPMs whose keys are here. Nonces are
//! issued with the fleet's own key, as the proxy would: asking for each would measure the asking.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::SystemTime,
};

use domain::{FleetRoot, PskDigest, Sha256Digest, UnixTime};
use protocol::{
    FleetKeys, KeyRing, Subject,
    binding::{self, Binding},
    headers,
    messages::{SessionGranted, SessionRequest},
    nonce::{self, Nonce},
    signature::{self, RequestParts, SessionKey},
};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::{
    forge::{Tpm, psk_text},
    message,
    ours::{AUDIENCE, FLEET, ROOT},
};

/// Where all requests go.
const PATH: &str = "/api/chat";
/// What all requests say.
pub(crate) const BODY: &str = r#"{"model":"smollm2:135m","stream":false,"messages":[{"role":"system","content":"You are the information desk of Zurich main station. Answer in two sentences, in the traveller's language. Say the platform first, then the way to it. If a train is late, say by how much and offer the next one. Never invent a departure."},{"role":"user","content":"Hello, where does the train to Bern leave?"},{"role":"assistant","content":"Your train to Bern leaves from platform 31 at 14:02. Take the escalator by the large clock down two floors; platform 31 is on your right."},{"role":"user","content":"Thank you. And my friend has to go to Winterthur: \"the next one, please\". From which platform, and how does she get there with a pram?"}],"options":{"temperature":0.2,"num_predict":200}}"#;

/// A device that must prove its state.
pub(crate) struct Kiosk {
    pub(crate) id: String,
    pub(crate) tpm: Tpm,
    seed: u8,
}

/// The devices that must prove their state, and the fleet's key.
pub(crate) struct Kiosks {
    pub(crate) all: Vec<Kiosk>,
    keys: KeyRing,
    random: SystemRandom,
}

impl Kiosks {
    pub(crate) fn new(how_many: u8) -> Self {
        let kiosk = |seed| Kiosk {
            id: format!("kiosk-{seed}"),
            tpm: Tpm::new(),
            seed,
        };
        let root = FleetRoot::copy_from(&ROOT).unwrap();
        Self {
            all: (0..how_many).map(kiosk).collect(),
            keys: KeyRing::new(FleetKeys::derive("k1".parse().unwrap(), &root), None),
            random: SystemRandom::new(),
        }
    }

    /// `n` requests of a kiosk, each with a quote of its own.
    pub(crate) fn quoted(&mut self, kiosk: usize, n: usize) -> Vec<Vec<u8>> {
        let body = Sha256Digest::of(BODY.as_bytes());
        let binding = Binding::Request {
            method: "POST",
            target: PATH,
            body: &body,
        };
        (0..n)
            .map(|_| {
                let (quote, nonce) = self.quote(kiosk, &binding);
                let id = &self.all[kiosk].id;
                let fields = [
                    (headers::QUOTE, headers::bytes(&quote.quote)),
                    (headers::QUOTE_SIGNATURE, headers::bytes(&quote.signature)),
                    (headers::QUOTE_PCRS, headers::bytes(&quote.pcrs)),
                    (headers::QUOTE_NONCE, headers::bytes(nonce.as_bytes())),
                ];
                request(PATH, &psk_text(id), &fields, BODY)
            })
            .collect()
    }

    /// `n` requests of a kiosk, signed with the key of a session that is opened for it at `proxy`.
    pub(crate) fn signed(&mut self, proxy: SocketAddr, kiosk: usize, n: usize) -> Vec<Vec<u8>> {
        let key = SessionKey::from_seed(&Zeroizing::new([self.all[kiosk].seed; 32]));
        let granted = self.open(proxy, kiosk, &key);
        let digest = Sha256Digest::of(BODY.as_bytes());
        let parts = RequestParts {
            method: "POST",
            path: PATH,
            query: None,
            body_digest: &digest,
            session: &granted.session,
        };
        let psk = psk_text(&self.all[kiosk].id);
        let now = now();
        (0..n)
            .map(|_| {
                let mut nonce = [0; 16];
                self.random.fill(&mut nonce).unwrap();
                let signed = signature::sign(&key, &parts, now, nonce);
                let fields = [
                    (headers::SESSION, granted.session.clone()),
                    (headers::CONTENT_DIGEST, signed.content_digest),
                    (headers::SIGNATURE_INPUT, signed.signature_input),
                    (headers::SIGNATURE, signed.signature),
                ];
                request(PATH, &psk, &fields, BODY)
            })
            .collect()
    }

    fn open(&mut self, proxy: SocketAddr, kiosk: usize, key: &SessionKey) -> SessionGranted {
        let public_key = key.public_key();
        let binding = Binding::Session {
            public_key: &public_key,
        };
        let (quote, nonce) = self.quote(kiosk, &binding);
        let body = serde_json::to_string(&SessionRequest {
            quote: quote.quote,
            signature: quote.signature,
            pcrs: quote.pcrs,
            nonce: nonce.as_bytes().to_vec(),
            public_key: public_key.to_vec(),
            event_log: None,
            image_statement: None,
        })
        .unwrap();
        let psk = psk_text(&self.all[kiosk].id);
        let answer = ask(proxy, &request(headers::SESSION_PATH, &psk, &[], &body));
        serde_json::from_slice(&answer)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&answer)))
    }

    /// A quote as it travels, and the nonce that it answers.
    pub(crate) fn quote(&mut self, kiosk: usize, binding: &Binding<'_>) -> (crate::forge::Bytes, Nonce) {
        let kiosk = &mut self.all[kiosk];
        let subject = Subject {
            fleet: &FLEET.parse().unwrap(),
            audience: &AUDIENCE.parse().unwrap(),
            device: &kiosk.id.parse().unwrap(),
            psk: &PskDigest::of(psk_text(&kiosk.id).as_bytes()),
        };
        let mut random = [0; 8];
        self.random.fill(&mut random).unwrap();
        let nonce = nonce::issue(&self.keys, &subject, now(), random);
        let data = binding::qualifying_data(&subject, nonce.as_bytes(), binding);
        (kiosk.tpm.quote(&data), nonce)
    }
}

/// A request with a key alone.
pub(crate) fn plain(psk: &str) -> Vec<u8> {
    request(PATH, psk, &[], BODY)
}

/// A request for a stream, with a key alone.
pub(crate) fn streaming(psk: &str) -> Vec<u8> {
    request(PATH, psk, &[], &BODY.replace("false", "true"))
}

fn request(path: &str, psk: &str, fields: &[(http::HeaderName, String)], body: &str) -> Vec<u8> {
    let mut text = format!(
        "POST {path} HTTP/1.1\r\nHost: llm.demo.example\r\nUser-Agent: ollama-python/0.6.0 (x86_64 linux) Python/3.13\r\n\
         Accept: application/json\r\nContent-Type: application/json\r\nX-Pre-Shared-Key: {psk}\r\n"
    );
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text.into_bytes()
}

/// The body of an answer.
pub(crate) fn ask(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    let mut room = [0; 4096];
    loop {
        let n = stream.read(&mut room).unwrap();
        assert!(n > 0, "no whole answer: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&room[..n]);
        if let Some(whole) = message::whole(&answer) {
            return answer.split_off(whole.head);
        }
    }
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::from_secs(since.unwrap().as_secs())
}
