//! What happens, told once: events go to one reporter, which speaks to a person or writes JSON lines.
//!
//! Owns: every byte of output but the data that a command was asked for. Data goes to stdout, all else to stderr; with
//! `--json` the events are the data. No event has a place for a secret.

mod human;
mod json;
mod progress;

use std::path::{Path, PathBuf};

use domain::{DeviceId, EkDigest, FleetName, PolicyName, PskDigest, Sha256Digest};
use evidence::AttestationKey;
use registry::DeviceRecord;
use serde::Serialize;

use crate::{cli::Output, failure::Failure, plan::Step};

/// What happens.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event<'a> {
    /// `apply` begins.
    Started {
        fleet: &'a FleetName,
        devices: usize,
        plan: Sha256Digest,
    },
    /// A policy is in the registry.
    PolicyPut { policy: &'a PolicyName, revision: u64 },
    /// Something that a person should know.
    Note { device: &'a DeviceId, note: &'a str },
    /// A step begins.
    Step {
        device: &'a DeviceId,
        number: usize,
        of: usize,
        #[serde(flatten)]
        step: &'a Step,
        #[serde(skip)]
        words: String,
    },
    /// A device is as it should be.
    DeviceDone(&'a Summary),
    /// All is done.
    Done { devices: &'a [Summary] },
}

/// What became of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Enrolled,
    Updated,
    Unchanged,
}

/// One device after `apply`: names and digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) device: DeviceId,
    pub(crate) outcome: Outcome,
    #[serde(serialize_with = "crate::plan::path")]
    pub(crate) volume: PathBuf,
    pub(crate) psk: PskDigest,
    pub(crate) ek: Option<EkDigest>,
    /// The attestation key's Name in hexadecimal.
    pub(crate) ak: Option<String>,
    pub(crate) policy: PolicyName,
    pub(crate) generation: u64,
}

impl Summary {
    pub(crate) fn of(record: &DeviceRecord, outcome: Outcome, volume: &Path) -> Self {
        Self {
            device: record.device.clone(),
            outcome,
            volume: volume.to_owned(),
            psk: record.psk.current,
            ek: record.tpm.as_ref().map(|tpm| tpm.ek),
            ak: ak_name(record),
            policy: record.policy.clone(),
            generation: record.generation,
        }
    }
}

/// The Name of a device's attestation key, as tpm2-tools print it.
pub(crate) fn ak_name(record: &DeviceRecord) -> Option<String> {
    let tpm = record.tpm.as_ref()?;
    let ak = AttestationKey::new(&tpm.ak_public, &tpm.ak_qualified_name).ok()?;
    Some(data_encoding::HEXLOWER.encode(ak.name().as_bytes()))
}

/// Who tells what happens.
pub(crate) trait Reporter {
    /// Something happened.
    fn event(&mut self, event: &Event<'_>);
    /// Something that a person should know, of no device in particular.
    fn note(&mut self, _note: &str) {}
    /// Begins to tell how far something long is, until what it gives is dropped.
    fn progress(&mut self, _doing: &'static str) -> Box<dyn volume::Progress> {
        Box::new(())
    }
    /// Data that a command was asked for: `text` for a person, `json` for a program.
    fn data(&mut self, text: &str, json: &serde_json::Value) -> Result<(), Failure>;
    /// The command failed.
    fn failed(&mut self, failure: &Failure);
}

/// The reporter that the command line asks for.
pub(crate) fn reporter(output: &Output) -> Box<dyn Reporter> {
    if output.json {
        Box::new(json::Lines)
    } else {
        Box::new(human::Human::new(output))
    }
}
