//! Quotes, and what has been seen: two replicas, one real registry between them, and a TPM that lives, is reset, restarts, is rolled back,
//! and whose state changes, while policies want another state, the device is suspended and retired, and the replicas hear of
//! all that late. The model knows the registry's truth and the contract's seven lines.

use std::{collections::BTreeMap, sync::Arc};

use attest_proxy::{
    attest::{self, Claim, Replays, Shown},
    clock::{Clock, Start},
    gate::{self, Grant, Proof, Site, World},
    head::Head,
    view::View,
};
use domain::{HashAlg, PcrIndex, PcrValue, PskDigest, Sha256Digest, UnixTime};
use evidence::{Attachments, DeclaredPolicy, Evidence, wire::ClockInfo};
use http::{HeaderMap, Method};
use protocol::{
    FleetKeys, KeyRing, Refusal, Subject,
    binding::{self, Binding},
    headers, nonce,
};
use registry::{DeviceRecord, DeviceState, PolicyRecord, Registry, Snapshot};

use super::{
    model::{at, root},
    random::Random,
};
use crate::forge::{self, START, Tpm, psk_text};

const BODY: &[u8] = b"{}";

/// A quote as it was sent, by whoever has it now.
struct Quote {
    fields: HeaderMap,
    clock: ClockInfo,
    pcrs: BTreeMap<PcrIndex, PcrValue>,
    issued: u64,
}

/// One proxy, and what it has heard.
struct Replica {
    view: View,
    replays: Replays,
    record: DeviceRecord,
    policy: PolicyRecord,
    alive: bool,
}

/// A run.
pub struct Quotes {
    random: Random,
    now: u64,
    runtime: tokio::runtime::Runtime,
    registry: Arc<dyn Registry>,
    _dir: tempfile::TempDir,
    replicas: [Replica; 2],
    site: Site,
    keys: KeyRing,
    tpm: Tpm,
    /// A state of the TPM that somebody kept.
    saved: ClockInfo,
    record: DeviceRecord,
    policy: PolicyRecord,
    /// What the policy wants.
    wanted: BTreeMap<PcrIndex, PcrValue>,
    quotes: Vec<Quote>,
    accepted: Vec<usize>,
    /// Counters of the last accepted quote.
    truth: Option<ClockInfo>,
    /// How often what came of a quote: accepted, stale, another state, refused for its nonce, unknown.
    pub counts: BTreeMap<&'static str, usize>,
}

fn ring() -> KeyRing {
    let keys: FleetKeys = root(1);
    KeyRing::new(keys, None)
}

/// The seven lines of the contract, written down a second time.
fn follows(now: ClockInfo, last: Option<ClockInfo>) -> bool {
    let Some(last) = last else { return true };
    if now.reset_count != last.reset_count {
        return now.reset_count > last.reset_count;
    }
    if now.restart_count != last.restart_count {
        return now.restart_count > last.restart_count && now.clock >= last.clock;
    }
    now.clock > last.clock
}

