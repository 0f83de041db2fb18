//! The generation of a volume: made, raised, told, and refused where it would get lower.

use domain::Generation;
use tpm::{RollbackIndex, Tpm};

use crate::bench::Bench;

fn info(bench: &Bench, name: &str) -> serde_json::Value {
    let ran = bench.run(&["volume", "info", name, "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

fn counted(bench: &Bench, index: RollbackIndex) -> Generation {
    let mut tpm = Tpm::open(&bench.tpm.tcti().parse().unwrap()).unwrap();
    tpm.generation(index).unwrap()
}

#[test]
fn the_next_generation_is_above_the_counter_which_is_made() {
    let bench = Bench::new();
    bench.create("x.luks", &[]);
    assert!(info(&bench, "x.luks")["generation"].is_null());
    let made = bench.create("y.luks", &["--generation", "next"]);
    let first = counted(&bench, RollbackIndex::default());
    let of = info(&bench, "y.luks")["generation"].as_u64();
    assert_eq!(of, Some(first.next().0));
    assert!(
        made.out.contains(&format!("generation {}", first.next())),
        "{}",
        made.out
    );
    let told = bench.run(&["volume", "info", "y.luks"]);
    assert!(
        told.out.contains(&format!("generation {}, as", first.next())),
        "{}",
        told.out
    );

    // Neither writing nor resealing raises the counter: opening does.
    let reseal = |more: &[&str]| {
        let ran = bench.with_tpm(&[&["volume", "reseal", "y.luks"], more].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        info(&bench, "y.luks")["generation"].as_u64()
    };
    assert_eq!(reseal(&[]), of, "what is not said stays");
    assert_eq!(reseal(&["--generation", "next"]), of.map(|of| of + 1));
    assert_eq!(counted(&bench, RollbackIndex::default()), first);
    bench.opens("y.luks", &[]);
    let lower = bench.with_tpm(&["volume", "reseal", "y.luks", "--generation", "1"]);
    assert_eq!(lower.code, 2, "{}", lower.err);
    assert!(lower.err.contains("a generation only grows"), "{}", lower.err);
    assert_eq!(reseal(&["--generation", "40"]), Some(40));
}

#[test]
fn a_volume_for_a_tpm_that_is_away_gets_a_number() {
    let bench = Bench::new();
    let collected = bench.with_tpm(&["inventory", "collect", "--output", "tpm.json"]);
    assert_eq!(collected.code, 0, "{}", collected.err);
    let away = |generation: &str| {
        bench.run(&[
            "volume",
            "create",
            "x.luks",
            "--content",
            "content",
            "--size",
            "32MiB",
            "--seal-pcrs",
            "7",
            "--srk-public",
            "tpm.json",
            "--generation",
            generation,
        ])
    };
    let refused = away("next");
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(
        refused.err.contains("the TPM that counts is not here"),
        "{}",
        refused.err
    );
    assert!(!bench.path("x.luks").exists());
    assert_eq!(away("7").code, 0);
    assert_eq!(info(&bench, "x.luks")["generation"], 7);
}

#[test]
fn what_is_no_counter_is_refused() {
    let bench = Bench::new();
    bench.tpm.tool(
        "tpm2_nvdefine",
        &["-C", "o", "-s", "8", "-a", "ownerread|ownerwrite", "0x01800021"],
    );
    let create = |more: &[&str]| {
        bench.with_tpm(
            &[
                &[
                    "volume",
                    "create",
                    "x.luks",
                    "--content",
                    "content",
                    "--size",
                    "32MiB",
                    "--seal-pcrs",
                    "7",
                ],
                more,
            ]
            .concat(),
        )
    };
    let foreign = create(&["--generation", "next", "--rollback-counter", "0x01800021"]);
    assert_eq!(foreign.code, 2, "{}", foreign.err);
    assert!(
        foreign.err.contains("is not a rollback counter"),
        "{}",
        foreign.err
    );
    for odd in [&["--generation", "0"][..], &["--rollback-counter", "0x01800020"]] {
        assert_eq!(create(odd).code, 2);
    }
    assert!(!bench.path("x.luks").exists());
    let otp = bench.run(&[
        "volume",
        "create",
        "x.luks",
        "--content",
        "content",
        "--size",
        "32MiB",
        "--otp",
        "--generation",
        "2",
    ]);
    assert_eq!(otp.code, 2, "{}", otp.err);
    assert!(otp.err.contains("has no generation"), "{}", otp.err);
}
