//! Policies of several parts on the wire: golden sets that end, an event log with rules, an image statement; and what the
//! operator's log says of each refusal, while the answer says nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;
#[path = "../../crates/evidence/tests/it/forge/mod.rs"]
mod machine;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use attest_proxy::log::{Format, Log, Verbosity};
use common::{
    Answer, CHAT, Rig,
    forge::{START, index},
    psk, session_key, signed,
};
use domain::{HashAlg, PcrSelection, PcrValue, PcrValues, UnixTime};
use evidence::{
    DeclaredPolicy, GoldenSet, ImageKey, ImageStatement, LogRules, Mix, SignedStatement, StatementPolicy,
    statement::READY,
};
use machine::boot::{Step, log, secure_boot, step, stub, values};
use protocol::messages::{MAX_EVENT_LOG, SessionRequest};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};

const LINE: &str = "quiet root=/dev/mapper/root";

/// What the operator is told, by all proxies of this process.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<u8>>>);

impl io::Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Told {
    /// The one log of the process, with all that was logged by now.
    fn listen() -> &'static Self {
        static TOLD: OnceLock<(Told, &Log)> = OnceLock::new();
        let (told, log) = TOLD.get_or_init(|| {
            let told = Self::default();
            let log = Log::start(told.clone(), Format::Json, Verbosity::Info).unwrap();
            (told, log)
        });
        assert!(log.flush(Duration::from_secs(10)));
        told
    }

    /// The lines with all of these parts, as JSON.
    fn lines(&self, parts: &[&str]) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text
            .lines()
            .filter(|line| parts.iter().all(|part| line.contains(part)));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A fleet's image key.
struct Builder {
    pair: EcdsaKeyPair,
    key: ImageKey,
}

impl Builder {
    fn new() -> Self {
        let (rng, signing) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(signing, &rng).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(signing, document.as_ref(), &rng).unwrap();
        let head = b"3059301306072a8648ce3d020106082a8648ce3d030107034200";
        let mut spki = data_encoding::HEXLOWER.decode(head).unwrap();
        spki.extend(pair.public_key().as_ref());
        let key = ImageKey::from_spki_der(&spki).unwrap();
        Self { pair, key }
    }

    /// The statement of a release whose PCR 11 is that of the good image.
    fn statement(&self, release: u64) -> Vec<u8> {
        let selection = PcrSelection::new(HashAlg::Sha256, [index(11)]).unwrap();
        let values = PcrValues::new(selection, vec![0xbb; 32]).unwrap();
        let release = release.try_into().unwrap();
        let statement = ImageStatement::of("kiosk".parse().unwrap(), release, READY, &values);
        let signature = self
            .pair
            .sign(&SystemRandom::new(), &statement.to_be_signed())
            .unwrap();
        SignedStatement::new(&statement, signature.as_ref().to_vec(), &self.key)
            .to_json()
            .into_bytes()
    }
}

fn boot(line: &str) -> Vec<Step> {
    let mut steps = secure_boot();
    steps.push(stub(12, line));
    steps
}

fn value(fill: u8) -> PcrValue {
    PcrValue::new(HashAlg::Sha256, &[fill; 32]).unwrap()
}

fn set(name: &str, until: Option<UnixTime>, fill: u8) -> GoldenSet {
    GoldenSet {
        name: name.parse().unwrap(),
        until,
        values: BTreeMap::from([(index(4), value(fill))]),
    }
}

fn rules() -> LogRules {
    LogRules {
        secure_boot: true,
        command_line: vec![LINE.parse().unwrap()],
        no_debug_shell: true,
        ..LogRules::default()
    }
}

