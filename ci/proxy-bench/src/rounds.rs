//! The order of measuring: every contender once in each round, another one first each time, so that what else runs on the machine
//! meets all alike.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::binding::Binding;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::{
    Options, backend, cores,
    credentials::{self, Kiosks},
    load::{self, Requests, count},
    memory::{self, Memory},
    ours::{self, House},
    peers::{self, Running},
    streams::{self, Streams},
    usage,
};

const CONNECTIONS: usize = 64;
const IDLE_CONNECTIONS: usize = 10_000;

#[derive(Serialize)]
pub(crate) struct Measured {
    connections: usize,
    turn_seconds: f64,
    body_bytes: usize,
    answer_bytes: usize,
    devices: usize,
    contenders: Vec<Contender>,
    rounds: Vec<Round>,
    memory: Option<Memory>,
}

#[derive(Serialize)]
struct Contender {
    name: String,
    version: String,
}

#[derive(Serialize, Default)]
struct Round {
    turns: BTreeMap<String, Turn>,
    /// One bare verification by ring, in microseconds.
    ed25519_us: f64,
    p256_us: f64,
    streams: BTreeMap<&'static str, Streams>,
}

#[derive(Serialize)]
struct Turn {
    per_second: f64,
    /// The proxy's processor time for one request, in microseconds.
    cpu_us: f64,
    /// At one connection.
    p50_us: f64,
    p99_us: f64,
}

/// One that is measured: an address, the program behind it, and what it is asked.
struct Run {
    name: String,
    address: SocketAddr,
    pid: u32,
    /// Answers per second that were seen last: so many requests are prepared.
    rate: f64,
}

struct Times {
    rounds: usize,
    warm: Duration,
    crowd: Duration,
    single: Duration,
    streams: usize,
}

pub(crate) fn run(options: &Options) -> Measured {
    let times = if options.quick {
        Times {
            rounds: 3,
            warm: Duration::from_millis(100),
            crowd: Duration::from_millis(400),
            single: Duration::from_millis(200),
            streams: 1,
        }
    } else {
        Times {
            rounds: 7,
            warm: Duration::from_millis(300),
            crowd: Duration::from_secs(2),
            single: Duration::from_secs(1),
            streams: 4,
        }
    };
    memory::raise_limit(IDLE_CONNECTIONS);
    cores::pin(cores::LOAD);
    let dir = tempfile::tempdir().unwrap();
    let (fixed, streaming) = (backend::fixed(), backend::streaming());
    let mut kiosks = Kiosks::new(u8::try_from(CONNECTIONS).unwrap());
    let house = House::build(&options.ours, &kiosks);
    let mut running = peers::start(options, dir.path(), fixed);
    if ["psk", "session", "quotes"]
        .iter()
        .any(|name| options.wants(name))
    {
        running.push(house.start("psk", fixed, false));
    }
    if options.wants("everything") {
        running.push(house.start("everything", fixed, true));
    }
    let mut runs = runs(options, &running, fixed);
    let streamer = options
        .wants("streams")
        .then(|| house.start("streams", streaming, true));
    let mut rounds = Vec::new();
    for nth in 0..times.rounds {
        let mut round = Round::default();
        let from = nth % runs.len();
        for at in (from..runs.len()).chain(0..from) {
            let turn = turn(&mut runs[at], &mut kiosks, &times);
            eprintln!(
                "round {} {:<10} {:>7.0}/s {:>6.1} us cpu, p50 {:>5.0} us, p99 {:>5.0} us",
                nth + 1,
                runs[at].name,
                turn.per_second,
                turn.cpu_us,
                turn.p50_us,
                turn.p99_us
            );
            round.turns.insert(runs[at].name.clone(), turn);
        }
        (round.ed25519_us, round.p256_us) = bare(&mut kiosks);
        if let Some(proxy) = &streamer {
            let request = credentials::streaming(&ours::plain_key(0));
            for (name, address) in [("direct", streaming), ("ours", proxy.address)] {
                let streams = streams::measure(address, &request, times.streams);
                eprintln!("round {} {name}: {streams:?}", nth + 1);
                round.streams.insert(name, streams);
            }
        }
        rounds.push(round);
    }
    let memory = options.wants("memory").then(|| {
        let proxy = house.start("memory", fixed, true);
        memory::measure(&proxy, IDLE_CONNECTIONS)
    });
    Measured {
        connections: CONNECTIONS,
        turn_seconds: times.crowd.as_secs_f64(),
        body_bytes: credentials::BODY.len(),
        answer_bytes: backend::ANSWER.len(),
        devices: ours::PLAIN + CONNECTIONS,
        contenders: running
            .iter()
            .map(|r| Contender {
                name: r.name.clone(),
                version: r.version.clone(),
            })
            .collect(),
        rounds,
        memory,
    }
}

