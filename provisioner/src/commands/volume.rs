//! `provisioner volume`: a look into a sealed volume, as its device would take it.
//!
//! What is printed by `cat` can be the pre-shared key: it goes from wiped memory to stdout and nowhere else.

use std::{fs::File, io::Write as _, path::Path};

use serde_json::json;
use tpm::Tcti;
use volume::{Header, inspect};

use crate::{
    cli::VolumeCommand, failure::Failure, observe::sealed_object, ports::VolumeFault, report::Reporter,
};

pub(super) fn run(command: VolumeCommand, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    match command {
        VolumeCommand::Cat { file, path, tcti } => cat(&file, &path, &tcti),
        VolumeCommand::Info { file } => info(&file, reporter),
    }
}

fn cat(path: &Path, inner: &str, tcti: &Tcti) -> Result<(), Failure> {
    let (file, header) = header(path)?;
    let [token] = header.tpm2_tokens() else {
        let why = format!("it has {} TPM tokens, one is needed", header.tpm2_tokens().len());
        return Err(unopened(path, why).into());
    };
    let secret = {
        let mut tpm = tpm::Tpm::open(tcti).map_err(Failure::BareTpm)?;
        tpm.unseal(&sealed_object(token), &token.pcrs)
            .map_err(Failure::Unseal)?
    };
    let open = volume::open(file, &secret).map_err(|e| unopened(path, e))?;
    let data = open.read(inner).map_err(|e| unopened(path, e))?;
    let mut out = std::io::stdout().lock();
    out.write_all(&data)
        .and_then(|()| out.flush())
        .map_err(Failure::Output)
}

fn info(path: &Path, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let (_, header) = header(path)?;
    let tokens: Vec<_> = header
        .tpm2_tokens()
        .iter()
        .map(|token| {
            json!({
                "type": "systemd-tpm2",
                "keyslot": token.keyslot.get(),
                "pcrs": token.pcrs.to_string(),
                "policy-hash": data_encoding::HEXLOWER.encode(&token.policy_hash),
            })
        })
        .collect();
    let mut text = format!("LUKS2 volume {}\n  uuid   {}\n", path.display(), header.uuid());
    if !header.label().is_empty() {
        text.push_str(&format!("  label  {}\n", header.label().escape_debug()));
    }
    for token in header.tpm2_tokens() {
        text.push_str(&format!(
            "  sealed to PCRs {} (keyslot {})\n",
            token.pcrs,
            token.keyslot.get()
        ));
    }
    for wrong in header.unusable_tokens() {
        text.push_str(&format!("  a TPM token that cannot be used: {wrong}\n"));
    }
    let unusable: Vec<String> = header.unusable_tokens().iter().map(ToString::to_string).collect();
    let json = json!({
        "uuid": header.uuid(),
        "label": header.label(),
        "tokens": tokens,
        "unusable-tokens": unusable,
    });
    reporter.data(&text, &json)
}

fn header(path: &Path) -> Result<(File, Header), Failure> {
    let file = File::open(path).map_err(|source| Failure::ReadFile {
        path: path.to_owned(),
        source,
    })?;
    let header = inspect(&file).map_err(|e| unopened(path, e))?;
    Ok((file, header))
}

fn unopened(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> VolumeFault {
    VolumeFault::Open {
        path: path.to_owned(),
        source: source.into(),
    }
}
