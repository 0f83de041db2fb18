//! The rollback counter, and what an operating system with the empty owner password can do to it.

use testkit::Swtpm;
use tpm::{Generation, RollbackError, RollbackIndex, SrkPin, StorageTemplate};

use crate::support::{leftovers, open};

const INDEX: &str = "0x01800020";

#[test]
fn an_older_volume_is_refused_and_a_newer_one_raises_the_counter() {
    let swtpm = Swtpm::start();
    let index = RollbackIndex::default();
    let mut tpm = open(&swtpm);
    assert_eq!(tpm.generation(index), Err(RollbackError::Missing(index)));
    let first = tpm.define_generation(index).unwrap();
    assert_eq!(tpm.define_generation(index).unwrap(), first);
    let fresh = tpm.check_generation(index, first).unwrap();
    assert!(!fresh.is_ahead());

    // A volume of the next generation: both open until the counter is raised, then the newer alone.
    let second = first.next();
    let fresh = tpm.check_generation(index, second).unwrap();
    assert!(fresh.is_ahead());
    assert!(tpm.check_generation(index, first).is_ok());
    assert_eq!(tpm.raise_generation(index, fresh).unwrap(), second);
    assert_eq!(tpm.raise_generation(index, fresh).unwrap(), second);
    let refused = tpm.check_generation(index, first).unwrap_err();
    assert_eq!(
        refused,
        RollbackError::Older {
            volume: first,
            tpm: second
        }
    );
    assert!(refused.hint().is_some());
    let absurd = Generation(second.0 + 17);
    let refused = tpm.check_generation(index, absurd).unwrap_err();
    assert!(matches!(refused, RollbackError::TooFarAhead { .. }), "{refused}");
    drop(tpm);
    assert_eq!(leftovers(&swtpm), "");

    // It outlives a power cut.
    swtpm.reset();
    assert_eq!(open(&swtpm).generation(index).unwrap(), second);
}

#[test]
fn an_operating_system_cannot_lower_it() {
    let swtpm = Swtpm::start();
    let index = RollbackIndex::default();
    let mut tpm = open(&swtpm);
    let old = tpm.define_generation(index).unwrap();
    let fresh = tpm.check_generation(index, Generation(old.0 + 3)).unwrap();
    let now = tpm.raise_generation(index, fresh).unwrap();
    drop(tpm);

    // Written over: a counter takes no value.
    std::fs::write(swtpm.dir().join("zero"), [0; 8]).unwrap();
    let written = swtpm
        .command("tpm2_nvwrite")
        .args(["-C", INDEX, "-i", "zero", INDEX])
        .output()
        .unwrap();
    assert!(!written.status.success());
    assert_eq!(open(&swtpm).generation(index).unwrap(), now);

    // Deleted, and another made in its place: it starts above.
    swtpm.tool("tpm2_nvundefine", &["-C", "o", INDEX]);
    assert_eq!(
        open(&swtpm).check_generation(index, old).unwrap_err(),
        RollbackError::Missing(index)
    );
    let counter = [
        "-C",
        "o",
        "-s",
        "8",
        "-a",
        "authread|authwrite|nt=counter|no_da",
        INDEX,
    ];
    swtpm.tool("tpm2_nvdefine", &counter);
    swtpm.tool("tpm2_nvincrement", &["-C", INDEX, INDEX]);
    let mut tpm = open(&swtpm);
    assert!(tpm.generation(index).unwrap() > now);
    assert!(matches!(
        tpm.check_generation(index, old),
        Err(RollbackError::Older { .. })
    ));
    drop(tpm);

    // Deleted, and no counter in its place.
    swtpm.tool("tpm2_nvundefine", &["-C", "o", INDEX]);
    swtpm.tool(
        "tpm2_nvdefine",
        &["-C", "o", "-s", "8", "-a", "authread|authwrite|no_da", INDEX],
    );
    swtpm.tool("tpm2_nvwrite", &["-C", INDEX, "-i", "zero", INDEX]);
    let mut tpm = open(&swtpm);
    assert_eq!(tpm.generation(index), Err(RollbackError::Foreign(index)));
    assert_eq!(tpm.delete_generation(index), Err(RollbackError::Foreign(index)));
    assert_eq!(tpm.define_generation(index), Err(RollbackError::Foreign(index)));
}

#[test]
fn it_is_deleted_on_request_and_read_under_a_pinned_key() {
    let swtpm = Swtpm::start();
    let index = RollbackIndex::try_from(0x0180_1000).unwrap();
    let mut tpm = open(&swtpm);
    let key = tpm.storage_key(StorageTemplate::SystemdEcc).unwrap();
    tpm.pin_storage_keys([SrkPin::from(&key)]);
    let before = tpm.define_generation(index).unwrap();
    tpm.delete_generation(index).unwrap();
    assert_eq!(tpm.delete_generation(index), Err(RollbackError::Missing(index)));
    assert!(tpm.define_generation(index).unwrap() > before);
}

#[test]
fn a_counter_that_was_defined_and_never_raised_is_taken() {
    // Power was cut between the two, or somebody was first with the very same index.
    let swtpm = Swtpm::start();
    let index = RollbackIndex::default();
    let counter = [
        "-C",
        "o",
        "-s",
        "8",
        "-a",
        "authread|authwrite|nt=counter|no_da",
        INDEX,
    ];
    swtpm.tool("tpm2_nvdefine", &counter);
    let mut tpm = open(&swtpm);
    assert!(tpm.generation(index).is_err(), "nothing is read from it before");
    let first = tpm.define_generation(index).unwrap();
    assert_eq!(tpm.generation(index).unwrap(), first);
    drop(tpm);
    assert_eq!(leftovers(&swtpm), "");
}
