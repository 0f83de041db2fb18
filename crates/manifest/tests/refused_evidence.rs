//! What is refused of a policy's evidence: each finding with its line, and what would be taken instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use manifest::parse;

const KIOSKS: &str = include_str!("../../../manifests/examples/kiosk-fleet.toml");

/// The example with one text exchanged; its only finding, as `message @ the text of its line`, and the hint.
fn one(from: &str, to: &str) -> (String, String) {
    assert!(KIOSKS.contains(from), "{from}");
    let text = KIOSKS.replacen(from, to, 1);
    let Err(wrong) = parse("fleet.toml", &text) else {
        panic!("accepted: {to}");
    };
    assert_eq!(wrong.findings().len(), 1, "{}", wrong.render());
    let finding = &wrong.findings()[0];
    let line = text.lines().nth(finding.position.line - 1).unwrap();
    let line = line.split('#').next().unwrap().trim();
    (
        format!("{} @ {line}", finding.message),
        finding.hint.clone().unwrap_or_default(),
    )
}

fn refused(from: &str, to: &str) -> String {
    one(from, to).0
}

const NEW_UKI: &str = "11 = \"e2d392be520510bb6c7182dee0f53f0e1c9e0a76f00ecd54a99329225ccce1fd\"";
const STATEMENT_PCRS: &str = "pcrs = [4, 11] ";
const ONES: &str = "1111111111111111111111111111111111111111111111111111111111111111";

#[test]
fn parts_that_ask_for_nothing() {
    let empty = KIOSKS
        .split("[policies.signage.evidence.statement]")
        .next()
        .unwrap();
    let rest = KIOSKS.split("# No `evidence`").nth(1).unwrap();
    let text = format!("{empty}[policies.signage.evidence]\n#{rest}");
    let wrong = parse("fleet.toml", &text).unwrap_err();
    assert_eq!(
        wrong.findings()[0].message,
        "the policy asks for evidence of nothing"
    );
    assert!(wrong.findings()[0].hint.as_ref().unwrap().contains("`golden`"));

    let text = format!("{empty}[policies.signage.evidence]\ngolden = {{}}\n#{rest}");
    let wrong = parse("fleet.toml", &text).unwrap_err();
    assert_eq!(wrong.findings()[0].message, "there is no golden set");
    let text = format!("{empty}[policies.signage.evidence.log]\nsecure-boot = false\n#{rest}");
    let wrong = parse("fleet.toml", &text).unwrap_err();
    assert_eq!(wrong.findings()[0].message, "the rules on the event log are none");
    assert!(
        wrong.findings()[0]
            .hint
            .as_ref()
            .unwrap()
            .contains("no-debug-shell")
    );
    let text = format!("{empty}[policies.signage.evidence.log.keys]\n#{rest}");
    let wrong = parse("fleet.toml", &text).unwrap_err();
    assert_eq!(wrong.findings()[0].message, "no variable is named");
}

