//! Rules on event logs: each rule kept and broken, and what a device's own root could try.

use std::collections::BTreeSet;

use crate::forge::{
    Forge,
    boot::{
        AUTHORITY, GLOBAL, IMAGE_SECURITY, SHIM, Step, config, grub, log, secure_boot, separator, step, stub,
        values, variable,
    },
    case_of, index,
    log::{IPL, VARIABLE},
};
use domain::{HashAlg, Sha256Digest};
use evidence::{
    Attachments, Attested, Failure, FailureClass, KeyVariable, LogRefused, LogRules, Mix, PcrPolicy,
    PolicyError, Rejected, RuleBroken,
    eventlog::{LogError, Unproven},
    rules::At,
    wire::Curve,
};

const MISMATCH: FailureClass = FailureClass::Mismatch;

fn policy(rules: LogRules) -> PcrPolicy {
    let mix = Mix {
        log: Some(rules),
        ..Mix::default()
    };
    PcrPolicy::mixed(HashAlg::Sha256, mix).unwrap()
}

/// A device that booted so, and sends `told`.
fn judge_told(rules: LogRules, boot: &[Step], told: Option<&[u8]>) -> Result<Attested, Rejected> {
    let forge = Forge::new(Curve::P256);
    let policy = policy(rules);
    assert!(policy.wants_event_log() && !policy.wants_image_statement());
    let pcrs = values(boot, &policy.selection());
    case_of(&forge, policy, pcrs).judge_with(Attachments {
        event_log: told,
        ..Attachments::default()
    })
}

/// A device that booted so, and tells the truth.
fn judge(rules: LogRules, boot: &[Step]) -> Result<Attested, Rejected> {
    judge_told(rules, boot, Some(&log(boot)))
}

fn broken_told(rules: LogRules, boot: &[Step], told: &[Step]) -> Vec<RuleBroken> {
    let rejected = judge_told(rules, boot, Some(&log(told))).unwrap_err();
    assert_eq!(rejected.class(), MISMATCH);
    let failures = rejected.failures().iter().map(|failure| match failure {
        Failure::Rule(broken) => broken.clone(),
        other => panic!("{other}"),
    });
    failures.collect()
}

fn broken(rules: LogRules, boot: &[Step]) -> Vec<RuleBroken> {
    broken_told(rules, boot, boot)
}

fn at(number: usize, kind: u32) -> At {
    At {
        number,
        kind: evidence::eventlog::EventType(kind),
    }
}

fn secure() -> LogRules {
    LogRules {
        secure_boot: true,
        ..LogRules::default()
    }
}

fn digests(values: &[&[u8]]) -> BTreeSet<Sha256Digest> {
    values.iter().map(|value| Sha256Digest::of(value)).collect()
}

fn keys(list: &[(KeyVariable, &[&[u8]])]) -> LogRules {
    LogRules {
        keys: list
            .iter()
            .map(|(variable, values)| (*variable, digests(values)))
            .collect(),
        ..LogRules::default()
    }
}

#[test]
fn a_boot_with_secure_boot_keeps_every_rule() {
    let rules = LogRules {
        secure_boot: true,
        authorities: Some(digests(&[b"the maker's certificate", b"sbat,1,2022052400\n"])),
        replays: [4, 7].map(index).into(),
        ..keys(&[
            (KeyVariable::Pk, &[b"the platform key"]),
            (KeyVariable::Kek, &[b"other", b"the exchange keys"]),
            (KeyVariable::Db, &[b"what may start"]),
            (KeyVariable::Dbx, &[b"what may not"]),
        ])
    };
    assert_eq!(policy(rules.clone()).selection().to_string(), "sha256:4,7");
    judge(rules, &secure_boot()).unwrap();
}

