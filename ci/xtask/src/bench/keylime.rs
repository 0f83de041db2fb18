//! Keylime's Python verifier on the same quotes, in a virtual environment of its own.

use std::{path::Path, process::Command};

use serde::Deserialize;

use super::{BenchError, Measured, output};

/// What `checkquote` alone needs; the rest of Keylime's requirements is for its servers.
const PACKAGES: [&str; 3] = ["keylime==7.14.3", "cryptography", "pyyaml"];
/// Those that Keylime can check and we are measured by.
const VECTORS: [&str; 2] = ["accepted-ecdsa-p256", "accepted-rsassa-2048"];

/// Its rate on one vector.
#[derive(Debug)]
pub(crate) struct Keylime {
    pub(crate) scheme: String,
    pub(crate) version: String,
    pub(crate) per_second: f64,
    pub(crate) ours_per_second: f64,
}

#[derive(Deserialize)]
struct Printed {
    per_second: f64,
    version: String,
}

pub(crate) fn measure(root: &Path, measured: &Measured) -> Result<Vec<Keylime>, BenchError> {
    let home = root.join("target/keylime");
    let python = home.join("bin/python");
    if !python.exists() {
        output(
            Command::new("python3").args(["-m", "venv"]).arg(&home),
            "python3 -m venv",
        )?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        output(Command::new(&python).args(install).args(PACKAGES), "pip install")?;
    }
    let ours = measured.appraisals.iter();
    let ours = ours.filter(|ours| VECTORS.contains(&ours.vector.as_str()));
    ours.map(|ours| {
        let vector = root
            .join("crates/evidence/vectors")
            .join(format!("{}.json", ours.vector));
        let script = root.join("ci/xtask/src/bench/beside_keylime.py");
        // It warns on standard error that it has no configuration, which this does not need.
        let printed = Command::new(&python).arg(script).arg(vector).output();
        let printed = printed.map_err(|error| BenchError::Run("beside_keylime.py", error))?;
        let printed: Printed = serde_json::from_slice(&printed.stdout).map_err(BenchError::Output)?;
        Ok(Keylime {
            scheme: ours.scheme.clone(),
            version: printed.version,
            per_second: printed.per_second,
            ours_per_second: ours.whole_per_second,
        })
    })
    .collect()
}
