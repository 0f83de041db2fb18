//! `volume reseal`: another way in for the same volume, and the end of the old one.
//!
//! Owns: that a new secret is sealed, unsealed and compared before anything of the volume is written, that the volume then opens
//! with it, and that what is not said stays as it was. Stopped at any byte the volume opens with the old secret or the new one,
//! which is `volume::rekey`'s work. The recovery key stays.

use std::{
    fs::{File, OpenOptions},
    path::Path,
};

use domain::{Pin, SealedSecret};
use serde_json::json;
use tpm::{ReadBack, Tcti};
use volume::{Header, NewKeys, Unlock, rekey};

use super::{
    entropy::Entropy,
    file_fault,
    opening::{self, Key},
    unchanged, usage,
};
use crate::{
    cli::{ResealArgs, SealArgs},
    failure::Failure,
    report::Reporter,
    sealing::{self, Seal},
};

pub(super) fn run(args: &ResealArgs, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let opened = opening::open(&args.file, &args.open, reporter)?;
    let unlock = match &opened.key {
        Key::Sealed(secret) => Unlock::Sealed(secret),
        Key::Recovery(key) => Unlock::Recovery { key, expected: None },
        Key::Passphrase => {
            return Err(usage(
                "a passphrase authenticates no header: it is not enough to seal the volume anew",
                "open it by its TPM, or with --recovery-key-file",
            ));
        }
    };
    let seal = seal(
        opened.volume.header(),
        opened.pin,
        &args.seal,
        args.open.pcr_signature.as_deref(),
    )?;
    let done = anew(&args.file, unlock, &seal, args.open.tcti.as_ref())?;
    tell(&args.file, &seal, done, reporter)
}

/// What the command line asks for, or else what the volume had.
pub(super) fn seal(
    header: &Header,
    pin: Option<Pin>,
    args: &SealArgs,
    signature: Option<&Path>,
) -> Result<Seal<'static>, Failure> {
    match header.sealed_tokens().first() {
        Some(token) if !args.says() => Seal::as_before(token, pin, args, signature),
        _ => Seal::of_args(args, signature),
    }
}

/// What became of a volume.
#[derive(Clone, Copy)]
pub(super) struct Resealed {
    read_back: ReadBack,
    sequence: u64,
}

/// Seals a new secret in the TPM at hand and gives the volume to it.
pub(super) fn anew(
    path: &Path,
    unlock: Unlock<'_>,
    seal: &Seal<'_>,
    tcti: Option<&Tcti>,
) -> Result<Resealed, Failure> {
    let mut stream = Entropy::System.stream("reseal");
    let secret = SealedSecret::try_fill(|room| stream.try_fill(room))?;
    let (token, read_back) = {
        let mut tpm = opening::open_tpm(tcti)?;
        seal.here(&mut tpm, &secret, stream.draw()?)?
    };
    let target = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(file_fault("open", path))?;
    // Random bytes that are none are noticed before they are used: a kernel that gave some goes on giving.
    stream.sound()?;
    let new = NewKeys {
        sealed: Some((&secret, &token)),
        recovery: None,
        generation: None,
    };
    let rekeyed =
        rekey(&target, unlock, new, &mut |room| stream.fill(room)).map_err(|e| unchanged(path, e))?;
    stream.sound()?;
    let again = File::open(path).map_err(file_fault("open", path))?;
    volume::open(again, &secret).map_err(|e| unchanged(path, e))?;
    Ok(Resealed {
        read_back,
        sequence: rekeyed.seqid,
    })
}

pub(super) fn tell(
    path: &Path,
    seal: &Seal<'_>,
    done: Resealed,
    reporter: &mut dyn Reporter,
) -> Result<(), Failure> {
    let (sealed, seen) = (seal.wish().words(), sealing::seen(Some(done.read_back)));
    let text = format!(
        "volume {}\n  sealed  to {sealed}\n  seal    {seen}\n",
        path.display()
    );
    let json = json!({
        "event": "done",
        "volume": path,
        "sealed": sealed,
        "seal": seen,
        "sequence": done.sequence,
    });
    reporter.data(&text, &json)
}
