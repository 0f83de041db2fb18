//! Every part of a policy on quoted values, and on what was attached to them.
//!
//! Owns: that all parts are judged, each on its own, so that a verdict has all that is wrong.

use crate::{
    appraise::Attachments,
    explain::explain,
    failure::Failure,
    policy::{PcrPolicy, SetName},
    quoted::Quoted,
    rules::{self, Refused},
    statement::{self, Release},
};

/// What the PCRs turned out to be.
#[derive(Debug, Clone)]
pub(crate) struct Recognised {
    pub(crate) golden_set: Option<SetName>,
    pub(crate) release: Option<Release>,
}

impl PcrPolicy {
    /// Judges all parts and adds what fails. `quoted` is `None` where no values were quoted that can be compared: then, as
    /// wherever a part could not be judged, nothing is recognised.
    pub(crate) fn recognise(
        &self,
        quoted: Option<Quoted<'_>>,
        attachments: Attachments<'_>,
        failures: &mut Vec<Failure>,
    ) -> Option<Recognised> {
        let mut golden_set = None;
        if let Some(quoted) = quoted {
            match quoted.compare(self) {
                Ok(found) => golden_set = found,
                Err(mut differences) => {
                    explain(&mut differences, self, quoted, attachments.event_log);
                    failures.append(&mut differences);
                }
            }
        }
        // A statement and a log are about PCRs of the policy: another selection has not them all.
        let mut ours = quoted.filter(|quoted| quoted.selection == self.selection());
        let mut release = None;
        if let Some(wanted) = self.statement() {
            let bank = self.selection().bank();
            match statement::judge(wanted, bank, attachments.image_statement, ours) {
                Ok(found) => release = found,
                Err(refused) => failures.extend(refused.into_iter().map(Failure::Statement)),
            }
        }
        if let Some(wanted) = self.log_rules() {
            let values = ours.and_then(|quoted| quoted.only(&wanted.pcrs()));
            ours = ours.filter(|_| values.is_some());
            match rules::judge(wanted, attachments.event_log, values.as_ref()) {
                Ok(()) => {}
                Err(Refused::Log(refused)) => failures.push(Failure::EventLog(refused)),
                Err(Refused::Rules(broken)) => failures.extend(broken.into_iter().map(Failure::Rule)),
            }
        }
        ours.map(|_| Recognised { golden_set, release })
    }
}
