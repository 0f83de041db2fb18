//! What each command does: settings, then the engine or one question, then the reporter.

mod apply;
mod device;
mod evidence;
mod inventory;
mod prepare;
#[cfg(test)]
pub(crate) use prepare::plan;
mod volume;

use std::path::Path;

use clap::CommandFactory as _;
use serde_json::json;

use crate::{
    cli::{Cli, Command},
    failure::Failure,
    report::Reporter,
    settings::Loaded,
};

/// What came of a command that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It did what was asked.
    Done,
    /// It judged what it was given, and against it; the reasons are in its output.
    Refused,
    /// What it looked at is broken; its output says where.
    Broken,
}

/// Does what was asked.
pub(crate) async fn run(command: Command, reporter: &mut dyn Reporter) -> Result<Answer, Failure> {
    match command {
        Command::Evidence(command) => return evidence::run(command, reporter),
        Command::Validate { manifest } => validate(&manifest, reporter),
        Command::Plan(args) => prepare::show(&args, reporter).await,
        Command::Apply(args) => apply::run(&args, reporter).await,
        Command::Device(command) => device::run(command, reporter).await,
        Command::Volume(command) => return volume::run(command, reporter),
        Command::Inventory(command) => inventory::run(command, reporter),
        Command::Schema => {
            let text = manifest::json_schema();
            let schema = serde_json::from_str(&text).unwrap_or_default();
            reporter.data(&text, &schema)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "provisioner", &mut script);
            let text = String::from_utf8_lossy(&script);
            reporter.data(&text, &json!({ "shell": shell.to_string(), "script": text }))
        }
    }?;
    Ok(Answer::Done)
}

fn validate(path: &Path, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let loaded = Loaded::read(path)?;
    // What the manifest only names has to be there.
    loaded.roots(&[])?;
    loaded.policy_keys(&[])?;
    loaded.certificates(&[])?;
    let fleet = loaded.fleet;
    let (policies, profiles, devices) = (fleet.policies.len(), fleet.profiles.len(), fleet.devices.len());
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let text = format!(
        "{}: fleet {} is valid: {}, {}, {}\n",
        path.display(),
        fleet.name,
        count(devices, "device", "devices"),
        count(profiles, "profile", "profiles"),
        count(policies, "policy", "policies"),
    );
    let json = json!({ "valid": true, "fleet": fleet.name, "devices": devices, "profiles": profiles, "policies": policies });
    reporter.data(&text, &json)
}