/// The backend alone, every proxy, and ours again with more to check.
fn runs(options: &Options, running: &[Running], backend: SocketAddr) -> Vec<Run> {
    let mut runs = vec![Run {
        name: "direct".into(),
        address: backend,
        pid: std::process::id(),
        rate: 0.0,
    }];
    for proxy in running {
        let names: &[&str] = if proxy.name == "psk" {
            &["psk", "session", "quotes"]
        } else {
            &[&proxy.name]
        };
        for name in names.iter().filter(|name| options.wants(name)) {
            runs.push(Run {
                name: (*name).to_owned(),
                address: proxy.address,
                pid: proxy.child.id(),
                rate: 14_000.0,
            });
        }
    }
    runs
}

fn turn(run: &mut Run, kiosks: &mut Kiosks, times: &Times) -> Turn {
    let cpu = || usage::cpu(run.pid);
    let lanes = lanes(run, kiosks, CONNECTIONS, run.rate * 1.3, times.warm + times.crowd);
    let crowd = load::run(&run.name, run.address, lanes, (times.warm, times.crowd), cpu);
    // One connection gets a part of the rate of many at most.
    let lanes = lanes_of_one(run, kiosks, crowd.per_second(), times.warm + times.single);
    let single = load::run(&run.name, run.address, lanes, (times.warm, times.single), cpu);
    let turn = Turn {
        per_second: crowd.per_second(),
        cpu_us: crowd.cpu_us(),
        p50_us: single.percentile(50),
        p99_us: single.percentile(99),
    };
    run.rate = turn.per_second;
    turn
}

fn lanes_of_one(run: &Run, kiosks: &mut Kiosks, rate: f64, time: Duration) -> Vec<Requests> {
    lanes(run, kiosks, 1, rate, time)
}

fn lanes(run: &Run, kiosks: &mut Kiosks, connections: usize, rate: f64, time: Duration) -> Vec<Requests> {
    let each = rate * time.as_secs_f64() / count(connections);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some thousands"
    )]
    let each = each.ceil() as usize + 20;
    (0..connections)
        .map(|lane| match run.name.as_str() {
            "session" => Requests::Once(Arc::from(kiosks.signed(run.address, lane, each))),
            "quotes" => Requests::Once(Arc::from(kiosks.quoted(lane, each))),
            // Envoy knows one key.
            "envoy" => Requests::Same(credentials::plain(&ours::plain_key(0))),
            _ => Requests::Same(credentials::plain(&ours::plain_key(lane * 7))),
        })
        .collect()
}

/// Ring's bare verification of an Ed25519 and of a P-256 signature, on the proxies' core, in processor time.
fn bare(kiosks: &mut Kiosks) -> (f64, f64) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    // As long as the signature base of a session's request.
    let message = [b'x'; 800];
    let signature = pair.sign(&message);
    let key = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref().to_vec());
    let public_key = [1; 32];
    let (quote, _) = kiosks.quote(
        0,
        &Binding::Session {
            public_key: &public_key,
        },
    );
    let public = evidence::wire::Public::parse(kiosks.all[0].tpm.public.as_bytes()).unwrap();
    let evidence::wire::Parameters::Ecc { x, y, .. } = public.parameters else {
        panic!("an elliptic curve")
    };
    let p256 = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4][..], x, y].concat());
    let evidence::wire::Signature::Ecdsa { r, s, .. } =
        evidence::wire::Signature::parse(&quote.signature).unwrap()
    else {
        panic!("an elliptic curve")
    };
    let fixed = [r, s].concat();
    let (message, quote) = (&message, &quote.quote);
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                cores::pin(cores::PROXY);
                (
                    time_of(|| key.verify(message, signature.as_ref()).is_ok()),
                    time_of(|| p256.verify(quote, &fixed).is_ok()),
                )
            })
            .join()
            .unwrap()
    })
}

/// Processor time of one call, in microseconds.
fn time_of(check: impl Fn() -> bool) -> f64 {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(
            u64::try_from(now.tv_sec).unwrap(),
            u32::try_from(now.tv_nsec).unwrap(),
        )
    };
    let (begun, from, mut calls) = (Instant::now(), now(), 0);
    while begun.elapsed() < Duration::from_millis(200) {
        for _ in 0..100 {
            assert!(check());
        }
        calls += 100;
    }
    now().saturating_sub(from).as_secs_f64() * 1e6 / count(calls)
}
