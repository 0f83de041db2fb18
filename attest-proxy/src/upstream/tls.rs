//! TLS towards the model servers: rustls with ring.
//!
//! Owns: whom is believed (the CAs of one file, nobody else: any public CA could speak for a server otherwise), whom a
//! server's certificate must name, and our own certificate where servers ask for one. TLS 1.2 and 1.3, `http/1.1` in ALPN.
//! Refuses: to speak without TLS where the URL says `https`, and to leave out any check; there is no setting for that.
//! An attacker between the proxy and a server sees its name and how much is said when, no more, and can only end it.
//! Limits: no revocation lists: a server that is not to be believed any longer is taken out of `ca` or gets another name.

use std::{io, path::PathBuf, sync::Arc};

use arc_swap::ArcSwapOption;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::UpstreamError;
use crate::{
    config::UpstreamTls,
    tls::{self, TlsError},
};

/// Why there is no TLS towards the servers.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamTlsError {
    /// A file, or what is in it.
    #[error("upstream-tls: {0}")]
    Files(#[from] TlsError),
    /// A certificate in `ca` is not one of a CA.
    #[error("upstream-tls: the CA in {} cannot be used: {source}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// Whom we believe, and who we are; replaced on reload. It shows nothing of itself.
pub struct Trust(ArcSwapOption<ClientConfig>);

/// By what a connection was believed when it was made.
#[derive(Debug)]
pub(super) struct Under(Arc<ClientConfig>);

/// How one server is reached by TLS.
#[derive(Debug)]
pub(super) struct Secure {
    name: ServerName<'static>,
    trust: Arc<Trust>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// Reads the files; without any, nobody is believed.
    ///
    /// # Errors
    /// [`UpstreamTlsError`], naming the file.
    pub fn read(files: Option<&UpstreamTls>) -> Result<Self, UpstreamTlsError> {
        let config = files.map(config).transpose()?;
        Ok(Self(ArcSwapOption::from_pointee(config)))
    }

    /// Believes whom `other` believes.
    pub(super) fn replace(&self, other: Self) {
        self.0.store(other.0.into_inner());
    }
}

impl Secure {
    pub(super) fn new(name: ServerName<'static>, trust: &Arc<Trust>) -> Self {
        Self {
            name,
            trust: Arc::clone(trust),
        }
    }

    /// A handshake, and by what it was believed.
    pub(super) async fn shake_hands(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Under), UpstreamError> {
        let failed = |source| UpstreamError::Tls {
            name: self.name.to_str().into_owned(),
            source,
        };
        let Some(config) = self.trust.0.load_full() else {
            return Err(failed(io::Error::other("no CA is configured")));
        };
        let connector = TlsConnector::from(Arc::clone(&config));
        let stream = connector
            .connect(self.name.clone(), stream)
            .await
            .map_err(failed)?;
        Ok((stream, Under(config)))
    }

    /// Whether a connection would be believed by the same as it was.
    pub(super) fn is_current(&self, under: &Under) -> bool {
        let now = self.trust.0.load();
        now.as_ref().is_some_and(|now| Arc::ptr_eq(now, &under.0))
    }
}

fn config(files: &UpstreamTls) -> Result<ClientConfig, UpstreamTlsError> {
    let mut roots = RootCertStore::empty();
    for ca in tls::certificates("the upstreams' CA", &files.ca)? {
        roots.add(ca).map_err(|source| UpstreamTlsError::Ca {
            path: files.ca.clone(),
            source,
        })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unusable)?
        .with_root_certificates(roots);
    let mut config = match &files.identity {
        None => config.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = tls::certificates("our certificate", cert)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(tls::failed("our key", key))?;
            config
                .with_client_auth_cert(chain, key)
                .map_err(TlsError::Unusable)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_of_no_use_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let [ca, other] = ["ca.pem", "other.pem"].map(|name| dir.path().join(name));
        let files = UpstreamTls {
            ca: ca.clone(),
            identity: None,
        };
        let read = |files: &UpstreamTls| Trust::read(Some(files)).unwrap_err();
        let shown = read(&files).to_string();
        assert!(
            shown.starts_with("upstream-tls: cannot read the upstreams' CA /"),
            "{shown}"
        );
        std::fs::write(&ca, "no PEM").unwrap();
        assert!(matches!(
            read(&files),
            UpstreamTlsError::Files(TlsError::NoCertificate(_))
        ));
        let junk = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        std::fs::write(&ca, junk).unwrap();
        assert!(matches!(read(&files), UpstreamTlsError::Ca { .. }));
        let [one, two] =
            std::array::from_fn(|_| rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap());
        std::fs::write(&ca, one.cert.pem()).unwrap();
        assert!(Trust::read(Some(&files)).is_ok());
        let files = UpstreamTls {
            identity: Some((ca.clone(), other.clone())),
            ca,
        };
        let shown = read(&files).to_string();
        assert!(
            shown.contains("our key") && shown.contains("other.pem"),
            "{shown}"
        );
        // Another one's key.
        std::fs::write(&other, two.signing_key.serialize_pem()).unwrap();
        assert!(matches!(
            read(&files),
            UpstreamTlsError::Files(TlsError::Unusable(_))
        ));
    }
}
