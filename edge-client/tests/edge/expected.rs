//! Volumes and TPMs that are not this device's, and what its configuration says of its own.

use std::fs;

use domain::{Generation, VolumeKeyDigest};
use tpm::{RollbackIndex, SrkPin, StorageTemplate};
use volume::{NewKeys, Unlock, rekey};

use crate::support::{Device, Making, PSK, run, stderr, stdout};

const PROXY: &str = "http://127.0.0.1:1";
/// What somebody else would have the device use as its own.
const THEIRS: &str = "sbx_mallory-mallory-mallory-mallory-mallory-mal";

/// A device, and the digest of its volume's key.
fn device(making: &Making) -> (Device, VolumeKeyDigest) {
    let device = Device::new(PROXY);
    fs::remove_file(device.volume()).unwrap();
    let digest = device.write(&device.volume(), making);
    (device, digest)
}

/// Runs a command under a configuration with these lines.
fn under(device: &Device, lines: &str, arguments: &[&str]) -> std::process::Output {
    let path = device.dir.path().join("edge.toml");
    let text = format!(
        "volume = {:?}\ntcti = {:?}\n{lines}\n",
        device.volume(),
        device.swtpm.tcti()
    );
    fs::write(&path, text).unwrap();
    run(&[&["--config", path.to_str().unwrap()], arguments].concat())
}

fn refused(output: &std::process::Output, said: &str) {
    let why = stderr(output);
    assert_eq!(output.status.code(), Some(3), "{why}");
    assert!(output.stdout.is_empty(), "{}", stdout(output));
    assert!(why.contains(said) && why.contains("hint: "), "{why}");
    assert!(!why.contains(PSK) && !why.contains(THEIRS), "{why}");
}

fn works(output: &std::process::Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    assert!(!output.stdout.is_empty());
}

/// Opens, leaving the way open.
const UNLOCK: [&str; 3] = ["unlock", "--extend", "none"];
const QUOTE: [&str; 3] = [
    "quote",
    "--nonce",
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
];

#[test]
fn a_volume_that_somebody_else_sealed_to_this_tpm_is_refused() {
    let (device, ours) = device(&Making::default());
    let expecting = format!("volume-key-digest = \"{ours}\"");
    works(&under(&device, &expecting, &UNLOCK));
    works(&under(&device, &expecting, &QUOTE));

    // The same UUID, PCRs and TPM: sealing needs nothing secret.
    fs::remove_file(device.volume()).unwrap();
    let making = Making {
        seed: 0x66,
        psk: THEIRS,
        ..Making::default()
    };
    let theirs = device.write(&device.volume(), &making);
    works(&under(&device, "", &UNLOCK));
    for command in [&UNLOCK[..], &QUOTE, &["ask", "--model", "m", "why?"]] {
        let output = under(&device, &expecting, command);
        refused(&output, &format!("the digest of its key is {theirs}, and {ours}"));
    }
    // The command line knows better than the configuration.
    let digest = theirs.to_string();
    let told = [&UNLOCK[..], &["--volume-key-digest", &digest]].concat();
    works(&under(&device, &expecting, &told));
    let digest = ours.to_string();
    let told = [&UNLOCK[..], &["--volume-key-digest", &digest]].concat();
    refused(&device.run(&told), "this is another volume");
}

#[test]
fn a_resealed_volume_is_still_the_same_one() {
    let (device, ours) = device(&Making::default());
    let expecting = format!("volume-key-digest = \"{ours}\"");
    let target = fs::File::options()
        .read(true)
        .write(true)
        .open(device.volume())
        .unwrap();
    let (old, new) = (secret([0x5a; 32]), secret([0x5b; 32]));
    let token = device.seal(&new, &[7, 11]);
    let to = NewKeys {
        sealed: Some((&new, &token)),
        ..NewKeys::default()
    };
    rekey(&target, Unlock::Sealed(&old), to, &mut |room| room.fill(0x33)).unwrap();
    works(&under(&device, &expecting, &UNLOCK));
}

fn secret(bytes: [u8; 32]) -> domain::SealedSecret {
    domain::SealedSecret::copy_from(&bytes).unwrap()
}

#[test]
fn an_older_volume_that_is_put_back_is_refused() {
    let index = RollbackIndex::default();
    let (device, _) = device(&Making::default());
    let first = device.tpm().define_generation(index).unwrap();
    let of = |generation: Generation| Making {
        generation: Some(generation),
        ..Making::default()
    };
    fs::remove_file(device.volume()).unwrap();
    device.write(&device.volume(), &of(first));
    works(&under(&device, "", &UNLOCK));
    works(&under(&device, "", &UNLOCK));
    let kept = device.dir.path().join("kept.luks");
    fs::rename(device.volume(), &kept).unwrap();

    // The next volume raises the counter when it is opened for the first time; before that, both open.
    device.write(&device.volume(), &of(first.next()));
    assert_eq!(device.tpm().generation(index).unwrap(), first);
    works(&under(&device, "", &QUOTE));
    assert_eq!(device.tpm().generation(index).unwrap(), first.next());
    fs::rename(&kept, device.volume()).unwrap();
    for command in [&UNLOCK[..], &QUOTE] {
        let output = under(&device, "", command);
        refused(&output, "an older volume was put back");
    }
    // A volume of before there were generations is an older one too, where the configuration says that there is a counter.
    fs::remove_file(device.volume()).unwrap();
    device.write(&device.volume(), &Making::default());
    works(&under(&device, "", &UNLOCK));
    let counting = format!("rollback-counter = \"{index}\"");
    refused(
        &under(&device, &counting, &UNLOCK),
        "the volume carries no generation",
    );
}

