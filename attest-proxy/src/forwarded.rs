//! Whom a proxy before us says that it speaks for, per request: `X-Forwarded-For` or `Forwarded` (RFC 7239).
//!
//! Owns: which address a request counts as. The one header that is configured is believed from configured peers, from its
//! end: each trusted address vouches for the one before it, the first that is not trusted is the client.
//! Refuses: to believe anyone else, or the other header, which a client can write itself when the proxies before us do
//! not know it. None of these fields ever goes upstream.
//! Pure. An attacker controls all of a header but what the trusted proxies have added at its end.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, header};

use crate::{
    config::{ForwardedHeader, Peers},
    wire::Peer,
};

/// How many proxies may stand before us.
const MAX_HOPS: usize = 16;

/// The address that a request counts as.
#[must_use]
pub fn client(peer: &Peer, headers: &HeaderMap, peers: &Peers) -> IpAddr {
    let mut believed = peer.address();
    if !peers.trusts(believed) {
        return believed;
    }
    let (name, read): (_, fn(&str) -> Option<IpAddr>) = match peers.forwarded {
        ForwardedHeader::XForwardedFor => ("x-forwarded-for", address),
        ForwardedHeader::Forwarded => (header::FORWARDED.as_str(), element),
    };
    let mut hops = 0;
    let values: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
    for value in values.into_iter().rev() {
        let Ok(text) = value.to_str() else {
            return believed;
        };
        for part in text.rsplit(',') {
            hops += 1;
            let Some(next) = read(part.trim()).filter(|_| hops <= MAX_HOPS) else {
                return believed;
            };
            believed = next.to_canonical();
            if !peers.trusts(believed) {
                return believed;
            }
        }
    }
    believed
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    text.parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| bare?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6))
}

/// The `for` of one element. A quoted string with a comma in it was cut and is none.
fn element(text: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in text.split(';') {
        let (name, value) = pair.trim().split_once('=')?;
        if name.eq_ignore_ascii_case("for") {
            let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
            // Twice is once too often.
            if found.replace(address(quoted.unwrap_or(value))?).is_some() {
                return None;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn believed(forwarded: ForwardedHeader, from: &str, fields: &[(&'static str, &str)]) -> String {
        let peers = Peers {
            trusted: ["10.0.0.0/8", "fd00::/8"]
                .map(|cidr| cidr.parse().unwrap())
                .into(),
            proxy_protocol: Vec::new(),
            forwarded,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        client(&Peer::at(from.parse().unwrap()), &headers, &peers).to_string()
    }

    #[test]
    fn only_trusted_peers_are_believed() {
        let xff = |from: &str, value: &str| {
            believed(
                ForwardedHeader::XForwardedFor,
                from,
                &[("x-forwarded-for", value)],
            )
        };
        assert_eq!(xff("192.0.2.1", "198.51.100.7"), "192.0.2.1");
        assert_eq!(xff("10.0.0.1", "198.51.100.7"), "198.51.100.7");
        assert_eq!(xff("::ffff:10.0.0.1", "198.51.100.7"), "198.51.100.7");
        // What the client wrote itself stands in front of what the proxy saw.
        assert_eq!(xff("10.0.0.1", "1.2.3.4, 198.51.100.7"), "198.51.100.7");
        assert_eq!(xff("10.0.0.1", "1.2.3.4, 198.51.100.7, 10.0.0.9"), "198.51.100.7");
        assert_eq!(xff("10.0.0.1", "10.0.0.8, 10.0.0.9"), "10.0.0.8");
        assert_eq!(xff("10.0.0.1", "[2001:db8::7]:443"), "2001:db8::7");
        assert_eq!(xff("10.0.0.1", "[2001:db8::7]"), "2001:db8::7");
        assert_eq!(xff("10.0.0.1", "198.51.100.7:443"), "198.51.100.7");
        assert_eq!(xff("10.0.0.1", "::ffff:198.51.100.7"), "198.51.100.7");
    }

    #[test]
    fn what_cannot_be_read_ends_it() {
        let xff = |value: &str| {
            believed(
                ForwardedHeader::XForwardedFor,
                "10.0.0.1",
                &[("x-forwarded-for", value)],
            )
        };
        for value in ["", "unknown", "1.2.3.4 5.6.7.8", "198.51.100.7,", "[192.0.2.1]"] {
            assert_eq!(xff(value), "10.0.0.1", "{value:?}");
        }
        assert_eq!(xff("198.51.100.7, nonsense, 10.0.0.9"), "10.0.0.9");
        assert_eq!(xff(&vec!["10.0.0.2"; 50].join(",")), "10.0.0.2");
        assert_eq!(
            xff(&format!("192.0.2.1,{}", vec!["10.0.0.2"; 16].join(","))),
            "10.0.0.2"
        );
        let two = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "198.51.100.7"),
        ];
        assert_eq!(
            believed(ForwardedHeader::XForwardedFor, "10.0.0.1", &two),
            "198.51.100.7"
        );
    }

    #[test]
    fn only_the_configured_header_counts() {
        let both = [
            ("x-forwarded-for", "198.51.100.7"),
            ("forwarded", "for=198.51.100.8"),
        ];
        assert_eq!(
            believed(ForwardedHeader::XForwardedFor, "10.0.0.1", &both),
            "198.51.100.7"
        );
        assert_eq!(
            believed(ForwardedHeader::Forwarded, "10.0.0.1", &both),
            "198.51.100.8"
        );
        for (value, who) in [
            (
                "For=\"[2001:db8::7]:4711\";proto=https;by=10.0.0.9",
                "2001:db8::7",
            ),
            ("for=1.2.3.4, for=198.51.100.8;host=a", "198.51.100.8"),
            ("for=198.51.100.8, for=10.1.1.1", "198.51.100.8"),
            ("for=_hidden", "10.0.0.1"),
            ("for=unknown", "10.0.0.1"),
            ("for=198.51.100.8;for=198.51.100.9", "10.0.0.1"),
            ("by=\"a,b\";for=198.51.100.8", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            assert_eq!(
                believed(ForwardedHeader::Forwarded, "10.0.0.1", &[("forwarded", value)]),
                who,
                "{value}"
            );
        }
    }
}
