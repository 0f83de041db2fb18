//! `volume create`: encrypted volumes of a folder or an image, each sealed for its device.
//!
//! Owns: the order. Everything that can be refused is refused first; the image is made once; each secret is sealed, and where the
//! TPM is here, unsealed and compared; recovery keys are in escrow, synced, before any volume is written; then all volumes are
//! written at once, synced, and opened again with their secrets. What was made for a volume that was not written goes away.
//! Limits: a kill leaves escrow files of volumes that are not there; the next run names them and stops.

mod ask;
mod make;
mod tell;

use std::path::Path;

use domain::Generation;
use serde_json::json;
use volume::{Created, Existing, Image, Options, Output, Volume};

use self::make::Made;
use super::{
    file_fault,
    targets::{self, Target},
    uncreated, usage,
};
use crate::{
    adapters::escrows,
    cli::CreateArgs,
    escrow::{self, Recipients, Subject},
    failure::Failure,
    report::Reporter,
};

/// Random bytes for one volume.
type Fill<'a> = Box<dyn FnMut(&mut [u8]) + 'a>;

pub(super) fn run(args: &CreateArgs, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let recipients = match args.escrow.escrow_to.as_slice() {
        [] => None,
        keys => {
            Some(Recipients::parse(keys).map_err(|e| usage(e.to_string(), "age-keygen makes such keys"))?)
        }
    };
    let devices = ask::devices(args, recipients.is_some())?;
    let size = ask::size(args)?;
    if size <= ask::HEADER {
        return Err(usage(
            format!("a volume of {size} bytes has no room for data"),
            "its header alone has 16 MiB: leave --size out, or give it some more",
        ));
    }
    for target in &args.targets {
        targets::look(target, size)?;
    }
    let escrows = ask::escrow_files(args)?;
    if args.dry_run {
        return tell::tell_plan(args, size, &escrows, reporter);
    }
    let entropy = ask::entropy(args)?;
    let generation = ask::generation(args)?;
    let mut sealer = make::sealer(args)?;
    if recipients.is_none() {
        reporter.note("no --escrow-to: when the TPM or the board is gone, so is what is in the volume");
    }
    let image = ask::image(args, size, &entropy)?;
    let mut all = Vec::new();
    for (nth, path) in args.targets.iter().enumerate() {
        let target = Target::open(path)?;
        let stream = entropy.stream(&format!("volume {nth}"));
        let device = devices.get(nth).cloned().flatten();
        let made = make::make(
            args,
            &mut sealer,
            nth,
            device,
            stream,
            recipients.is_some(),
            reporter,
        )?;
        // Refused here and not after the key is in escrow.
        volume::refuse_target(&target.file, size).map_err(|e| uncreated(path, e))?;
        all.push((target, made));
    }
    // Only now may the TPM be let go: it serves one at a time.
    drop(sealer);
    if let Some(recipients) = &recipients {
        for ((_, made), at) in all.iter_mut().zip(&escrows) {
            put_into_escrow(recipients, made, at)?;
        }
    }
    write(args, size, generation, &image, all, reporter)
}

/// Encrypts a recovery key and syncs it.
fn put_into_escrow(recipients: &Recipients, made: &mut Made, at: &Path) -> Result<(), Failure> {
    let (Some(key), Some(device)) = (&made.recovery, &made.device) else {
        return Ok(());
    };
    let of = Subject {
        device: device.clone(),
        volume: made.uuid,
    };
    let text = escrow::seal(recipients, &of, key).map_err(|e| uncreated(at, e))?;
    escrows::write(at, &text, false)?;
    made.escrow = Some(at.to_owned());
    Ok(())
}

fn write(
    args: &CreateArgs,
    size: u64,
    generation: Option<Generation>,
    image: &Image,
    mut all: Vec<(Target, Made)>,
    reporter: &mut dyn Reporter,
) -> Result<(), Failure> {
    let outcome = {
        let progress = reporter.progress("writing");
        let outputs = all.iter_mut().map(|(target, made)| {
            let Made {
                uuid,
                key,
                secret,
                token,
                recovery,
                stream,
                ..
            } = made;
            (
                target,
                *uuid,
                &*key,
                &*secret,
                &**token,
                recovery.as_ref(),
                stream,
            )
        });
        let mut outputs: Vec<_> = outputs.collect();
        let mut fills: Vec<Fill<'_>> = Vec::new();
        let mut volumes = Vec::new();
        for (target, uuid, volume_key, secret, token, recovery, stream) in &mut outputs {
            volumes.push((
                &target.file,
                Volume {
                    uuid: *uuid,
                    label: &args.label,
                    size,
                    existing: Existing::Refuse,
                    options: Options {
                        cipher: ask::cipher(args.cipher),
                        sector_size: ask::sector(args.sector_size),
                        authenticate_content: args.authenticate_content,
                        recovery: *recovery,
                        generation,
                    },
                    volume_key,
                    secret,
                    token: *token,
                },
            ));
            fills.push(Box::new(|room: &mut [u8]| stream.fill(room)));
        }
        let outputs = volumes.into_iter().zip(&mut fills);
        let outputs = outputs.map(|((target, volume), entropy)| Output {
            target,
            volume,
            entropy: &mut **entropy,
        });
        volume::write(image, outputs.collect(), &*progress)
    };
    let mut text = String::new();
    let mut done = Vec::new();
    let mut failed = None;
    for ((mut target, made), created) in all.into_iter().zip(outcome) {
        match finish(&mut target, &made, created) {
            Ok(created) => {
                let (line, json) = tell::told(args, size, generation, &target, &made, created);
                text.push_str(&line);
                done.push(json);
            }
            Err(failure) => {
                // Nobody needs the key of a volume that is not there.
                if let Some(at) = &made.escrow {
                    let _gone = std::fs::remove_file(at);
                }
                failed = failed.or(Some(failure));
            }
        }
    }
    if !done.is_empty() {
        reporter.data(&text, &json!({ "event": "done", "volumes": done }))?;
    }
    failed.map_or(Ok(()), Err)
}

/// Syncs a volume and opens it once with its secret.
fn finish(
    target: &mut Target,
    made: &Made,
    created: Result<Created, volume::CreateError>,
) -> Result<Created, Failure> {
    let path = target.path.clone();
    let created = created.map_err(|e| uncreated(&path, e))?;
    made.stream.sound()?;
    let again = target.file.try_clone().map_err(file_fault("open", &path))?;
    let open = volume::open(again, &made.secret).map_err(|e| uncreated(&path, e))?;
    if open.volume_key_digest() != created.volume_key_digest {
        return Err(uncreated(&path, "it does not open as it was written"));
    }
    target.settle()?;
    Ok(created)
}
