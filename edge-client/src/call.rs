//! One call, from the first challenge to the first byte of the answer.
//!
//! Owns: doing what the state machine ([`session`](crate::session)) says, and the secrets that it does not know: the
//! session's key lives here and is gone with the call.

use std::time::{Duration, Instant};

use domain::{Sha256Digest, UnixTime};
use http::Method;
use protocol::{
    binding::Binding,
    messages::SessionRequest,
    nonce::Opaque,
    signature::{RequestParts, SessionKey, SignedHeaders, sign},
};
use reqwest::Response;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    attachments::{Attachments, Found},
    attest,
    clock::ServerClock,
    device::{Device, DeviceError},
    error::Exit,
    proxy::{Proxy, ProxyError, local_time},
    refused::Refused,
    report,
    session::{Action, Event, Machine, Own, OwnRefusal, Reason},
    settings::Settings,
};

/// What is sent.
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Without a query.
    pub(crate) path: &'static str,
    pub(crate) body: Vec<u8>,
}

/// How the call was admitted.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Admission {
    /// Whom the proxy takes us for.
    pub(crate) device: String,
    /// The proxy.
    pub(crate) proxy: String,
    /// Whether a quote was given.
    pub(crate) evidence: bool,
    /// What was quoted, such as `sha256:7,11`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pcrs: Option<String>,
    /// How long the session is good, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_in: Option<u64>,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Proxy(ProxyError),
    #[error("{0}")]
    Refused(Refused),
    #[error("not answered: {0}")]
    Own(OwnRefusal),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("the system gives no random numbers")]
    Entropy,
    #[error("the proxy takes this device for {found}, its volume says {own}")]
    OtherDevice { found: String, own: String },
    #[error("no step follows, which is a mistake in this program")]
    OutOfStep,
}

impl From<ProxyError> for CallError {
    fn from(error: ProxyError) -> Self {
        match error {
            ProxyError::Refused(refused) => Self::Refused(refused),
            other => Self::Proxy(other),
        }
    }
}

impl CallError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(refused) => refused.hint().map(str::to_owned),
            Self::Own(refusal) => Some(refusal.hint().to_owned()),
            Self::Device(error) => error.hint(),
            Self::Proxy(ProxyError::Unreachable { .. }) => {
                Some("is the network up, and --proxy right? `edge-client doctor` looks closer".to_owned())
            }
            Self::OtherDevice { .. } => {
                Some("the volume was copied, or the registry changed; ask the operator".to_owned())
            }
            Self::Proxy(_) | Self::Entropy | Self::OutOfStep => None,
        }
    }

    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Refused(refused) => refused.exit(),
            Self::Own(_) => Exit::Refused,
            Self::Proxy(_) | Self::Device(_) | Self::Entropy | Self::OtherDevice { .. } | Self::OutOfStep => {
                Exit::Failed
            }
        }
    }

    pub(crate) const fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Refused(refused) => Some(refused),
            _ => None,
        }
    }
}

