//! `ci/bench proxy`: builds attest-proxy and `ci/proxy-bench`, runs them, and says what is reached.
//!
//! Owns: the table, the ratios (each a median over rounds, within one round) and what they have to be. All requests of a round go
//! through proxies on one core; the ratio of processor times stands beside that of rates, because it hardly minds what else runs.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use super::{BenchError, host::Host, keep, output, table};

/// What is asked for on the command line.
pub(super) struct Wanted<'a> {
    pub(super) write: bool,
    pub(super) quick: bool,
    pub(super) only: &'a [String],
    pub(super) tools: Option<&'a Path>,
}

#[derive(Deserialize)]
struct Measured {
    connections: usize,
    turn_seconds: f64,
    body_bytes: usize,
    answer_bytes: usize,
    devices: usize,
    contenders: Vec<Contender>,
    rounds: Vec<Round>,
    memory: Option<Memory>,
}

#[derive(Deserialize)]
struct Contender {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct Round {
    turns: BTreeMap<String, Turn>,
    ed25519_us: f64,
    p256_us: f64,
    streams: BTreeMap<String, Streams>,
}

#[derive(Deserialize)]
struct Turn {
    per_second: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
}

#[derive(Deserialize)]
struct Streams {
    first_us: f64,
    gap_us: f64,
}

#[derive(Deserialize)]
struct Memory {
    idle_kib: u32,
    connections: u32,
    connected_kib: u32,
}

/// One row of what must be reached.
struct Demand {
    what: String,
    value: f64,
    must: f64,
    aim: f64,
    /// Whether less is better.
    least: bool,
    digits: usize,
    /// The same by processor time.
    by_cpu: Option<f64>,
}

impl Demand {
    fn reaches(&self, wanted: f64) -> bool {
        if self.least {
            self.value <= wanted
        } else {
            self.value >= wanted
        }
    }
}

/// Whether everything that must be reached is.
pub(super) fn run(root: &Path, wanted: &Wanted<'_>) -> Result<bool, BenchError> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    // One after the other: built together, they would share what only one of them asks of a dependency.
    for package in ["attest-proxy", "proxy-bench"] {
        let arguments = ["build", "--locked", "--quiet", "--release", "--package", package];
        output(
            Command::new("cargo").args(arguments).current_dir(root),
            "cargo build",
        )?;
    }
    let release = target.join("release");
    let mut command = Command::new(release.join("proxy-bench"));
    command
        .arg("run")
        .arg("--ours")
        .arg(release.join("attest-proxy"))
        .arg("--tools")
        .arg(
            wanted
                .tools
                .map_or_else(|| target.join("proxy-bench"), Path::to_owned),
        );
    if wanted.quick {
        command.arg("--quick");
    }
    if !wanted.only.is_empty() {
        command.arg("--only").arg(wanted.only.join(","));
    }
    let printed = output(&mut command, "proxy-bench")?;
    let measured: Measured = serde_json::from_slice(&printed).map_err(BenchError::Output)?;
    let (text, reached) = chapter(&Host::read(root), &measured);
    table::show(&text);
    if wanted.write {
        keep(root, "Proxy", &text)?;
    }
    Ok(reached)
}

fn chapter(host: &Host, measured: &Measured) -> (String, bool) {
    let demands = demands(measured);
    let mut text = format!(
        "## Proxy\n\nWritten by `ci/bench proxy --write`. {host}.\n\n\
         Every proxy is pinned to one core; backend and load share the other one: one thread each, one poll, no library in between. All get\n\
         the same `POST /api/chat` of {} bytes, check its key against {} and pass on an answer of {} bytes; connections are kept alive on both\n\
         sides. {} rounds, in each of which every proxy has its turn: {} s with {} connections, then half as long with one. Figures are medians;\n\
         ratios are medians of the ratios within one round. Processor time is that of the proxy alone; others that use the same caches lengthen it too.\n\n",
        measured.body_bytes,
        measured.devices,
        measured.answer_bytes,
        measured.rounds.len(),
        measured.turn_seconds,
        measured.connections,
    );
    rows(&mut text, measured);
    put(
        &mut text,
        format_args!(
            "\n`direct` is load and backend without a proxy (its processor time is both of theirs). `psk`, `session` and `quotes` are one \
             attest-proxy,\nwhich logs refusals only: a key alone, a session's signature, a P-256 quote in each request. `everything` has the \
             access log on as JSON,\nand the audit log, whose lines are synced each second. `nginx-log` writes its own. Envoy compares one key; ollamaMQ has none and queues per user. ring's bare \
             verification takes\n{:.1} µs (Ed25519) and {:.1} µs (P-256) of processor time.\n\n\
             | figure | measured | by processor time | must | aim | |\n|---|---|---|---|---|---|\n",
            median(measured.rounds.iter().map(|r| r.ed25519_us)).unwrap_or_default(),
            median(measured.rounds.iter().map(|r| r.p256_us)).unwrap_or_default(),
        ),
    );
    let mut all = true;
    for demand in &demands {
        let Demand {
            what,
            value,
            must,
            aim,
            digits,
            by_cpu,
            ..
        } = demand;
        let verdict = match (demand.reaches(*must), demand.reaches(*aim)) {
            (true, true) => "aim reached",
            (true, false) => "reached",
            (false, _) => "NOT REACHED",
        };
        all &= demand.reaches(*must);
        let cpu = by_cpu.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        put(
            &mut text,
            format_args!("| {what} | {value:.digits$} | {cpu} | {must} | {aim} | {verdict} |\n"),
        );
    }
    (text, all)
}

fn rows(text: &mut String, measured: &Measured) {
    text.push_str(
        "| proxy | version | requests/s | of nginx's | µs of processor time | p50 at one connection, µs | p99, µs |\n|---|---|---|---|---|---|---|\n",
    );
    let names = measured.rounds.first().map(|round| round.turns.keys());
    let mut names: Vec<_> = names.into_iter().flatten().collect();
    let rate = |name: &str| measured.turns(name, |turn| turn.per_second).unwrap_or_default();
    names.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
    for name in names {
        let version = measured.contenders.iter().find(|c| c.name == *name);
        let version = version.map_or("", |c| c.version.as_str());
        let of_nginx = measured.ratio(|t| t.get(name)?.per_second.over(t.get("nginx")?.per_second));
        let part = of_nginx.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let get = |of: fn(&Turn) -> f64| measured.turns(name, of).unwrap_or_default();
        put(
            text,
            format_args!(
                "| {name} | {version} | {:.0} | {part} | {:.1} | {:.0} | {:.0} |\n",
                get(|t| t.per_second),
                get(|t| t.cpu_us),
                get(|t| t.p50_us),
                get(|t| t.p99_us),
            ),
        );
    }
}

fn demands(measured: &Measured) -> Vec<Demand> {
    let mut all = Vec::new();
    let mut at_least = |what: &str, value: Option<f64>, (must, aim): (f64, f64), by_cpu: Option<f64>| {
        all.extend(value.map(|value| Demand {
            what: what.to_owned(),
            value,
            must,
            aim,
            least: false,
            digits: 2,
            by_cpu,
        }));
    };
    for (other, must, aim) in [("nginx", 1.0, 1.3), ("bare", 0.75, 0.9)] {
        at_least(
            &format!("requests/s with a key, against {other}"),
            measured.ratio(|t| t.get("psk")?.per_second.over(t.get(other)?.per_second)),
            (must, aim),
            measured.ratio(|t| t.get(other)?.cpu_us.over(t.get("psk")?.cpu_us)),
        );
    }
    at_least(
        "session-signed: against the time with a key and ring's bare Ed25519",
        median(measured.rounds.iter().filter_map(|r| {
            let both = 1e6 / r.turns.get("psk")?.per_second + r.ed25519_us;
            Some(both * r.turns.get("session")?.per_second / 1e6)
        })),
        (0.8, 0.95),
        median(measured.rounds.iter().filter_map(|r| {
            let both = r.turns.get("psk")?.cpu_us + r.ed25519_us;
            both.over(r.turns.get("session")?.cpu_us)
        })),
    );
    at_least(
        "one-shot P-256 quotes/s against ring's bare verification",
        median(
            measured
                .rounds
                .iter()
                .filter_map(|r| Some(r.turns.get("quotes")?.per_second * r.p256_us / 1e6)),
        ),
        (0.6, 0.85),
        median(
            measured
                .rounds
                .iter()
                .filter_map(|r| r.p256_us.over(r.turns.get("quotes")?.cpu_us)),
        ),
    );
    let mut at_most = |what: String, value: Option<f64>, (must, aim): (f64, f64), digits: usize| {
        all.extend(value.map(|value| Demand {
            what,
            value,
            must,
            aim,
            least: true,
            digits,
            by_cpu: None,
        }));
    };
    for (name, of) in [("p50", (|t| t.p50_us) as fn(&Turn) -> f64), ("p99", |t| t.p99_us)] {
        let ratio = measured.ratio(|t| of(t.get("psk")?).over(of(t.get("nginx")?)));
        at_most(
            format!("{name} at one connection, against nginx"),
            ratio,
            (1.15, 1.0),
            2,
        );
    }
    let added = |of: fn(&Streams) -> f64| {
        median(measured.rounds.iter().filter_map(|r| {
            let (ours, direct) = (r.streams.get("ours")?, r.streams.get("direct")?);
            Some((of(ours) - of(direct)) / 1000.0)
        }))
    };
    at_most(
        "added time to the first line, p99, ms".into(),
        added(|s| s.first_us),
        (1.0, 0.5),
        3,
    );
    at_most(
        "added gap between two lines, p99, ms".into(),
        added(|s| s.gap_us),
        (0.2, 0.1),
        3,
    );
    if let Some(memory) = &measured.memory {
        let mib = |kib: u32| Some(f64::from(kib) / 1024.0);
        at_most(
            "resident memory, idle, MiB".into(),
            mib(memory.idle_kib),
            (12.0, 6.0),
            1,
        );
        let with = format!("resident memory, {} idle connections, MiB", memory.connections);
        at_most(with, mib(memory.connected_kib), (200.0, 100.0), 1);
    }
    all
}

impl Measured {
    fn turns(&self, name: &str, of: impl Fn(&Turn) -> f64) -> Option<f64> {
        median(self.rounds.iter().filter_map(|r| r.turns.get(name).map(&of)))
    }