#[test]
fn without_its_counter_a_volume_with_a_generation_stays_shut() {
    let (index, other) = (
        RollbackIndex::default(),
        RollbackIndex::try_from(0x0180_0021).unwrap(),
    );
    let (device, _) = device(&Making {
        generation: Some(Generation(1)),
        ..Making::default()
    });
    refused(
        &under(&device, "", &UNLOCK),
        "no rollback counter is at NV index 0x01800020",
    );
    let first = device.tpm().define_generation(other).unwrap();
    fs::remove_file(device.volume()).unwrap();
    let making = Making {
        generation: Some(first),
        ..Making::default()
    };
    device.write(&device.volume(), &making);
    works(&under(
        &device,
        &format!("rollback-counter = \"{other}\""),
        &UNLOCK,
    ));
    refused(&under(&device, "", &UNLOCK), "no rollback counter is at NV index");
    // Whoever runs the device can delete the counter; that opens nothing.
    device.tpm().define_generation(index).unwrap();
    device.tpm().delete_generation(other).unwrap();
    let output = under(&device, &format!("rollback-counter = \"{other}\""), &UNLOCK);
    refused(&output, "no rollback counter is at NV index 0x01800021");
}

#[test]
fn somebody_elses_volume_raises_no_counter() {
    let index = RollbackIndex::default();
    let (device, _) = device(&Making::default());
    let first = device.tpm().define_generation(index).unwrap();
    fs::remove_file(device.volume()).unwrap();
    let making = Making {
        generation: Some(first.next()),
        ..Making::default()
    };
    device.write(&device.volume(), &making);
    let another = format!("volume-key-digest = \"{}\"", "00".repeat(32));
    refused(&under(&device, &another, &UNLOCK), "this is another volume");
    assert_eq!(device.tpm().generation(index).unwrap(), first);
}

#[test]
fn another_tpm_than_the_pinned_one_gets_nothing() {
    let (device, _) = device(&Making::default());
    let key = device.tpm().storage_key(StorageTemplate::SystemdEcc).unwrap();
    let name = data_encoding::HEXLOWER.encode(SrkPin::from(&key).name.as_bytes());
    let pinned = |name: &str| format!("[storage-keys]\nsystemd-ecc = \"{name}\"");
    works(&under(&device, &pinned(&name), &UNLOCK));
    works(&under(&device, &pinned(&name), &QUOTE));
    let another = format!("000b{}", "5c".repeat(32));
    for command in [&UNLOCK[..], &QUOTE] {
        let output = under(&device, &pinned(&another), command);
        refused(&output, "is not the one that this TPM is known by");
    }
    // A pin for another template than the volume's parent is no way around it.
    let tcg = format!("[storage-keys]\ntcg-ecc = \"{another}\"");
    refused(
        &under(&device, &tcg, &UNLOCK),
        "is not the one that this TPM is known by",
    );
}

#[test]
fn unlock_closes_the_way_by_pcr_15_unless_told_otherwise() {
    let device = Device::new(PROXY);
    device.swtpm.extend(15, b"this boot");
    fs::remove_file(device.volume()).unwrap();
    let making = Making {
        pcrs: &[7, 15],
        ..Making::default()
    };
    device.write(&device.volume(), &making);
    works(&under(&device, "", &UNLOCK));
    works(&under(&device, "extend-pcr = \"none\"", &["unlock"]));
    works(&under(&device, "extend-pcr = 11", &["unlock"]));
    works(&under(&device, "", &QUOTE));
    works(&under(&device, "", &["unlock"]));
    let later = under(&device, "", &UNLOCK);
    assert_eq!(later.status.code(), Some(1), "{}", stderr(&later));
    assert!(stderr(&later).contains("does not release"), "{}", stderr(&later));
}

#[test]
fn a_volume_that_is_refused_closes_the_way_too() {
    let (device, _) = device(&Making::default());
    let another = format!("volume-key-digest = \"{}\"", "00".repeat(32));
    let output = under(&device, &another, &["unlock", "--extend", "7"]);
    refused(&output, "this is another volume");
    let later = under(&device, "", &UNLOCK);
    assert!(stderr(&later).contains("does not release"), "{}", stderr(&later));
}

#[test]
fn what_was_opened_and_mounted_is_read_without_the_key_store() {
    let device = Device::new(PROXY);
    let folder = device.dir.path().join("mounted");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("psk"), PSK).unwrap();
    let name = folder.to_str().unwrap();
    let tcti = device.swtpm.tcti();
    let quote = [&QUOTE[..], &["--volume", name, "--tcti", &tcti]].concat();
    let incomplete = run(&quote);
    assert_eq!(incomplete.status.code(), Some(1));
    assert!(
        stderr(&incomplete).contains("device.toml"),
        "{}",
        stderr(&incomplete)
    );
    fs::write(folder.join("device.toml"), device.config.to_toml().unwrap()).unwrap();
    // The way is closed: the TPM would release nothing.
    device.swtpm.extend(7, b"closed");
    let output = run(&quote);
    works(&output);
    assert!(stdout(&output).contains("TPM-Quote: "), "{}", stdout(&output));
}
