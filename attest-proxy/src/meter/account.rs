//! What one device has used of its limits: pure.
//!
//! Owns: the bucket of requests ([`bucket`](super::bucket)), the answers that run, and the tokens of the day, each against the
//! policy that holds now, and with what [`others`](super::others) have let it use. Time is an argument: `at` is monotonic
//! and fills the bucket, `now` is the wall clock and names the day.
//! Refuses: a request beyond the policy's limits, with the time after which another may come.

use std::time::Duration;

use domain::{Limits, UnixTime};
use protocol::Refusal;
use registry::{Day, ReplicaId, Running, SpentRecord, Version1, Versioned};

use super::{
    bucket::Bucket,
    others::{self, Requests},
};

/// Where a device stands with one of its limits, as `RateLimit-*` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The limit.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// Seconds until all of it is there again.
    pub reset: u64,
}

/// A request beyond a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}: {} of {} left, all of it in {} s", self.refusal.code(), self.quota.remaining, self.quota.limit, self.quota.reset)]
pub struct Over {
    /// Which one.
    pub refusal: Refusal,
    /// Where the device stands with it.
    pub quota: Quota,
    /// After how many seconds another request may succeed, at least 1.
    pub retry_after: u64,
}

/// Tokens of prompts and answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of prompts.
    pub prompt: u64,
    /// Of answers.
    pub output: u64,
}

impl Tokens {
    const fn plus(self, other: Self) -> Self {
        Self {
            prompt: self.prompt.saturating_add(other.prompt),
            output: self.output.saturating_add(other.output),
        }
    }

    const fn is_none(self) -> bool {
        self.prompt == 0 && self.output == 0
    }
}

/// What one device has used.
#[derive(Debug, Default)]
pub struct Account {
    bucket: Bucket,
    requests: Requests,
    streams: u64,
    /// Whether others are told of the streams: they are limited.
    tells_streams: bool,
    /// How many they were told of, and when.
    told_streams: Option<(u64, UnixTime)>,
    /// What the registry holds: of all proxies, this one's part that was written included.
    shared: Option<Versioned<SpentRecord>>,
    /// What was counted here and not written yet.
    unsent: (Option<Day>, Tokens),
}

impl Account {
    /// Takes a request and a stream, or says over which limit they are; then nothing was taken.
    ///
    /// # Errors
    /// [`Over`]: `budget-spent`, `too-many-streams` or `rate-limited`, the one with the longest wait first.
    pub fn admit(
        &mut self,
        limits: &Limits,
        us: ReplicaId,
        now: UnixTime,
        at: Duration,
    ) -> Result<Option<Quota>, Over> {
        self.check_budget(limits, now)?;
        self.tells_streams = limits.streams.is_some();
        if let Some(limit) = limits.streams
            && self.streams.saturating_add(self.elsewhere(us, now)) >= limit.get()
        {
            return Err(Over {
                refusal: Refusal::TooManyStreams,
                quota: Quota {
                    limit: limit.get(),
                    remaining: 0,
                    reset: 1,
                },
                retry_after: 1,
            });
        }
        let quota = limits
            .requests_per_minute
            .map(|limit| self.bucket.take(limit.get(), at))
            .transpose()?;
        if quota.is_some() {
            self.requests.count(Day::of(now));
        }
        self.streams = self.streams.saturating_add(1);
        Ok(quota)
    }

    /// Gives a stream back.
    pub const fn end_stream(&mut self) {
        self.streams = self.streams.saturating_sub(1);
    }

    /// Answers that run at other replicas.
    fn elsewhere(&self, us: ReplicaId, now: UnixTime) -> u64 {
        self.shared
            .as_ref()
            .map_or(0, |shared| others::running(&shared.value, us, now))
    }

    /// Answers that run here.
    #[must_use]
    pub const fn streams(&self) -> u64 {
        self.streams
    }

    fn check_budget(&self, limits: &Limits, now: UnixTime) -> Result<(), Over> {
        let spent = self.spent(now);
        for (limit, spent) in [
            (limits.prompt_tokens_per_day, spent.prompt),
            (limits.output_tokens_per_day, spent.output),
        ] {
            if let Some(limit) = limit
                && spent >= limit.get()
            {
                let left = Day::left(now);
                return Err(Over {
                    refusal: Refusal::BudgetSpent,
                    quota: Quota {
                        limit: limit.get(),
                        remaining: 0,
                        reset: left,
                    },
                    retry_after: left,
                });
            }
        }
        Ok(())
    }

