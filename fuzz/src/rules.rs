//! Rules on event logs that replay: patterns of command lines, and what measured texts are taken for.

use std::sync::LazyLock;

use domain::HashAlg;
use evidence::{Attachments, CommandLinePattern, LogRules, Mix, PcrPolicy, wire::Curve};

use crate::forge::{
    Forge,
    boot::{Step, log, separator, step, stub, values},
    case_of,
};

static FORGE: LazyLock<Forge> = LazyLock::new(|| Forge::new(Curve::P256));

/// A pattern, a line feed, a command line as systemd-stub measures it: without a wildcard only the very words match,
/// and whatever was measured in plain words matches `**`.
pub fn command_line_pattern(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (pattern, line) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(pattern) = pattern.parse::<CommandLinePattern>() else {
        return;
    };
    let shown = pattern.to_string();
    assert_eq!(
        shown.parse().as_ref(),
        Ok(&pattern),
        "what is shown means the same"
    );
    if line.is_empty() || line.contains('\0') {
        return;
    }
    let rules = |pattern| LogRules {
        command_line: vec![pattern],
        ..LogRules::default()
    };
    let steps = [stub(12, line)];
    let accepted = accepts(rules(pattern), &steps);
    // With quotes, backslashes, odd spaces and what is not ASCII, wildcards match less and words depend on the reader.
    let is_plain = |c: char| c == ' ' || c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\');
    if accepted && line.chars().all(is_plain) {
        let words: Vec<_> = line.split_whitespace().collect();
        let any: CommandLinePattern = "**".parse().expect("a pattern");
        assert!(accepts(rules(any), &steps), "what one pattern takes, any does");
        if !shown.contains(['*', '?']) {
            assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), words);
        }
    }
}

/// A first octet that turns rules on, then events: a PCR, a length, and what was measured.
pub fn log_rules(data: &[u8]) {
    let Some((switches, mut rest)) = data.split_first() else {
        return;
    };
    let rules = LogRules {
        secure_boot: switches & 1 != 0,
        no_debug_shell: switches & 2 != 0,
        command_line: if switches & 4 != 0 {
            vec!["quiet root=* **".parse().expect("a pattern")]
        } else {
            Vec::new()
        },
        authorities: (switches & 8 != 0).then(Default::default),
        ..LogRules::default()
    };
    if rules.pcrs().is_empty() {
        return;
    }
    let mut steps = Vec::new();
    while let [pcr, len, more @ ..] = rest {
        let (measured, more) = more.split_at(usize::from(*len).min(more.len()));
        let pcr = [7, 8, 12][usize::from(pcr % 3)];
        steps.push(if pcr == 7 && measured.is_empty() {
            separator(7)
        } else {
            step(pcr, u32::from(*len), measured)
        });
        rest = more;
    }
    let shown = |name: &[u8]| {
        let wide: Vec<u8> = name.iter().flat_map(|letter| [*letter, 0]).collect();
        steps
            .iter()
            .any(|step| step.measured.windows(wide.len()).any(|w| w == wide))
    };
    let secure = rules.secure_boot;
    if accepts(rules, &steps) && secure {
        assert!(shown(b"SecureBoot"), "nothing vouches for Secure Boot");
        assert!(steps.iter().any(|step| step.pcr == 7 && step.measured.len() == 4));
    }
}

/// Whether a device that truly booted so is admitted.
fn accepts(rules: LogRules, steps: &[Step]) -> bool {
    let mix = Mix {
        log: Some(rules),
        ..Mix::default()
    };
    let policy = PcrPolicy::mixed(HashAlg::Sha256, mix).expect("a policy");
    let pcrs = values(steps, &policy.selection());
    let file = log(steps);
    let attachments = Attachments {
        event_log: Some(&file),
        image_statement: None,
    };
    case_of(&FORGE, policy, pcrs).judge_with(attachments).is_ok()
}