/// A kiosk that booted as `steps` say, under a policy of `parts`.
async fn kiosk(parts: Mix, steps: &[Step]) -> Rig {
    Told::listen();
    let mut rig = Rig::new().await;
    let declared = DeclaredPolicy::new(HashAlg::Sha256, parts, false).unwrap();
    let selection = declared.selection();
    rig.edit_policy("strict", |policy| policy.evidence = Some(declared))
        .await;
    let booted = values(steps, &selection);
    let of = |(pcr, bytes): (domain::PcrIndex, &[u8])| {
        let found = match pcr.get() {
            4 => value(0x44),
            11 => value(0xbb),
            _ => PcrValue::new(HashAlg::Sha256, bytes).unwrap(),
        };
        (pcr, found)
    };
    rig.tpm.pcrs = selection.iter().zip(booted.chunks_exact(32)).map(of).collect();
    for _ in 0..400 {
        if rig.challenge("kiosk").await.select == selection.iter().collect::<Vec<_>>() {
            return rig;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the policy did not arrive within 10 s");
}

/// All parts: the boot loader by golden set, the boot by its log, the image by its statement.
fn whole(builder: &Builder) -> Mix {
    Mix {
        golden: vec![set("2026-10", None, 0x33), set("2026-11", None, 0x44)],
        statement: Some(StatementPolicy {
            keys: vec![builder.key.clone()],
            profile: "kiosk".parse().unwrap(),
            least_release: 7.try_into().unwrap(),
            revoked: BTreeSet::new(),
            pcrs: BTreeSet::from([index(11)]),
        }),
        log: Some(rules()),
        ..Mix::default()
    }
}

/// Asks for a session with what `attach` puts beside the quote.
async fn open(rig: &mut Rig, attach: impl FnOnce(&mut SessionRequest)) -> Answer {
    let mut request = rig.session_request(&session_key(1)).await;
    attach(&mut request);
    rig.open(&request).await
}

fn refused(answer: &Answer, code: &str) {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (401, code),
        "{}",
        answer.text()
    );
    // One sentence and a code, whatever was found.
    let body: BTreeMap<String, String> = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body.keys().collect::<Vec<_>>(), ["code", "error"]);
    for detail in ["PCR", "golden", "release", "rule", "shell", "event", "2026-1"] {
        assert!(!body["error"].contains(detail), "{}", body["error"]);
    }
}

