//! What is refused, and that nothing is written then.

use std::fs;

use testkit::Swtpm;

use crate::bench::Bench;

fn refused(bench: &Bench, code: i32, why: &str, arguments: &[&str]) {
    let before: Vec<_> = files(bench);
    let ran = bench.run(arguments);
    assert_eq!(ran.code, code, "{arguments:?}: {}", ran.err);
    assert!(ran.err.contains(why), "{arguments:?}: {}", ran.err);
    assert_eq!(files(bench), before, "{arguments:?}");
}

fn files(bench: &Bench) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(bench.dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn what_cannot_be_made_is_refused_before_anything_is_written() {
    let bench = Bench::new();
    let tcti = bench.tpm.tcti();
    let create = |more: &[&'static str]| {
        let mut all = vec!["volume", "create", "x.luks", "--tcti", tcti.as_str()];
        all.extend(more);
        all
    };
    bench.file("used.img", [&[0; 1080][..], b"\x53\xef", &[0; 5000]].concat());
    bench.file("x.luks.recovery.age", "an older one");
    bench.file("short", "seed");
    let content = ["--content", "content"];
    for (code, why, more) in [
        (2, "nothing says to what", &content[..]),
        (2, "--content", &["--seal-pcrs", "7"][..]),
        (2, "a size is", &["--content", "content", "--size", "7B"]),
        (
            2,
            "numbers from 0 to 23",
            &["--content", "content", "--seal-pcrs", "24"],
        ),
        (
            3,
            "uninitialised",
            &["--content", "content", "--seal-pcrs", "9", "--size", "32MiB"],
        ),
        (
            2,
            "no room for data",
            &["--content", "content", "--seal-pcrs", "7", "--size", "4096"],
        ),
        (
            2,
            "a seed has",
            &[
                "--content",
                "content",
                "--seal-pcrs",
                "7",
                "--seed-reproducible",
                "short",
            ],
        ),
        (
            2,
            "policy key",
            &["--content", "content", "--seal-public-key", "short"],
        ),
        (
            2,
            "no PIN",
            &[
                "--content",
                "content",
                "--seal-pcrs",
                "7",
                "--new-pin-file",
                "/dev/null",
            ],
        ),
        (
            2,
            "is no age",
            &[
                "--content",
                "content",
                "--seal-pcrs",
                "7",
                "--escrow-to",
                "age1nobody",
            ],
        ),
    ] {
        refused(&bench, code, why, &create(more));
    }
    // This machine is no Raspberry Pi.
    let otp = ["volume", "create", "x.luks", "--content", "content", "--otp"];
    refused(&bench, 1, "OTP device key", &otp);
    let key = bench.keeper("keeper").1;
    let escrowed = ["--content", "content", "--seal-pcrs", "7", "--escrow-to", &key];
    let mut all = vec!["volume", "create", "x.luks", "--tcti", &tcti];
    all.extend(escrowed);
    refused(&bench, 2, "is there already", &all);
    all[2] = "used.img";
    refused(&bench, 1, "ext4 file system", &all);
    all[2] = "none/x.luks";
    refused(&bench, 1, "No such file", &all);
    all[2] = "Not A Device.luks";
    refused(&bench, 2, "no device id", &all);
}

#[test]
fn what_does_not_open_says_why() {
    let bench = Bench::new();
    bench.create("x.luks", &[]);
    bench.create(
        "pin.luks",
        &["--new-pin-file", bench.file("pin", "1234").to_str().unwrap()],
    );
    let tcti = bench.tpm.tcti();
    bench.file("wrong", "4321");
    bench.file("noise", vec![7; 1 << 20]);
    for (code, why, arguments) in [
        (1, "no LUKS2 header", &["volume", "info", "noise"][..]),
        (1, "No such file", &["volume", "info", "none"]),
        (
            2,
            "no recovery key",
            &["volume", "cat", "x.luks", "/psk", "--recovery-key-file", "wrong"],
        ),
        (
            1,
            "no keyslot opens",
            &["volume", "ls", "x.luks", "--passphrase-file", "wrong"],
        ),
        (
            2,
            "cannot be opened by this machine",
            &["volume", "cat", "x.luks", "/psk", "--otp"],
        ),
        (
            1,
            "cannot open the volume",
            &["volume", "cat", "x.luks", "/nobody", "--tcti", &tcti],
        ),
        (
            1,
            "PIN",
            &[
                "volume",
                "verify",
                "pin.luks",
                "--pin-file",
                "wrong",
                "--tcti",
                &tcti,
            ],
        ),
        (
            2,
            "no recovery key",
            &["volume", "recover", "x.luks", "--recovery-key-file", "wrong"],
        ),
        (
            2,
            "age identity",
            &["volume", "recover", "x.luks", "--identity", "wrong"],
        ),
        (2, "required", &["volume", "recover", "x.luks"]),
        (
            1,
            "no keyslot opens",
            &["volume", "reseal", "x.luks", "--passphrase-file", "wrong"],
        ),
    ] {
        refused(&bench, code, why, arguments);
    }
    bench.tpm.extend(7, b"another boot");
    refused(
        &bench,
        1,
        "cannot be unsealed",
        &["volume", "cat", "x.luks", "/psk", "--tcti", &tcti],
    );
    let other = Swtpm::start();
    other.extend(7, b"secure boot state");
    refused(
        &bench,
        1,
        "cannot be unsealed",
        &["volume", "cat", "x.luks", "/psk", "--tcti", &other.tcti()],
    );
}
