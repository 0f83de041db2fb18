//! What is refused, as an author sees it: golden texts, one per mistake, and all mistakes of one file at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use manifest::parse;
use proptest::prelude::*;

const DEMO: &str = include_str!("../../../manifests/examples/demo.toml");

/// A small manifest without a mistake; tests change one line of it.
const GOOD: &str = r#"version = 1

[fleet]
name = "demo"
audience = "https://llm.demo.example"
registry = "sqlite:registry.db"
proxy = "http://127.0.0.1:8080"

[policies.kiosk]
models = ["smollm2:135m"]
session-ttl = "10m"

[policies.kiosk.evidence.pcrs]
7 = "1111111111111111111111111111111111111111111111111111111111111111"

[profiles.vm]
key-store = "tpm"
tcti = "device:/dev/tpmrm0"
ak-handle = "0x81010020"
ek = "rsa-2048"
ek-trust = "first-use"
measured-boot = false

[profiles.vm.volume]
path = "out/{device}.luks"
size = "32MiB"
seal-bank = "sha256"
seal-pcrs = [7, 11]

[[devices]]
id = "kiosk-01"
profile = "vm"
policy = "kiosk"
"#;

fn refusal(text: &str) -> String {
    match parse("fleet.toml", text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(wrong) => wrong.render(),
    }
}

/// The good manifest with one line exchanged; the message and hint of its only finding.
fn one(line: &str, instead: &str) -> (String, Option<String>) {
    assert!(GOOD.contains(line), "{line}");
    let text = GOOD.replace(line, instead);
    let Err(wrong) = parse("fleet.toml", &text) else {
        panic!("accepted: {instead}");
    };
    assert_eq!(wrong.findings().len(), 1, "{}", wrong.render());
    let finding = wrong.findings()[0].clone();
    (finding.message, finding.hint)
}

fn message(line: &str, instead: &str) -> String {
    one(line, instead).0
}

#[test]
fn the_good_one_is_good() {
    assert!(parse("fleet.toml", GOOD).is_ok());
}

#[test]
fn an_unknown_key() {
    insta::assert_snapshot!(refusal(&GOOD.replace("models =", "modles =")));
}

#[test]
fn a_duplicate_device() {
    let twice = format!("{GOOD}\n[[devices]]\nid = \"kiosk-01\"\nprofile = \"vm\"\npolicy = \"kiosk\"\n");
    insta::assert_snapshot!(refusal(&twice));
}

#[test]
fn a_pcr_out_of_range() {
    insta::assert_snapshot!(refusal(&GOOD.replace("[7, 11]", "[7, 24]")));
}

#[test]
fn a_missing_policy() {
    insta::assert_snapshot!(refusal(&GOOD.replace("policy = \"kiosk\"", "policy = \"kisok\"")));
}

#[test]
fn a_missing_profile() {
    insta::assert_snapshot!(refusal(
        &GOOD.replace("profile = \"vm\"", "profile = \"raspberry\"")
    ));
}

#[test]
fn a_missing_key() {
    insta::assert_snapshot!(refusal(&GOOD.replace("ek-trust = \"first-use\"\n", "")));
}

#[test]
fn no_manifest_at_all() {
    insta::assert_snapshot!(refusal(""));
}

#[test]
fn broken_syntax() {
    insta::assert_snapshot!(refusal("version = 1\n[fleet\nname = \"demo\n"));
}

#[test]
fn everything_at_once() {
    let text = GOOD
        .replace("version = 1", "version = 2")
        .replace("name = \"demo\"", "name = \"Demo\"")
        .replace("http://127.0.0.1:8080", "http://llm.example")
        .replace("\"10m\"", "\"2h\"")
        .replace("\n7 = \"1", "\n23 = \"2222\"\n7 = \"1")
        .replace("\"rsa-2048\"", "\"rsa-1024\"")
        .replace("measured-boot = false", "measured-boot = \"no\"")
        .replace("32MiB", "32MB")
        .replace("[7, 11]", "[7, 7]")
        .replace("policy = \"kiosk\"", "policy = \"kiosks\"\nserial = 4");
    insta::assert_snapshot!(refusal(&text));
}

#[test]
fn findings_as_json() {
    let wrong = parse("fleet.toml", &GOOD.replace("models =", "modles =")).unwrap_err();
    insta::assert_snapshot!(serde_json::to_string_pretty(&wrong).unwrap());
}

#[test]
fn columns_are_those_that_editors_show() {
    let wrong = parse("f.toml", &GOOD.replace("size = \"32MiB\"", "  size = \"32\"")).unwrap_err();
    assert_eq!(
        wrong.findings()[0].to_string(),
        "f.toml:26:10: `32` is not a size"
    );
}

