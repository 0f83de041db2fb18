//! Which generation a volume gets, and the TPM's counter that it will be compared with.
//!
//! Owns: that `next` is above the counter and, where the volume stays in its TPM, above what the volume had; that no volume gets an older
//! generation than it has. The counter is made here where there is none; it is `edge-client` that raises it, when it opens the volume:
//! a volume that was never written shuts nothing out.

use domain::Generation;
use tpm::{RollbackError, Tcti};

use super::{opening, usage};
use crate::{
    cli::{GenerationArgs, GenerationWish},
    failure::Failure,
};

/// The generation that the command line asks for; `None` where it asks for none. `own`: the volume's, in this TPM.
pub(super) fn wanted(
    args: &GenerationArgs,
    own: Option<Generation>,
    tcti: Option<&Tcti>,
) -> Result<Option<Generation>, Failure> {
    let wanted = match args.generation {
        None => return Ok(None),
        Some(GenerationWish::Number(number)) => number,
        Some(GenerationWish::Next) => {
            let mut tpm = opening::open_tpm(tcti)?;
            let counted = tpm.define_generation(args.index()).map_err(uncounted)?;
            own.map_or(counted, |own| own.max(counted)).next()
        }
    };
    match own.filter(|own| *own > wanted) {
        Some(own) => Err(usage(
            format!("the volume is of generation {own}, and would become one of {wanted}"),
            "a generation only grows; `--generation next`",
        )),
        None => Ok(Some(wanted)),
    }
}

fn uncounted(error: RollbackError) -> Failure {
    match error {
        RollbackError::Tpm(error) => Failure::BareTpm(error),
        other => usage(
            other.to_string(),
            other.hint().unwrap_or("--rollback-counter NV-INDEX"),
        ),
    }
}
