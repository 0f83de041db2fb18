//! The gate, with every refusal that it knows, on records at hand: no socket, no clock, no registry.

use std::sync::Arc;

use domain::{DeviceId, FleetRoot, PskDigest, Sha256Digest, UnixTime};
use http::{HeaderMap, Method};
use protocol::{
    FleetKeys, KeyRing, Refusal, Subject, headers, nonce,
    signature::{self, RequestParts, SessionKey},
    token::{self, Claims},
};
use registry::{DeviceRecord, DeviceState, PolicyRecord, SeenRecord, Snapshot, Version1};
use zeroize::Zeroizing;

use super::*;
use crate::view::View;

#[path = "../../tests/common/forge.rs"]
pub(super) mod forge;

use forge::{START, Tpm};

const CHAT: &str = "/api/chat";

/// A proxy's knowledge: a kiosk that must prove its state, and a plain device that need not.
struct Knowledge {
    view: View,
    keys: KeyRing,
    site: Site,
    tpm: Tpm,
    session: SessionKey,
}

fn keys(byte: u8) -> FleetKeys {
    FleetKeys::derive("k1".parse().unwrap(), &FleetRoot::copy_from(&[byte; 32]).unwrap())
}

impl Knowledge {
    fn new() -> Self {
        Self::with(|_| {}, |_| {}, None)
    }

    fn with(
        edit: impl FnOnce(&mut DeviceRecord),
        edit_policy: impl FnOnce(&mut PolicyRecord),
        seen: Option<SeenRecord>,
    ) -> Self {
        let tpm = Tpm::new();
        let mut kiosk = forge::device("kiosk", "strict", Some(&tpm));
        edit(&mut kiosk);
        let mut strict = forge::policy(true);
        edit_policy(&mut strict);
        let id = kiosk.device.clone();
        let snapshot = Snapshot::of(
            [kiosk, forge::device("plain", "open", None)],
            [
                ("strict".parse().unwrap(), strict),
                ("open".parse().unwrap(), forge::policy(false)),
            ],
            seen.map(|seen| (id, seen)),
        );
        Self {
            view: View::new(snapshot, &View::default()),
            keys: KeyRing::new(keys(1), None),
            site: Site {
                fleet: "demo".parse().unwrap(),
                audience: "https://llm.example".parse().unwrap(),
            },
            tpm,
            session: SessionKey::from_seed(&Zeroizing::new([5; 32])),
        }
    }

    fn world(&self) -> World<'_> {
        World {
            view: Some(&self.view),
            keys: &self.keys,
            site: &self.site,
            started_at: START,
        }
    }

    fn decide(&self, method: &Method, path: &str, fields: &HeaderMap) -> Result<Admit, Refused> {
        decide(&head(method, path, fields), &self.world(), START)
    }

    fn chat(&self, fields: &HeaderMap) -> Result<Admit, Refused> {
        self.decide(&Method::POST, CHAT, fields)
    }

    fn claims(&self) -> Claims {
        let device = &self.view.device(&id("kiosk")).unwrap();
        let Demand::Evidence(demanded) = device.demand() else {
            panic!("the kiosk must prove its state")
        };
        Claims {
            fleet: self.site.fleet.clone(),
            audience: self.site.audience.clone(),
            device: id("kiosk"),
            psk: PskDigest::of(forge::psk_text("kiosk").as_bytes()),
            ak_name: demanded.ak.name().clone(),
            public_key: self.session.public_key(),
            generation: 1,
            policy: "strict".parse().unwrap(),
            policy_revision: 1,
            reset_count: self.tpm.clock.reset_count,
            restart_count: self.tpm.clock.restart_count,
            expires_at: START.plus(std::time::Duration::from_secs(600)),
        }
    }

    /// A request of a session with these claims.
    fn signed(&self, claims: &Claims) -> HeaderMap {
        self.signed_at(claims, START, CHAT, &self.session)
    }

    fn signed_at(&self, claims: &Claims, created: UnixTime, path: &str, key: &SessionKey) -> HeaderMap {
        let session = token::mint(&self.keys, claims);
        let body = Sha256Digest::of(b"{}");
        let parts = RequestParts {
            method: "POST",
            path,
            query: None,
            body_digest: &body,
            session: &session,
        };
        let signed = signature::sign(key, &parts, created, [1; 16]);
        let mut map = with_psk("kiosk");
        for (name, value) in [
            (headers::SESSION, session.as_str()),
            (headers::CONTENT_DIGEST, &signed.content_digest),
            (headers::SIGNATURE_INPUT, &signed.signature_input),
            (headers::SIGNATURE, &signed.signature),
        ] {
            map.insert(name, value.parse().unwrap());
        }
        map
    }

    /// Quote headers that answer `nonce`.
    fn quoted(&self, nonce: &[u8]) -> HeaderMap {
        let mut map = with_psk("kiosk");
        for name in [headers::QUOTE, headers::QUOTE_SIGNATURE, headers::QUOTE_PCRS] {
            map.insert(name, ":AQ==:".parse().unwrap());
        }
        map.insert(headers::QUOTE_NONCE, headers::bytes(nonce).parse().unwrap());
        map
    }

    fn nonce(&self, device: &str, now: UnixTime) -> Nonce {
        let psk = PskDigest::of(forge::psk_text(device).as_bytes());
        let device = id(device);
        let subject = Subject {
            fleet: &self.site.fleet,
            audience: &self.site.audience,
            device: &device,
            psk: &psk,
        };
        nonce::issue(&self.keys, &subject, now, [7; 8])
    }
}

