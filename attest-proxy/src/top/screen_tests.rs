//! Frames: what is in them, in which order, in how much room.

use super::{super::*, *};

fn device(name: &str, admitted: u64, refused: u64, output_tokens: u64) -> DeviceRow {
    DeviceRow {
        device: name.into(),
        policy: "strict".into(),
        admitted,
        refused,
        running: 1,
        bytes: 5,
        prompt_tokens: 0,
        output_tokens,
        last: 1,
    }
}

fn top(admitted: u64, at: u64) -> Top {
    Top {
        at,
        fleet: "demo".into(),
        version: "0.1.0".into(),
        ready: Readiness {
            ready: false,
            registry: "ok".into(),
            upstream: "gone".into(),
            audit: "off".into(),
            keys: "key k1".into(),
            draining: false,
            reasons: vec!["upstream: gone".into()],
        },
        admitted,
        abandoned: 0,
        refused: vec![("psk-unknown".into(), admitted / 10), ("rate-limited".into(), 7)],
        cut: vec![("client-left".into(), 2)],
        connections: 1,
        usable: 2,
        unusable: 0,
        registry_age: Some(0.25),
        devices: vec![device("kiosk", admitted, 0, 0)],
        streams: vec![StreamRow {
            request: "1".into(),
            device: "kiosk".into(),
            model: Some("\u{1b}[2Jevil".into()),
            path: "/api/chat".into(),
            seconds: 1.5,
            bytes: 5,
        }],
        upstreams: vec![UpstreamRow {
            upstream: "ollama:11434".into(),
            state: "gone".into(),
            in_flight: 1,
            places: 4,
            loaded: 2,
        }],
        queued: 0,
    }
}

#[test]
fn a_frame_has_its_rates_and_fits() {
    let lines = draw(&top(30, 3_000), Some(&top(10, 1_000)), Sort::Busy, 200, 24);
    let text = lines.join("\n");
    for part in [
        "NOT READY",
        "upstream: gone",
        "requests 30 (10.0/s)",
        "psk-unknown 3 (1.0/s)",
        "rate-limited 7\n",
        "cut off: client-left 2",
        "ollama:11434",
        "kiosk",
        "?[2Jevil",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'));
    for (width, height) in [(20, 5), (80, 3), (1, 1), (0, 0)] {
        let lines = draw(&top(1, 2), None, Sort::Busy, width, height);
        assert!(lines.len() <= height && lines.iter().all(|l| l.chars().count() <= width));
    }
}

#[test]
fn at_eighty_columns_what_matters_is_there() {
    let lines = draw(&top(30, 3_000), Some(&top(10, 1_000)), Sort::Busy, 80, 24);
    let heading = lines.iter().find(|line| line.starts_with("DEVICE")).unwrap();
    for column in ["RUN", "REQS", "REQ/S", "REFUSED", "TOK OUT"] {
        assert!(heading.contains(column), "{heading}");
    }
    assert!(heading.chars().count() <= 80 && !heading.contains("BYTES"));
    let wide = draw(&top(30, 3_000), None, Sort::Busy, 200, 24);
    assert!(
        wide.iter()
            .any(|line| line.contains("TOK IN") && line.contains("BYTES"))
    );
}

#[test]
fn devices_are_in_the_order_that_was_asked_for() {
    let reading = |at, rows: [(&str, u64, u64, u64); 3]| Top {
        devices: rows.map(|(name, a, r, t)| device(name, a, r, t)).into(),
        ..top(1, at)
    };
    let before = reading(1_000, [("b", 100, 9, 50), ("c", 10, 0, 90), ("a", 5, 5, 0)]);
    let now = reading(2_000, [("b", 101, 9, 50), ("c", 13, 0, 90), ("a", 7, 6, 4)]);
    let order = |sort| {
        let lines = draw(&now, Some(&before), sort, 80, 40);
        let at = lines.iter().position(|line| line.starts_with("DEVICE")).unwrap();
        let names = lines.iter().skip(at + 1).filter_map(|line| line.chars().next());
        names.collect::<String>()
    };
    assert_eq!(order(Sort::Busy), "bca");
    assert_eq!(order(Sort::Name), "abc");
    assert_eq!(order(Sort::Rate), "cab");
    assert_eq!(order(Sort::Refused), "abc");
    assert_eq!(order(Sort::Tokens), "acb");
    for (key, sort) in [
        (b'b', Sort::Busy),
        (b'A', Sort::Rate),
        (b'r', Sort::Refused),
        (b't', Sort::Tokens),
        (b'n', Sort::Name),
    ] {
        assert_eq!(Sort::of_key(key), Some(sort));
    }
    assert_eq!(Sort::of_key(b'x'), None);
}

#[test]
fn long_lists_say_what_is_missing() {
    let mut many = top(1, 2);
    many.upstreams = (0..20)
        .map(|n| UpstreamRow {
            upstream: format!("gpu-{n}:11434"),
            ..many.upstreams[0].clone()
        })
        .collect();
    many.refused = (0..30).map(|n| (format!("code-{n}"), n)).collect();
    let lines = draw(&many, None, Sort::Busy, 80, 40);
    assert!(lines.iter().any(|line| line == "  and 16 more"), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("code-29")) && lines.iter().all(|l| l.len() <= 80));
    assert!(lines.iter().any(|line| line.starts_with("DEVICE")));
}
