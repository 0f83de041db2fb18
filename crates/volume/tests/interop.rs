//! Ours against stock cryptsetup and e2fsprogs, in both directions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]

mod common;

use std::{fs::File, process::Command};

use common::{
    DATA, PSK, SIZE, entropy, files, folder, new_file, passphrase, recipe, run, run_ok, secret, token,
    volume_in, volume_key,
};
use domain::SealedSecret;
use volume::{
    DataCipher, HeaderCopy, KeyslotId, NotAuthentic, OpenError, Options, RecoveryKey, create_with, inspect,
    open, open_unauthenticated, open_with_passphrase, open_with_recovery_key,
};

#[test]
fn cryptsetup_unlocks_ours_with_the_base64_text() {
    let folder = folder();
    let path = volume_in(&folder);
    let path = path.to_str().unwrap();
    let args = ["open", "--test-passphrase", "--key-file", "-", path];
    run_ok("cryptsetup", &args, passphrase().as_bytes());
    let wrong = run("cryptsetup", &args, b"something else");
    assert_eq!(wrong.status.code(), Some(2), "a wrong passphrase is refused");
}

#[test]
fn cryptsetup_reads_our_header_and_finds_nothing_to_repair() {
    let folder = folder();
    let path = volume_in(&folder);
    let before = std::fs::read(&path).unwrap();
    let name = path.to_str().unwrap();
    let json: serde_json::Value = serde_json::from_str(&run_ok(
        "cryptsetup",
        &["luksDump", "--dump-json-metadata", name],
        b"",
    ))
    .unwrap();
    assert_eq!(json["segments"]["0"]["encryption"], "aes-xts-plain64");
    assert_eq!(json["segments"]["0"]["sector_size"], 4096);
    assert_eq!(json["keyslots"]["0"]["kdf"]["hash"], "sha512");
    assert_eq!(json["tokens"]["0"], token().to_json().unwrap());
    let text = run_ok("cryptsetup", &["luksDump", name], b"");
    assert!(text.contains("11223344-5566-4788-99aa-bbccddeeff01"), "{text}");
    assert!(
        text.contains("kiosk-bern-01") && text.contains("systemd-tpm2"),
        "{text}"
    );
    run_ok("cryptsetup", &["repair", "--batch-mode", name], b"");
    assert!(
        std::fs::read(&path).unwrap() == before,
        "repair changed something"
    );
    run_ok("cryptsetup", &["isLuks", "--type", "luks2", name], b"");
}

#[test]
fn cryptsetup_extracts_our_volume_key() {
    let folder = folder();
    let path = volume_in(&folder);
    let out = run_ok(
        "cryptsetup",
        &[
            "luksDump",
            "--dump-volume-key",
            "--batch-mode",
            "--key-file",
            "-",
            path.to_str().unwrap(),
        ],
        passphrase().as_bytes(),
    );
    let hex: String = out
        .lines()
        .skip_while(|l| !l.contains("MK dump"))
        .flat_map(str::chars)
        .collect();
    let hex: String = hex
        .trim_start_matches("MK dump:")
        .chars()
        .filter(char::is_ascii_hexdigit)
        .collect();
    volume_key().expose(|key| assert_eq!(hex, data_encoding::HEXLOWER.encode(key)));
}

/// `reencrypt --decrypt` needs no device-mapper: it is stock cryptsetup reading our sectors.
#[test]
fn cryptsetup_decrypts_our_data_to_a_clean_file_system() {
    let folder = folder();
    let path = volume_in(&folder);
    let name = path.to_str().unwrap();
    let header = folder.path().join("header");
    let args = [
        "reencrypt",
        "--decrypt",
        "--force-offline-reencrypt",
        "--batch-mode",
        "--key-file",
        "-",
        "--header",
        header.to_str().unwrap(),
        name,
    ];
    run_ok("cryptsetup", &args, passphrase().as_bytes());
    run_ok("e2fsck", &["-f", "-n", name], b"");
    let psk = run_ok("debugfs", &["-R", "cat /psk", name], b"");
    assert_eq!(psk.as_bytes(), PSK);
    let listing = run_ok("debugfs", &["-R", "ls -l /", name], b"");
    let psk_line = listing.lines().find(|line| line.ends_with(" psk")).unwrap();
    assert!(psk_line.contains("100400 (1)      0      0"), "{psk_line}");
}