fn id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

fn head<'a>(method: &'a Method, path: &'a str, fields: &'a HeaderMap) -> Head<'a> {
    Head {
        method,
        path,
        query: None,
        target: path,
        headers: fields,
        certificate: None,
    }
}

fn with_psk(device: &str) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert(headers::PSK, forge::psk_text(device).parse().unwrap());
    map
}

fn refusal(result: Result<Admit, Refused>) -> (Refusal, String) {
    match result {
        Ok(admit) => panic!("admitted to {:?}", admit.to),
        Err(refused) => (refused.refusal, refused.why),
    }
}

fn seen(reset_count: u32, restart_count: u32) -> SeenRecord {
    SeenRecord {
        version: Version1,
        reset_count,
        restart_count,
        clock: 1,
        safe: true,
        firmware_version: 1,
        at: START,
    }
}

#[test]
fn a_plain_device_needs_its_psk_alone() {
    let known = Knowledge::new();
    let admit = known.chat(&with_psk("plain")).unwrap();
    assert_eq!(admit.device.id(), &id("plain"));
    assert!(matches!(admit.to, Grant::Upstream(_, Proof::NotDemanded)));
}

#[test]
fn without_a_psk_nothing_is_told() {
    let known = Knowledge::new();
    for path in [CHAT, "/api/pull", "/nowhere", "/attest/v1/challenge"] {
        assert_eq!(
            refusal(known.decide(&Method::POST, path, &HeaderMap::new())).0,
            Refusal::PskMissing
        );
        assert_eq!(
            refusal(known.decide(&Method::POST, path, &with_psk("stranger"))).0,
            Refusal::PskUnknown
        );
    }
}

#[test]
fn suspended_retired_and_unusable_are_unknown_to_the_client() {
    for state in [DeviceState::Suspended, DeviceState::Retired] {
        let known = Knowledge::with(|device| device.state = state, |_| {}, None);
        let Err(refused) = known.chat(&with_psk("kiosk")) else {
            panic!("admitted")
        };
        assert_eq!(refused.refusal, Refusal::PskUnknown);
        assert!(matches!(refused.who, Who::Unusable(_, device) if device == id("kiosk")));
    }
    let known = Knowledge::with(|device| device.tpm = None, |_| {}, None);
    let (code, why) = refusal(known.chat(&with_psk("kiosk")));
    assert_eq!(code, Refusal::PskUnknown);
    assert!(why.contains("no TPM on record"), "{why}");
    let known = Knowledge::with(|device| device.policy = "gone".parse().unwrap(), |_| {}, None);
    assert_eq!(refusal(known.chat(&with_psk("kiosk"))).0, Refusal::PskUnknown);
}

