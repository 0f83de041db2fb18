//! The connection to a TPM, and the scopes in which its slots are used.
//!
//! Owns: [`Tpm`]; opening with patience; that what was loaded is flushed when its scope ends, on errors too; the two
//! kinds of session that this crate uses: the empty password for what carries no secret, and salted sessions.
//! Who may call: this crate. Nothing outside sees a handle or a session.

use std::{
    fs::OpenOptions,
    io, thread,
    time::{Duration, Instant},
};

use tss_esapi::{
    Context,
    attributes::SessionAttributesBuilder,
    constants::{CapabilityType, SessionType},
    handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, SessionHandle, TpmHandle},
    interface_types::{algorithm::HashingAlgorithm, session_handles::AuthSession},
    structures::{CapabilityData, SymmetricDefinition},
};

use crate::{
    SrkPin, Tcti, TpmError,
    code::Cause,
    error::{Doing as _, raw_code},
    tcti::Kind,
};

/// How long opening waits for a TPM that another program has, or that is just being started.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// An open connection to a TPM. Closing it flushes what it loaded.
#[derive(Debug)]
pub struct Tpm {
    pub(crate) context: Context,
    /// The storage keys that may salt sessions; empty: whichever answers.
    pub(crate) pins: Vec<SrkPin>,
}

impl Tpm {
    /// Connects. Waits up to three seconds for a TPM that is busy with another program; a device that does not exist or
    /// may not be opened is told at once. On a socket, where one client at a time is served, it waits for as long as
    /// another program holds the TPM, and then flushes what clients that died left loaded; their saved sessions stay.
    ///
    /// # Errors
    /// [`TpmError::Absent`] or [`TpmError::Forbidden`].
    pub fn open(tcti: &Tcti) -> Result<Self, TpmError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let last = match Self::try_open(tcti) {
                Ok(tpm) => return Ok(tpm),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(reason)) => reason,
            };
            if Instant::now() >= deadline {
                return Err(TpmError::Absent {
                    tcti: tcti.clone(),
                    reason: last,
                });
            }
            thread::sleep(PAUSE);
        }
    }

    fn try_open(tcti: &Tcti) -> Result<Self, Attempt> {
        // tpm2-tss says "IO failure" for a device that is missing, forbidden or busy; the system says which.
        if let Kind::Device(path) = tcti.kind()
            && let Err(error) = OpenOptions::new().read(true).write(true).open(path)
        {
            return Err(Attempt::of(&error, tcti));
        }
        let conf = tcti.conf().map_err(|error| Attempt::Again(error.to_string()))?;
        match Context::new(conf) {
            Ok(context) => {
                let mut tpm = Self {
                    context,
                    pins: Vec::new(),
                };
                if matches!(tcti.kind(), Kind::Socket) {
                    tpm.flush_leftovers();
                }
                Ok(tpm)
            }
            Err(error) => Err(Attempt::Again(match raw_code(error) {
                Some(raw) => format!("{raw:#x}: {}", Cause::Connection.meaning()),
                None => error.to_string(),
            })),
        }
    }

    /// Runs `f` with the empty password as the one authorization.
    pub(crate) fn with_password<T>(&mut self, f: impl FnOnce(&mut Context) -> T) -> T {
        self.context.execute_with_session(Some(AuthSession::Password), f)
    }

    /// Runs `f` without any session.
    pub(crate) fn plain<T>(&mut self, f: impl FnOnce(&mut Context) -> T) -> T {
        self.context.execute_without_session(f)
    }

    /// Runs `f`, then flushes `object`, whatever `f` said.
    pub(crate) fn flush_after<T, E: From<TpmError>>(
        &mut self,
        object: ObjectHandle,
        f: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let result = f(self);
        let flushed = self
            .context
            .flush_context(object)
            .doing("flush an object from the TPM");
        let value = result?;
        flushed?;
        Ok(value)
    }

    /// Starts a session whose key is salted with a secret that only `salt_key` can decrypt, with AES-128-CFB parameter
    /// encryption in both directions, runs `f`, and flushes the session.
    pub(crate) fn with_salted_session<T, E: From<TpmError>>(
        &mut self,
        salt_key: KeyHandle,
        kind: SessionType,
        f: impl FnOnce(&mut Self, AuthSession) -> Result<T, E>,
    ) -> Result<T, E> {
        let doing = "start a salted session";
        let session = self
            .plain(|c| {
                c.start_auth_session(
                    Some(salt_key),
                    None,
                    None,
                    kind,
                    SymmetricDefinition::AES_128_CFB,
                    HashingAlgorithm::Sha256,
                )
            })
            .doing(doing)?
            .ok_or(TpmError::Nonsense("a session without a handle"))?;
        self.flush_after(SessionHandle::from(session).into(), |tpm| {
            let (attributes, mask) = SessionAttributesBuilder::new()
                .with_decrypt(true)
                .with_encrypt(true)
                .build();
            tpm.context
                .tr_sess_set_attributes(session, attributes, mask)
                .doing(doing)?;
            f(tpm, session)
        })
    }

    /// Handles from `first` on, `most` of them, ascending.
    pub(crate) fn handles(&mut self, first: u32, most: u32) -> Result<Vec<u32>, TpmError> {
        let doing = "list the TPM's handles";
        let (data, _) = self
            .plain(|c| c.get_capability(CapabilityType::Handles, first, most))
            .doing(doing)?;
        let CapabilityData::Handles(list) = data else {
            return Err(TpmError::Nonsense("another capability than the handles"));
        };
        Ok(list.into_inner().into_iter().map(u32::from).collect())
    }

    /// Whether something is at a persistent handle or NV index. Asks for the list of handles, so that a handle with
    /// nothing there is an answer and no refused command.
    pub(crate) fn exists(&mut self, handle: u32) -> Result<bool, TpmError> {
        let doing = "list the TPM's handles";
        let (data, _) = self
            .plain(|c| c.get_capability(CapabilityType::Handles, handle, 1))
            .doing(doing)?;
        let CapabilityData::Handles(list) = data else {
            return Err(TpmError::Nonsense("another capability than the handles"));
        };
        let wanted = TpmHandle::try_from(handle).doing(doing)?;
        Ok(list.into_inner().first() == Some(&wanted))
    }

    /// Runs `f` on what is at a persistent handle, then forgets it here (it stays in the TPM). `None` when nothing is
    /// there.
    pub(crate) fn with_persistent<T, E: From<TpmError>>(
        &mut self,
        handle: u32,
        f: impl FnOnce(&mut Self, KeyHandle) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        if !self.exists(handle)? {
            return Ok(None);
        }
        let doing = "open a persistent key";
        let persistent = PersistentTpmHandle::new(handle).doing(doing)?;
        let mut object = self
            .plain(|c| c.tr_from_tpm_public(TpmHandle::Persistent(persistent)))
            .doing(doing)?;
        let result = f(self, KeyHandle::from(object));
        let closed = self
            .context
            .tr_close(&mut object)
            .doing("forget a persistent key");
        let value = result?;
        closed?;
        Ok(Some(value))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Final(TpmError),
    Again(String),
}

