//! What the command line asks for, worked out before anything is made: sizes, names, content, randomness.

use std::{fs::File, path::PathBuf};

use domain::{DeviceId, Generation};
use volume::{DataCipher, FilesystemIds, Image, Owners, SectorSize};

use crate::{
    adapters::escrows,
    cli::{Cipher, CreateArgs, GenerationWish, Sector, Size},
    commands::volume::{
        entropy::{Entropy, MIN_SEED},
        file_fault, generation, targets, uncreated, usage,
    },
    escrow::random_uuid,
    failure::Failure,
    secrets,
};

/// Bytes of a volume that are not its data.
pub(super) const HEADER: u64 = 16 << 20;

/// The device of each target.
pub(super) fn devices(args: &CreateArgs, recoverable: bool) -> Result<Vec<Option<DeviceId>>, Failure> {
    if !args.devices.is_empty() && args.devices.len() != args.targets.len() {
        return Err(usage(
            format!(
                "{} --device for {} targets",
                args.devices.len(),
                args.targets.len()
            ),
            "name one for each target, in their order",
        ));
    }
    let named = |nth: usize, target: &PathBuf| {
        let name = target
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let stem = name.split('.').next().unwrap_or_default();
        args.devices.get(nth).cloned().or_else(|| stem.parse().ok())
    };
    let devices: Vec<_> = args
        .targets
        .iter()
        .enumerate()
        .map(|(nth, t)| named(nth, t))
        .collect();
    if (recoverable || args.otp) && devices.iter().any(Option::is_none) {
        return Err(usage(
            "a target's name is no device id, and one is needed for the escrow file or the OTP token",
            "--device ID, once for each target",
        ));
    }
    Ok(devices)
}

pub(super) fn size(args: &CreateArgs) -> Result<u64, Failure> {
    if let Some(Size(size)) = args.size {
        return Ok(size);
    }
    let mut smallest = None;
    for target in &args.targets {
        if let Some(len) = targets::device_len(target)? {
            let len = len & !0xfff;
            smallest = Some(smallest.map_or(len, |least: u64| least.min(len)));
        }
    }
    match (smallest, &args.content, &args.image) {
        (Some(len), _, _) => Ok(len),
        (None, Some(folder), _) => targets::size_for(folder),
        (None, None, Some(image)) => {
            let file = File::open(image).map_err(file_fault("open", image))?;
            let image = Image::of_file(file).map_err(file_fault("read", image))?;
            Ok(image
                .len()
                .next_multiple_of(4096)
                .saturating_add(HEADER)
                .max(32 << 20))
        }
        (None, None, None) => Err(usage("nothing goes in", "--content DIR or --image FILE")),
    }
}

pub(super) fn image(args: &CreateArgs, size: u64, entropy: &Entropy) -> Result<Image, Failure> {
    if let Some(path) = &args.image {
        let file = File::open(path).map_err(file_fault("open", path))?;
        return Image::of_file(file).map_err(file_fault("read", path));
    }
    let Some(folder) = &args.content else {
        return Err(usage("nothing goes in", "--content DIR or --image FILE"));
    };
    let mut stream = entropy.stream("file system");
    let ids = FilesystemIds {
        uuid: random_uuid(stream.draw()?),
        hash_seed: random_uuid(stream.draw()?),
    };
    let owners = if args.keep_owners {
        Owners::Keep
    } else {
        Owners::Root
    };
    let len = size.saturating_sub(HEADER);
    Image::of_folder(folder, owners, len, ids).map_err(|e| uncreated(folder, e))
}

pub(super) fn entropy(args: &CreateArgs) -> Result<Entropy, Failure> {
    let Some(path) = &args.seed_reproducible else {
        return Ok(Entropy::System);
    };
    Entropy::of_seed(&secrets::raw(path)?).ok_or_else(|| {
        usage(
            format!("a seed has {MIN_SEED} bytes or more"),
            "head -c 32 /dev/urandom makes one",
        )
    })
}

/// The escrow file of each target; none of them is there yet.
pub(super) fn escrow_files(args: &CreateArgs) -> Result<Vec<PathBuf>, Failure> {
    if args.escrow.escrow_to.is_empty() {
        return Ok(Vec::new());
    }
    let files: Vec<PathBuf> = match (&args.escrow.escrow_file, args.targets.len()) {
        (Some(file), 1) => vec![file.clone()],
        (Some(_), _) => {
            return Err(usage(
                "one --escrow-file for several targets",
                "leave it out: each target then has its own beside it",
            ));
        }
        (None, _) => args
            .targets
            .iter()
            .map(|target| escrows::beside(target))
            .collect(),
    };
    match files.iter().find(|file| file.symlink_metadata().is_ok()) {
        Some(there) => Err(usage(
            format!("'{}' is there already", there.display()),
            "it may be the only way into a volume: move it away first",
        )),
        None => Ok(files),
    }
}

/// The generation of all of them.
pub(super) fn generation(args: &CreateArgs) -> Result<Option<Generation>, Failure> {
    match args.generation.generation {
        Some(_) if args.otp => Err(usage(
            "a volume of an OTP device key has no generation: nothing counts there",
            "leave --generation out",
        )),
        Some(GenerationWish::Next) if !args.srk_public.is_empty() => Err(usage(
            "the TPM that counts is not here",
            "name the generation: `--generation N`, above what that TPM's counter has",
        )),
        _ => generation::wanted(&args.generation, None, args.tcti.as_ref()),
    }
}

pub(super) const fn cipher(cipher: Cipher) -> DataCipher {
    match cipher {
        Cipher::AesXts => DataCipher::AesXts,
        Cipher::Adiantum => DataCipher::Adiantum,
    }
}

pub(super) const fn sector(sector: Sector) -> SectorSize {
    match sector {
        Sector::B512 => SectorSize::B512,
        Sector::B4096 => SectorSize::B4096,
    }
}
