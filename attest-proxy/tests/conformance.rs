//! Http11Probe's cases, each under its own name, and the verdict that suite would give on this proxy.
//!
//! The bytes are ours, with a key and on a route that is served here; what passes is what the suite says passes. A verdict
//! other than "pass" stands in the table with its reason; whatever changes there fails this test, for better or worse.
//! Cases on cookies, caching and ranges of an origin's own content have no counterpart: the gate has none of these.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "test code"
)]

mod common;
mod corpus;

use std::{net::SocketAddr, time::Duration};

use common::{
    Rig,
    client::Connection,
    forge::psk_text,
    fronts::{haproxy, nginx},
};
use corpus::{
    End, chunks, fill, framing, lines,
    probe::{self, Probe, Verdict},
};
use testkit::upstream::Upstream;

/// How long a server that waits is watched.
const SILENCE: Duration = Duration::from_millis(400);

/// How long a first word may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a client saw.
#[derive(Debug)]
struct Seen {
    said: String,
    closed: bool,
}

impl Seen {
    fn statuses(&self) -> Vec<u16> {
        let answers = self.said.split("HTTP/1.").skip(1);
        answers.filter_map(|a| a.get(2..5)?.parse().ok()).collect()
    }

    fn head(&self) -> String {
        let head = self.said.split("\r\n\r\n").next().unwrap_or_default();
        head.to_ascii_lowercase()
    }

    /// Whether this is one of the outcomes that `wanted` names, apart by `/`.
    fn is(&self, wanted: &str) -> bool {
        let all = self.statuses();
        let last: Vec<u16> = all.iter().copied().filter(|s| *s >= 200).collect();
        wanted.split('/').any(|one| match one {
            "close" => all.is_empty() && self.closed,
            "wait" => all.is_empty() && !self.closed,
            "2xx" => last.first().is_some_and(|s| (200..300).contains(s)),
            "2xx+close" => last.first().is_some_and(|s| (200..300).contains(s)) && self.closed,
            "2xx+date" => last == [200] && self.head().contains("\r\ndate: ") && self.head().contains(" gmt"),
            "2xx+type" => last == [200] && self.head().contains("\r\ncontent-type: "),
            "2xx-body" => last == [200] && self.said.ends_with("\r\n\r\n"),
            "4xx" => last.first().is_some_and(|s| (400..500).contains(s)),
            "400+close" => last == [400] && self.closed,
            "2xx,2xx" => last == [200, 200],
            "not-101" => !all.is_empty() && !all.contains(&101),
            "no-1xx" => !all.is_empty() && all.iter().all(|s| *s >= 200),
            "allow" => self.head().contains("\r\nallow: "),
            "anything" => true,
            "nothing" => false,
            status => last.first() == status.parse().ok().as_ref(),
        })
    }
}

async fn play(address: SocketAddr, case: Probe) -> Seen {
    let mut connection = Connection::open(address).await;
    let long = "a".repeat(7900);
    let huge = "B".repeat(100_000);
    let many: String = (0..10_000).map(|n| format!("X-H-{n}: value\r\n")).collect();
    let template = case
        .template
        .replace("{7900}", &long)
        .replace("{100K}", &huge)
        .replace("{MANY}", &many);
    connection.send(&fill(&template)).await;
    // Where the suite allows no silence, a busy machine may be slow.
    let first = if case.pass.contains("wait") {
        SILENCE
    } else {
        PATIENCE
    };
    let (said, closed) = connection.watch(first, SILENCE).await;
    Seen { said, closed }
}

fn judge(case: &Probe, seen: &Seen) -> Verdict {
    if seen.is(case.pass) {
        Verdict::Pass
    } else if seen.is(case.warn) {
        Verdict::Warn
    } else {
        Verdict::Fail
    }
}

