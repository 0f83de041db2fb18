//! `edge-client ask` on a real software TPM and a sealed volume, against a proxy that checks what it is sent with the
//! contract's other end, and against proxies that refuse.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Answer, Device, Fake, MODEL, PSK, Received, stderr, stdout};
use domain::{Audience, DeviceId, FleetName, FleetRoot, Psk, Sha256Digest, TpmName, UnixTime};
use http::{HeaderMap, HeaderName, HeaderValue};
use protocol::{
    FleetKeys, KeyRing, Refusal, Subject,
    credentials::{Presented, read},
    messages::{Challenge, SessionGranted, SessionRequest},
    nonce,
    replay::Seen,
    signature::{RequestParts, SignatureHeaders, check_public_key, verify},
    token::{self, Claims, CurrentClaims},
};

const STREAM: &str = "{\"model\":\"m\",\"message\":{\"content\":\"Platform \"},\"done\":false}\n\
    {\"model\":\"m\",\"message\":{\"content\":\"7.\"},\"done\":false}\n\
    {\"model\":\"m\",\"message\":{\"content\":\"\"},\"done\":true,\"eval_count\":3}\n";

type Change = fn(&mut Gate);

/// The proxy's end of the contract, without a TPM's: quotes are looked at for their binding alone.
struct Gate {
    keys: KeyRing,
    fleet: FleetName,
    audience: Audience,
    device: DeviceId,
    ak_name: TpmName,
    seen: Seen,
    /// How far its clock is from this machine's.
    ahead: Duration,
    select: Vec<u64>,
    refuse: Vec<Refusal>,
}

impl Gate {
    fn new() -> Self {
        let root = FleetRoot::copy_from(&[1; 32]).unwrap();
        Self {
            keys: KeyRing::new(FleetKeys::derive("k1".parse().unwrap(), &root), None),
            fleet: "demo".parse().unwrap(),
            audience: "https://llm.demo.example".parse().unwrap(),
            device: "kiosk-bern-01".parse().unwrap(),
            ak_name: TpmName::try_from(vec![0, 0x0b, 1]).unwrap(),
            seen: Seen::new(UnixTime::from_secs(0), 100),
            ahead: Duration::ZERO,
            select: vec![7, 11],
            refuse: Vec::new(),
        }
    }

    /// Refuses requests (not challenges, not sessions) with these first.
    fn refusing(refusals: &[Refusal]) -> Self {
        Self {
            refuse: refusals.to_vec(),
            ..Self::new()
        }
    }

    fn start(mut self) -> Fake {
        Fake::start(move |request| self.answer(request).unwrap_or_else(Answer::refused))
    }

