//! HTTP to the proxy.
//!
//! Owns: the pre-shared key on the wire (one header, marked sensitive, built for each request and nowhere kept), TLS by
//! rustls with the system's roots, no redirects, bounded answers. Turns every answer that is not 2xx into [`Refused`].
//! The proxy, and whoever answers in its place, controls what comes back.
//! Limits: the HTTP and TLS libraries copy the header's bytes and do not wipe them.

use std::time::{Duration, Instant};

use domain::{Psk, UnixTime};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use protocol::{
    headers,
    messages::{Challenge, SessionGranted, SessionRequest},
    signature::SignedHeaders,
};
use reqwest::{Client, Response, redirect::Policy};

use crate::{clock::ServerClock, origin::Origin, refused::Refused};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the proxy may be silent: a model that is loaded first says nothing for minutes.
const SILENCE: Duration = Duration::from_secs(300);
/// The longest answer that is not the model's, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// A proxy, and the key to ask it with.
pub(crate) struct Proxy<'a> {
    client: Client,
    origin: Origin,
    psk: &'a Psk,
}

/// Why an exchange with the proxy failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// TLS or the client could not be set up.
    #[error("cannot set up https")]
    Setup(#[source] reqwest::Error),
    /// No answer came.
    #[error("the proxy at {origin} does not answer")]
    Unreachable {
        origin: String,
        #[source]
        source: reqwest::Error,
    },
    /// It answered with something else than the contract says.
    #[error("the answer of {origin} is not attest-proxy's: {what}")]
    Nonsense { origin: String, what: &'static str },
    /// It refused.
    #[error("{0}")]
    Refused(Refused),
}

impl<'a> Proxy<'a> {
    /// Prepares to ask the proxy at `origin`; connects to nothing yet.
    pub(crate) fn new(origin: Origin, psk: &'a Psk) -> Result<Self, ProxyError> {
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE)
            .user_agent(concat!("edge-client/", env!("CARGO_PKG_VERSION")));
        // In clear to loopback only, and then through nobody else.
        if origin.is_plain() {
            builder = builder.no_proxy();
        }
        Ok(Self {
            client: builder.build().map_err(ProxyError::Setup)?,
            origin,
            psk,
        })
    }

    /// Where it is.
    pub(crate) const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Fetches a challenge, and the proxy's clock with it.
    pub(crate) async fn challenge(&self) -> Result<(Challenge, ServerClock), ProxyError> {
        let response = self
            .send(Method::GET, headers::CHALLENGE_PATH, HeaderMap::new(), Vec::new())
            .await?;
        let arrived = Instant::now();
        let challenge: Challenge = self.json(response, "no challenge").await?;
        let clock = ServerClock::new(challenge.now, arrived);
        Ok((challenge, clock))
    }

    /// Opens a session.
    pub(crate) async fn open(&self, request: &SessionRequest) -> Result<SessionGranted, ProxyError> {
        let body = serde_json::to_vec(request).map_err(|_| self.nonsense("no session request"))?;
        let response = self
            .send(Method::POST, headers::SESSION_PATH, HeaderMap::new(), body)
            .await?;
        self.json(response, "no session").await
    }

    /// Sends a request with the pre-shared key, and a session's headers if there are any.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        session: Option<(&str, &SignedHeaders)>,
    ) -> Result<Response, ProxyError> {
        let mut fields = HeaderMap::new();
        if let Some((token, signed)) = session {
            let mut put = |name: HeaderName, value: &str| {
                let value =
                    HeaderValue::from_str(value).map_err(|_| self.nonsense("a session that is no header"))?;
                fields.insert(name, value);
                Ok::<_, ProxyError>(())
            };
            put(headers::SESSION, token)?;
            put(headers::CONTENT_DIGEST, &signed.content_digest)?;
            put(headers::SIGNATURE_INPUT, &signed.signature_input)?;
            put(headers::SIGNATURE, &signed.signature)?;
        }
        self.send(method, path, fields, body).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        mut fields: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response, ProxyError> {
        let mut psk = self
            .psk
            .expose(HeaderValue::from_bytes)
            .map_err(|_| self.nonsense("a key that is no header"))?;
        psk.set_sensitive(true);
        fields.insert(headers::PSK, psk);
        if !body.is_empty() {
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let response = self
            .client
            .request(method, self.origin.join(path))
            .headers(fields)
            .body(body)
            .send()
            .await
            .map_err(|source| self.unreachable(source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, fields) = (response.status().as_u16(), response.headers().clone());
        let body = self.bounded(response).await.unwrap_or_default();
        Err(ProxyError::Refused(Refused::read(status, &fields, &body)))
    }

    async fn json<T: serde::de::DeserializeOwned>(
        &self,
        response: Response,
        what: &'static str,
    ) -> Result<T, ProxyError> {
        let body = self.bounded(response).await?;
        serde_json::from_slice(&body).map_err(|_| self.nonsense(what))
    }

    /// The whole body, which may not be longer than [`MAX_ANSWER`].
    async fn bounded(&self, mut response: Response) -> Result<Vec<u8>, ProxyError> {
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|source| self.unreachable(source))?
        {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(self.nonsense("it is too long"));
            }
        }
        Ok(body)
    }

    /// The URL is taken out of reqwest's error: we say where ourselves.
    pub(crate) fn unreachable(&self, source: reqwest::Error) -> ProxyError {
        ProxyError::Unreachable {
            origin: self.origin.to_string(),
            source: source.without_url(),
        }
    }

    pub(crate) fn nonsense(&self, what: &'static str) -> ProxyError {
        ProxyError::Nonsense {
            origin: self.origin.to_string(),
            what,
        }
    }
}

/// This machine's own clock, right or wrong.
pub(crate) fn local_time() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixTime::from_secs(since.map_or(0, |d| d.as_secs()))
}
