//! From the sections of a policy to the policy.

use std::collections::BTreeSet;

use domain::{
    Endpoint, Limits, ModelPattern, OptionRules,
    usage::{KeepAliveRange, MODELS_MAX},
};

use super::{
    Policy,
    raw::{LimitsSection, OptionsSection, PolicySection},
};
use crate::{
    evidence::{For, evidence_policy},
    leaf::SessionTtl,
    walk::{Findings, Spot},
};

/// Makes a policy; `None` when there is a finding that leaves none.
pub(crate) fn policy(raw: &Spot<PolicySection>, findings: &mut Findings) -> Option<Policy> {
    let section = &raw.value;
    let models = section
        .models
        .as_ref()
        .and_then(|models| model_patterns(models, findings));
    let endpoints = section.endpoints.as_ref().map(|list| endpoints(list, findings));
    let options = match &section.options {
        None => Some(OptionRules::default()),
        Some(options) => option_rules(options, findings),
    };
    let evidence = match &section.evidence {
        None => Some(None),
        Some(evidence) => evidence_policy(evidence, For::Fleet, findings).map(Some),
    };
    Some(Policy {
        models: models?,
        endpoints,
        options: options?,
        limits: section
            .limits
            .as_ref()
            .map_or(Limits::default(), |raw| limits(&raw.value)),
        session_ttl: section
            .session_ttl
            .as_ref()
            .map_or(SessionTtl::DEFAULT, |ttl| ttl.value)
            .0,
        client_certificate: section.client_certificate.as_ref().and_then(|rule| rule.value.0),
        evidence: evidence?,
    })
}

fn model_patterns(models: &Spot<Vec<Spot<String>>>, findings: &mut Findings) -> Option<Vec<ModelPattern>> {
    if models.value.is_empty() {
        let hint = Some("name the models, as in [\"smollm2:135m\"], or \"*\" for any".to_owned());
        findings.push(models.span.clone(), "no model is allowed", hint);
        return None;
    }
    if models.value.len() > MODELS_MAX {
        let hint = Some(format!("at most {MODELS_MAX}; a pattern says more in less"));
        let message = format!("{} models are named", models.value.len());
        findings.push(models.span.clone(), message, hint);
        return None;
    }
    let mut patterns: Vec<ModelPattern> = Vec::with_capacity(models.value.len());
    for model in &models.value {
        match model.value.parse::<ModelPattern>() {
            Err(wrong) => {
                let hint = Some(format!("{wrong}, as `ollama list` prints them"));
                let message = format!("{:?} is not the name of a model", model.value);
                findings.push(model.span.clone(), message, hint);
            }
            Ok(pattern) if means_a_cloud(&pattern) => {
                let hint =
                    Some("name each model of a cloud as it is: what it is sent leaves the house".to_owned());
                let message =
                    format!("`{pattern}` would never allow anything: no pattern means a model of a cloud");
                findings.push(model.span.clone(), message, hint);
            }
            Ok(pattern) if patterns.contains(&pattern) => {
                findings.push(model.span.clone(), format!("`{pattern}` is named twice"), None);
            }
            Ok(pattern) => patterns.push(pattern),
        }
    }
    Some(patterns)
}

/// Whoever writes `*:cloud` means what it cannot mean.
fn means_a_cloud(pattern: &ModelPattern) -> bool {
    let text = pattern.as_str().to_ascii_lowercase();
    pattern.is_wild() && (text.ends_with(":cloud") || text.ends_with("-cloud"))
}

fn endpoints(list: &Spot<super::leaf::Endpoints>, findings: &mut Findings) -> BTreeSet<Endpoint> {
    if list.value.is_empty {
        let hint = Some("leave `endpoints` out for all, or suspend the device".to_owned());
        findings.push(list.span.clone(), "no endpoint is allowed", hint);
    }
    once(&list.value.list, findings)
}

/// The elements, each told that is there twice.
fn once<T: Copy + Ord + std::fmt::Display>(list: &[Spot<T>], findings: &mut Findings) -> BTreeSet<T> {
    let mut all = BTreeSet::new();
    for item in list {
        if !all.insert(item.value) {
            findings.push(
                item.span.clone(),
                format!("`{}` is named twice", item.value),
                None,
            );
        }
    }
    all
}

fn option_rules(raw: &Spot<OptionsSection>, findings: &mut Findings) -> Option<OptionRules> {
    let section = &raw.value;
    let seconds = |time: &Option<Spot<super::leaf::KeepAlive>>| time.as_ref().map(|time| time.value.0);
    let keep_alive = KeepAliveRange::new(seconds(&section.min_keep_alive), seconds(&section.max_keep_alive))
        .map_err(|wrong| {
            let spot = section
                .min_keep_alive
                .as_ref()
                .or(section.max_keep_alive.as_ref());
            let span = spot.map_or(raw.span.clone(), |spot| spot.span.clone());
            findings.push(span, wrong.to_string(), None);
        });
    let refuse = section
        .refuse
        .as_ref()
        .map_or_else(BTreeSet::new, |list| once(&list.value, findings));
    Some(OptionRules {
        keep_alive: keep_alive.ok()?,
        max_num_ctx: section.max_num_ctx.as_ref().map(|tokens| tokens.value.0),
        max_num_predict: section.max_num_predict.as_ref().map(|tokens| tokens.value.0),
        refuse,
    })
}

fn limits(section: &LimitsSection) -> Limits {
    Limits {
        requests_per_minute: section.requests_per_minute.as_ref().map(|spot| spot.value),
        streams: section.streams.as_ref().map(|spot| spot.value),
        prompt_tokens_per_day: section.prompt_tokens_per_day.as_ref().map(|spot| spot.value),
        output_tokens_per_day: section.output_tokens_per_day.as_ref().map(|spot| spot.value),
    }
}
