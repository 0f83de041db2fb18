//! EK certificates: is this endorsement key a genuine TPM's, by whose word, and whose TPM is it? And what a certificate of TLS says of
//! itself ([`TlsCertificate`]).
//!
//! Owns: the reading of EK certificates and of a folder of maker certificates ([`Roots`]), the chain between the two
//! ([`verify_ek_certificate`]), what a certificate says about its TPM ([`EkCertificate`]), the operator's choice of
//! what to trust ([`EkTrustPolicy`]) and the makers' firmware that is refused ([`DenyList`]). The profile is the TCG
//! EK Credential Profile for TPM Family 2.0, on RFC 5280.
//! Refuses: to fetch anything (an address in a certificate is an attacker's to choose; it is only named as a hint), to
//! read a clock (`now` is an argument), SHA-1 unless asked for it, and to take what it does not understand when it is
//! marked critical.
//! An attacker controls every byte of the certificate and of the intermediates sent with it; the operator, those of
//! the folder. Certificates that real makers issue and strict readers refuse are read: padding after an NV index,
//! lengths, integers, booleans and sets that are BER and not DER, empty subjects, critical names, dates without end,
//! odd parameters beside an RSA key. What is signed is checked over the bytes as they came, never re-encoded.
//! Limits today: no revocation lists (an operator drops a CA from the folder, or uses the deny-list), no policy trees,
//! no name constraints (a CA that has them is refused), no SM2, no indefinite lengths.

mod chain;
mod deny;
mod endorsed;
mod error;
mod extensions;
mod key;
mod maker;
mod name;
mod parsed;
mod reading;
mod roots;
mod signature;
mod tls;
mod trust;

pub use chain::{MAX_INTERMEDIATES_SENT, MAX_ISSUERS, verify_ek_certificate};
pub use deny::{Denied, DenyList, DenyRule, InvalidRange};
pub use endorsed::{EkCertificate, OtherKey};
pub use error::{ChainBreak, ChainError, NotAnEk};
pub use maker::{FirmwareVersion, InvalidFirmwareVersion, InvalidMaker, MakerId};
pub use parsed::{CertificateError, Validity};
pub use reading::{MAX_CERTIFICATE_LEN, ReadError, certificates_in};
pub use roots::{Roots, UnreadableFile};
pub use tls::{NotForClients, TlsCertificate};
pub use trust::{EkRefused, EkTrustPolicy, EkTrusted, Presented, TrustBasis};
