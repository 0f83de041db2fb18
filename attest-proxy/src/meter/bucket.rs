//! The bucket of a device's requests: pure.
//!
//! Owns: how full it is. A minute's requests fit in, each millisecond brings its share, a request takes one. What other
//! replicas took is taken out at the time at which it was heard of, so the level can be below nothing for a while; it is kept
//! until the next request tells how large the bucket is.
//! Limits: of news beyond the last [`NEWS`] nothing is kept: they are older than a minute.

use std::{collections::VecDeque, time::Duration};

use protocol::Refusal;

use super::{Over, Quota};

/// One request's share of the bucket: milliseconds of a minute, so that each millisecond brings `limit` of them.
const SHARE: u64 = 60_000;
/// News of other replicas that are kept; they write each 5 s.
const NEWS: usize = 16;
/// How many minutes' worth the level can be below nothing: whatever the registry says, it ends.
const DEEPEST: u64 = 16;

/// How many requests a device may make now.
#[derive(Debug, Clone, Default)]
pub(super) struct Bucket {
    /// How full it was, and when; `None`: full.
    level: Option<(i128, Duration)>,
    /// Requests that others took, and when that was heard of, the oldest first. Below nothing: fewer than was thought.
    news: VecDeque<(Duration, i64)>,
}

impl Bucket {
    /// Takes a request, or says when there is one.
    pub(super) fn take(&mut self, limit: u64, at: Duration) -> Result<Quota, Over> {
        let full = i128::from(limit.saturating_mul(SHARE));
        let (mut level, mut since) = self.level.unwrap_or((full, Duration::ZERO));
        if !self.news.is_empty() {
            let deepest = -full.saturating_mul(DEEPEST.into());
            for (heard, others) in self.news.drain(..) {
                level = filled(level, limit, full, heard.saturating_sub(since));
                level = level.saturating_sub(i128::from(others).saturating_mul(SHARE.into()));
                level = level.clamp(deepest, full);
                since = since.max(heard.min(at));
            }
        }
        level = filled(level, limit, full, at.saturating_sub(since));
        let share = i128::from(SHARE);
        let taken = level >= share;
        if taken {
            level -= share;
        }
        // A clock that stands still gives nothing twice: the time of the last look counts even when it was in vain.
        self.level = Some((level, at));
        let seconds = |missing: i128| {
            let millis = u64::try_from(missing.max(0))
                .unwrap_or(u64::MAX)
                .div_ceil(limit.max(1));
            millis.div_ceil(1000)
        };
        let quota = Quota {
            limit,
            remaining: u64::try_from(level.max(0) / share).unwrap_or(u64::MAX),
            reset: seconds(full.saturating_sub(level)),
        };
        if taken {
            return Ok(quota);
        }
        Err(Over {
            refusal: Refusal::RateLimited,
            quota,
            retry_after: seconds(share.saturating_sub(level)).max(1),
        })
    }

    /// Others took so many, or so many fewer than was thought.
    pub(super) fn hear(&mut self, others: i64, at: Duration) {
        if others == 0 {
            return;
        }
        if self.news.len() >= NEWS {
            self.news.pop_front();
        }
        self.news.push_back((at, others));
    }

    /// Whether nobody has taken anything, as far as is known.
    pub(super) fn is_untouched(&self) -> bool {
        self.level.is_none() && self.news.is_empty()
    }
}

