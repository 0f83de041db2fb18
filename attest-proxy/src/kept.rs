//! The registry's last snapshot on disk, so that a proxy which restarts while the registry is away can go on until the snapshot is too old.
//!
//! Owns: two files. FILE has the records (digests of PSKs, never a PSK), sealed with AES-256-GCM under a key derived from the fleet's root
//! and bound to the fleet; FILE.alive, written more often, says when the registry was last alive, for which FILE.
//! Refuses: another fleet's or root's file, one that was changed, and one from the future. An old copy that somebody puts back has its old
//! time in it: what it revives was good within `registry-max-age`, and no longer. Age is counted by the wall clock and, within
//! one boot, by the clock that nobody can set; the greater one counts.
//! Limits: devices that could not be used are not kept, and are unknown after such a start. New quotes are refused until the registry is
//! back, because what was seen last cannot be written there.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use domain::{DeviceId, FleetName, PolicyName, Sha256Digest};
use registry::{DeviceRecord, PolicyRecord, SeenRecord, Snapshot};
use ring::{
    aead::{Aad, NONCE_LEN, Nonce},
    rand::{SecureRandom as _, SystemRandom},
};
use serde::{Deserialize, Serialize};

use crate::{keys::StorageKeys, view::View};

const RECORDS: &[u8] = b"signalbox/snapshot/1";
const ALIVE: &[u8] = b"signalbox/snapshot-alive/1";
/// The largest file that is read, in bytes.
const MAX_LEN: u64 = 1 << 30;
/// By how much a wall clock may differ from itself after a restart.
const SLACK: u64 = 2_000;

/// Why there is no snapshot to go on with.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// Reading or writing.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not sealed under this fleet's keys, or changed since.
    #[error("{} was not sealed under a key of this fleet, or was changed", path.display())]
    Forged {
        /// The file.
        path: PathBuf,
    },
    /// Sealed by us, and not understood: another version.
    #[error("{} is of another version", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// It was written later than it is now.
    #[error("the snapshot is from the future: the clock was set back")]
    Future,
    /// The registry was alive too long ago.
    #[error("the registry was last alive {} s ago, more than `registry-max-age`", .0.as_secs())]
    TooOld(Duration),
    /// No random bytes, or no room to seal.
    #[error("the snapshot cannot be sealed")]
    Seal,
}

/// A moment, by two clocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Milliseconds since 1970.
    pub wall: u64,
    /// Which boot of the machine.
    pub boot: String,
    /// Milliseconds since then, sleep included.
    pub since_boot: u64,
}

impl Stamp {
    /// Now, where the wall clock shows `wall`.
    #[must_use]
    pub fn now(wall: u64) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let millis = since
            .tv_sec
            .saturating_mul(1000)
            .saturating_add(since.tv_nsec / 1_000_000);
        Self {
            wall,
            boot: boot.trim().to_owned(),
            since_boot: u64::try_from(millis).unwrap_or(0),
        }
    }

    /// How long before `now` this was.
    ///
    /// # Errors
    /// It was not.
    pub fn age(&self, now: &Self) -> Result<Duration, KeptError> {
        let by_wall = now.wall.saturating_sub(self.wall);
        if !self.boot.is_empty() && self.boot == now.boot {
            // The clock that nobody can set knows, whatever the other one says.
            let elapsed = now
                .since_boot
                .checked_sub(self.since_boot)
                .ok_or(KeptError::Future)?;
            return Ok(Duration::from_millis(elapsed.max(by_wall)));
        }
        if self.wall > now.wall.saturating_add(SLACK) {
            return Err(KeptError::Future);
        }
        Ok(Duration::from_millis(by_wall))
    }
}

#[derive(Serialize)]
struct Writing<'a> {
    version: u8,
    alive: &'a Stamp,
    devices: Vec<&'a DeviceRecord>,
    policies: Vec<(&'a PolicyName, &'a PolicyRecord)>,
    seen: Vec<(&'a DeviceId, SeenRecord)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Records {
    version: u8,
    alive: Stamp,
    devices: Vec<DeviceRecord>,
    policies: Vec<(PolicyName, PolicyRecord)>,
    seen: Vec<(DeviceId, SeenRecord)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alive {
    alive: Stamp,
    /// SHA-256 of FILE.
    of: String,
}

/// Where the snapshot is kept, and under which keys.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    fleet: FleetName,
    keys: ArcSwap<Vec<Arc<StorageKeys>>>,
    random: SystemRandom,
}

impl Kept {
    /// Nothing is read or written yet.
    #[must_use]
    pub fn new(path: &Path, fleet: &FleetName, keys: Vec<Arc<StorageKeys>>) -> Self {
        Self {
            path: path.into(),
            fleet: fleet.clone(),
            keys: ArcSwap::from_pointee(keys),
            random: SystemRandom::new(),
        }
    }

    /// Other keys, the one to seal with first.
    pub fn rekey(&self, keys: Vec<Arc<StorageKeys>>) {
        self.keys.store(Arc::new(keys));
    }

