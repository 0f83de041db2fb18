//! What a device may use: requests in a minute, answers at a time, tokens in a day.
//!
//! Owns: one [`Account`] for each device that was ever admitted here under a policy with limits, and the [`Ticket`] that an
//! admitted request carries until its answer has ended, however it ends. A request is metered after its proof was
//! accepted, so that nobody who merely holds a stolen key can use up the device's limits.
//! Refuses: `rate-limited`, `too-many-streams`, `budget-spent`, each with the time after which to come again. An answer
//! that goes on beyond the day's tokens is ended in mid-stream.
//! A client that leaves before the last object, which has the numbers, pays by what passed: a token for each object
//! of the answer, and one for each four bytes of its body as the prompt.
//! Limits today: all three are shared with the other replicas through the registry, some seconds late ([`share`]); nothing waits
//! for that. A budget can be overdrawn by what is running when it ends, at most by one answer a stream
//! where the answer is not streamed.

mod account;
mod bucket;
mod count;
mod others;
pub mod share;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use domain::{DeviceId, Limits, UnixTime};
use protocol::Refusal;
use registry::{ReplicaId, Snapshot, SpentRecord, Versioned};

pub use account::{Account, Over, Quota, Tokens, Writing};
pub use count::{Counter, Framing, Usage};

use crate::{
    clock::Clock,
    upstream::{End, Observe},
};

/// How many bytes of a prompt are one token, where nobody told: English text in the tokenizers of today.
const BYTES_PER_TOKEN: u64 = 4;

/// The accounts of all devices.
#[derive(Debug)]
pub struct Meters {
    accounts: Mutex<HashMap<DeviceId, Arc<Shared>>>,
    started: Instant,
    clock: Clock,
    us: ReplicaId,
}

