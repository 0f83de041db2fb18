//! Who may be served: by a key, as a stream, over HTTP/2, by a session, by a quote; and who leaves before the end.
//! Each knows what it must get, and when a fault excuses less.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{
    field::{Fault, Field, Phase},
    server::PIECES,
};
use crate::common::{
    Answer, ask,
    client::{Connection, request},
    forge::Tpm,
    http2::{self, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, block, frame},
    kiosk::{Kiosk, wall},
    psk,
};

/// A prompt that may reach the upstream.
pub fn prompt(number: u64, stream: bool) -> String {
    format!(
        r#"{{"model":"smollm2:135m","stream":{stream},"messages":[{{"role":"user","content":"good {number}"}}]}}"#
    )
}

/// What is wrong with an answer to a prompt; `must`: nothing excuses that it is not whole.
fn wrong(answer: &Answer, number: u64, stream: bool, must: bool) -> Option<String> {
    let text = answer.text();
    let short: String = text.chars().take(200).collect();
    match answer.status {
        200 => {}
        502..=504 if !must => return None,
        status => return Some(format!("{status} for a good request: {short}")),
    }
    let objects: Vec<serde_json::Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let echo = format!("echo {number}");
    let foreign = |o: &serde_json::Value| o["message"]["content"].as_str().is_some_and(|c| c != echo);
    if objects.iter().any(foreign) {
        return Some(format!("somebody else's answer to {number}: {short}"));
    }
    let pieces = if stream { PIECES } else { 1 };
    let whole = answer.complete && objects.len() == pieces && objects[pieces - 1]["done"] == true;
    let told = objects.last().is_some_and(|last| !last["error"].is_null());
    // A stream that ends early says so, where it can still say anything.
    let excused = !must && (told || !answer.complete || !stream);
    (!whole && !excused).then(|| format!("not whole ({}): {short}", answer.complete))
}

/// Asks again and again on one connection, with a key alone.
pub async fn keeper(field: Arc<Field>, stream: bool, pace: Duration) {
    let mut kept: Option<Connection> = None;
    while field.goes_on() {
        let (begun, number) = (field.phase(), field.number());
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open(field.address).await,
        };
        connection
            .send(&request(
                "POST",
                "/api/chat",
                &psk("plain"),
                &prompt(number, stream),
            ))
            .await;
        let what = if stream { "stream" } else { "chat" };
        match connection.answer("POST").await {
            Some(answer) => {
                field.count(what, answer.status);
                if let Some(wrong) = wrong(&answer, number, stream, field.serves(begun)) {
                    field.find(begun, &format!("{what}: {wrong}"));
                }
                if answer.complete && answer.header("connection") != Some("close") {
                    kept = Some(connection);
                }
            }
            None => field.find(begun, &format!("{what}: no answer at all")),
        }
        sleep(pace).await;
    }
}

/// Leaves: before the answer, within it, within its own body.
pub async fn leaver(field: Arc<Field>, pace: Duration) {
    let mut turn = 0_u32;
    while field.goes_on() {
        let bytes = request("POST", "/api/chat", &psk("plain"), &prompt(field.number(), true));
        let mut connection = Connection::open(field.address).await;
        turn = turn.wrapping_add(1);
        match turn % 4 {
            0 => connection.send(&bytes[..bytes.len() - 7]).await,
            1 => connection.send(&bytes).await,
            _ => {
                connection.send(&bytes).await;
                if connection.head().await.is_some_and(|head| head.status == 200) {
                    connection.chunk().await;
                }
            }
        }
        field.count("left", turn % 4);
        sleep(pace).await;
    }
}

