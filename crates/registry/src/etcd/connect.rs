//! From options to a connection: reads the files, decides on TLS, authenticates.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use zeroize::Zeroizing;

use super::unavailable;
use crate::{Endpoint, OpenError, Options, TlsFiles, Unavailable};

/// etcd drops a client that pings more often than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_PATIENCE: Duration = Duration::from_secs(5);
/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Whether a file holds a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Secret,
    Public,
}

pub(super) async fn client(endpoints: &[Endpoint], options: &Options) -> Result<Client, OpenError> {
    if options.user.is_some() && options.tls.is_none() && !endpoints.iter().all(Endpoint::is_loopback) {
        return Err(OpenError::PasswordInClear);
    }
    let mut connect = ConnectOptions::new()
        .with_keep_alive(PING_EVERY, PING_PATIENCE)
        .with_keep_alive_while_idle(true)
        .with_connect_timeout(options.connect_timeout)
        // A member without a leader must say so instead of serving an old watch.
        .with_require_leader(true);
    let mut scheme = "http";
    if let Some(files) = &options.tls {
        connect = connect.with_tls(tls(files, options.connect_timeout)?);
        scheme = "https";
    }
    if let Some(user) = &options.user {
        let password = password(&user.password_file)?;
        connect = connect
            .with_user(user.name.as_str(), password.as_str())
            .with_auto_token_refresh(true);
    }
    let urls: Vec<_> = endpoints.iter().map(|e| format!("{scheme}://{e}")).collect();
    // Authenticating goes over the network: it may hang as every call may.
    let patience = options.connect_timeout.saturating_add(options.call_timeout);
    match tokio::time::timeout(patience, Client::connect(urls, Some(connect))).await {
        Err(_) => Err(Unavailable::TimedOut(patience).into()),
        // Nothing was sent yet when the configuration is refused.
        Ok(Err(error @ etcd_client::Error::TransportError(_))) if options.tls.is_some() => {
            Err(OpenError::Tls(error.into()))
        }
        Ok(Err(error)) => Err(unavailable(error).into()),
        Ok(Ok(client)) => Ok(client),
    }
}

fn tls(files: &TlsFiles, handshake: Duration) -> Result<TlsOptions, OpenError> {
    let ca = read("the registry's CA", &files.ca, Holds::Public)?;
    let mut tls = TlsOptions::new()
        .timeout(handshake)
        .ca_certificate(Certificate::from_pem(&*ca));
    if let Some(identity) = &files.identity {
        let cert = read("the registry's client certificate", &identity.cert, Holds::Public)?;
        let key = read("the registry's client key", &identity.key, Holds::Secret)?;
        tls = tls.identity(Identity::from_pem(&*cert, &*key));
    }
    Ok(tls)
}

/// The first line of a password file.
fn password(path: &Path) -> Result<Zeroizing<String>, OpenError> {
    const WHAT: &str = "the registry's password file";
    let bytes = read(WHAT, path, Holds::Secret)?;
    let line = bytes
        .split(|b| matches!(b, b'\n' | b'\r'))
        .next()
        .unwrap_or_default();
    match std::str::from_utf8(line) {
        Ok(password) if !password.is_empty() => Ok(Zeroizing::new(password.to_owned())),
        _ => Err(OpenError::Content {
            what: WHAT,
            path: path.to_owned(),
        }),
    }
}

fn read(what: &'static str, path: &Path, holds: Holds) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let failed = |source: io::Error| OpenError::File {
        what,
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let mode = meta.permissions().mode() & 0o7777;
    if holds == Holds::Secret && mode & 0o077 != 0 {
        return Err(OpenError::Mode {
            what,
            path: path.to_owned(),
            mode,
        });
    }
    let content = || OpenError::Content {
        what,
        path: path.to_owned(),
    };
    // Room for all of it from the start: a growing buffer would leave copies of a key behind.
    let len = usize::try_from(meta.len().min(MAX_FILE)).map_err(|_| content())?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(len.saturating_add(1)));
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.is_empty() || meta.len() >= MAX_FILE {
        return Err(content());
    }
    Ok(bytes)
}
