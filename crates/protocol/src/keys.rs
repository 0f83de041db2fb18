//! The keys of a fleet: one root, and what is derived from it for nonces and for session tokens.
//!
//! Owns: the derivation (HKDF-SHA256, RFC 5869, empty salt, one label per use, 32 bytes each) and which root is
//! still accepted after a rotation. Only the proxy has these; a client never sees one.
//! Limits: ring keeps an HMAC key as two hash states and does not wipe them on drop; the programs forbid core dumps.

use domain::{FleetRoot, KeyId, UnixTime};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

/// HKDF `info` of the key that makes nonces.
pub const CHALLENGE_LABEL: &[u8] = b"signalbox/challenge-key/1";
/// HKDF `info` of the key that makes session tokens.
pub const TOKEN_LABEL: &[u8] = b"signalbox/token-key/1";

/// What is derived from one root. Its keys are shown to nobody outside this crate.
pub struct FleetKeys {
    id: KeyId,
    challenge: hmac::Key,
    token: hmac::Key,
}

impl FleetKeys {
    /// Derives the keys of `root`, which the operator named `id`.
    #[must_use]
    pub fn derive(id: KeyId, root: &FleetRoot) -> Self {
        let prk = root.expose(|bytes| hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(bytes));
        Self {
            id,
            challenge: expand(&prk, CHALLENGE_LABEL),
            token: expand(&prk, TOKEN_LABEL),
        }
    }

    /// The root's name, which stands in front of every token made under it.
    #[must_use]
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    pub(crate) const fn challenge(&self) -> &hmac::Key {
        &self.challenge
    }

    pub(crate) const fn token(&self) -> &hmac::Key {
        &self.token
    }
}

/// The root in use and, for a while after a rotation, the one before it.
pub struct KeyRing {
    current: FleetKeys,
    previous: Option<(FleetKeys, UnixTime)>,
}

impl KeyRing {
    /// Makes new things under `current`; accepts those of `previous` before the time beside it (an hour after the
    /// rotation; after a compromise there is no previous root at all).
    #[must_use]
    pub const fn new(current: FleetKeys, previous: Option<(FleetKeys, UnixTime)>) -> Self {
        Self { current, previous }
    }

    /// The root under which new things are made.
    #[must_use]
    pub const fn current(&self) -> &FleetKeys {
        &self.current
    }

    /// Every root that is accepted at `now`.
    pub(crate) fn accepted(&self, now: UnixTime) -> impl Iterator<Item = &FleetKeys> {
        let previous = self.previous.as_ref().filter(|(_, until)| now < *until);
        std::iter::once(&self.current).chain(previous.map(|(keys, _)| keys))
    }
}

fn expand(prk: &hkdf::Prk, label: &[u8]) -> hmac::Key {
    let mut key = Zeroizing::new([0; 32]);
    #[expect(
        clippy::expect_used,
        reason = "HKDF-SHA256 gives up to 255 * 32 bytes; 32 are asked for"
    )]
    prk.expand(&[label], hmac::HMAC_SHA256)
        .and_then(|okm| okm.fill(key.as_mut_slice()))
        .expect("32 bytes of HKDF-SHA256");
    hmac::Key::new(hmac::HMAC_SHA256, key.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(id: &str, byte: u8) -> FleetKeys {
        FleetKeys::derive(id.parse().unwrap(), &FleetRoot::copy_from(&[byte; 32]).unwrap())
    }

    fn mac(key: &hmac::Key) -> Vec<u8> {
        hmac::sign(key, b"x").as_ref().to_vec()
    }

    #[test]
    fn each_use_and_each_root_has_its_own_key() {
        let (a, b) = (keys("a", 1), keys("a", 2));
        assert_ne!(mac(a.challenge()), mac(a.token()));
        assert_ne!(mac(a.challenge()), mac(b.challenge()));
        assert_eq!(mac(a.token()), mac(keys("b", 1).token()));
    }

    #[test]
    fn the_previous_root_ends_at_its_time() {
        let ring = KeyRing::new(keys("new", 1), Some((keys("old", 2), UnixTime::from_secs(100))));
        let ids = |now| {
            ring.accepted(UnixTime::from_secs(now))
                .map(|k| k.id().as_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(99), ["new", "old"]);
        assert_eq!(ids(100), ["new"]);
    }
}
