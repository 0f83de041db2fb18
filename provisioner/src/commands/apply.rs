//! `provisioner apply`: plan, ask where something cannot be undone, act.
//!
//! Owns: the question. Without a terminal, or with `--yes`, nothing is asked, and only `--confirm` with the digest of
//! this very plan lets such a step through.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use domain::Sha256Digest;
use registry::Absent;

use super::prepare::{self, Prepared};
use crate::{
    cli::ApplyArgs,
    engine,
    failure::Failure,
    plan::Plan,
    report::{Event, Reporter},
};

pub(super) async fn run(args: &ApplyArgs, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let Prepared {
        plan,
        mut ports,
        loaded,
    } = prepare::prepare(&args.plan).await?;
    if args.dry_run {
        return prepare::print(&plan, reporter);
    }
    let digest = args.confirm.or_else(|| ask(args, &plan));
    let confirmed = plan.confirm(digest.as_ref())?;
    // Only now may a registry be made where none was: a plan, and one that is refused, leaves nothing behind.
    let registry = loaded.registry(&args.plan.registry, Absent::Create).await?;
    let devices = engine::apply(&plan, &confirmed, &mut ports, &*registry, reporter).await?;
    reporter.event(&Event::Done { devices: &devices });
    Ok(())
}

/// On a terminal, shows a plan with steps that cannot be undone and takes its digest's beginning for a yes.
fn ask(args: &ApplyArgs, plan: &Plan) -> Option<Sha256Digest> {
    const ENOUGH: usize = 12;
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if args.yes || !terminal || !plan.is_irreversible() {
        return None;
    }
    let mut answer = String::new();
    let mut err = std::io::stderr();
    write!(err, "{plan}\nSome of this cannot be undone. Type the first {ENOUGH} digits of the plan's digest to go on: ").ok()?;
    err.flush().ok()?;
    std::io::stdin().lock().read_line(&mut answer).ok()?;
    let (answer, own) = (answer.trim(), plan.digest());
    (answer.len() >= ENOUGH && own.to_string().starts_with(answer)).then_some(own)
}
