//! Both copies of a LUKS2 header, taken apart and put together again with right checksums: what somebody does who knows the format.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use serde_json::Value;

use super::{folder, run};

const BINARY: usize = 4096;

/// Which copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    First,
    Second,
    Both,
}

impl Which {
    fn each(self) -> &'static [usize] {
        match self {
            Self::First => &[0],
            Self::Second => &[1],
            Self::Both => &[0, 1],
        }
    }
}

/// The headers of a volume.
#[derive(Clone)]
pub struct Headers {
    binary: [Vec<u8>; 2],
    area: [Vec<u8>; 2],
    /// Copies whose checksum is left as it is.
    pub unsealed: [bool; 2],
}

impl Headers {
    pub fn of(volume: &[u8]) -> Self {
        let size = usize::try_from(u64::from_be_bytes(volume[8..16].try_into().unwrap())).unwrap();
        let binary = |at: usize| volume[at..at + BINARY].to_vec();
        let area = |at: usize| volume[at + BINARY..at + size].to_vec();
        Self {
            binary: [binary(0), binary(size)],
            area: [area(0), area(size)],
            unsealed: [false; 2],
        }
    }

    pub fn json(&self) -> Value {
        let end = self.area[0]
            .iter()
            .position(|b| *b == 0)
            .unwrap_or(self.area[0].len());
        serde_json::from_slice(&self.area[0][..end]).unwrap()
    }

    pub fn set(&mut self, which: Which, json: &Value) {
        self.text(which, &serde_json::to_vec(json).unwrap());
    }

    pub fn edit(&mut self, which: Which, change: impl FnOnce(&mut Value)) {
        let mut json = self.json();
        change(&mut json);
        self.set(which, &json);
    }

    /// Any text, zeros behind it where there is room.
    pub fn text(&mut self, which: Which, text: &[u8]) {
        for copy in which.each() {
            self.area[*copy].fill(0);
            let len = text.len().min(self.area[*copy].len());
            self.area[*copy][..len].copy_from_slice(&text[..len]);
        }
    }

    pub fn area(&mut self, which: Which, change: impl Fn(&mut [u8])) {
        for copy in which.each() {
            change(&mut self.area[*copy]);
        }
    }

    /// Bytes of the binary header.
    pub fn put(&mut self, which: Which, at: usize, bytes: &[u8]) {
        for copy in which.each() {
            self.binary[*copy][at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// No header any more, as cryptsetup's own images have it.
    pub fn kill(&mut self, which: Which) {
        self.put(which, 0, b"VACUUM");
    }

    /// Another size of the headers: keyslots move along, the data to `data`.
    pub fn resize(&mut self, size: u64, data: u64) {
        let old = u64::try_from(BINARY + self.area[0].len()).unwrap();
        let mut json = self.json();
        for keyslot in json["keyslots"].as_object_mut().unwrap().values_mut() {
            let at: u64 = keyslot["area"]["offset"].as_str().unwrap().parse().unwrap();
            keyslot["area"]["offset"] = (at - 2 * old + 2 * size).to_string().into();
        }
        let json_len = size - u64::try_from(BINARY).unwrap();
        json["config"]["json_size"] = json_len.to_string().into();
        json["config"]["keyslots_size"] = (data - 2 * size).min(4 << 20).to_string().into();
        json["segments"]["0"]["offset"] = data.to_string().into();
        for copy in 0..2 {
            self.area[copy] = vec![0; usize::try_from(json_len).unwrap()];
        }
        self.set(Which::Both, &json);
        self.put(Which::Both, 8, &size.to_be_bytes());
        self.put(Which::Second, 256, &size.to_be_bytes());
    }

    /// The bytes of both copies.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for copy in 0..2 {
            let mut bytes = [&self.binary[copy][..], &self.area[copy]].concat();
            if !self.unsealed[copy] {
                bytes[448..512].fill(0);
                let sum = domain::Sha256Digest::of(&bytes);
                bytes[448..480].copy_from_slice(sum.as_bytes());
            }
            all.extend(bytes);
        }
        all
    }
}

/// What stock cryptsetup makes of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stock {
    /// The metadata that it shows; `None` where it refuses.
    pub dumped: Option<Value>,
    /// Whether the passphrase opens it; `None` where that took too long.
    pub opened: Option<bool>,
}

/// A volume in a file that is given one header after the other.
pub struct Bench {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    file: File,
    /// The volume as it was made.
    pub original: Vec<u8>,
    pub passphrase: &'static [u8],
}

impl Bench {
    /// A volume that stock cryptsetup formats, of `len` bytes.
    pub fn formatted(len: u64, options: &[&str]) -> Self {
        let folder = folder();
        let path = folder.path().join("volume");
        File::create(&path).unwrap().set_len(len).unwrap();
        let passphrase = b"a passphrase";
        let mut args = vec!["luksFormat", "--batch-mode", "--type", "luks2", "--key-file", "-"];
        args.extend(options);
        args.push(path.to_str().unwrap());
        super::run_ok("cryptsetup", &args, passphrase);
        Self::over(folder, path, passphrase)
    }

    pub fn over(folder: tempfile::TempDir, path: std::path::PathBuf, passphrase: &'static [u8]) -> Self {
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let original = std::fs::read(&path).unwrap();
        Self {
            _folder: folder,
            path,
            file,
            original,
            passphrase,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts headers over the volume, and the volume's own bytes behind them; keyslots move where the headers are larger.
    pub fn lay(&self, headers: &Headers) -> Vec<u8> {
        let mut all = self.original.clone();
        let bytes = headers.bytes();
        let old = usize::try_from(u64::from_be_bytes(self.original[8..16].try_into().unwrap())).unwrap() * 2;
        if bytes.len() > old {
            let keyslots = self.original[old..old + (1 << 20)].to_vec();
            all[bytes.len()..bytes.len() + keyslots.len()].copy_from_slice(&keyslots);
        }
        all[..bytes.len()].copy_from_slice(&bytes);
        all
    }

    /// What stock cryptsetup makes of `volume`. It may repair what it reads, so each question gets the bytes anew.
    pub fn ask(&self, volume: &[u8], keyslot: bool) -> Stock {
        let write = || {
            self.file.set_len(u64::try_from(volume.len()).unwrap()).unwrap();
            self.file.write_all_at(volume, 0).unwrap();
        };
        let path = self.path.to_str().unwrap();
        write();
        let text = run("cryptsetup", &["luksDump", path], b"");
        let json = run("cryptsetup", &["luksDump", "--dump-json-metadata", path], b"");
        let dumped = (text.status.success() && json.status.success())
            .then(|| serde_json::from_slice(&json.stdout).unwrap_or(Value::Null));
        let opened = (keyslot && dumped.is_some()).then(|| {
            write();
            let args = [
                "10",
                "cryptsetup",
                "open",
                "--test-passphrase",
                "--disable-external-tokens",
                "--key-file",
                "-",
                path,
            ];
            let done = run("timeout", &args, self.passphrase);
            (done.status.code() != Some(124)).then(|| done.status.success())
        });
        Stock {
            dumped,
            opened: opened.flatten(),
        }
    }
}
