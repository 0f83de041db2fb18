//! The key store against a fake firmware that obeys the documented tags, and against what a real firmware answered.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests: a broken assumption should stop the test where it broke"
)]

use std::{io, path::PathBuf};

use data_encoding::HEXLOWER;
use domain::{DeviceId, SealedSecret};
use otp::{DeriveError, FirmwareError, KeyId, KeyStore, Locks, NvmemError, Recipe, Refusal, Source, Vcio};
use testkit::{FakeFirmware, vcio::Fault};

/// A scalar, and nobody's key.
const KEY: [u8; 32] = *b"RPIVIRTFWMODELKEY000000000000001";
const SALT: [u8; 32] = [7; 32];
const UUID: [u8; 16] = [3; 16];

fn store(board: &FakeFirmware) -> KeyStore {
    let board = board.clone();
    KeyStore::new(Box::new(move |message: &mut [u32]| board.property(message)))
}

fn device() -> DeviceId {
    "edge-1".parse().unwrap()
}

fn derive(store: &mut KeyStore) -> Result<(SealedSecret, Source), DeriveError> {
    let device = device();
    let recipe = Recipe {
        device: &device,
        volume: UUID,
        salt: &SALT,
    };
    let derived = store.derive(KeyId::DEVICE, &recipe)?;
    Ok((derived.secret, derived.source))
}

fn refused(store: &mut KeyStore) -> DeriveError {
    match derive(store) {
        Ok(_) => panic!("a secret was derived"),
        Err(error) => error,
    }
}

/// A firmware's nvmem file, as its driver would show it.
struct Nvmem {
    dir: tempfile::TempDir,
}

impl Nvmem {
    fn of(rows: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("nvmem"), rows).unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("nvmem")
    }
}

/// HMAC-SHA256 by OpenSSL's program, as the vendor's README has it.
fn by_openssl(key: &[u8], message: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("message");
    std::fs::write(&path, message).unwrap();
    let output = std::process::Command::new("openssl")
        .args(["dgst", "-sha256", "-mac", "HMAC", "-binary", "-macopt"])
        .arg(format!("hexkey:{}", HEXLOWER.encode(key)))
        .arg(path)
        .output()
        .unwrap_or_else(|e| panic!("openssl, of the Debian package openssl: {e}"));
    assert!(output.status.success());
    output.stdout
}

/// HKDF-SHA256 written out (RFC 5869): one block is enough for 32 bytes.
fn documented_secret(hmac: &[u8]) -> Vec<u8> {
    let pseudo_random = by_openssl(&[0; 32], hmac);
    by_openssl(&pseudo_random, b"signalbox/otp/1/volume\x01")
}

#[test]
fn a_real_firmware_and_the_fake_agree() {
    // rusty-pi/pimu ran start4.elf with this key in rows 56 to 63, and rpi-fw-crypto under Linux asked it for this.
    let board = FakeFirmware::with_key(&KEY);
    let mut message = vec![0_u32; 5 + 3 + 512 + 1];
    message[..8].copy_from_slice(&[2084, 0, 0x0003_0092, 2060, 0, 0, 1, 16]);
    for (word, bytes) in message[8..].iter_mut().zip(b"Hello, world!\0\0\0".chunks(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().unwrap());
    }
    board.property(&mut message).unwrap();
    let hmac: Vec<u8> = message[7..15]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    assert_eq!(
        HEXLOWER.encode(&hmac),
        "0eb6f96f3a97b37bb065eb014f76fd488df48682ed6ab4f14cdae0e8a26e1e9d"
    );
}

#[test]
fn the_firmware_derives_what_is_documented() {
    let (secret, source) = derive(&mut store(&FakeFirmware::with_key(&KEY))).unwrap();
    assert_eq!(source, Source::Firmware);
    assert!(source.warning().is_none());
    let mut message = b"signalbox/otp/1\0\0\0\x06edge-1\0\0\0\x10".to_vec();
    message.extend_from_slice(&UUID);
    message.extend_from_slice(b"\0\0\0\x20");
    message.extend_from_slice(&SALT);
    let expected = documented_secret(&by_openssl(&KEY, &message));
    secret.expose(|bytes| assert_eq!(bytes.as_slice(), expected));
}

#[test]
fn the_raw_key_gives_the_same_secret_with_a_warning() {
    let board = FakeFirmware::with_key(&KEY);
    let (by_firmware, _) = derive(&mut store(&board)).unwrap();
    let nvmem = Nvmem::of(&board.nvmem().unwrap());
    for fault in [Fault::OldFirmware, Fault::NoDevice, Fault::NotSupported] {
        board.fail(fault);
        let mut store = store(&board).with_fallback([PathBuf::from("/nonexistent"), nvmem.path()]);
        let (by_hand, source) = derive(&mut store).unwrap();
        assert_eq!(source, Source::NvmemFallback, "{fault:?}");
        assert!(source.warning().unwrap().contains("root"));
        assert!(by_hand.ct_eq(&by_firmware), "{fault:?}");
    }
}

