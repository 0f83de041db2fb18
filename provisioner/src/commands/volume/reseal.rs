//! `volume reseal`: another way in for the same volume, and the end of the old one.
//!
//! Owns: that a new secret is sealed, unsealed and compared before anything of the volume is written, that the volume then opens
//! with it, and that what is not said stays as it was: as the token says that the TPM has just released it under, and no other, since who
//! can write the disk can write tokens. Stopped at any byte the volume opens with the old secret or the new one,
//! which is `volume::rekey`'s work. The recovery key stays, unless a new one is asked for; a new one alone leaves the seal as it is.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
};

use domain::{Generation, SealedSecret};
use serde_json::json;
use tpm::{ReadBack, Tcti};
use volume::{Header, NewKeys, Unlock, rekey};

use super::{
    entropy::{Entropy, Stream},
    file_fault, generation,
    opening::{self, Key},
    rotation::{Rotation, Wish},
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
    let wish = Wish {
        volume: &args.file,
        uuid: opened.volume.header().uuid_bytes(),
        recoverable: !opened.volume.header().recovery_keyslots().is_empty(),
        to: &args.escrow.escrow_to,
        file: args.escrow.escrow_file.as_deref(),
        device: args.device.as_ref(),
    };
    let generation = generation::wanted(
        &args.generation,
        opened.volume.generation(),
        args.open.tcti.as_ref(),
    )?;
    if !args.seal.says() && !args.escrow.escrow_to.is_empty() && generation.is_none() {
        // The way in stays: what opens it may be something that this machine cannot seal to.
        return recovery_alone(&wish, unlock, reporter);
    }
    let signature = args.open.pcr_signature.as_deref();
    let seal = match &opened.token {
        Some(token) if !args.seal.says() => Seal::as_before(token, opened.pin, &args.seal, signature)?,
        _ => said(opened.volume.header(), &args.seal, signature)?,
    };
    let new = New {
        seal: &seal,
        tcti: args.open.tcti.as_ref(),
        generation,
    };
    let done = anew(unlock, &new, &wish)?;
    tell(&args.file, &seal, &done, reporter)
}

/// Gives the volume another recovery key and nothing else.
fn recovery_alone(wish: &Wish<'_>, unlock: Unlock<'_>, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let path = wish.volume;
    let mut stream = Entropy::System.stream("recovery");
    let (_, escrow) = change(wish, unlock, NewKeys::default(), &mut stream)?;
    let file = escrow.unwrap_or_default();
    let text = format!("volume {}\n  escrow  {}\n", path.display(), file.display());
    let json = json!({ "event": "done", "volume": path, "escrow": file });
    reporter.data(&text, &json)
}

/// What the command line asks for. What the header says of the seal is told and not done: no secret that opens the volume without its TPM
/// authenticates it.
pub(super) fn said(
    header: &Header,
    args: &SealArgs,
    signature: Option<&Path>,
) -> Result<Seal<'static>, Failure> {
    match header.sealed_tokens().first() {
        Some(token) if !args.says() => Err(usage(
            "nothing authenticates what the header says of its seal, so the new one has to be named",
            &format!("if the header is right: {}", sealing::options(token)),
        )),
        _ => Seal::of_args(args, signature),
    }
}

/// What a volume is given to.
pub(super) struct New<'a> {
    pub(super) seal: &'a Seal<'a>,
    /// The TPM at hand.
    pub(super) tcti: Option<&'a Tcti>,
    /// The generation, if it is to be another one.
    pub(super) generation: Option<Generation>,
}

/// What became of a volume.
pub(super) struct Resealed {
    read_back: ReadBack,
    sequence: u64,
    generation: Option<Generation>,
    escrow: Option<PathBuf>,
}

/// Seals a new secret in the TPM at hand and gives the volume to it.
pub(super) fn anew(unlock: Unlock<'_>, new: &New<'_>, wish: &Wish<'_>) -> Result<Resealed, Failure> {
    let path = wish.volume;
    let mut stream = Entropy::System.stream("reseal");
    let secret = SealedSecret::try_fill(|room| stream.try_fill(room))?;
    let (token, read_back) = {
        let mut tpm = opening::open_tpm(new.tcti)?;
        new.seal.here(&mut tpm, &secret, stream.draw()?)?
    };
    let keys = NewKeys {
        sealed: Some((&secret, &token)),
        recovery: None,
        generation: new.generation,
    };
    let (sequence, escrow) = change(wish, unlock, keys, &mut stream)?;
    let again = File::open(path).map_err(file_fault("open", path))?;
    let volume = volume::open(again, &secret).map_err(|e| unchanged(path, e))?;
    Ok(Resealed {
        read_back,
        sequence,
        generation: volume.generation(),
        escrow,
    })
}

/// Gives a volume other keys; the number of the new header, and where its new recovery key is in escrow.
fn change(
    wish: &Wish<'_>,
    unlock: Unlock<'_>,
    keys: NewKeys<'_>,
    stream: &mut Stream,
) -> Result<(u64, Option<PathBuf>), Failure> {
    let path = wish.volume;
    // Before a new key is in escrow: a volume that cannot be written leaves no file behind.
    let target = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(file_fault("open", path))?;
    // Random bytes that are none are noticed before they are used: a kernel that gave some goes on giving.
    stream.sound()?;
    let rotation = Rotation::begin(wish, stream)?;
    let new = NewKeys {
        recovery: rotation.as_ref().map(|rotation| &rotation.key),
        ..keys
    };
    let rekeyed = rekey(&target, unlock, new, &mut |room| stream.fill(room)).map_err(|e| {
        if let Some(rotation) = &rotation {
            rotation.undo(&e);
        }
        unchanged(path, e)
    })?;
    stream.sound()?;
    let escrow = rotation.map(|rotation| rotation.finish(path)).transpose()?;
    Ok((rekeyed.seqid, escrow))
}

pub(super) fn tell(
    path: &Path,
    seal: &Seal<'_>,
    done: &Resealed,
    reporter: &mut dyn Reporter,
) -> Result<(), Failure> {
    let (sealed, seen) = (seal.wish().words(), sealing::seen(Some(done.read_back)));
    let mut text = format!(
        "volume {}\n  sealed  to {sealed}\n  seal    {seen}\n",
        path.display()
    );
    if let Some(generation) = done.generation {
        text.push_str(&format!("  age     generation {generation}\n"));
    }
    if let Some(escrow) = &done.escrow {
        text.push_str(&format!("  escrow  {}\n", escrow.display()));
    }
    let json = json!({
        "event": "done",
        "volume": path,
        "sealed": sealed,
        "seal": seen,
        "sequence": done.sequence,
        "generation": done.generation.map(|generation| generation.0),
        "escrow": done.escrow,
    });
    reporter.data(&text, &json)
}