    /// The median over rounds.
    fn ratio(&self, of: impl Fn(&BTreeMap<String, Turn>) -> Option<f64>) -> Option<f64> {
        median(self.rounds.iter().filter_map(|r| of(&r.turns)))
    }
}

trait Over {
    fn over(self, other: f64) -> Option<f64>;
}

impl Over for f64 {
    fn over(self, other: f64) -> Option<f64> {
        (other > 0.0).then_some(self / other)
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Appending to a `String` cannot fail.
fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _infallible = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(per_second: f64) -> serde_json::Value {
        serde_json::json!({ "per_second": per_second, "cpu_us": 1e6 / per_second, "p50_us": 100.0, "p99_us": 200.0 })
    }

    fn measured(psk: f64) -> Measured {
        let round = serde_json::json!({
            "turns": { "psk": turn(psk), "nginx": turn(20_000.0), "session": turn(10_000.0), "quotes": turn(12_000.0) },
            "ed25519_us": 50.0,
            "p256_us": 60.0,
            "streams": { "ours": { "first_us": 700.0, "gap_us": 90.0 }, "direct": { "first_us": 200.0, "gap_us": 60.0 } },
        });
        serde_json::from_value(serde_json::json!({
            "connections": 64, "turn_seconds": 1.0, "body_bytes": 1, "answer_bytes": 1, "devices": 1,
            "contenders": [{ "name": "nginx", "version": "1.22" }],
            "rounds": [round.clone(), round.clone(), round],
            "memory": { "idle_kib": 8192, "connections": 10_000, "connected_kib": 300_000 },
        }))
        .unwrap()
    }

    fn verdict(psk: f64, what: &str) -> String {
        let (text, _) = chapter(&Host::read(Path::new("/nowhere")), &measured(psk));
        let row = text.lines().find(|line| line.contains(what));
        row.unwrap_or_default().to_owned()
    }

    #[test]
    fn each_figure_is_judged_by_both_demands() {
        for (psk, word) in [
            (19_000.0, "| NOT REACHED |"),
            (21_000.0, "| reached |"),
            (27_000.0, "| aim reached |"),
        ] {
            let row = verdict(psk, "against nginx | ");
            assert!(row.ends_with(word), "{row}");
        }
        assert!(verdict(1.0, "first line").contains("| 0.500 |"));
        assert!(verdict(1.0, "quotes/s").contains("| 0.72 |"));
        // 1/20,000 s and 50 us are the time of 10,000 a second.
        assert!(verdict(20_000.0, "session-signed").contains("| 1.00 |"));
        assert!(verdict(1.0, "10000 idle").ends_with("| NOT REACHED |"));
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        let (text, reached) = chapter(&Host::read(Path::new("/nowhere")), &measured(27_000.0));
        assert!(!text.contains("against bare"));
        assert!(!reached, "the memory is too much");
    }
}
