//! `ci/bench volume`: the figures of `crates/volume/benches/volume.rs`, and what they have to be.

use std::{fmt::Write as _, path::Path, process::Command};

use serde::Deserialize;

use super::{BenchError, host::Host, keep, output, table};

/// The least part of `openssl speed`, of a plain copy, of cryptsetup and of the other Adiantum.
const SECTORS: f64 = 0.80;
const COPY: f64 = 0.80;
const CRYPTSETUP: f64 = 1.5;
const ADIANTUM: f64 = 1.0;
/// The most memory, in KiB.
const MEMORY: u64 = 64 << 10;

#[derive(Deserialize)]
struct Measured {
    cores: usize,
    turns: usize,
    image_bytes: u64,
    sectors: Pair,
    adiantum: Pair,
    whole: Whole,
    memory: Memory,
}

#[derive(Deserialize)]
struct Pair {
    ours_per_second: f64,
    theirs_per_second: f64,
    ratio: f64,
}

#[derive(Deserialize)]
struct Whole {
    copy: Pair,
    cryptsetup: Pair,
    adiantum_per_second: f64,
}

#[derive(Deserialize)]
struct Memory {
    image_bytes: u64,
    peak_kib: u64,
}

/// Whether everything that must be reached is.
pub(super) fn run(root: &Path, write: bool) -> Result<bool, BenchError> {
    let arguments = ["bench", "--quiet", "--package", "volume", "--bench", "volume"];
    let printed = output(
        Command::new("cargo").args(arguments).current_dir(root),
        "cargo bench",
    )?;
    let measured: Measured = serde_json::from_slice(&printed).map_err(BenchError::Output)?;
    let (text, reached) = chapter(&Host::read(root), &measured);
    table::show(&text);
    if write {
        keep(root, "Volume", &text)?;
    }
    Ok(reached)
}

fn chapter(host: &Host, measured: &Measured) -> (String, bool) {
    let Measured {
        cores,
        turns,
        image_bytes,
        sectors,
        adiantum,
        whole,
        memory,
    } = measured;
    let rows = [
        (
            "AES-256-XTS, 4096-byte sectors in 256 KiB, one core",
            "`openssl speed`, 4 KiB",
            sectors,
            SECTORS,
        ),
        (
            "Adiantum (XChaCha12), all cores",
            "the `adiantum` crate",
            adiantum,
            ADIANTUM,
        ),
        (
            "a whole volume to tmpfs",
            "a plain copy, as many threads",
            &whole.copy,
            COPY,
        ),
        (
            "a whole volume to tmpfs",
            "`cryptsetup reencrypt --encrypt`",
            &whole.cryptsetup,
            CRYPTSETUP,
        ),
    ];
    let mut text = format!(
        "## Volume\n\nWritten by `ci/bench volume --write`. {host}.\n\n{cores} cores, {turns} turns each, medians; the ratio is the median over \
         neighbouring turns. Ciphers are measured in processor time,\nwhole volumes of {} MiB by the clock.\n\n\
         | what | beside | ours, MB/s | theirs, MB/s | ratio | wanted |\n|---|---|---|---|---|---|\n",
        image_bytes >> 20
    );
    for (what, beside, pair, wanted) in rows {
        // Appending to a String cannot fail.
        let _infallible = writeln!(
            text,
            "| {what} | {beside} | {:.0} | {:.0} | {:.2} | {wanted:.2} |",
            pair.ours_per_second / 1e6,
            pair.theirs_per_second / 1e6,
            pair.ratio
        );
    }
    let _infallible = write!(
        text,
        "\nA whole volume with Adiantum: {:.0} MB/s. The most memory while {} GiB are written: {} KiB.\n\nWhat must be reached:\n\n",
        whole.adiantum_per_second / 1e6,
        memory.image_bytes >> 30,
        memory.peak_kib
    );
    let ratios = rows.iter().map(|(what, beside, pair, wanted)| {
        let what = format!(
            "{what}: {:.2} of {beside}, at least {wanted:.2} wanted",
            pair.ratio
        );
        (what, pair.ratio >= *wanted)
    });
    let memory = (
        format!("{} KiB of memory, under {MEMORY} wanted", memory.peak_kib),
        memory.peak_kib < MEMORY,
    );
    let mut all = true;
    for (what, met) in ratios.chain([memory]) {
        let verdict = if met { "reached" } else { "NOT REACHED" };
        let _infallible = writeln!(text, "- {verdict}: {what}");
        all &= met;
    }
    (text, all)
}
