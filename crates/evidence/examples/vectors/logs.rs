//! Event logs of boots that a TPM truly measured, and rules on them.

use std::collections::BTreeMap;

use domain::HashAlg;

use crate::{
    Vectors, attested,
    forge::{
        boot::{
            AUTHORITY, GLOBAL, IMAGE_SECURITY, SHIM, Step, config, log, secure_boot, separator, step, stub,
            variable,
        },
        digest_of,
        log::sha1_event,
    },
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
        Self::over(steps, "sha256:7,8,12")
    }

    /// The same, and these PCRs are quoted.
    fn over(steps: &[Step], selection: &str) -> Self {
        let station = Station::unmeasured("ecc");
        for step in steps {
            station
                .tpm
                .extend(u8::try_from(step.pcr).unwrap(), &step.measured);
        }
        let key = station.ak("ecc", "sha256", "ecdsa", "0x81010020");
        let said = station.quote(&key, selection);
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
            keys: BTreeMap::new(),
            authorities: None,
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
    unproven(vectors, &good);
    secure_boots(vectors);
}

/// A log without digests of the quoted bank, or without one of them.
fn unproven(vectors: &mut Vectors, good: &Booted) {
    let title = "the log has no SHA-256 digests";
    let steps = with_command_line("quiet root=/dev/mapper/root");
    let sha1 = |step: &Step| {
        sha1_event(
            step.pcr,
            step.kind,
            &digest_of(HashAlg::Sha1, &step.measured),
            &step.data,
        )
    };
    let events: Vec<u8> = steps.iter().flat_map(sha1).collect();
    let verdict = refusal("invalid", &["event-log: unproven"]);
    let mut vector = good.key.vector(title, &good.said, policy(), verdict);
    vector.event_log = Some(Hex(events));
    vectors.insert("event-log-unproven-no-bank", vector.clone());

    vector.title = "one more event than was measured".to_owned();
    let mut more = steps;
    more.push(stub(12, "quiet root=/dev/mapper/root"));
    vector.event_log = Some(Hex(log(&more)));
    vectors.insert("event-log-unproven-more", vector);
}

/// Boots whose PCR 7 breaks the rules; each log is true.
fn secure_boots(vectors: &mut Vectors) {
    let digests = |values: &[&[u8]]| {
        let digest = |value: &&[u8]| Hex(digest_of(HashAlg::Sha256, value));
        values.iter().map(digest).collect::<Vec<_>>()
    };
    let maker: &[u8] = b"the maker's certificate";
    let sbat: &[u8] = b"sbat,1,2022052400\n";
    let keys = [
        ("PK", &b"the platform key"[..]),
        ("KEK", b"the exchange keys"),
        ("db", b"what may start"),
        ("dbx", b"what may not"),
    ];
    let mut policy = policy();
    policy.rules = Some(Rules {
        secure_boot: true,
        keys: keys
            .map(|(name, value)| (name.to_owned(), digests(&[value])))
            .into(),
        authorities: Some(digests(&[maker, sbat])),
        ..Rules::default()
    });
    let mut add = |name, title: &str, steps: &[Step], verdict: Verdict| {
        let booted = Booted::over(steps, "sha256:7");
        let mut vector = booted.key.vector(title, &booted.said, policy.clone(), verdict);
        vector.event_log = Some(Hex(booted.log));
        vectors.insert(name, vector);
    };
    let no = |what: &[&str]| refusal("mismatch", what);
    let good = secure_boot();
    let title = "Secure Boot on, the listed keys, the listed boot loader";
    add("accepted-rules-keys", title, &good, attested("first"));

    let unfinished = &good[..5];
    let title = "the firmware never finished measuring";
    add(
        "rule-no-separator",
        title,
        unfinished,
        no(&["rule: no-separator"]),
    );

    let title =
        "nothing says whether Secure Boot is on before the separator; what says so after it is anybody's";
    let mut late = good.clone();
    let on = late.remove(0);
    late.push(on);
    let broken = ["rule: secure-boot-unknown", "rule: authority"];
    add("rule-secure-boot-unknown", title, &late, no(&broken));

    let mut debug = good.clone();
    debug.insert(0, step(7, 0x8000_000b, b"UEFI Debug Mode"));
    let title = "the firmware's debugger could run";
    add("rule-debug-mode", title, &debug, no(&["rule: debug-mode"]));

    let mut shim = good.clone();
    shim.push(variable(AUTHORITY, SHIM, "MokSBState", &[1]));
    let title = "shim was told not to verify";
    add(
        "rule-shim-off",
        title,
        &shim,
        no(&["rule: shim-off", "rule: authority"]),
    );

    let mut unknown = good.clone();
    unknown.remove(3);
    let title = "db was not measured";
    add("rule-keys-unknown", title, &unknown, no(&["rule: keys-unknown"]));

    let mut other = good.clone();
    other[4] = config(IMAGE_SECURITY, "dbx", b"an older list of what may not");
    let title = "an older dbx";
    add("rule-keys", title, &other, no(&["rule: keys"]));

    let title = "nothing says what let the boot loader start";
    add(
        "rule-authority-unknown",
        title,
        &good[..6],
        no(&["rule: authority-unknown"]),
    );

    let mut stranger = good.clone();
    stranger[6] = variable(AUTHORITY, IMAGE_SECURITY, "db", b"another maker's certificate");
    let title = "another maker's boot loader, which the firmware trusts too";
    add("rule-authority", title, &stranger, no(&["rule: authority"]));

    // What is about command lines is asked of PCRs 8 and 12.
    policy.rules = Some(Rules {
        no_debug_shell: true,
        ..Rules::default()
    });
    let booted = Booted::over(&[separator(8)], "sha256:8,12");
    let verdict = refusal("mismatch", &["rule: command-line-unknown"]);
    let title = "no command line was measured in readable form";
    let mut vector = booted.key.vector(title, &booted.said, policy, verdict);
    vector.event_log = Some(Hex(booted.log));
    vectors.insert("rule-command-line-unknown", vector);
}