fn filled(level: i128, limit: u64, full: i128, passed: Duration) -> i128 {
    let millis = i128::try_from(passed.as_millis()).unwrap_or(i128::MAX);
    level
        .saturating_add(millis.saturating_mul(limit.into()))
        .min(full)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn what_others_took_is_not_there() {
        let mut bucket = Bucket::default();
        bucket.hear(4, secs(0));
        assert_eq!(bucket.take(5, secs(0)).unwrap().remaining, 0);
        assert_eq!(bucket.take(5, secs(0)).unwrap_err().retry_after, 12);
        // More than there was: it takes longer until there is one again.
        bucket.hear(5, secs(0));
        let over = bucket.take(5, secs(0)).unwrap_err();
        assert_eq!(
            (over.retry_after, over.quota.remaining, over.quota.reset),
            (72, 0, 120)
        );
        assert!(bucket.take(5, secs(71)).is_err());
        assert!(bucket.take(5, secs(72)).is_ok());
        // It was a mistake.
        bucket.hear(-3, secs(72));
        assert_eq!(bucket.take(5, secs(72)).unwrap().remaining, 2);
    }

    #[test]
    fn what_others_took_long_ago_is_there_again() {
        let mut bucket = Bucket::default();
        bucket.hear(5, secs(1));
        assert_eq!(bucket.take(5, secs(61)).unwrap().remaining, 4);
        let mut steady = Bucket::default();
        // An hour of what may be: nobody is in debt after it.
        for nth in 1..720 {
            steady.hear(5, secs(nth * 5));
        }
        assert!(steady.take(60, secs(3600)).unwrap().remaining >= 54);
    }

    #[test]
    fn whatever_is_heard_it_ends() {
        let mut bucket = Bucket::default();
        for nth in 0..40 {
            bucket.hear(i64::MAX, secs(nth));
        }
        assert!(bucket.take(1, secs(40)).is_err());
        assert!(bucket.take(1, secs(60 * 17 + 40)).is_ok());
        bucket.hear(i64::MIN, secs(60 * 17 + 40));
        assert_eq!(bucket.take(1, secs(60 * 17 + 40)).unwrap().remaining, 0);
    }

    proptest! {
        #[test]
        fn in_any_minute_at_most_two_minutes_worth_pass(
            limit in 1_u64..40,
            steps in proptest::collection::vec((0_u64..5_000, 0_i64..3), 1..400),
        ) {
            let mut bucket = Bucket::default();
            let mut at = 0;
            let mut passed: Vec<u64> = Vec::new();
            for (step, others) in steps {
                at += step;
                bucket.hear(others, Duration::from_millis(at));
                match bucket.take(limit, Duration::from_millis(at)) {
                    Ok(_) => passed.push(at),
                    Err(over) => {
                        // What is told is enough, to the second.
                        let then = Duration::from_millis(at) + secs(over.retry_after);
                        prop_assert!(bucket.clone().take(limit, then).is_ok());
                    }
                }
            }
            for (nth, start) in passed.iter().enumerate() {
                let within = passed[nth..].iter().take_while(|t| **t < start + 60_000).count();
                prop_assert!(within as u64 <= 2 * limit);
            }
        }

        /// Two replicas that tell each other after every few requests let through what one alone would, and what came
        /// between two tellings.
        #[test]
        fn two_that_tell_each_other_are_nearly_one(
            limit in 2_u64..30,
            steps in proptest::collection::vec((0_u64..1_500, any::<bool>()), 1..600),
        ) {
            let mut buckets = [Bucket::default(), Bucket::default()];
            let mut untold = [0_i64; 2];
            let (mut at, mut told, mut passed, mut late) = (0_u64, 0_u64, 0_u64, 0_u64);
            for (step, which) in steps {
                at += step;
                let (now, which) = (Duration::from_millis(at), usize::from(which));
                if at - told >= 5_000 {
                    told = at;
                    late = late.max(untold[0].min(untold[1]).try_into().unwrap());
                    buckets[0].hear(untold[1], now);
                    buckets[1].hear(untold[0], now);
                    untold = [0; 2];
                }
                if buckets[which].take(limit, now).is_ok() {
                    passed += 1;
                    untold[which] += 1;
                }
            }
            // A full bucket each, and what came in; not twice what came in.
            prop_assert!(passed <= 2 * limit + limit * at / 60_000 + 2 * limit * 6_500 / 60_000 + 2, "{passed} in {at} ms");
        }
    }
}
