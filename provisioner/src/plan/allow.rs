//! What a policy allows, for people.

use std::fmt::Display;

use domain::{Limits, OptionRules};
use registry::{CertificateRule, PolicyRecord};

/// Label and words, a line each: the models, and whatever else the policy says.
pub(crate) fn allowances(policy: &PolicyRecord) -> Vec<(&'static str, String)> {
    let mut lines = vec![("models", list(&policy.models))];
    if let Some(endpoints) = &policy.endpoints {
        lines.push(("paths", list(endpoints)));
    }
    let clamps = clamps(&policy.options);
    if !clamps.is_empty() {
        lines.push(("clamps", clamps.join(", ")));
    }
    if !policy.options.refuse.is_empty() {
        lines.push(("denies", list(&policy.options.refuse)));
    }
    let limits = limits(&policy.limits);
    if !limits.is_empty() {
        lines.push(("limits", limits.join(", ")));
    }
    lines.extend(certificates(policy).map(|words| ("certs", words.to_owned())));
    lines
}

/// What a client certificate counts for.
fn certificates(policy: &PolicyRecord) -> Option<&'static str> {
    Some(match (policy.client_certificate?, &policy.evidence) {
        (CertificateRule::Accepted, None) => {
            "the device's client certificate stands in for its pre-shared key"
        }
        (CertificateRule::Accepted, Some(_)) => {
            "another device's client certificate is refused; none stands in for the pre-shared key, to which evidence is bound"
        }
        (CertificateRule::Required, _) => {
            "the device's client certificate is needed beside its pre-shared key"
        }
    })
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    words.join(", ")
}

fn clamps(options: &OptionRules) -> Vec<String> {
    let mut words = Vec::new();
    let seconds = |least: &str, time: Option<std::num::NonZeroU32>| {
        time.map(|time| format!("keep-alive {least} {time}s"))
    };
    words.extend(seconds("at least", options.keep_alive.min()));
    words.extend(seconds("at most", options.keep_alive.max()));
    words.extend(
        options
            .max_num_ctx
            .map(|tokens| format!("context at most {tokens} tokens")),
    );
    words.extend(
        options
            .max_num_predict
            .map(|tokens| format!("answer at most {tokens} tokens")),
    );
    words
}

fn limits(limits: &Limits) -> Vec<String> {
    let mut words = Vec::new();
    words.extend(
        limits
            .requests_per_minute
            .map(|n| format!("{n} requests a minute")),
    );
    words.extend(limits.streams.map(|n| format!("{n} streams at once")));
    words.extend(
        limits
            .prompt_tokens_per_day
            .map(|n| format!("{n} prompt tokens a day")),
    );
    words.extend(
        limits
            .output_tokens_per_day
            .map(|n| format!("{n} output tokens a day")),
    );
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::policy_record;

    #[test]
    fn every_key_of_a_policy_is_shown() {
        let (head, rest) = include_str!("../../../manifests/examples/demo.toml")
            .split_once("[policies.kiosk]\nmodels = [\"smollm2:135m\"]\n")
            .unwrap();
        let policy = "[policies.kiosk]\nmodels = [\"smollm2:*\", \"x:cloud\"]\nendpoints = [\"/api/tags\", \"/api/chat\"]\n\
                      options = { min-keep-alive = \"1m\", max-keep-alive = \"10m\", max-num-ctx = 8192, max-num-predict = 512, refuse = [\"system\", \"raw\"] }\n\
                      limits = { requests-per-minute = 30, streams = 2, prompt-tokens-per-day = 200000, output-tokens-per-day = 50000 }\n";
        let fleet = manifest::parse("x.toml", &format!("{head}{policy}{rest}")).unwrap();
        let record = policy_record(fleet.policies.values().next().unwrap());
        assert_eq!(
            allowances(&record),
            [
                ("models", "smollm2:*, x:cloud".to_owned()),
                ("paths", "/api/chat, /api/tags".to_owned()),
                (
                    "clamps",
                    "keep-alive at least 60s, keep-alive at most 600s, context at most 8192 tokens, answer at most 512 tokens"
                        .to_owned()
                ),
                ("denies", "raw, system".to_owned()),
                (
                    "limits",
                    "30 requests a minute, 2 streams at once, 200000 prompt tokens a day, 50000 output tokens a day"
                        .to_owned()
                ),
            ]
        );
    }
}
