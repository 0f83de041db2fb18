//! One frame of `attest-proxy top`: text in lines, as wide and high as the terminal.
//!
//! Owns: what is where. Pure: two readings, an order and a size in, lines out. Of a narrow terminal's table, the columns that say
//! least are left out. Whatever the proxy says is escaped before it reaches a terminal.

use clap::ValueEnum;

use super::{
    DeviceRow, Top,
    table::{Column, clip, short, table},
};

/// By what devices are ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// What runs, then who came last.
    #[default]
    Busy,
    /// Requests admitted between two readings.
    Rate,
    /// Requests refused: between two readings, then in all.
    Refused,
    /// Tokens of answers: between two readings, then in all.
    Tokens,
    /// Their names.
    Name,
}

impl Sort {
    /// The order that a key asks for.
    #[must_use]
    pub const fn of_key(key: u8) -> Option<Self> {
        Some(match key.to_ascii_lowercase() {
            b'b' => Self::Busy,
            b'a' => Self::Rate,
            b'r' => Self::Refused,
            b't' => Self::Tokens,
            b'n' => Self::Name,
            _ => return None,
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Rate => "rate",
            Self::Refused => "refused",
            Self::Tokens => "tokens",
            Self::Name => "name",
        }
    }
}

/// What lies between two readings.
struct Between<'a> {
    before: Option<&'a Top>,
    seconds: f64,
}

impl Between<'_> {
    /// So many a second of what only rises; it began anew where it fell.
    fn rate(&self, now: u64, before: impl FnOnce(&Top) -> Option<u64>) -> String {
        match self.before {
            Some(top) if self.seconds > 0.0 => {
                let more = now.saturating_sub(before(top).unwrap_or(0));
                format!("{:.1}", count(more) / self.seconds)
            }
            _ => "-".to_owned(),
        }
    }

    fn of_device<'t>(&'t self, device: &DeviceRow) -> Option<&'t DeviceRow> {
        self.before?.devices.iter().find(|d| d.device == device.device)
    }

    /// How many more there are of `what`.
    fn more(&self, device: &DeviceRow, what: impl Fn(&DeviceRow) -> u64) -> u64 {
        let before = self.of_device(device).map_or(what(device), &what);
        what(device).saturating_sub(before)
    }
}

/// Draws a frame of `height` lines, none wider than `width`. `before` is the reading of before, for rates.
#[must_use]
pub fn draw(now: &Top, before: Option<&Top>, sort: Sort, width: usize, height: usize) -> Vec<String> {
    let millis = before.map_or(0, |before| now.at.saturating_sub(before.at));
    let between = Between {
        before,
        seconds: std::time::Duration::from_millis(millis).as_secs_f64(),
    };
    let mut lines = summary(now, &between, width);
    lines.push(String::new());
    let servers = (height / 6).max(2);
    lines.extend(shortened(upstreams(now, width), servers, now.upstreams.len()));
    lines.push(String::new());
    // A third of what is left is for streams, at least a few.
    let left = height.saturating_sub(lines.len());
    let most = (left / 3).max(3);
    lines.extend(shortened(streams(now, width), most, now.streams.len()));
    lines.push(String::new());
    lines.extend(devices(now, &between, sort, width));
    lines.truncate(height);
    lines.iter().map(|line| clip(line, width)).collect()
}

fn summary(now: &Top, between: &Between<'_>, width: usize) -> Vec<String> {
    let mut lines = vec![format!(
        "attest-proxy {}  fleet {}  {}{}",
        now.version,
        now.fleet,
        if now.ready.ready { "ready" } else { "NOT READY" },
        if now.ready.draining { ", draining" } else { "" },
    )];
    for reason in &now.ready.reasons {
        lines.push(format!("  {reason}"));
    }
    let refused = |top: &Top| top.refused.iter().map(|(_, count)| *count).sum::<u64>();
    let tokens = |top: &Top| top.devices.iter().map(|d| d.output_tokens).sum::<u64>();
    lines.push(format!(
        "requests {} ({}/s)  refused {} ({}/s)  left {}  tokens out {}/s",
        now.admitted,
        between.rate(now.admitted, |b| Some(b.admitted)),
        refused(now),
        between.rate(refused(now), |b| Some(refused(b))),
        now.abandoned,
        between.rate(tokens(now), |b| Some(tokens(b))),
    ));
    let age = now
        .registry_age
        .map_or_else(|| "never reached".to_owned(), |age| format!("{age:.1} s ago"));
    lines.push(format!(
        "connections {}  running {}  waiting {}  registry {age}  devices {} usable, {} not",
        now.connections,
        now.streams.len(),
        now.queued,
        now.usable,
        now.unusable
    ));
    for (title, counts, old) in [
        ("refused:", &now.refused, between.before.map(|b| &b.refused)),
        ("cut off:", &now.cut, between.before.map(|b| &b.cut)),
    ] {
        let words = counts.iter().map(|(code, number)| {
            let before = old.and_then(|old| old.iter().find(|(c, _)| c == code));
            let before = before.map_or(0, |(_, number)| *number);
            // Only what goes on now has a rate.
            match between.rate(*number, |_| Some(before)) {
                rate if *number > before && rate != "-" => format!("{code} {number} ({rate}/s)"),
                _ => format!("{code} {number}"),
            }
        });
        lines.extend(wrapped(title, words, width));
    }
    lines
}

