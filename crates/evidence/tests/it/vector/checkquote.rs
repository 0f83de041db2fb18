//! `tpm2_checkquote` as a second judge. It knows no policy, no earlier quote and no qualified name.

use std::{fs, process::Command};

use data_encoding::HEXLOWER;
use evidence::wire::{Parameters, Public};

use super::{Judged, Vector};

/// The same evidence, judged by tpm2-tools: signature, qualifying data and the digest of the PCR values.
pub fn judge(vector: &Vector) -> Judged {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    let size = u16::try_from(vector.ak.public.0.len()).unwrap().to_be_bytes();
    write("ak.pub", &[&size, &vector.ak.public.0[..]].concat());
    write("quote", &vector.quote.0);
    write("signature", &vector.signature.0);
    write("pcrs", &vector.pcrs.0);
    let public = Public::parse(&vector.ak.public.0).unwrap();
    let hash = match public.parameters {
        Parameters::Rsa { scheme, .. } | Parameters::Ecc { scheme, .. } => scheme.unwrap().hash,
    };
    let selection = vector.policy.read().selection().to_string();
    let output = Command::new("tpm2_checkquote")
        .current_dir(dir.path())
        .args([
            "-u",
            "ak.pub",
            "-m",
            "quote",
            "-s",
            "signature",
            "-f",
            "pcrs",
            "-F",
            "values",
        ])
        .args(["-l", &selection, "-g", &hash.to_string()])
        .args(["-q", &HEXLOWER.encode(&vector.qualifying_data.0)])
        .output();
    let output = output.expect("tpm2_checkquote of Debian's tpm2-tools");
    if output.status.success() {
        Judged::Accepts
    } else {
        Judged::Refuses
    }
}
