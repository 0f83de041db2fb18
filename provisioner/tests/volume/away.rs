//! Sealing to a TPM that is not here, out of what `inventory collect` wrote.

use testkit::Swtpm;

use crate::bench::Bench;

#[test]
fn what_is_sealed_from_afar_opens_on_that_tpm_alone() {
    let bench = Bench::new();
    let collected = bench.with_tpm(&["inventory", "collect", "-o", "tpm.json"]);
    assert_eq!(collected.code, 0, "{}", collected.err);
    for srk in ["systemd-252", "systemd-252-rsa", "tcg"] {
        let name = format!("{srk}.luks");
        let ran = bench.run(&[
            "volume",
            "create",
            &name,
            "--content",
            "content",
            "--seal-pcrs",
            "7,11",
            "--srk",
            srk,
            "--srk-public",
            "tpm.json",
        ]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.out.contains("a TPM that is not here"), "{}", ran.out);
        let info = bench.run(&["volume", "info", &name]);
        assert!(info.out.contains("not imported"), "{}", info.out);
        bench.opens(&name, &[]);
        let other = Swtpm::start();
        other.extend(7, b"secure boot state");
        other.extend(11, b"kernel image");
        let elsewhere = bench.with(&other, &["volume", "cat", &name, "/psk"]);
        assert_eq!(elsewhere.code, 1, "{}", elsewhere.err);
        assert!(!elsewhere.out.contains("canary"));
        // On the device, sealed anew: now it is its own.
        let resealed = bench.with_tpm(&["volume", "reseal", &name]);
        assert_eq!(resealed.code, 0, "{}", resealed.err);
        let info = bench.run(&["volume", "info", &name]);
        assert!(!info.out.contains("not imported"), "{}", info.out);
        bench.opens(&name, &[]);
    }
}

#[test]
fn the_inventory_says_what_tpm2_tools_say() {
    let bench = Bench::new();
    let ran = bench.with_tpm(&["inventory", "collect", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let inventory: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(inventory["manufacturer"], "IBM");
    let context = bench.path("primary.ctx");
    let name = bench.path("name");
    bench.tpm.tool(
        "tpm2_createprimary",
        &["-C", "o", "-G", "ecc", "-c", context.to_str().unwrap()],
    );
    bench.tpm.tool(
        "tpm2_readpublic",
        &["-c", context.to_str().unwrap(), "-n", name.to_str().unwrap()],
    );
    let name: String = std::fs::read(name)
        .unwrap()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let keys = inventory["storage-keys"].as_array().unwrap();
    let ours = keys.iter().find(|key| key["template"] == "systemd-ecc").unwrap();
    assert_eq!(ours["name"], name);
    assert!(inventory["pcrs"]["sha256"]["7"].as_str().unwrap().len() == 64);
}

#[test]
fn a_touched_inventory_is_none() {
    let bench = Bench::new();
    bench.with_tpm(&["inventory", "collect", "-o", "tpm.json"]);
    let good = std::fs::read_to_string(bench.path("tpm.json")).unwrap();
    let seal = |text: &str, pcrs: &str| {
        bench.file("touched.json", text);
        bench.run(&[
            "volume",
            "create",
            "x.luks",
            "--content",
            "content",
            "--seal-pcrs",
            pcrs,
            "--srk-public",
            "touched.json",
        ])
    };
    let other = good.replacen("\"name\": \"000b", "\"name\": \"000c", 1);
    assert_ne!(other, good);
    for (text, pcrs, why) in [
        (other.as_str(), "7", "Name is that of another"),
        (
            &good.replace("systemd-ecc", "systemd-ecx"),
            "7",
            "is that of another",
        ),
        (
            &good.replace("\"signalbox-inventory\": 1", "\"signalbox-inventory\": 2"),
            "7",
            "version 2",
        ),
        (&good.replace("sha256", "sha999"), "7", "no values of sha256:7"),
        ("{}", "7", "missing field"),
    ] {
        let ran = seal(text, pcrs);
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains(why), "{why}: {}", ran.err);
        assert!(!bench.path("x.luks").exists());
    }
    // Nothing was measured into PCR 9 when it was collected.
    assert_eq!(seal(&good, "9").code, 3);
}