#[test]
fn golden_sets() {
    let (told, hint) = one("2026-12-01T00:00:00Z", "2026-12-01T00:00:00");
    assert_eq!(
        told,
        "`2026-12-01T00:00:00` is not a moment that is told wholly @ until = 2026-12-01T00:00:00"
    );
    assert!(hint.contains("2026-12-01T00:00:00Z"));
    assert_eq!(
        refused("2026-12-01T00:00:00Z", "\"2026-12-01T00:00:00Z\""),
        "expected a date with time and offset, found a string @ until = \"2026-12-01T00:00:00Z\""
    );
    assert!(refused("2026-12-01T00:00:00Z", "1796083200").starts_with("expected a date"));

    let (told, hint) = one(NEW_UKI, "");
    assert!(
        told.starts_with("golden set `2026-10` is over sha256:4, the first one over sha256:4,11 @"),
        "{told}"
    );
    assert!(hint.contains("the same PCRs"));
    let events = "59868ca517b434f5b872bde434dcf07cddf79df252f0317548cc96b3cf8d47cd";
    let (told, hint) = one(events, ONES);
    assert_eq!(
        told,
        "the events given for PCR 11 of golden set `2026-10` do not replay to its value @ 11 = ["
    );
    assert!(hint.contains("evidence log"));
    assert_eq!(
        refused(events, "11"),
        "a sha256 PCR value has 32 bytes, not 1 @ \"11\","
    );
    let seven = "7 = \"65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e234eb3068\"";
    let (told, hint) = one(seven, &seven.replacen('7', "4", 1));
    assert!(
        told.starts_with("PCR 4 is given an exact value and golden sets too @ 4 = "),
        "{told}"
    );
    assert!(hint.contains("in each golden set"));
    assert!(refused(NEW_UKI, "11 = \"00\"").starts_with("a sha256 PCR value has 32 bytes"));
    assert!(refused(NEW_UKI, &format!("11 = \"{}\"", "0".repeat(64))).starts_with("nothing was measured"));
    assert!(refused(NEW_UKI, &format!("23 = \"{ONES}\"")).starts_with("PCR 23 can be reset"));
    assert!(refused(NEW_UKI, "until = \"1\"").starts_with("`until` is not a PCR"));
    let text = KIOSKS.replace("\"2026-09\"", "September");
    let wrong = parse("fleet.toml", &text).unwrap_err();
    assert_eq!(wrong.findings().len(), 1, "{}", wrong.render());
    let told = &wrong.findings()[0].message;
    let hint = wrong.findings()[0].hint.clone().unwrap();
    assert!(told.starts_with("a golden set's name is 1 to 63"), "{told}");
    assert!(hint.contains("quotes"));
}

#[test]
fn image_statements() {
    let (told, hint) = one("-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----");
    assert!(
        told.starts_with("the image key is not a PEM block `PUBLIC KEY` @ keys = [\"\"\""),
        "{told}"
    );
    assert!(hint.contains("openssl pkey"));
    assert!(refused("MFkwEwYH", "MFkwEwYI").contains("not a P-256 public key"));
    let start = KIOSKS.find("keys = [\"\"\"").unwrap();
    let end = start + KIOSKS.get(start..).unwrap().find("\"\"\"]").unwrap() + 4;
    let keys = KIOSKS.get(start..end).unwrap();
    assert!(
        refused(keys, "keys = []").starts_with("a policy that wants image statements names at least one")
    );
    let pem = keys.trim_start_matches("keys = [").trim_end_matches(']');
    assert!(
        refused(keys, &format!("keys = [{pem}, {pem}]")).starts_with("there is one of the image keys twice")
    );
    let nine = format!("keys = [{}]", [pem; 9].join(", "));
    assert!(refused(keys, &nine).starts_with("a policy has 8 image keys at most, not 9"));

    assert_eq!(
        refused("least-release = 41 ", "least-release = 9007199254740992 "),
        "release 9007199254740992 is above 2^53 - 1 @ least-release = 9007199254740992"
    );
    assert!(refused("least-release = 41 ", "").starts_with("`least-release` is missing here"));
    assert!(refused(STATEMENT_PCRS, "pcrs = [] ").starts_with("a statement about no PCR proves nothing"));
    assert!(refused(STATEMENT_PCRS, "pcrs = [4, 16] ").starts_with("PCR 16 can be reset"));
    assert!(refused(STATEMENT_PCRS, "pcrs = [4, 4] ").starts_with("4 is named twice"));
    let revoked = "4bb47f186df233e48b09d241ee4defb821add0c35ac8311469fe1522c6813dd5";
    assert!(refused(revoked, "4bb4").starts_with("a SHA-256 digest is 64"));
    let twice = format!("{revoked}\", \"{revoked}");
    assert!(refused(revoked, &twice).contains("is named twice @ revoked"));
    assert!(refused("profile = \"signage\"                 ", "profile = \"Signage\" ").contains("only a-z"));
}

