//! Who is at the other end of a connection.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use domain::CertificateKeyDigest;

/// The other end, as far as it is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    address: IpAddr,
    certificate: Option<CertificateKeyDigest>,
}

/// What is counted as one stranger: an IPv4 address, or the /64 of an IPv6 address, which one host can fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerGroup(IpAddr);

impl Peer {
    /// The other end of a socket.
    #[must_use]
    pub const fn of(socket: SocketAddr) -> Self {
        Self::at(socket.ip())
    }

    /// Whoever has this address. An IPv4 address that came mapped into IPv6 is an IPv4 address.
    #[must_use]
    pub const fn at(address: IpAddr) -> Self {
        Self {
            address: address.to_canonical(),
            certificate: None,
        }
    }

    /// The same, who showed a client certificate that TLS verified.
    #[must_use]
    pub const fn certified(self, key: CertificateKeyDigest) -> Self {
        Self {
            certificate: Some(key),
            ..self
        }
    }

    /// The key of the client certificate that TLS verified.
    #[must_use]
    pub const fn certificate(&self) -> Option<CertificateKeyDigest> {
        self.certificate
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// What it is counted as.
    #[must_use]
    pub const fn group(&self) -> PeerGroup {
        PeerGroup(match self.address {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(text: &str) -> PeerGroup {
        Peer::at(text.parse().unwrap()).group()
    }

    #[test]
    fn one_host_is_one_stranger() {
        assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:1:2:3"));
        assert_ne!(group("2001:db8::1"), group("2001:db8:0:1::1"));
        assert_ne!(group("192.0.2.1"), group("192.0.2.2"));
        assert_eq!(group("::ffff:192.0.2.1"), group("192.0.2.1"));
    }
}
