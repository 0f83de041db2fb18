//! The command line: help, version, completions and refusals, word for word.

use std::path::Path;

use crate::support::{run, stderr, stdout};

/// Compares with the file in `tests/edge/help`; `UPDATE_GOLDEN=1` writes it.
fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/edge/help")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        found,
        expected,
        "{} differs; UPDATE_GOLDEN=1 writes it",
        path.display()
    );
}

#[test]
fn help_is_worth_reading() {
    for (name, arguments) in [
        ("edge-client.txt", &["--help"][..]),
        ("ask.txt", &["ask", "--help"]),
        ("quote.txt", &["quote", "--help"]),
        ("unlock.txt", &["unlock", "--help"]),
        ("doctor.txt", &["doctor", "--help"]),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0));
        golden(name, &stdout(&output));
    }
}

#[test]
fn version_and_completions() {
    assert_eq!(
        stdout(&run(&["--version"])),
        format!("edge-client {}\n", env!("CARGO_PKG_VERSION"))
    );
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("edge-client"));
    }
}

#[test]
fn refusals_are_the_problem_and_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("edge.toml");
    let config = config.to_str().unwrap();
    std::fs::write(config, "volume = \"/v\"\npsk = \"x\"\n").unwrap();
    for (arguments, exit, expected) in [
        (
            &["doctor"][..],
            2,
            "error: no volume is named\nhint: name it with --volume, or with `volume` in /etc/signalbox/edge.toml\n".to_owned(),
        ),
        (
            &["ask", "x", "--volume", "/v"],
            2,
            "error: no model is named\nhint: name one with --model, or with `model` in the configuration\n".to_owned(),
        ),
        (
            &["ask", " ", "--volume", "/v", "--model", "m"],
            2,
            "error: the question is empty\nhint: put the question behind `ask`, or `-` to read it from stdin\n".to_owned(),
        ),
        (
            &["doctor", "--volume", "/v", "--tcti", "usb"],
            2,
            "error: `usb` names no TPM: a TPM is one of device:PATH, swtpm:host=HOST,port=PORT, mssim:host=HOST,port=PORT, tabrmd:\n".to_owned(),
        ),
        (
            &["ask", "x", "--volume", "/v", "--model", "m", "--proxy", "http://10.0.0.1"],
            3,
            "error: will not send the pre-shared key over plain http to 10.0.0.1\n\
             hint: use https://; plain http is for loopback alone (127.0.0.1, [::1], localhost)\n"
                .to_owned(),
        ),
        (
            &["ask", "x", "--volume", "/nonexistent", "--model", "m"],
            1,
            "error: cannot open the volume /nonexistent: No such file or directory (os error 2)\n\
             hint: is --volume right, and may this user read it?\n"
                .to_owned(),
        ),
        (
            &["doctor", "--config", config],
            2,
            format!(
                "error: {config}:2:1: unknown field `psk`, expected one of `volume`, `tcti`, `otp-nvmem`, `proxy`, `model`, `event-log`, `image-statement`, `volume-key-digest`, `rollback-counter`, `tpm2-signature`, `extend-pcr`, `storage-keys`\n  | psk = \"x\"\n  | ^^^\n\
                 hint: the keys are volume = \"FILE\", and where needed tcti = \"device:/dev/tpmrm0\", otp-nvmem = \"FILE\", proxy = \"https://HOST\", model = \"NAME\", event-log = \"FILE\", image-statement = \"FILE\", volume-key-digest = \"HEX\", rollback-counter = \"0x01800020\", tpm2-signature = \"FILE\", extend-pcr = 15, [storage-keys]\n"
            ),
        ),
    ] {
        let output = run(arguments);
        assert_eq!(stderr(&output), expected, "{arguments:?}");
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn with_json_a_failure_is_an_object_too() {
    let output = run(&["--json", "doctor"]);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["error"], "no volume is named");
    assert_eq!((object["code"].as_str(), output.status.code()), (None, Some(2)));
}

#[test]
fn no_argument_takes_a_secret() {
    for command in ["ask", "quote", "doctor"] {
        let help = stdout(&run(&[command, "--help"])).to_lowercase();
        assert!(!help.contains("--psk") && !help.contains("--key"), "{help}");
    }
}

#[test]
fn a_stderr_that_is_full_changes_no_exit_code() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_edge-client"))
        .args(["--volume", "/nonexistent", "--verbose", "doctor"])
        .env_clear()
        .stdout(std::process::Stdio::null())
        .stderr(full)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_edge-client"))
        .arg("doctor")
        .env_clear()
        .stderr(full)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
}
