//! The checks on this machine: TPM, volume, attestation key, the PCRs that the policy asks for, and what is there to go
//! beside a quote.

use std::path::Path;

use tpm::{Tpm, TpmError};
use volume::Header;

use super::{Common, Finding};
use crate::{
    attachments::Found,
    attest,
    device::{self, Device, DeviceError},
};

/// Whether the volume opens without a TPM, by the OTP device key; one that cannot be read says nothing.
pub(super) async fn opens_without_tpm(common: &Common) -> bool {
    let path = common.settings.volume.clone();
    let header = attest::blocking(move || device::inspect(&path)).await;
    header.is_ok_and(|(_, header)| header.sealed_tokens().is_empty() && !header.otp_tokens().is_empty())
}

/// `spare`: the volume opens without it.
pub(super) async fn tpm(common: &Common, spare: bool, findings: &mut Vec<Finding>) {
    let tcti = common.settings.tcti.clone();
    let found = attest::blocking(move || Ok(Tpm::open(&tcti)?.identity()?)).await;
    findings.push(match found {
        Ok(identity) => Finding::works(
            "TPM",
            format!(
                "{} {}, firmware {:#x}, answers at {}",
                identity.manufacturer, identity.vendor, identity.firmware_version, common.settings.tcti
            ),
        ),
        Err(error) if spare => Finding::missing(
            "TPM",
            &error.into(),
            "the volume opens by the OTP device key; a TPM is only for a policy that asks for a quote",
        ),
        Err(error) => Finding::failed("TPM", &error.into()),
    });
}

pub(super) async fn volume(common: &Common, findings: &mut Vec<Finding>) -> Option<Device> {
    match common.device().await {
        Ok(device) => {
            let path = common.settings.volume.clone();
            let header = attest::blocking(move || device::inspect(&path)).await;
            let sealed_to = header.map_or_else(
                |_| String::new(),
                |(_, header)| {
                    header
                        .sealed_to()
                        .map(|pcrs| format!(", sealed to {pcrs}"))
                        .chain(by_device_key(&header))
                        .collect()
                },
            );
            let text = format!(
                "{} opens{sealed_to}; it is {}'s of the fleet {}",
                common.settings.volume.display(),
                device.config.device,
                device.config.fleet
            );
            findings.push(Finding::works("volume", text));
            Some(device)
        }
        Err(error) => {
            findings.push(Finding::failed("volume", &error));
            None
        }
    }
}

/// Said where nothing else opens the volume.
fn by_device_key(header: &Header) -> Option<String> {
    let otp = header.sealed_tokens().is_empty() && !header.otp_tokens().is_empty();
    otp.then(|| " by this board's OTP device key".to_owned())
}

/// `spare`: the volume opens without a TPM. A configuration that asks for PCRs needs one all the same.
pub(super) async fn attestation_key(
    common: &Common,
    device: &Device,
    spare: bool,
    findings: &mut Vec<Finding>,
) {
    let tcti = common.settings.tcti.clone();
    let Some(ak) = device.ak else {
        let text = "none, and none is needed: the device was provisioned without a TPM";
        findings.push(Finding::works("key", text.to_owned()));
        return;
    };
    let found = attest::blocking(move || {
        Tpm::open(&tcti)?
            .read_ak(ak)?
            .ok_or(DeviceError::Tpm(TpmError::NoAk(ak)))
    })
    .await;
    findings.push(match found {
        Ok(_) => Finding::works("key", format!("an attestation key is at {ak}")),
        Err(error) if spare && device.config.pcrs.is_none() => Finding::missing(
            "key",
            &error.into(),
            "the device's configuration asks for no quote; one that is made by hand needs this key",
        ),
        Err(error) => Finding::failed("key", &error.into()),
    });
}

pub(super) async fn policy(common: &Common, device: &Device, findings: &mut Vec<Finding>) {
    let Some(selection) = device.config.pcrs else {
        let text = "the device's configuration asks for no PCRs: the pre-shared key alone is enough";
        findings.push(Finding::works("policy", text.to_owned()));
        return;
    };
    let tcti = common.settings.tcti.clone();
    let found = attest::blocking(move || Ok(Tpm::open(&tcti)?.read_pcrs(&selection)?)).await;
    findings.push(match found {
        Ok(values) => {
            let list: Vec<String> = values
                .iter()
                .map(|(index, value)| format!("PCR {index} is {value}"))
                .collect();
            let text = format!("asks for {selection}: {}", list.join(", "));
            if values.iter().any(|(_, value)| value.is_uninitialised()) {
                Finding::note(
                    "policy",
                    text,
                    "nothing was measured into a PCR of all zeros or ones; it proves nothing",
                )
            } else {
                Finding::works("policy", text)
            }
        }
        Err(error) => Finding::failed("policy", &error.into()),
    });
}

pub(super) async fn attachments(common: &Common, findings: &mut Vec<Finding>) {
    let places = common.settings.attachments.clone();
    let image = places.image_statement.clone();
    let log = places.event_log.clone();
    let looked = attest::blocking(move || Ok((places.event_log(), places.image_statement()))).await;
    match looked {
        Ok((event_log, image_statement)) => {
            findings.push(match log {
                Some(path) => attachment("log", "event log", &path, &event_log),
                None => Finding::works(
                    "log",
                    "no event log is known of this TPM, none is sent; `event-log` in the configuration names one".to_owned(),
                ),
            });
            findings.push(attachment("image", "image statement", &image, &image_statement));
        }
        Err(error) => findings.push(Finding::failed("log", &error.into())),
    }
}

fn attachment(name: &'static str, what: &str, path: &Path, found: &Found) -> Finding {
    let path = path.display();
    match (found, found.trouble()) {
        (Found::Read(bytes), _) => Finding::works(
            name,
            format!(
                "the {what} {path} goes with each session's quote: {} bytes",
                bytes.len()
            ),
        ),
        (_, Some(trouble)) => Finding::note(
            name,
            format!("the {what} {path} is not sent: {trouble}"),
            "a policy that wants it refuses this device",
        ),
        (_, None) => Finding::works(name, format!("no {what} is at {path}, none is sent")),
    }
}