#[test]
fn a_manifest_that_is_too_long() {
    let text = "#".repeat(manifest::MAX_LEN + 1);
    assert!(refusal(&text).contains("the manifest has 4194305 bytes"));
}

#[test]
fn leaves_that_are_refused() {
    let id = "id = \"kiosk-01\"";
    assert!(message(id, "id = \"\"").contains("device id is empty"));
    assert!(message(id, "id = \"Bern\"").contains("only a-z, 0-9"));
    let ttl = "\"10m\"";
    assert_eq!(message(ttl, "\"soon\""), "`soon` is not a duration");
    assert_eq!(message(ttl, "\"59s\""), "a session cannot last 59s");
    assert_eq!(message(ttl, "\"90500ms\""), "a session cannot last 90500ms");
    let size = "\"32MiB\"";
    assert_eq!(
        message(size, "\"99999999999999999999GiB\""),
        "`99999999999999999999GiB` is not a size"
    );
    assert_eq!(
        message(size, "\"17179869184GiB\""),
        "`17179869184GiB` is not a size"
    );
    assert_eq!(message(size, "\"19MiB\""), "a volume cannot have this size");
    assert_eq!(message(size, "\"32769KiB\""), "a volume cannot have this size");
    let handle = "\"0x81010020\"";
    assert_eq!(
        message(handle, "\"0x01010020\""),
        "`0x01010020` is not a persistent handle"
    );
    for other in ["0x81800000", "0x81000001"] {
        let told = format!("`{other}` is not a persistent handle");
        assert_eq!(message(handle, &format!("\"{other}\"")), told);
    }
    assert_eq!(
        message(handle, "\"81010020\""),
        "`81010020` is not a persistent handle"
    );
    let tcti = "\"device:/dev/tpmrm0\"";
    assert_eq!(
        message(tcti, "\"/dev/tpm0\""),
        "`/dev/tpm0` does not say how to reach a TPM"
    );
    let (text, hint) = one(tcti, "\"devise:/dev/tpm0\"");
    assert_eq!(text, "`devise` is not a way to reach a TPM");
    assert_eq!(hint.as_deref(), Some("did you mean `device`?"));
    let registry = "\"sqlite:registry.db\"";
    assert_eq!(
        message(registry, "\"postgres://x\""),
        "`postgres://x` is not a registry"
    );
    assert_eq!(message(registry, "\"sqlite:\""), "`sqlite:` is not a registry");
    let proxy = "\"http://127.0.0.1:8080\"";
    assert_eq!(
        message(proxy, "\"llm.example\""),
        "`llm.example` is not the URL of a proxy"
    );
    assert_eq!(
        message(proxy, "\"ftp://llm.example\""),
        "`ftp://llm.example` is not the URL of a proxy"
    );
    assert_eq!(
        message(proxy, "\"https://u:p@llm.example\""),
        "`https://u:p@llm.example` is not the URL of a proxy"
    );
    let in_clear = "plain http would send the pre-shared key in clear";
    assert_eq!(message(proxy, "\"http://10.0.0.1\""), in_clear);
    assert_eq!(message(proxy, "\"http://127.0.0.1.example\""), in_clear);
    let path = "\"out/{device}.luks\"";
    assert_eq!(
        message(path, "\"out/{serial}.luks\""),
        "`out/{serial}.luks` has a placeholder that is not known"
    );
    assert_eq!(message(path, "\"out/\""), "\"out/\" is not the path of a file");
    assert_eq!(
        message(path, "\"a\\u0000b\""),
        "\"a\\0b\" is not the path of a file"
    );
    assert_eq!(
        message("\"https://llm.demo.example\"", "\"\""),
        "an audience is 1 to 255 visible ASCII characters"
    );
    assert_eq!(
        message("version = 1", "version = -1"),
        "expected an integer of 0 or more"
    );
}

