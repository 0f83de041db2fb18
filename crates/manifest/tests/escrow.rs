//! Keepers of recovery keys: who is refused, and that no secret is repeated.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "test code")]

const DEMO: &str = include_str!("../../../manifests/examples/demo.toml");

fn with(recipients: &str) -> String {
    let escrow = format!("[fleet.escrow]\nrecipients = {recipients}\n\n[policies.kiosk]\n");
    DEMO.replace("[policies.kiosk]\n", &escrow)
}

#[test]
fn keepers_are_public_keys_and_each_is_there_once() {
    let fleet = manifest::parse("demo.toml", &with("[\"age1abc\", \"age1def\"]")).unwrap();
    assert_eq!(fleet.escrow, ["age1abc", "age1def"]);
    for (recipients, why) in [
        ("[]", "nobody could open"),
        ("[\"AGE-SECRET-KEY-1CANARY\"]", "this is a secret key"),
        ("[\"ssh-ed25519 AAAA\"]", "this is no age key"),
        ("[\"age1abc\", \"age1abc\"]", "this key is there twice"),
    ] {
        let refused = manifest::parse("demo.toml", &with(recipients)).unwrap_err();
        let messages: Vec<&str> = refused.findings().iter().map(|f| f.message.as_str()).collect();
        assert!(messages.iter().any(|m| m.contains(why)), "{messages:?}");
        assert!(messages.iter().all(|m| !m.contains("CANARY")), "{messages:?}");
    }
}
