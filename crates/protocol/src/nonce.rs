//! Nonces: 32 bytes that any replica can check without shared state.
//!
//! Owns: `time (8, big-endian seconds) || random (8) || HMAC-SHA256(challenge key, label || lp(fleet) ||
//! lp(audience) || lp(device) || time || random)` cut to 16 bytes, and how long one is good.
//! Refuses: one that another fleet, audience or device was given, and one from before this process started, since
//! [`replay`](crate::replay) cannot know whether it was used. Whether one was used twice is told there, not here.
//! An attacker controls every byte; the MAC is compared in constant time before any of them is looked at.

use std::time::Duration;

use domain::UnixTime;
use ring::hmac;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{KeyRing, Subject, keys::FleetKeys, lp::Sink as _};

/// Length of a nonce in bytes.
pub const LEN: usize = 32;
/// How long a nonce is good after it was issued.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// How far the clock of the replica that issued a nonce may be ahead of ours: both count whole seconds.
pub const SKEW: Duration = Duration::from_secs(1);
/// The first bytes of what the MAC is over.
pub const LABEL: &[u8] = b"signalbox/nonce/1";

/// A nonce that this fleet issued for one subject: made only by [`issue`] and [`check`].
///
/// ```compile_fail
/// let made_up = protocol::nonce::Nonce([0; 32]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; LEN]);

