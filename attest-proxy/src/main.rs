//! `attest-proxy`, the program: no core dumps, all descriptors, then the command line.

use std::process::ExitCode;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// A request makes some thirty allocations, a few of them of kilobytes, which glibc's allocator merges and splits again each time
/// and musl's does worse.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Keys and pre-shared keys are in memory: no core file, and no reading of /proc/PID/mem by the same user. Where the
    // system refuses the one, the other still holds.
    let _ = setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    );
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // A connection is a descriptor: as many as the system lets us have.
    let descriptors = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: descriptors.maximum,
            ..descriptors
        },
    );
    attest_proxy::cli::run()
}
