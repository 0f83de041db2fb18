//! `cargo xtask bench`: runs a benchmark, prints what was measured beside what must be reached, and may keep it.
//!
//! Owns: the figures that must be reached, the table and docs/benchmarks.md. The measuring is the benchmark's own, in
//! `crates/evidence/benches`, `crates/volume/benches` and `ci/proxy-bench`. Refuses to judge a figure for which there is no demand.

mod host;
mod keylime;
mod proxy;
mod table;
mod volume;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use clap::{Args, Subcommand};
use serde::Deserialize;

use host::Host;
use keylime::Keylime;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The appraisal of quotes beside the bare signature check, and an event log.
    Evidence {
        /// Installs Keylime from PyPI into target/keylime and measures its verifier on the same quotes.
        #[arg(long)]
        keylime: bool,
        /// Keeps the result in docs/benchmarks.md.
        #[arg(long)]
        write: bool,
    },
    /// attest-proxy beside nginx, HAProxy, Envoy, ollamaMQ and a bare hyper proxy, each on one core.
    Proxy {
        /// Fewer and shorter rounds: to see that everything works, not for figures.
        #[arg(long)]
        quick: bool,
        /// Only these: nginx, nginx-log, haproxy, envoy, ollamamq, bare, psk, session, quotes, everything, streams, memory.
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        peers: Vec<String>,
        /// Where Envoy and ollamaMQ are, or are installed to; else `proxy-bench` in the target folder.
        #[arg(long, value_name = "DIR")]
        tools: Option<PathBuf>,
        /// Keeps the result in docs/benchmarks.md.
        #[arg(long)]
        write: bool,
    },
    /// Volumes beside `openssl speed`, a plain copy, `cryptsetup reencrypt` and another Adiantum.
    Volume {
        /// Keeps the result in docs/benchmarks.md.
        #[arg(long)]
        write: bool,
    },
}

/// What `benches/appraisal.rs` prints.
#[derive(Debug, Deserialize)]
pub(crate) struct Measured {
    pub(crate) turns: u32,
    pub(crate) turn_ms: u32,
    pub(crate) appraisals: Vec<Appraisal>,
    pub(crate) log: Log,
}

/// One key's scheme. Rates are per second on one core.
#[derive(Debug, Deserialize)]
pub(crate) struct Appraisal {
    pub(crate) vector: String,
    pub(crate) scheme: String,
    pub(crate) bare_per_second: f64,
    pub(crate) whole_per_second: f64,
    pub(crate) ratio: f64,
    pub(crate) bare_allocations: u64,
    pub(crate) whole_allocations: u64,
}

/// The event log. Times are in microseconds.
#[derive(Debug, Deserialize)]
pub(crate) struct Log {
    pub(crate) bytes: usize,
    pub(crate) events: usize,
    pub(crate) pcrs: usize,
    pub(crate) parsed_us: f64,
    pub(crate) replayed_us: f64,
    pub(crate) data_proven_us: f64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("cannot run {0}")]
    Run(&'static str, #[source] io::Error),
    #[error("{0} failed")]
    Failed(&'static str),
    #[error("the benchmark did not print what it should")]
    Output(#[source] serde_json::Error),
    #[error("cannot write {0}")]
    Write(&'static str, #[source] io::Error),
}

pub(crate) fn run(root: &Path, options: &Options) -> ExitCode {
    let reached = match options.what {
        What::Evidence { keylime, write } => evidence(root, keylime, write),
        What::Volume { write } => volume::run(root, write),
        What::Proxy {
            quick,
            ref peers,
            ref tools,
            write,
        } => proxy::run(
            root,
            &proxy::Wanted {
                write,
                quick,
                only: peers,
                tools: tools.as_deref(),
            },
        ),
    };
    match reached {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            table::complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Whether everything that must be reached is.
fn evidence(root: &Path, keylime: bool, write: bool) -> Result<bool, BenchError> {
    let host = Host::read(root);
    let arguments = [
        "bench",
        "--quiet",
        "--package",
        "evidence",
        "--bench",
        "appraisal",
    ];
    let printed = output(
        Command::new("cargo").args(arguments).current_dir(root),
        "cargo bench",
    )?;
    let measured: Measured = serde_json::from_slice(&printed).map_err(BenchError::Output)?;
    let beside = if keylime {
        keylime::measure(root, &measured)?
    } else {
        Vec::<Keylime>::new()
    };
    let (text, reached) = table::evidence(&host, &measured, &beside);
    table::show(&text);
    if write {
        keep(root, "Evidence", &text)?;
    }
    Ok(reached)
}

/// Puts a chapter into the document, where it is or behind the others. What stands before the chapter's own heading is the
/// document's.
fn keep(root: &Path, name: &str, text: &str) -> Result<(), BenchError> {
    const DOCUMENT: &str = "docs/benchmarks.md";
    let failed = |error| BenchError::Write(DOCUMENT, error);
    let path = root.join(DOCUMENT);
    let old = fs::read_to_string(&path).map_err(failed)?;
    fs::write(&path, chapters(&old, name, text)).map_err(failed)
}

fn chapters(old: &str, name: &str, text: &str) -> String {
    let heading = format!("## {name}\n");
    let new = text
        .find(&heading)
        .and_then(|at| text.get(at..))
        .unwrap_or(text)
        .trim_end();
    let mut parts = old.split("\n## ");
    let mut whole = parts.next().unwrap_or_default().trim_end().to_owned();
    let mut put = false;
    for part in parts {
        let part = format!("## {}", part.trim_end());
        whole.push_str("\n\n");
        if part.starts_with(&heading) {
            put = true;
            whole.push_str(new);
        } else {
            whole.push_str(&part);
        }
    }
    if !put {
        whole.push_str("\n\n");
        whole.push_str(new);
    }
    whole.push('\n');
    whole
}

/// Standard output of a program that succeeds; what it complains of is shown.
fn output(command: &mut Command, name: &'static str) -> Result<Vec<u8>, BenchError> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| BenchError::Run(name, error))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(BenchError::Failed(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chapter_replaces_itself_and_leaves_the_others() {
        let old = "# Benchmarks\n\n## Evidence\n\nold\n\n## Other\n\nstays\n";
        let new = chapters(old, "Evidence", "# Benchmarks\n\n## Evidence\n\nnew\n");
        assert_eq!(new, "# Benchmarks\n\n## Evidence\n\nnew\n\n## Other\n\nstays\n");
        let more = chapters(&new, "Volume", "## Volume\n\nmore\n");
        assert!(more.starts_with(new.trim_end()) && more.ends_with("stays\n\n## Volume\n\nmore\n"));
    }
}
