//! What a quote is bound to: one request, or the key of one session, of one device at one service.
//!
//! Owns: the qualifying data of `TPM2_Quote` (`extraData` of the TPMS_ATTEST), 32 bytes, which every TPM accepts:
//! `SHA-256(label || lp(fleet) || lp(audience) || lp(device) || lp(SHA-256 of the PSK) || lp(nonce) || lp(binding))`.
//! Both ends compute it: the client to quote it, the proxy to compare. Without the PSK's digest nobody can ask a
//! TPM for a quote that fits; without the binding a quote could be carried over to another request or key.

use domain::Sha256Digest;
use ring::digest;

use crate::{Subject, lp::Sink as _};

/// The first bytes of what is hashed.
pub const LABEL: &[u8] = b"signalbox/quote/1";

/// The one thing that a quote vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding<'a> {
    /// One request, with the evidence in its own headers.
    Request {
        /// The method, upper case.
        method: &'a str,
        /// The request target as it stands in the request line, query included.
        target: &'a str,
        /// SHA-256 over the body; over nothing when there is none.
        body: &'a Sha256Digest,
    },
    /// The Ed25519 key of a session.
    Session {
        /// Its public half.
        public_key: &'a [u8; 32],
    },
}

impl Binding<'_> {
    /// The bytes that are hashed: `"request" || lp(method) || lp(target) || lp(SHA-256 of the body)` or
    /// `"session" || lp(public key)`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Request { method, target, body } => {
                out.put(b"request");
                out.put_lp(method.as_bytes());
                out.put_lp(target.as_bytes());
                out.put_lp(body.as_bytes());
            }
            Self::Session { public_key } => {
                out.put(b"session");
                out.put_lp(*public_key);
            }
        }
        out
    }
}

/// The qualifying data of a quote by `subject` that answers `nonce` and vouches for `binding`.
#[must_use]
pub fn qualifying_data(subject: &Subject<'_>, nonce: &[u8], binding: &Binding<'_>) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.put(LABEL);
    hash.put_lp(subject.fleet.as_str().as_bytes());
    hash.put_lp(subject.audience.as_str().as_bytes());
    hash.put_lp(subject.device.as_str().as_bytes());
    hash.put_lp(subject.psk.as_bytes());
    hash.put_lp(nonce);
    hash.put_lp(&binding.to_bytes());
    let mut out = [0; 32];
    for (place, byte) in out.iter_mut().zip(hash.finish().as_ref()) {
        *place = *byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use domain::{Audience, DeviceId, FleetName, PskDigest};

    use super::*;

    #[test]
    fn every_field_changes_it() {
        let fleets: [FleetName; 2] = ["demo".parse().unwrap(), "prod".parse().unwrap()];
        let audiences: [Audience; 2] = ["https://a".parse().unwrap(), "https://b".parse().unwrap()];
        let devices: [DeviceId; 2] = ["one".parse().unwrap(), "two".parse().unwrap()];
        let psks = [PskDigest::of(b"1"), PskDigest::of(b"2")];
        let bodies = [Sha256Digest::of(b""), Sha256Digest::of(b"{}")];
        let mut seen = BTreeSet::new();
        let mut count = 0;
        for fleet in &fleets {
            for audience in &audiences {
                for device in &devices {
                    for psk in &psks {
                        for nonce in [[0; 32], [1; 32]] {
                            let subject = Subject {
                                fleet,
                                audience,
                                device,
                                psk,
                            };
                            for body in &bodies {
                                for (method, target) in [
                                    ("POST", "/api/chat"),
                                    ("POST", "/api/chat?"),
                                    ("GET", "/api/chat"),
                                ] {
                                    let binding = Binding::Request { method, target, body };
                                    seen.insert(qualifying_data(&subject, &nonce, &binding));
                                    count += 1;
                                }
                            }
                            for key in [[3; 32], [4; 32]] {
                                let binding = Binding::Session { public_key: &key };
                                seen.insert(qualifying_data(&subject, &nonce, &binding));
                                count += 1;
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn moving_a_byte_between_fields_changes_it() {
        let body = Sha256Digest::of(b"");
        let a = Binding::Request {
            method: "GET",
            target: "/ab",
            body: &body,
        };
        let b = Binding::Request {
            method: "GET/",
            target: "ab",
            body: &body,
        };
        assert_ne!(a.to_bytes(), b.to_bytes());
    }
}