#[test]
fn every_part_of_the_recipe_makes_another_secret() {
    let mut store = store(&FakeFirmware::with_key(&KEY));
    let (first, _) = derive(&mut store).unwrap();
    let (here, elsewhere) = (device(), "edge-2".parse().unwrap());
    for (device, volume, salt) in [
        (&elsewhere, UUID, SALT),
        (&here, [4; 16], SALT),
        (&here, UUID, [8; 32]),
    ] {
        let recipe = Recipe {
            device,
            volume,
            salt: &salt,
        };
        let other = store.derive(KeyId::DEVICE, &recipe).unwrap().secret;
        assert!(!other.ct_eq(&first), "{recipe:?}");
    }
    let mut another_board = KEY;
    another_board[31] ^= 1;
    let (other, _) = derive(&mut self::store(&FakeFirmware::with_key(&another_board))).unwrap();
    assert!(!other.ct_eq(&first));
}

#[test]
fn a_key_that_was_never_programmed_derives_nothing() {
    // Others fall back to a digest of the serial number here, which is printed on the board.
    let board = FakeFirmware::blank();
    let nvmem = Nvmem::of(&board.nvmem().unwrap());
    let mut store = store(&board).with_fallback([nvmem.path()]);
    let error = refused(&mut store);
    assert!(matches!(
        error,
        DeriveError::Firmware(FirmwareError::Refused(Refusal::NotProgrammed))
    ));
    assert!(error.hint().unwrap().contains("genkey"));
    board.fail(Fault::NoDevice);
    let error = refused(&mut store);
    assert!(matches!(
        error,
        DeriveError::Fallback {
            nvmem: NvmemError::NotProgrammed,
            ..
        }
    ));
    assert!(error.hint().unwrap().contains("genkey"));
}

#[test]
fn a_key_that_is_no_scalar_is_refused_by_both_ways() {
    let board = FakeFirmware::with_key(&[0xff; 32]);
    let nvmem = Nvmem::of(&board.nvmem().unwrap());
    let mut store = store(&board).with_fallback([nvmem.path()]);
    assert!(matches!(
        refused(&mut store),
        DeriveError::Firmware(FirmwareError::Refused(Refusal::NotAScalar))
    ));
    board.fail(Fault::OldFirmware);
    assert!(matches!(
        refused(&mut store),
        DeriveError::Fallback {
            firmware: FirmwareError::Unanswered(_),
            nvmem: NvmemError::NotAScalar,
        }
    ));
}

#[test]
fn a_firmware_that_refuses_is_not_gone_around() {
    let board = FakeFirmware::with_key(&KEY);
    let nvmem = Nvmem::of(&board.nvmem().unwrap());
    let mut store = store(&board).with_fallback([nvmem.path()]);
    let locked = store.lock(KeyId::DEVICE, Locks::HMAC).unwrap();
    assert!(locked.has(Locks::HMAC) && locked.is_device_key());
    let error = refused(&mut store);
    assert!(matches!(
        error,
        DeriveError::Firmware(FirmwareError::Refused(Refusal::Locked))
    ));
    assert!(error.hint().unwrap().contains("reboot"));
    board.fail(Fault::NoPermission);
    let error = refused(&mut store);
    assert!(
        matches!(error, DeriveError::Firmware(FirmwareError::Mailbox(_))),
        "{error}"
    );
    assert!(error.hint().is_some());
}

#[test]
fn locks_last_until_a_reboot_and_are_seen_to_be_in_force() {
    let board = FakeFirmware::with_key(&KEY);
    let mut store = store(&board);
    assert!(!store.status(KeyId::DEVICE).unwrap().has(Locks::READ));
    assert!(board.nvmem().is_ok());
    let status = store
        .lock(KeyId::DEVICE, Locks::READ.and(Locks::GENERATE))
        .unwrap();
    assert!(status.has(Locks::READ) && status.has(Locks::GENERATE) && !status.has(Locks::HMAC));
    assert!(board.nvmem().is_err(), "root reads the key no more");
    assert!(derive(&mut store).is_ok(), "and the volume still opens");
    assert!(store.lock(KeyId::DEVICE, Locks::ALL).unwrap().has(Locks::ALL));
    assert!(derive(&mut store).is_err());
    board.reboot();
    assert!(derive(&mut store).is_ok());
    board.fail(Fault::LocksIgnored);
    assert!(matches!(
        store.lock(KeyId::DEVICE, Locks::READ),
        Err(FirmwareError::LocksIgnored)
    ));
}

