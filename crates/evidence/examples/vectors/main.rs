//! Writes `vectors/` anew, from software TPMs that stock tools operate. The README there says what the files hold.
//!
//! Owns: what is made. What must come of it is written beside each case by hand and not asked of `appraise`; that it
//! does come, `tests/it/vectors.rs` sees. Keys are new each time, so no file is the same after a second run.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a program for development"
)]

mod accepted;
mod eks;
#[path = "../../tests/it/forge/mod.rs"]
mod forge;
mod keys;
mod logs;
mod refused;
mod spoilt;
mod statements;
mod station;
#[path = "../../tests/it/vector/mod.rs"]
mod vector;

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;

use station::{Key, Station};
use vector::{Vector, Verdict, checkquote, folder};

/// The vectors by file name.
type Vectors = BTreeMap<&'static str, Vector>;

fn main() {
    let station = Station::new("ecc");
    let key = station.ak("ecc", "sha256", "ecdsa", "0x81010020");
    let mut vectors = Vectors::new();
    accepted::add(&mut vectors, &station, &key);
    refused::add(&mut vectors, &station, &key);
    spoilt::add(&mut vectors, &station, &key);
    statements::add(&mut vectors, &station, &key);
    logs::add(&mut vectors);
    // Last: it resets the TPM.
    accepted::add_boots(&mut vectors, &station, &key);
    for (name, vector) in &mut vectors {
        vector.checkquote = checkquote::judge(vector);
        let found = vector.judge();
        if found != vector.verdict {
            eprintln!("{name}: {found:?}, and should be {:?}", vector.verdict);
        }
    }
    let keys = keys::make();
    for (name, key) in &keys {
        let found = key.judge();
        if found != key.verdict {
            eprintln!("{name}: {found:?}, and should be {:?}", key.verdict);
        }
    }
    write(&folder(), &vectors);
    write(&folder().join("keys"), &keys);
}

/// Writes a folder anew.
fn write(folder: &Path, vectors: &BTreeMap<&str, impl Serialize>) {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            fs::remove_file(path).unwrap();
        }
    }
    for (name, vector) in vectors {
        let text = serde_json::to_string_pretty(vector).unwrap() + "\n";
        fs::write(folder.join(format!("{name}.json")), text).unwrap();
    }
    eprintln!("{} vectors written to {}", vectors.len(), folder.display());
}

fn attested(continuity: &str) -> Verdict {
    Verdict::Attested {
        continuity: continuity.to_owned(),
        golden_set: None,
    }
}

/// `failures` are kinds, or `kind: detail`.
fn refusal(class: &str, failures: &[&str]) -> Verdict {
    let failed = |text: &&str| {
        let (kind, detail) = match text.split_once(": ") {
            Some((kind, detail)) => (kind, Some(detail.to_owned())),
            None => (*text, None),
        };
        let kind = kind.to_owned();
        vector::Failed { kind, detail }
    };
    Verdict::Refused {
        class: class.to_owned(),
        failures: failures.iter().map(failed).collect(),
    }
}
