//! Every refusal as it is on the wire, and that nothing of it reached the upstream.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod common;

use std::time::Duration;

use common::{Answer, CHAT, Rig, forge, psk, quote_headers, session_key, signed};
use domain::Sha256Digest;
use protocol::{binding::Binding, headers};
use registry::DeviceState;
use testkit::upstream::Upstream;

/// Checks a refusal's code, status, and whether a challenge came with it.
fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (status, code),
        "{}",
        answer.text()
    );
    let wants = code.starts_with("evidence-")
        || code.starts_with("session-")
        || matches!(code, "signature-invalid" | "request-replayed");
    assert_eq!(answer.header("attestation-challenge").is_some(), wants, "{code}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

fn nothing_reached(rig: &Rig) {
    assert_eq!(rig.upstream.connections(), 0, "{:?}", rig.upstream.received());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_suspended_and_retired_get_the_same_answer() {
    let rig = Rig::new().await;
    refused(&rig.chat(&[]).await, 401, "psk-missing");
    let stranger = rig.chat(&psk("stranger")).await;
    refused(&stranger, 401, "psk-unknown");
    rig.edit("plain", |d| d.state = DeviceState::Suspended).await;
    rig.chat_until(&psk("plain"), 401).await;
    rig.edit("kiosk", |d| d.state = DeviceState::Retired).await;
    for _ in 0..400 {
        if rig.chat(&psk("kiosk")).await.code() == "psk-unknown" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    for device in ["plain", "kiosk"] {
        let answer = rig.chat(&psk(device)).await;
        assert_eq!((answer.status, &answer.body), (stranger.status, &stranger.body));
        let shown = |a: &Answer| {
            a.headers
                .iter()
                .filter(|(n, _)| n != "date")
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(&answer), shown(&stranger));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_suspended_while_it_runs_is_refused_at_once_and_comes_back() {
    let rig = Rig::new().await;
    assert_eq!(rig.chat(&psk("plain")).await.status, 200);
    rig.edit("plain", |d| d.state = DeviceState::Suspended).await;
    refused(&rig.chat_until(&psk("plain"), 401).await, 401, "psk-unknown");
    rig.edit("plain", |d| d.state = DeviceState::Active).await;
    rig.chat_until(&psk("plain"), 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_must_quote_gets_nowhere_on_its_psk() {
    let rig = Rig::new().await;
    let answer = rig.chat(&psk("kiosk")).await;
    refused(&answer, 401, "evidence-missing");
    let nonce = headers::parse_bytes(answer.header("attestation-challenge").unwrap().as_bytes()).unwrap();
    assert_eq!(nonce.len(), 32);
    for path in ["/api/tags", "/", "/api/version"] {
        refused(&rig.get(path, &psk("kiosk")).await, 401, "evidence-missing");
    }
    nothing_reached(&rig);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_in_a_refusal_can_be_answered_at_once() {
    let mut rig = Rig::new().await;
    let answer = rig.chat(&psk("kiosk")).await;
    let nonce = headers::parse_bytes(answer.header("attestation-challenge").unwrap().as_bytes()).unwrap();
    let body = Sha256Digest::of(CHAT.as_bytes());
    let data = rig.qualify(
        &nonce,
        &Binding::Request {
            method: "POST",
            target: "/api/chat",
            body: &body,
        },
    );
    let evidence = rig.tpm.quote(&data);
    assert_eq!(rig.chat(&quote_headers(&evidence, &nonce)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_is_good_for_one_request_once() {
    let mut rig = Rig::new().await;
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    let other = CHAT.replace("Gleis", "Zug");
    refused(
        &rig.post("/api/chat", &fields, &other).await,
        401,
        "evidence-invalid",
    );
    refused(
        &rig.post("/api/generate", &fields, CHAT).await,
        401,
        "evidence-invalid",
    );
    refused(
        &rig.post("/api/chat?x", &fields, CHAT).await,
        401,
        "evidence-invalid",
    );
    nothing_reached(&rig);
    assert_eq!(rig.chat(&fields).await.status, 200);
    refused(&rig.chat(&fields).await, 401, "evidence-stale");
    assert_eq!(rig.upstream.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_is_answered_once_even_by_a_new_quote() {
    let mut rig = Rig::new().await;
    let challenge = rig.challenge("kiosk").await;
    let body = Sha256Digest::of(CHAT.as_bytes());
    let binding = Binding::Request {
        method: "POST",
        target: "/api/chat",
        body: &body,
    };
    let data = rig.qualify(challenge.nonce.as_bytes(), &binding);
    for expected in [200, 401] {
        let evidence = rig.tpm.quote(&data);
        assert_eq!(
            rig.chat(&quote_headers(&evidence, challenge.nonce.as_bytes()))
                .await
                .status,
            expected
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_is_old_foreign_or_of_another_state_is_refused() {
    let mut rig = Rig::new().await;
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    rig.clock.advance(Duration::from_secs(60));
    refused(&rig.chat(&fields).await, 401, "evidence-stale");
    // A quote by another TPM.
    let own = std::mem::replace(&mut rig.tpm, forge::Tpm::new());
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    refused(&rig.chat(&fields).await, 401, "evidence-invalid");
    rig.tpm = own;
    // Another state.
    let good = rig.tpm.pcrs.clone();
    rig.tpm.extend();
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    let answer = rig.chat(&fields).await;
    refused(&answer, 401, "evidence-mismatch");
    assert!(
        !answer.text().contains("11"),
        "the client is not told which PCR: {}",
        answer.text()
    );
    rig.tpm.pcrs = good;
    // Some of the PCRs.
    rig.tpm.pcrs.remove(&forge::index(7));
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    refused(&rig.chat(&fields).await, 401, "evidence-mismatch");
    rig.tpm.pcrs = forge::good_pcrs();
    nothing_reached(&rig);
    // After a good one, the counters must not go back.
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    assert_eq!(rig.chat(&fields).await.status, 200);
    rig.tpm.clock.reset_count -= 1;
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    refused(&rig.chat(&fields).await, 401, "evidence-stale");
    assert_eq!(rig.upstream.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_written_by_another_replica_count() {
    let mut rig = Rig::new().await;
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    assert_eq!(rig.chat(&fields).await.status, 200);
    // Another replica accepts a later quote; this one hears of it at the latest when its own write is refused.
    let kiosk = "kiosk".parse().unwrap();
    let seen = rig.registry.seen(&kiosk).await.unwrap().unwrap();
    let later = registry::SeenRecord {
        reset_count: 9,
        ..seen.value
    };
    rig.registry
        .put_seen(&kiosk, later, Some(seen.revision))
        .await
        .unwrap();
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    refused(&rig.chat(&fields).await, 401, "evidence-stale");
    rig.tpm.clock.reset_count = 9;
    rig.tpm.clock.clock += 1000;
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    assert_eq!(rig.chat(&fields).await.status, 200);
}

/// All that a proxy may write is what was seen. One that was broken into cannot make the others forget a reset.
#[tokio::test(flavor = "multi_thread")]
async fn counters_that_were_put_back_make_nothing_fresh() {
    let mut rig = Rig::new().await;
    let old = rig.tpm.clock;
    rig.tpm.clock.reset_count += 1;
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    assert_eq!(rig.chat(&fields).await.status, 200);
    let kiosk = "kiosk".parse().unwrap();
    let seen = rig.registry.seen(&kiosk).await.unwrap().unwrap();
    let back = registry::SeenRecord {
        reset_count: old.reset_count,
        clock: 0,
        ..seen.value
    };
    rig.registry
        .put_seen(&kiosk, back, Some(seen.revision))
        .await
        .unwrap();
    rig.tpm.clock = old;
    for _ in 0..10 {
        let fields = rig.quoted("POST", "/api/chat", CHAT).await;
        refused(&rig.chat(&fields).await, 401, "evidence-stale");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The TPM as it is goes on, over what was written.
    rig.tpm.clock.reset_count += 1;
    let fields = rig.quoted("POST", "/api/chat", CHAT).await;
    assert_eq!(rig.chat(&fields).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_opened_by_good_evidence_alone() {
    let mut rig = Rig::new().await;
    let key = session_key(1);
    let good = rig.session_request(&key).await;
    // Another key than the quoted one: whoever sits in between gains nothing.
    let mut swapped = good.clone();
    swapped.public_key = session_key(2).public_key().to_vec();
    refused(&rig.open(&swapped).await, 401, "evidence-invalid");
    let mut weak = good.clone();
    weak.public_key = vec![0; 32];
    refused(&rig.open(&weak).await, 401, "evidence-invalid");
    let mut foreign = good.clone();
    foreign.nonce = rig.challenge("plain").await.nonce.as_bytes().to_vec();
    refused(&rig.open(&foreign).await, 401, "evidence-stale");
    for body in ["", "{}", "[]", "{\"quote\":\"\"}"] {
        refused(
            &rig.post(headers::SESSION_PATH, &psk("kiosk"), body).await,
            400,
            "request-malformed",
        );
    }
    // For a device that need not prove anything there is nothing to judge by.
    let body = serde_json::to_string(&good).unwrap();
    refused(
        &rig.post(headers::SESSION_PATH, &psk("plain"), &body).await,
        401,
        "evidence-stale",
    );
    refused(
        &rig.post(headers::SESSION_PATH, &psk("stranger"), &body).await,
        401,
        "psk-unknown",
    );
    assert_eq!(rig.open(&good).await.status, 200);
    refused(&rig.open(&good).await, 401, "evidence-stale");
    nothing_reached(&rig);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_request_is_good_once_and_unchanged() {
    let mut rig = Rig::new().await;
    let key = session_key(1);
    let token = rig.session(&key).await.session;
    let chat = ("POST", "/api/chat", CHAT);
    let fields = signed(&rig, "kiosk", &token, &key, chat, 1);
    let other = CHAT.replace("Gleis", "Zug");
    refused(
        &rig.post("/api/chat", &fields, &other).await,
        401,
        "signature-invalid",
    );
    refused(
        &rig.post("/api/generate", &fields, CHAT).await,
        401,
        "signature-invalid",
    );
    refused(
        &rig.post("/api/chat?x", &fields, CHAT).await,
        401,
        "signature-invalid",
    );
    refused(
        &rig.chat(&signed(&rig, "kiosk", &token, &session_key(2), chat, 2))
            .await,
        401,
        "signature-invalid",
    );
    nothing_reached(&rig);
    assert_eq!(rig.chat(&fields).await.status, 200);
    refused(&rig.chat(&fields).await, 401, "request-replayed");
    rig.clock.advance(Duration::from_secs(31));
    refused(&rig.chat(&fields).await, 401, "signature-invalid");
    assert_eq!(rig.upstream.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_dies_with_what_it_rests_on() {
    let mut rig = Rig::new().await;
    let key = session_key(1);
    let chat = ("POST", "/api/chat", CHAT);
    let token = rig.session(&key).await.session;
    // Another device's PSK with it.
    let tpm = forge::Tpm::new();
    rig.registry
        .enrol(forge::device("second", "strict", Some(&tpm)))
        .await
        .unwrap();
    for _ in 0..400 {
        if rig.get(headers::CHALLENGE_PATH, &psk("second")).await.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    refused(
        &rig.chat(&signed(&rig, "second", &token, &key, chat, 1)).await,
        401,
        "session-invalid",
    );
    // A forged token.
    let mut forged = token.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    refused(
        &rig.chat(&signed(&rig, "kiosk", &forged, &key, chat, 2)).await,
        401,
        "session-invalid",
    );
    assert_eq!(
        rig.chat(&signed(&rig, "kiosk", &token, &key, chat, 3))
            .await
            .status,
        200
    );
    // A reboot that a new quote shows.
    rig.tpm.clock.reset_count += 1;
    let token = {
        let newer = rig.session(&key).await.session;
        refused(
            &rig.chat(&signed(&rig, "kiosk", &token, &key, chat, 4)).await,
            401,
            "session-invalid",
        );
        newer
    };
    assert_eq!(
        rig.chat(&signed(&rig, "kiosk", &token, &key, chat, 5))
            .await
            .status,
        200
    );
    // The policy's revision.
    rig.edit_policy("strict", |p| p.session_ttl = 60).await;
    let mut nth = 10;
    loop {
        let answer = rig.chat(&signed(&rig, "kiosk", &token, &key, chat, nth)).await;
        if answer.status == 401 {
            refused(&answer, 401, "session-invalid");
            break;
        }
        nth += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Its time.
    let token = rig.session(&key).await.session;
    rig.clock.advance(Duration::from_secs(59));
    assert_eq!(
        rig.chat(&signed(&rig, "kiosk", &token, &key, chat, 101))
            .await
            .status,
        200
    );
    rig.clock.advance(Duration::from_secs(1));
    refused(
        &rig.chat(&signed(&rig, "kiosk", &token, &key, chat, 102)).await,
        401,
        "session-expired",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_models_are_refused_by_name() {
    let rig = Rig::new().await;
    for path in [
        "/api/pull",
        "/api/create",
        "/api/%70ull",
        "/api//chat",
        "/api/chat/../pull",
        "/api/me",
        "/api/chat;x",
    ] {
        refused(&rig.post(path, &psk("plain"), CHAT).await, 403, "path-denied");
    }
    refused(&rig.get("/favicon.ico", &psk("plain")).await, 404, "path-denied");
    refused(
        &rig.post("/api/chat", &psk("plain"), r#"{"model":"other"}"#).await,
        403,
        "model-denied",
    );
    let openai = rig
        .post("/v1/chat/completions", &psk("plain"), r#"{"model":"other"}"#)
        .await;
    assert_eq!(
        (openai.status, openai.json()["error"]["code"].as_str()),
        (403, Some("model-denied"))
    );
    for body in [
        r#"{"model":"smollm2:135m","MODEL":"other"}"#,
        r#"{"model":"smollm2:135m","model":"other"}"#,
        r#"{"model":"smollm2:135m"}{}"#,
        "not json",
        "",
    ] {
        let answer = rig.post("/api/chat", &psk("plain"), body).await;
        refused(&answer, 400, "request-malformed");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    nothing_reached(&rig);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded() {
    let rig = Rig::with(
        Upstream::json("{}"),
        "[limits]\nbody-bytes = \"4KiB\"\nbody-timeout = \"300ms\"",
    )
    .await;
    let long = CHAT.replace("Gleis", &"x".repeat(5000));
    refused(
        &rig.post("/api/chat", &psk("plain"), &long).await,
        413,
        "body-too-large",
    );
    // Without an announcement too.
    let mut connection = common::client::Connection::open(rig.address).await;
    let key = forge::psk_text("plain");
    let head = format!(
        "POST /api/chat HTTP/1.1\r\nHost: a\r\nX-Pre-Shared-Key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    connection
        .send(format!("{head}1388\r\n{}\r\n0\r\n\r\n", "x".repeat(5000)).as_bytes())
        .await;
    refused(&connection.answer("POST").await.unwrap(), 413, "body-too-large");
    // A body that does not come.
    let mut connection = common::client::Connection::open(rig.address).await;
    let head = head.replace("Transfer-Encoding: chunked", "Content-Length: 100");
    connection.send(format!("{head}{{").as_bytes()).await;
    refused(
        &connection.answer("POST").await.unwrap(),
        400,
        "request-malformed",
    );
    nothing_reached(&rig);
}
