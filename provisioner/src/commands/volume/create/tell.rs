//! What is told of volumes that would be written, and of those that were.

use std::path::PathBuf;

use domain::Generation;
use serde_json::json;
use volume::Created;

use super::{
    ask::{cipher, sector},
    make::Made,
};
use crate::{
    cli::CreateArgs,
    commands::volume::targets::Target,
    escrow,
    failure::Failure,
    report::Reporter,
    sealing::{self, Seal},
};

pub(super) fn tell_plan(
    args: &CreateArgs,
    size: u64,
    escrows: &[PathBuf],
    reporter: &mut dyn Reporter,
) -> Result<(), Failure> {
    let sealed = if args.otp {
        "this machine's OTP device key".to_owned()
    } else {
        Seal::of_args(&args.seal, args.pcr_signature.as_deref())?
            .wish()
            .words()
    };
    let mut text = String::new();
    for (nth, target) in args.targets.iter().enumerate() {
        text.push_str(&format!(
            "would write {}\n  size    {size} bytes, {} in sectors of {} bytes\n  sealed  to {sealed}\n",
            target.display(),
            cipher(args.cipher).name(),
            sector(args.sector_size).bytes(),
        ));
        if let Some(escrow) = escrows.get(nth) {
            text.push_str(&format!("  escrow  {}\n", escrow.display()));
        }
    }
    let json = json!({
        "dry-run": true,
        "targets": args.targets,
        "size": size,
        "cipher": cipher(args.cipher).name(),
        "sealed": sealed,
        "escrow": escrows,
    });
    reporter.data(&text, &json)
}

pub(super) fn told(
    args: &CreateArgs,
    size: u64,
    generation: Option<Generation>,
    target: &Target,
    made: &Made,
    created: Created,
) -> (String, serde_json::Value) {
    let uuid = escrow::uuid(made.uuid);
    let seen = if args.otp {
        "derived twice and compared"
    } else {
        sealing::seen(made.read_back)
    };
    let mut text = format!(
        "volume {}\n  uuid    {uuid}\n  size    {size} bytes, {} in sectors of {} bytes\n  key     {} (SHA-256)\n  seal    {seen}\n",
        target.path.display(),
        cipher(args.cipher).name(),
        sector(args.sector_size).bytes(),
        created.volume_key_digest,
    );
    if let Some(generation) = generation {
        text.push_str(&format!("  age     generation {generation}\n"));
    }
    if let Some(escrow) = &made.escrow {
        text.push_str(&format!("  escrow  {}\n", escrow.display()));
    }
    let json = json!({
        "target": target.path,
        "uuid": uuid,
        "device": made.device,
        "size": size,
        "cipher": cipher(args.cipher).name(),
        "sector-size": sector(args.sector_size).bytes(),
        "volume-key": created.volume_key_digest,
        "seal": seen,
        "generation": generation.map(|generation| generation.0),
        "escrow": made.escrow,
    });
    (text, json)
}
