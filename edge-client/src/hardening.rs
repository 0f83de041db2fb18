//! What is forbidden to this process before it holds a secret.
//!
//! Owns: core dumps (`RLIMIT_CORE`) and attaching by other processes of the same user (`PR_SET_DUMPABLE`, prctl(2)).
//! Limits: root still reads our memory; swap is the operator's to encrypt.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// The kernel did not take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot forbid core dumps: {0}")]
pub(crate) struct HardeningError(rustix::io::Errno);

/// Forbids core dumps and debuggers.
pub(crate) fn forbid_core_dumps() -> Result<(), HardeningError> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(HardeningError)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(HardeningError)
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn the_kernel_says_so_too() {
        forbid_core_dumps().unwrap();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