#[test]
fn an_attestation_key_that_cannot_be_used_names_its_flaw() {
    let spoil = |device: &mut DeviceRecord| {
        let tpm = device.tpm.as_mut().unwrap();
        let mut area = tpm.ak_public.as_bytes().to_vec();
        area[5] ^= 0x01; // restricted
        tpm.ak_public = area.try_into().unwrap();
    };
    let (code, why) = refusal(Knowledge::with(spoil, |_| {}, None).chat(&with_psk("kiosk")));
    assert_eq!(code, Refusal::PskUnknown);
    assert!(why.contains("attestation key"), "{why}");
}

#[test]
fn a_registry_that_cannot_be_asked_is_our_fault() {
    let known = Knowledge::new();
    let fields = with_psk("plain");
    let world = World {
        view: None,
        ..known.world()
    };
    let decided = decide(&head(&Method::POST, CHAT, &fields), &world, START);
    assert_eq!(refusal(decided).0, Refusal::RegistryStale);
}

#[test]
fn malformed_credentials_are_told_apart_from_missing_ones() {
    let known = Knowledge::new();
    let mut twice = with_psk("plain");
    twice.append(headers::PSK, forge::psk_text("plain").parse().unwrap());
    assert_eq!(refusal(known.chat(&twice)).0, Refusal::RequestMalformed);
    let mut half = with_psk("kiosk");
    half.insert(headers::QUOTE, ":AQ==:".parse().unwrap());
    assert_eq!(refusal(known.chat(&half)).0, Refusal::RequestMalformed);
    let mut both = known.signed(&known.claims());
    both.extend(known.quoted(&[0; 32]));
    assert_eq!(refusal(known.chat(&both)).0, Refusal::RequestMalformed);
    let mut twin = with_psk("plain");
    twin.insert("x_pre_shared_key", "x".parse().unwrap());
    assert_eq!(refusal(known.chat(&twin)).0, Refusal::RequestMalformed);
}

#[test]
fn paths_are_refused_before_evidence_is_asked_for() {
    let known = Knowledge::new();
    assert_eq!(
        refusal(known.decide(&Method::POST, "/api/pull", &with_psk("kiosk"))).0,
        Refusal::PathDenied
    );
    assert_eq!(
        refusal(known.decide(&Method::GET, "/x", &with_psk("plain"))).0,
        Refusal::PathUnknown
    );
}

#[test]
fn a_device_that_must_prove_its_state_never_gets_in_on_its_psk() {
    let known = Knowledge::new();
    let post = [
        "/api/generate",
        CHAT,
        "/api/embed",
        "/api/show",
        "/v1/chat/completions",
    ];
    let get = ["/", "/api/version", "/api/tags", "/api/ps", "/v1/models"];
    let all = post
        .map(|p| (Method::POST, p))
        .into_iter()
        .chain(get.map(|p| (Method::GET, p)));
    for (method, path) in all {
        let (code, _) = refusal(known.decide(&method, path, &with_psk("kiosk")));
        assert_eq!(code, Refusal::EvidenceMissing, "{path}");
    }
    for (method, path) in [
        (Method::GET, "/attest/v1/challenge"),
        (Method::POST, "/attest/v1/session"),
    ] {
        assert!(known.decide(&method, path, &with_psk("kiosk")).is_ok(), "{path}");
    }
}

#[test]
fn a_quote_must_answer_a_fresh_nonce_of_this_device() {
    let known = Knowledge::new();
    let good = known.nonce("kiosk", START);
    let admit = known.chat(&known.quoted(good.as_bytes())).unwrap();
    assert!(matches!(admit.to, Grant::Upstream(_, Proof::Quoted(_))));
    let other = known.nonce("plain", START);
    let old = known.nonce("kiosk", UnixTime::from_secs(START.as_secs() - 60));
    let before = known.nonce("kiosk", UnixTime::from_secs(START.as_secs() - 1));
    for bad in [other.as_bytes(), old.as_bytes(), before.as_bytes(), &[0; 32]] {
        let (code, why) = refusal(known.chat(&known.quoted(bad)));
        assert_eq!(code, Refusal::EvidenceStale, "{why}");
    }
}

