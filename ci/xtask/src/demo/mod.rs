//! The demo: the whole line on one machine, from a bare TPM to an answered question, and then who is kept out.
//!
//! Owns: the order of the steps, and what is printed of them. Real programs do every step; the runner only starts them, shows what they say and
//! compares the refusals with what the contract promises. It never holds the device's key. Limits today: one device, one question.

mod parts;
mod refusals;
mod report;
mod tools;
mod yard;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::demo::parts::Parts;
use crate::demo::refusals::Case;
use crate::demo::report::{Report, Style};
use crate::demo::tools::{Ended, Programs, Voice, run_watching};
use crate::demo::yard::Yard;

const QUESTION: &str = "Which platform does the train to Bern leave from?";
const DEVICE: &str = "kiosk-bern-01";
/// As the example manifest's comments say: what "the boot" of this software TPM measures, by PCR.
const MEASURED: [(u8, &str); 2] = [
    (7, "signalbox demo: secure boot state"),
    (11, "signalbox demo: kernel image"),
];

/// How long the proxy may take to notice a new device.
const NOTICED: Duration = Duration::from_secs(10);

/// How to run it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Keep the registry in a real etcd instead of SQLite.
    #[arg(long)]
    etcd: bool,
    /// A scripted model: no weights, seconds.
    #[arg(long)]
    scripted: bool,
    /// Leave everything running and print the commands to explore it.
    #[arg(long)]
    keep: bool,
    /// End with one JSON object on stdout; everything else goes to stderr.
    #[arg(long)]
    json: bool,
    /// The real model's GGUF file, as `ci/model` prints it.
    #[arg(long, value_name = "GGUF", required_unless_present_any = ["scripted"], conflicts_with = "scripted")]
    weights: Option<PathBuf>,
}

/// Why the demo ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("{0}: {1}")]
    Folder(String, io::Error),
    #[error("{0} is not in {1}; ci/demo builds it first")]
    NotBuilt(&'static str, PathBuf),
    #[error("cannot run {0}: {1}")]
    Start(String, io::Error),
    #[error("{0} did not become ready; its last words:\n{1}")]
    NotReady(String, String),
    #[error("{0} failed (exit code {1:?}):\n{2}")]
    Failed(String, Option<i32>, String),
    #[error("{0}")]
    Other(String),
}

/// Runs it; exit code 0, or 1 with what failed.
pub(crate) fn run(root: &Path, options: &Options) -> ExitCode {
    let report = Report::new(options.json);
    match play(root, options, &report) {
        Ok(outcome) => outcome.tell(options.json, &report),
        Err(problem) => {
            report.line(&format!("\n{} {problem}", report.styled(Style::Bad, "failed:")));
            if options.json {
                Report::json(&json!({"error": problem.to_string()}));
            }
            ExitCode::FAILURE
        }
    }
}

/// What is left to say at the end.
struct Outcome {
    registry: String,
    answer: String,
    session: Value,
    refusals: Vec<(Case, String)>,
    /// With `--keep`: what can be typed now.
    running: Vec<String>,
}

