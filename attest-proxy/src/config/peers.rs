//! Which peers speak for others.
//!
//! Owns: the networks whose word is believed, and for what. None is, unless it is configured.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error as _};

/// Peers that stand between clients and us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peers {
    /// Who may name the client of a request in a header, and is not counted as one stranger.
    pub trusted: Vec<Cidr>,
    /// Whose connections all begin with a PROXY header; nobody else's may.
    pub proxy_protocol: Vec<Cidr>,
    /// In which header.
    pub forwarded: ForwardedHeader,
}

/// The header in which trusted peers name a request's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// A network, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(IpNet);

/// Why a text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCidr {
    /// It is none.
    #[error("a network is written like 10.0.0.0/8, fd00::/8 or 192.0.2.1")]
    Form,
    /// It has bits set behind its prefix.
    #[error("the address has bits set behind the prefix: write {0}")]
    HostBits(IpNet),
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let net: IpNet = text
            .parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| InvalidCidr::Form)?;
        if net.trunc() == net {
            Ok(Self(net))
        } else {
            Err(InvalidCidr::HostBits(net.trunc()))
        }
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Peers {
    /// Whether this address may speak for others.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        holds(&self.trusted, address)
    }

    /// Whether a connection from this address begins with a PROXY header.
    #[must_use]
    pub fn announces(&self, address: IpAddr) -> bool {
        holds(&self.proxy_protocol, address)
    }
}

fn holds(networks: &[Cidr], address: IpAddr) -> bool {
    networks.iter().any(|Cidr(net)| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_plain() {
        for good in ["10.0.0.0/8", "192.0.2.1", "fd00::/8", "::1", "0.0.0.0/0"] {
            assert!(good.parse::<Cidr>().is_ok(), "{good}");
        }
        for bad in ["", "10.0.0.0/33", "10/8", "example.org", "10.0.0.0/8 "] {
            assert_eq!(bad.parse::<Cidr>(), Err(InvalidCidr::Form), "{bad}");
        }
        let shown = "10.0.0.1/8".parse::<Cidr>().unwrap_err().to_string();
        assert!(shown.ends_with("10.0.0.0/8"), "{shown}");
    }

    #[test]
    fn nobody_is_trusted_unless_configured() {
        let peers = Peers::default();
        assert!(
            !peers.trusts(IpAddr::from([127, 0, 0, 1])) && !peers.announces(IpAddr::from([127, 0, 0, 1]))
        );
        let peers = Peers {
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
            ..peers
        };
        assert!(peers.trusts(IpAddr::from([10, 9, 9, 9])) && !peers.trusts(IpAddr::from([11, 0, 0, 0])));
        assert!(!peers.announces(IpAddr::from([10, 9, 9, 9])));
    }
}
