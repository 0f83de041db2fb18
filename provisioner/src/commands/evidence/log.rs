//! `provisioner evidence log`: what an event log says.

use std::path::Path;

use evidence::EventLog;

use super::{not_evidence, read};
use crate::{
    boot::{as_node, as_table},
    commands::Answer,
    failure::Failure,
    report::Reporter,
};

pub(super) fn run(path: &Path, yaml: bool, reporter: &mut dyn Reporter) -> Result<Answer, Failure> {
    let bytes = read(path)?;
    let log = EventLog::parse(&bytes).map_err(|error| not_evidence("event log", path, error))?;
    let node = as_node(&log);
    let text = if yaml { node.to_yaml() } else { as_table(&log) };
    reporter.data(&text, &node.to_json())?;
    Ok(Answer::Done)
}
