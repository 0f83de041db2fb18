//! TLS towards clients: rustls with ring, certificates from PEM files.
//!
//! Owns: the server's configuration: TLS 1.2 and 1.3, `h2` and `http/1.1` in ALPN; with a `client-ca`, client
//! certificates: one that does not lead there, or is out of date, ends the handshake, and none is none.
//! Limits: no revocation lists: a device is suspended, or given another certificate, in the registry. With a `client-ca`
//! no session is resumed, because what was verified would not be verified again.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::CertificateKeyDigest;
use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    server::{
        NoServerSessionStorage, ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    config::Tls,
    expiry::{self, EndOfEach, Ends},
};

/// What makes TLS of a client's connection; it shows nothing of itself.
pub struct Acceptor {
    tls: TlsAcceptor,
    ends: Ends,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Acceptor {
    /// A handshake.
    ///
    /// # Errors
    /// The client's, or those of its connection.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.tls.accept(stream).await
    }

    /// When its certificates end.
    #[must_use]
    pub const fn ends(&self) -> Ends {
        self.ends
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("cannot read {what} {}: {source}", path.display())]
    Pem {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// No certificate in it.
    #[error("there is no certificate in {}", .0.display())]
    NoCertificate(PathBuf),
    /// The CA of client certificates is of no use.
    #[error("the client CA in {} cannot be used: {why}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Key and certificate do not go together, or are of a kind that rustls does not take.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(rustls::Error),
}

/// Reads certificate and key. `http2`: whether it is offered.
///
/// # Errors
/// [`TlsError`], naming the file.
pub fn load(tls: &Tls, http2: bool) -> Result<Acceptor, TlsError> {
    let chain = certificates("the certificate", &tls.cert)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(failed("the key", &tls.key))?;
    let verifier = tls.client_ca.as_deref().map(verifier).transpose()?;
    let (server, client_ca) = ends(tls)?;
    let ends = Ends {
        server: expiry::first(&server),
        client_ca: expiry::first(&client_ca),
    };
    let resumes = verifier.is_none();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unusable)?;
    let mut config = match verifier {
        None => config.with_no_client_auth(),
        Some(verifier) => config.with_client_cert_verifier(verifier),
    }
    .with_single_cert(chain, key)
    .map_err(TlsError::Unusable)?;
    if !resumes {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    let offered: &[&[u8]] = if http2 {
        &[b"h2", b"http/1.1"]
    } else {
        &[b"http/1.1"]
    };
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    Ok(Acceptor {
        tls: TlsAcceptor::from(Arc::new(config)),
        ends,
    })
}

/// When each certificate that the server sends ends, and each CA of client certificates.
///
/// # Errors
/// [`TlsError`], naming the file.
pub fn ends(tls: &Tls) -> Result<(EndOfEach, EndOfEach), TlsError> {
    let of = |list: Vec<CertificateDer<'static>>| expiry::ends(list.iter().map(|der| &**der));
    let server = of(certificates("the certificate", &tls.cert)?);
    let client_ca = match &tls.client_ca {
        Some(path) => of(certificates("the client CA", path)?),
        None => Vec::new(),
    };
    Ok((server, client_ca))
}

/// The key of the certificate that the client showed and that was verified.
#[must_use]
pub fn client_key(connection: &ServerConnection) -> Option<CertificateKeyDigest> {
    let leaf = connection.peer_certificates()?.first()?;
    let key = ParsedCertificate::try_from(leaf).ok()?.subject_public_key_info();
    Some(CertificateKeyDigest::of(&key))
}

/// Judges client certificates by the CAs in a file. A client may have none.
fn verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let failed = |why: &dyn fmt::Display| TlsError::ClientCa {
        path: path.to_owned(),
        why: why.to_string(),
    };
    let mut roots = RootCertStore::empty();
    for ca in certificates("the client CA", path)? {
        roots.add(ca).map_err(|e| failed(&e))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|e: VerifierBuilderError| failed(&e))
}

pub(crate) fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed(what, path))?;
    if read.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(read)
}

pub(crate) fn failed(what: &'static str, path: &Path) -> impl FnOnce(pem::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::Pem { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_ca_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(matches!(verifier(&path), Err(TlsError::Pem { .. })));
        std::fs::write(&path, "no PEM").unwrap();
        assert!(matches!(verifier(&path), Err(TlsError::NoCertificate(_))));
        let junk = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, junk).unwrap();
        assert!(matches!(verifier(&path), Err(TlsError::ClientCa { .. })));
    }
}
