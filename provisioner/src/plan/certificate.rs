//! A device's client certificate in a plan: what its record will name, what it names now, and the words for both.
//!
//! Owns: the refusal of a key that is another device's, or that was taken from this one: the registry keeps a key for the
//! device that had it first, for good.

use domain::{CertificateKeyDigest, UnixTime};
use registry::CertificateRule;
use serde::Serialize;

use super::{Observed, Refusal, Registered, Wanted};

/// What a device's record will name, and what it names now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct CertificateTarget {
    /// The certificate's key; `None`: the device has no client certificate.
    pub(crate) key: Option<CertificateKeyDigest>,
    /// The key that is registered now.
    pub(crate) registered: Option<CertificateKeyDigest>,
    /// Whose the certificate says it is, where it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    /// Its last second, where it was read and has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ends: Option<UnixTime>,
}

impl CertificateTarget {
    /// Whether there is none, now and then.
    pub(crate) const fn is_none(&self) -> bool {
        self.key.is_none() && self.registered.is_none()
    }

    /// Whether the record is to be changed.
    pub(crate) fn changes(&self) -> bool {
        self.key != self.registered
    }

    /// It, for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let Some(key) = &self.key else {
            return Vec::new();
        };
        let mut lines = vec![format!("{key} (SHA-256 of its key)")];
        if let Some(subject) = &self.subject {
            lines.push(match &self.ends {
                Some(ends) => format!("{subject}, until {ends}"),
                None => format!("{subject}, without an end"),
            });
        }
        lines
    }

    /// What a change of the record does to it, for people; empty where it stays.
    pub(super) fn change(&self) -> String {
        match (&self.registered, &self.key) {
            (None, Some(new)) => format!(", client certificate {}", new.short()),
            (Some(old), Some(new)) if old != new => format!(
                ", client certificate {} in the place of {}, which never comes back",
                new.short(),
                old.short()
            ),
            (Some(old), None) => format!(
                ", without its client certificate {}, which never comes back",
                old.short()
            ),
            (None, None) | (Some(_), Some(_)) => String::new(),
        }
    }
}

/// What a device's record will name.
pub(super) fn target(wanted: &Wanted, seen: &Observed) -> Result<CertificateTarget, Refusal> {
    let registered = match &seen.registered {
        Registered::Yes(record) => record.client_certificate,
        Registered::No => None,
    };
    let Some(certificate) = &wanted.certificate else {
        return Ok(CertificateTarget {
            registered,
            ..CertificateTarget::default()
        });
    };
    let key = certificate.key;
    if registered != Some(key)
        && let Some(owner) = &seen.certificate_owner
    {
        let device = wanted.device.clone();
        return Err(if *owner == device {
            Refusal::CertificateEnded { device, key }
        } else {
            let owner = owner.clone();
            Refusal::CertificateTaken { device, key, owner }
        });
    }
    Ok(CertificateTarget {
        key: Some(key),
        registered,
        subject: certificate.seen.as_ref().map(|seen| seen.subject.clone()),
        ends: certificate.seen.as_ref().and_then(|seen| seen.ends),
    })
}

/// What a person should know of a device's certificate.
pub(super) fn notes(wanted: &Wanted) -> Vec<String> {
    let Some(certificate) = &wanted.certificate else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    notes.extend(certificate.seen.as_ref().and_then(|seen| seen.note.clone()));
    let evidence = wanted.evidence.is_some();
    notes.extend(match wanted.certificate_rule {
        None => Some(format!(
            "policy {} does not look at its client certificate (`client-certificate` of the policy)",
            wanted.policy
        )),
        Some(CertificateRule::Accepted) if evidence => Some(format!(
            "policy {} asks for evidence, which is bound to the pre-shared key: the client certificate does not stand in for that",
            wanted.policy
        )),
        Some(CertificateRule::Accepted) => Some(
            "who has the key of its client certificate is this device, without the pre-shared key".to_owned(),
        ),
        Some(CertificateRule::Required) => None,
    });
    notes
}
