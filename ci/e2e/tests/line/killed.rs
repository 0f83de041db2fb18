//! `provisioner apply` is killed at moments all over its run. Then either nothing is registered or the device works; running it again finishes.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::harness::{Backing, DEVICE, Line};

/// How many moments, spread over the time that a whole run takes.
const MOMENTS: u32 = 8;

#[test]
fn a_killed_apply_leaves_nothing_registered_or_a_device_that_works() {
    let whole = Line::start(Backing::Sqlite);
    let started = Instant::now();
    whole.apply().succeeded();
    let takes = started.elapsed();
    drop(whole);

    let mut registered = Vec::new();
    for moment in 1..=MOMENTS {
        registered.push(killed_at(takes * moment / (MOMENTS + 1)));
    }
    assert!(
        registered.contains(&false),
        "every kill came too late to be a test: a run takes {takes:?}"
    );
}

/// Returns whether the device was registered when the kill came.
fn killed_at(moment: Duration) -> bool {
    let line = Line::start(Backing::Sqlite);
    let mut apply = line
        .apply_command()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    sleep(moment);
    apply.kill().unwrap();
    apply.wait().unwrap();

    let registered = line.device(&["show", DEVICE]).code == Some(0);
    if registered {
        line.admitted();
    }
    let again = line.apply();
    assert_eq!(again.code, Some(0), "killed after {moment:?}, then: {again:?}");
    line.admitted();
    registered
}
