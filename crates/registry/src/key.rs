//! The keys that records are kept under (wire contract, "Registry layout"), the same in both backends.
//!
//! Owns: their text. A key that is not exactly the text that we would write for it is no key of ours: one spelling
//! each, so that uniqueness of a key is uniqueness of what it names.

use domain::{CertificateKeyDigest, DeviceId, EkDigest, FleetName, PolicyName, PskDigest};

/// What a key names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// A device's record.
    Device(DeviceId),
    /// Which device a PSK digest belongs to.
    Psk(PskDigest),
    /// Which device an endorsement key belongs to.
    Ek(EkDigest),
    /// Which device a client certificate's key belongs to.
    Certificate(CertificateKeyDigest),
    /// A policy's record.
    Policy(PolicyName),
    /// What was seen of a device last.
    Seen(DeviceId),
    /// What a device spent.
    Spent(DeviceId),
}

/// The keys of one fleet.
#[derive(Debug, Clone)]
pub(crate) struct Keyspace {
    prefix: Box<str>,
}

impl Keyspace {
    pub(crate) fn new(fleet: &FleetName) -> Self {
        Self {
            prefix: format!("/signalbox/v1/{fleet}/").into(),
        }
    }

    /// What every key of the fleet begins with, a slash at its end.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the key of every device's record begins with.
    pub(crate) fn devices(&self) -> String {
        format!("{}devices/", self.prefix)
    }

    pub(crate) fn text(&self, key: &Key) -> String {
        let prefix = &self.prefix;
        match key {
            Key::Device(id) => format!("{prefix}devices/{id}"),
            Key::Psk(digest) => format!("{prefix}psk/{digest}"),
            Key::Ek(digest) => format!("{prefix}ek/{digest}"),
            Key::Certificate(digest) => format!("{prefix}cert/{digest}"),
            Key::Policy(name) => format!("{prefix}policies/{name}"),
            Key::Seen(id) => format!("{prefix}seen/{id}"),
            Key::Spent(id) => format!("{prefix}spent/{id}"),
        }
    }

    /// The key of a text, if it is one of this fleet's in its one spelling.
    pub(crate) fn parse(&self, text: &str) -> Option<Key> {
        let (kind, name) = text.strip_prefix(&*self.prefix)?.split_once('/')?;
        let key = match kind {
            "devices" => Key::Device(name.parse().ok()?),
            "psk" => Key::Psk(name.parse().ok()?),
            "ek" => Key::Ek(name.parse().ok()?),
            "cert" => Key::Certificate(name.parse().ok()?),
            "policies" => Key::Policy(name.parse().ok()?),
            "seen" => Key::Seen(name.parse().ok()?),
            "spent" => Key::Spent(name.parse().ok()?),
            _ => return None,
        };
        (self.text(&key) == text).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_back() {
        let keys = Keyspace::new(&"demo".parse().unwrap());
        let digest = "ab".repeat(32);
        for (key, text) in [
            (Key::Device("k-1".parse().unwrap()), "devices/k-1".to_owned()),
            (Key::Psk(digest.parse().unwrap()), format!("psk/{digest}")),
            (Key::Ek(digest.parse().unwrap()), format!("ek/{digest}")),
            (
                Key::Certificate(digest.parse().unwrap()),
                format!("cert/{digest}"),
            ),
            (Key::Policy("kiosk".parse().unwrap()), "policies/kiosk".to_owned()),
            (Key::Seen("k-1".parse().unwrap()), "seen/k-1".to_owned()),
            (Key::Spent("k-1".parse().unwrap()), "spent/k-1".to_owned()),
        ] {
            let text = format!("/signalbox/v1/demo/{text}");
            assert_eq!(keys.text(&key), text);
            assert_eq!(keys.parse(&text), Some(key));
        }
    }

    #[test]
    fn other_spellings_and_other_fleets_are_no_keys() {
        let keys = Keyspace::new(&"demo".parse().unwrap());
        for text in [
            "/signalbox/v1/demo2/devices/a".to_owned(),
            "/signalbox/v2/demo/devices/a".to_owned(),
            "/signalbox/v1/demo/devices".to_owned(),
            "/signalbox/v1/demo/devices/".to_owned(),
            "/signalbox/v1/demo/devices/A".to_owned(),
            "/signalbox/v1/demo/devices/a/b".to_owned(),
            "/signalbox/v1/demo/secrets/a".to_owned(),
            format!("/signalbox/v1/demo/psk/{}", "AB".repeat(32)),
            format!("/signalbox/v1/demo/psk/{}", "ab".repeat(31)),
            format!("/signalbox/v1/demo/cert/{}", "AB".repeat(32)),
        ] {
            assert_eq!(keys.parse(&text), None, "{text}");
        }
    }
}
