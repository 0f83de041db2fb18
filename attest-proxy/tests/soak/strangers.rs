//! Who must not be served: keys that nobody has, proofs that are none, paths and models that are denied, bodies with two
//! meanings, the corpus of malformed requests, noise, and those who never finish a sentence. Nothing of theirs may reach
//! the upstream: every prompt here says `evil`, and every prompt of the corpus is one that nobody else sends.

use std::{sync::Arc, time::Duration};

use registry::{DeviceState, Registry};
use tokio::time::sleep;

use super::{field::Field, server::Health};
use crate::{
    common::{
        ask,
        client::{Connection, request},
        psk,
    },
    corpus::{self, End},
};

const EVIL: &str = r#"{"model":"smollm2:135m","stream":false,"messages":[{"role":"user","content":"evil"}]}"#;

type Attempt = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    String,
    &'static [u16],
);

/// Name, device, method, target, further fields, body, and with which of these it is refused.
fn attempts() -> Vec<Attempt> {
    let evil = EVIL.to_owned();
    vec![
        (
            "stranger",
            "stranger",
            "POST",
            "/api/chat",
            &[],
            evil.clone(),
            &[401],
        ),
        (
            "key alone",
            "kiosk",
            "POST",
            "/api/chat",
            &[],
            evil.clone(),
            &[401],
        ),
        (
            "half a proof",
            "kiosk",
            "POST",
            "/api/chat",
            &[("TPM-Quote", ":AQ==:")],
            evil.clone(),
            &[400, 401],
        ),
        (
            "two keys",
            "plain",
            "POST",
            "/api/chat",
            &[("Authorization", "Bearer evil")],
            evil.clone(),
            &[400],
        ),
        (
            "pull",
            "plain",
            "POST",
            "/api/pull",
            &[],
            r#"{"model":"evil"}"#.into(),
            &[403, 404],
        ),
        (
            "delete",
            "plain",
            "DELETE",
            "/api/delete",
            &[],
            r#"{"model":"evil"}"#.into(),
            &[403, 404],
        ),
        (
            "spelled path",
            "plain",
            "POST",
            "/api/%63hat",
            &[],
            evil.clone(),
            &[400, 403, 404],
        ),
        (
            "another model",
            "plain",
            "POST",
            "/api/chat",
            &[],
            r#"{"model":"evil","messages":[]}"#.into(),
            &[403, 404],
        ),
        (
            "two meanings",
            "plain",
            "POST",
            "/api/chat",
            &[],
            r#"{"model":"smollm2:135m","MODEL":"evil","messages":[]}"#.into(),
            &[400],
        ),
        (
            "no JSON",
            "plain",
            "POST",
            "/api/chat",
            &[],
            "{\"evil".into(),
            &[400],
        ),
        (
            "packed",
            "plain",
            "POST",
            "/api/chat",
            &[("Content-Encoding", "gzip")],
            evil,
            &[400],
        ),
        (
            "deep",
            "plain",
            "POST",
            "/api/chat",
            &[],
            format!(r#"{{"model":"smollm2:135m","evil":{}"#, "[".repeat(2000)),
            &[400],
        ),
    ]
}

/// Tries them all, in turn.
pub async fn refused(field: Arc<Field>, pace: Duration) {
    let attempts = attempts();
    let mut turn = 0_usize;
    while field.goes_on() {
        let (name, device, method, target, more, body, expected) = &attempts[turn % attempts.len()];
        turn += 1;
        let begun = field.phase();
        let mut fields = psk(device);
        fields.extend(more.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        let answer = ask(field.address, method, target, &fields, body).await;
        field.count("refused", answer.status);
        let excused = answer.status == 503 && !field.serves(begun);
        if !expected.contains(&answer.status) && !excused {
            field.find(begun, &format!("{name}: {} {}", answer.status, answer.text()));
        }
        sleep(pace).await;
    }
}

/// The corpus of malformed requests, and noise between them.
pub async fn garbage(field: Arc<Field>, pace: Duration) {
    let cases: Vec<_> = corpus::malformed()
        .into_iter()
        .filter(|case| !matches!(case.end, End::InStep(_)))
        .collect();
    let (mut turn, mut noise) = (0_usize, 0x9e37_79b9_7f4a_7c15_u64);
    while field.goes_on() {
        let begun = field.phase();
        let mut connection = Connection::open(field.address).await;
        let case = &cases[turn % cases.len()];
        turn += 1;
        if turn.is_multiple_of(3) {
            let bytes: Vec<u8> = (0..turn % 700)
                .map(|_| {
                    noise ^= noise << 13;
                    noise ^= noise >> 7;
                    noise ^= noise << 17;
                    noise.to_le_bytes()[0]
                })
                .collect();
            connection.send(&bytes).await;
        } else {
            connection.send(&case.bytes).await;
        }
        let said = connection
            .rest_after(Duration::from_millis(200), |said| said.contains("\r\n\r\n"))
            .await;
        field.count("garbage", if said.is_empty() { "silence" } else { "refused" });
        if said.contains(" 200 ") {
            field.find(begun, &format!("{}: {said}", case.name));
        }
        sleep(pace).await;
    }
}

/// Begins and does not go on.
pub async fn dawdler(field: Arc<Field>) {
    while field.goes_on() {
        let whole = request("POST", "/api/chat", &psk("plain"), EVIL);
        let mut held = Vec::new();
        for cut in [20, 60, whole.len() - 5] {
            let mut connection = Connection::open(field.address).await;
            connection.send(&whole[..cut]).await;
            held.push(connection);
        }
        field.count("dawdled", held.len());
        sleep(Duration::from_millis(1500)).await;
    }
}

/// Takes what operators ask for.
pub async fn operator(field: Arc<Field>) {
    while field.goes_on() {
        let begun = field.phase();
        for path in ["/metrics", "/readyz", "/healthz"] {
            let answer = ask(field.operators, "GET", path, &[], "").await;
            field.count(path, answer.status);
            if answer.status != 200 && (path != "/readyz" || field.calm(begun)) {
                field.find(begun, &format!("{path}: {} {}", answer.status, answer.text()));
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Suspends the tram and lets it in again: while it is known to be out, it is out.
pub async fn tram(field: Arc<Field>, registry: Arc<dyn Registry>) {
    let id = "tram".parse().unwrap();
    let edit = async |state: DeviceState| {
        while field.goes_on() {
            if let Ok(Some(mut record)) = registry.device(&id).await {
                record.value.state = state;
                record.value.generation += 1;
                if registry
                    .update_device(record.value, record.revision)
                    .await
                    .is_ok()
                {
                    return;
                }
            }
            sleep(Duration::from_millis(300)).await;
        }
    };
    let until = async |status: u16| {
        for _ in 0..600 {
            if !field.goes_on() {
                return false;
            }
            if ask(field.address, "GET", "/api/version", &psk("tram"), "")
                .await
                .status
                == status
            {
                return true;
            }
            sleep(Duration::from_millis(100)).await;
        }
        field.find(field.phase(), &format!("the tram never got {status}"));
        false
    };
    while field.goes_on() {
        edit(DeviceState::Suspended).await;
        if until(401).await {
            for _ in 0..5 {
                let begun = field.phase();
                let answer = ask(field.address, "POST", "/api/chat", &psk("tram"), EVIL).await;
                field.count("suspended", answer.status);
                if !matches!(answer.status, 401 | 503) {
                    field.find(begun, &format!("a suspended device: {}", answer.status));
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        edit(DeviceState::Active).await;
        until(200).await;
    }
}

/// How the upstream is in a fault of its own.
pub const fn health_in(fault: super::field::Fault) -> Health {
    use super::field::Fault;
    match fault {
        Fault::UpstreamKilled => Health::Dead,
        Fault::UpstreamHung => Health::Hung,
        Fault::UpstreamSlow => Health::Slow,
        Fault::UpstreamGarbage => Health::Garbage,
        _ => Health::Well,
    }
}
