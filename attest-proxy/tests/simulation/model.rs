//! What the gate has, and beside it the plain facts from which the model says who may be admitted.

use std::{collections::BTreeSet, sync::Arc};

use attest_proxy::{
    attest::Replays,
    clock::{Clock, Start},
    gate::Site,
    view::View,
};
use domain::{FleetRoot, PskDigest, UnixTime};
use http::HeaderMap;
use protocol::{FleetKeys, KeyRing, signature::SessionKey, token::Claims};
use registry::{DeviceRecord, DeviceState, PolicyRecord, SeenRecord, Snapshot};

use super::random::Random;
use crate::forge::{self, START, Tpm, psk_text};

/// A session as a client keeps it, with what it rested on.
pub struct Session {
    pub device: usize,
    pub key: SessionKey,
    pub claims: Claims,
    pub token: String,
    pub root: u8,
}

/// A challenge that was given out.
pub struct Given {
    pub device: usize,
    pub at: u64,
    pub bytes: Vec<u8>,
    pub root: u8,
}

/// A signed request that a client, or whoever listened to it, can send again.
pub struct Sent {
    pub session: usize,
    pub created: u64,
    pub nonce: u64,
    pub fields: HeaderMap,
}

/// What the gate has, and beside it the plain facts from which the model says who may be admitted.
pub struct Sim {
    pub random: Random,
    pub now: u64,
    pub records: Vec<DeviceRecord>,
    /// The text of every key that was ever somebody's, by device; the last is the current one.
    /// By how much the clock is wholly wrong at the moment.
    pub astray: Option<u64>,
    /// When each accepted signature could be forgotten.
    pub untils: BTreeSet<u64>,
    pub psks: Vec<Vec<String>>,
    pub policies: Vec<(&'static str, PolicyRecord)>,
    /// Counters as the proxy should know them, and the revision at which.
    pub seen: Vec<Option<(SeenRecord, u64)>>,
    pub ticks: u64,
    /// The latest that the clock ever showed.
    pub latest: u64,
    pub view: View,
    pub alive: bool,
    pub keys: KeyRing,
    pub root: u8,
    pub before: Option<(u8, u64)>,
    pub replays: Replays,
    pub site: Site,
    pub tpm: Tpm,
    pub sessions: Vec<Session>,
    pub given: Vec<Given>,
    pub sent: Vec<Sent>,
    pub accepted: BTreeSet<(usize, u64)>,
    pub admitted: usize,
    pub refused: usize,
    /// Requests that were admitted by their signature, and such that were sent again in vain.
    pub signed: usize,
    pub again: usize,
}

pub fn root(n: u8) -> FleetKeys {
    FleetKeys::derive(
        format!("k{n}").parse().unwrap(),
        &FleetRoot::copy_from(&[n; 32]).unwrap(),
    )
}

pub fn at(secs: u64) -> UnixTime {
    UnixTime::from_secs(secs)
}

pub fn digest(text: &str) -> PskDigest {
    PskDigest::of(text.as_bytes())
}

pub const DEVICES: [(&str, &str, bool); 4] = [
    ("kiosk", "strict", true),
    ("tram", "swing", true),
    ("plain", "open", false),
    ("bare", "swing", false),
];

impl Sim {
    pub fn new(seed: u64) -> Self {
        let tpm = Tpm::new();
        let records: Vec<_> = DEVICES
            .iter()
            .map(|(id, policy, has)| forge::device(id, policy, has.then_some(&tpm)))
            .collect();
        let mut sim = Self {
            random: Random(seed),
            now: START.as_secs() + 100,
            psks: DEVICES.iter().map(|(id, ..)| vec![psk_text(id)]).collect(),
            astray: None,
            untils: BTreeSet::new(),
            seen: vec![None; records.len()],
            ticks: 0,
            latest: 0,
            records,
            policies: vec![
                ("strict", forge::policy(true)),
                ("open", forge::policy(false)),
                ("swing", forge::policy(true)),
            ],
            view: View::default(),
            alive: true,
            keys: KeyRing::new(root(1), None),
            root: 1,
            before: None,
            replays: Replays::new(Start::of(&Clock::Other(Arc::new(|| START))), 100_000),
            site: Site {
                fleet: "demo".parse().unwrap(),
                audience: "https://llm.example".parse().unwrap(),
            },
            tpm,
            sessions: Vec::new(),
            given: Vec::new(),
            sent: Vec::new(),
            accepted: BTreeSet::new(),
            admitted: 0,
            refused: 0,
            signed: 0,
            again: 0,
        };
        sim.publish();
        sim
    }

    /// The watch brings what the registry has.
    pub fn publish(&mut self) {
        let policies = self
            .policies
            .iter()
            .map(|(name, p)| (name.parse().unwrap(), p.clone()));
        let ids = DEVICES.map(|(id, ..)| id.parse().unwrap());
        let seen = ids.iter().cloned().zip(&self.seen);
        let seen = seen.filter_map(|(id, seen)| seen.as_ref().map(|(record, _)| (id, record.clone())));
        let snapshot = Snapshot::of(self.records.clone(), policies, seen);
        let view = View::new(snapshot, &self.view);
        for (nth, id) in ids.iter().enumerate() {
            // Who comes back is known by what the registry kept; its revision is a snapshot's.
            if self.view.device(id).is_none()
                && let Some((_, revision)) = &mut self.seen[nth]
            {
                *revision = 1;
            }
        }
        self.view = view;
    }

    pub fn policy(&self, device: usize) -> &PolicyRecord {
        let name = self.records[device].policy.as_str();
        &self.policies.iter().find(|(n, _)| *n == name).unwrap().1
    }

    /// How many devices are retired.
    pub fn retired(&self) -> usize {
        let retired = |r: &&DeviceRecord| r.state == DeviceState::Retired;
        self.records.iter().filter(retired).count()
    }

    pub fn counts(&self, device: usize) -> Option<(u32, u32)> {
        let seen = self.seen[device].as_ref();
        seen.map(|(seen, _)| (seen.reset_count, seen.restart_count))
    }

    pub fn root_good(&self, root: u8) -> bool {
        root == self.root
            || self
                .before
                .is_some_and(|(n, until)| n == root && self.now < until)
    }

    /// The model: whose a key is now, if its owner may be served at all.
    pub fn owner(&self, psk: &str) -> Option<usize> {
        let digest = digest(psk);
        let device = self.records.iter().position(|r| {
            r.psk.current == digest
                || (r.psk.previous.as_ref())
                    .is_some_and(|p| p.digest == digest && self.now < p.until.as_secs())
        })?;
        let impossible = self.policy(device).evidence.is_some() && self.records[device].tpm.is_none();
        (self.records[device].state == DeviceState::Active && !impossible).then_some(device)
    }

    pub fn key_of(&mut self, device: usize) -> String {
        let all = &self.psks[device];
        let nth = self.random.below(all.len().min(3));
        all[all.len() - 1 - nth].clone()
    }
}
