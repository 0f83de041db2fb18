//! Session tokens: claims under the fleet's token key, checked by any replica, stored by none.
//!
//! Owns: the text form `<key id>.<base64url(claims || HMAC-SHA256)>`, the MAC over `label || lp(key id) || claims`.
//! Refuses: a token whose time is over, and, in [`Claims::matches`], one of which any claim differs from the record
//! that this request's PSK found. A token is worth nothing without the session key's signature on each request.
//! An attacker controls the text; the MAC is compared in constant time before the claims are read.

use data_encoding::BASE64URL_NOPAD;
use domain::{Audience, DeviceId, FleetName, PolicyName, PskDigest, TpmName, UnixTime};
use ring::hmac;

use crate::{
    KeyRing, Subject,
    keys::FleetKeys,
    lp::{Fields, Sink},
};

/// The first bytes of what the MAC is over.
pub const LABEL: &[u8] = b"signalbox/session/1";
/// The longest token that is looked at, in characters: all claims at their longest make about 870.
pub const MAX_LEN: usize = 1024;
const TAG_LEN: usize = 32;

/// What a session stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The fleet.
    pub fleet: FleetName,
    /// The service.
    pub audience: Audience,
    /// The device.
    pub device: DeviceId,
    /// SHA-256 of the PSK that opened the session.
    pub psk: PskDigest,
    /// Name of the AK that quoted.
    pub ak_name: TpmName,
    /// The Ed25519 key that signs the session's requests.
    pub public_key: [u8; 32],
    /// Generation of the device's record.
    pub generation: u64,
    /// The policy that the quote met.
    pub policy: PolicyName,
    /// Its revision.
    pub policy_revision: u64,
    /// The TPM's resetCount in the quote.
    pub reset_count: u32,
    /// The TPM's restartCount in the quote.
    pub restart_count: u32,
    /// When the session ends.
    pub expires_at: UnixTime,
}

/// What is so now, for the PSK of this request: its subject, the device's record and policy, and the last quote that
/// any replica accepted from it.
#[derive(Debug, Clone, Copy)]
pub struct CurrentClaims<'a> {
    /// The subject of this request.
    pub subject: Subject<'a>,
    /// Name of the AK in the record.
    pub ak_name: &'a TpmName,
    /// The record's generation.
    pub generation: u64,
    /// The record's policy.
    pub policy: &'a PolicyName,
    /// Its revision.
    pub policy_revision: u64,
    /// resetCount and restartCount of the last accepted quote, if one is known here.
    pub seen: Option<(u32, u32)>,
}

/// Why a token opens no door; for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not the text form of a token.
    #[error("the session token is not one")]
    Malformed,
    /// Made under a root that is not, or no longer, accepted here.
    #[error("the session token was made under a key that is not accepted here")]
    UnknownKey,
    /// The MAC does not fit.
    #[error("the session token is forged")]
    Forged,
    /// Its time is over.
    #[error("the session ended at {0}")]
    Expired(UnixTime),
}

/// A claim that is not, or no longer, what the record says; for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session's {claim} is not the record's")]
pub struct Mismatch {
    /// The first claim that differs.
    pub claim: &'static str,
}

