//! Everything that ends a command early: its exit code, its hint, and the chain of causes.
//!
//! Owns: the exit codes (1 failed, 2 wrong use or invalid manifest, 3 refused by policy) and their one table.

use std::{error::Error, path::PathBuf};

use domain::{DeviceId, PcrIndex, PolicyName};
use evidence::{CredentialError, EkError};
use registry::{EnrolError, InvalidRegistryUrl, OpenError, ReadError, WriteError};
use tpm::{RollbackError, SealError, TpmError, UnsealError};

use crate::{
    journal::JournalFault,
    plan::{Refusal, Unfit},
    ports::{NoEntropy, VolumeFault},
};

/// The exit code for what policy refuses.
pub(crate) const REFUSED: u8 = 3;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot read '{}'", path.display())]
    ReadFile { path: PathBuf, source: std::io::Error },
    #[error("'{}' is no {what}", path.display())]
    NotEvidence {
        what: &'static str,
        path: PathBuf,
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("nothing was measured into PCR {}", list(.0))]
    Unmeasured(Vec<PcrIndex>),
    #[error(transparent)]
    Manifest(Box<manifest::Diagnostics>),
    #[error("{0}")]
    Usage(String, Option<String>),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("the registry's address '{text}' cannot be used")]
    RegistryUrl {
        text: String,
        source: InvalidRegistryUrl,
    },
    #[error("{}", join(.0))]
    Refused(Vec<Refusal>),
    #[error("the registry cannot be opened")]
    RegistryOpen(#[source] OpenError),
    #[error("the registry cannot be read")]
    RegistryRead(#[source] ReadError),
    #[error("policy '{policy}' cannot be registered")]
    PutPolicy { policy: PolicyName, source: WriteError },
    #[error("device '{device}' cannot be registered")]
    Enrol { device: DeviceId, source: EnrolError },
    #[error("the record of device '{device}' cannot be changed")]
    Update { device: DeviceId, source: WriteError },
    #[error("device '{device}': its TPM failed")]
    Tpm { device: DeviceId, source: TpmError },
    #[error("device '{device}': its TPM cannot count its volumes")]
    Counter { device: DeviceId, source: RollbackError },
    #[error("the TPM failed")]
    BareTpm(#[source] TpmError),
    #[error("device '{device}': the secret cannot be sealed")]
    Seal { device: DeviceId, source: SealError },
    #[error("the volume cannot be unsealed")]
    Unseal(#[source] UnsealError),
    #[error("the volume's secret cannot be sealed")]
    SealHere(#[source] SealError),
    #[error("it is a volume of {0}")]
    OtherStore(&'static str),
    #[error("device '{device}' needs a PIN to open its volume")]
    NoPin { device: DeviceId },
    #[error("device '{device}': the volume does not open as it should: {why}")]
    NotOpened { device: DeviceId, why: String },
    #[error("the OTP device key gives no secret")]
    Otp(#[source] otp::DeriveError),
    #[error("nothing proves that '{}' is the volume that was made", path.display())]
    Foreign { path: PathBuf },
    #[error("device '{device}': this is not an endorsement key of the TCG's template")]
    Ek { device: DeviceId, source: EkError },
    #[error("device '{device}': no credential can be made for its keys")]
    Credential {
        device: DeviceId,
        source: CredentialError,
    },
    #[error("device '{device}': {what}")]
    NotBound { device: DeviceId, what: &'static str },
    #[error("device '{device}': the volume that was written does not hold what was put in")]
    Differs { device: DeviceId },
    #[error("device '{device}': another run worked on it since the plan was made")]
    Overtaken { device: DeviceId },
    #[error(transparent)]
    Volume(#[from] VolumeFault),
    #[error(transparent)]
    Journal(#[from] JournalFault),
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
}

impl Failure {
    /// A TPM's failure for one device.
    pub(crate) fn tpm(device: &DeviceId) -> impl FnOnce(TpmError) -> Self + '_ {
        |source| Self::Tpm {
            device: device.clone(),
            source,
        }
    }

    pub(crate) fn registry(source: ReadError) -> Self {
        Self::RegistryRead(source)
    }

    /// The exit code of the program.
    pub(crate) fn exit(&self) -> u8 {
        match self {
            Self::Manifest(_)
            | Self::NotEvidence { .. }
            | Self::Usage(..)
            | Self::Unfit(_)
            | Self::RegistryUrl { .. } => 2,
            // Nobody forbids it: it is not there.
            Self::Refused(all) if matches!(all.as_slice(), [Refusal::NotRegistered(_)]) => 1,
            Self::Refused(_) | Self::Unmeasured(_) => REFUSED,
            // Between the look at the registry and the transaction somebody else was enrolled.
            Self::Enrol {
                source:
                    EnrolError::DeviceExists
                    | EnrolError::EkTaken(_)
                    | EnrolError::PskTaken(_)
                    | EnrolError::CertificateTaken(_),
                ..
            }
            | Self::Update {
                source: WriteError::Retired | WriteError::Immutable(_),
                ..
            } => REFUSED,
            Self::Seal {
                source: SealError::Uninitialised(_),
                ..
            }
            | Self::SealHere(SealError::Uninitialised(_)) => REFUSED,
            _ => 1,
        }
    }

    /// What a person can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let text = |hint: Option<&str>| hint.map(ToOwned::to_owned);
        match self {
            Self::Usage(_, hint) => hint.clone(),
            Self::Unmeasured(_) => text(Some(
                "such a value is any machine's that was never measured; leave these PCRs out, or --allow-uninitialised",
            )),
            Self::Refused(list) => match list.as_slice() {
                [only] => Some(only.hint()),
                several => Some(several.iter().map(|r| format!("\n  - {}", r.hint())).collect()),
            },
            Self::Tpm { source, .. } | Self::BareTpm(source) => text(source.hint()),
            Self::Counter { source, .. } => text(source.hint()),
            Self::Seal { source, .. } => text(source.hint()),
            Self::Unseal(source) => text(source.hint()),
            Self::SealHere(source) => text(source.hint()),
            Self::Otp(source) => text(source.hint()),
            Self::Foreign { .. } => text(Some(
                "its header has no MAC of the secret that opened it, as when another tool enrolled it; --unauthenticated reads it all the same, \
                 `volume recover --volume-key` takes the registry's word",
            )),
            Self::Journal(source) => source.hint(),
            Self::RegistryUrl { .. } => text(Some("sqlite:PATH or etcd://host:2379,host2:2379")),
            Self::RegistryOpen(_) | Self::RegistryRead(_) => {
                text(Some("is it running, and is this its address? see --registry"))
            }
            Self::Enrol {
                source: EnrolError::Unavailable(_),
                ..
            } => text(Some(
                "run apply again: it finds out whether the device was registered, and finishes",
            )),
            Self::PutPolicy {
                source: WriteError::Stale { .. },
                ..
            }
            | Self::Update {
                source: WriteError::Stale { .. },
                ..
            } => text(Some(
                "somebody changed it at the same time: run the command again",
            )),
            Self::Volume(VolumeFault::Exists { .. }) => text(Some(
                "it appeared while we worked: move it away and run apply again",
            )),
            Self::NotBound { .. } => text(Some(
                "something between us and the TPM changes what it says; nothing was registered",
            )),
            Self::Overtaken { .. } => text(Some("run the command again: it plans anew")),
            Self::NoPin { .. } => text(Some("give it with --pin-file FILE, `-` being standard input")),
            Self::NotOpened { .. } => text(Some("nothing was registered; run apply again")),
            Self::Differs { .. } => text(Some("nothing was registered; run apply again")),
            _ => None,
        }
    }

    /// The causes, outermost first.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next = self.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        causes
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(vec![refusal])
    }
}

fn join(refusals: &[Refusal]) -> String {
    let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

fn list(pcrs: &[PcrIndex]) -> String {
    let all: Vec<String> = pcrs.iter().map(ToString::to_string).collect();
    all.join(", ")
}