    fn now(&self) -> UnixTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        UnixTime::from_secs(since.as_secs()).plus(self.ahead)
    }

    fn answer(&mut self, request: &Received) -> Result<Answer, Refusal> {
        let now = self.now();
        let mut map = HeaderMap::new();
        for (name, value) in &request.headers {
            map.append(
                HeaderName::try_from(name).unwrap(),
                HeaderValue::try_from(value).unwrap(),
            );
        }
        let credentials = read(&map)?;
        let psk = Psk::parse(PSK.as_bytes()).unwrap().digest();
        if credentials.psk != psk {
            return Err(Refusal::PskUnknown);
        }
        let subject = Subject {
            fleet: &self.fleet,
            audience: &self.audience,
            device: &self.device,
            psk: &psk,
        };
        match request.target.as_str() {
            "/attest/v1/challenge" => {
                let challenge = Challenge {
                    nonce: nonce::issue(&self.keys, &subject, now, *b"randomly").into(),
                    audience: self.audience.clone(),
                    bank: domain::HashAlg::Sha256,
                    select: self.select.iter().map(|i| (*i).try_into().unwrap()).collect(),
                    expires_in: 60,
                    now,
                };
                return Ok(Answer::ok(serde_json::to_vec(&challenge).unwrap()));
            }
            "/attest/v1/session" => {
                let open: SessionRequest =
                    serde_json::from_slice(&request.body).map_err(|_| Refusal::RequestMalformed)?;
                let fresh = open.nonce == [2; 32]
                    || nonce::check(&self.keys, &subject, &open.nonce, now, UnixTime::from_secs(0)).is_ok();
                let public_key = check_public_key(&open.public_key)?;
                let binding = protocol::binding::Binding::Session {
                    public_key: &public_key,
                };
                let bound = protocol::binding::qualifying_data(&subject, &open.nonce, &binding);
                // extraData stands in the quote as it was given.
                let quoted = open.quote.windows(32).any(|w| w == bound);
                if !fresh || !quoted || open.pcrs.len() != 64 {
                    return Err(Refusal::EvidenceInvalid);
                }
                let claims = Claims {
                    fleet: self.fleet.clone(),
                    audience: self.audience.clone(),
                    device: self.device.clone(),
                    psk,
                    ak_name: self.ak_name.clone(),
                    public_key,
                    generation: 1,
                    policy: "kiosk".parse().unwrap(),
                    policy_revision: 1,
                    reset_count: 0,
                    restart_count: 0,
                    expires_at: now.plus(Duration::from_secs(600)),
                };
                let granted = SessionGranted {
                    session: token::mint(&self.keys, &claims),
                    expires_in: 600,
                    device: self.device.clone(),
                };
                return Ok(Answer::ok(serde_json::to_vec(&granted).unwrap()));
            }
            _ => {}
        }
        if !self.refuse.is_empty() {
            return Err(self.refuse.remove(0));
        }
        let (token, headers) = match &credentials.presented {
            Presented::PskOnly if self.select.is_empty() => return Ok(Answer::ok(STREAM)),
            Presented::Session {
                token,
                content_digest,
                signature_input,
                signature,
            } => (
                *token,
                SignatureHeaders {
                    content_digest,
                    signature_input,
                    signature,
                },
            ),
            _ => return Err(Refusal::EvidenceMissing),
        };
        let claims = token::open(&self.keys, token, now)?;
        claims.matches(&CurrentClaims {
            subject,
            ak_name: &self.ak_name,
            generation: 1,
            policy: &"kiosk".parse().unwrap(),
            policy_revision: 1,
            seen: None,
        })?;
        let parts = RequestParts {
            method: &request.method,
            path: &request.target,
            query: None,
            body_digest: &Sha256Digest::of(&request.body),
            session: token,
        };
        let verified = verify(&claims.public_key, &parts, &headers, now)?;
        self.seen.accept_signature(&verified, now)?;
        Ok(Answer::ok(STREAM))
    }
}

fn ask(device: &Device, more: &[&str]) -> std::process::Output {
    device.run(&[&["ask", "--model", MODEL, "Which platform?"], more].concat())
}

#[test]
fn a_question_is_answered_in_a_session() {
    let proxy = Gate::new().start();
    let device = Device::new(&proxy.origin);
    let output = ask(&device, &["--verbose"]);
    assert_eq!(
        (stdout(&output).as_str(), output.status.code()),
        ("Platform 7.\n", Some(0)),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        proxy.calls(),
        [
            "GET /attest/v1/challenge",
            "POST /attest/v1/session",
            "POST /api/chat"
        ]
    );
    let sent: serde_json::Value = serde_json::from_slice(&proxy.received()[2].body).unwrap();
    assert_eq!(sent["messages"][0]["content"], "Which platform?");
    // The key is in one header, and in nothing that we print.
    let canary = testkit::Canary::new("pre-shared key", PSK.as_bytes());
    canary.assert_absent("stdout", &output.stdout);
    canary.assert_absent("stderr", &output.stderr);
    canary.assert_absent_below(device.dir.path());
    for request in proxy.received() {
        assert_eq!(request.header("x-pre-shared-key"), Some(PSK));
        canary.assert_absent("body", &request.body);
        for (name, value) in request.headers.iter().filter(|(n, _)| n != "x-pre-shared-key") {
            canary.assert_absent(name, value);
        }
    }
}

