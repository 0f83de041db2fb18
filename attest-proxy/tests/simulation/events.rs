//! What happens: time, edits, other replicas, new roots, sessions and challenges.

use domain::Sha256Digest;
use protocol::{
    KeyRing, Subject, nonce,
    signature::SessionKey,
    token::{self, Claims},
};
use registry::{DeviceState, PreviousPsk, Revision, SeenRecord, Version1, Versioned};
use zeroize::Zeroizing;

use super::model::{DEVICES, Given, Session, Sim, at, digest, root};
use crate::forge::{self, START};

impl Sim {
    pub fn step(&mut self) {
        self.latest = self.latest.max(self.now);
        match self.random.below(40) {
            0..=9 => self.now += u64::try_from(self.random.below(20)).unwrap(),
            10 => self.clock_steps(),
            11 if self.random.one_in(2) => self.edit_device(),
            12 if self.random.one_in(4) => self.edit_policy(),
            13 if self.random.one_in(3) => self.counters(),
            14 if self.random.one_in(10) => self.new_root(),
            15 if self.random.one_in(4) => self.alive = false,
            16..=17 => self.alive = true,
            18..=20 => self.open_session(),
            21..=22 => self.challenge(),
            23..=26 => self.ask_by_key(),
            27..=29 => self.ask_by_nonce(),
            30..=36 => self.ask_signed(),
            _ => self.ask_again(),
        }
    }

    pub fn clock_steps(&mut self) {
        if self.random.one_in(5) {
            // Wholly wrong for a while, and set right.
            match self.astray.take() {
                Some(by) => self.now -= by,
                None => {
                    let by = 86_400 * u64::try_from(1 + self.random.below(400)).unwrap();
                    self.now += by;
                    self.astray = Some(by);
                }
            }
            return;
        }
        let by = u64::try_from(self.random.below(300)).unwrap();
        if self.random.one_in(2) {
            self.now += by;
        } else {
            self.now = self
                .now
                .saturating_sub(by)
                .max(START.as_secs() + 62 + self.astray.unwrap_or(0));
        }
    }

    pub fn edit_device(&mut self) {
        let device = self.random.below(DEVICES.len());
        // For good, and late: who is left must be enough to go on with.
        let choice = if self.random.one_in(30) && self.retired() == 0 {
            6
        } else {
            self.random.below(6)
        };
        let psk = format!("sbx_{:0>43}", self.random.next());
        let until = self.now + u64::try_from(self.random.below(90)).unwrap();
        let record = &mut self.records[device];
        // The registry takes no edit of one that is retired.
        if record.state == DeviceState::Retired {
            return;
        }
        match choice {
            0 => record.state = DeviceState::Suspended,
            1..=3 => record.state = DeviceState::Active,
            4 => {
                let previous = PreviousPsk {
                    digest: record.psk.current,
                    until: at(until),
                };
                record.psk.current = digest(&psk);
                record.psk.previous = Some(previous);
                self.psks[device].push(psk);
            }
            6 => record.state = DeviceState::Retired,
            _ => record.policy = ["strict", "open", "swing"][self.random.below(3)].parse().unwrap(),
        }
        record.generation += 1;
        self.publish();
    }

    pub fn edit_policy(&mut self) {
        let at = self.random.below(self.policies.len());
        let evidence = self.random.one_in(2);
        let (name, policy) = &mut self.policies[at];
        policy.revision += 1;
        if *name == "swing" {
            policy.evidence = forge::policy(evidence).evidence;
        }
        self.publish();
    }

    /// Another replica accepted a quote, or the watch is late, or somebody wrote counters that went back.
    pub fn counters(&mut self) {
        let device = self.random.below(2);
        let (reset, restart, revision) = match &self.seen[device] {
            Some((seen, revision)) => (seen.reset_count, seen.restart_count, *revision),
            None => (3, 2, 10),
        };
        let (reset, restart, revision) = match self.random.below(4) {
            0 => (reset + 1, 0, revision + 1),
            1 => (reset, restart + 1, revision + 1),
            2 => (reset.saturating_sub(1), restart + 5, revision + 1),
            _ => (reset + 9, restart + 9, revision.saturating_sub(1)),
        };
        self.ticks += 1000;
        let value = SeenRecord {
            version: Version1,
            reset_count: reset,
            restart_count: restart,
            clock: self.ticks,
            safe: true,
            firmware_version: 1,
            at: at(self.now),
        };
        // A device that cannot be used now has no place to remember it.
        let id = DEVICES[device].0.parse().unwrap();
        let Some(known) = self.view.device(&id) else {
            return;
        };
        known.last_seen().advance(Versioned {
            value: value.clone(),
            revision: Revision::new(revision),
        });
        self.seen[device] = Some(match self.seen[device].take() {
            Some((old, of)) if of >= revision => (old, of),
            Some((old, _)) if (reset, restart) < (old.reset_count, old.restart_count) => (old, revision),
            _ => (value, revision),
        });
    }

    pub fn new_root(&mut self) {
        let until = self.now + 3600;
        self.before = Some((self.root, until));
        let old = root(self.root);
        self.root += 1;
        self.keys = KeyRing::new(root(self.root), Some((old, at(until))));
    }

    pub fn open_session(&mut self) {
        let device = self.random.below(2);
        let psk = self.key_of(device);
        let (reset, restart) = self.counts(device).unwrap_or((3, 2));
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.random.next().to_be_bytes());
        let key = SessionKey::from_seed(&Zeroizing::new(seed));
        let record = &self.records[device];
        let mut name = vec![0, 0x0b];
        name.extend_from_slice(Sha256Digest::of(self.tpm.public.as_bytes()).as_bytes());
        let claims = Claims {
            fleet: self.site.fleet.clone(),
            audience: self.site.audience.clone(),
            device: record.device.clone(),
            psk: digest(&psk),
            ak_name: name.try_into().unwrap(),
            public_key: key.public_key(),
            generation: record.generation,
            policy: record.policy.clone(),
            policy_revision: self.policy(device).revision,
            reset_count: reset,
            restart_count: restart,
            expires_at: at(self.now + 200),
        };
        self.sessions.push(Session {
            device,
            key,
            token: token::mint(&self.keys, &claims),
            claims,
            root: self.root,
        });
    }

    pub fn challenge(&mut self) {
        let device = self.random.below(DEVICES.len());
        let id = DEVICES[device].0.parse().unwrap();
        let psk = digest(&self.psks[device][0]);
        let subject = Subject {
            fleet: &self.site.fleet,
            audience: &self.site.audience,
            device: &id,
            psk: &psk,
        };
        let random = self.random.next().to_be_bytes();
        let bytes = nonce::issue(&self.keys, &subject, at(self.now), random)
            .as_bytes()
            .to_vec();
        self.given.push(Given {
            device,
            at: self.now,
            bytes,
            root: self.root,
        });
    }
}
