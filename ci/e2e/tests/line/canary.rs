//! The PSK is searched for, raw, in hex and in base64, in everything that was printed, logged, stored and registered.

use testkit::Canary;

use crate::harness::{Backing, DEVICE, Line};

#[test]
fn the_psk_is_nowhere_on_sqlite() {
    nowhere(Backing::Sqlite);
}

#[test]
fn the_psk_is_nowhere_on_etcd() {
    nowhere(Backing::Etcd);
}

fn nowhere(backing: Backing) {
    let line = Line::start(backing);
    line.apply().succeeded();
    let psk = line.psk();
    assert!(psk.starts_with("sbx_") && psk.len() == 47, "a generated PSK");

    // Everything that talks about the device, the failures too: those are where secrets like to show up.
    line.admitted();
    line.ask(&["--no-evidence"]);
    line.device(&["list"]).succeeded();
    line.device(&["show", DEVICE]).succeeded();
    line.device(&["suspend", DEVICE]).succeeded();
    line.ask(&[]);
    line.device(&["resume", DEVICE]).succeeded();
    line.apply().succeeded();
    line.tpm.extend(11, b"another kernel");
    line.ask(&[]);
    let dump = line
        .etcd
        .as_ref()
        .map(|etcd| etcd.ctl(&["get", "", "--prefix"]))
        .unwrap_or_default();
    assert_eq!(
        dump.contains(DEVICE),
        backing == Backing::Etcd,
        "what was searched is the registry"
    );

    let text = Canary::new("the PSK", psk.as_bytes());
    text.assert_absent_below(line.folder.path());
    text.assert_absent("etcd", &dump);
    // And the 32 bytes behind the text.
    let raw = data_encoding::BASE64URL_NOPAD
        .decode(psk.trim_start_matches("sbx_").as_bytes())
        .unwrap();
    let bytes = Canary::new("the PSK's bytes", &raw);
    bytes.assert_absent_below(line.folder.path());
    bytes.assert_absent("etcd", &dump);
}