impl Claims {
    /// Whether every claim is what the record says now, and no later quote showed a reset or restart of the TPM. A
    /// replica that has not yet heard of the session's own quote still accepts it.
    ///
    /// # Errors
    /// The first claim that differs.
    pub fn matches(&self, current: &CurrentClaims<'_>) -> Result<(), Mismatch> {
        let counters = (self.reset_count, self.restart_count);
        let claims = [
            ("fleet", self.fleet == *current.subject.fleet),
            ("audience", self.audience == *current.subject.audience),
            ("device", self.device == *current.subject.device),
            ("pre-shared key", self.psk == *current.subject.psk),
            ("attestation key", self.ak_name == *current.ak_name),
            ("generation", self.generation == current.generation),
            ("policy", self.policy == *current.policy),
            ("policy revision", self.policy_revision == current.policy_revision),
            (
                "reset or restart count",
                current.seen.is_none_or(|seen| counters >= seen),
            ),
        ];
        match claims.into_iter().find(|(_, same)| !same) {
            Some((claim, _)) => Err(Mismatch { claim }),
            None => Ok(()),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.put_lp(self.fleet.as_str().as_bytes());
        out.put_lp(self.audience.as_str().as_bytes());
        out.put_lp(self.device.as_str().as_bytes());
        out.put(self.psk.as_bytes());
        out.put_lp(self.ak_name.as_bytes());
        out.put(&self.public_key);
        out.put(&self.generation.to_be_bytes());
        out.put_lp(self.policy.as_str().as_bytes());
        out.put(&self.policy_revision.to_be_bytes());
        out.put(&self.reset_count.to_be_bytes());
        out.put(&self.restart_count.to_be_bytes());
        out.put(&self.expires_at.as_secs().to_be_bytes());
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let claims = Self {
            fleet: text(&mut fields)?.parse().ok()?,
            audience: text(&mut fields)?.parse().ok()?,
            device: text(&mut fields)?.parse().ok()?,
            psk: PskDigest::from_bytes(fields.fixed()?),
            ak_name: fields.field()?.to_vec().try_into().ok()?,
            public_key: fields.fixed()?,
            generation: u64::from_be_bytes(fields.fixed()?),
            policy: text(&mut fields)?.parse().ok()?,
            policy_revision: u64::from_be_bytes(fields.fixed()?),
            reset_count: u32::from_be_bytes(fields.fixed()?),
            restart_count: u32::from_be_bytes(fields.fixed()?),
            expires_at: UnixTime::from_secs(u64::from_be_bytes(fields.fixed()?)),
        };
        fields.is_done().then_some(claims)
    }
}

/// Makes the token of a session under the current root.
#[must_use]
pub fn mint(keys: &KeyRing, claims: &Claims) -> String {
    let root = keys.current();
    let mut sealed = claims.to_bytes();
    let tag = mac(root, &sealed).sign();
    sealed.extend_from_slice(tag.as_ref());
    let mut token = format!("{}.", root.id());
    BASE64URL_NOPAD.encode_append(&sealed, &mut token);
    token
}

/// Opens a token that a proxy of this fleet made and whose time is not over.
///
/// # Errors
/// The first reason for which it is not good.
pub fn open(keys: &KeyRing, token: &str, now: UnixTime) -> Result<Claims, OpenError> {
    if token.len() > MAX_LEN {
        return Err(OpenError::Malformed);
    }
    let (id, sealed) = token.split_once('.').ok_or(OpenError::Malformed)?;
    let sealed = BASE64URL_NOPAD
        .decode(sealed.as_bytes())
        .map_err(|_| OpenError::Malformed)?;
    let (bytes, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(OpenError::Malformed)?;
    // Two roots may have one name (a root replaced in place); each is tried.
    let mut roots = keys
        .accepted(now)
        .filter(|root| root.id().as_str() == id)
        .peekable();
    roots.peek().ok_or(OpenError::UnknownKey)?;
    if !roots.any(|root| verifies(root, bytes, tag)) {
        return Err(OpenError::Forged);
    }
    let claims = Claims::from_bytes(bytes).ok_or(OpenError::Malformed)?;
    if now >= claims.expires_at {
        return Err(OpenError::Expired(claims.expires_at));
    }
    Ok(claims)
}

fn mac(root: &FleetKeys, claims: &[u8]) -> hmac::Context {
    let mut mac = hmac::Context::with_key(root.token());
    mac.put(LABEL);
    mac.put_lp(root.id().as_str().as_bytes());
    mac.put(claims);
    mac
}

fn verifies(root: &FleetKeys, claims: &[u8], tag: &[u8]) -> bool {
    let mut signed = Vec::with_capacity(claims.len().saturating_add(LABEL.len()).saturating_add(80));
    signed.put(LABEL);
    signed.put_lp(root.id().as_str().as_bytes());
    signed.put(claims);
    hmac::verify(root.token(), &signed, tag).is_ok()
}

fn text<'a>(fields: &mut Fields<'a>) -> Option<&'a str> {
    std::str::from_utf8(fields.field()?).ok()
}

#[cfg(test)]
mod tests {
    use domain::FleetRoot;
    use proptest::prelude::*;

    use super::*;

    fn root(id: &str, byte: u8) -> FleetKeys {
        FleetKeys::derive(id.parse().unwrap(), &FleetRoot::copy_from(&[byte; 32]).unwrap())
    }

    fn ring() -> KeyRing {
        KeyRing::new(root("k2", 2), Some((root("k1", 1), at(500))))
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(seconds)
    }

    fn claims() -> Claims {
        Claims {
            fleet: "demo".parse().unwrap(),
            audience: "https://llm.demo.example".parse().unwrap(),
            device: "kiosk-bern-01".parse().unwrap(),
            psk: PskDigest::of(b"x"),
            ak_name: TpmName::try_from(vec![0, 0x0b, 7]).unwrap(),
            public_key: [9; 32],
            generation: 3,
            policy: "kiosk".parse().unwrap(),
            policy_revision: 4,
            reset_count: 5,
            restart_count: 6,
            expires_at: at(1000),
        }
    }

