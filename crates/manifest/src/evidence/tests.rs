use super::*;

const ALONE: &str = "bank = \"sha256\"\npcrs = { 7 = \"0101010101010101010101010101010101010101010101010101010101010101\" }\n";

#[test]
fn the_section_alone_under_its_heading_or_in_a_manifest() {
    let alone = parse_evidence("p.toml", ALONE).unwrap();
    assert_eq!(alone.parts().exact.len(), 1);
    let headed = format!("[policies.kiosk.evidence]\n{ALONE}");
    assert_eq!(parse_evidence("p.toml", &headed).unwrap(), alone);
    let demo = include_str!("../../../../manifests/examples/demo.toml");
    assert_eq!(parse_evidence("demo.toml", demo).unwrap().parts().exact.len(), 2);
}

#[test]
fn none_or_several_are_told() {
    let told = |text: &str| {
        parse_evidence("p.toml", text).unwrap_err().findings()[0]
            .message
            .clone()
    };
    assert_eq!(
        told("[policies.a]\nmodels = [\"*\"]\n"),
        "no policy here has `evidence`"
    );
    let two = format!("[policies.a.evidence]\n{ALONE}[policies.b.evidence]\n{ALONE}");
    assert_eq!(told(&two), "several policies here have `evidence`");
    assert_eq!(told("policies = 1\n"), "no policy here has `evidence`");
}

#[test]
fn the_manifests_rules_hold() {
    let told = |text: &str| {
        let found = parse_evidence("p.toml", text).unwrap_err();
        (
            found.findings()[0].message.clone(),
            found.findings()[0].position.line,
        )
    };
    assert_eq!(told("").0, "the policy asks for evidence of nothing");
    assert_eq!(told("pcrs = {}\n").0, "a quote over no PCR proves nothing");
    assert_eq!(
        told(&format!("{ALONE}pcr = 1\n")),
        ("unknown key `pcr`".to_owned(), 3)
    );
    let zero = ALONE.replace("01", "00");
    assert_eq!(told(&zero), ("nothing was measured into this PCR".to_owned(), 2));
}
