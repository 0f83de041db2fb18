//! Any bytes changed anywhere: the same data, or nothing, and never a panic.
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

use common::{
    PSK, reseal, secret,
    touched::{Flipped, Touched},
};
use proptest::prelude::*;
use volume::{HeaderCopy, InspectError, inspect, open};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A flipped bit anywhere in one header copy: the other one opens the volume.
    #[test]
    fn one_flip_in_one_copy_never_loses_a_volume(at in 0_usize..0x8000, bit in 0_u8..8) {
        let mut volume = Touched::new();
        volume.head[at] ^= 1 << bit;
        // cryptsetup itself gives up a volume whose first copy is of another version.
        if at == 6 || at == 7 {
            prop_assert!(matches!(inspect(&volume), Err(InspectError::Version(_))));
            return Ok(());
        }
        let header = inspect(&volume).unwrap();
        // The field of the checksum is longer than the checksum.
        let unused = (480..512).contains(&(at % 0x4000));
        prop_assert_eq!(header.copy() == HeaderCopy::Both, unused);
        prop_assert_eq!(header.tpm2_tokens().len(), 1);
    }

    /// Bytes changed under right checksums: whatever still opens has our ciphers and our data.
    #[test]
    fn changed_headers_open_the_same_data_or_nothing(changes in prop::collection::vec((0_usize..0x4000, any::<u8>()), 1..4)) {
        let mut volume = Touched::new();
        for (at, byte) in changes {
            // Into the binary header and the JSON text, not into the zeros behind it.
            let at = if at >= 0x1000 { 0x1000 + (at - 0x1000) % 1500 } else { at % 512 };
            volume.head[at] = byte;
            volume.head[at + 0x4000] = byte;
        }
        volume.head[0x4000..0x4006].copy_from_slice(b"SKUL\xba\xbe");
        volume.head[0x4000 + 256..0x4000 + 264].copy_from_slice(&0x4000_u64.to_be_bytes());
        reseal(&mut volume.head);
        if let Ok(opened) = open(volume, &secret())
            && let Ok(psk) = opened.read("/psk")
        {
            prop_assert_eq!(psk.as_slice(), PSK);
        }
    }

    /// Anything at all instead of a volume.
    #[test]
    fn noise_is_refused(mut noise in prop::collection::vec(any::<u8>(), 0..0x9000), magic in any::<bool>()) {
        if magic && noise.len() > 16 {
            noise[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
            noise[8..16].copy_from_slice(&0x4000_u64.to_be_bytes());
        }
        prop_assert!(inspect(&noise).is_err());
    }

    /// Sealed sectors of the file system changed: never a panic, and no other names, for metadata has checksums.
    #[test]
    fn a_touched_file_system_is_known(flips in prop::collection::vec((0_usize..40, 0_usize..4096), 1..4)) {
        let flips = flips.into_iter().map(|(sector, byte)| (16 << 20) + sector * 4096 + byte).collect();
        let opened = open(Flipped(flips), &secret()).unwrap();
        let _ = opened.read("/psk");
        if let Ok(list) = opened.list("/") {
            let names: Vec<_> = list.iter().map(|entry| entry.name.as_str()).collect();
            prop_assert_eq!(names, ["device.toml", "etc", "lost+found", "psk"]);
        }
    }
}
