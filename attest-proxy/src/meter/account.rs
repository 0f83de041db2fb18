//! What one device has used of its limits: pure.
//!
//! Owns: the bucket of requests, the answers that run, and the tokens of the day, each against the policy that holds
//! now. Time is an argument: `at` is monotonic and fills the bucket, `now` is the wall clock and names the day.
//! Refuses: a request beyond the policy's limits, with the time after which another may come.

use std::time::Duration;

use domain::{Limits, UnixTime};
use protocol::Refusal;
use registry::{Day, SpentRecord, Version1, Versioned};

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

/// One request's share of the bucket: milliseconds of a minute, so that each millisecond brings `limit` of them.
const SHARE: u64 = 60_000;

/// What one device has used.
#[derive(Debug, Default)]
pub struct Account {
    bucket: Option<Bucket>,
    streams: u64,
    /// What the registry holds: of all proxies, this one's part that was written included.
    shared: Option<Versioned<SpentRecord>>,
    /// What was counted here and not written yet.
    unsent: (Option<Day>, Tokens),
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: u64,
    at: Duration,
}

impl Account {
    /// Takes a request and a stream, or says over which limit they are; then nothing was taken.
    ///
    /// # Errors
    /// [`Over`]: `budget-spent`, `too-many-streams` or `rate-limited`, the one with the longest wait first.
    pub fn admit(&mut self, limits: &Limits, now: UnixTime, at: Duration) -> Result<Option<Quota>, Over> {
        self.check_budget(limits, now)?;
        if let Some(limit) = limits.streams
            && self.streams >= limit.get()
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
            .map(|limit| self.take_request(limit.get(), at))
            .transpose()?;
        self.streams = self.streams.saturating_add(1);
        Ok(quota)
    }

    /// Gives a stream back.
    pub const fn end_stream(&mut self) {
        self.streams = self.streams.saturating_sub(1);
    }

    /// Answers that run.
    #[must_use]
    pub const fn streams(&self) -> u64 {
        self.streams
    }