impl Outcome {
    fn tell(&self, as_json: bool, report: &Report) -> ExitCode {
        let wrong: Vec<String> = self
            .refusals
            .iter()
            .filter(|(case, code)| case.expected() != code)
            .map(|(case, code)| format!("{}: expected {}, got {code}", case.key(), case.expected()))
            .collect();
        report.line(&format!("\n{}", report.styled(Style::Bold, "Summary")));
        report.good("one device admitted", DEVICE);
        report.good(
            "answered",
            &format!("{} characters", self.answer.trim().chars().count()),
        );
        report.good(
            "kept out",
            &format!(
                "{} of {} cases",
                self.refusals.len() - wrong.len(),
                self.refusals.len()
            ),
        );
        for problem in &wrong {
            report.line(&format!("   {} {problem}", report.styled(Style::Bad, "failed:")));
        }
        if !self.running.is_empty() {
            report.line("\nEverything is still running. To explore it, and at last to end it:");
        }
        for command in &self.running {
            report.command(command);
        }
        if as_json {
            let refusals: serde_json::Map<String, Value> = self
                .refusals
                .iter()
                .map(|(case, code)| (case.key().to_owned(), json!(code)))
                .collect();
            Report::json(&json!({
                "device": DEVICE, "registry": self.registry, "answer": self.answer.trim(), "session": self.session,
                "refusals": refusals,
            }));
        }
        if wrong.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

fn play(root: &Path, options: &Options, report: &Report) -> Result<Outcome, DemoError> {
    let programs = Programs::find()?;
    let yard = Yard::open(options.keep)?;
    report.line(&report.styled(
        Style::Bold,
        "Signalbox: from a bare TPM to an answered question, and who is kept out",
    ));

    report.step(
        1,
        "What is there: a TPM, a model, a registry, and the proxy in front of the model",
    );
    let parts = Parts::start(root, &programs, &yard, options, report)?;

    report.step(
        2,
        "The device boots: its firmware measures what it runs into the TPM",
    );
    boot(&parts, report)?;

    report.step(
        3,
        "The device is provisioned: keys in the TPM, a sealed volume, an entry in the registry",
    );
    provision(&programs, &parts, report)?;

    report.step(
        4,
        "The device asks: the volume opens through the TPM, a quote opens a session, the model answers",
    );
    let (answer, session) = ask(&programs, &parts, options.json, report)?;

    report.step(
        5,
        "Who is kept out, and why: the operator's log says it, the answer to the stranger does not",
    );
    let refusals = refusals::all(&programs, &parts, &yard, report)?;

    let mut running = Vec::new();
    if options.keep {
        report.step(
            6,
            "The device reboots into what it was, so that you find it working",
        );
        parts.power_cycle()?;
        boot(&parts, report)?;
        running = explore(&programs, &parts, &yard);
    }
    Ok(Outcome {
        registry: parts.registry.clone(),
        answer,
        session,
        refusals,
        running,
    })
}

fn boot(parts: &Parts, report: &Report) -> Result<(), DemoError> {
    for (pcr, what) in MEASURED {
        parts.extend(pcr, what)?;
        report.good(&format!("PCR {pcr} extended"), &format!("\"{what}\""));
    }
    Ok(())
}

fn provision(programs: &Programs, parts: &Parts, report: &Report) -> Result<(), DemoError> {
    let mut command = programs.command("provisioner");
    command
        .args(["apply", "--yes"])
        .args(parts.provisioner_arguments())
        .arg(&parts.manifest);
    report.command(&format!("provisioner apply {}", parts.manifest_shown()));
    let ended = run_watching(&mut command, |voice, text| match voice {
        Voice::Stdout => report.quoted(text),
        Voice::Stderr => report.faint(text),
    })?;
    match ended.code {
        Some(0) => Ok(()),
        code => Err(DemoError::Failed(
            "provisioner apply".to_owned(),
            code,
            String::new(),
        )),
    }
}

/// Returns the answer and what the client says of its session. As text the answer is shown as it comes; as JSON it comes at once.
fn ask(
    programs: &Programs,
    parts: &Parts,
    as_json: bool,
    report: &Report,
) -> Result<(String, Value), DemoError> {
    report.command(&format!("edge-client ask \"{QUESTION}\""));
    let deadline = Instant::now() + NOTICED;
    let ended = loop {
        let ended = ask_once(programs, parts, as_json, report)?;
        // The proxy looks at an SQLite registry every now and then; a person would not have been so quick.
        let early = ended.code == Some(3) && ended.stderr.contains("psk-unknown");
        if !early || Instant::now() > deadline {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(250));
    };
    if ended.code != Some(0) {
        return Err(DemoError::Failed(
            "edge-client ask".to_owned(),
            ended.code,
            ended.stderr,
        ));
    }
    if !as_json {
        return Ok((ended.stdout, Value::Null));
    }
    let said: Value = serde_json::from_str(ended.stdout.trim())
        .map_err(|why| DemoError::Other(format!("edge-client ask --json: {why}: {}", ended.stdout)))?;
    let field = |name| said.get(name).cloned().unwrap_or_default();
    let answer = field("answer").as_str().unwrap_or_default().to_owned();
    report.quoted(&answer);
    Ok((answer, field("session")))
}

fn ask_once(programs: &Programs, parts: &Parts, as_json: bool, report: &Report) -> Result<Ended, DemoError> {
    let mut command = programs.command("edge-client");
    command
        .args(["ask", "--verbose"])
        .args(parts.client_arguments())
        .arg(QUESTION);
    if as_json {
        command.arg("--json");
    }
    let mut at_start = true;
    let ended = run_watching(&mut command, |voice, text| match voice {
        Voice::Stderr => report.faint(text),
        Voice::Stdout if as_json => {}
        Voice::Stdout => {
            let indent = if std::mem::take(&mut at_start) {
                "     "
            } else {
                ""
            };
            report.raw(&format!("{indent}{text}"));
        }
    })?;
    Ok(ended)
}

/// Commands for a person who kept everything running; the last one ends it.
fn explore(programs: &Programs, parts: &Parts, yard: &Yard) -> Vec<String> {
    let path = |name: &str| programs.path(name).display().to_string();
    let (provisioner, client) = (path("provisioner"), path("edge-client"));
    let arguments = parts.client_arguments().join(" ");
    let pids: Vec<String> = yard.processes().iter().map(u32::to_string).collect();
    vec![
        format!("{client} ask {arguments} \"{QUESTION}\""),
        format!("{client} doctor {arguments}"),
        format!(
            "{provisioner} device list --fleet demo --registry {}",
            parts.registry
        ),
        format!("tail -f {}", yard.log("attest-proxy").display()),
        format!("TPM2TOOLS_TCTI={} tpm2_pcrread sha256:7,11", parts.tcti),
        format!("kill {} && rm -r {}", pids.join(" "), yard.folder().display()),
    ]
}
