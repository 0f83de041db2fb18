//! One frame of `attest-proxy top`: text in lines, as wide and high as the terminal.
//!
//! Owns: what is where. Pure: two readings and a size in, lines out. Whatever the proxy says is escaped before it reaches a terminal.

use std::fmt::Write as _;

use super::Top;

/// Draws a frame of `height` lines, none wider than `width`. `before` is the reading of before, for rates.
#[must_use]
pub fn draw(now: &Top, before: Option<&Top>, width: usize, height: usize) -> Vec<String> {
    let mut lines = Vec::with_capacity(height);
    let seconds = before.map_or(0.0, |before| millis_to_secs(now.at.saturating_sub(before.at)));
    let rate = |now: u64, before: Option<u64>| match before {
        Some(before) if seconds > 0.0 => format!("{:.1}/s", count(now.saturating_sub(before)) / seconds),
        _ => "-".to_owned(),
    };
    let refused = |top: &Top| top.refused.iter().map(|(_, count)| *count).sum::<u64>();
    lines.push(format!(
        "attest-proxy {}  fleet {}  {}",
        now.version,
        now.fleet,
        if now.ready.ready { "ready" } else { "NOT READY" }
    ));
    for reason in &now.ready.reasons {
        lines.push(format!("  {reason}"));
    }
    lines.push(format!(
        "requests {} ({})  refused {} ({})  left {}  connections {}  running {}  waiting {}",
        now.admitted,
        rate(now.admitted, before.map(|b| b.admitted)),
        refused(now),
        rate(refused(now), before.map(refused)),
        now.abandoned,
        now.connections,
        now.streams.len(),
        now.queued,
    ));
    let age = now
        .registry_age
        .map_or_else(|| "never reached".to_owned(), |age| format!("{age:.1} s ago"));
    lines.push(format!(
        "registry {age}: {} devices can be admitted, {} cannot",
        now.usable, now.unusable
    ));
    for upstream in &now.upstreams {
        lines.push(format!(
            "upstream {}  {}  {} of {} places  {} models loaded",
            upstream.upstream, upstream.state, upstream.in_flight, upstream.places, upstream.loaded
        ));
    }
    if !now.refused.is_empty() {
        let mut line = String::from("refused:");
        for (code, count) in &now.refused {
            let _ = write!(line, "  {code} {count}");
        }
        lines.push(line);
    }
    lines.push(String::new());
    // A third of what is left is for streams, at least a few.
    let left = height.saturating_sub(lines.len());
    let for_streams = (left / 3).max(3).min(now.streams.len().saturating_add(1));
    lines.push(format!(
        "{:<24} {:<20} {:<22} {:>8} {:>10}",
        "STREAM OF", "MODEL", "PATH", "SECONDS", "BYTES"
    ));
    for stream in now.streams.iter().take(for_streams.saturating_sub(1)) {
        lines.push(format!(
            "{:<24} {:<20} {:<22} {:>8.1} {:>10}",
            clip(&stream.device, 24),
            clip(stream.model.as_deref().unwrap_or("-"), 20),
            clip(&stream.path, 22),
            stream.seconds,
            stream.bytes
        ));
    }
    lines.push(String::new());
    lines.push(format!(
        "{:<24} {:<14} {:>8} {:>8} {:>8} {:>7} {:>10} {:>10}",
        "DEVICE", "POLICY", "ADMITTED", "RATE", "REFUSED", "RUNNING", "TOKENS IN", "OUT"
    ));
    let left = height.saturating_sub(lines.len());
    for device in now.devices.iter().take(left) {
        let old = before.and_then(|b| b.devices.iter().find(|d| d.device == device.device));
        lines.push(format!(
            "{:<24} {:<14} {:>8} {:>8} {:>8} {:>7} {:>10} {:>10}",
            clip(&device.device, 24),
            clip(&device.policy, 14),
            device.admitted,
            rate(device.admitted, old.map(|d| d.admitted)),
            device.refused,
            device.running,
            device.prompt_tokens,
            device.output_tokens
        ));
    }
    lines.truncate(height);
    lines.iter().map(|line| clip(line, width)).collect()
}

/// At most so many characters, none of which does anything to a terminal.
fn clip(text: &str, most: usize) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(most)
        .collect()
}

fn count(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}

fn millis_to_secs(millis: u64) -> f64 {
    std::time::Duration::from_millis(millis).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

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
            refused: vec![("psk-unknown".into(), 3)],
            connections: 1,
            usable: 2,
            unusable: 0,
            registry_age: Some(0.25),
            devices: vec![DeviceRow {
                device: "kiosk".into(),
                policy: "strict".into(),
                admitted,
                refused: 0,
                running: 1,
                bytes: 5,
                prompt_tokens: 0,
                output_tokens: 0,
                last: 1,
            }],
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
        let lines = draw(&top(30, 3_000), Some(&top(10, 1_000)), 200, 24);
        let text = lines.join("\n");
        for part in [
            "NOT READY",
            "upstream: gone",
            "requests 30 (10.0/s)",
            "psk-unknown 3",
            "kiosk",
            "?[2Jevil",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        for (width, height) in [(20, 5), (80, 3), (1, 1)] {
            let lines = draw(&top(1, 2), None, width, height);
            assert!(lines.len() <= height && lines.iter().all(|l| l.chars().count() <= width));
        }
    }
}
