//! What other replicas let a device use, as far as the registry's record tells: pure.
//!
//! Owns: which of a record's requests are ours and which are theirs, and whose running answers still count. The record
//! is one sum of the day's requests; what we wrote into it is known here. News of our own writing may come before the
//! writing is known to have succeeded: they are taken for others' then, and taken back.

use domain::UnixTime;
use registry::{Day, ReplicaId, Running, SpentRecord};

/// For how long a replica's running answers count after it told of them: it tells each 5 s.
pub(super) const FRESH: u64 = 20;

/// The requests of one day.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Requests {
    day: Option<Day>,
    /// Counted here, not in the record yet.
    unsent: u64,
    /// Counted here, in the record.
    sent: u64,
    /// Counted by others, and taken out of the bucket.
    others: u64,
}

impl Requests {
    /// One was counted here.
    pub(super) fn count(&mut self, today: Day) {
        self.turn(today);
        self.unsent = self.unsent.saturating_add(1);
    }

    /// What is to be written on `today`.
    pub(super) fn unsent(&self, today: Day) -> u64 {
        if self.day == Some(today) { self.unsent } else { 0 }
    }

    /// So many of `day` are in the record now.
    pub(super) fn written(&mut self, day: Day, requests: u64) {
        if self.day == Some(day) {
            self.unsent = self.unsent.saturating_sub(requests);
            self.sent = self.sent.saturating_add(requests);
        }
    }

    /// What the record says now; how many more others took than was known, or how many fewer.
    pub(super) fn hear(&mut self, record: Option<&SpentRecord>) -> i64 {
        let Some(record) = record else {
            // It was deleted: ours are no longer in it, and others' are forgiven.
            (self.sent, self.others) = (0, 0);
            return 0;
        };
        if self.day.is_some_and(|day| day > record.day) {
            return 0;
        }
        self.turn(record.day);
        let others = record.requests.saturating_sub(self.sent);
        let before = std::mem::replace(&mut self.others, others);
        let more = i128::from(others).saturating_sub(i128::from(before));
        i64::try_from(more).unwrap_or(if more < 0 { i64::MIN } else { i64::MAX })
    }

    fn turn(&mut self, day: Day) {
        if self.day != Some(day) {
            *self = Self {
                day: Some(day),
                ..Self::default()
            };
        }
    }
}

/// Answers that run at other replicas than `us`.
pub(super) fn running(record: &SpentRecord, us: ReplicaId, now: UnixTime) -> u64 {
    let others = record.running.iter().filter(|(replica, _)| **replica != us);
    others
        .filter(|(_, running)| is_fresh(running, now))
        .fold(0, |sum, (_, running)| sum.saturating_add(running.streams))
}

/// Whether a replica's word still counts; a clock that differs by less than that does no harm.
pub(super) fn is_fresh(running: &Running, now: UnixTime) -> bool {
    running.at.as_secs().abs_diff(now.as_secs()) <= FRESH
}

#[cfg(test)]
mod tests {
    use registry::Version1;

    use super::*;

    const NOON: UnixTime = UnixTime::from_secs(43_200);

    fn record(day: UnixTime, requests: u64) -> SpentRecord {
        SpentRecord {
            version: Version1,
            day: Day::of(day),
            prompt_tokens: 0,
            output_tokens: 0,
            requests,
            running: [].into(),
        }
    }

    #[test]
    fn ours_are_told_from_theirs() {
        let today = Day::of(NOON);
        let mut requests = Requests::default();
        requests.count(today);
        requests.count(today);
        assert_eq!(requests.hear(Some(&record(NOON, 7))), 7);
        assert_eq!(requests.unsent(today), 2);
        // The watch is faster than the answer to our writing.
        assert_eq!(requests.hear(Some(&record(NOON, 9))), 2);
        requests.written(today, 2);
        assert_eq!(requests.hear(Some(&record(NOON, 9))), -2);
        assert_eq!(requests.unsent(today), 0);
        assert_eq!(requests.hear(Some(&record(NOON, 12))), 3);
        // Deleted by an operator.
        assert_eq!(requests.hear(None), 0);
        assert_eq!(requests.hear(Some(&record(NOON, 1))), 1);
    }

    #[test]
    fn each_day_is_its_own() {
        let mut requests = Requests::default();
        requests.count(Day::of(NOON));
        let tomorrow = UnixTime::from_secs(86_400 + 5);
        assert_eq!(requests.hear(Some(&record(tomorrow, 4))), 4);
        assert_eq!(requests.unsent(Day::of(tomorrow)), 0);
        // Yesterday's, late.
        requests.written(Day::of(NOON), 1);
        assert_eq!(requests.hear(Some(&record(NOON, 500))), 0);
        assert_eq!(requests.hear(Some(&record(tomorrow, u64::MAX))), i64::MAX);
        assert_eq!(requests.hear(Some(&record(tomorrow, 0))), i64::MIN);
    }

    #[test]
    fn a_replica_that_says_nothing_any_more_counts_no_longer() {
        let mut record = record(NOON, 0);
        for (replica, streams, at) in [
            (1, 5, 43_200),
            (2, 3, 43_185),
            (3, 9, 43_179),
            (4, 2, 43_219),
            (5, 8, 43_221),
        ] {
            let at = UnixTime::from_secs(at);
            record
                .running
                .insert(ReplicaId::new(replica), Running { streams, at });
        }
        assert_eq!(running(&record, ReplicaId::new(1), NOON), 5);
        assert_eq!(running(&record, ReplicaId::new(9), NOON), 10);
    }
}