#[test]
fn a_question_may_come_on_stdin() {
    let proxy = Gate::new().start();
    let device = Device::new(&proxy.origin);
    let question = device.dir.path().join("question.txt");
    std::fs::write(&question, "  Which \n platform?\n").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_edge-client"))
        .args(["--volume", &device.volume(), "--tcti", &device.swtpm.tcti()])
        .args([
            "ask",
            "-",
            "--model",
            MODEL,
            "--api",
            "generate",
            "--max-tokens",
            "9",
        ])
        .stdin(std::fs::File::open(question).unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let sent: serde_json::Value = serde_json::from_slice(&proxy.received()[2].body).unwrap();
    assert_eq!(sent["prompt"], "Which \n platform?");
    assert_eq!(sent["options"]["num_predict"], 9);
}

#[test]
fn json_has_the_answer_and_the_session() {
    let proxy = Gate::new().start();
    let device = Device::new(&proxy.origin);
    let output = ask(&device, &["--json"]);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["answer"], "Platform 7.");
    assert_eq!(object["session"]["device"], "kiosk-bern-01");
    assert_eq!(object["session"]["evidence"], true);
    assert_eq!(object["session"]["pcrs"], "sha256:7,11");
    assert_eq!(object["session"]["expires_in"], 600);
    assert_eq!(object["totals"]["eval_count"], 3);
}

