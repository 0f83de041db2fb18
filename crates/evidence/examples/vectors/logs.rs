//! Event logs of boots that a TPM truly measured, and rules on them.

use crate::{
    Vectors, attested,
    forge::boot::{GLOBAL, Step, config, log, secure_boot, separator, step, stub},
    refusal,
    station::{Key, Said, Station},
    vector::{Hex, Policy, Verdict, mixed::Rules},
};

/// A machine after a boot.
struct Booted {
    key: Key,
    said: Said,
    log: Vec<u8>,
}

impl Booted {
    fn new(steps: &[Step]) -> Self {
        let station = Station::unmeasured("ecc");
        for step in steps {
            station
                .tpm
                .extend(u8::try_from(step.pcr).unwrap(), &step.measured);
        }
        let key = station.ak("ecc", "sha256", "ecdsa", "0x81010020");
        let said = station.quote(&key, "sha256:7,8,12");
        Self {
            key,
            said,
            log: log(steps),
        }
    }
}

fn with_command_line(line: &str) -> Vec<Step> {
    let mut steps = secure_boot();
    steps.push(stub(12, line));
    steps
}

fn policy() -> Policy {
    Policy {
        bank: "sha256".to_owned(),
        now: None,
        sets: Vec::new(),
        statement: None,
        rules: Some(Rules {
            secure_boot: true,
            command_line: vec!["quiet root=/dev/mapper/root".to_owned()],
            no_debug_shell: true,
            replays: Vec::new(),
        }),
    }
}

pub(crate) fn add(vectors: &mut Vectors) {
    let good = Booted::new(&with_command_line("quiet root=/dev/mapper/root"));
    let mut add = |name, title: &str, booted: &Booted, log: Option<&[u8]>, verdict: Verdict| {
        let mut vector = booted.key.vector(title, &booted.said, policy(), verdict);
        vector.event_log = log.map(|log| Hex(log.to_vec()));
        vectors.insert(name, vector);
    };
    let (invalid, mismatch) = ("invalid", "mismatch");
    let no = |class, what: &str| refusal(class, &[what]);
    let whole = &good.log[..];
    let title = "Secure Boot on, the wanted command line, the true log";
    add("accepted-rules", title, &good, Some(whole), attested("first"));
    add(
        "event-log-missing",
        "no log was sent",
        &good,
        None,
        no(mismatch, "event-log: missing"),
    );
    let cut = Some(&whole[..whole.len() - 1]);
    let title = "the log's last octet is missing";
    add(
        "event-log-unreadable",
        title,
        &good,
        cut,
        no(invalid, "event-log: unreadable"),
    );
    let mut told = with_command_line("quiet root=/dev/mapper/root");
    told.remove(4);
    let title = "an event of PCR 7 is missing from the log";
    add(
        "event-log-unproven",
        title,
        &good,
        Some(&log(&told)),
        no(invalid, "event-log: unproven"),
    );

    let off: Vec<Step> = [config(GLOBAL, "SecureBoot", &[0]), separator(7)]
        .into_iter()
        .chain([stub(12, "quiet root=/dev/mapper/root")])
        .collect();
    let off = Booted::new(&off);
    let title = "Secure Boot is off, and the log says so";
    add(
        "rule-secure-boot-off",
        title,
        &off,
        Some(&off.log),
        no(mismatch, "rule: secure-boot-off"),
    );
    let title = "Secure Boot is off, and the log of another boot says that it is on";
    add(
        "event-log-other-boot",
        title,
        &off,
        Some(whole),
        no(invalid, "event-log: unproven"),
    );

    let shell = Booted::new(&with_command_line("quiet root=/dev/mapper/root init=/bin/sh"));
    let both = refusal(mismatch, &["rule: command-line", "rule: debug-shell"]);
    add(
        "rule-debug-shell",
        "the boot was told to give a shell",
        &shell,
        Some(&shell.log),
        both,
    );

    let mut hidden = with_command_line("quiet root=/dev/mapper/root");
    hidden.push(Step {
        data: b"nothing to see".to_vec(),
        ..step(12, 13, b"something else")
    });
    let hidden = Booted::new(&hidden);
    let title = "an event of PCR 12 does not show what was measured";
    add(
        "rule-hidden",
        title,
        &hidden,
        Some(&hidden.log),
        no(mismatch, "rule: hidden"),
    );
}
