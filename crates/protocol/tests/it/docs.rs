//! The contract in prose says what the code says: its table of refusals, its labels, its profile of signatures.
use protocol::{Refusal, binding, headers, keys, nonce, signature, token};

const DOCS: &str = include_str!("../../../../docs/protocol.md");

#[test]
fn the_table_of_refusals_is_the_codes() {
    let table: Vec<(String, u16, bool, bool, bool)> = DOCS
        .lines()
        .skip_while(|line| *line != "## Refusals")
        .skip(4)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let code = cells[1].trim_matches('`').to_owned();
            let status = cells[2].parse().unwrap();
            let has = |what| cells[3].contains(what);
            (
                code,
                status,
                has("Attestation-Challenge"),
                has("closed"),
                has("Retry-After"),
            )
        })
        .collect();
    let code: Vec<_> = Refusal::ALL
        .iter()
        .map(|r| {
            (
                r.code().to_owned(),
                r.status(),
                r.wants_challenge(),
                r.closes_connection(),
                r.retry_after().is_some(),
            )
        })
        .collect();
    assert_eq!(table, code);
}

#[test]
fn labels_names_and_profile_are_the_codes() {
    let labels = [
        binding::LABEL,
        nonce::LABEL,
        token::LABEL,
        keys::CHALLENGE_LABEL,
        keys::TOKEN_LABEL,
    ];
    for label in labels {
        let label = std::str::from_utf8(label).unwrap();
        assert!(DOCS.contains(&format!("\"{label}\"")), "{label}");
    }
    for path in [headers::CHALLENGE_PATH, headers::SESSION_PATH] {
        assert!(DOCS.contains(path), "{path}");
    }
    for name in [
        headers::PSK,
        headers::API_KEY,
        headers::QUOTE,
        headers::QUOTE_SIGNATURE,
        headers::QUOTE_PCRS,
        headers::QUOTE_NONCE,
        headers::SESSION,
        headers::CHALLENGE,
        headers::CONTENT_DIGEST,
        headers::SIGNATURE_INPUT,
        headers::SIGNATURE,
    ] {
        assert!(DOCS.to_lowercase().contains(&format!("`{name}")), "{name}");
    }
    let components = signature::COMPONENTS.map(|c| format!("\"{c}\"")).join(" ");
    assert!(DOCS.contains(&format!("{}=({components});created=", signature::LABEL)));
}
