//! The kiosk as a client of a proxy that runs elsewhere: it quotes, opens sessions and signs, by a clock that it is told.

use std::net::SocketAddr;

use domain::{PskDigest, Sha256Digest, UnixTime};
use protocol::{
    Subject,
    binding::{self, Binding},
    headers,
    messages::{Challenge, SessionGranted, SessionRequest},
    signature::{self, RequestParts, SessionKey},
};

use super::{
    AUDIENCE, Answer, FLEET, ask,
    forge::{Tpm, psk_text},
    psk, quote_headers, signed_fields,
};

/// What the kiosk's quote must be bound to.
pub fn qualify(nonce: &[u8], binding: &Binding<'_>) -> [u8; 32] {
    let (fleet, audience) = (FLEET.parse().unwrap(), AUDIENCE.parse().unwrap());
    let (device, psk) = (
        "kiosk".parse().unwrap(),
        PskDigest::of(psk_text("kiosk").as_bytes()),
    );
    let subject = Subject {
        fleet: &fleet,
        audience: &audience,
        device: &device,
        psk: &psk,
    };
    binding::qualifying_data(&subject, nonce, binding)
}

/// What the machine's clock shows.
pub fn wall() -> UnixTime {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    UnixTime::from_secs(since.as_secs())
}

/// A device with a TPM, and the session that it holds.
pub struct Kiosk {
    pub address: SocketAddr,
    pub tpm: Tpm,
    key: SessionKey,
    session: Option<String>,
    nth: u64,
}

impl Kiosk {
    pub fn new(address: SocketAddr, tpm: Tpm) -> Self {
        Self {
            address,
            tpm,
            key: super::session_key(9),
            session: None,
            nth: 0,
        }
    }

    /// A challenge's nonce, or what was said instead.
    pub async fn challenge(&self) -> Result<Vec<u8>, Answer> {
        let answer = ask(self.address, "GET", headers::CHALLENGE_PATH, &psk("kiosk"), "").await;
        if answer.status != 200 {
            return Err(answer);
        }
        let challenge: Challenge = serde_json::from_slice(&answer.body).unwrap();
        Ok(challenge.nonce.as_bytes().to_vec())
    }

    /// Headers for one request, with evidence in it.
    pub async fn quoted(
        &mut self,
        method: &str,
        target: &str,
        body: &str,
    ) -> Result<Vec<(String, String)>, Answer> {
        let nonce = self.challenge().await?;
        let body = Sha256Digest::of(body.as_bytes());
        let binding = Binding::Request {
            method,
            target,
            body: &body,
        };
        let evidence = self.tpm.quote(&qualify(&nonce, &binding));
        Ok(quote_headers(&evidence, &nonce))
    }

    /// Opens a session, in the place of the one before.
    pub async fn open(&mut self) -> Result<(), Answer> {
        self.session = None;
        let nonce = self.challenge().await?;
        let public_key = self.key.public_key();
        let binding = Binding::Session {
            public_key: &public_key,
        };
        let evidence = self.tpm.quote(&qualify(&nonce, &binding));
        let request = SessionRequest {
            quote: evidence.quote,
            signature: evidence.signature,
            pcrs: evidence.pcrs,
            nonce,
            public_key: public_key.to_vec(),
            event_log: None,
            image_statement: None,
        };
        let body = serde_json::to_string(&request).unwrap();
        let answer = ask(self.address, "POST", headers::SESSION_PATH, &psk("kiosk"), &body).await;
        if answer.status != 200 {
            return Err(answer);
        }
        let granted: SessionGranted = serde_json::from_slice(&answer.body).unwrap();
        self.session = Some(granted.session);
        Ok(())
    }

    /// Whether a session was opened.
    pub const fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Headers of a signed request of the open session, with a nonce of its own.
    pub fn signed(&mut self, method: &str, path: &str, body: &str, now: UnixTime) -> Vec<(String, String)> {
        let session = self.session.as_deref().expect("a session");
        let digest = Sha256Digest::of(body.as_bytes());
        let parts = RequestParts {
            method,
            path,
            query: None,
            body_digest: &digest,
            session,
        };
        self.nth += 1;
        let mut nonce = [0x5b; 16];
        nonce[..8].copy_from_slice(&self.nth.to_be_bytes());
        let signed = signature::sign(&self.key, &parts, now, nonce);
        signed_fields("kiosk", session, &signed)
    }
}