    /// Writes a whole view. Gives what [`Kept::still_alive`] names it by.
    ///
    /// # Errors
    /// It cannot be sealed or written; what was there before is still there.
    pub fn save(&self, view: &View, alive: &Stamp) -> Result<Sha256Digest, KeptError> {
        let entries: Vec<_> = view.snapshot().entries().collect();
        let mut policies: Vec<_> = entries
            .iter()
            .map(|entry| (&entry.record.policy, &*entry.policy))
            .collect();
        policies.sort_by_key(|(name, _)| *name);
        policies.dedup_by_key(|(name, _)| *name);
        let seen = entries.iter().filter_map(|entry| {
            let device = view.device(&entry.record.device)?;
            Some((device.id(), device.last_seen().get()?.value.clone()))
        });
        let writing = Writing {
            version: 1,
            alive,
            seen: seen.collect(),
            devices: entries.iter().map(|entry| &*entry.record).collect(),
            policies,
        };
        let text = serde_json::to_vec(&writing).map_err(|_| KeptError::Seal)?;
        let sealed = self.seal(RECORDS, text)?;
        replace(&self.path, &sealed, true)?;
        Ok(Sha256Digest::of(&sealed))
    }

    /// Notes that the registry was alive, and had no news since the view that was saved as `of`.
    ///
    /// # Errors
    /// As [`Kept::save`].
    pub fn still_alive(&self, of: &Sha256Digest, alive: Stamp) -> Result<(), KeptError> {
        let alive = Alive {
            alive,
            of: of.to_string(),
        };
        let text = serde_json::to_vec(&alive).map_err(|_| KeptError::Seal)?;
        let sealed = self.seal(ALIVE, text)?;
        // What a power cut takes of it makes the snapshot older, never younger.
        replace(&self.alive_path(), &sealed, false)
    }

    /// Reads what was kept, and how old it is. `None`: nothing was.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn load(&self, now: &Stamp, max_age: Duration) -> Result<Option<(View, Duration)>, KeptError> {
        let Some(sealed) = read(&self.path)? else {
            return Ok(None);
        };
        let of = Sha256Digest::of(&sealed).to_string();
        let records: Records = self.open(RECORDS, &self.path, &sealed)?;
        if records.version != 1 {
            return Err(KeptError::Format {
                path: self.path.clone(),
            });
        }
        let mut age = records.alive.age(now)?;
        // A second file that is missing, broken or another one's leaves the first with its own time.
        let alive_path = self.alive_path();
        if let Ok(Some(sealed)) = read(&alive_path)
            && let Ok(alive) = self.open::<Alive>(ALIVE, &alive_path, &sealed)
            && alive.of == of
        {
            age = age.min(alive.alive.age(now)?);
        }
        if age > max_age {
            return Err(KeptError::TooOld(age));
        }
        let snapshot = Snapshot::of(records.devices, records.policies, records.seen);
        Ok(Some((View::new(snapshot, &View::default()), age)))
    }

    fn alive_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".alive");
        path.into()
    }

    /// What a file is bound to, beside its key.
    fn context(&self, label: &[u8]) -> Vec<u8> {
        [label, b"\0", self.fleet.as_str().as_bytes()].concat()
    }

    fn seal(&self, label: &[u8], mut text: Vec<u8>) -> Result<Vec<u8>, KeptError> {
        let keys = self.keys.load();
        let key = keys.first().ok_or(KeptError::Seal)?.snapshot();
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| KeptError::Seal)?;
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(self.context(label)),
            &mut text,
        )
        .map_err(|_| KeptError::Seal)?;
        Ok([&nonce[..], &text].concat())
    }

    fn open<T: serde::de::DeserializeOwned>(
        &self,
        label: &[u8],
        path: &Path,
        sealed: &[u8],
    ) -> Result<T, KeptError> {
        let forged = || KeptError::Forged { path: path.into() };
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or_else(forged)?;
        for key in self.keys.load().iter() {
            let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| forged())?;
            let mut text = sealed.to_vec();
            if let Ok(text) = key
                .snapshot()
                .open_in_place(nonce, Aad::from(self.context(label)), &mut text)
            {
                return serde_json::from_slice(text).map_err(|_| KeptError::Format { path: path.into() });
            }
        }
        Err(forged())
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, KeptError> {
    let failed = |source| KeptError::File {
        path: path.into(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Puts a file in the place of another, whole or not at all.
fn replace(path: &Path, bytes: &[u8], durable: bool) -> Result<(), KeptError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || -> io::Result<()> {
        // One that a crash left has whatever mode and owner: a new one is made.
        match std::fs::remove_file(&beside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| KeptError::File {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(wall: u64, boot: &str, since_boot: u64) -> Stamp {
        Stamp {
            wall,
            boot: boot.into(),
            since_boot,
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_younger() {
        let then = stamp(1_000_000, "a", 50_000);
        let age = |now| then.age(&now).map(|age| age.as_millis()).ok();
        assert_eq!(age(stamp(1_010_000, "a", 60_000)), Some(10_000));
        // Within a boot the other clock knows, in both directions.
        assert_eq!(age(stamp(900_000, "a", 60_000)), Some(10_000));
        assert_eq!(age(stamp(1_090_000, "a", 60_000)), Some(90_000));
        assert_eq!(age(stamp(1_010_000, "a", 40_000)), None);
        // Over a reboot, what is from the future is not believed.
        assert_eq!(age(stamp(1_010_000, "b", 1)), Some(10_000));
        assert_eq!(age(stamp(999_000, "b", 1)), Some(0));
        assert_eq!(age(stamp(990_000, "b", 1)), None);
        // Where no boot is known, one is not another.
        let unknown = stamp(1_000_000, "", 5);
        assert_eq!(unknown.age(&stamp(1_003_000, "", 1)).unwrap().as_millis(), 3_000);
    }

    #[test]
    fn this_machine_has_a_boot_and_a_clock_that_runs() {
        let (one, two) = (Stamp::now(7), Stamp::now(7));
        assert!(!one.boot.is_empty() && one.boot == two.boot && two.since_boot >= one.since_boot);
    }
}