#[test]
fn answers_that_are_none_are_refused() {
    for (fault, expected) in [
        (Fault::ShortHmac(0), "0 bytes"),
        (Fault::ShortHmac(31), "31 bytes"),
        (Fault::ShortHmac(64), "64 bytes"),
        (Fault::Echo, "has 1 bytes"),
        (Fault::Code(0), "0x00000000"),
        (Fault::Code(0x8000_0001), "0x80000001"),
        (Fault::OtherTag(0x0003_0081), "0x00030081"),
        (Fault::OldFirmware, "does not answer the tag 0x00030090"),
        (Fault::NotSupported, "cannot do it"),
        (Fault::FailedValue(5), "OTP rows"),
        (Fault::FailedValue(2), "invalid"),
        (Fault::FailedValue(9), "failed"),
        (Fault::FailedValue(77), "error 77"),
        (Fault::FailedValue(0), "failed"),
        (Fault::NoReason, "mailbox fails"),
        (Fault::NoDevice, "mailbox fails"),
    ] {
        let board = FakeFirmware::with_key(&KEY);
        board.fail(fault);
        match refused(&mut store(&board)) {
            DeriveError::Firmware(error) => {
                let text = error.to_string();
                assert!(text.contains(expected), "{fault:?}: {text}");
            }
            other => panic!("{fault:?}: {other}"),
        }
    }
}

#[test]
fn another_key_than_the_devices_own_is_refused() {
    let board = FakeFirmware::with_key(&KEY);
    let device = device();
    let recipe = Recipe {
        device: &device,
        volume: UUID,
        salt: &SALT,
    };
    let nvmem = Nvmem::of(&board.nvmem().unwrap());
    let mut store = store(&board).with_fallback([nvmem.path()]);
    let second = KeyId::new(2).unwrap();
    assert!(matches!(
        store.derive(second, &recipe),
        Err(DeriveError::Firmware(FirmwareError::Refused(Refusal::NoSuchKey)))
    ));
    // The nvmem file has the device key: it stands in for no other.
    board.fail(Fault::NoDevice);
    assert!(matches!(
        store.derive(second, &recipe),
        Err(DeriveError::Firmware(FirmwareError::Mailbox(_)))
    ));
    let board = FakeFirmware::with_key(&KEY);
    board.not_the_device_key();
    assert!(matches!(
        refused(&mut self::store(&board)),
        DeriveError::Firmware(FirmwareError::NotTheDeviceKey)
    ));
    for none in [0, 16, 32, u32::MAX] {
        assert!(KeyId::new(none).is_none());
    }
    assert_eq!(KeyId::new(15).unwrap().get(), 15);
}

#[test]
fn nvmem_files_of_other_lengths_are_refused() {
    let rows = FakeFirmware::with_key(&KEY).nvmem().unwrap();
    let absent = || KeyStore::new(Box::new(|_: &mut [u32]| Err(io::ErrorKind::NotFound.into())));
    let mut two_keys = rows.clone();
    two_keys.extend_from_slice(&rows);
    for bad in [
        &[][..],
        &rows[..31],
        &rows[..28],
        &[&rows[..], &[0]].concat(),
        &two_keys,
        &[1; 65],
        &[1; 900],
    ] {
        let nvmem = Nvmem::of(bad);
        let error = refused(&mut absent().with_fallback([nvmem.path()]));
        assert!(
            matches!(
                error,
                DeriveError::Fallback {
                    nvmem: NvmemError::Length(_),
                    ..
                }
            ),
            "{}: {error}",
            bad.len()
        );
    }
    let nvmem = Nvmem::of(&[&rows[..], &[0; 32]].concat());
    let (longer, _) = derive(&mut absent().with_fallback([nvmem.path()])).unwrap();
    let nvmem = Nvmem::of(&rows);
    let (exact, _) = derive(&mut absent().with_fallback([nvmem.path()])).unwrap();
    assert!(longer.ct_eq(&exact));
}

#[test]
fn a_machine_that_is_no_raspberry_pi_has_no_key() {
    let missing = || Box::new(Vcio::at([PathBuf::from("/nonexistent/vcio")]));
    let error = refused(&mut KeyStore::new(missing()));
    assert!(matches!(error, DeriveError::Firmware(FirmwareError::Mailbox(_))));
    let error = refused(&mut KeyStore::new(missing()).with_fallback([PathBuf::from("/nonexistent/nvmem")]));
    assert!(matches!(
        error,
        DeriveError::Fallback {
            nvmem: NvmemError::Read { .. },
            ..
        }
    ));
    // A folder is there, and is nothing to read a key from.
    let error = refused(&mut KeyStore::new(missing()).with_fallback([PathBuf::from("/")]));
    assert!(matches!(error, DeriveError::Fallback { .. }));
}

#[test]
fn the_key_itself_is_never_asked_for() {
    let board = FakeFirmware::with_key(&KEY);
    let mut store = store(&board);
    derive(&mut store).unwrap();
    store.lock(KeyId::DEVICE, Locks::ALL).unwrap();
    let _refused = refused(&mut store);
    for tag in board.asked() {
        assert!(
            [0x0003_008e, 0x0003_0090, 0x0003_8090, 0x0003_0092].contains(&tag),
            "{tag:#x}"
        );
    }
}
