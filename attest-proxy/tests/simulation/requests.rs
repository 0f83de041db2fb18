//! What is asked, and what the model says to it.

use attest_proxy::{
    gate::{self, Grant, Proof, World},
    head::Head,
};
use domain::Sha256Digest;
use http::{HeaderMap, Method};
use protocol::{
    Refusal, headers, nonce,
    signature::{self, RequestParts},
};

use super::model::{DEVICES, Sent, Sim, at, digest};
use crate::forge::START;

impl Sim {
    /// The gate's decision: admitted, as whom, and with what it still owes.
    pub fn decide(&mut self, fields: &HeaderMap) -> Result<(usize, Grant), Refusal> {
        let head = Head {
            method: &Method::POST,
            path: "/api/chat",
            query: None,
            target: "/api/chat",
            headers: fields,
            certificate: None,
        };
        let world = World {
            view: self.alive.then_some(&self.view),
            keys: &self.keys,
            site: &self.site,
            started_at: START,
        };
        match gate::decide(&head, &world, at(self.now)) {
            Ok(admit) => {
                let id = admit.device.id().as_str().to_owned();
                Ok((DEVICES.iter().position(|(d, ..)| *d == id).unwrap(), admit.to))
            }
            Err(refused) => Err(refused.refusal),
        }
    }

    pub fn count(&mut self, admitted: bool) {
        if admitted {
            self.admitted += 1;
        } else {
            self.refused += 1;
        }
    }

    /// Holds what the gate said to what the model says of a key, before any proof: `Some`: its device, which may go on.
    pub fn known(&mut self, psk: &str, got: &Result<(usize, Grant), Refusal>) -> Option<usize> {
        let owner = self.owner(psk);
        match (self.alive, owner, got) {
            (false, _, Err(Refusal::RegistryStale)) | (true, None, Err(Refusal::PskUnknown)) => None,
            (true, Some(device), Err(refusal)) => {
                assert_ne!(*refusal, Refusal::PskUnknown, "{device} is unknown");
                owner
            }
            (true, Some(device), Ok((as_whom, _))) => {
                assert_eq!(device, *as_whom, "admitted as somebody else");
                owner
            }
            (alive, owner, got) => {
                panic!("registry alive: {alive}, owner {owner:?}, and the gate says {got:?}")
            }
        }
    }

    pub fn ask_by_key(&mut self) {
        let device = self.random.below(DEVICES.len());
        let psk = self.key_of(device);
        let got = self.decide(&with_psk(&psk));
        if let Some(device) = self.known(&psk, &got) {
            let enough = self.policy(device).evidence.is_none();
            assert_eq!(got.is_ok(), enough, "a key alone: {got:?}");
        }
        self.count(got.is_ok());
    }

    pub fn ask_by_nonce(&mut self) {
        if self.given.is_empty() {
            return;
        }
        let nth = self.given.len() - 1 - self.random.below(self.given.len().min(20));
        let device = if self.random.one_in(8) {
            self.random.below(DEVICES.len())
        } else {
            self.given[nth].device
        };
        let psk = self.key_of(device);
        let mut fields = with_psk(&psk);
        for name in [headers::QUOTE, headers::QUOTE_SIGNATURE, headers::QUOTE_PCRS] {
            fields.insert(name, ":AQ==:".parse().unwrap());
        }
        fields.insert(
            headers::QUOTE_NONCE,
            headers::bytes(&self.given[nth].bytes).parse().unwrap(),
        );
        let got = self.decide(&fields);
        if let Some(device) = self.known(&psk, &got) {
            let given = &self.given[nth];
            // 60 s old at most, and no further in the future than replicas' clocks differ.
            let fresh = self.now < given.at + 60 && given.at <= self.now + nonce::SKEW.as_secs();
            let good = given.device == device && fresh && self.root_good(given.root);
            let demanded = self.policy(device).evidence.is_some();
            match &got {
                Ok((_, Grant::Upstream(_, Proof::Quoted(_)))) => {
                    assert!(demanded && good, "a nonce that is none");
                }
                Ok((_, Grant::Upstream(_, Proof::NotDemanded))) => assert!(!demanded, "a debt was forgiven"),
                Ok((_, other)) => panic!("{other:?}"),
                Err(refusal) => assert!(demanded && !good, "{refusal:?} for a good nonce"),
            }
        }
        self.count(got.is_ok());
    }

