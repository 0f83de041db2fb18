//! A soak: the program with a real etcd and two servers, under clients of every kind, while its cables are pulled by turns.
//! Nobody gets a wrong answer, nothing that was refused reaches a server, every fault is got over without a restart, and
//! what the process holds afterwards is what it held before.
//!
//! In the normal test set it takes about a minute. `ci/soak MINUTES` runs it longer, by `SOAK_SECONDS`, and has the figures
//! written to the file that `SOAK_REPORT` names.

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
#[path = "soak/mod.rs"]
mod soak;

use std::{
    process::Command,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use common::{
    ask, forge,
    process::Held,
    program::{Running, folder_on},
    psk,
};
use registry::Registry;
use soak::{
    clients,
    curve::{self, Sample},
    field::{Fault, Field, Phase},
    report,
    server::{self, Health, Witness},
    strangers,
};
use testkit::Etcd;
use tokio::{sync::watch, task::JoinHandle, time::sleep};

/// What stands in the configuration beside the usual.
const MORE: &str = r#"
registry-max-age = "15s"
upstream-poll = "300ms"
[audit]
file = "audit.jsonl"
max-size = "8MiB"
[registry-snapshot]
file = "registry.snapshot"
[limits]
first-byte-timeout = "1s"
chunk-timeout = "1s"
connect-timeout = "500ms"
header-timeout = "2s"
body-timeout = "3s"
upstream-idle = 16
"#;

/// How long it goes on, and how long each part of it is.
struct Plan {
    total: Duration,
    fault: Duration,
    calm: Duration,
    faults: &'static [Fault],
}

const SHORT: &[Fault] = &[
    Fault::UpstreamKilled,
    Fault::RegistryHung,
    Fault::UpstreamHung,
    Fault::RegistryKilled,
    Fault::UpstreamSlow,
    Fault::UpstreamGarbage,
];
const LONG: &[Fault] = &[
    Fault::UpstreamKilled,
    Fault::RegistryHung,
    Fault::UpstreamHung,
    Fault::RegistryKilled,
    Fault::UpstreamSlow,
    Fault::UpstreamGarbage,
    Fault::RegistryGone,
];

impl Plan {
    fn asked_for() -> Self {
        match std::env::var("SOAK_SECONDS") {
            Err(_) => Self {
                total: Duration::from_secs(60),
                fault: Duration::from_millis(2000),
                calm: Duration::from_millis(2500),
                faults: SHORT,
            },
            Ok(seconds) => Self {
                total: Duration::from_secs(seconds.parse().expect("SOAK_SECONDS is a number")),
                fault: Duration::from_secs(4),
                calm: Duration::from_secs(10),
                faults: LONG,
            },
        }
    }
}

/// A registry with three devices, and a configuration of a proxy on it.
async fn prepare(
    etcd: &Etcd,
    servers: [std::net::SocketAddr; 2],
) -> (tempfile::TempDir, forge::Tpm, Arc<dyn Registry>) {
    let dir = tempfile::tempdir().unwrap();
    let upstreams: String = servers
        .iter()
        .map(|address| format!("[[upstreams]]\nurl = \"http://{address}\"\n"))
        .collect();
    // Keys of the top level come before its tables.
    let (top, tables) = MORE.split_at(MORE.find('[').unwrap());
    let more = format!("{tables}{upstreams}# registry-max-age");
    let url = etcd.url().parse().unwrap();
    let (config, tpm, registry) = folder_on(&dir, &url, "", &more).await;
    registry.enrol(forge::device("tram", "open", None)).await.unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("upstream-poll = \"50ms\"\n", top)).unwrap();
    (dir, tpm, registry)
}

fn players(field: &Arc<Field>, tpm: forge::Tpm, registry: &Arc<dyn Registry>) -> Vec<JoinHandle<()>> {
    let ms = Duration::from_millis;
    let mut all = vec![
        tokio::spawn(clients::kiosk(Arc::clone(field), tpm, ms(120))),
        tokio::spawn(strangers::operator(Arc::clone(field))),
        tokio::spawn(strangers::dawdler(Arc::clone(field))),
        tokio::spawn(strangers::tram(Arc::clone(field), Arc::clone(registry))),
    ];
    for _ in 0..4 {
        all.push(tokio::spawn(clients::keeper(Arc::clone(field), false, ms(60))));
        all.push(tokio::spawn(clients::keeper(Arc::clone(field), true, ms(60))));
    }
    for _ in 0..2 {
        all.push(tokio::spawn(clients::leaver(Arc::clone(field), ms(120))));
        all.push(tokio::spawn(clients::multiplexer(Arc::clone(field), ms(150))));
        all.push(tokio::spawn(strangers::refused(Arc::clone(field), ms(80))));
        all.push(tokio::spawn(strangers::garbage(Arc::clone(field), ms(60))));
    }
    all
}

/// Reads what the program holds, until the load is over.
fn watch_it(field: &Arc<Field>, pid: u32, every: Duration) -> JoinHandle<Vec<Sample>> {
    let field = Arc::clone(field);
    tokio::spawn(async move {
        let begun = Instant::now();
        let mut samples = Vec::new();
        while field.goes_on() {
            let before = field.phase();
            if let Some(held) = Held::by(pid) {
                let calm = field.calm(before);
                samples.push(Sample {
                    at: begun.elapsed(),
                    calm,
                    held,
                });
            } else {
                field.find(before, "the program is not there any more");
                break;
            }
            sleep(every).await;
        }
        samples
    })
}

