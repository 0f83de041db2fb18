//! `ci/vm`: boots machines and says what held.
//!
//! Owns: the command line, what is printed and when, and the exit code: 0 everything held, 1 something did not, 2 wrong use. One thread for
//! each architecture: emulation takes a processor for each machine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use clap::Parser;
use vm_harness::arch::Arch;
use vm_harness::error::VmError;
use vm_harness::scenario::{ALL, Scenario};
use vm_harness::yard::Yard;

/// Boots virtual machines with Secure Boot and a TPM, and says what held in them.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// Only these, such as `amd64/opens`, or `opens` on every architecture that has it.
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// Say which there are, and run none.
    #[arg(long)]
    list: bool,
    /// Where packages, images, boots and artefacts are kept.
    #[arg(long, value_name = "DIR", default_value = "target/vm")]
    cache: PathBuf,
    /// The folder with provisioner and edge-client.
    #[arg(long, value_name = "DIR", default_value = "target/debug")]
    programs: PathBuf,
}

/// What came of everything so far.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        for (arch, scenario) in every() {
            out(&format!("{:<22} {}", named(arch, scenario), scenario.shows));
        }
        return ExitCode::SUCCESS;
    }
    let wanted = |arch, scenario: &Scenario| {
        args.scenarios.is_empty()
            || args
                .scenarios
                .iter()
                .any(|name| name == scenario.name || *name == named(arch, scenario))
    };
    let unknown = args.scenarios.iter().find(|name| {
        !every().any(|(arch, scenario)| **name == scenario.name || **name == named(arch, scenario))
    });
    if let Some(name) = unknown {
        say(&format!("error: there is no scenario {name}"));
        say("hint: ci/vm --list");
        return ExitCode::from(2);
    }
    // Absolute: QEMU and swtpm run in other folders.
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or(path.to_owned());
    let (cache, programs) = (absolute(&args.cache), absolute(&args.programs));
    let began = Instant::now();
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let chosen: Vec<&Scenario> = every()
                .filter(|(on, scenario)| *on == arch && wanted(arch, scenario))
                .map(|(_, scenario)| scenario)
                .collect();
            if !chosen.is_empty() {
                let (tally, cache, programs) = (&tally, &cache, &programs);
                scope.spawn(move || all_of(arch, &chosen, cache, programs, tally));
            }
        }
    });
    let Tally { passed, failed } = tally.into_inner().unwrap_or_default();
    // As cargo-nextest says it: ci/test counts by this line.
    say(&format!(
        "     Summary [{:>8.3}s] {} tests run: {passed} passed, {failed} failed",
        began.elapsed().as_secs_f64(),
        passed + failed
    ));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn every() -> impl Iterator<Item = (Arch, &'static Scenario)> {
    ALL.iter()
        .flat_map(|scenario| scenario.on.iter().map(move |arch| (*arch, scenario)))
}

fn named(arch: Arch, scenario: &Scenario) -> String {
    format!("{arch}/{}", scenario.name)
}

/// Makes the architecture's machines, then runs its scenarios in order.
fn all_of(arch: Arch, chosen: &[&Scenario], cache: &Path, programs: &Path, tally: &Mutex<Tally>) {
    let began = Instant::now();
    let step = |what: &str| {
        say(&format!(
            "      {:>6.1}s  {arch}: {what}",
            began.elapsed().as_secs_f64()
        ));
    };
    let yard = Yard::build(arch, cache, programs, &step);
    for scenario in chosen {
        let began = Instant::now();
        let result = match &yard {
            Ok(yard) => scenario.run(yard),
            // Said once is enough; each of them failed.
            Err(_) => Err(VmError::Ours("there is no machine".to_owned())),
        };
        let (word, why) = match &result {
            Ok(()) => ("PASS", String::new()),
            Err(why) => ("FAIL", format!("\n{why}")),
        };
        let took = began.elapsed().as_secs_f64();
        say(&format!("{word} [{took:>6.1}s]  {}{why}", named(arch, scenario)));
        if let Ok(mut tally) = tally.lock() {
            *(if result.is_ok() {
                &mut tally.passed
            } else {
                &mut tally.failed
            }) += 1;
        }
    }
    match yard {
        Ok(yard) => step(&format!("consoles and logs are in {}", yard.runs.display())),
        Err(why) => say(&format!("error: {arch}: {why}")),
    }
}

#[expect(clippy::print_stderr, reason = "this is the harness's reporter")]
fn say(text: &str) {
    eprintln!("{text}");
}

#[expect(clippy::print_stdout, reason = "this is the harness's reporter")]
fn out(text: &str) {
    println!("{text}");
}