/// An account behind its lock. Held for one sum, never across an await.
#[derive(Debug, Default)]
struct Shared(Mutex<Account>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Account> {
        // A panic elsewhere cannot leave the sums half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meters {
    /// Nobody has used anything. `us`: by what other replicas know this one.
    #[must_use]
    pub fn new(clock: Clock, us: ReplicaId) -> Self {
        Self {
            accounts: Mutex::default(),
            started: Instant::now(),
            clock,
            us,
        }
    }

    /// Takes a request of `device` whose body has `body` bytes, or says over which limit it is. Where its policy has no
    /// limits, the ticket only counts tokens.
    ///
    /// # Errors
    /// [`Over`]; nothing was taken then.
    pub fn admit(&self, device: &DeviceId, limits: &Limits, body: usize) -> Result<Ticket, Over> {
        let body = u64::try_from(body).unwrap_or(u64::MAX);
        let ticket = |held, quota, left| Ticket {
            held,
            tally: Arc::default(),
            prompt: body / BYTES_PER_TOKEN,
            quota,
            left,
            counter: None,
            due: Due::Nothing,
        };
        if limits.is_none() {
            return Ok(ticket(None, None, None));
        }
        let shared = self.account(device);
        let now = self.clock.now();
        let (quota, left) = {
            let mut account = shared.lock();
            let quota = account.admit(limits, self.us, now, self.started.elapsed())?;
            (quota, account.output_left(limits, now))
        };
        Ok(ticket(Some((shared, self.clock.clone())), quota, left))
    }

    /// Takes what a snapshot of the registry says was spent: of every device that is known here.
    pub fn snapshot(&self, snapshot: &Snapshot) {
        let known: Vec<_> = self.all();
        for (device, account) in known {
            account.lock().begin(snapshot.spent(&device).cloned(), self.at());
        }
        for (device, spent) in snapshot.all_spent() {
            self.account(device).lock().begin(Some(spent.clone()), self.at());
        }
    }

    /// Takes what the registry says of one device.
    pub fn told(&self, device: &DeviceId, spent: Option<Versioned<SpentRecord>>) {
        self.account(device).lock().learn(spent, self.at());
    }

    /// What a device has used: answers that run, and tokens of the day. For operators.
    #[must_use]
    pub fn used(&self, device: &DeviceId) -> (u64, Tokens) {
        let account = self.account(device);
        let account = account.lock();
        (account.streams(), account.spent(self.clock.now()))
    }

    fn account(&self, device: &DeviceId) -> Arc<Shared> {
        let mut accounts = self.lock();
        match accounts.get(device) {
            Some(account) => Arc::clone(account),
            None => Arc::clone(accounts.entry(device.clone()).or_default()),
        }
    }

    fn all(&self) -> Vec<(DeviceId, Arc<Shared>)> {
        let accounts = self.lock();
        accounts
            .iter()
            .map(|(id, a)| (id.clone(), Arc::clone(a)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Arc<Shared>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the start.
    fn at(&self) -> Duration {
        self.started.elapsed()
    }

    fn now(&self) -> UnixTime {
        self.clock.now()
    }
}

/// What an admitted request has taken. Dropping it gives the stream back and books the tokens.
#[derive(Debug)]
pub struct Ticket {
    /// The account of a device with limits.
    held: Option<(Arc<Shared>, Clock)>,
    tally: Arc<Tally>,
    /// Tokens of the prompt, guessed.
    prompt: u64,
    quota: Option<Quota>,
    /// Tokens of the answer that the day still has.
    left: Option<u64>,
    counter: Option<Counter>,
    due: Due,
}

/// The tokens of one answer, for whoever tells of it at its end.
#[derive(Debug, Default)]
pub struct Tally {
    prompt: AtomicU64,
    output: AtomicU64,
}

impl Tally {
    /// Tokens of prompt and answer; none before the end.
    #[must_use]
    pub fn get(&self) -> Option<(u64, u64)> {
        match (
            self.prompt.load(Ordering::Relaxed),
            self.output.load(Ordering::Relaxed),
        ) {
            (0, 0) => None,
            both => Some(both),
        }
    }
}

/// What is booked if the ticket is dropped now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The model server did nothing, or refused.
    Nothing,
    /// It may have worked, and did not tell how much.
    Guess,
    /// It told all.
    Told,
}

impl Ticket {
    /// Where the device stands with its requests, if they are limited.
    #[must_use]
    pub const fn quota(&self) -> Option<Quota> {
        self.quota
    }

    /// The request goes to the model server now: from here on it costs.
    pub const fn sent(&mut self) {
        self.due = Due::Guess;
    }

    /// The answer begins. What is not a success costs nothing.
    pub const fn answered(&mut self, success: bool, framing: Framing) {
        if success {
            self.counter = Some(Counter::new(framing));
        } else {
            self.due = Due::Nothing;
        }
    }

    /// Where the tokens stand once the answer is over.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// The tokens that the answer has cost so far.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        let usage = self.counter.as_ref().map(Counter::usage).unwrap_or_default();
        match self.due {
            Due::Nothing => Tokens::default(),
            Due::Told => Tokens {
                prompt: usage.prompt.unwrap_or(self.prompt),
                output: usage.output.unwrap_or(usage.objects),
            },
            Due::Guess => Tokens {
                prompt: usage.prompt.unwrap_or(self.prompt),
                output: usage.output.unwrap_or_default().max(usage.objects),
            },
        }
    }
}

impl Observe for Ticket {
    fn chunk(&mut self, data: &Bytes) -> Result<(), Refusal> {
        let Some(counter) = &mut self.counter else {
            return Ok(());
        };
        counter.take(data);
        match self.left {
            Some(left) if counter.usage().objects > left => Err(Refusal::BudgetSpent),
            _ => Ok(()),
        }
    }

    fn end(&mut self, end: End) {
        if end == End::Whole && self.due == Due::Guess && self.counter.is_some() {
            self.due = Due::Told;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let tokens = self.tokens();
        self.tally.prompt.store(tokens.prompt, Ordering::Relaxed);
        self.tally.output.store(tokens.output, Ordering::Relaxed);
        let Some((account, clock)) = &self.held else {
            return;
        };
        let mut account = account.lock();
        account.end_stream();
        if tokens != Tokens::default() {
            account.spend(tokens, clock.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meters() -> Meters {
        let clock = Clock::Other(Arc::new(|| UnixTime::from_secs(43_200)));
        Meters::new(clock, ReplicaId::new(1))
    }

    fn kiosk() -> DeviceId {
        "kiosk-1".parse().unwrap()
    }

    fn tight() -> Limits {
        Limits {
            streams: 1.try_into().ok(),
            output_tokens_per_day: 3.try_into().ok(),
            ..Limits::default()
        }
    }

    fn pass(ticket: &mut Ticket, text: &'static str) -> Result<(), Refusal> {
        ticket.chunk(&Bytes::from_static(text.as_bytes()))
    }

    fn ticket(meters: &Meters) -> Ticket {
        let mut ticket = meters.admit(&kiosk(), &tight(), 400).unwrap();
        ticket.sent();
        ticket
    }

    #[test]
    fn without_limits_tokens_are_told_and_nothing_is_kept() {
        let meters = meters();
        let mut ticket = meters.admit(&kiosk(), &Limits::default(), 4).unwrap();
        let tally = ticket.tally();
        ticket.sent();
        ticket.answered(true, Framing::Whole);
        pass(&mut ticket, "{\"prompt_eval_count\":7,\"eval_count\":2}").unwrap();
        ticket.end(End::Whole);
        assert_eq!(tally.get(), None);
        drop(ticket);
        assert_eq!(tally.get(), Some((7, 2)));
        assert!(meters.all().is_empty());
    }

    #[test]
    fn an_answer_costs_what_the_server_told() {
        let meters = meters();
        let mut ticket = ticket(&meters);
        ticket.answered(true, Framing::Lines);
        assert!(meters.admit(&kiosk(), &tight(), 0).is_err());
        pass(&mut ticket, "{\"response\":\"x\"}\n").unwrap();
        pass(&mut ticket, "{\"prompt_eval_count\":7,\"eval_count\":2}\n").unwrap();
        ticket.end(End::Whole);
        drop(ticket);
        assert_eq!(meters.used(&kiosk()), (0, Tokens { prompt: 7, output: 2 }));
    }

    #[test]
    fn who_leaves_early_pays_for_what_passed() {
        let meters = meters();
        let mut left = ticket(&meters);
        left.answered(true, Framing::Lines);
        pass(&mut left, "{\"response\":\"x\"}\n{\"response\":\"y\"}\n{\"resp").unwrap();
        drop(left);
        let spent = Tokens {
            prompt: 100,
            output: 2,
        };
        assert_eq!(meters.used(&kiosk()), (0, spent));
        // Before the first byte, the prompt.
        drop(ticket(&meters));
        assert_eq!(meters.used(&kiosk()).1.prompt, 200);
    }

    #[test]
    fn what_the_server_refused_costs_nothing() {
        let meters = meters();
        let mut refused = ticket(&meters);
        refused.answered(false, Framing::Whole);
        pass(&mut refused, "{\"error\":\"no such model\",\"eval_count\":9}").unwrap();
        refused.end(End::Whole);
        drop(refused);
        // Nor does what was never sent.
        drop(meters.admit(&kiosk(), &tight(), 400).unwrap());
        assert_eq!(meters.used(&kiosk()), (0, Tokens::default()));
    }

    #[test]
    fn an_answer_ends_with_the_days_tokens() {
        let meters = meters();
        let mut ticket = ticket(&meters);
        ticket.answered(true, Framing::Lines);
        pass(&mut ticket, "{}\n{}\n{}\n").unwrap();
        assert_eq!(pass(&mut ticket, "{}\n"), Err(Refusal::BudgetSpent));
        drop(ticket);
        let over = meters.admit(&kiosk(), &tight(), 0).unwrap_err();
        assert_eq!(over.refusal, Refusal::BudgetSpent);
    }
}