/// Words behind a title, on as many lines as they take.
fn wrapped(title: &str, words: impl Iterator<Item = String>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.chars().count().saturating_add(word.len()).saturating_add(2) <= width => {
                line.push_str("  ");
                line.push_str(&word);
            }
            last => {
                let title = if last.is_none() { title } else { "        " };
                lines.push(format!("{title} {word}"));
            }
        }
    }
    lines
}

/// The first lines of a table, its heading included, and how many rows are missing.
fn shortened(mut lines: Vec<String>, most: usize, rows: usize) -> Vec<String> {
    if lines.len() > most {
        lines.truncate(most.saturating_sub(1));
        let shown = lines.len().saturating_sub(1);
        lines.push(format!("  and {} more", rows.saturating_sub(shown)));
    }
    lines
}

fn upstreams(now: &Top, width: usize) -> Vec<String> {
    let columns = [
        Column::text("UPSTREAM", 24, 0),
        Column::text("STATE", 8, 1),
        Column::number("RUNNING", 8, 2),
        Column::number("PLACES", 8, 3),
        Column::number("LOADED", 8, 4),
    ];
    let rows = now.upstreams.iter().map(|upstream| {
        vec![
            upstream.upstream.clone(),
            upstream.state.clone(),
            upstream.in_flight.to_string(),
            upstream.places.to_string(),
            upstream.loaded.to_string(),
        ]
    });
    table(&columns, rows, width)
}

fn streams(now: &Top, width: usize) -> Vec<String> {
    let columns = [
        Column::text("STREAM OF", 20, 0),
        Column::text("MODEL", 20, 2),
        Column::text("PATH", 20, 4),
        Column::number("SECONDS", 8, 1),
        Column::number("BYTES", 8, 3),
        Column::text("REQUEST", 18, 5),
    ];
    let rows = now.streams.iter().map(|stream| {
        vec![
            stream.device.clone(),
            stream.model.clone().unwrap_or_else(|| "-".to_owned()),
            stream.path.clone(),
            format!("{:.1}", stream.seconds),
            short(stream.bytes),
            stream.request.clone(),
        ]
    });
    table(&columns, rows, width)
}

fn devices(now: &Top, between: &Between<'_>, sort: Sort, width: usize) -> Vec<String> {
    let mut rows: Vec<&DeviceRow> = now.devices.iter().collect();
    match sort {
        // As they came.
        Sort::Busy => {}
        Sort::Rate => rows.sort_by_key(|d| std::cmp::Reverse(between.more(d, |d| d.admitted))),
        Sort::Refused => {
            rows.sort_by_key(|d| std::cmp::Reverse((between.more(d, |d| d.refused), d.refused)));
        }
        Sort::Tokens => {
            rows.sort_by_key(|d| std::cmp::Reverse((between.more(d, |d| d.output_tokens), d.output_tokens)));
        }
        Sort::Name => rows.sort_by(|a, b| a.device.cmp(&b.device)),
    }
    let columns = [
        Column::text("DEVICE", 24, 0),
        Column::text("POLICY", 12, 5),
        Column::number("RUN", 4, 1),
        Column::number("REQS", 7, 3),
        Column::number("REQ/S", 7, 2),
        Column::number("REFUSED", 7, 2),
        Column::number("REF/S", 7, 6),
        Column::number("TOK IN", 7, 8),
        Column::number("TOK OUT", 7, 4),
        Column::number("OUT/S", 7, 4),
        Column::number("BYTES", 7, 9),
        Column::number("LAST", 6, 7),
    ];
    let seconds = now.at / 1000;
    let rows = rows.into_iter().map(|device| {
        let old = |what: fn(&DeviceRow) -> u64| move |_: &Top| between.of_device(device).map(what);
        let rate = |what: fn(&DeviceRow) -> u64| between.rate(what(device), old(what));
        vec![
            device.device.clone(),
            device.policy.clone(),
            device.running.to_string(),
            short(device.admitted),
            rate(|d| d.admitted),
            short(device.refused),
            rate(|d| d.refused),
            short(device.prompt_tokens),
            short(device.output_tokens),
            rate(|d| d.output_tokens),
            short(device.bytes),
            match device.last {
                0 => "-".to_owned(),
                last => format!("{}s", short(seconds.saturating_sub(last))),
            },
        ]
    });
    let mut lines = vec![format!(
        "by {}   keys: b busy  a admitted/s  r refused  t tokens  n name  q end",
        sort.name()
    )];
    lines.extend(table(&columns, rows, width));
    lines
}

fn count(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