impl Quotes {
    pub fn new(seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("r.db").display())
            .parse()
            .unwrap();
        let tpm = Tpm::new();
        let record = forge::device("kiosk", "strict", Some(&tpm));
        let policy = forge::policy(true);
        let registry = runtime.block_on(async {
            let fleet = "demo".parse().unwrap();
            let registry = registry::open(&url, &registry::Options::default(), &fleet)
                .await
                .unwrap();
            registry
                .put_policy(&"strict".parse().unwrap(), policy.clone(), None)
                .await
                .unwrap();
            registry.enrol(record.clone()).await.unwrap();
            registry
        });
        let replica = || Replica {
            view: View::default(),
            replays: Replays::new(Start::of(&Clock::Other(Arc::new(|| START))), 10_000),
            record: record.clone(),
            policy: policy.clone(),
            alive: true,
        };
        let mut new = Self {
            random: Random(seed),
            now: START.as_secs() + 100,
            runtime,
            registry,
            _dir: dir,
            replicas: [replica(), replica()],
            site: Site {
                fleet: "demo".parse().unwrap(),
                audience: "https://llm.example".parse().unwrap(),
            },
            keys: ring(),
            saved: tpm.clock,
            tpm,
            record,
            policy,
            wanted: forge::good_pcrs(),
            quotes: Vec::new(),
            accepted: Vec::new(),
            truth: None,
            counts: BTreeMap::new(),
        };
        new.hear(0);
        new.hear(1);
        new
    }

    pub fn step(&mut self) {
        let replica = self.random.below(2);
        match self.random.below(30) {
            0..=4 => self.now += u64::try_from(self.random.below(15)).unwrap(),
            5..=7 => self.tpm_lives(),
            8 => self.state_changes(),
            9 if self.random.one_in(4) => self.appraisal_changes(),
            10 if self.random.one_in(3) => self.edit(),
            11..=13 => self.hear(replica),
            14..=16 => self.hear_of_seen(replica),
            17 if self.random.one_in(4) => self.replicas[replica].alive = false,
            18 => self.replicas[replica].alive = true,
            19..=23 => self.quote(),
            _ => self.show(replica),
        }
    }

    fn tpm_lives(&mut self) {
        let clock = &mut self.tpm.clock;
        match self.random.below(8) {
            0 => {
                clock.reset_count += 1;
                clock.restart_count = 0;
            }
            1 => clock.restart_count += 1,
            2 => self.saved = *clock,
            // A virtual one, that somebody puts back.
            3 if self.random.one_in(3) => *clock = self.saved,
            _ => clock.clock += u64::try_from(self.random.below(1000)).unwrap(),
        }
    }

    fn state_changes(&mut self) {
        if self.random.one_in(2) {
            self.tpm.extend();
        } else {
            self.tpm.pcrs = forge::good_pcrs();
        }
    }

    /// The policy wants the state that the machine has now, or another one.
    fn appraisal_changes(&mut self) {
        self.wanted = match self.random.below(3) {
            0 => self.tpm.pcrs.clone(),
            1 => forge::good_pcrs(),
            _ => [(7, 0x77), (11, 0xcc)]
                .map(|(i, fill)| {
                    (
                        forge::index(i),
                        PcrValue::new(HashAlg::Sha256, &[fill; 32]).unwrap(),
                    )
                })
                .into(),
        };
        self.policy.revision += 1;
        self.policy.evidence = Some(DeclaredPolicy::exact(HashAlg::Sha256, self.wanted.clone()).unwrap());
        let (name, policy) = ("strict".parse().unwrap(), self.policy.clone());
        self.runtime.block_on(async {
            let stored = self.registry.policy(&name).await.unwrap().unwrap();
            self.registry
                .put_policy(&name, policy, Some(stored.revision))
                .await
                .unwrap();
        });
    }

    fn edit(&mut self) {
        if self.record.state == DeviceState::Retired {
            return;
        }
        self.record.state = match self.random.below(12) {
            // For good, and not before there was something to see.
            0 if self.accepted.len() > 60 => DeviceState::Retired,
            1..=3 => DeviceState::Suspended,
            _ => DeviceState::Active,
        };
        self.record.generation += 1;
        let record = self.record.clone();
        self.runtime.block_on(async {
            let stored = self.registry.device(&record.device).await.unwrap().unwrap();
            self.registry
                .update_device(record, stored.revision)
                .await
                .unwrap();
        });
    }

    /// The watch brings records and policies to a replica.
    fn hear(&mut self, nth: usize) {
        let replica = &mut self.replicas[nth];
        replica.record = self.record.clone();
        replica.policy = self.policy.clone();
        let policies = [("strict".parse().unwrap(), self.policy.clone())];
        let seen = self
            .runtime
            .block_on(self.registry.seen(&self.record.device))
            .unwrap();
        let seen = seen.map(|seen| (self.record.device.clone(), seen.value));
        let snapshot = Snapshot::of(vec![self.record.clone()], policies, seen);
        replica.view = View::new(snapshot, &replica.view);
    }

    /// The watch brings what another replica saw, early or late.
    fn hear_of_seen(&mut self, nth: usize) {
        let seen = self
            .runtime
            .block_on(self.registry.seen(&self.record.device))
            .unwrap();
        if let (Some(seen), Some(device)) = (seen, self.replicas[nth].view.device(&self.record.device)) {
            device.last_seen().advance(seen);
        }
    }

    /// The device answers a challenge.
    fn quote(&mut self) {
        let psk = PskDigest::of(psk_text("kiosk").as_bytes());
        let subject = Subject {
            fleet: &self.site.fleet,
            audience: &self.site.audience,
            device: &self.record.device,
            psk: &psk,
        };
        let random = self.random.next().to_be_bytes();
        let nonce = nonce::issue(&self.keys, &subject, at(self.now), random);
        let body = Sha256Digest::of(BODY);
        let binding = Binding::Request {
            method: "POST",
            target: "/api/chat",
            body: &body,
        };
        let data = binding::qualifying_data(&subject, nonce.as_bytes(), &binding);
        let evidence = self.tpm.quote(&data);
        let mut fields = HeaderMap::new();
        fields.insert(headers::PSK, psk_text("kiosk").parse().unwrap());
        for (name, value) in [
            (headers::QUOTE, &evidence.quote[..]),
            (headers::QUOTE_SIGNATURE, &evidence.signature),
            (headers::QUOTE_PCRS, &evidence.pcrs),
            (headers::QUOTE_NONCE, nonce.as_bytes()),
        ] {
            fields.insert(name, headers::bytes(value).parse().unwrap());
        }
        self.quotes.push(Quote {
            fields,
            clock: self.tpm.clock,
            pcrs: self.tpm.pcrs.clone(),
            issued: self.now,
        });
    }

    /// Somebody shows a replica a quote: the newest, one that was held back, or one that was shown before.
    fn show(&mut self, nth: usize) {
        if self.quotes.is_empty() {
            return;
        }
        let which = self.quotes.len() - 1 - self.random.below(self.quotes.len().min(6));
        let got = self.judge(nth, which);
        let (quote, replica) = (&self.quotes[which], &self.replicas[nth]);
        let timely = self.now < quote.issued + 60;
        let wanted = DeclaredPolicy::exact(HashAlg::Sha256, quote.pcrs.clone()).unwrap();
        let (expected, name) = if !replica.alive {
            (false, "away")
        } else if replica.record.state != DeviceState::Active {
            (false, "unknown")
        } else if !timely {
            (false, "late")
        } else if !follows(quote.clock, self.truth) {
            (false, "stale")
        } else if replica.policy.evidence != Some(wanted) {
            (false, "another state")
        } else {
            (true, "accepted")
        };
        assert_eq!(
            got.is_ok(),
            expected,
            "{name}: {got:?}; {:?} after {:?}",
            quote.clock,
            self.truth
        );
        *self.counts.entry(name).or_default() += 1;
        match got {
            Ok(()) => {
                assert!(!self.accepted.contains(&which), "a quote was accepted twice");
                self.accepted.push(which);
                self.truth = Some(quote.clock);
            }
            Err(refusal) if name == "away" => assert_eq!(refusal, Refusal::RegistryStale),
            Err(refusal) if name == "unknown" => assert_eq!(refusal, Refusal::PskUnknown),
            Err(_) => {}
        }
        self.written();
    }

    /// The registry has what was accepted last, and nothing else.
    fn written(&self) {
        let seen = self
            .runtime
            .block_on(self.registry.seen(&self.record.device))
            .unwrap();
        let seen = seen.map(|seen| (seen.value.reset_count, seen.value.restart_count, seen.value.clock));
        let truth = self
            .truth
            .map(|last| (last.reset_count, last.restart_count, last.clock));
        assert_eq!(seen, truth);
    }

    /// The gate's decision, and the appraisal's.
    fn judge(&self, nth: usize, which: usize) -> Result<(), Refusal> {
        let (quote, replica) = (&self.quotes[which], &self.replicas[nth]);
        let head = Head {
            method: &Method::POST,
            path: "/api/chat",
            query: None,
            target: "/api/chat",
            headers: &quote.fields,
            certificate: None,
        };
        let now: UnixTime = at(self.now);
        let world = World {
            view: replica.alive.then_some(&replica.view),
            keys: &self.keys,
            site: &self.site,
            started_at: START,
        };
        let admit = gate::decide(&head, &world, now).map_err(|refused| refused.refusal)?;
        let Grant::Upstream(_, Proof::Quoted(quoted)) = &admit.to else {
            panic!("{:?}", admit.to);
        };
        let body = Sha256Digest::of(BODY);
        let claim = Claim {
            site: &self.site,
            device: &admit.device,
            psk: &admit.psk,
            nonce: &quoted.nonce,
            binding: Binding::Request {
                method: "POST",
                target: "/api/chat",
                body: &body,
            },
            now,
        };
        let shown = Shown {
            evidence: Evidence {
                quote: &quoted.quote.quote,
                signature: &quoted.quote.signature,
                pcrs: &quoted.quote.pcrs,
            },
            attachments: Attachments::default(),
        };
        let accepted = attest::accept(shown, &claim, &replica.replays, &*self.registry);
        match self.runtime.block_on(accepted) {
            Ok(_) => Ok(()),
            Err(refused) => Err(refused.refusal),
        }
    }
}