#[test]
fn a_log_must_be_there_be_one_and_replay() {
    let of = |told: Option<&[u8]>| {
        let rejected = judge_told(secure(), &secure_boot(), told).unwrap_err();
        let class = rejected.class();
        match rejected.failures() {
            [Failure::EventLog(refused)] => (refused.clone(), class),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(of(None), (LogRefused::Missing, MISMATCH));
    assert_eq!(
        of(Some(b"")),
        (LogRefused::Unreadable(LogError::Empty), FailureClass::Invalid)
    );
    let mut told = secure_boot();
    told.push(config(GLOBAL, "SecureBoot", &[1]));
    let (refused, class) = of(Some(&log(&told)));
    assert!(
        matches!(&refused, LogRefused::Unproven(Unproven::Broken(pcrs)) if pcrs[0].true_up_to == Some(8))
    );
    assert_eq!(class, FailureClass::Invalid);
    let text = refused.to_string();
    assert!(
        text.starts_with("the event log proves nothing: PCR 7 does not replay")
            && text.contains("true up to event 8"),
        "{text}"
    );
}

#[test]
fn values_that_were_not_quoted_judge_no_log() {
    let forge = Forge::new(Curve::P256);
    let policy = policy(secure());
    let pcrs = values(&secure_boot(), &policy.selection());
    let mut case = case_of(&forge, policy, pcrs);
    case.digest = Some(vec![1; 32]);
    let told = log(&secure_boot());
    let event_log = Some(&told[..]);
    let rejected = case
        .judge_with(Attachments {
            event_log,
            ..Attachments::default()
        })
        .unwrap_err();
    assert_eq!(rejected.failures(), [Failure::PcrDigest]);
}

#[test]
fn secure_boot_off_or_unknown_is_refused() {
    let mut off = secure_boot();
    off[0] = config(GLOBAL, "SecureBoot", &[0]);
    let found = broken(secure(), &off);
    assert_eq!(found, [RuleBroken::SecureBootOff { at: at(1, VARIABLE) }]);
    assert_eq!(
        found[0].to_string(),
        "Secure Boot is off: event 1, EV_EFI_VARIABLE_DRIVER_CONFIG, SecureBoot is not 1"
    );
    for value in [&[][..], &[1, 0], &[2]] {
        off[0] = config(GLOBAL, "SecureBoot", value);
        assert_eq!(
            broken(secure(), &off),
            [RuleBroken::SecureBootOff { at: at(1, VARIABLE) }]
        );
    }
    off[0] = config(IMAGE_SECURITY, "SecureBoot", &[1]);
    assert_eq!(
        broken(secure(), &off),
        [RuleBroken::SecureBootUnknown],
        "another vendor's"
    );
}

/// Root extends what the firmware would have measured, after the boot, and tells the log so.
#[test]
fn nothing_after_the_separator_vouches_for_secure_boot() {
    let mut boot = secure_boot();
    boot.remove(0);
    boot.push(config(GLOBAL, "SecureBoot", &[1]));
    assert_eq!(broken(secure(), &boot), [RuleBroken::SecureBootUnknown]);
    // The separator's own data is falsified, so that it does not look like one.
    let mut told = boot.clone();
    told[4].data = b"no separator".to_vec();
    assert_eq!(
        broken_told(secure(), &boot, &told),
        [RuleBroken::SecureBootUnknown]
    );
    // No separator at all: the firmware never finished.
    boot.retain(|step| step.kind != 4);
    assert_eq!(broken(secure(), &boot), [RuleBroken::NoSeparator]);
}

#[test]
fn an_event_that_hides_what_it_measured_is_refused() {
    let mut boot = secure_boot();
    boot.insert(1, config(GLOBAL, "SecureBoot", &[0]));
    let mut told = boot.clone();
    told[1].data = b"nothing to see".to_vec();
    let pcr = index(7);
    assert_eq!(
        broken_told(secure(), &boot, &told),
        [RuleBroken::Hidden {
            pcr,
            at: at(2, VARIABLE)
        }]
    );
    // Under another type it is seen all the same.
    let mut told = boot.clone();
    told[1].kind = IPL;
    assert_eq!(
        broken_told(secure(), &boot, &told),
        [RuleBroken::SecureBootOff { at: at(2, IPL) }]
    );
}

#[test]
fn debug_mode_and_shims_switches_are_refused() {
    let mut boot = secure_boot();
    boot.insert(0, step(7, 0x8000_0007, b"UEFI Debug Mode"));
    assert_eq!(
        broken(secure(), &boot),
        [RuleBroken::DebugMode {
            at: at(1, 0x8000_0007)
        }]
    );
    for switch in ["MokSBState", "MokDBState"] {
        let mut boot = secure_boot();
        boot.push(variable(AUTHORITY, SHIM, switch, &[1]));
        assert_eq!(
            broken(secure(), &boot),
            [RuleBroken::ShimOff {
                at: at(9, AUTHORITY),
                variable: switch
            }]
        );
        boot[8] = variable(AUTHORITY, SHIM, switch, &[0]);
        assert!(judge(secure(), &boot).is_ok());
    }
}

#[test]
fn keys_that_are_not_listed_are_refused() {
    let rules = keys(&[
        (KeyVariable::Db, &[b"another list"]),
        (KeyVariable::Pk, &[b"the platform key"]),
    ]);
    let found = Sha256Digest::of(b"what may start");
    let broken_keys = broken(rules, &secure_boot());
    assert_eq!(
        broken_keys,
        [RuleBroken::Keys {
            variable: KeyVariable::Db,
            at: at(4, VARIABLE),
            found
        }]
    );
    assert_eq!(
        broken_keys[0].to_string(),
        format!(
            "db is not one that the policy lists: event 4, EV_EFI_VARIABLE_DRIVER_CONFIG, SHA-256 of its value {found}"
        )
    );
    // A db that allows it, measured by root later on, beside the true one.
    let mut boot = secure_boot();
    boot.push(config(IMAGE_SECURITY, "db", b"another list"));
    let rules = keys(&[(KeyVariable::Db, &[b"another list"])]);
    assert_eq!(broken(rules, &boot).len(), 1);
}

#[test]
fn keys_that_were_not_measured_are_refused() {
    let mut boot = secure_boot();
    boot[4] = config(GLOBAL, "dbx", b"what may not");
    let rules = keys(&[(KeyVariable::Dbx, &[b"what may not"])]);
    let variable = KeyVariable::Dbx;
    assert_eq!(broken(rules, &boot), [RuleBroken::KeysUnknown { variable }]);
}

#[test]
fn only_listed_authorities_start_boot_loaders() {
    let rules = |values: &[&[u8]]| LogRules {
        authorities: Some(digests(values)),
        ..LogRules::default()
    };
    let found = broken(rules(&[b"the maker's certificate"]), &secure_boot());
    assert_eq!(
        found,
        [RuleBroken::Authority {
            at: at(8, AUTHORITY),
            name: "SbatLevel".to_owned(),
            found: Sha256Digest::of(b"sbat,1,2022052400\n"),
        }]
    );
    let mut boot = secure_boot();
    boot.truncate(6);
    assert_eq!(broken(rules(&[]), &boot), [RuleBroken::AuthorityUnknown]);
    boot.push(step(7, AUTHORITY, b"x"));
    assert!(matches!(
        &broken(rules(&[b"x"]), &boot)[..],
        [RuleBroken::Authority { name, .. }] if name == "no variable"
    ));
}

/// Older shims measure a few bytes of their memory behind the variable, and log one more.
#[test]
fn what_an_old_shim_left_behind_a_variable_decides_nothing() {
    let leaving = |mut step: Step, measured: &[u8], logged: &[u8]| {
        step.measured.extend(measured);
        step.data = [step.measured.as_slice(), logged].concat();
        step
    };
    let rules = |value: &[u8]| LogRules {
        secure_boot: true,
        authorities: Some(digests(&[value])),
        ..LogRules::default()
    };
    let mut boot = secure_boot();
    boot.truncate(6);
    boot.push(leaving(
        variable(AUTHORITY, SHIM, "Shim", b"its key"),
        &[0; 5],
        &[0xaf],
    ));
    judge(rules(b"its key"), &boot).unwrap();
    assert!(matches!(
        &broken(rules(b"another key"), &boot)[..],
        [RuleBroken::Authority { name, found, .. }] if name == "Shim" && *found == Sha256Digest::of(b"its key")
    ));
    // Two bytes more than were measured: what was measured is not shown.
    let last = boot.len() - 1;
    boot[last] = leaving(variable(AUTHORITY, SHIM, "Shim", b"its key"), &[], &[0xaf, 0xaf]);
    assert!(matches!(
        &broken(rules(b"its key"), &boot)[..],
        [.., RuleBroken::Hidden { .. }, _] | [RuleBroken::Hidden { .. }, ..]
    ));
    // What says that Secure Boot is on is a whole variable.
    boot.truncate(6);
    boot[0] = leaving(config(GLOBAL, "SecureBoot", &[1]), &[0; 5], &[]);
    assert!(broken(secure(), &boot).contains(&RuleBroken::SecureBootUnknown));
}

fn lines(patterns: &[&str]) -> LogRules {
    LogRules {
        command_line: patterns.iter().map(|p| p.parse().unwrap()).collect(),
        ..LogRules::default()
    }
}

fn no_shell() -> LogRules {
    LogRules {
        no_debug_shell: true,
        ..LogRules::default()
    }
}

fn grub_boot(line: &str) -> Vec<Step> {
    vec![
        grub("grub_cmd", "set root=hd0,gpt2"),
        grub("grub_cmd", "menuentry Rescue { linux /vmlinuz single }"),
        grub("grub_cmd", &format!("linux {line}")),
        grub("kernel_cmdline", line),
    ]
}

#[test]
fn command_lines_are_read_where_boot_loaders_measure_them() {
    let line = "/vmlinuz-6.1.0 root=UUID=12 ro quiet";
    let rules = LogRules {
        no_debug_shell: true,
        ..lines(&["root=UUID=* ro", "/vmlinuz-* root=UUID=* ro quiet"])
    };
    assert_eq!(policy(rules.clone()).selection().to_string(), "sha256:8,12");
    judge(rules.clone(), &grub_boot(line)).unwrap();
    judge(rules.clone(), &[separator(8), stub(12, "root=UUID=12 ro")]).unwrap();
    judge(rules.clone(), &[stub(8, "root=UUID=12 ro")]).unwrap();
    let plain = step(8, IPL, b"(hd0,gpt2)/vmlinuz-6.1.0 ro");
    judge(lines(&["(hd0,gpt2)/vmlinuz* ro"]), &[plain]).unwrap();
    for none in [&[][..], &[separator(8)], &grub_boot(line)[..2]] {
        assert_eq!(broken(rules.clone(), none), [RuleBroken::CommandLineUnknown]);
    }
}

#[test]
fn every_command_line_matches_a_pattern() {
    let rules = || lines(&["/vmlinuz-* root=UUID=* ro quiet"]);
    for line in [
        "/vmlinuz-6.1.0 root=UUID=12 ro quiet init=/bin/sh",
        "/vmlinuz-6.1.0 root=UUID=12 init=/bin/sh ro quiet",
        "/vmlinuz-6.1.0 root=UUID=12 ro",
        "/vmlinuz-6.1.0 root=UUID=12 ro\u{1}x quiet",
    ] {
        let mut boot = grub_boot(line);
        // Root measures a good one later on.
        boot.push(grub("kernel_cmdline", "/vmlinuz-6.1.0 root=UUID=12 ro quiet"));
        let found = broken(rules(), &boot);
        assert!(
            matches!(&found[..], [RuleBroken::CommandLine { at, .. }] if at.number == 4),
            "{line}: {found:?}"
        );
    }
    let found = broken(rules(), &[stub(12, "quiet\u{7}\"x\"")]);
    assert_eq!(
        found[0].to_string(),
        r#"the kernel command line matches no pattern of the policy: event 1, EV_IPL, `quiet\u{7}\"x\"`"#
    );
}

#[test]
fn labels_types_and_data_do_not_hide_a_command_line() {
    let evil = "/vmlinuz-6.1.0 init=/bin/sh";
    let good = "/vmlinuz-6.1.0 ro";
    let boot = [grub("kernel_cmdline", evil), grub("kernel_cmdline", good)];
    let rules = || lines(&["/vmlinuz-* ro"]);
    let told = |change: fn(&mut Step)| {
        let mut told = boot.clone();
        change(&mut told[0]);
        broken_told(rules(), &boot, &told)
    };
    let relabelled = told(|step| step.data = [&b"grub_cmd: "[..], &step.measured, b"\0"].concat());
    assert!(matches!(&relabelled[..], [RuleBroken::CommandLine { .. }]));
    let retyped = told(|step| step.kind = 6);
    assert!(matches!(&retyped[..], [RuleBroken::CommandLine { .. }]));
    let hidden = told(|step| step.data = b"kernel_cmdline: /vmlinuz-6.1.0 ro\0".to_vec());
    let pcr = index(8);
    assert_eq!(hidden, [RuleBroken::Hidden { pcr, at: at(1, IPL) }]);
    assert_eq!(
        hidden[0].to_string(),
        "PCR 8 cannot be judged: event 1, EV_IPL does not show what was measured"
    );
}

#[test]
fn shells_are_refused_wherever_a_boot_loader_was_told() {
    let told = |boot: &[Step]| -> Vec<String> {
        let found = broken(no_shell(), boot).into_iter().map(|broken| match broken {
            RuleBroken::DebugShell { word, .. } => word,
            other => panic!("{other}"),
        });
        found.collect()
    };
    // Once in the command, once in the line.
    let twice = told(&grub_boot("/vmlinuz ro \"init=/bin/sh\" rd.break"));
    assert_eq!(twice, ["init=/bin/sh", "rd.break", "init=/bin/sh", "rd.break"]);
    assert_eq!(
        told(&[stub(12, "ro systemd.debug-shell=1")]),
        ["systemd.debug-shell=1"]
    );
    assert_eq!(told(&[stub(12, "ro\0single")]), ["single"], "behind a zero too");
    let mut cut = stub(12, "ro single").measured;
    cut.truncate(cut.len() - 3);
    assert_eq!(
        told(&[step(12, IPL, &cut)]),
        ["single"],
        "without its last octet too"
    );
    let chained = [
        grub("kernel_cmdline", "/vmlinuz ro"),
        grub("grub_cmd", "chainloader /vmlinuz.efi rd.break"),
    ];
    assert_eq!(told(&chained), ["rd.break"]);
    judge(no_shell(), &grub_boot("/vmlinuz root=UUID=12 ro quiet")).unwrap();
    let text = broken(no_shell(), &[stub(12, "rd.shell")])[0].to_string();
    assert_eq!(
        text,
        "the boot was told to give a shell: event 1, EV_IPL, `rd.shell`"
    );
}

#[test]
fn the_kernels_own_spaces_part_words() {
    // A0 is a space to the kernel, and the second octet of `à`.
    let line = "/vmlinuz root=UUID=12\u{e0}init=/bin/sh ro";
    assert!(matches!(
        &broken(
            lines(&["/vmlinuz root=UUID=* ro"]),
            &[grub("kernel_cmdline", line)]
        )[..],
        [RuleBroken::CommandLine { .. }]
    ));
    for boot in [
        grub("kernel_cmdline", line),
        stub(12, "root=UUID=12\u{e0}init=/bin/sh"),
        step(8, IPL, b"/vmlinuz root=UUID=12\xa0init=/bin/sh ro"),
        // The lower halves of these: ` init=/bin/sh`, for stubs that keep no more.
        stub(8, "ro\u{120}\u{169}\u{16e}\u{169}\u{174}=/bin/sh"),
    ] {
        let found = broken(no_shell(), &[boot]);
        assert!(
            matches!(&found[..], [RuleBroken::DebugShell { word, .. }] if word == "init=/bin/sh"),
            "{found:?}"
        );
    }
}

#[test]
fn quotes_do_not_hide_a_shell() {
    for word in [
        "systemd.unit='rescue.target'",
        "'systemd.debug_shell'",
        "systemd.un'it=res'cue.target",
        r"systemd.unit=res\cue.target",
        r#"init=/sbin/in"it"#,
        r"init=/sbin/in\it",
    ] {
        let found = broken(no_shell(), &[grub("kernel_cmdline", &format!("/vmlinuz {word}"))]);
        assert!(
            matches!(&found[..], [RuleBroken::DebugShell { .. }]),
            "{word}: {found:?}"
        );
    }
}

#[test]
fn what_a_pattern_demands_is_what_the_kernel_does() {
    let rules = || lines(&["/vmlinuz root=* lockdown=integrity quiet"]);
    judge(
        rules(),
        &grub_boot("/vmlinuz root=/dev/vda lockdown=integrity quiet"),
    )
    .unwrap();
    for line in [
        // One argument that no kernel knows, instead of two.
        "/vmlinuz root=/dev/vda \"lockdown=integrity quiet\"",
        "/vmlinuz root=\"/dev/vda lockdown=integrity quiet\"",
        "/vmlinuz root=/dev/vda lockdown=integrity\u{1}quiet",
        "/vmlinuz root=/dev/vda lockdown=integrity\u{2003}quiet",
        "/vmlinuz root=/dev/vda\u{2003}lockdown=integrity quiet",
    ] {
        let found = broken(rules(), &[grub("kernel_cmdline", line)]);
        assert!(
            matches!(&found[..], [RuleBroken::CommandLine { .. }]),
            "{line}: {found:?}"
        );
    }
    // The kernel stops at a zero.
    let cut = broken(
        lines(&["ro lockdown=integrity"]),
        &[stub(12, "ro\0lockdown=integrity")],
    );
    assert!(matches!(&cut[..], [RuleBroken::CommandLine { .. }]));
    let quoted = lines(&[r#"/vmlinuz "dyndbg=file * +p""#]);
    judge(
        quoted,
        &[
            grub("grub_cmd", "linux /vmlinuz dyndbg=file core.c +p"),
            grub("kernel_cmdline", r#"/vmlinuz "dyndbg=file core.c +p""#),
        ],
    )
    .unwrap();
}

#[test]
fn a_kernel_that_is_not_named_by_its_path_is_judged_by_the_command() {
    let good = "/vmlinuz-6.1.0 ro";
    for command in [
        "linux 2048+20480 init=/bin/sh",
        "chainloader /vmlinuz-6.1.0 init=/bin/sh",
        "linux /vmlinuz-6.1.0 init=/bin/sh",
    ] {
        let boot = [grub("grub_cmd", command), grub("kernel_cmdline", good)];
        let found = broken(lines(&["/vmlinuz-* ro"]), &boot);
        assert!(
            matches!(&found[..], [RuleBroken::CommandLine { at, .. }] if at.number == 1),
            "{command}: {found:?}"
        );
    }
}

#[test]
fn a_logs_text_is_escaped_and_cut() {
    let long = format!("`\u{202e}{}", "x".repeat(5000));
    let found = broken(lines(&["ro"]), &[stub(12, &long)]);
    let text = found[0].to_string();
    assert!(
        text.contains("`\\u{202e}x") && text.len() < 500 && text.ends_with("...`"),
        "{text}"
    );
}

#[test]
fn every_broken_rule_is_told() {
    let mut boot = secure_boot();
    boot[0] = config(GLOBAL, "SecureBoot", &[0]);
    boot.push(stub(12, "rd.break"));
    let rules = LogRules {
        secure_boot: true,
        no_debug_shell: true,
        authorities: Some(BTreeSet::new()),
        ..lines(&["quiet"])
    };
    let kinds: Vec<_> = broken(rules, &boot).iter().map(std::mem::discriminant).collect();
    assert_eq!(kinds.len(), 5, "state, two authorities, line and shell");
}

#[test]
fn a_policy_with_rules_has_some() {
    let refused = |rules| {
        let mix = Mix {
            log: Some(rules),
            ..Mix::default()
        };
        PcrPolicy::mixed(HashAlg::Sha256, mix).unwrap_err()
    };
    assert_eq!(refused(LogRules::default()), PolicyError::NoRule);
    let resettable = LogRules {
        replays: [23].map(index).into(),
        ..LogRules::default()
    };
    assert_eq!(refused(resettable), PolicyError::Resettable(index(23)));
}