fn luks_format(path: &str, extra: &[&str]) {
    let mut args = vec!["luksFormat", "--batch-mode", "--type", "luks2", "--key-file", "-"];
    args.extend(extra);
    args.push(path);
    run_ok("cryptsetup", &args, b"a passphrase");
}

const PLAIN: [&str; 10] = [
    "--pbkdf",
    "pbkdf2",
    "--pbkdf-force-iterations",
    "1000",
    "--cipher",
    "aes-xts-plain64",
    "--key-size",
    "512",
    "--sector-size",
    "4096",
];

#[test]
fn ours_opens_what_cryptsetup_made() {
    let folder = folder();
    for (name, hash, sector) in [("a", "sha256", "4096"), ("b", "sha512", "512")] {
        let path = folder.path().join(name);
        File::create(&path).unwrap().set_len(SIZE).unwrap();
        let mut args = PLAIN.to_vec();
        args[9] = sector;
        args.extend(["--hash", hash, "--label", name]);
        luks_format(path.to_str().unwrap(), &args);
        let header = inspect(&File::open(&path).unwrap()).unwrap();
        assert_eq!(
            (header.label(), header.copy(), header.data_len()),
            (name, HeaderCopy::Both, SIZE - DATA)
        );
        open_with_passphrase(File::open(&path).unwrap(), b"a passphrase").unwrap();
        let wrong = open_with_passphrase(File::open(&path).unwrap(), b"another");
        assert!(matches!(wrong, Err(OpenError::WrongSecret)));
    }
}

#[test]
fn ours_opens_a_slot_that_cryptsetup_added_and_still_opens_its_own() {
    let folder = folder();
    let path = volume_in(&folder);
    let key_file = folder.path().join("new");
    std::fs::write(&key_file, b"a new passphrase").unwrap();
    let args = [
        "luksAddKey",
        "--batch-mode",
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
        "--key-file",
        "-",
        path.to_str().unwrap(),
        key_file.to_str().unwrap(),
    ];
    run_ok("cryptsetup", &args, passphrase().as_bytes());
    let theirs = open_with_passphrase(File::open(&path).unwrap(), b"a new passphrase").unwrap();
    assert_eq!(theirs.read("/psk").unwrap().as_slice(), PSK);
    let ours = open(File::open(&path).unwrap(), &secret()).unwrap();
    assert_eq!(ours.read("/psk").unwrap().as_slice(), PSK);
}

/// cryptsetup encrypts known data in place, in userspace; ours reads it back, with both sector sizes.
#[test]
fn ours_decrypts_data_that_cryptsetup_encrypted() {
    let folder = folder();
    for sector in ["512", "4096"] {
        let path = folder.path().join(sector);
        let plain: Vec<u8> = (0..SIZE / 8)
            .flat_map(|n| (n * 2_654_435_761).to_le_bytes())
            .collect();
        let mut grown = plain.clone();
        grown.resize(plain.len() + (32 << 20), 0);
        std::fs::write(&path, &grown).unwrap();
        let mut args = vec![
            "reencrypt",
            "--encrypt",
            "--batch-mode",
            "--type",
            "luks2",
            "--reduce-device-size",
            "32M",
        ];
        args.extend(PLAIN);
        *args.last_mut().unwrap() = sector;
        args.extend(["--key-file", "-", path.to_str().unwrap()]);
        run_ok("cryptsetup", &args, b"a passphrase");
        let volume = open_with_passphrase(File::open(&path).unwrap(), b"a passphrase").unwrap();
        for offset in [0, 4095, 1 << 20, (8 << 20) + 511] {
            let mut found = vec![0; 10_000];
            volume
                .read_data(u64::try_from(offset).unwrap(), &mut found)
                .unwrap();
            assert!(
                found == plain[offset..offset + 10_000],
                "sector {sector}, offset {offset}"
            );
        }
    }
}

