//! The header of a volume, as an attacker writes it who knows the format, and the file system inside.

use std::io;

use volume::{KeyslotId, OtpToken, Source, SystemdTpm2, Tpm2Token, inspect, survey};

/// Bytes of the volume that the headers are said to be of.
const LEN: u64 = 32 << 20;
const HEADER: usize = 0x4000;

/// A volume of which only the start is given; the rest is zeros.
struct Head(Vec<u8>);

impl Source for Head {
    fn len(&self) -> io::Result<u64> {
        Ok(LEN)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = u64::try_from(buffer.len())
            .ok()
            .and_then(|len| offset.checked_add(len));
        if end.is_none_or(|end| end > LEN) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let start = usize::try_from(offset).map_or(usize::MAX, |start| start.min(self.0.len()));
        let there = self.0.get(start..).unwrap_or_default();
        buffer.fill(0);
        for (to, from) in buffer.iter_mut().zip(there) {
            *to = *from;
        }
        Ok(())
    }
}

/// Both headers around a JSON area, with right checksums: `text` is what an attacker chooses.
#[must_use]
pub fn around(text: &[u8]) -> Vec<u8> {
    let mut volume = vec![0; 2 * HEADER];
    for (at, magic) in [(0, b"LUKS\xba\xbe"), (HEADER, b"SKUL\xba\xbe")] {
        let Some(copy) = volume.get_mut(at..at + HEADER) else {
            continue;
        };
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, from) in copy.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        };
        put(0, magic);
        put(6, &2_u16.to_be_bytes());
        put(8, &u64::try_from(HEADER).unwrap_or_default().to_be_bytes());
        put(16, &1_u64.to_be_bytes());
        put(72, b"sha256");
        put(168, b"11223344-5566-4788-99aa-bbccddeeff01");
        put(256, &u64::try_from(at).unwrap_or_default().to_be_bytes());
        put(4096, text.get(..HEADER - 4097).unwrap_or(text));
        let sum = ring::digest::digest(&ring::digest::SHA256, copy);
        for (to, from) in copy.iter_mut().skip(448).zip(sum.as_ref()) {
            *to = *from;
        }
    }
    volume
}

/// The binary headers as they are, and the same bytes as a JSON area with right checksums.
pub fn volume_header(data: &[u8]) {
    let _refused = inspect(&Head(data.to_vec()));
    if let Ok(header) = inspect(&Head(around(data))) {
        // What is accepted keeps to its room and names only what there is.
        assert!(header.data_len() > 0 && header.data_len() < LEN);
        let slots: Vec<KeyslotId> = header.keyslots().collect();
        assert!(!slots.is_empty());
        for slot in header
            .recovery_keyslots()
            .iter()
            .chain(header.tpm2_tokens().iter().map(|token| &token.keyslot))
        {
            assert!(slots.contains(slot));
        }
    }
}

/// A `systemd-tpm2` token of any kind: what is read is written again the same.
pub fn tpm2_token(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(data) else {
        return;
    };
    let any = Tpm2Token::from_json(json.clone());
    if let Ok(token) = &any {
        let again = token
            .to_json()
            .ok()
            .and_then(|json| Tpm2Token::from_json(json).ok());
        assert!(again.as_ref() == Some(token));
    }
    if let Ok(token) = SystemdTpm2::from_json(json) {
        // Exact PCRs alone are one of the kinds.
        assert!(any == Ok(Tpm2Token::from(token.clone())));
        let again = token
            .to_json()
            .ok()
            .and_then(|json| SystemdTpm2::from_json(json).ok());
        assert!(again.as_ref() == Some(&token));
    }
}

/// A `signalbox-otp` token: what is read is written again the same, and names a key that there is.
pub fn otp_token(data: &[u8]) {
    if let Ok(json) = serde_json::from_slice(data)
        && let Ok(token) = OtpToken::from_json(json)
    {
        assert!((1..=15).contains(&token.key_id));
        let again = token
            .to_json()
            .ok()
            .and_then(|json| OtpToken::from_json(json).ok());
        assert!(again.as_ref() == Some(&token));
    }
}

/// A file system in the clear; where the input is short, it is laid over a good one's first blocks.
pub fn file_system(data: &[u8]) {
    let _broken = survey(data.to_vec());
    let mut image = good();
    for (at, byte) in data.chunks_exact(5).filter_map(|change| {
        let (at, byte) = change.split_at_checked(4)?;
        let at = at.first_chunk::<4>().map(|at| u32::from_le_bytes(*at))?;
        Some((usize::try_from(at).ok()?, *byte.first()?))
    }) {
        let len = image.len().max(1);
        if let Some(place) = image.get_mut(at % len) {
            *place ^= byte;
        }
    }
    let _broken = survey(image);
}

/// Made once, without metadata checksums: with them, hardly a change would get past the first block.
fn good() -> Vec<u8> {
    static IMAGE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let folder = std::env::temp_dir().join(format!("signalbox-fuzz-{}", std::process::id()));
        let made = std::fs::create_dir_all(folder.join("a/b/c"))
            .and_then(|()| std::fs::write(folder.join("a/file"), vec![7; 9000]))
            .and_then(|()| {
                let image = folder.with_extension("img");
                let status = std::process::Command::new("/usr/sbin/mke2fs")
                    .args([
                        "-q",
                        "-F",
                        "-O",
                        "^metadata_csum,^has_journal",
                        "-b",
                        "1024",
                        "-N",
                        "16",
                        "-d",
                    ])
                    .args([&folder, &image])
                    .arg("128")
                    .status()?;
                let bytes = std::fs::read(&image)?;
                std::fs::remove_file(image)?;
                std::fs::remove_dir_all(&folder)?;
                Ok((status.success(), bytes))
            });
        match made {
            Ok((true, image)) => image,
            other => panic!("mke2fs is needed: {:?}", other.map(|(done, _)| done)),
        }
    });
    IMAGE.clone()
}
