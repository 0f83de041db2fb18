//! The client certificates that a manifest names: read, judged, and told where they are wrong in the manifest's own terms.
//!
//! Owns: what is refused before any plan: a file that cannot be read or holds no certificate, one with a private key in it,
//! a certificate that no client of TLS can show (a CA's, for instance) or that has ended, and one key for two devices. The
//! first certificate of a file is the device's; what follows are its issuers. Nothing is verified against a CA: which ones
//! a proxy believes is the proxy's to say.
//! Limits: a certificate that is known by its key alone cannot be judged.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    ops::Range,
    path::{Path, PathBuf},
};

use domain::{CertificateKeyDigest, DeviceId, UnixTime};
use evidence::certificate::{TlsCertificate, certificates_in};
use manifest::{CertificateSource, Device};

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// How soon an end is worth a note, in seconds: 30 days.
const SOON: u64 = 30 * 24 * 60 * 60;

/// A finding in a manifest: where, what, and a hint.
pub(crate) type Finding = (Range<usize>, String, Option<String>);

/// A device's client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// What the registry knows it by.
    pub(crate) key: CertificateKeyDigest,
    /// What it says of itself, where it was seen.
    pub(crate) seen: Option<Seen>,
}

/// What a certificate in a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) subject: String,
    /// Its last second.
    pub(crate) ends: Option<UnixTime>,
    /// What a person should know of its dates.
    pub(crate) note: Option<String>,
}

/// The client certificates of devices; or everything that is wrong with them.
pub(crate) fn of_devices<'a>(
    devices: impl IntoIterator<Item = &'a Device>,
    folder: &Path,
    now: UnixTime,
) -> Result<BTreeMap<DeviceId, Certificate>, Vec<Finding>> {
    let mut owners: BTreeMap<CertificateKeyDigest, &DeviceId> = BTreeMap::new();
    let (mut all, mut findings) = (BTreeMap::new(), Vec::new());
    for device in devices {
        let Some(named) = &device.client_certificate else {
            continue;
        };
        let read = match &named.source {
            CertificateSource::Key(key) => Ok(Certificate {
                key: *key,
                seen: None,
            }),
            CertificateSource::File(path) => read(&folder.join(path), now),
        };
        let wrong = match read {
            Err(wrong) => wrong,
            Ok(certificate) => match owners.insert(certificate.key, &device.id) {
                None => {
                    all.insert(device.id.clone(), certificate);
                    continue;
                }
                Some(owner) => {
                    let hint = "a certificate's key is one device's for good: make one for each";
                    (
                        format!("the key of this client certificate is device `{owner}`'s"),
                        hint.to_owned(),
                    )
                }
            },
        };
        findings.push((named.span.clone(), wrong.0, Some(wrong.1)));
    }
    if findings.is_empty() {
        Ok(all)
    } else {
        Err(findings)
    }
}

fn read(path: &PathBuf, now: UnixTime) -> Result<Certificate, (String, String)> {
    let shown = path.display();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|error| {
            let hint = "a relative path starts at the manifest's folder".to_owned();
            (format!("cannot read '{shown}': {error}"), hint)
        })?;
    if has_private_key(&bytes) {
        let hint = "name a file with the certificate alone: the key stays where the device is";
        return Err((format!("there is a private key in '{shown}'"), hint.to_owned()));
    }
    let no_certificate = |why: &dyn std::fmt::Display| {
        let hint = "the device's own certificate, PEM; `openssl x509 -in FILE -noout -text` shows one";
        (
            format!("'{shown}' has no client certificate: {why}"),
            hint.to_owned(),
        )
    };
    let found = certificates_in(&bytes).map_err(|why| no_certificate(&why))?;
    let first = found.first().map(Vec::as_slice).unwrap_or_default();
    let certificate = TlsCertificate::read(first).map_err(|why| no_certificate(&why))?;
    certificate.for_clients().map_err(|why| {
        let subject = certificate.subject();
        let hint = "name the certificate that the device itself shows; where there are several in a file, it is the first";
        (
            format!("no device can show the certificate of {subject} in '{shown}': {why}"),
            hint.to_owned(),
        )
    })?;
    if certificate.has_ended(now) {
        let end = certificate.validity().not_after.unwrap_or(now);
        let hint = "renew it: the registry knows its key, so that one of the same key changes nothing else";
        return Err((
            format!("the client certificate in '{shown}' ended at {end}"),
            hint.to_owned(),
        ));
    }
    Ok(Certificate {
        key: certificate.key(),
        seen: Some(Seen {
            subject: certificate.subject().to_owned(),
            ends: certificate.validity().not_after,
            note: note(&certificate, now),
        }),
    })
}

fn note(certificate: &TlsCertificate, now: UnixTime) -> Option<String> {
    let dates = certificate.validity();
    if now < dates.not_before {
        return Some(format!(
            "its client certificate is good from {} on, and refused until then",
            dates.not_before
        ));
    }
    let end = dates.not_after?;
    (end.as_secs() < now.as_secs().saturating_add(SOON)).then(|| {
        format!("its client certificate ends at {end}: renew it; one of the same key needs no change here")
    })
}

/// PEM of any kind of private key, and OpenSSH's.
fn has_private_key(bytes: &[u8]) -> bool {
    const MARK: &[u8] = b"PRIVATE KEY-----";
    bytes.windows(MARK.len()).any(|window| window == MARK)
}

#[cfg(test)]
mod tests;