    pub fn ask_signed(&mut self) {
        if self.sessions.is_empty() {
            return;
        }
        let session = self.sessions.len() - 1 - self.random.below(self.sessions.len().min(8));
        let skew = u64::try_from(self.random.below(70)).unwrap();
        let created = self.now + 33 - skew.min(66);
        let nonce = self.random.next();
        let (device, other) = (self.sessions[session].device, self.random.one_in(10));
        let claimed = self.sessions[session].claims.psk;
        let own = self.psks[device]
            .iter()
            .find(|p| digest(p) == claimed)
            .unwrap()
            .clone();
        let psk = if other { self.key_of(device) } else { own };
        let held = &self.sessions[session];
        let body = Sha256Digest::of(b"{}");
        let parts = RequestParts {
            method: "POST",
            path: "/api/chat",
            query: None,
            body_digest: &body,
            session: &held.token,
        };
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&nonce.to_be_bytes());
        let signed = signature::sign(&held.key, &parts, at(created), bytes);
        let mut fields = with_psk(&psk);
        for (name, value) in [
            (headers::SESSION, held.token.as_str()),
            (headers::CONTENT_DIGEST, &signed.content_digest),
            (headers::SIGNATURE_INPUT, &signed.signature_input),
            (headers::SIGNATURE, &signed.signature),
        ] {
            fields.insert(name, value.parse().unwrap());
        }
        self.sent.push(Sent {
            session,
            created,
            nonce,
            fields,
        });
        let last = self.sent.len() - 1;
        self.send(last, &psk);
    }

    pub fn ask_again(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let nth = self.sent.len() - 1 - self.random.below(self.sent.len().min(40));
        let psk = self.sent[nth].fields[headers::PSK].to_str().unwrap().to_owned();
        self.send(nth, &psk);
    }

    pub fn send(&mut self, nth: usize, psk: &str) {
        let fields = self.sent[nth].fields.clone();
        let got = self.decide(&fields);
        let Some(device) = self.known(psk, &got) else {
            return self.count(false);
        };
        if self.policy(device).evidence.is_none() {
            assert!(
                matches!(got, Ok((_, Grant::Upstream(_, Proof::NotDemanded)))),
                "{got:?}"
            );
            return self.count(true);
        }
        let (sent, record) = (&self.sent[nth], &self.records[device]);
        let held = &self.sessions[sent.session];
        let claims = &held.claims;
        let stands = held.device == device
            && claims.psk == digest(psk)
            && self.root_good(held.root)
            && self.now < claims.expires_at.as_secs()
            && claims.generation == record.generation
            && claims.policy == record.policy
            && claims.policy_revision == self.policy(device).revision
            && self
                .counts(device)
                .is_none_or(|seen| (claims.reset_count, claims.restart_count) >= seen);
        let timely = self.now.abs_diff(sent.created) <= 30;
        let key = (sent.session, sent.nonce);
        let again = self.accepted.contains(&key);
        match got {
            Ok((_, Grant::Upstream(_, Proof::Signed(signed)))) => {
                assert!(stands && timely, "a session that no longer stands was admitted");
                let verified = signed.head.with_body(&Sha256Digest::of(b"{}")).unwrap();
                let accepted = self.replays.signature(&verified, at(self.now)).is_ok();
                assert!(!(again && accepted), "a request was accepted twice");
                // Only where something was accepted before and is forgotten, what is new cannot be told from it.
                let near = sent.created - 59..=sent.created + 242;
                let lived = self.untils.range(near).any(|until| *until <= self.latest);
                assert!(again || accepted || lived, "a new request was refused");
                if accepted {
                    self.untils.insert(sent.created.max(self.now) + 61);
                    self.accepted.insert(key);
                    self.signed += 1;
                }
                self.again += usize::from(again);
                self.count(accepted);
            }
            Ok((_, other)) => panic!("{other:?}"),
            Err(refusal) => {
                assert!(!(stands && timely), "{refusal:?} for a session that stands");
                self.count(false);
            }
        }
    }
}

pub fn with_psk(psk: &str) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert(headers::PSK, psk.parse().unwrap());
    map
}