/// The same by HTTP/2, three at a time on a connection.
pub async fn multiplexer(field: Arc<Field>, pace: Duration) {
    while field.goes_on() {
        let begun = field.phase();
        let mut connection = http2::Connection::open(field.address, &[]).await;
        for stream in [1, 3, 5] {
            let number = field.number();
            let mut fields = http2::fields(&[
                (":method", "POST"),
                (":scheme", "http"),
                (":authority", "proxy"),
                (":path", "/api/chat"),
                ("content-type", "application/json"),
            ]);
            fields.extend(
                psk("plain")
                    .into_iter()
                    .map(|(name, value)| (name.to_ascii_lowercase(), value)),
            );
            let body = prompt(number, false);
            let mut bytes = frame(HEADERS, END_HEADERS, stream, &block(&fields));
            bytes.extend(frame(DATA, END_STREAM, stream, body.as_bytes()));
            connection.send(&bytes).await;
            match connection.outcome(stream).await {
                Outcome::Answer(body) if body.contains(&format!("echo {number}\"")) => {
                    field.count("http2", "answered");
                }
                Outcome::Answer(body) if body.contains("echo") => {
                    field.find(
                        begun,
                        &format!("http2: somebody else's answer to {number}: {body}"),
                    );
                }
                other if field.serves(begun) => field.find(begun, &format!("http2: {other:?}")),
                _ => field.count("http2", "excused"),
            }
        }
        sleep(pace).await;
    }
}

/// Proves its state: by a session, whose requests are good once, and by quotes.
pub async fn kiosk(field: Arc<Field>, tpm: Tpm, pace: Duration) {
    let mut kiosk = Kiosk::new(field.address, tpm);
    let mut opened = Instant::now();
    let mut turn = 0_u32;
    while field.goes_on() {
        turn = turn.wrapping_add(1);
        let begun = field.phase();
        if !kiosk.has_session() || opened.elapsed() > Duration::from_secs(15) {
            match kiosk.open().await {
                Ok(()) => field.count("session", "opened"),
                Err(answer) => excuse(&field, begun, "session", &answer),
            }
            opened = Instant::now();
        } else if turn.is_multiple_of(4) || begun.fault == Fault::Recovering {
            quote(&field, &mut kiosk, begun).await;
        } else {
            sign(&field, &mut kiosk, begun).await;
        }
        sleep(pace).await;
    }
}

async fn quote(field: &Field, kiosk: &mut Kiosk, begun: Phase) {
    let number = field.number();
    let body = prompt(number, false);
    let fields = match kiosk.quoted("POST", "/api/chat", &body).await {
        Ok(fields) => fields,
        Err(answer) => return excuse(field, begun, "challenge", &answer),
    };
    let answer = ask(field.address, "POST", "/api/chat", &fields, &body).await;
    field.count("quote", answer.status);
    let mut must = field.calm(begun);
    // In a calm time the proxy may have lost the registry's answer to a write before.
    if answer.status == 200 {
        field.quoted_in.store(begun.nth, Ordering::Relaxed);
    } else if answer.status == 401 {
        must = true;
    }
    if let Some(wrong) = wrong(&answer, number, false, must) {
        field.find(begun, &format!("quote: {wrong}"));
    }
    again(field, &fields, begun, "quote").await;
}

async fn sign(field: &Field, kiosk: &mut Kiosk, begun: Phase) {
    let number = field.number();
    let body = prompt(number, false);
    let fields = kiosk.signed("POST", "/api/chat", &body, wall());
    let answer = ask(field.address, "POST", "/api/chat", &fields, &body).await;
    field.count("signed", answer.status);
    if let Some(wrong) = wrong(&answer, number, false, field.serves(begun)) {
        field.find(begun, &format!("signed: {wrong}"));
    }
    // What was admitted is admitted once.
    if answer.status == 200 {
        let again = ask(field.address, "POST", "/api/chat", &fields, &body).await;
        if again.status != 401 && (again.status != 503 || field.calm(begun)) {
            field.find(
                begun,
                &format!("a signed request sent again: {} {}", again.status, again.text()),
            );
        }
        field.count("signed again", again.status);
    }
}

/// What proved one body proves no other, and nothing a second time.
async fn again(field: &Field, fields: &[(String, String)], begun: Phase, what: &str) {
    let evil = prompt(0, false).replace("good 0", "evil: a used proof");
    let answer = ask(field.address, "POST", "/api/chat", fields, &evil).await;
    if answer.status != 401 && (answer.status != 503 || field.calm(begun)) {
        field.find(
            begun,
            &format!("a used {what}: {} {}", answer.status, answer.text()),
        );
    }
    field.count("used proof", answer.status);
}

fn excuse(field: &Field, begun: Phase, what: &str, answer: &Answer) {
    field.count(what, answer.status);
    // A write to a registry that is away is 503, and nothing else is in order at any time.
    if field.calm(begun) || answer.status != 503 {
        field.find(begun, &format!("{what}: {} {}", answer.status, answer.text()));
    }
}