/// The failed checks of the last refusal with this code, as the operator has them.
fn failed(code: &str) -> Vec<serde_json::Value> {
    let line = Told::listen().lines(&["\"decision\"", code]).pop().unwrap();
    assert!(line["why"].as_str().unwrap().len() > 10, "{line}");
    serde_json::from_str(line["failed"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_and_a_statement_open_a_session_beside_a_quote() {
    let (builder, steps) = (Builder::new(), boot(LINE));
    let mut rig = kiosk(whole(&builder), &steps).await;
    let key = session_key(1);
    let answer = open(&mut rig, |request| {
        request.event_log = Some(log(&steps));
        request.image_statement = Some(builder.statement(7));
    })
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let granted: protocol::messages::SessionGranted = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(granted.expires_in, 600);
    let fields = signed(
        &rig,
        "kiosk",
        &granted.session,
        &key,
        ("POST", "/api/chat", CHAT),
        1,
    );
    assert_eq!(rig.chat(&fields).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_wants_more_than_a_quote_takes_no_quote_alone() {
    let (builder, steps) = (Builder::new(), boot(LINE));
    let mut rig = kiosk(whole(&builder), &steps).await;
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    let answer = rig.chat(&fields).await;
    refused(&answer, "evidence-missing");
    assert!(answer.header("attestation-challenge").is_some());
    let wanted = "the policy wants the event log and an image statement with the quote";
    assert_eq!(Told::listen().lines(&["evidence-missing", wanted]).len(), 1);

    for (log_too, statement_too) in [(false, false), (true, false), (false, true)] {
        let answer = open(&mut rig, |request| {
            request.event_log = log_too.then(|| log(&steps));
            request.image_statement = statement_too.then(|| builder.statement(7));
        })
        .await;
        refused(&answer, "evidence-missing");
        let checks = failed("evidence-missing");
        let named = |check: &str| {
            checks
                .iter()
                .any(|failed| failed["check"] == check && failed["reason"] == "missing")
        };
        assert_eq!(
            (named("event-log"), named("statement")),
            (!log_too, !statement_too)
        );
    }
    assert!(rig.upstream.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_image_a_shell_and_a_made_up_log_are_refused_and_named_to_the_operator() {
    let (builder, stranger, steps) = (Builder::new(), Builder::new(), boot(LINE));
    let mut rig = kiosk(whole(&builder), &steps).await;
    let told = log(&steps);
    let mut with = async |log: &[u8], statement: Vec<u8>| {
        let (log, statement) = (Some(log.to_vec()), Some(statement));
        open(&mut rig, |request| {
            request.event_log = log;
            request.image_statement = statement;
        })
        .await
    };
    refused(&with(&told, builder.statement(6)).await, "evidence-mismatch");
    let checks = failed("evidence-mismatch");
    assert_eq!(checks.len(), 1);
    assert_eq!(
        (&checks[0]["reason"], &checks[0]["least"], &checks[0]["found"]),
        (&"release".into(), &7.into(), &6.into())
    );
    assert_eq!(
        checks[0]["says"],
        "the image is release 6, the policy wants 7 at least"
    );

    refused(&with(&told, stranger.statement(7)).await, "evidence-invalid");
    assert_eq!(failed("evidence-invalid")[0]["reason"], "key");
    // The log of another boot, and the file's last octet missing.
    let other = log(&boot("quiet root=/dev/mapper/root init=/bin/sh"));
    refused(&with(&other, builder.statement(7)).await, "evidence-invalid");
    assert_eq!(failed("evidence-invalid")[0]["reason"], "unproven");
    refused(
        &with(&told[..told.len() - 1], builder.statement(7)).await,
        "evidence-invalid",
    );
    assert_eq!(failed("evidence-invalid")[0]["reason"], "unreadable");

    // A boot that truly gave a shell, with its true log.
    let steps = boot("quiet root=/dev/mapper/root init=/bin/sh");
    let mut rig = kiosk(whole(&builder), &steps).await;
    let answer = open(&mut rig, |request| {
        request.event_log = Some(log(&steps));
        request.image_statement = Some(builder.statement(7));
    })
    .await;
    refused(&answer, "evidence-mismatch");
    let reasons: Vec<_> = failed("evidence-mismatch")
        .iter()
        .map(|c| c["reason"].clone())
        .collect();
    assert_eq!(reasons, ["command-line", "debug-shell"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_thousands_of_checks_is_a_line_that_can_be_read() {
    // Root on a device measures a line whose every word breaks a rule.
    let words: String = (0..3000).map(|nth| format!(" break=flood-{nth}")).collect();
    let steps = boot(&words);
    let parts = Mix {
        log: Some(rules()),
        ..Mix::default()
    };
    let mut rig = kiosk(parts, &steps).await;
    let answer = open(&mut rig, |request| request.event_log = Some(log(&steps))).await;
    refused(&answer, "evidence-mismatch");
    let line = Told::listen()
        .lines(&["evidence-mismatch", "break=flood-0"])
        .pop()
        .unwrap();
    let len = |field: &str| line[field].as_str().unwrap().len();
    assert!(
        len("why") < 16_000 && len("failed") < 32_000,
        "{} {}",
        len("why"),
        len("failed")
    );
    let checks: Vec<serde_json::Value> = serde_json::from_str(line["failed"].as_str().unwrap()).unwrap();
    assert_eq!(checks[0]["reason"], "command-line");
    let last = checks.last().unwrap();
    assert_eq!(
        (&last["check"], &last["says"]),
        (&"more".into(), &"2937 more checks failed".into())
    );
    assert!(
        line["why"]
            .as_str()
            .unwrap()
            .ends_with("; 2937 more checks failed")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_golden_set_ends_by_itself_and_its_sessions_with_it() {
    let end = START.plus(Duration::from_secs(100));
    let parts = Mix {
        golden: vec![set("2026-10", Some(end), 0x44), set("2026-12", None, 0x55)],
        ..Mix::default()
    };
    let mut rig = kiosk(parts, &[]).await;
    let key = session_key(1);
    let granted = rig.session(&key).await;
    assert_eq!(granted.expires_in, 100, "the set ends before the session would");
    rig.clock.set(START.plus(Duration::from_secs(99)));
    assert_eq!(open(&mut rig, |_| ()).await.status, 200);
    let chat = |rig: &Rig, nth| {
        signed(
            rig,
            "kiosk",
            &granted.session,
            &key,
            ("POST", "/api/chat", CHAT),
            nth,
        )
    };
    assert_eq!(rig.chat(&chat(&rig, 1)).await.status, 200);

    // No write to the registry, no restart: the second comes, and that is all.
    rig.clock.set(end);
    refused(&rig.chat(&chat(&rig, 2)).await, "session-expired");
    refused(&open(&mut rig, |_| ()).await, "evidence-mismatch");
    let checks = failed("evidence-mismatch");
    assert_eq!(
        (&checks[0]["check"], &checks[0]["set"]),
        (&"ended".into(), &"2026-10".into())
    );
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    refused(&rig.chat(&fields).await, "evidence-mismatch");
    // The device was updated in time: the other set goes on.
    rig.tpm.pcrs.insert(index(4), value(0x55));
    assert_eq!(open(&mut rig, |_| ()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_fits_and_a_longer_one_is_too_large() {
    let mut steps = boot(LINE);
    // What a machine with many drivers measures into PCRs that nobody asked for.
    steps.extend((0..70).map(|_| step(2, 0x8000_0004, &[7; 1000])));
    let parts = Mix {
        log: Some(rules()),
        ..Mix::default()
    };
    let mut rig = kiosk(parts, &steps).await;
    let told = log(&steps);
    assert!((73_000..90_000).contains(&told.len()), "{}", told.len());
    assert_eq!(
        open(&mut rig, |request| request.event_log = Some(told))
            .await
            .status,
        200
    );
    let longest = vec![0; MAX_EVENT_LOG];
    let answer = open(&mut rig, |request| request.event_log = Some(longest)).await;
    refused(&answer, "evidence-invalid");
    let answer = open(&mut rig, |request| request.event_log = Some(vec![0; 200 << 10])).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "body-too-large"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_quote_raises_an_alert_with_both_counters() {
    let mut rig = kiosk(
        Mix {
            exact: BTreeMap::from([(index(11), value(0xbb))]),
            ..Mix::default()
        },
        &[],
    )
    .await;
    assert_eq!(open(&mut rig, |_| ()).await.status, 200);
    rig.tpm.clock.reset_count -= 1;
    refused(&open(&mut rig, |_| ()).await, "evidence-stale");
    let alerts = Told::listen().lines(&["\"alert\":\"evidence-stale\""]);
    let alert = alerts.last().unwrap();
    assert_eq!(
        (&alert["level"], &alert["device"]),
        (&"ERROR".into(), &"kiosk".into())
    );
    assert_eq!(
        (&alert["last_reset_count"], &alert["reset_count"]),
        (&3.into(), &2.into())
    );
    assert!(alert["last_clock"].as_u64() < alert["clock"].as_u64());
    assert_eq!(failed("evidence-stale")[0]["reason"], "reset-count");
    let metrics = common::ask(rig.operators, "GET", "/metrics", &[], "")
        .await
        .text();
    assert!(
        metrics.contains("\nattest_proxy_quotes_stale_total 1\n"),
        "{metrics}"
    );
    // A nonce that is too old is evidence-stale too, and no alert.
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    rig.clock.advance(Duration::from_secs(70));
    refused(&rig.chat(&fields).await, "evidence-stale");
    let metrics = common::ask(rig.operators, "GET", "/metrics", &[], "")
        .await
        .text();
    assert!(metrics.contains("\nattest_proxy_quotes_stale_total 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_cannot_be_judged_is_refused_and_named_to_the_operator() {
    Told::listen();
    let rig = Rig::new().await;
    rig.registry
        .enrol(common::forge::device("bare", "strict", None))
        .await
        .unwrap();
    let told = || {
        Told::listen().lines(&[
            "cannot be admitted",
            "\"device\":\"bare\"",
            "it has no TPM on record",
        ])
    };
    for _ in 0..400 {
        if !told().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(told().len(), 1);
    assert_eq!(rig.chat(&psk("bare")).await.status, 401);
    // Told once, not with each snapshot.
    rig.edit("plain", |_| ()).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(told().len(), 1);
}
