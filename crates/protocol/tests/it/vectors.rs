//! The test vectors of the contract: what another implementation in another language made of the same inputs
//! (`vectors/make.py`) is what this crate makes of them.
use data_encoding::HEXLOWER;
use domain::{Audience, DeviceId, FleetName, FleetRoot, Psk, PskDigest, Sha256Digest, TpmName, UnixTime};
use protocol::{
    FleetKeys, KeyRing, Subject,
    binding::{Binding, qualifying_data},
    headers, lp, nonce,
    signature::{RequestParts, SessionKey, sign, signature_base, verify},
    token::{self, Claims},
};
use ring::hmac;
use serde_json::Value;
use zeroize::Zeroizing;

struct World {
    json: Value,
    fleet: FleetName,
    audience: Audience,
    device: DeviceId,
    psk: PskDigest,
    keys: KeyRing,
    session_key: SessionKey,
}

impl World {
    fn load() -> Self {
        let json: Value = serde_json::from_str(include_str!("../../vectors/v1.json")).unwrap();
        assert_eq!(json["version"], 1);
        let subject = &json["subject"];
        let root = FleetRoot::copy_from(&hex(&json["keys"]["root"])).unwrap();
        let seed: [u8; 32] = hex(&json["session_key"]["seed"]).try_into().unwrap();
        Self {
            fleet: text(&subject["fleet"]).parse().unwrap(),
            audience: text(&subject["audience"]).parse().unwrap(),
            device: text(&subject["device"]).parse().unwrap(),
            psk: text(&json["psk"]["digest"]).parse().unwrap(),
            keys: KeyRing::new(
                FleetKeys::derive(text(&json["keys"]["id"]).parse().unwrap(), &root),
                None,
            ),
            session_key: SessionKey::from_seed(&Zeroizing::new(seed)),
            json,
        }
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            fleet: &self.fleet,
            audience: &self.audience,
            device: &self.device,
            psk: &self.psk,
        }
    }

    fn list(&self, name: &str) -> &[Value] {
        let list = self.json[name].as_array().unwrap();
        assert!(!list.is_empty(), "{name} has vectors");
        list
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(text(value).as_bytes()).unwrap()
}

#[test]
fn length_prefixes() {
    for vector in World::load().list("lp") {
        let mut out = Vec::new();
        lp(&mut out, &hex(&vector["field"])).unwrap();
        assert_eq!(out, hex(&vector["out"]));
    }
}

#[test]
fn header_bytes() {
    for vector in World::load().list("header_bytes") {
        assert_eq!(headers::bytes(&hex(&vector["bytes"])), text(&vector["value"]));
        assert_eq!(
            headers::parse_bytes(text(&vector["value"]).as_bytes()),
            Ok(hex(&vector["bytes"]))
        );
    }
}

#[test]
fn pre_shared_key() {
    let world = World::load();
    let psk = Psk::generate(&hex(&world.json["psk"]["entropy"]).try_into().unwrap());
    psk.expose(|bytes| assert_eq!(bytes, text(&world.json["psk"]["text"]).as_bytes()));
    assert_eq!(psk.digest(), world.psk);
}

/// The derived keys are shown to nobody, so they are told by what they make: the vector's key gives the same MAC.
#[test]
fn key_derivation() {
    let world = World::load();
    let json = &world.json;
    let mac = |key: &Value, data: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &hex(key));
        hmac::sign(&key, data).as_ref().to_vec()
    };
    let tag = mac(&json["keys"]["challenge_key"], &hex(&json["nonce"]["mac_input"]));
    assert_eq!(hex(&json["nonce"]["nonce"])[16..], tag[..16]);
    let mut sealed = token::LABEL.to_vec();
    lp(&mut sealed, text(&json["keys"]["id"]).as_bytes()).unwrap();
    sealed.extend(hex(&json["token"]["claims"]));
    assert_eq!(
        mac(&json["keys"]["token_key"], &sealed),
        hex(&json["token"]["mac"])
    );
}

#[test]
fn nonces() {
    let world = World::load();
    let vector = &world.json["nonce"];
    let now = UnixTime::from_secs(number(&vector["time"]));
    let random = hex(&vector["random"]).try_into().unwrap();
    let made = nonce::issue(&world.keys, &world.subject(), now, random);
    assert_eq!(made.as_bytes().to_vec(), hex(&vector["nonce"]));
    let checked = nonce::check(&world.keys, &world.subject(), &hex(&vector["nonce"]), now, now);
    assert_eq!(checked, Ok(made));
}

#[test]
fn bindings() {
    let world = World::load();
    let nonce = hex(&world.json["nonce"]["nonce"]);
    for vector in world.list("bindings") {
        let (body, key);
        let binding = match text(&vector["kind"]) {
            "request" => {
                body = Sha256Digest::of(text(&vector["body"]).as_bytes());
                Binding::Request {
                    method: text(&vector["method"]),
                    target: text(&vector["target"]),
                    body: &body,
                }
            }
            "session" => {
                key = hex(&vector["public_key"]).try_into().unwrap();
                Binding::Session { public_key: &key }
            }
            other => panic!("unknown kind {other}"),
        };
        assert_eq!(binding.to_bytes(), hex(&vector["binding"]));
        let data = qualifying_data(&world.subject(), &nonce, &binding);
        assert_eq!(data.to_vec(), hex(&vector["qualifying_data"]));
        assert_eq!(*Sha256Digest::of(&hex(&vector["hashed"])).as_bytes(), data);
    }
}

#[test]
fn tokens() {
    let world = World::load();
    let vector = &world.json["token"];
    let claims = Claims {
        fleet: world.fleet.clone(),
        audience: world.audience.clone(),
        device: world.device.clone(),
        psk: world.psk,
        ak_name: TpmName::try_from(hex(&vector["ak_name"])).unwrap(),
        public_key: world.session_key.public_key(),
        generation: number(&vector["generation"]),
        policy: text(&vector["policy"]).parse().unwrap(),
        policy_revision: number(&vector["policy_revision"]),
        reset_count: number(&vector["reset_count"]).try_into().unwrap(),
        restart_count: number(&vector["restart_count"]).try_into().unwrap(),
        expires_at: UnixTime::from_secs(number(&vector["expires_at"])),
    };
    assert_eq!(token::mint(&world.keys, &claims), text(&vector["token"]));
    let opened = token::open(&world.keys, text(&vector["token"]), UnixTime::from_secs(0));
    assert_eq!(opened, Ok(claims));
}

#[test]
fn request_signatures() {
    let world = World::load();
    let public_key = world.session_key.public_key();
    assert_eq!(public_key.to_vec(), hex(&world.json["session_key"]["public_key"]));
    for vector in world.list("requests") {
        let body = Sha256Digest::of(text(&vector["body"]).as_bytes());
        let request = RequestParts {
            method: text(&vector["method"]),
            path: text(&vector["path"]),
            query: vector["query"].as_str(),
            body_digest: &body,
            session: text(&vector["session"]),
        };
        let created = UnixTime::from_secs(number(&vector["created"]));
        let nonce = hex(&vector["nonce"]).try_into().unwrap();
        assert_eq!(
            signature_base(&request, created, &nonce),
            text(&vector["signature_base"])
        );
        let headers = sign(&world.session_key, &request, created, nonce);
        assert_eq!(headers.content_digest, text(&vector["content-digest"]));
        assert_eq!(headers.signature_input, text(&vector["signature-input"]));
        assert_eq!(headers.signature, text(&vector["signature"]));
        assert!(verify(&public_key, &request, &headers.as_headers(), created).is_ok());
    }
}
