//! What the tests of both backends share: records to write, and a way to write past the registry.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use domain::{
    DeviceId, EkDigest, FleetName, HashAlg, PcrIndex, PcrValue, PolicyName, PskDigest, TpmName, TpmPublic,
    UnixTime,
};
use evidence::DeclaredPolicy;
use registry::{
    Day, DeviceRecord, DeviceState, EkTrust, Options, PolicyRecord, PskSlots, Registry, RegistryUrl,
    SeenRecord, Snapshot, SpentRecord, TpmIdentity, Update, Version1, Watch,
};
use tempfile::TempDir;
use testkit::etcd::Etcd;

/// A fleet's registry of one kind, empty, and what it lives in.
pub(crate) struct Bench {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) url: RegistryUrl,
    backend: Backend,
}

enum Backend {
    Sqlite(PathBuf, #[expect(dead_code, reason = "removed on drop")] TempDir),
    Etcd(Box<Etcd>),
}

pub(crate) fn fleet() -> FleetName {
    "demo".parse().unwrap()
}

/// Short time-outs and frequent signs of life, so that a test of either is short.
pub(crate) fn quick() -> Options {
    Options {
        connect_timeout: Duration::from_secs(2),
        call_timeout: Duration::from_secs(2),
        alive_every: Duration::from_millis(200),
        ..Options::default()
    }
}

impl Bench {
    pub(crate) async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.db");
        let url = RegistryUrl::Sqlite(path.clone());
        let registry = registry::open(&url, &quick(), &fleet()).await.unwrap();
        let backend = Backend::Sqlite(path, dir);
        Self {
            registry,
            url,
            backend,
        }
    }

    pub(crate) async fn etcd() -> Self {
        let etcd = Box::new(Etcd::start());
        let url: RegistryUrl = etcd.url().parse().unwrap();
        let registry = registry::open(&url, &quick(), &fleet()).await.unwrap();
        let backend = Backend::Etcd(etcd);
        Self {
            registry,
            url,
            backend,
        }
    }

    /// Writes a value past the registry, as somebody with access to the backend could.
    pub(crate) fn put_raw(&self, key: &str, value: &str) {
        let key = format!("/signalbox/v1/{}/{key}", fleet());
        match &self.backend {
            Backend::Etcd(etcd) => {
                etcd.ctl(&["put", "--", &key, value]);
            }
            Backend::Sqlite(path, _) => {
                let sql = "INSERT OR REPLACE INTO records VALUES (?1, ?2, 1)";
                let connection = rusqlite::Connection::open(path).unwrap();
                connection.execute(sql, (key, value.as_bytes())).unwrap();
            }
        }
    }

    /// Removes a key past the registry.
    pub(crate) fn remove_raw(&self, key: &str) {
        let key = format!("/signalbox/v1/{}/{key}", fleet());
        match &self.backend {
            Backend::Etcd(etcd) => {
                etcd.ctl(&["del", &key]);
            }
            Backend::Sqlite(path, _) => {
                let connection = rusqlite::Connection::open(path).unwrap();
                let gone = connection.execute("DELETE FROM records WHERE key = ?1", [key]);
                assert_eq!(gone.unwrap(), 1);
            }
        }
    }

    /// Enrols devices that differ in everything but their policy, and writes the policy.
    pub(crate) async fn with_devices(&self, names: &[&str]) {
        self.registry
            .put_policy(&policy_name(), policy(1), None)
            .await
            .unwrap();
        for name in names {
            self.registry.enrol(device(name)).await.unwrap();
        }
    }
}

pub(crate) fn id(name: &str) -> DeviceId {
    name.parse().unwrap()
}

pub(crate) fn policy_name() -> PolicyName {
    "kiosk".parse().unwrap()
}

pub(crate) fn psk(name: &str) -> PskDigest {
    PskDigest::of(name.as_bytes())
}

/// A device whose PSK, EK and AK are made of its name.
pub(crate) fn device(name: &str) -> DeviceRecord {
    DeviceRecord {
        version: Version1,
        device: id(name),
        state: DeviceState::Active,
        policy: policy_name(),
        profile: "kiosk-vm".parse().unwrap(),
        psk: PskSlots::only(psk(name)),
        client_certificate: None,
        tpm: Some(TpmIdentity {
            ek: EkDigest::of(name.as_bytes()),
            ek_certificate: None,
            ek_certified: None,
            ek_trust: EkTrust::FirstUse,
            ak_public: TpmPublic::try_from(name.as_bytes().to_vec()).unwrap(),
            ak_qualified_name: TpmName::try_from(vec![0, 0x0b, 1]).unwrap(),
            manufacturer: "IBM".to_owned(),
            firmware_version: 7,
        }),
        measured_boot: false,
        volume_key: None,
        wireguard: None,
        generation: 1,
        enrolled_at: UnixTime::from_secs(1000),
    }
}

pub(crate) fn policy(revision: u64) -> PolicyRecord {
    let seven = PcrIndex::try_from(7).unwrap();
    let value = PcrValue::new(HashAlg::Sha256, &[7; 32]).unwrap();
    PolicyRecord {
        version: Version1,
        revision,
        models: vec!["smollm2:135m".parse().unwrap()],
        endpoints: None,
        options: domain::OptionRules::default(),
        limits: domain::Limits::default(),
        client_certificate: None,
        session_ttl: 600,
        evidence: Some(DeclaredPolicy::exact(HashAlg::Sha256, BTreeMap::from([(seven, value)])).unwrap()),
    }
}

pub(crate) fn seen(reset_count: u32) -> SeenRecord {
    SeenRecord {
        version: Version1,
        reset_count,
        restart_count: 0,
        clock: 5,
        safe: true,
        firmware_version: 7,
        at: UnixTime::from_secs(2000),
    }
}

pub(crate) fn spent(prompt_tokens: u64) -> SpentRecord {
    SpentRecord {
        version: Version1,
        day: Day::of(UnixTime::from_secs(2000)),
        prompt_tokens,
        output_tokens: 3,
        requests: 0,
        running: [].into(),
    }
}

/// Reads a device, edits it, raises its generation and writes it.
pub(crate) async fn edit(registry: &dyn Registry, name: &str, edit: impl FnOnce(&mut DeviceRecord)) {
    let mut stored = registry.device(&id(name)).await.unwrap().unwrap();
    edit(&mut stored.value);
    stored.value.generation += 1;
    registry
        .update_device(stored.value, stored.revision)
        .await
        .unwrap();
}

/// The next update that is not a sign of life; reports are passed over.
pub(crate) async fn change(watch: &mut Watch) -> Update {
    let wait = async {
        loop {
            match watch.next().await.expect("the watch goes on") {
                Ok(Update::Alive) | Err(_) => {}
                Ok(update) => return update,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("a change within 20 s")
}

/// Waits for a snapshot of which `fits` is true.
pub(crate) async fn snapshot_where(watch: &mut Watch, fits: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    loop {
        if let Update::Snapshot(snapshot) = change(watch).await
            && fits(&snapshot)
        {
            return snapshot;
        }
    }
}