/// What a call has got hold of so far.
pub(crate) struct Caller<'a> {
    pub(crate) proxy: &'a Proxy<'a>,
    pub(crate) device: &'a Device,
    pub(crate) settings: &'a Settings,
    pub(crate) verbose: bool,
    clock: Option<ServerClock>,
    opening: Option<(SessionKey, SessionRequest)>,
    session: Option<(SessionKey, String)>,
    admission: Admission,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(
        proxy: &'a Proxy<'a>,
        device: &'a Device,
        settings: &'a Settings,
        verbose: bool,
    ) -> Self {
        Self {
            proxy,
            device,
            settings,
            verbose,
            clock: None,
            opening: None,
            session: None,
            admission: Admission {
                device: device.config.device.to_string(),
                proxy: proxy.origin().to_string(),
                evidence: false,
                pcrs: None,
                expires_in: None,
            },
        }
    }

    /// Makes the call; the answer's body has yet to be read.
    pub(crate) async fn run(
        mut self,
        request: &Request,
        evidence: bool,
    ) -> Result<(Response, Admission), CallError> {
        let response = self.drive(Some(request), evidence).await?;
        Ok((response.ok_or(CallError::OutOfStep)?, self.admission))
    }

    /// Goes as far as an open session, and asks for nothing in it.
    pub(crate) async fn admit(mut self) -> Result<Admission, CallError> {
        self.drive(None, true).await?;
        Ok(self.admission)
    }

    async fn drive(
        &mut self,
        request: Option<&Request>,
        evidence: bool,
    ) -> Result<Option<Response>, CallError> {
        let own = Own {
            audience: self.device.config.audience.clone(),
            pcrs: self.device.config.pcrs,
        };
        let mut machine = Machine::new(own, evidence);
        let mut event = Event::Begin;
        let mut response = None;
        loop {
            let action = machine.next(event, self.now());
            event = match action {
                Action::Finish => return Ok(response),
                Action::SendAlone | Action::SendSigned if request.is_none() => return Ok(None),
                Action::GiveUp(Reason::Refused(refused)) => return Err(CallError::Refused(refused)),
                Action::GiveUp(Reason::Own(refusal)) => return Err(CallError::Own(refusal)),
                Action::Wait(pause) => {
                    self.say(&format!("the proxy is busy, waiting {} s", pause.as_secs()));
                    tokio::time::sleep(pause).await;
                    Event::Waited
                }
                step => match self.step(step, request).await {
                    Ok((event, answer)) => {
                        response = answer;
                        event
                    }
                    Err(CallError::Refused(refused)) => Event::Refused(refused),
                    Err(error) => return Err(error),
                },
            };
        }
    }

    async fn step(
        &mut self,
        action: Action,
        request: Option<&Request>,
    ) -> Result<(Event, Option<Response>), CallError> {
        let event = match action {
            Action::FetchChallenge => {
                self.say(&format!("asking {} for a challenge", self.proxy.origin()));
                let (challenge, clock) = self.proxy.challenge().await?;
                self.clock = Some(clock);
                Event::Challenged(challenge)
            }
            Action::Quote { nonce, selection } => {
                self.say(&format!("quoting {selection}"));
                self.quote(nonce, selection).await?;
                Event::Quoted
            }
            Action::Open => self.open().await?,
            Action::SendAlone => {
                self.say("sending the request with the pre-shared key alone");
                self.session = None;
                let request = request.ok_or(CallError::OutOfStep)?;
                let answer = self.send(request, None).await?;
                return Ok((Event::Admitted, Some(answer)));
            }
            Action::SendSigned => {
                self.say("signing and sending the request");
                let request = request.ok_or(CallError::OutOfStep)?;
                let signed = self.sign(request)?;
                let answer = self.send(request, Some(&signed)).await?;
                return Ok((Event::Admitted, Some(answer)));
            }
            Action::Wait(_) | Action::Finish | Action::GiveUp(_) => return Err(CallError::OutOfStep),
        };
        Ok((event, None))
    }

    async fn quote(&mut self, nonce: Opaque, selection: domain::PcrSelection) -> Result<(), CallError> {
        let ak = self.device.attestation_key()?;
        let mut seed = Zeroizing::new([0; 32]);
        fill(seed.as_mut_slice())?;
        let key = SessionKey::from_seed(&seed);
        let public_key = key.public_key();
        let binding = Binding::Session {
            public_key: &public_key,
        };
        let data = self.device.qualifying_data(nonce.as_bytes(), &binding);
        let quote = attest::quote(&self.settings.tcti, ak, data, selection).await?;
        self.admission.evidence = true;
        self.admission.pcrs = Some(selection.to_string());
        let request = SessionRequest {
            quote: quote.attest,
            signature: quote.signature,
            pcrs: quote.pcrs.as_bytes().to_vec(),
            nonce: nonce.as_bytes().to_vec(),
            public_key: public_key.to_vec(),
            event_log: self.attach("event log", Attachments::event_log).await?,
            image_statement: self
                .attach("image statement", Attachments::image_statement)
                .await?,
        };
        self.opening = Some((key, request));
        Ok(())
    }

    /// What of the machine's own goes with the quote.
    async fn attach(
        &self,
        what: &str,
        find: fn(&Attachments) -> Found,
    ) -> Result<Option<Vec<u8>>, CallError> {
        let places = self.settings.attachments.clone();
        let found = attest::blocking(move || Ok(find(&places))).await?;
        if let Some(trouble) = found.trouble() {
            self.say(&format!("not sending the {what}: {trouble}"));
        }
        if let Found::Read(bytes) = &found {
            self.say(&format!("sending the {what}, {} bytes", bytes.len()));
        }
        Ok(found.into_bytes())
    }

    async fn open(&mut self) -> Result<Event, CallError> {
        let (key, request) = self.opening.take().ok_or(CallError::OutOfStep)?;
        let granted = self.proxy.open(&request).await?;
        if granted.device != self.device.config.device {
            return Err(CallError::OtherDevice {
                found: granted.device.to_string(),
                own: self.device.config.device.to_string(),
            });
        }
        self.say(&format!("session opened for {} s", granted.expires_in));
        self.admission.expires_in = Some(granted.expires_in);
        self.session = Some((key, granted.session));
        Ok(Event::Opened(Duration::from_secs(granted.expires_in)))
    }

    fn sign(&self, request: &Request) -> Result<SignedHeaders, CallError> {
        let (key, token) = self.session.as_ref().ok_or(CallError::OutOfStep)?;
        let mut nonce = [0; 16];
        fill(&mut nonce)?;
        let parts = RequestParts {
            method: request.method.as_str(),
            path: request.path,
            query: None,
            body_digest: &Sha256Digest::of(&request.body),
            session: token,
        };
        Ok(sign(key, &parts, self.now(), nonce))
    }

    async fn send(&self, request: &Request, signed: Option<&SignedHeaders>) -> Result<Response, CallError> {
        let session = self
            .session
            .as_ref()
            .zip(signed)
            .map(|((_, token), signed)| (token.as_str(), signed));
        let method = request.method.clone();
        Ok(self
            .proxy
            .request(method, request.path, request.body.clone(), session)
            .await?)
    }

    fn now(&self) -> UnixTime {
        self.clock
            .map_or_else(local_time, |clock| clock.at(Instant::now()))
    }

    fn say(&self, text: &str) {
        if self.verbose {
            report::note(text);
        }
    }
}

fn fill(room: &mut [u8]) -> Result<(), CallError> {
    SystemRandom::new().fill(room).map_err(|_| CallError::Entropy)
}