impl Nonce {
    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// When it was issued, by the issuing replica's clock.
    #[must_use]
    pub const fn issued_at(&self) -> UnixTime {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        UnixTime::from_secs(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

/// A nonce as it travels, and as a client sees it: 32 bytes that mean nothing until a proxy checked them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opaque([u8; LEN]);

impl Opaque {
    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }
}

impl From<Nonce> for Opaque {
    fn from(nonce: Nonce) -> Self {
        Self(nonce.0)
    }
}

impl TryFrom<Vec<u8>> for Opaque {
    type Error = Invalid;

    fn try_from(bytes: Vec<u8>) -> Result<Self, Invalid> {
        bytes.try_into().map(Self).map_err(|_| Invalid::Length)
    }
}

impl AsRef<[u8]> for Opaque {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Opaque {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        domain::encoding::b64::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Opaque {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        domain::encoding::b64::deserialize(deserializer)
    }
}

/// Why a nonce is not good; for the operator. All become [`Refusal::EvidenceStale`](crate::Refusal::EvidenceStale).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not 32 bytes.
    #[error("a nonce has {LEN} bytes")]
    Length,
    /// Made under another key, or for another fleet, audience or device, or made up.
    #[error("the nonce was not issued for this device by this fleet")]
    Forged,
    /// Older than [`LIFETIME`].
    #[error("the nonce was issued at {issued}, more than 60 s before {now}")]
    Expired {
        /// When it was issued.
        issued: UnixTime,
        /// What our clock says.
        now: UnixTime,
    },
    /// Issued later than our clock and [`SKEW`] allow: the replicas' clocks differ.
    #[error("the nonce was issued at {issued}, which is after {now}")]
    FromTheFuture {
        /// When it was issued.
        issued: UnixTime,
        /// What our clock says.
        now: UnixTime,
    },
    /// Issued before this process started.
    #[error("the nonce was issued at {issued}, before this proxy started at {started}")]
    BeforeStart {
        /// When it was issued.
        issued: UnixTime,
        /// When this process started.
        started: UnixTime,
    },
}

/// Makes a nonce for `subject` under the current root. `random` is fresh for each one.
#[must_use]
pub fn issue(keys: &KeyRing, subject: &Subject<'_>, now: UnixTime, random: [u8; 8]) -> Nonce {
    let mut bytes = [0; LEN];
    let tag = mac(keys.current(), subject, &now.as_secs().to_be_bytes(), &random).sign();
    let parts = now.as_secs().to_be_bytes().into_iter().chain(random);
    for (place, byte) in bytes.iter_mut().zip(parts.chain(tag.as_ref().iter().copied())) {
        *place = byte;
    }
    Nonce(bytes)
}

/// Checks that a proxy of this fleet issued `nonce` for `subject`, not longer than [`LIFETIME`] ago.
///
/// # Errors
/// The first reason for which it is not good.
pub fn check(
    keys: &KeyRing,
    subject: &Subject<'_>,
    nonce: &[u8],
    now: UnixTime,
    started_at: UnixTime,
) -> Result<Nonce, Invalid> {
    let bytes: [u8; LEN] = nonce.try_into().map_err(|_| Invalid::Length)?;
    let (time, rest) = bytes.split_first_chunk::<8>().ok_or(Invalid::Length)?;
    let (random, tag) = rest.split_first_chunk::<8>().ok_or(Invalid::Length)?;
    keys.accepted(now)
        .find(|root| same(&mac(root, subject, time, random).sign(), tag))
        .ok_or(Invalid::Forged)?;
    let nonce = Nonce(bytes);
    let issued = nonce.issued_at();
    match now.since(issued) {
        None if issued > now.plus(SKEW) => Err(Invalid::FromTheFuture { issued, now }),
        Some(age) if age >= LIFETIME => Err(Invalid::Expired { issued, now }),
        _ if issued < started_at => Err(Invalid::BeforeStart {
            issued,
            started: started_at,
        }),
        _ => Ok(nonce),
    }
}

fn mac(root: &FleetKeys, subject: &Subject<'_>, time: &[u8; 8], random: &[u8; 8]) -> hmac::Context {
    let mut mac = hmac::Context::with_key(root.challenge());
    mac.put(LABEL);
    mac.put_lp(subject.fleet.as_str().as_bytes());
    mac.put_lp(subject.audience.as_str().as_bytes());
    mac.put_lp(subject.device.as_str().as_bytes());
    mac.put(time);
    mac.put(random);
    mac
}

/// Compares the cut tag in constant time (ring's own comparison takes whole tags only).
fn same(full: &hmac::Tag, cut: &[u8]) -> bool {
    use subtle::ConstantTimeEq as _;
    full.as_ref()
        .get(..cut.len())
        .is_some_and(|head| bool::from(head.ct_eq(cut)))
}

#[cfg(test)]
mod tests {
    use domain::{Audience, DeviceId, FleetName, FleetRoot, PskDigest};
    use proptest::prelude::*;

    use super::*;

    struct World {
        keys: KeyRing,
        fleet: FleetName,
        audience: Audience,
        device: DeviceId,
        psk: PskDigest,
    }

    impl World {
        fn new() -> Self {
            Self {
                keys: KeyRing::new(root(1), None),
                fleet: "demo".parse().unwrap(),
                audience: "https://llm.demo.example".parse().unwrap(),
                device: "kiosk-bern-01".parse().unwrap(),
                psk: PskDigest::of(b"x"),
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

        fn issue(&self) -> Nonce {
            issue(&self.keys, &self.subject(), at(1000), *b"01234567")
        }

        fn check(&self, nonce: &[u8], now: u64) -> Result<Nonce, Invalid> {
            check(&self.keys, &self.subject(), nonce, at(now), at(1000))
        }
    }

    fn root(byte: u8) -> FleetKeys {
        FleetKeys::derive("k1".parse().unwrap(), &FleetRoot::copy_from(&[byte; 32]).unwrap())
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(seconds)
    }

    #[test]
    fn a_nonce_is_good_for_sixty_seconds() {
        let world = World::new();
        let nonce = world.issue();
        assert_eq!(nonce.issued_at(), at(1000));
        assert_eq!(world.check(nonce.as_bytes(), 1000), Ok(nonce));
        assert_eq!(world.check(nonce.as_bytes(), 1059), Ok(nonce));
        assert_eq!(
            world.check(nonce.as_bytes(), 1060),
            Err(Invalid::Expired {
                issued: at(1000),
                now: at(1060)
            })
        );
    }

    #[test]
    fn another_replicas_clock_may_be_one_second_ahead() {
        let world = World::new();
        let nonce = world.issue();
        assert_eq!(
            check(&world.keys, &world.subject(), nonce.as_bytes(), at(999), at(1)),
            Ok(nonce)
        );
        assert_eq!(
            check(&world.keys, &world.subject(), nonce.as_bytes(), at(998), at(1)),
            Err(Invalid::FromTheFuture {
                issued: at(1000),
                now: at(998)
            })
        );
    }

    #[test]
    fn nothing_from_before_the_start_is_good() {
        let world = World::new();
        let nonce = world.issue();
        assert_eq!(
            check(
                &world.keys,
                &world.subject(),
                nonce.as_bytes(),
                at(1002),
                at(1001)
            ),
            Err(Invalid::BeforeStart {
                issued: at(1000),
                started: at(1001)
            })
        );
    }

    #[test]
    fn another_device_fleet_or_audience_gets_nothing_for_it() {
        let world = World::new();
        let nonce = world.issue();
        let other = World {
            device: "kiosk-bern-02".parse().unwrap(),
            ..World::new()
        };
        assert_eq!(other.check(nonce.as_bytes(), 1001), Err(Invalid::Forged));
        let other = World {
            fleet: "prod".parse().unwrap(),
            ..World::new()
        };
        assert_eq!(other.check(nonce.as_bytes(), 1001), Err(Invalid::Forged));
        let other = World {
            audience: "https://other.example".parse().unwrap(),
            ..World::new()
        };
        assert_eq!(other.check(nonce.as_bytes(), 1001), Err(Invalid::Forged));
        let other = World {
            keys: KeyRing::new(root(2), None),
            ..World::new()
        };
        assert_eq!(other.check(nonce.as_bytes(), 1001), Err(Invalid::Forged));
    }

    #[test]
    fn a_rotated_root_is_accepted_until_its_time() {
        let world = World::new();
        let nonce = world.issue();
        let rotated = World {
            keys: KeyRing::new(root(2), Some((root(1), at(1010)))),
            ..World::new()
        };
        assert_eq!(rotated.check(nonce.as_bytes(), 1009), Ok(nonce));
        assert_eq!(rotated.check(nonce.as_bytes(), 1010), Err(Invalid::Forged));
        assert_ne!(rotated.issue(), nonce);
    }

    #[test]
    fn other_lengths_are_no_nonces() {
        let world = World::new();
        let bytes = world.issue().as_bytes().to_vec();
        for bad in [&[][..], &bytes[..31], &[0; 33]] {
            assert_eq!(world.check(bad, 1001), Err(Invalid::Length));
            assert_eq!(Opaque::try_from(bad.to_vec()), Err(Invalid::Length));
        }
        assert_eq!(Opaque::try_from(bytes).unwrap(), Opaque::from(world.issue()));
    }

    proptest! {
        #[test]
        fn no_flipped_bit_survives(bit in 0_usize..256) {
            let world = World::new();
            let mut bytes = *world.issue().as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(world.check(&bytes, 1001), Err(Invalid::Forged));
        }

        #[test]
        fn no_made_up_bytes_are_good(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(World::new().check(&bytes, 1001).is_err());
        }
    }
}