#[test]
fn rules_on_the_event_log() {
    let (told, hint) = one("dbx = [", "DBX = [");
    assert!(
        told.starts_with("`DBX` is no variable of Secure Boot's keys @ DBX = ["),
        "{told}"
    );
    assert!(hint.contains("`dbx`"));
    let dbx = "dbx = [\"e4a49ac91ae97a25f60bbe2fa6e25809af94df975aa42d3db29edc17e44e6989\"]";
    assert_eq!(
        refused(dbx, "dbx = []"),
        "the list of dbx is there and empty @ dbx = []"
    );
    let authorities = "[\"8f76fd501bb68ef71f4e276bc28f29bce1003b0c2c9d9478de81b5bfc0cde1e9\"]";
    let (told, hint) = one(authorities, "[]");
    assert_eq!(
        told,
        "the list of authorities is there and empty @ authorities = []"
    );
    assert!(hint.contains("leave the list out"));
    let line = "[\"/vmlinuz-* root=UUID=* ro **\"]";
    assert!(refused(line, "[\" \"]").starts_with("a pattern for command lines has at least one word"));
    assert!(
        refused(line, "[\"a b\", \"a  b\"]")
            .starts_with("there is one of the patterns for command lines twice")
    );
    let many: Vec<String> = (0..65).map(|nth| format!("\"p{nth}\"")).collect();
    assert!(refused(line, &format!("[{}]", many.join(", "))).starts_with("a policy has 64 patterns"));
    assert!(refused("replays = [2]", "replays = [23]").starts_with("PCR 23 can be reset"));
    assert!(refused("replays = [2]", "replays = [2, 2]").starts_with("2 is named twice"));
    assert!(refused("secure-boot = true", "secure-boot = \"on\"").starts_with("expected true or false"));
    assert!(refused("secure-boot = true", "secureboot = true").starts_with("unknown key `secureboot`"));
}

#[test]
fn sha1_only_where_it_is_said_twice() {
    const BANK: &str = "[policies.kiosk.evidence]\nbank = \"sha256\"";
    let (told, hint) = one(BANK, &format!("{BANK}\nallow-sha1 = true"));
    assert!(
        told.starts_with("SHA-1 is allowed, and the bank is sha256 @ allow-sha1"),
        "{told}"
    );
    assert_eq!(hint, "leave it out");
    let sha1 = |more: &str| {
        let start = KIOSKS.find("[policies.kiosk.evidence]").unwrap();
        let end = KIOSKS.find("# The signs follow").unwrap();
        let value = "1".repeat(40);
        let section =
            format!("[policies.kiosk.evidence]\nbank = \"sha1\"\n{more}pcrs = {{ 7 = \"{value}\" }}\n");
        parse(
            "fleet.toml",
            &format!(
                "{}{section}{}",
                KIOSKS.get(..start).unwrap(),
                KIOSKS.get(end..).unwrap()
            ),
        )
    };
    let wrong = sha1("").unwrap_err();
    assert!(
        wrong.findings()[0].message.starts_with("SHA-1 collides"),
        "{}",
        wrong.render()
    );
    let fleet = sha1("allow-sha1 = true\n").unwrap();
    let policy = &fleet.policies[&"kiosk".parse().unwrap()];
    assert!(policy.evidence.as_ref().unwrap().allows_sha1());
}

#[test]
fn more_than_a_record_takes() {
    let digests: Vec<String> = (0..900).map(|nth| format!("\"{nth:064x}\"")).collect();
    let revoked = "[\"4bb47f186df233e48b09d241ee4defb821add0c35ac8311469fe1522c6813dd5\"]";
    let (told, hint) = one(revoked, &format!("[{}]", digests.join(", ")));
    assert!(told.starts_with("the policy has 6"), "{told}");
    assert!(hint.contains("golden sets that ended"));
    let sets: String = (0..33)
        .map(|nth| {
            format!("[policies.kiosk.evidence.golden.s{nth}]\npcrs = {{ 4 = \"{ONES}\", 11 = \"{ONES}\" }}\n")
        })
        .collect();
    let told = refused("# The signs follow", &format!("{sets}# The signs follow"));
    assert!(
        told.starts_with("a policy has 32 golden sets at most, not 35"),
        "{told}"
    );
}
