//! TLS client certificates: a device's own (`client-certificate` in `[[devices]]`), and what one counts for
//! (`client-certificate` in `[policies.NAME]`).
//!
//! Owns: the two forms in which a device's is written, the three words of a policy, and what only shows when devices are
//! compared with each other and with their policies. The file is named here and read by whoever has a file system.
//! The registry knows a certificate by its key, so that a renewed one of the same key needs no edit: a digest here is
//! that of the key, never the fingerprint of a certificate.

use std::{collections::BTreeMap, ops::Range};

use domain::{CertificateKeyDigest, DeviceId};
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::{
    fleet::{CertificateSource, ClientCertificate},
    hint::nearest_or_list,
    leaf::{FilePath, text_leaf},
    policy::PolicySection,
    raw,
    walk::{Findings, Read, Spot, Value, section, wrong_type},
};

const FORMS: &str = "write \"<file>\" (PEM, from the manifest's folder) or { key = \"<digest>\" }";
const KEY_DIGEST: &str = "`openssl x509 -in device.pem -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum` prints the \
                          digest of a certificate's key";

/// What a TLS client certificate counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateRule {
    /// It stands in for the pre-shared key, where the policy wants no evidence: evidence is bound to that key.
    Accepted,
    /// It is needed beside the pre-shared key.
    Required,
}

/// The rule as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuleWord(pub(crate) Option<CertificateRule>);

impl RuleWord {
    const WORDS: [(&'static str, Option<CertificateRule>); 3] = [
        ("never", None),
        ("accepted", Some(CertificateRule::Accepted)),
        ("required", Some(CertificateRule::Required)),
    ];
}

impl Read for RuleWord {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<&str> = Self::WORDS.iter().map(|(word, _)| *word).collect();
        json_schema!({ "enum": words })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            let known = Self::WORDS.iter().find(|(word, _)| *word == text);
            known.map(|(_, rule)| Self(*rule)).ok_or_else(|| {
                let hint = nearest_or_list(text, Self::WORDS.iter().map(|(word, _)| *word));
                (
                    format!("`{text}` is not what a client certificate counts for"),
                    hint,
                )
            })
        })
    }
}

section! {
    /// A client certificate by its key.
    KeySection as "certificate-key" {
        /// The SHA-256 digest of the certificate's SubjectPublicKeyInfo (DER), in hexadecimal.
        required "key" key: CertificateKeyDigest,
    }
}

impl Read for CertificateKeyDigest {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            text.parse().map_err(|wrong: domain::digest::InvalidDigest| {
                let message = if is_fingerprint(text) {
                    "this is the form of a certificate's fingerprint, and the registry knows its key"
                        .to_owned()
                } else {
                    wrong.to_string()
                };
                (message, Some(KEY_DIGEST.to_owned()))
            })
        })
    }
}

/// `AB:CD:..`, as `openssl x509 -fingerprint` prints it.
fn is_fingerprint(text: &str) -> bool {
    let is_octet = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.contains(':') && text.split(':').all(is_octet)
}

impl Read for CertificateSource {
    const DEFINITION: Option<&'static str> = Some("client-certificate");

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let file = generator.subschema_for::<Spot<FilePath>>();
        let key = generator.subschema_for::<Spot<KeySection>>();
        json_schema!({ "oneOf": [file, key] })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        let Some(text) = value.get_ref().as_str() else {
            if value.get_ref().as_table().is_none() {
                wrong_type(value, "a string or a table", findings);
                return None;
            }
            let key = KeySection::read(value, findings)?.key?;
            return Some(Self::Key(key.value));
        };
        if text.parse::<CertificateKeyDigest>().is_ok() {
            let hint = Some(format!(
                "if it is of the certificate's key, write {{ key = \"{text}\" }}"
            ));
            findings.push(value.span(), "this is a digest, and a file is named here", hint);
            return None;
        }
        if is_fingerprint(text) {
            let hint = Some(format!("{FORMS}; {KEY_DIGEST}"));
            let message = "this is the fingerprint of a certificate, and the registry knows its key";
            findings.push(value.span(), message, hint);
            return None;
        }
        FilePath::read(value, findings).map(|path| Self::File(path.0))
    }
}

/// The certificate of a device.
pub(crate) fn of(device: &raw::DeviceSection) -> Option<ClientCertificate> {
    let spot = device.client_certificate.as_ref()?;
    Some(ClientCertificate {
        source: spot.value.0.clone()?,
        span: spot.span.clone(),
    })
}

/// A certificate is one device's, and where a policy requires one there is one.
pub(crate) fn one_each(raw: &raw::Manifest, findings: &mut Findings) {
    let mut owners: BTreeMap<CertificateSource, &DeviceId> = BTreeMap::new();
    for section in raw.devices.iter().flat_map(|devices| &devices.value) {
        let device = &section.value;
        required(raw, device, findings);
        let (Some(id), Some(spot)) = (&device.id, &device.client_certificate) else {
            continue;
        };
        let Some(source) = &spot.value.0 else { continue };
        match owners.get(source) {
            // A device that is declared twice was told already.
            Some(owner) if **owner != id.value => twice(&spot.span, owner, findings),
            Some(_) => {}
            None => {
                owners.insert(source.clone(), &id.value);
            }
        }
    }
}

fn twice(span: &Range<usize>, owner: &DeviceId, findings: &mut Findings) {
    let hint = Some("a certificate's key is one device's for good: make one for each".to_owned());
    findings.push(
        span.clone(),
        format!("this is device `{owner}`'s client certificate"),
        hint,
    );
}

fn required(raw: &raw::Manifest, device: &raw::DeviceSection, findings: &mut Findings) {
    let (Some(policy), Some(policies), None) = (&device.policy, &raw.policies, &device.client_certificate)
    else {
        return;
    };
    let requires = |section: &PolicySection| {
        let rule = section.client_certificate.as_ref();
        rule.is_some_and(|rule| rule.value.0 == Some(CertificateRule::Required))
    };
    let mut list = policies.value.list.iter();
    if list.any(|(name, section)| name.value == policy.value && requires(&section.value)) {
        let message = format!(
            "policy `{}` requires a client certificate, and the device has none",
            policy.value
        );
        let hint = Some("give the device its `client-certificate`, or choose another policy".to_owned());
        findings.push(policy.span.clone(), message, hint);
    }
}
