//! What a process does while it makes a volume, seen from outside: where plain bytes go, in which order the target is
//! written, how much memory it takes. Each test runs itself again as the process that is watched.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]

mod common;

use std::{env, fs, path::Path, process::Command};

use common::{
    DATA, PSK, SIZE, entropy, files, folder, new_file, recipe, secret, token, volume_key, write_to,
};
use volume::{Recipe, create};

/// Where the watched process writes its volume; set for it alone.
const TARGET: &str = "VOLUME_TEST_TARGET";

#[test]
fn no_plain_byte_reaches_a_disk_and_headers_come_last() {
    if let Some(target) = env::var_os(TARGET) {
        write_to(&new_file(Path::new(&target))).unwrap();
        return;
    }
    let folder = folder();
    let (target, log, temp) = (
        folder.path().join("volume.luks"),
        folder.path().join("log"),
        folder.path().join("tmp"),
    );
    fs::create_dir(&temp).unwrap();
    let status = Command::new("strace")
        .args(["-f", "-y", "-v", "-s", "65536", "-o", log.to_str().unwrap(), "-e"])
        .arg("trace=open,openat,creat,rename,renameat,renameat2,mkdir,mkdirat,link,linkat,execve,sendto,sendmsg,\
              write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,ftruncate")
        .arg(env::current_exe().unwrap())
        .args(["--exact", "no_plain_byte_reaches_a_disk_and_headers_come_last", "--quiet"])
        .env(TARGET, &target)
        .env("TMPDIR", &temp)
        .current_dir(&temp)
        .output()
        .expect("Debian package strace");
    assert!(status.status.success(), "{status:?}");
    let log = fs::read_to_string(log).unwrap();
    plain_goes_to_memory_alone(&log);
    nothing_else_is_created(&log, target.to_str().unwrap());
    headers_come_last(&log, target.to_str().unwrap());
    assert_eq!(
        fs::read_dir(&temp).unwrap().count(),
        0,
        "no temporary file is left"
    );
    let written = fs::read(&target).unwrap();
    assert!(!written.windows(PSK.len()).any(|window| window == PSK));
}

/// The pre-shared key is an argument of a call only where it is written to a file in memory.
fn plain_goes_to_memory_alone(log: &str) {
    let canary = std::str::from_utf8(PSK).unwrap();
    let with_canary: Vec<&str> = log.lines().filter(|line| line.contains(canary)).collect();
    assert!(
        with_canary.len() >= 2,
        "the trace sees both writes: into the content and into the image"
    );
    for line in with_canary {
        let shown: String = line.chars().take(120).collect();
        let in_memory = line.contains("</memfd:content") || line.contains("</memfd:image");
        assert!(in_memory && line.contains("write"), "{shown}");
    }
}

fn nothing_else_is_created(log: &str, target: &str) {
    assert!(
        log.contains(&format!("\"{target}\", O_RDWR|O_CREAT|O_EXCL")),
        "the trace sees the target made"
    );
    for line in log.lines() {
        let creates = line.contains("O_CREAT") || line.contains("O_TMPFILE");
        assert!(!creates || line.contains(target), "{line}");
        let call = line.split_once(' ').unwrap().1.trim_start();
        let names = ["creat(", "rename", "mkdir", "link(", "linkat("];
        assert!(!names.iter().any(|name| call.starts_with(name)), "{line}");
        if line.contains("O_WRONLY") || line.contains("O_RDWR") {
            let memory = ["\"/proc/self/fd/3\"", "\"/dev/null\"", target]
                .iter()
                .any(|path| line.contains(path));
            assert!(memory, "{line}");
        }
    }
}

/// All data and the keyslot, sync, second header, sync, first header, sync; and nothing after it.
fn headers_come_last(log: &str, target: &str) {
    let mut calls = Vec::new();
    for line in log.lines().filter(|line| line.contains(&format!("<{target}>"))) {
        if line.contains("pwrite64(") {
            // `.."..., 262144, 16777216) = 262144`, or cut off behind the offset by another thread's call.
            let (_, after_buffer) = line.rsplit_once('"').unwrap();
            let (_, offset) = after_buffer.rsplit_once(", ").unwrap();
            let digits: String = offset.chars().take_while(char::is_ascii_digit).collect();
            calls.push(match digits.parse::<u64>().unwrap() {
                0 => "first header",
                0x4000 => "second header",
                0x8000 => "keyslot",
                offset if (DATA..SIZE).contains(&offset) => "data",
                _ => "elsewhere",
            });
        } else if line.contains("sync(") {
            calls.push("sync");
        }
    }
    let data = calls.iter().filter(|call| **call == "data").count();
    assert_eq!(data, 64, "16 MiB in buffers of 256 KiB");
    calls.dedup();
    assert_eq!(
        calls,
        [
            "sync",
            "data",
            "keyslot",
            "sync",
            "second header",
            "sync",
            "first header",
            "sync"
        ]
    );
}

#[test]
fn the_peak_of_memory_does_not_grow_with_the_volume() {
    if let Some(target) = env::var_os(TARGET) {
        let files = files();
        let recipe = Recipe {
            size: 512 << 20,
            ..recipe(&files)
        };
        create(
            &new_file(Path::new(&target)),
            &recipe,
            &volume_key(),
            &secret(),
            &token(),
            &mut entropy(1),
        )
        .unwrap();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib < 64 << 10, "{kib} KiB at the peak");
        return;
    }
    let folder = folder();
    let output = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "the_peak_of_memory_does_not_grow_with_the_volume",
            "--quiet",
        ])
        .env(TARGET, folder.path().join("volume.luks"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!(
        fs::metadata(folder.path().join("volume.luks")).unwrap().len(),
        512 << 20
    );
}