    fn take_request(&mut self, limit: u64, at: Duration) -> Result<Quota, Over> {
        let full = limit.saturating_mul(SHARE);
        let level = match self.bucket {
            None => full,
            Some(bucket) => {
                let passed = at.saturating_sub(bucket.at).as_millis();
                let gained = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(limit);
                bucket.level.saturating_add(gained).min(full)
            }
        };
        let left = level.checked_sub(SHARE);
        let level = left.unwrap_or(level);
        // A clock that stands still gives nothing twice: the time of the last look counts even when it was in vain.
        self.bucket = Some(Bucket { level, at });
        let seconds = |missing: u64| missing.div_ceil(limit.max(1)).div_ceil(1000);
        let quota = Quota {
            limit,
            remaining: level / SHARE,
            reset: seconds(full.saturating_sub(level)),
        };
        if left.is_some() {
            return Ok(quota);
        }
        Err(Over {
            refusal: Refusal::RateLimited,
            quota,
            retry_after: seconds(SHARE.saturating_sub(level)).max(1),
        })
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
    pub fn learn(&mut self, shared: Option<Versioned<SpentRecord>>) {
        self.shared = match (self.shared.take(), shared) {
            (Some(old), Some(new)) if old.revision > new.revision => Some(old),
            (_, new) => new,
        };
    }

    /// What the registry holds now, as it answered to a question: whatever was known before.
    pub fn relearn(&mut self, shared: Option<Versioned<SpentRecord>>) {
        self.shared = shared;
    }

    /// What to write to the registry, over which revision; `None`: nothing was counted here.
    #[must_use]
    pub fn to_write(&self, now: UnixTime) -> Option<Writing> {
        let today = Day::of(now);
        let tokens = match self.unsent {
            (Some(day), tokens) if day == today && !tokens.is_none() => tokens,
            _ => return None,
        };
        let all = self.spent(now);
        Some(Writing {
            record: SpentRecord {
                version: Version1,
                day: today,
                prompt_tokens: all.prompt,
                output_tokens: all.output,
            },
            over: self.shared.as_ref().map(|shared| shared.revision),
            tokens,
        })
    }

    /// `writing` was written at a revision: its tokens are the registry's now.
    pub fn written(&mut self, writing: &Writing, record: Versioned<SpentRecord>) {
        if let (Some(day), tokens) = &mut self.unsent
            && *day == writing.record.day
        {
            tokens.prompt = tokens.prompt.saturating_sub(writing.tokens.prompt);
            tokens.output = tokens.output.saturating_sub(writing.tokens.output);
        }
        self.learn(Some(record));
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
            },
            revision: registry::Revision::new(revision),
        }
    }

    #[test]
    fn without_limits_nothing_is_refused() {
        let mut account = Account::default();
        for _ in 0..1000 {
            assert_eq!(account.admit(&Limits::default(), NOON, secs(0)), Ok(None));
        }
        assert_eq!(account.streams(), 1000);
    }

    #[test]
    fn a_minutes_requests_come_at_once_and_then_one_by_one() {
        let mut account = Account::default();
        for left in (0..5).rev() {
            let quota = account.admit(&requests(5), NOON, secs(0)).unwrap().unwrap();
            assert_eq!((quota.limit, quota.remaining), (5, left));
        }
        let over = account.admit(&requests(5), NOON, secs(0)).unwrap_err();
        assert_eq!(
            (over.refusal, over.retry_after, over.quota.reset),
            (Refusal::RateLimited, 12, 60)
        );
        assert!(account.admit(&requests(5), NOON, secs(11)).is_err());
        // After what was told, another one passes, and not two.
        assert!(account.admit(&requests(5), NOON, secs(12)).is_ok());
        assert!(account.admit(&requests(5), NOON, secs(12)).is_err());
        // A policy that allows less counts at once.
        assert_eq!(
            account
                .admit(&requests(1), NOON, secs(600))
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
        account.admit(&limits, NOON, secs(0)).unwrap();
        account.admit(&limits, NOON, secs(0)).unwrap();
        let over = account.admit(&limits, NOON, secs(0)).unwrap_err();
        assert_eq!(over.refusal, Refusal::TooManyStreams);
        account.end_stream();
        // The one that was refused took no request of the three.
        assert_eq!(
            account.admit(&limits, NOON, secs(0)).unwrap().unwrap().remaining,
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
        assert!(account.admit(&budget(100, 11), NOON, secs(0)).is_ok());
        assert_eq!(account.output_left(&budget(100, 11), NOON), Some(1));
        for limits in [budget(99, 1000), budget(1000, 10), budget(5, 5)] {
            let over = account.admit(&limits, NOON, secs(0)).unwrap_err();
            assert_eq!((over.refusal, over.retry_after), (Refusal::BudgetSpent, 43_200));
        }
        let tomorrow = UnixTime::from_secs(86_400);
        assert!(account.admit(&budget(5, 5), tomorrow, secs(0)).is_ok());
    }

    #[test]
    fn what_others_spent_counts() {
        let mut account = Account::default();
        account.learn(Some(shared(NOON, 50, 5, 3)));
        account.spend(Tokens { prompt: 1, output: 1 }, NOON);
        assert_eq!(
            account.spent(NOON),
            Tokens {
                prompt: 51,
                output: 6
            }
        );
        // Older news, late.
        account.learn(Some(shared(NOON, 1, 1, 2)));
        assert_eq!(account.spent(NOON).prompt, 51);
        // Another proxy wrote between.
        let writing = account.to_write(NOON).unwrap();
        assert_eq!(writing.over, Some(registry::Revision::new(3)));
        account.relearn(Some(shared(NOON, 70, 5, 4)));
        let writing = account.to_write(NOON).unwrap();
        assert_eq!(
            (writing.record.prompt_tokens, writing.record.output_tokens),
            (71, 6)
        );
        // What is counted while it is written is not lost.
        account.spend(Tokens { prompt: 2, output: 0 }, NOON);
        account.written(&writing, shared(NOON, 71, 6, 5));
        assert_eq!(
            account.spent(NOON),
            Tokens {
                prompt: 73,
                output: 6
            }
        );
        let rest = account.to_write(NOON).unwrap();
        account.written(&rest, shared(NOON, 73, 6, 6));
        assert_eq!(account.to_write(NOON), None);
        // An operator gave the day back.
        account.learn(None);
        assert_eq!(account.spent(NOON), Tokens::default());
    }

    proptest! {
        #[test]
        fn in_any_minute_at_most_two_minutes_worth_pass(
            limit in 1_u64..40,
            steps in proptest::collection::vec(0_u64..5_000, 1..400),
        ) {
            let mut account = Account::default();
            let mut at = 0;
            let mut passed: Vec<u64> = Vec::new();
            for step in steps {
                at += step;
                match account.admit(&requests(limit), NOON, Duration::from_millis(at)) {
                    Ok(_) => passed.push(at),
                    Err(over) => {
                        // What is told is enough, to the second.
                        let mut later = Account { bucket: account.bucket, ..Account::default() };
                        let then = Duration::from_millis(at) + secs(over.retry_after);
                        prop_assert!(later.admit(&requests(limit), NOON, then).is_ok());
                    }
                }
            }
            for (nth, start) in passed.iter().enumerate() {
                let within = passed[nth..].iter().take_while(|t| **t < start + 60_000).count();
                prop_assert!(within as u64 <= 2 * limit);
            }
        }
    }
}
