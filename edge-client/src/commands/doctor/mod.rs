//! `edge-client doctor`: what works, in plain words, from the TPM to an open session.
//!
//! Owns: the order of the checks, each of which stands on those before it; one that cannot be made says on what it
//! waits. A missing TPM is no failure where the volume opens by an OTP device key and nothing asks for a quote. Exit 0 when all is well, 3 when the only thing in the way is a refusal, 1 otherwise.

mod finding;
mod local;
mod remote;

use serde_json::json;

use super::Common;
use crate::{
    error::{Error, Exit},
    report,
};
use finding::{Finding, State};

pub(crate) async fn run(common: &Common) -> Result<Exit, Error> {
    let mut findings = Vec::new();
    let spare = local::opens_without_tpm(common).await;
    local::tpm(common, spare, &mut findings).await;
    let device = local::volume(common, &mut findings).await;
    match &device {
        Some(device) => {
            local::attestation_key(common, device, spare, &mut findings).await;
            local::policy(common, device, &mut findings).await;
            local::attachments(common, &mut findings).await;
            remote::check(common, device, &mut findings).await;
        }
        None => {
            findings.extend(["key", "policy"].map(|name| Finding::waiting(name, "the volume")));
            local::attachments(common, &mut findings).await;
            let remote = ["proxy", "clock", "session"];
            findings.extend(remote.map(|name| Finding::waiting(name, "the volume")));
        }
    }
    print(common, &findings)?;
    Ok(verdict(&findings))
}

fn print(common: &Common, findings: &[Finding]) -> Result<(), Error> {
    if common.json {
        let ok = verdict(findings) == Exit::Done;
        return report::line(&json!({ "ok": ok, "checks": findings }).to_string());
    }
    for finding in findings {
        report::line(&finding.to_string())?;
    }
    Ok(())
}

fn verdict(findings: &[Finding]) -> Exit {
    let has = |state| findings.iter().any(|finding| finding.state == state);
    if has(State::Fails) {
        Exit::Failed
    } else if has(State::Refused) {
        Exit::Refused
    } else if has(State::Waiting) {
        Exit::Failed
    } else {
        Exit::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_alone_is_three_and_a_failure_is_one() {
        let of = |states: &[State]| {
            let findings: Vec<_> = states
                .iter()
                .map(|state| Finding {
                    name: "x",
                    state: *state,
                    text: String::new(),
                    hint: None,
                })
                .collect();
            verdict(&findings)
        };
        assert_eq!(of(&[State::Works, State::Note]), Exit::Done);
        assert_eq!(of(&[State::Works, State::Refused, State::Waiting]), Exit::Refused);
        assert_eq!(of(&[State::Fails, State::Refused]), Exit::Failed);
        assert_eq!(of(&[State::Works, State::Waiting]), Exit::Failed);
    }
}
