//! TLS towards clients: rustls with ring, certificates from PEM files.
//!
//! Owns: the server's configuration: TLS 1.2 and 1.3, `http/1.1` alone in ALPN, no client certificates yet.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

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
    /// Key and certificate do not go together, or are of a kind that rustls does not take.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(rustls::Error),
}

/// Reads certificate and key.
///
/// # Errors
/// [`TlsError`], naming the file.
pub fn load(tls: &Tls) -> Result<TlsAcceptor, TlsError> {
    let failed = |what, path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::Pem { what, path, source }
    };
    let chain = CertificateDer::pem_file_iter(&tls.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed("the certificate", &tls.cert))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(tls.cert.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(failed("the key", &tls.key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
