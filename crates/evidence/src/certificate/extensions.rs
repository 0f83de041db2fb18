//! The extensions of a certificate that decide something here.
//!
//! Owns: their reading, from BER where makers write it: basic constraints (RFC 5280, 4.2.1.9), key usage (4.2.1.3),
//! extended key usage (4.2.1.12), the subject's alternative name with the TPM's attributes (EK Credential Profile,
//! 3.2.9), key identifiers, and where a maker publishes the issuer (4.2.2.1; a hint for people, never fetched). Refuses
//! the same extension twice, and one that decides and cannot be read; remembers any critical one that it does not know.

use x509_parser::{
    asn1_rs::{Any, Class, FromDer as _, Oid, Tag, oid},
    extensions::{
        AuthorityInfoAccess, AuthorityKeyIdentifier, ExtendedKeyUsage, GeneralName, KeyIdentifier,
        SubjectAlternativeName, X509Extension,
    },
};

use super::{
    maker::TpmDevice,
    name::{shown, text_of},
};

const BASIC_CONSTRAINTS: Oid<'static> = oid!(2.5.29.19);
const KEY_USAGE: Oid<'static> = oid!(2.5.29.15);
const EXTENDED_KEY_USAGE: Oid<'static> = oid!(2.5.29.37);
const SUBJECT_ALT_NAME: Oid<'static> = oid!(2.5.29.17);
const NAME_CONSTRAINTS: Oid<'static> = oid!(2.5.29.30);
const POLICY_CONSTRAINTS: Oid<'static> = oid!(2.5.29.36);
const INHIBIT_ANY_POLICY: Oid<'static> = oid!(2.5.29.54);
const SUBJECT_KEY_ID: Oid<'static> = oid!(2.5.29.14);
const AUTHORITY_KEY_ID: Oid<'static> = oid!(2.5.29.35);
const AUTHORITY_INFO_ACCESS: Oid<'static> = oid!(1.3.6.1.5.5.7.1.1);
/// Understood in that nothing here follows from them: policies (any is accepted), the directory attributes that hold
/// the TPM's specification (EK Credential Profile), where revocation lists are.
const WITHOUT_CONSEQUENCE: [Oid<'static>; 3] = [oid!(2.5.29.32), oid!(2.5.29.9), oid!(2.5.29.31)];
const CA_ISSUERS: Oid<'static> = oid!(1.3.6.1.5.5.7.48.2);
/// `tcg-kp-EKCertificate`.
const EK_CERTIFICATE: Oid<'static> = oid!(2.23.133.8.1);
const ANY_PURPOSE: Oid<'static> = oid!(2.5.29.37.0);
const TPM_MANUFACTURER: Oid<'static> = oid!(2.23.133.2.1);
const TPM_MODEL: Oid<'static> = oid!(2.23.133.2.2);
const TPM_VERSION: Oid<'static> = oid!(2.23.133.2.3);

/// `BasicConstraints`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BasicConstraints {
    pub(super) ca: bool,
    pub(super) path_len: Option<u32>,
}

/// `KeyUsage`, its first nine bits with `digitalSignature` as the highest of sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyUsage(u16);

impl KeyUsage {
    pub(super) const fn key_encipherment(self) -> bool {
        self.0 & 0x2000 != 0
    }

    pub(super) const fn key_agreement(self) -> bool {
        self.0 & 0x0800 != 0
    }

    pub(super) const fn cert_sign(self) -> bool {
        self.0 & 0x0400 != 0
    }
}

/// `ExtKeyUsageSyntax`, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Purposes {
    pub(super) ek_certificate: bool,
    pub(super) tls_client: bool,
    pub(super) any: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub(super) basic_constraints: Option<BasicConstraints>,
    pub(super) key_usage: Option<KeyUsage>,
    pub(super) purposes: Option<Purposes>,
    pub(super) device: TpmDevice,
    pub(super) subject_key_id: Option<Vec<u8>>,
    pub(super) authority_key_id: Option<Vec<u8>>,
    /// Where the maker says that the issuer's certificate is.
    pub(super) issuer_urls: Vec<String>,
    /// The first critical extension that is not known.
    pub(super) unknown_critical: Option<String>,
    /// An extension that restricts what a CA may issue in a way that is not checked here, critical or not.
    pub(super) unchecked_constraint: Option<&'static str>,
}

