//! `volume recover`: the way in when the TPM is gone, and a seal to the one that is here.
//!
//! Owns: reading the recovery key out of escrow, the judgement that the escrow file is of this very volume, and that the key is
//! shown only to who asks for it by name. To what the volume is sealed then is for the command line to say: the recovery key authenticates
//! no token. The recovery key stays valid, unless a new one is asked for in its place.

use domain::DeviceId;
use serde_json::json;
use volume::{RecoveryKey, Unlock};
use zeroize::Zeroizing;

use super::{generation, header, reseal, rotation::Wish, unopened, usage};
use crate::{
    adapters::escrows,
    cli::RecoverArgs,
    escrow::{self, Identities},
    failure::Failure,
    report::Reporter,
    secrets,
};

pub(super) fn run(args: &RecoverArgs, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let (file, header) = header(&args.file)?;
    let (key, device) = key(args, header.uuid_bytes(), reporter)?;
    let opened = volume::open_with_recovery_key(file, &key).map_err(|e| unopened(&args.file, e))?;
    let known = args
        .volume_key
        .is_some_and(|digest| digest == opened.volume_key_digest());
    if args.volume_key.is_some() && !known {
        return Err(unopened(&args.file, volume::RekeyError::OtherVolume));
    }
    if !known && !opened.is_authenticated() {
        return Err(Failure::Foreign {
            path: args.file.clone(),
        });
    }
    if args.no_reseal {
        let text = format!("{}: the recovery key opens it\n", args.file.display());
        reporter.data(
            &text,
            &json!({ "event": "done", "volume": args.file, "opens": true }),
        )?;
    } else {
        let seal = reseal::said(opened.header(), &args.seal, args.pcr_signature.as_deref())?;
        let unlock = Unlock::Recovery {
            key: &key,
            expected: args.volume_key,
        };
        let wish = Wish {
            volume: &args.file,
            uuid: header.uuid_bytes(),
            // It was opened by its recovery key.
            recoverable: true,
            to: &args.escrow_to,
            file: args.escrow_file.as_deref(),
            device: device.as_ref(),
        };
        let new = reseal::New {
            seal: &seal,
            tcti: args.tcti.as_ref(),
            // Another TPM counts from elsewhere, so what the volume had binds nobody.
            generation: generation::wanted(&args.generation, None, args.tcti.as_ref())?,
        };
        let done = reseal::anew(unlock, &new, &wish)?;
        reseal::tell(&args.file, &seal, &done, reporter)?;
    }
    if args.show {
        show(&key, reporter)?;
    }
    Ok(())
}

fn key(
    args: &RecoverArgs,
    uuid: Option<[u8; 16]>,
    reporter: &mut dyn Reporter,
) -> Result<(RecoveryKey, Option<DeviceId>), Failure> {
    if let Some(from) = &args.recovery_key_file {
        return Ok((secrets::recovery_key(from)?, None));
    }
    let Some(identity) = &args.identity else {
        return Err(usage(
            "no key is named",
            "--identity FILE or --recovery-key-file FILE",
        ));
    };
    let identities = Identities::parse(&secrets::raw(identity)?).map_err(|e| Failure::NotEvidence {
        what: "age identity file",
        path: identity.clone(),
        source: e.into(),
    })?;
    let at = args.escrow_file.clone();
    let at = at.unwrap_or_else(|| escrows::beside(&args.file));
    let uuid = uuid.ok_or_else(|| unopened(&args.file, "its UUID is not one of the usual form"))?;
    let escrowed = escrow::open(&escrows::read(&at)?, &identities).map_err(|e| unopened(&at, e))?;
    let device = escrowed.of().device.clone();
    reporter.note(&format!("the escrow file is of the device {device}"));
    let key = escrowed.for_volume(uuid, None).map_err(|e| unopened(&at, e))?;
    Ok((key, Some(device)))
}

/// The key alone on a line: what was asked for.
fn show(key: &RecoveryKey, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    key.expose(|text| {
        let text = String::from_utf8_lossy(text);
        let json = json!({ "event": "recovery-key", "key": text });
        let line = Zeroizing::new(format!("{text}\n"));
        reporter.data(&line, &json)
    })
}