#[test]
fn what_cryptsetup_makes_otherwise_is_refused_politely() {
    let folder = folder();
    let cases: [(&[&str], &str); 3] = [
        (
            &["--cipher", "aes-cbc-essiv:sha256", "--key-size", "256"],
            "is encrypted with \"aes-cbc-essiv:sha256\"",
        ),
        (
            &["--cipher", "aes-xts-plain64", "--key-size", "256"],
            "has a key of 32 bytes",
        ),
        (
            &[
                "--cipher",
                "aes-xts-plain64",
                "--key-size",
                "512",
                "--hash",
                "sha1",
            ],
            "uses the hash \"sha1\"",
        ),
    ];
    for (number, (extra, message)) in cases.into_iter().enumerate() {
        let path = folder.path().join(number.to_string());
        File::create(&path).unwrap().set_len(SIZE).unwrap();
        let mut args = vec!["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
        args.extend(extra);
        luks_format(path.to_str().unwrap(), &args);
        let refused = inspect(&File::open(&path).unwrap()).unwrap_err().to_string();
        assert!(refused.contains(message), "{refused}");
    }
}

#[test]
fn files_read_back_through_our_reader() {
    let folder = folder();
    let path = volume_in(&folder);
    let volume = open(File::open(&path).unwrap(), &secret()).unwrap();
    for file in files() {
        assert_eq!(*volume.read(file.path).unwrap(), *file.data, "{}", file.path);
    }
    let list = volume.list("/").unwrap();
    let names: Vec<_> = list
        .iter()
        .map(|entry| (entry.name.as_str(), entry.mode, entry.is_dir))
        .collect();
    assert_eq!(
        names,
        [
            ("device.toml", 0o444, false),
            ("etc", 0o755, true),
            ("lost+found", 0o700, true),
            ("psk", 0o400, false)
        ]
    );
}

/// A cipher that cryptsetup cannot format without the kernel's help: its keyslots open all the same.
#[test]
fn an_adiantum_volume_unlocks_with_stock_cryptsetup_and_reads_back() {
    let folder = folder();
    let path = folder.path().join("adiantum");
    let files = files();
    let options = Options {
        cipher: DataCipher::Adiantum,
        ..Options::default()
    };
    let (key, secret) = (volume_key(), secret());
    let target = new_file(&path);
    let created = create_with(
        &target,
        &recipe(&files),
        options,
        &key,
        &secret,
        &token(),
        &mut entropy(1),
    )
    .unwrap();
    let name = path.to_str().unwrap();
    let args = ["open", "--test-passphrase", "--key-file", "-", name];
    run_ok("cryptsetup", &args, passphrase().as_bytes());
    let dump = run_ok("cryptsetup", &["luksDump", name], b"");
    assert!(dump.contains("cipher: xchacha12,aes-adiantum-plain64"), "{dump}");
    run_ok("cryptsetup", &["repair", "--batch-mode", name], b"");
    let volume = open(File::open(&path).unwrap(), &secret).unwrap();
    assert_eq!(volume.header().cipher(), DataCipher::Adiantum);
    assert_eq!(volume.read("/psk").unwrap().as_slice(), PSK);
    let expected = key.expose(|key| domain::VolumeKeyDigest::of(&key[..32]));
    assert_eq!(
        (created.volume_key_digest, volume.volume_key_digest()),
        (expected, expected)
    );
    let written = std::fs::read(&path).unwrap();
    assert!(!written.windows(PSK.len()).any(|window| window == PSK));
}

#[test]
fn the_recovery_key_opens_in_cryptsetup_and_in_ours() {
    let folder = folder();
    let path = folder.path().join("recovery");
    let files = files();
    let recovery = RecoveryKey::new(SealedSecret::copy_from(&[0x37; 32]).unwrap());
    let options = Options {
        recovery: Some(&recovery),
        ..Options::default()
    };
    let target = new_file(&path);
    create_with(
        &target,
        &recipe(&files),
        options,
        &volume_key(),
        &secret(),
        &token(),
        &mut entropy(1),
    )
    .unwrap();
    let name = path.to_str().unwrap();
    let args = [
        "open",
        "--test-passphrase",
        "--key-slot",
        "1",
        "--key-file",
        "-",
        name,
    ];
    recovery.expose(|text| run_ok("cryptsetup", &args, text));
    run_ok(
        "cryptsetup",
        &["open", "--test-passphrase", "--key-file", "-", name],
        passphrase().as_bytes(),
    );
    let dump = run_ok("cryptsetup", &["luksDump", name], b"");
    assert!(
        dump.contains("argon2id") && dump.contains("systemd-recovery"),
        "{dump}"
    );
    run_ok("cryptsetup", &["repair", "--batch-mode", name], b"");
    let volume = open_with_recovery_key(File::open(&path).unwrap(), &recovery).unwrap();
    assert_eq!(volume.read("/psk").unwrap().as_slice(), PSK);
    assert_eq!(volume.header().recovery_keyslots(), [KeyslotId::new(1).unwrap()]);
    let other = RecoveryKey::new(SealedSecret::copy_from(&[0x38; 32]).unwrap());
    let wrong = open_with_recovery_key(File::open(&path).unwrap(), &other);
    assert!(matches!(wrong, Err(OpenError::WrongSecret)));
    // The keyslot of the TPM is the other one, and stays authentic without this one.
    assert!(open(File::open(&path).unwrap(), &secret()).is_ok());
    run_ok("cryptsetup", &["luksKillSlot", "--batch-mode", name, "1"], b"");
    assert!(open(File::open(&path).unwrap(), &secret()).is_ok());
}

#[test]
fn ours_opens_argon2_slots_of_cryptsetup() {
    let folder = folder();
    for (pbkdf, lanes) in [("argon2id", "2"), ("argon2i", "1")] {
        let path = folder.path().join(pbkdf);
        File::create(&path).unwrap().set_len(SIZE).unwrap();
        let mut args = PLAIN.to_vec();
        args[1] = pbkdf;
        args[3] = "4";
        args.extend(["--pbkdf-memory", "8192", "--pbkdf-parallel", lanes]);
        luks_format(path.to_str().unwrap(), &args);
        open_with_passphrase(File::open(&path).unwrap(), b"a passphrase").unwrap();
        let wrong = open_with_passphrase(File::open(&path).unwrap(), b"another");
        assert!(matches!(wrong, Err(OpenError::WrongSecret)));
    }
}

#[test]
fn a_volume_that_another_tool_made_is_opened_only_where_that_is_said() {
    let folder = folder();
    let path = folder.path().join("foreign");
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    let mut args = vec!["luksFormat", "--batch-mode", "--type", "luks2", "--key-file", "-"];
    args.extend(PLAIN);
    args.push(path.to_str().unwrap());
    run_ok("cryptsetup", &args, passphrase().as_bytes());
    let refused = open(File::open(&path).unwrap(), &secret());
    assert!(matches!(
        refused,
        Err(OpenError::NotAuthentic(NotAuthentic::Missing))
    ));
    open_unauthenticated(File::open(&path).unwrap(), &secret()).unwrap();
}

#[test]
fn systemd_knows_our_keyslots_and_ours_reads_its_recovery_key() {
    let folder = folder();
    let path = volume_in(&folder);
    let name = path.to_str().unwrap();
    let enrol = |args: &[&str]| {
        // This tool takes the passphrase from its environment alone.
        let mut command = Command::new("systemd-cryptenroll");
        let output = command
            .args(args)
            .arg(name)
            .env("PASSWORD", passphrase())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let list = enrol(&[]);
    assert!(
        list.lines().any(|line| line.split_whitespace().eq(["0", "tpm2"])),
        "{list}"
    );
    let shown = enrol(&["--recovery-key"]);
    let key = RecoveryKey::parse(shown.trim().as_bytes()).unwrap();
    let volume = open_with_recovery_key(File::open(&path).unwrap(), &key).unwrap();
    assert_eq!(volume.read("/psk").unwrap().as_slice(), PSK);
    assert!(
        open(File::open(&path).unwrap(), &secret()).is_ok(),
        "our own keyslot is authentic still"
    );
    let list = enrol(&[]);
    assert!(
        list.lines()
            .any(|line| line.split_whitespace().eq(["1", "recovery"])),
        "{list}"
    );
}
