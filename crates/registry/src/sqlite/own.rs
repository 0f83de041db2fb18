//! What was written through our own connection, for this process's watch.
//!
//! Owns: the rows that were committed since the watch asked last, each as it was committed last, bounded in number and bytes. SQLite tells a connection
//! of the commits of others only (`PRAGMA data_version`): where our own one was told of none, these rows are all that
//! changed, and the watch need not read thousands to find them.
//! Refuses: to guess. Once anything may have been written that is not among them, the next answer is "unknown", and the
//! watch reads everything.

use std::collections::BTreeMap;

use crate::{
    Revision,
    store::{Put, Stored},
};

/// Rows, by key.
pub(super) type Rows = BTreeMap<String, Stored>;

/// How much is kept at most between two questions; more than that is unknown.
const MOST_ROWS: usize = 1024;
const MOST_BYTES: usize = 256 << 10;

/// Up to where a watch was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

/// The rows since the last question.
#[derive(Debug, Default)]
pub(super) struct Own {
    rows: Rows,
    bytes: usize,
    /// The mark that `rows` go on from; changes with every question and every loss.
    since: u64,
    /// Whether anybody asks.
    asked: bool,
}

impl Own {
    /// Notes what a transaction wrote, once it is there.
    pub(super) fn wrote(&mut self, puts: &[Put], revision: Revision) {
        if !self.asked {
            return;
        }
        for Put { key, value } in puts {
            self.bytes = self.bytes.saturating_add(value.len());
            if let Some(known) = self.rows.get_mut(key) {
                self.bytes = self.bytes.saturating_sub(known.value.len());
                known.revision = revision;
                known.value.clone_from(value);
            } else {
                self.bytes = self.bytes.saturating_add(key.len());
                let value = value.clone();
                self.rows.insert(key.clone(), Stored { value, revision });
            }
            if self.rows.len() > MOST_ROWS || self.bytes > MOST_BYTES {
                self.lost();
                return;
            }
        }
    }

    /// Something may have been written that is not known here.
    pub(super) fn lost(&mut self) {
        *self = Self {
            since: self.since.saturating_add(1),
            ..Self::default()
        };
    }

    /// What was written since `mark`; `None`: unknown. Another question goes on from the mark that comes with it.
    pub(super) fn since(&mut self, mark: Option<Mark>) -> (Mark, Option<Rows>) {
        let known = self.asked && mark == Some(Mark(self.since));
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        self.since = self.since.saturating_add(1);
        self.asked = true;
        (Mark(self.since), known.then_some(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, len: usize) -> Vec<Put> {
        vec![Put {
            key: key.to_owned(),
            value: vec![0; len],
        }]
    }

    fn shown(rows: Option<Rows>) -> Option<Vec<(String, usize, u64)>> {
        let show = |(key, stored): (String, Stored)| (key, stored.value.len(), stored.revision.get());
        rows.map(|rows| rows.into_iter().map(show).collect())
    }

    #[test]
    fn each_row_is_told_once_as_it_was_last() {
        let mut own = Own::default();
        own.wrote(&put("/before", 1), Revision::new(1));
        let (mark, rows) = own.since(None);
        assert_eq!(rows, None, "nobody asked before: nothing was kept");
        own.wrote(&put("/a", 1), Revision::new(2));
        own.wrote(&put("/b", 1), Revision::new(3));
        own.wrote(&put("/a", 7), Revision::new(4));
        let (mark, rows) = own.since(Some(mark));
        let wanted = [("/a".to_owned(), 7, 4), ("/b".to_owned(), 1, 3)];
        assert_eq!(shown(rows).unwrap(), wanted);
        assert_eq!(shown(own.since(Some(mark)).1), Some(Vec::new()));
    }

    #[test]
    fn another_ones_question_and_a_loss_make_it_unknown() {
        let mut own = Own::default();
        let (mine, _) = own.since(None);
        own.wrote(&put("/a", 1), Revision::new(1));
        let (other, rows) = own.since(None);
        assert_eq!(rows, None);
        let (mine, rows) = own.since(Some(mine));
        assert_eq!(rows, None, "what the other was told, this one was not");
        assert_eq!(own.since(Some(other)).1, None);
        let (again, _) = own.since(Some(mine));
        own.lost();
        own.wrote(&put("/b", 1), Revision::new(2));
        assert_eq!(own.since(Some(again)).1, None);
    }

    #[test]
    fn what_is_kept_is_bounded_by_number_and_bytes() {
        let mut own = Own::default();
        for (n, len) in [(MOST_ROWS + 1, 1), (5, MOST_BYTES / 4)] {
            let (mark, _) = own.since(None);
            for nth in 0..n {
                own.wrote(&put(&format!("/{nth}"), len), Revision::new(nth as u64));
            }
            assert!(own.rows.is_empty() && own.bytes == 0);
            assert_eq!(own.since(Some(mark)).1, None);
        }
        // One row, written again and again, is one row.
        let (mark, _) = own.since(None);
        for nth in 0..MOST_ROWS * 2 {
            own.wrote(&put("/k", MOST_BYTES / 4 + nth % 2), Revision::new(nth as u64));
        }
        let rows = own.since(Some(mark)).1;
        assert_eq!(shown(rows).unwrap().len(), 1);
    }
}
