//! Certificates of TLS, by what each says of itself: whose, from when to when, of which key, and what for.
//!
//! Owns: the reading of one certificate. Refuses to believe any of it: no signature is checked here and no chain is built,
//! that is the handshake's. What is read is for whoever writes such a certificate down before it is ever shown (its key is
//! how the registry knows it) and for whoever wants to know when it ends.
//! An attacker may have written every byte of it.

use domain::{CertificateKeyDigest, UnixTime};
use x509_parser::{certificate::X509CertificateParser, nom::Parser as _, x509::X509Version};

use super::{
    extensions::Extensions,
    name::Name,
    parsed::{CertificateError, Validity, validity},
};

/// What a certificate of TLS says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsCertificate {
    subject: String,
    validity: Validity,
    key: CertificateKeyDigest,
    unfit: Option<NotForClients>,
}

/// Why a certificate will never be taken from a client of TLS, whoever signed it (RFC 5280, 4.2.1.9 and 4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotForClients {
    /// Its basic constraints say that it is one.
    #[error("it is a CA's certificate")]
    Authority,
    /// It is of X.509's version 1 or 2.
    #[error("it is of an old version of X.509: TLS takes version 3")]
    OldVersion,
    /// Its extended key usage has other purposes.
    #[error("its extended key usage does not say that it is for clients of TLS")]
    OtherPurpose,
}

impl TlsCertificate {
    /// Reads the DER of one certificate; `certificates_in` cuts it out of a file.
    ///
    /// # Errors
    /// It is no certificate, or an extension that decides something is broken.
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
        let (rest, outer) = parser.parse(der).map_err(|_| CertificateError::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        let inner = &outer.tbs_certificate;
        let extensions = Extensions::read(inner.extensions()).map_err(CertificateError::Extension)?;
        let unfit = if extensions.basic_constraints.is_some_and(|basic| basic.ca) {
            Some(NotForClients::Authority)
        } else if inner.version != X509Version::V3 {
            Some(NotForClients::OldVersion)
        } else if extensions.purposes.is_some_and(|purposes| !purposes.tls_client) {
            Some(NotForClients::OtherPurpose)
        } else {
            None
        };
        Ok(Self {
            subject: Name::read(&inner.subject).as_text().to_owned(),
            validity: validity(&inner.validity),
            key: CertificateKeyDigest::of(inner.subject_pki.raw),
            unfit,
        })
    }

    /// Whose it says it is, safe to print.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// From when to when it is good.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether it has ended at `now`.
    #[must_use]
    pub fn has_ended(&self, now: UnixTime) -> bool {
        self.validity.not_after.is_some_and(|end| end < now)
    }

    /// SHA-256 over its SubjectPublicKeyInfo as it came.
    #[must_use]
    pub const fn key(&self) -> CertificateKeyDigest {
        self.key
    }

    /// Whether a client of TLS could show it.
    ///
    /// # Errors
    /// Why not.
    pub const fn for_clients(&self) -> Result<(), NotForClients> {
        match self.unfit {
            None => Ok(()),
            Some(why) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, PublicKeyData as _,
        date_time_ymd,
    };

    use super::*;

    fn made(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> TlsCertificate {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        change(&mut params);
        TlsCertificate::read(params.self_signed(key).unwrap().der()).unwrap()
    }

    #[test]
    fn a_certificate_says_whose_it_is_until_when_and_of_which_key() {
        let key = KeyPair::generate().unwrap();
        let one = made(&key, |_| {});
        assert!(one.subject().contains("rcgen"), "{}", one.subject());
        assert_eq!(
            one.key(),
            CertificateKeyDigest::of(&key.subject_public_key_info())
        );
        let end = one.validity().not_after.unwrap();
        assert_eq!(end.to_string(), "2030-01-01T00:00:00Z");
        assert!(!one.has_ended(end));
        assert!(one.has_ended(UnixTime::from_secs(end.as_secs() + 1)));
        let endless = made(&key, |params| params.not_after = date_time_ymd(9999, 12, 31));
        assert!(
            endless.validity().not_after.is_some(),
            "a day before the last second is an end"
        );
    }

    #[test]
    fn what_no_client_can_show_is_told() {
        let key = KeyPair::generate().unwrap();
        assert_eq!(made(&key, |_| {}).for_clients(), Ok(()));
        let ca = made(&key, |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        assert_eq!(ca.for_clients(), Err(NotForClients::Authority));
        let of = |purposes: Vec<ExtendedKeyUsagePurpose>| {
            made(&key, |params| params.extended_key_usages = purposes).for_clients()
        };
        let (client, server) = (
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        );
        assert_eq!(of(vec![server.clone(), client]), Ok(()));
        assert_eq!(of(vec![server]), Err(NotForClients::OtherPurpose));
        assert_eq!(
            of(vec![ExtendedKeyUsagePurpose::Any]),
            Err(NotForClients::OtherPurpose)
        );
    }

    #[test]
    fn version_1_is_told() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(Vec::<String>::new()).unwrap();
        let made = params.self_signed(&key).unwrap();
        let (_, read) = x509_parser::parse_x509_certificate(made.der()).unwrap();
        assert_eq!(read.version(), X509Version::V3);
        // The same without its `version [0]`, which makes it version 1 (RFC 5280, 4.1.2.1); nothing here checks the signature.
        let tbs = read.tbs_certificate.as_ref();
        let after_version = &tbs[header(tbs) + 5..];
        let signed = wrap(after_version);
        let rest = &made.der()[header(made.der()) + tbs.len()..];
        let old = wrap(&[&signed[..], rest].concat());
        assert_eq!(
            TlsCertificate::read(&old).unwrap().for_clients(),
            Err(NotForClients::OldVersion)
        );
    }

    /// The bytes of a header with a length of two bytes or less.
    fn header(der: &[u8]) -> usize {
        match der[1] {
            0x82 => 4,
            0x81 => 3,
            _ => 2,
        }
    }

    fn wrap(content: &[u8]) -> Vec<u8> {
        let len = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[0x30, 0x82][..], &len, content].concat()
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        for bytes in [&[][..], &[0x30, 0], b"-----BEGIN CERTIFICATE-----"] {
            assert_eq!(TlsCertificate::read(bytes), Err(CertificateError::Malformed));
        }
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(Vec::<String>::new()).unwrap();
        let mut der = params.self_signed(&key).unwrap().der().to_vec();
        der.push(0);
        assert_eq!(TlsCertificate::read(&der), Err(CertificateError::Malformed));
    }
}
