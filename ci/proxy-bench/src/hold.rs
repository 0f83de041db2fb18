//! One contender that stays up under load: what a profiler is pointed at.

use std::time::Duration;

use crate::{
    Options, backend, cores,
    credentials::{self, Kiosks},
    load::{self, Requests},
    memory,
    ours::{self, House},
    peers, usage,
};

/// Loads the one that `--only` names with 64 connections, and says every two seconds how it does. Ends when it is killed.
pub(crate) fn run(options: &Options) {
    memory::raise_limit(1000);
    cores::pin(cores::LOAD);
    let dir = tempfile::tempdir().unwrap();
    let backend = backend::fixed();
    let mut kiosks = Kiosks::new(64);
    let house = House::build(&options.ours, &kiosks);
    let mut running = peers::start(options, dir.path(), backend);
    let name = options.only.first().expect("--only names one").as_str();
    if running.is_empty() {
        running.push(house.start(name, backend, name == "everything"));
    }
    let proxy = &running[0];
    eprintln!("{name}: process {} on {}", proxy.child.id(), proxy.address);
    let mut rate = 14_000.0;
    loop {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "some thousands"
        )]
        let each = f64::ceil(rate * 1.4 * 2.1 / 64.0) as usize;
        let lanes = (0..64)
            .map(|lane| match name {
                "session" => Requests::Once(kiosks.signed(proxy.address, lane, each).into()),
                "quotes" => Requests::Once(kiosks.quoted(lane, each).into()),
                "envoy" => Requests::Same(credentials::plain(&ours::plain_key(0))),
                _ => Requests::Same(credentials::plain(&ours::plain_key(lane * 7))),
            })
            .collect();
        let times = (Duration::from_millis(100), Duration::from_secs(2));
        let turn = load::run(name, proxy.address, lanes, times, || usage::cpu(proxy.child.id()));
        rate = turn.per_second();
        eprintln!(
            "{:.0}/s, {:.1} us cpu, {} KiB",
            rate,
            turn.cpu_us(),
            usage::resident(proxy.child.id())
        );
    }
}
