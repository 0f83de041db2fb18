//! The times at which something was forgotten, as few spans as it takes.
//!
//! Owns: the bound on their number. What lies between two spans that become one is taken for a part of them: more is in
//! them than was put in, never less.

use std::{collections::BTreeMap, time::Duration};

use domain::UnixTime;

/// Times that are no further apart become one span.
const NEAR: Duration = Duration::from_secs(120);
/// Spans that are told apart; beyond, the oldest become one.
const MOST: usize = 512;

/// Spans of time: their begins, and their last seconds.
#[derive(Debug, Default)]
pub(crate) struct Spans(BTreeMap<UnixTime, UnixTime>);

impl Spans {
    /// None.
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Puts a time in.
    pub(crate) fn add(&mut self, at: UnixTime) {
        let below = self.0.range(..=at).next_back().map(|(b, e)| (*b, *e));
        let below = below.filter(|(_, end)| at <= end.plus(NEAR));
        let above = self.0.range(at..).next().map(|(b, e)| (*b, *e));
        let above = above.filter(|(begin, _)| *begin <= at.plus(NEAR));
        if let Some((begin, _)) = above {
            self.0.remove(&begin);
        }
        let begin = below.map_or(at, |(begin, _)| begin);
        let end = [below, above]
            .iter()
            .flatten()
            .fold(at, |last, (_, end)| last.max(*end));
        self.0.insert(begin, end);
        if self.0.len() > MOST
            && let (Some((begin, _)), Some((_, end))) = (self.0.pop_first(), self.0.pop_first())
        {
            self.0.insert(begin, end);
        }
    }

    /// Whether one of them has a second from `first` to `last` in it.
    pub(crate) fn meet(&self, first: UnixTime, last: UnixTime) -> bool {
        let before = self.0.range(..=last).next_back();
        before.is_some_and(|(_, end)| *end >= first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(seconds)
    }

    fn spans(of: impl IntoIterator<Item = u64>) -> Spans {
        let mut spans = Spans::new();
        of.into_iter().for_each(|time| spans.add(at(time)));
        spans
    }

    #[test]
    fn near_times_are_one_span_in_whatever_order_they_come() {
        for times in [[1000, 1100, 1200], [1200, 1000, 1100], [1100, 1200, 1000]] {
            let spans = spans(times);
            assert_eq!(spans.0, BTreeMap::from([(at(1000), at(1200))]));
            assert!(
                spans.meet(at(1150), at(1160))
                    && spans.meet(at(0), at(1000))
                    && spans.meet(at(1200), at(2000))
            );
            assert!(!spans.meet(at(0), at(999)) && !spans.meet(at(1201), at(2000)));
        }
        let apart = spans([1000, 5000, 1001]);
        assert_eq!(apart.0.len(), 2);
        assert!(!apart.meet(at(1002), at(4999)) && apart.meet(at(1002), at(5000)));
    }

    #[test]
    fn their_number_is_bounded_and_no_time_is_lost() {
        let times = || (0..2000).map(|n| n * 1000);
        for spans in [spans(times()), spans(times().rev())] {
            assert_eq!(spans.0.len(), MOST);
            assert!(times().all(|time| spans.meet(at(time), at(time))));
            // The newest are still told apart.
            assert!(!spans.meet(at(1_998_001), at(1_998_999)));
        }
    }
}