    fn matched(claims: &Claims, change: impl FnOnce(&mut CurrentClaims<'_>)) -> Result<(), Mismatch> {
        let now = self::claims();
        let mut current = CurrentClaims {
            subject: Subject {
                fleet: &now.fleet,
                audience: &now.audience,
                device: &now.device,
                psk: &now.psk,
            },
            ak_name: &now.ak_name,
            generation: 3,
            policy: &now.policy,
            policy_revision: 4,
            seen: Some((5, 6)),
        };
        change(&mut current);
        claims.matches(&current)
    }

    #[test]
    fn a_token_is_good_until_it_expires() {
        let token = mint(&ring(), &claims());
        assert!(token.starts_with("k2."));
        assert_eq!(open(&ring(), &token, at(999)), Ok(claims()));
        assert_eq!(open(&ring(), &token, at(1000)), Err(OpenError::Expired(at(1000))));
    }

    #[test]
    fn the_previous_root_counts_until_its_time() {
        let token = mint(&KeyRing::new(root("k1", 1), None), &claims());
        assert_eq!(open(&ring(), &token, at(499)), Ok(claims()));
        assert_eq!(open(&ring(), &token, at(500)), Err(OpenError::UnknownKey));
        let removed = KeyRing::new(root("k2", 2), None);
        assert_eq!(open(&removed, &token, at(1)), Err(OpenError::UnknownKey));
    }

    #[test]
    fn a_root_replaced_under_its_name_still_opens_its_tokens() {
        let token = mint(&KeyRing::new(root("k", 1), None), &claims());
        let replaced = KeyRing::new(root("k", 2), Some((root("k", 1), at(500))));
        assert_eq!(open(&replaced, &token, at(1)), Ok(claims()));
    }

    #[test]
    fn another_root_under_the_same_name_is_a_forgery() {
        let token = mint(&KeyRing::new(root("k2", 7), None), &claims());
        assert_eq!(open(&ring(), &token, at(1)), Err(OpenError::Forged));
        let renamed = mint(&KeyRing::new(root("k1", 2), None), &claims()).replace("k1.", "k2.");
        assert_eq!(open(&ring(), &renamed, at(1)), Err(OpenError::Forged));
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let token = mint(&ring(), &claims());
        for bad in [
            "",
            "k2",
            "k2.",
            "k2.AAAA",
            &format!("{token}="),
            &format!("{token} "),
            &"x".repeat(MAX_LEN + 1),
        ] {
            assert_eq!(open(&ring(), bad, at(1)), Err(OpenError::Malformed), "{bad}");
        }
        // Rightly sealed, but not claims: a root of another version of this contract.
        let odd = [&b"odd"[..], mac(ring().current(), b"odd").sign().as_ref()].concat();
        let odd = format!("k2.{}", BASE64URL_NOPAD.encode(&odd));
        assert_eq!(open(&ring(), &odd, at(1)), Err(OpenError::Malformed));
    }

    #[test]
    fn the_longest_claims_fit() {
        let long = Claims {
            fleet: "f".repeat(63).parse().unwrap(),
            audience: "a".repeat(255).parse().unwrap(),
            device: "d".repeat(63).parse().unwrap(),
            policy: "p".repeat(63).parse().unwrap(),
            ak_name: TpmName::try_from(vec![1; 66]).unwrap(),
            ..claims()
        };
        let keys = KeyRing::new(root(&"k".repeat(63), 1), None);
        let token = mint(&keys, &long);
        assert!(token.len() <= MAX_LEN, "{}", token.len());
        assert_eq!(open(&keys, &token, at(1)), Ok(long));
    }

    #[test]
    fn every_claim_counts() {
        assert_eq!(matched(&claims(), |_| ()), Ok(()));
        let changed: [(&str, Claims); 9] = [
            (
                "fleet",
                Claims {
                    fleet: "prod".parse().unwrap(),
                    ..claims()
                },
            ),
            (
                "audience",
                Claims {
                    audience: "https://b".parse().unwrap(),
                    ..claims()
                },
            ),
            (
                "device",
                Claims {
                    device: "other".parse().unwrap(),
                    ..claims()
                },
            ),
            (
                "pre-shared key",
                Claims {
                    psk: PskDigest::of(b"y"),
                    ..claims()
                },
            ),
            (
                "attestation key",
                Claims {
                    ak_name: TpmName::try_from(vec![1]).unwrap(),
                    ..claims()
                },
            ),
            (
                "generation",
                Claims {
                    generation: 2,
                    ..claims()
                },
            ),
            (
                "policy",
                Claims {
                    policy: "lab".parse().unwrap(),
                    ..claims()
                },
            ),
            (
                "policy revision",
                Claims {
                    policy_revision: 5,
                    ..claims()
                },
            ),
            (
                "reset or restart count",
                Claims {
                    restart_count: 5,
                    ..claims()
                },
            ),
        ];
        for (claim, claims) in changed {
            assert_eq!(matched(&claims, |_| ()), Err(Mismatch { claim }));
        }
    }

    #[test]
    fn a_newer_quote_with_a_reset_or_restart_ends_it() {
        let gone = Err(Mismatch {
            claim: "reset or restart count",
        });
        assert_eq!(matched(&claims(), |c| c.seen = Some((6, 0))), gone);
        assert_eq!(matched(&claims(), |c| c.seen = Some((5, 7))), gone);
        // A replica that has only heard of an earlier boot, or of none.
        assert_eq!(matched(&claims(), |c| c.seen = Some((4, 9))), Ok(()));
        assert_eq!(matched(&claims(), |c| c.seen = None), Ok(()));
    }

    proptest! {
        #[test]
        fn no_changed_character_survives(at_char in 0_usize..1000, new in "[A-Za-z0-9_-]") {
            let token = mint(&ring(), &claims());
            let place = 3 + at_char % (token.len() - 3);
            let mut changed = token.clone();
            changed.replace_range(place..=place, &new);
            if changed != token {
                prop_assert!(open(&ring(), &changed, at(1)).is_err());
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,200}") {
            prop_assert!(open(&ring(), &text, at(1)).is_err());
        }
    }
}
