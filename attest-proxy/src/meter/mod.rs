//! What a device may use: requests in a minute, answers at a time, tokens in a day.
//!
//! Owns: one [`Account`] for each device that was ever admitted here under a policy with limits, and the [`Ticket`] that an
//! admitted request carries until its answer has ended, however it ends. A request is metered after its proof was
//! accepted, so that nobody who merely holds a stolen key can use up the device's limits.
//! Refuses: `rate-limited`, `too-many-streams`, `budget-spent`, each with the time after which to come again. An answer
//! that goes on beyond the day's tokens is ended in mid-stream.
//! A client that leaves before the last object, which has the numbers, pays by what passed: a token for each object
//! of the answer, and one for each four bytes of its body as the prompt.
//! Limits today: requests and streams are counted by each replica for itself; tokens are shared through the registry, some
//! seconds late ([`share`]). A budget can be overdrawn by what is running when it ends, at most by one answer a stream
//! where the answer is not streamed.

mod account;
mod count;
pub mod share;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use domain::{DeviceId, UnixTime};
use registry::{Snapshot, SpentRecord, Versioned};

pub use account::{Account, Allowance, Over, Quota, Tokens, Writing};
pub use count::{Counter, Framing, Usage};

use crate::clock::Clock;

/// How many bytes of a prompt are one token, where nobody told: English text in the tokenizers of today.
const BYTES_PER_TOKEN: u64 = 4;

/// The accounts of all devices.
#[derive(Debug)]
pub struct Meters {
    accounts: Mutex<HashMap<DeviceId, Arc<Shared>>>,
    started: Instant,
    clock: Clock,
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
    /// Nobody has used anything.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            accounts: Mutex::default(),
            started: Instant::now(),
            clock,
        }
    }

    /// Takes a request of `device` whose body has `body` bytes, or says over which limit it is. `None`: its policy
    /// has no limits, and nothing is counted.
    ///
    /// # Errors
    /// [`Over`]; nothing was taken then.
    pub fn admit(
        &self,
        device: &DeviceId,
        allowance: &Allowance,
        body: usize,
    ) -> Result<Option<Ticket>, Over> {
        if *allowance == Allowance::default() {
            return Ok(None);
        }
        let account = self.account(device);
        let now = self.clock.now();
        let (quota, left) = {
            let mut account = account.lock();
            let quota = account.admit(allowance, now, self.started.elapsed())?;
            (quota, account.output_left(allowance, now))
        };
        let body = u64::try_from(body).unwrap_or(u64::MAX);
        Ok(Some(Ticket {
            account,
            clock: self.clock.clone(),
            prompt: body / BYTES_PER_TOKEN,
            quota,
            left,
            counter: None,
            due: Due::Nothing,
        }))
    }

    /// Takes what a snapshot of the registry says was spent: of every device that is known here.
    pub fn snapshot(&self, snapshot: &Snapshot) {
        let known: Vec<_> = self.all();
        for (device, account) in known {
            account.lock().learn(snapshot.spent(&device).cloned());
        }
        for (device, spent) in snapshot.all_spent() {
            self.account(device).lock().learn(Some(spent.clone()));
        }
    }

    /// Takes what the registry says of one device.
    pub fn told(&self, device: &DeviceId, spent: Option<Versioned<SpentRecord>>) {
        self.account(device).lock().learn(spent);
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

    fn now(&self) -> UnixTime {
        self.clock.now()
    }
}

/// What an admitted request has taken. Dropping it gives the stream back and books the tokens.
#[derive(Debug)]
pub struct Ticket {
    account: Arc<Shared>,
    clock: Clock,
    /// Tokens of the prompt, guessed.
    prompt: u64,
    quota: Option<Quota>,
    /// Tokens of the answer that the day still has.
    left: Option<u64>,
    counter: Option<Counter>,
    due: Due,
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

/// Whether an answer may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It may.
    On,
    /// The day's tokens are used up.
    Over,
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

    /// Takes the next bytes of the answer.
    pub fn passed(&mut self, bytes: &[u8]) -> Flow {
        let Some(counter) = &mut self.counter else {
            return Flow::On;
        };
        counter.take(bytes);
        match self.left {
            Some(left) if counter.usage().objects > left => Flow::Over,
            _ => Flow::On,
        }
    }

    /// The answer has ended as it should.
    pub fn ended(&mut self) {
        if self.due == Due::Guess && self.counter.is_some() {
            self.due = Due::Told;
        }
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

impl Drop for Ticket {
    fn drop(&mut self) {
        let tokens = self.tokens();
        let mut account = self.account.lock();
        account.end_stream();
        if tokens != Tokens::default() {
            account.spend(tokens, self.clock.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn meters() -> Meters {
        let clock = Clock::Other(Arc::new(|| UnixTime::from_secs(43_200)));
        Meters::new(clock)
    }

    fn kiosk() -> DeviceId {
        "kiosk-1".parse().unwrap()
    }

    fn tight() -> Allowance {
        Allowance {
            streams: NonZeroU64::new(1),
            output_tokens: NonZeroU64::new(3),
            ..Allowance::default()
        }
    }

    fn ticket(meters: &Meters) -> Ticket {
        let mut ticket = meters.admit(&kiosk(), &tight(), 400).unwrap().unwrap();
        ticket.sent();
        ticket
    }

    #[test]
    fn a_policy_without_limits_counts_nothing() {
        let meters = meters();
        assert!(
            meters
                .admit(&kiosk(), &Allowance::default(), 4)
                .unwrap()
                .is_none()
        );
        assert!(meters.all().is_empty());
    }

    #[test]
    fn an_answer_costs_what_the_server_told() {
        let meters = meters();
        let mut ticket = ticket(&meters);
        ticket.answered(true, Framing::Lines);
        assert!(meters.admit(&kiosk(), &tight(), 0).is_err());
        assert_eq!(ticket.passed(b"{\"response\":\"x\"}\n"), Flow::On);
        ticket.passed(b"{\"prompt_eval_count\":7,\"eval_count\":2}\n");
        ticket.ended();
        drop(ticket);
        assert_eq!(meters.used(&kiosk()), (0, Tokens { prompt: 7, output: 2 }));
    }

    #[test]
    fn who_leaves_early_pays_for_what_passed() {
        let meters = meters();
        let mut left = ticket(&meters);
        left.answered(true, Framing::Lines);
        left.passed(b"{\"response\":\"x\"}\n{\"response\":\"y\"}\n{\"resp");
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
        refused.passed(b"{\"error\":\"no such model\",\"eval_count\":9}");
        refused.ended();
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
        assert_eq!(ticket.passed(b"{}\n{}\n{}\n"), Flow::On);
        assert_eq!(ticket.passed(b"{}\n"), Flow::Over);
        drop(ticket);
        let over = meters.admit(&kiosk(), &tight(), 0).unwrap_err();
        assert_eq!(over.refusal, protocol::Refusal::BudgetSpent);
    }
}
