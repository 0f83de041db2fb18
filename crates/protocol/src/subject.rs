//! Whom a nonce, a quote or a session is about.
//!
//! Owns: the fields that every binding has in common. The caller takes them from its configuration and from the
//! record that the PSK's digest found; a request never says who it is.

use domain::{Audience, DeviceId, FleetName, PskDigest};

/// One device, as one proxy knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The fleet that the proxy serves.
    pub fleet: &'a FleetName,
    /// The service that the evidence is for.
    pub audience: &'a Audience,
    /// The device that the PSK's record names.
    pub device: &'a DeviceId,
    /// SHA-256 over the text of the PSK that came with this request.
    pub psk: &'a PskDigest,
}