/// One fault, from its beginning until everything works again.
async fn suffer(field: &Field, fault: Fault, plan: &Plan, health: &watch::Sender<Health>, etcd: &mut Etcd) {
    field.enter(fault);
    health.send_replace(strangers::health_in(fault));
    match fault {
        Fault::RegistryHung => {
            etcd.pause();
            sleep(plan.fault).await;
            etcd.resume();
        }
        Fault::RegistryKilled => tokio::task::block_in_place(|| etcd.restart()),
        Fault::RegistryGone => {
            etcd.pause();
            gone(field).await;
            sleep(plan.fault).await;
            etcd.resume();
        }
        _ => sleep(plan.fault).await,
    }
    recover(field, health).await;
}

/// Waits until the snapshot is too old: then nobody is served any more.
async fn gone(field: &Field) {
    let begun = field.phase();
    for _ in 0..300 {
        let answer = ask(field.address, "GET", "/api/version", &psk("plain"), "").await;
        if answer.status == 503 && answer.code() == "registry-stale" {
            return field.count("registry gone", "stale");
        }
        sleep(Duration::from_millis(100)).await;
    }
    field.find(begun, "the registry is gone, and its snapshot is still good");
}

/// Ends every fault, and waits until nobody needs an excuse.
async fn recover(field: &Field, health: &watch::Sender<Health>) {
    health.send_replace(Health::Well);
    field.enter(Fault::Recovering);
    let Phase { nth, .. } = field.phase();
    let (deadline, mut good) = (Instant::now() + Duration::from_secs(45), 0);
    while good < 6 || field.quoted_in.load(Ordering::Relaxed) < nth {
        if Instant::now() > deadline {
            field.find(field.phase(), "it did not recover");
            break;
        }
        let number = field.number();
        let body = clients::prompt(number, false);
        let answer = ask(field.address, "POST", "/api/chat", &psk("plain"), &body).await;
        good = if answer.status == 200 { good + 1 } else { 0 };
        sleep(Duration::from_millis(50)).await;
    }
    field.count("recovered", "in time");
    field.enter(Fault::None);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_and_faults_leave_answers_memory_and_descriptors_as_they_were() {
    let plan = Plan::asked_for();
    let witness = Arc::new(Witness::default());
    let health = watch::Sender::new(Health::Well);
    let servers = [
        server::start(health.subscribe(), Arc::clone(&witness)).await,
        server::start(health.subscribe(), Arc::clone(&witness)).await,
    ];
    let mut etcd = Etcd::start();
    let (dir, tpm, registry) = prepare(&etcd, servers).await;
    let running = Running::start(&dir.path().join("attest-proxy.toml"), &["--log-level", "error"]);
    let pid = running.child.id();
    let field = Arc::new(Field::new(running.address, running.operators));
    let idle = Held::by(pid).unwrap();

    let begun = Instant::now();
    let samples = watch_it(&field, pid, Duration::from_millis(250).max(plan.total / 4000));
    let players = players(&field, tpm, &registry);
    recover(&field, &health).await;
    sleep(plan.calm).await;
    let mut faults = plan.faults.iter().copied().cycle();
    let mut suffered = 0_u64;
    while begun.elapsed() < plan.total {
        suffer(&field, faults.next().unwrap(), &plan, &health, &mut etcd).await;
        suffered += 1;
        sleep(plan.calm).await;
    }
    field.end();
    for player in players {
        if let Err(error) = player.await {
            field.find(field.phase(), &format!("a client ended: {error}"));
        }
    }
    let samples = samples.await.unwrap();
    // Who is gone holds nothing: what is kept is for the servers, the registry and the logs.
    let mut rest = Held::by(pid).unwrap();
    for _ in 0..60 {
        if rest.descriptors <= idle.descriptors + 2 * 16 + 4 {
            break;
        }
        sleep(Duration::from_millis(250)).await;
        rest = Held::by(pid).unwrap();
    }
    let (code, log) = running.end();
    let judged = curve::judge(&samples).expect("enough readings in calm times");
    report::tell(&report::Run {
        elapsed: begun.elapsed(),
        suffered,
        idle,
        rest,
        judged: &judged,
        field: &field,
        witness: &witness,
        samples: &samples,
    });

    assert_eq!(field.found(), Vec::<String>::new());
    assert_eq!(*witness.saw.lock().unwrap(), Vec::<String>::new());
    assert_eq!(judged.grew, Vec::<String>::new());
    assert!(
        rest.descriptors <= idle.descriptors + 2 * 16 + 4,
        "{idle:?}, then {rest:?}"
    );
    assert!(code == 0 && !log.contains("panicked"), "{code}: {log}");
    // All of it took part.
    for what in [
        "chat: 200",
        "stream: 200",
        "http2: answered",
        "session: opened",
        "signed: 200",
        "signed again: 401",
        "quote: 200",
        "used proof: 401",
        "refused: 400",
        "refused: 401",
        "refused: 403",
        "garbage: refused",
        "left: 2",
        "suspended: 401",
    ] {
        assert!(field.counted(what) > 3, "{what}: {:?}", field.counts());
    }
    assert!(
        witness.left.load(Ordering::Relaxed) > 3,
        "nobody left within an answer"
    );
    assert!(
        field.counted("chat: 502") + field.counted("chat: 503") + field.counted("chat: 504") > 0,
        "no fault was felt"
    );
    // The audit log of all that is whole.
    let mut files: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("audit.jsonl")
        })
        .collect();
    files.sort();
    // The one in use has no number, and is the last.
    files.rotate_left(1);
    let verified = Command::new(env!("CARGO_BIN_EXE_attest-proxy"))
        .args(["audit", "verify", "--key"])
        .arg(format!("k1={}", dir.path().join("fleet.key").display()))
        .args(&files)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(
        verified.status.success() && said.starts_with("whole: "),
        "{said}{}",
        String::from_utf8_lossy(&verified.stderr)
    );
}