#[test]
fn a_session_must_be_this_devices_in_every_claim() {
    let known = Knowledge::new();
    let good = known.claims();
    let admit = known.chat(&known.signed(&good)).unwrap();
    assert!(matches!(admit.to, Grant::Upstream(_, Proof::Signed(_))));
    type Edit = fn(&mut Claims);
    let edits: [Edit; 9] = [
        |c| c.fleet = "other".parse().unwrap(),
        |c| c.audience = "https://other.example".parse().unwrap(),
        |c| c.device = id("plain"),
        |c| c.psk = PskDigest::of(b"another"),
        |c| c.ak_name = vec![0, 0x0b, 1].try_into().unwrap(),
        |c| c.generation = 2,
        |c| c.policy = "open".parse().unwrap(),
        |c| c.policy_revision = 2,
        |c| c.expires_at = START,
    ];
    for (nth, edit) in edits.into_iter().enumerate() {
        let mut claims = good.clone();
        edit(&mut claims);
        let expected = if nth == 8 {
            Refusal::SessionExpired
        } else {
            Refusal::SessionInvalid
        };
        assert_eq!(
            refusal(known.chat(&known.signed(&claims))).0,
            expected,
            "edit {nth}"
        );
    }
}

#[test]
fn a_session_of_another_fleet_key_is_none() {
    let known = Knowledge::new();
    let other = Knowledge {
        keys: KeyRing::new(keys(2), None),
        ..Knowledge::new()
    };
    assert_eq!(
        refusal(known.chat(&other.signed(&known.claims()))).0,
        Refusal::SessionInvalid
    );
}

#[test]
fn a_newer_quote_that_shows_a_reset_or_restart_ends_the_session() {
    for (last, ended) in [
        (seen(3, 2), false),
        (seen(3, 3), true),
        (seen(4, 0), true),
        (seen(2, 9), false),
    ] {
        let known = Knowledge::with(|_| {}, |_| {}, Some(last.clone()));
        let result = known.chat(&known.signed(&known.claims()));
        match ended {
            true => assert_eq!(refusal(result).0, Refusal::SessionInvalid, "{last:?}"),
            false => assert!(result.is_ok(), "{last:?}"),
        }
    }
}

#[test]
fn a_signature_must_fit_head_key_and_time() {
    let known = Knowledge::new();
    let claims = known.claims();
    let stranger = SessionKey::from_seed(&Zeroizing::new([6; 32]));
    let late = UnixTime::from_secs(START.as_secs() - 31);
    for fields in [
        known.signed_at(&claims, START, "/api/generate", &known.session),
        known.signed_at(&claims, START, CHAT, &stranger),
        known.signed_at(&claims, late, CHAT, &known.session),
    ] {
        assert_eq!(refusal(known.chat(&fields)).0, Refusal::SignatureInvalid);
    }
    let signed = known.signed(&claims);
    assert_eq!(
        refusal(known.decide(&Method::GET, "/api/tags", &signed)).0,
        Refusal::SignatureInvalid
    );
}

#[test]
fn a_session_opens_nothing_with_another_devices_psk() {
    let known = Knowledge::with(|_| {}, |_| {}, None);
    let mut fields = known.signed(&known.claims());
    fields.insert(headers::PSK, forge::psk_text("plain").parse().unwrap());
    // The plain device needs no session: it is admitted as itself, and the kiosk's session counts for nothing.
    let admit = known.chat(&fields).unwrap();
    assert_eq!(admit.device.id(), &id("plain"));
    assert!(matches!(admit.to, Grant::Upstream(_, Proof::NotDemanded)));
}

#[test]
fn unchanged_devices_keep_their_parsed_keys() {
    let known = Knowledge::new();
    let again = View::new(Arc::clone(known.view.snapshot()), &known.view);
    let device = |view: &View| Arc::as_ptr(view.device(&id("kiosk")).unwrap());
    assert_eq!(device(&again), device(&known.view));
}