#[test]
fn policies_that_are_refused() {
    let models = "[\"smollm2:135m\"]";
    assert_eq!(message(models, "[]"), "no model is allowed");
    assert_eq!(
        message(models, "[\"*:cloud\"]"),
        "`*:cloud` would never allow anything: no pattern means a model of a cloud"
    );
    let many: Vec<String> = (0..257).map(|n| format!("\"m{n}\"")).collect();
    assert_eq!(
        message(models, &format!("[{}]", many.join(","))),
        "257 models are named"
    );
    assert!(
        parse(
            "fleet.toml",
            &GOOD.replace(models, "[\"llama*\", \"x:1b-cloud\"]")
        )
        .is_ok()
    );
    assert_eq!(message(models, "[\"a\", \"a\"]"), "`a` is named twice");
    assert_eq!(message(models, "[\"a b\"]"), "\"a b\" is not the name of a model");
    assert_eq!(message(models, "\"a\""), "expected an array, found a string");
    let ones = "1111111111111111111111111111111111111111111111111111111111111111";
    assert_eq!(message(ones, "11"), "a sha256 PCR value has 32 bytes, not 1");
    assert_eq!(message(ones, "xy"), "a PCR value is hexadecimal digits");
    assert_eq!(
        message(ones, &"0".repeat(64)),
        "nothing was measured into this PCR"
    );
    assert_eq!(
        message(ones, &"f".repeat(64)),
        "nothing was measured into this PCR"
    );
    let seven = "7 = \"1";
    assert_eq!(message(seven, "16 = \"1"), "PCR 16 can be reset by any program");
    assert_eq!(
        message(seven, "24 = \"1"),
        "PCR 24 does not exist, PCRs are 0 to 23"
    );
    assert_eq!(message(seven, "07 = \"1"), "`07` is not a PCR");
    let line = "7 = \"1111111111111111111111111111111111111111111111111111111111111111\"\n";
    assert_eq!(message(line, ""), "a quote over no PCR proves nothing");
    let forced = GOOD.replace(ones, &"0".repeat(64)).replace(
        "[policies.kiosk.evidence.pcrs]",
        "[policies.kiosk.evidence]\nallow-uninitialised = true\n[policies.kiosk.evidence.pcrs]",
    );
    assert!(parse("fleet.toml", &forced).is_ok());
}

#[test]
fn what_a_policy_cannot_allow() {
    let ttl = "session-ttl = \"10m\"";
    let with = |more: &str| message(ttl, &format!("{ttl}\n{more}"));
    let (text, hint) = one(ttl, &format!("{ttl}\nendpoints = [\"/api/chats\"]"));
    assert_eq!(text, "`/api/chats` is not an endpoint that can be allowed");
    assert_eq!(hint.as_deref(), Some("did you mean `/api/chat`?"));
    assert_eq!(
        with("endpoints = [\"/api/pull\"]"),
        "`/api/pull` is not an endpoint that can be allowed"
    );
    assert_eq!(with("endpoints = []"), "no endpoint is allowed");
    assert_eq!(
        with("endpoints = [\"/api/chat\", \"/api/chat\"]"),
        "`/api/chat` is named twice"
    );
    assert_eq!(
        with("options = { refuse = [\"systm\"] }"),
        "`systm` is no part of a request that can be refused"
    );
    assert_eq!(
        with("options = { refuse = [\"raw\", \"raw\"] }"),
        "`raw` is named twice"
    );
    let bounds = "a model stays loaded for 1 second to 7 days, in whole seconds";
    for time in ["0s", "8days", "1500ms"] {
        assert_eq!(
            with(&format!("options = {{ max-keep-alive = \"{time}\" }}")),
            bounds
        );
    }
    assert_eq!(
        with("options = { min-keep-alive = \"-1\" }"),
        "`-1` is not a duration"
    );
    assert_eq!(
        with("options = { min-keep-alive = \"2m\", max-keep-alive = \"1m\" }"),
        "the least keep-alive is longer than the longest"
    );
    for tokens in ["0", "4294967296"] {
        let told = "a number of tokens is 1 to 4294967295";
        assert_eq!(with(&format!("options = {{ max-num-ctx = {tokens} }}")), told);
    }
    assert_eq!(
        with("options = { max-num-predict = -1 }"),
        "expected an integer of 0 or more"
    );
    assert_eq!(
        with("limits = { streams = 0 }"),
        "a limit of streams is 1 to 10000"
    );
    assert_eq!(
        with("limits = { requests-per-minute = 1000001 }"),
        "a limit of requests per minute is 1 to 1000000"
    );
    assert_eq!(
        with("limits = { output-tokens-per-day = 1.5 }"),
        "expected an integer, found a float"
    );
    assert_eq!(
        with("limits = { tokens-per-day = 1 }"),
        "unknown key `tokens-per-day`"
    );
}