#[test]
fn the_proxys_clock_counts_not_ours() {
    let gate = Gate {
        ahead: Duration::from_secs(400_000_000),
        ..Gate::new()
    };
    let proxy = gate.start();
    let device = Device::new(&proxy.origin);
    let output = ask(&device, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn without_evidence_the_refusal_is_shown_and_the_exit_code_is_three() {
    let proxy = Gate::new().start();
    let device = Device::new(&proxy.origin);
    let output = ask(&device, &["--no-evidence"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(stdout(&output), "");
    assert_eq!(
        stderr(&output),
        "error: refused: this device must prove its state: answer the challenge with a TPM quote (evidence-missing)\n\
         hint: leave --no-evidence away: this device has to quote\n"
    );
    let output = ask(&device, &["--no-evidence", "--json"]);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (object["code"].as_str(), object["status"].as_u64()),
        (Some("evidence-missing"), Some(401))
    );
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(proxy.calls(), ["POST /api/chat", "POST /api/chat"]);
}

#[test]
fn a_policy_without_evidence_is_served_without_a_quote() {
    let gate = Gate {
        select: Vec::new(),
        ..Gate::new()
    };
    let proxy = gate.start();
    let device = Device::with(&proxy.origin, None);
    let output = ask(&device, &[]);
    assert_eq!(stdout(&output), "Platform 7.\n", "{}", stderr(&output));
    assert_eq!(proxy.calls(), ["GET /attest/v1/challenge", "POST /api/chat"]);
}

#[test]
fn a_session_that_ended_is_renewed_from_the_challenge_in_the_refusal() {
    let proxy = Gate::refusing(&[Refusal::SessionExpired]).start();
    let device = Device::new(&proxy.origin);
    let output = ask(&device, &[]);
    assert_eq!(stdout(&output), "Platform 7.\n", "{}", stderr(&output));
    assert_eq!(
        proxy.calls(),
        [
            "GET /attest/v1/challenge",
            "POST /attest/v1/session",
            "POST /api/chat",
            "POST /attest/v1/session",
            "POST /api/chat"
        ]
    );
    let again: SessionRequest = serde_json::from_slice(&proxy.received()[3].body).unwrap();
    assert_eq!(again.nonce, [2; 32]);
}

#[test]
fn a_replayed_nonce_and_a_busy_proxy_are_tried_again() {
    let proxy = Gate::refusing(&[Refusal::Overloaded, Refusal::RequestReplayed]).start();
    let device = Device::new(&proxy.origin);
    let output = ask(&device, &["-v"]);
    assert_eq!(stdout(&output), "Platform 7.\n", "{}", stderr(&output));
    assert!(stderr(&output).contains("the proxy is busy, waiting 1 s"));
    let nonces: Vec<_> = proxy
        .received()
        .iter()
        .filter_map(|r| r.header("signature-input").map(str::to_owned))
        .collect();
    assert_eq!(nonces.len(), 3);
    assert_ne!(nonces[1], nonces[2]);
}

#[test]
fn refusals_and_failures_have_their_exit_codes() {
    for (refusals, exit) in [
        (&[Refusal::ModelDenied][..], 3),
        (&[Refusal::SessionInvalid, Refusal::SessionInvalid], 3),
        (&[Refusal::UpstreamFailed], 1),
    ] {
        let proxy = Gate::refusing(refusals).start();
        let device = Device::new(&proxy.origin);
        let output = ask(&device, &[]);
        assert_eq!(output.status.code(), Some(exit), "{}", stderr(&output));
        let code = refusals.last().unwrap().code();
        assert!(
            stderr(&output).contains(&format!("({code})\n")),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn an_answer_that_breaks_off_is_a_failure() {
    let first = STREAM.lines().next().unwrap();
    for (body, text) in [
        (first.to_owned(), "the answer broke off before its end"),
        (
            format!("{first}\n{{\"error\":\"out of memory\"}}\n"),
            "the model server says: out of memory",
        ),
        ("<html>".to_owned(), "the answer is not a stream of Ollama's"),
    ] {
        let mut gate = Gate::new();
        let proxy = Fake::start(move |request| match request.target.as_str() {
            "/api/chat" => Answer::ok(body.clone()),
            _ => gate.answer(request).unwrap(),
        });
        let device = Device::new(&proxy.origin);
        let output = ask(&device, &[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(text), "{}", stderr(&output));
    }
}

#[test]
fn the_device_keeps_to_its_own_rules() {
    let cases: [(&str, Change); 2] = [
        ("this device quotes for https://llm.demo.example alone", |gate| {
            gate.audience = "https://evil.example".parse().unwrap();
        }),
        ("this device quotes at least sha256:7,11", |gate| {
            gate.select = vec![7];
        }),
    ];
    for (text, change) in cases {
        let mut gate = Gate::new();
        change(&mut gate);
        let proxy = gate.start();
        let device = Device::new(&proxy.origin);
        let output = ask(&device, &[]);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(stderr(&output).contains(text), "{}", stderr(&output));
        assert_eq!(proxy.calls(), ["GET /attest/v1/challenge"]);
    }
}

#[test]
fn a_proxy_that_takes_us_for_another_is_not_asked() {
    let mut gate = Gate::new();
    let proxy = Fake::start(move |request| {
        let mut answer = gate.answer(request).unwrap();
        if request.target == "/attest/v1/session" {
            answer.body = String::from_utf8(answer.body)
                .unwrap()
                .replace("bern", "thun")
                .into_bytes();
        }
        answer
    });
    let device = Device::new(&proxy.origin);
    let output = ask(&device, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("takes this device for kiosk-thun-01"),
        "{}",
        stderr(&output)
    );
    assert_eq!(proxy.calls().len(), 2);
}

#[test]
fn a_changed_pcr_keeps_the_volume_shut() {
    let proxy = Gate::new().start();
    let device = Device::new(&proxy.origin);
    device.swtpm.extend(7, b"another boot loader");
    let output = ask(&device, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("sha256:7"), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: "), "{}", stderr(&output));
    assert!(proxy.calls().is_empty());
}

#[test]
fn a_redirect_does_not_carry_the_key_elsewhere() {
    let elsewhere = Fake::start(|_| Answer::ok("{}"));
    let target = format!("{}/attest/v1/challenge", elsewhere.origin);
    let proxy = Fake::start(move |_| Answer {
        status: 307,
        headers: vec![("Location", target.clone())],
        body: Vec::new(),
    });
    let device = Device::new(&proxy.origin);
    let output = ask(&device, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("(http-307)"), "{}", stderr(&output));
    assert!(elsewhere.calls().is_empty());
}

#[test]
fn no_proxy_at_all_is_a_failure_with_a_hint() {
    let device = Device::new("http://127.0.0.1:9");
    let output = ask(&device, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("the proxy at http://127.0.0.1:9 does not answer"),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("hint: "));
}

#[test]
fn plain_http_to_another_machine_is_refused_before_anything_is_sent() {
    let device = Device::new("http://llm.demo.example");
    let output = ask(&device, &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("plain http to llm.demo.example"),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).contains("hint: use https://"),
        "{}",
        stderr(&output)
    );
}
