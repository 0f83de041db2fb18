//! A canary in PIN, recovery key and content is found nowhere: not in output, not in arguments or environment, not on the disk.

use std::fs;

use testkit::Canary;

use crate::{
    bench::{Bench, PSK},
    common::provisioner,
};

#[test]
fn no_secret_is_in_output_arguments_environment_or_files() {
    let bench = Bench::new();
    let (identity, public) = bench.keeper("keeper");
    let pin = bench.file("pin", "canary-of-a-pin");
    let tcti = bench.tpm.tcti();
    let arguments = [
        "volume",
        "create",
        "edge-1.luks",
        "--content",
        "content",
        "--size",
        "256MiB",
        "--seal-pcrs",
        "7",
        "--new-pin-file",
        pin.to_str().unwrap(),
        "--escrow-to",
        &public,
        "--tcti",
        &tcti,
        "--verbose",
        "--json",
    ];
    let mut child = provisioner(bench.dir(), &arguments)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    let proc = std::path::PathBuf::from(format!("/proc/{}", child.id()));
    while child.try_wait().unwrap().is_none() {
        for name in ["cmdline", "environ"] {
            // It forbids core dumps, so its environment is root's to read.
            seen.extend(fs::read(proc.join(name)).unwrap_or_default());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
        if seen.len() > 16 << 20 {
            break;
        }
    }
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        seen.windows(6).any(|window| window == b"create"),
        "its arguments were looked at"
    );

    let shown = bench.run(&[
        "volume",
        "recover",
        "edge-1.luks",
        "--identity",
        &identity,
        "--no-reseal",
        "--show",
    ]);
    let key = shown.out.lines().last().unwrap().to_owned();
    assert_eq!(key.len(), 71, "{}", shown.err);
    fs::remove_file(&pin).unwrap();
    fs::remove_dir_all(bench.path("content")).unwrap();
    for (name, secret) in [
        ("PSK", PSK),
        ("PIN", "canary-of-a-pin"),
        ("recovery key", key.as_str()),
    ] {
        let canary = Canary::new(name, secret.as_bytes());
        canary.assert_absent("stdout", &output.stdout);
        canary.assert_absent("stderr", &output.stderr);
        canary.assert_absent("arguments and environment", &seen);
        canary.assert_absent_below(bench.dir());
    }
}