impl Extensions {
    /// The error is the name of the extension that is broken or there twice.
    pub(super) fn read(extensions: &[X509Extension<'_>]) -> Result<Self, &'static str> {
        let mut out = Self::default();
        let mut seen: Vec<&Oid<'_>> = Vec::with_capacity(extensions.len());
        for extension in extensions {
            let oid = &extension.oid;
            if seen.contains(&oid) {
                return Err("an extension that is there twice");
            }
            seen.push(oid);
            out.take(extension)?;
        }
        Ok(out)
    }

    fn take(&mut self, extension: &X509Extension<'_>) -> Result<(), &'static str> {
        let (oid, value) = (&extension.oid, extension.value);
        if *oid == BASIC_CONSTRAINTS {
            self.basic_constraints = Some(basic_constraints(value).ok_or("basicConstraints")?);
        } else if *oid == KEY_USAGE {
            self.key_usage = Some(key_usage(value).ok_or("keyUsage")?);
        } else if *oid == EXTENDED_KEY_USAGE {
            self.purposes = Some(purposes(value).ok_or("extKeyUsage")?);
        } else if *oid == SUBJECT_ALT_NAME {
            self.device = device(value).ok_or("subjectAltName")?;
        } else if *oid == NAME_CONSTRAINTS {
            self.unchecked_constraint = Some("nameConstraints");
        } else if *oid == POLICY_CONSTRAINTS {
            self.unchecked_constraint = Some("policyConstraints");
        } else if *oid == INHIBIT_ANY_POLICY {
            self.unchecked_constraint = Some("inhibitAnyPolicy");
        } else if *oid == SUBJECT_KEY_ID {
            self.subject_key_id = KeyIdentifier::from_der(value).ok().map(|(_, id)| id.0.to_vec());
        } else if *oid == AUTHORITY_KEY_ID {
            self.authority_key_id = authority_key_id(value);
        } else if *oid == AUTHORITY_INFO_ACCESS {
            self.issuer_urls = issuer_urls(value);
        } else if extension.critical && !WITHOUT_CONSEQUENCE.contains(oid) && self.unknown_critical.is_none()
        {
            self.unknown_critical = Some(shown(&oid.to_id_string()));
        }
        Ok(())
    }
}

/// With `cA` and its default written out or not, and any value but zero for true.
fn basic_constraints(der: &[u8]) -> Option<BasicConstraints> {
    let mut content = only(der, Tag::Sequence)?;
    let mut out = BasicConstraints {
        ca: false,
        path_len: None,
    };
    if let Some((rest, flag)) = next(content, Tag::Boolean) {
        let [flag] = flag else { return None };
        out.ca = *flag != 0;
        content = rest;
    }
    if let Some((rest, number)) = next(content, Tag::Integer) {
        // Negative: none. Longer than four bytes: no more of a limit than four.
        if number.first()? & 0x80 != 0 {
            return None;
        }
        let len = number.iter().try_fold(0_u32, |sum, byte| {
            sum.checked_mul(256)
                .and_then(|sum| sum.checked_add(u32::from(*byte)))
        });
        out.path_len = Some(len.unwrap_or(u32::MAX));
        content = rest;
    }
    content.is_empty().then_some(out)
}

/// With or without the zero bits at its end.
fn key_usage(der: &[u8]) -> Option<KeyUsage> {
    match only(der, Tag::BitString)? {
        [0..=7] => Some(KeyUsage(0)),
        [0..=7, high] => Some(KeyUsage(u16::from_be_bytes([*high, 0]))),
        [0..=7, high, low, rest @ ..] if rest.iter().all(|byte| *byte == 0) => {
            Some(KeyUsage(u16::from_be_bytes([*high, *low])))
        }
        _ => None,
    }
}

fn purposes(der: &[u8]) -> Option<Purposes> {
    let (rest, usage) = ExtendedKeyUsage::from_der(der).ok()?;
    rest.is_empty().then_some(Purposes {
        tls_client: usage.client_auth,
        ek_certificate: usage.other.contains(&EK_CERTIFICATE),
        any: usage.any || usage.other.contains(&ANY_PURPOSE),
    })
}

/// The attributes may share one relative name or have one each. Two values of one attribute are refused: which of them
/// would count?
fn device(der: &[u8]) -> Option<TpmDevice> {
    let (rest, names) = SubjectAlternativeName::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let mut out = TpmDevice::default();
    for name in &names.general_names {
        let directory = match name {
            GeneralName::DirectoryName(directory) => directory,
            GeneralName::Invalid(..) => return None,
            _ => continue,
        };
        for attribute in directory.iter_attributes() {
            let oid = attribute.attr_type();
            let field = if *oid == TPM_MANUFACTURER {
                &mut out.manufacturer
            } else if *oid == TPM_MODEL {
                &mut out.model
            } else if *oid == TPM_VERSION {
                &mut out.version
            } else {
                continue;
            };
            let value = text_of(attribute);
            if field.as_ref().is_some_and(|known| *known != value) {
                return None;
            }
            *field = Some(value);
        }
    }
    Some(out)
}

fn authority_key_id(der: &[u8]) -> Option<Vec<u8>> {
    let (_, id) = AuthorityKeyIdentifier::from_der(der).ok()?;
    id.key_identifier.map(|id| id.0.to_vec())
}

fn issuer_urls(der: &[u8]) -> Vec<String> {
    let Ok((_, access)) = AuthorityInfoAccess::from_der(der) else {
        return Vec::new();
    };
    let urls = access.iter().filter(|entry| entry.access_method == CA_ISSUERS);
    urls.filter_map(|entry| match entry.access_location {
        GeneralName::URI(url) => Some(shown(url)),
        _ => None,
    })
    .take(2)
    .collect()
}

/// The content of an element with this tag that is all there is.
fn only(der: &[u8], tag: Tag) -> Option<&[u8]> {
    let (rest, content) = next(der, tag)?;
    rest.is_empty().then_some(content)
}

/// What follows an element with this tag, and its content.
fn next(der: &[u8], tag: Tag) -> Option<(&[u8], &[u8])> {
    let (rest, value) = Any::from_der(der).ok()?;
    (value.class() == Class::Universal && value.tag() == tag).then_some((rest, value.data))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CA: BasicConstraints = BasicConstraints {
        ca: true,
        path_len: None,
    };

    #[test]
    fn basic_constraints_are_read_from_ber() {
        let leaf = Some(BasicConstraints {
            ca: false,
            path_len: None,
        });
        assert_eq!(basic_constraints(&[0x30, 0]), leaf);
        assert_eq!(
            basic_constraints(&[0x30, 3, 1, 1, 0]),
            leaf,
            "the default written out"
        );
        assert_eq!(basic_constraints(&[0x30, 3, 1, 1, 0xff]), Some(CA));
        assert_eq!(basic_constraints(&[0x30, 3, 1, 1, 1]), Some(CA), "true as 1");
        assert_eq!(
            basic_constraints(&[0x30, 0x81, 3, 1, 1, 0xff]),
            Some(CA),
            "a long length"
        );
        let limited = Some(BasicConstraints {
            path_len: Some(1),
            ..CA
        });
        assert_eq!(basic_constraints(&[0x30, 6, 1, 1, 0xff, 2, 1, 1]), limited);
        assert_eq!(
            basic_constraints(&[0x30, 8, 1, 1, 0xff, 2, 3, 0, 0, 1]),
            limited,
            "not minimal"
        );
        let endless = [0x30, 10, 1, 1, 0xff, 2, 5, 1, 0, 0, 0, 0];
        assert_eq!(basic_constraints(&endless).unwrap().path_len, Some(u32::MAX));
    }

    #[test]
    fn broken_basic_constraints_are_refused() {
        for broken in [
            &[][..],
            &[0x30, 1],
            &[0x31, 0],
            &[0x30, 4, 1, 2, 0xff, 0xff],
            &[0x30, 6, 1, 1, 0xff, 2, 1, 0x80],
            &[0x30, 5, 1, 1, 0xff, 2, 0],
            &[0x30, 6, 1, 1, 0xff, 4, 1, 1],
            &[0x30, 3, 1, 1, 0xff, 0],
            &[0x30, 3, 0x81, 1, 0xff],
        ] {
            assert_eq!(basic_constraints(broken), None, "{broken:02x?}");
        }
    }

    #[test]
    fn key_usage_is_read_with_and_without_its_zeros() {
        for der in [
            &[3, 2, 5, 0x20][..],
            &[3, 2, 0, 0x20],
            &[3, 3, 0, 0x20, 0],
            &[3, 4, 7, 0x20, 0, 0],
        ] {
            let usage = key_usage(der).unwrap();
            assert!(
                usage.key_encipherment() && !usage.key_agreement() && !usage.cert_sign(),
                "{der:02x?}"
            );
        }
        assert!(key_usage(&[3, 2, 3, 8]).unwrap().key_agreement());
        assert!(key_usage(&[3, 2, 1, 6]).unwrap().cert_sign());
        assert_eq!(key_usage(&[3, 1, 0]), Some(KeyUsage(0)));
        for broken in [
            &[3, 0][..],
            &[3, 2, 8, 0x20],
            &[4, 2, 5, 0x20],
            &[3, 4, 0, 1, 2, 3],
            &[3, 2, 5, 0x20, 0],
        ] {
            assert_eq!(key_usage(broken), None, "{broken:02x?}");
        }
    }
}
