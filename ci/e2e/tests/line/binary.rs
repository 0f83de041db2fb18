//! `attest-proxy` is one binary without a TPM stack or a C crypto library beside libc: read off its ELF header.

use std::process::Command;

use crate::harness::programs;

/// Shared objects of glibc and of the compiler's runtime, on either architecture.
const LIBC: [&str; 6] = [
    "libc.so.6",
    "libm.so.6",
    "libgcc_s.so.1",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "libpthread.so.0",
];

#[test]
fn attest_proxy_links_nothing_but_libc() {
    let output = Command::new("readelf")
        .arg("-d")
        .arg(programs().join("attest-proxy"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let needed: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split(['[', ']']).nth(1))
        .collect();
    assert!(
        needed.contains(&"libc.so.6"),
        "readelf shows what is linked: {text}"
    );
    let strange: Vec<_> = needed.iter().filter(|name| !LIBC.contains(name)).collect();
    assert!(strange.is_empty(), "attest-proxy links {strange:?}");
}