impl Attempt {
    fn of(error: &io::Error, tcti: &Tcti) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Final(TpmError::Forbidden { tcti: tcti.clone() }),
            // /dev/tpm0 serves one program at a time.
            io::ErrorKind::ResourceBusy => Self::Again(error.to_string()),
            _ => Self::Final(TpmError::Absent {
                tcti: tcti.clone(),
                reason: error.to_string(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_device_is_worth_waiting_for_and_a_forbidden_one_is_not() {
        let tcti: Tcti = "device:/dev/tpm0".parse().unwrap();
        let of = |kind: io::ErrorKind| Attempt::of(&kind.into(), &tcti);
        assert!(matches!(of(io::ErrorKind::ResourceBusy), Attempt::Again(_)));
        assert!(matches!(
            of(io::ErrorKind::NotFound),
            Attempt::Final(TpmError::Absent { .. })
        ));
        let Attempt::Final(forbidden) = of(io::ErrorKind::PermissionDenied) else {
            panic!("waits")
        };
        assert_eq!(forbidden, TpmError::Forbidden { tcti: tcti.clone() });
        assert!(forbidden.hint().unwrap().contains("group tss"));
    }

    #[test]
    fn a_connection_may_move_to_another_thread() {
        const fn is_send<T: Send>() {}
        is_send::<Tpm>();
    }
}