/// Plays every case; each waits for silence: eight at a time.
async fn run(address: SocketAddr) -> Vec<(Probe, Seen, Verdict)> {
    let mut all = Vec::new();
    for some in probe::cases().chunks(8) {
        let played: Vec<_> = some
            .iter()
            .map(|case| (*case, tokio::spawn(play(address, *case))))
            .collect();
        for (case, seen) in played {
            let seen = seen.await.unwrap();
            let verdict = judge(&case, &seen);
            all.push((case, seen, verdict));
        }
    }
    all
}

fn count(all: &[(Probe, Seen, Verdict)], wanted: Verdict) -> usize {
    all.iter().filter(|(.., verdict)| *verdict == wanted).count()
}

fn say(who: &str, all: &[(Probe, Seen, Verdict)]) {
    let [passed, warned, failed] = [Verdict::Pass, Verdict::Warn, Verdict::Fail].map(|v| count(all, v));
    println!(
        "Http11Probe, {who}: {passed} pass, {warned} warn, {failed} fail, of {}",
        all.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn http11probe_says_of_us_what_is_written_down() {
    let rig = Rig::new().await;
    let all = run(rig.address).await;
    let mut wrong = Vec::new();
    for (case, seen, verdict) in &all {
        let (wanted, why) = probe::EXCEPT
            .iter()
            .find(|(id, ..)| *id == case.id)
            .map_or((Verdict::Pass, ""), |(_, verdict, why)| (*verdict, *why));
        if *verdict != wanted {
            wrong.push(format!(
                "{}: {verdict:?} ({seen:.300?}), not {wanted:?} {why}",
                case.id
            ));
        }
    }
    say("attest-proxy", &all);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let known: Vec<_> = all.iter().map(|(case, ..)| case.id).collect();
    assert!(probe::EXCEPT.iter().all(|(id, ..)| known.contains(id)));
    // Whatever the verdicts, nothing of this is anything but what was asked for.
    for request in rig.upstream.received() {
        let seen = (request.method.as_str(), request.target.as_str());
        assert!(
            matches!(seen, ("POST", "/api/chat") | ("GET" | "HEAD", "/")),
            "{seen:?}"
        );
        let everything = String::from_utf8_lossy(&request.everything()).into_owned();
        assert!(
            !everything.contains(&psk_text("plain")) && !everything.to_lowercase().contains("x-checksum")
        );
    }
}

/// How many requests with broken lines, lengths or chunks a server is shown through a proxy. What only this gate wants of a
/// request is not among them.
async fn let_through(address: SocketAddr, upstream: &Upstream) -> (usize, usize) {
    let mut through = 0;
    let broken = [framing::cases(), lines::cases(), chunks::cases()].concat();
    let broken: Vec<_> = broken.iter().filter(|c| c.end == End::Closed).collect();
    for case in &broken {
        let before = upstream.received().len();
        let mut connection = Connection::open(address).await;
        connection.send(&case.bytes).await;
        let _ = connection.rest_after(Duration::from_millis(15), |_| false).await;
        through += usize::from(upstream.received().len() > before);
    }
    (through, broken.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_does_better() {
    let rig = Rig::new().await;
    let ours = run(rig.address).await;
    let passed = count(&ours, Verdict::Pass);
    assert_eq!(let_through(rig.address, &rig.upstream).await.0, 0);
    say("attest-proxy", &ours);
    let dir = tempfile::tempdir().unwrap();
    for who in ["nginx", "HAProxy"] {
        let upstream = Upstream::json("{\"done\":true}");
        let behind = upstream.url().trim_start_matches("http://").parse().unwrap();
        let (_front, address) = match who {
            "nginx" => nginx(dir.path(), behind, 50).await,
            _ => haproxy(dir.path(), behind, 50, "").await,
        };
        let theirs = run(address).await;
        say(who, &theirs);
        let (through, of) = let_through(address, &upstream).await;
        println!("{who} lets through {through} of {of} broken requests; attest-proxy none");
        assert!(count(&theirs, Verdict::Pass) <= passed, "{who}");
        assert!(through > 0, "{who}");
    }
}