#[test]
fn profiles_that_are_refused() {
    assert_eq!(
        message("[7, 11]", "[]"),
        "no PCR is selected, at least one is needed"
    );
    assert_eq!(
        message("[7, 11]", "[7, 23]"),
        "PCR 23 can be reset by any program"
    );
    assert_eq!(message("\"sha256\"", "\"sha1\""), "nothing is sealed to SHA-1");
    assert_eq!(message("\"sha256\"", "\"md5\""), "`md5` is not a PCR bank");
    assert_eq!(message("\"tpm\"", "\"hsm\""), "`hsm` is not a key store");
    let trust = "\"first-use\"";
    assert_eq!(message(trust, "\"always\""), "`always` is no reason for trust");
    assert_eq!(
        message(trust, "true"),
        "expected a string or a table, found a boolean"
    );
    assert_eq!(
        message(trust, "{ allow = [] }"),
        "the list of endorsement keys is empty"
    );
    assert_eq!(
        message(trust, "{ allow = [\"00\"] }"),
        "a SHA-256 digest is 64 hexadecimal digits"
    );
    assert_eq!(message(trust, "{}"), "no reason for trust is given");
    let (text, hint) = one(trust, "{ alow = [] }");
    assert_eq!(text, "unknown key `alow`");
    assert_eq!(hint.as_deref(), Some("did you mean `allow`?"));
    let both = "{ roots = \"r\", allow = [] }";
    assert_eq!(
        message(trust, both),
        "`allow` and `roots` are two reasons for trust"
    );
    assert_eq!(message(trust, "{ deny = [] }"), "`roots` is missing here");
    assert_eq!(
        message(trust, "{ roots = \"\" }"),
        "\"\" is not the path of a folder"
    );
    let deny = |rule: &str| message(trust, &format!("{{ roots = \"r\", deny = [{{ {rule} }}] }}"));
    assert_eq!(deny("maker = \"IFX\""), "`reason` is missing here");
    assert_eq!(deny("maker = \"IFX\", reason = \"\""), "this is not a reason");
    assert_eq!(
        deny("maker = \"IFX\", reason = \"x\", from = \"7.0\""),
        "a range of firmware has two ends"
    );
    assert_eq!(
        deny("maker = \"IFX\", reason = \"x\", from = \"7.1\", to = \"7.0\""),
        "the firmware range 7.1 to 7.0 ends before it begins"
    );
    assert!(deny("maker = \"IFX\", reason = \"x\", from = \"7.0\", to = \"b\"").contains("version"));
    assert!(deny("maker = \"Infineon Technologies\", reason = \"x\"").contains("maker"));
}

#[test]
fn one_volume_for_two_devices() {
    let text = GOOD.replace("out/{device}.luks", "out/all.luks");
    assert!(parse("fleet.toml", &text).is_ok(), "one device may");
    let two = format!("{text}\n[[devices]]\nid = \"kiosk-02\"\nprofile = \"vm\"\npolicy = \"kiosk\"\n");
    let wrong = parse("fleet.toml", &two).unwrap_err();
    assert_eq!(
        wrong.findings()[0].message,
        "devices `kiosk-01` and `kiosk-02` would write the same volume `out/all.luks`"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_panics(text in "\\PC{0,300}") {
        if let Err(wrong) = parse("x", &text) {
            prop_assert!(!wrong.findings().is_empty());
            prop_assert!(!wrong.render().is_empty());
        }
    }

    /// Cutting and exchanging bytes reaches the places that random text does not.
    #[test]
    fn no_damaged_manifest_panics(cut in 0..DEMO.len(), at in 0..DEMO.len(), with in "[\\[\\]{}=\".#0-9a-zé\\n]{0,6}") {
        let mut text: String = DEMO.to_owned();
        if text.is_char_boundary(cut) {
            text.truncate(cut);
        }
        let at = at.min(text.len());
        if text.is_char_boundary(at) {
            text.insert_str(at, &with);
        }
        if let Err(wrong) = parse("x", &text) {
            prop_assert!(!wrong.findings().is_empty());
            for finding in wrong.findings() {
                prop_assert!(finding.span.end <= text.len());
            }
            prop_assert!(!wrong.render().is_empty());
        }
    }

    /// Any value in the place of any other: told, never a panic.
    #[test]
    fn no_exchanged_value_panics(nth in 0..19_usize, value in "(\"[a-z0-9:/{}.]{0,12}\"|[0-9]{1,25}|true|\\[[0-9, ]{0,9}\\]|\\{ allow = [0-9] \\}|1979-05-27|-?[0-9]\\.[0-9])") {
        let mut seen = 0;
        let text: String = GOOD.lines().map(|line| match line.split_once(" = ") {
            Some((key, _)) => {
                seen += 1;
                if seen - 1 == nth { format!("{key} = {value}\n") } else { format!("{line}\n") }
            }
            None => format!("{line}\n"),
        }).collect();
        if let Err(wrong) = parse("x", &text) {
            prop_assert!(!wrong.render().is_empty());
        }
    }
}