    /// Tokens of answers that are left of the day; `None`: as many as it likes.
    #[must_use]
    pub fn output_left(&self, limits: &Limits, now: UnixTime) -> Option<u64> {
        let limit = limits.output_tokens_per_day?.get();
        Some(limit.saturating_sub(self.spent(now).output))
    }

    /// What was spent on the day of `now`, by all proxies as far as it is known here.
    #[must_use]
    pub fn spent(&self, now: UnixTime) -> Tokens {
        let today = Day::of(now);
        let shared = self.shared.as_ref().filter(|shared| shared.value.day == today);
        let shared = shared.map_or_else(Tokens::default, |shared| Tokens {
            prompt: shared.value.prompt_tokens,
            output: shared.value.output_tokens,
        });
        match self.unsent {
            (Some(day), tokens) if day == today => shared.plus(tokens),
            _ => shared,
        }
    }

    /// Counts what a request has used.
    pub fn spend(&mut self, tokens: Tokens, now: UnixTime) {
        let today = Day::of(now);
        self.unsent = match self.unsent {
            (Some(day), before) if day == today => (Some(day), before.plus(tokens)),
            // What was not written of yesterday counts for nothing any more.
            _ => (Some(today), tokens),
        };
    }

    /// What the registry holds now. Told twice or late, it changes nothing.
    pub fn learn(&mut self, shared: Option<Versioned<SpentRecord>>, at: Duration) {
        let shared = match (self.shared.take(), shared) {
            (Some(old), Some(new)) if old.revision > new.revision => Some(old),
            (_, new) => new,
        };
        self.relearn(shared, at);
    }

    /// What the registry held when it was read as a whole: of a device that never came here, the day's requests say nothing of the
    /// last minute.
    pub fn begin(&mut self, shared: Option<Versioned<SpentRecord>>, at: Duration) {
        if self.shared.is_none() && self.bucket.is_untouched() {
            self.requests.hear(shared.as_ref().map(|shared| &shared.value));
            self.shared = shared;
        } else {
            self.learn(shared, at);
        }
    }

    /// What the registry holds now, as it answered to a question: whatever was known before.
    pub fn relearn(&mut self, shared: Option<Versioned<SpentRecord>>, at: Duration) {
        let others = self.requests.hear(shared.as_ref().map(|shared| &shared.value));
        self.bucket.hear(others, at);
        self.shared = shared;
    }

    /// What to write to the registry, over which revision; `None`: nothing was counted here, and nothing runs that others
    /// must know of.
    #[must_use]
    pub fn to_write(&self, us: ReplicaId, now: UnixTime) -> Option<Writing> {
        let today = Day::of(now);
        let tokens = match self.unsent {
            (Some(day), tokens) if day == today => tokens,
            _ => Tokens::default(),
        };
        let requests = self.requests.unsent(today);
        let streams = if self.tells_streams { self.streams } else { 0 };
        if tokens.is_none() && requests == 0 && self.knows_streams(streams, now) {
            return None;
        }
        let all = self.spent(now);
        let shared = self.shared.as_ref().map(|shared| &shared.value);
        let mut running = shared.map(|shared| shared.running.clone()).unwrap_or_default();
        running.retain(|replica, running| *replica != us && others::is_fresh(running, now));
        if streams > 0 {
            running.insert(us, Running { streams, at: now });
        }
        let counted = shared
            .filter(|shared| shared.day == today)
            .map_or(0, |s| s.requests);
        Some(Writing {
            record: SpentRecord {
                version: Version1,
                day: today,
                prompt_tokens: all.prompt,
                output_tokens: all.output,
                requests: counted.saturating_add(requests),
                running,
            },
            requests,
            streams: (streams, now),
            over: self.shared.as_ref().map(|shared| shared.revision),
            tokens,
        })
    }

    /// Whether others know of so many streams: they were told, and not so long ago that they do not believe it any more.
    fn knows_streams(&self, streams: u64, now: UnixTime) -> bool {
        match self.told_streams {
            None => streams == 0,
            Some((told, at)) => {
                told == streams && (streams == 0 || at.as_secs().abs_diff(now.as_secs()) < others::FRESH / 2)
            }
        }
    }

    /// `writing` was written at a revision: what it counted is the registry's now.
    pub fn written(&mut self, writing: &Writing, record: Versioned<SpentRecord>, at: Duration) {
        self.requests.written(writing.record.day, writing.requests);
        self.told_streams = Some(writing.streams);
        if let (Some(day), tokens) = &mut self.unsent
            && *day == writing.record.day
        {
            tokens.prompt = tokens.prompt.saturating_sub(writing.tokens.prompt);
            tokens.output = tokens.output.saturating_sub(writing.tokens.output);
        }
        self.learn(Some(record), at);
    }
}

/// A sum on its way to the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writing {
    /// The sum.
    pub record: SpentRecord,
    /// The write that it goes over; `None`: the first.
    pub over: Option<registry::Revision>,
    tokens: Tokens,
    requests: u64,
    streams: (u64, UnixTime),
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: ReplicaId = ReplicaId::new(1);

    const NOON: UnixTime = UnixTime::from_secs(43_200);

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn requests(n: u64) -> Limits {
        Limits {
            requests_per_minute: n.try_into().ok(),
            ..Limits::default()
        }
    }

    fn budget(prompt: u64, output: u64) -> Limits {
        Limits {
            prompt_tokens_per_day: prompt.try_into().ok(),
            output_tokens_per_day: output.try_into().ok(),
            ..Limits::default()
        }
    }

    fn shared(day: UnixTime, prompt: u64, output: u64, revision: u64) -> Versioned<SpentRecord> {
        Versioned {
            value: SpentRecord {
                version: Version1,
                day: Day::of(day),
                prompt_tokens: prompt,
                output_tokens: output,
                requests: 0,
                running: [].into(),
            },
            revision: registry::Revision::new(revision),
        }
    }

    #[test]
    fn without_limits_nothing_is_refused() {
        let mut account = Account::default();
        for _ in 0..1000 {
            assert_eq!(account.admit(&Limits::default(), US, NOON, secs(0)), Ok(None));
        }
        assert_eq!(account.streams(), 1000);
    }

    #[test]
    fn a_minutes_requests_come_at_once_and_then_one_by_one() {
        let mut account = Account::default();
        for left in (0..5).rev() {
            let quota = account.admit(&requests(5), US, NOON, secs(0)).unwrap().unwrap();
            assert_eq!((quota.limit, quota.remaining), (5, left));
        }
        let over = account.admit(&requests(5), US, NOON, secs(0)).unwrap_err();
        assert_eq!(
            (over.refusal, over.retry_after, over.quota.reset),
            (Refusal::RateLimited, 12, 60)
        );
        assert!(account.admit(&requests(5), US, NOON, secs(11)).is_err());
        // After what was told, another one passes, and not two.
        assert!(account.admit(&requests(5), US, NOON, secs(12)).is_ok());
        assert!(account.admit(&requests(5), US, NOON, secs(12)).is_err());
        // A policy that allows less counts at once.
        assert_eq!(
            account
                .admit(&requests(1), US, NOON, secs(600))
                .unwrap()
                .unwrap()
                .remaining,
            0
        );
    }

    #[test]
    fn streams_are_bounded_and_given_back() {
        let limits = Limits {
            streams: 2.try_into().ok(),
            requests_per_minute: 3.try_into().ok(),
            ..Limits::default()
        };
        let mut account = Account::default();
        account.admit(&limits, US, NOON, secs(0)).unwrap();
        account.admit(&limits, US, NOON, secs(0)).unwrap();
        let over = account.admit(&limits, US, NOON, secs(0)).unwrap_err();
        assert_eq!(over.refusal, Refusal::TooManyStreams);
        account.end_stream();
        // The one that was refused took no request of the three.
        assert_eq!(
            account
                .admit(&limits, US, NOON, secs(0))
                .unwrap()
                .unwrap()
                .remaining,
            0
        );
    }

    #[test]
    fn a_budget_is_for_a_day() {
        let mut account = Account::default();
        account.spend(
            Tokens {
                prompt: 99,
                output: 10,
            },
            NOON,
        );
        assert!(account.admit(&budget(100, 11), US, NOON, secs(0)).is_ok());
        assert_eq!(account.output_left(&budget(100, 11), NOON), Some(1));
        for limits in [budget(99, 1000), budget(1000, 10), budget(5, 5)] {
            let over = account.admit(&limits, US, NOON, secs(0)).unwrap_err();
            assert_eq!((over.refusal, over.retry_after), (Refusal::BudgetSpent, 43_200));
        }
        let tomorrow = UnixTime::from_secs(86_400);
        assert!(account.admit(&budget(5, 5), US, tomorrow, secs(0)).is_ok());
    }

    #[test]
    fn what_others_spent_counts() {
        let mut account = Account::default();
        account.learn(Some(shared(NOON, 50, 5, 3)), secs(0));
        account.spend(Tokens { prompt: 1, output: 1 }, NOON);
        assert_eq!(
            account.spent(NOON),
            Tokens {
                prompt: 51,
                output: 6
            }
        );
        // Older news, late.
        account.learn(Some(shared(NOON, 1, 1, 2)), secs(0));
        assert_eq!(account.spent(NOON).prompt, 51);
        // Another proxy wrote between.
        let writing = account.to_write(US, NOON).unwrap();
        assert_eq!(writing.over, Some(registry::Revision::new(3)));
        account.relearn(Some(shared(NOON, 70, 5, 4)), secs(0));
        let writing = account.to_write(US, NOON).unwrap();
        assert_eq!(
            (writing.record.prompt_tokens, writing.record.output_tokens),
            (71, 6)
        );
        // What is counted while it is written is not lost.
        account.spend(Tokens { prompt: 2, output: 0 }, NOON);
        account.written(&writing, shared(NOON, 71, 6, 5), secs(0));
        assert_eq!(
            account.spent(NOON),
            Tokens {
                prompt: 73,
                output: 6
            }
        );
        let rest = account.to_write(US, NOON).unwrap();
        account.written(&rest, shared(NOON, 73, 6, 6), secs(0));
        assert_eq!(account.to_write(US, NOON), None);
        // An operator gave the day back.
        account.learn(None, secs(0));
        assert_eq!(account.spent(NOON), Tokens::default());
    }

    #[test]
    fn streams_that_run_elsewhere_count_until_nobody_speaks_of_them() {
        let limits = Limits {
            streams: 3.try_into().ok(),
            ..Limits::default()
        };
        let (mut here, mut there) = (Account::default(), Account::default());
        let them = ReplicaId::new(2);
        there.admit(&limits, them, NOON, secs(0)).unwrap();
        there.admit(&limits, them, NOON, secs(0)).unwrap();
        let writing = there.to_write(them, NOON).unwrap();
        assert_eq!(
            (writing.record.requests, writing.record.running[&them].streams),
            (0, 2)
        );
        let told = Versioned {
            value: writing.record.clone(),
            revision: registry::Revision::new(4),
        };
        there.written(&writing, told.clone(), secs(0));
        // Told once, they are told again before they are no longer believed.
        assert_eq!(there.to_write(them, NOON), None);
        assert!(there.to_write(them, UnixTime::from_secs(43_210)).is_some());
        here.learn(Some(told), secs(0));
        here.admit(&limits, US, NOON, secs(0)).unwrap();
        let over = here.admit(&limits, US, NOON, secs(0)).unwrap_err();
        assert_eq!(over.refusal, Refusal::TooManyStreams);
        // What we write leaves theirs as it is, until it is old.
        let ours = here.to_write(US, NOON).unwrap().record.running;
        assert_eq!((ours[&US].streams, ours[&them].streams), (1, 2));
        let later = UnixTime::from_secs(43_221);
        assert!(
            !here
                .to_write(US, later)
                .unwrap()
                .record
                .running
                .contains_key(&them)
        );
        here.admit(&limits, US, later, secs(0)).unwrap();
        // Where all have ended, that is told too.
        there.end_stream();
        there.end_stream();
        assert_eq!(there.to_write(them, NOON).unwrap().record.running.len(), 0);
    }

    #[test]
    fn requests_are_written_as_one_sum() {
        let mut account = Account::default();
        for _ in 0..3 {
            account.admit(&requests(5), US, NOON, secs(0)).unwrap();
        }
        let mut others = shared(NOON, 0, 0, 7);
        others.value.requests = 1;
        account.learn(Some(others), secs(0));
        let writing = account.to_write(US, NOON).unwrap();
        assert_eq!(writing.record.requests, 4);
        let mut written = shared(NOON, 0, 0, 8);
        written.value.requests = 4;
        account.written(&writing, written, secs(0));
        assert_eq!(account.to_write(US, NOON), None);
        let quota = account.admit(&requests(5), US, NOON, secs(0)).unwrap().unwrap();
        assert_eq!(quota.remaining, 0);
        assert!(account.admit(&requests(5), US, NOON, secs(0)).is_err());
    }

    #[test]
    fn a_replica_that_starts_does_not_take_a_day_for_a_minute() {
        let mut account = Account::default();
        let mut day = shared(NOON, 0, 0, 7);
        day.value.requests = 900;
        account.begin(Some(day.clone()), secs(0));
        assert_eq!(
            account
                .admit(&requests(5), US, NOON, secs(0))
                .unwrap()
                .unwrap()
                .remaining,
            4
        );
        // The same, read as a whole once more, is no news; three more are.
        account.begin(Some(day.clone()), secs(0));
        day.value.requests = 903;
        day.revision = registry::Revision::new(8);
        account.begin(Some(day), secs(0));
        assert_eq!(
            account
                .admit(&requests(5), US, NOON, secs(0))
                .unwrap()
                .unwrap()
                .remaining,
            0
        );
    }
}
