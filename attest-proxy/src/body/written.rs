//! What is forwarded: a body as it came, but for the places where our own serialisation is another.
//!
//! Owns: the copy that is made of a body, which begins where the first such place is; a body without one is not copied at all.
//! Whoever calls has understood every byte that is not left out here.

use std::borrow::Cow;

/// What is forwarded of a body, up to where it was read.
#[derive(Debug)]
pub(super) struct Written<'de> {
    came: &'de [u8],
    /// From here on, it is forwarded as it came; what of it was before is in `anew`.
    from: usize,
    anew: Vec<u8>,
}

/// A place to come back to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    at: usize,
    from: usize,
    anew: usize,
}

impl<'de> Written<'de> {
    pub(super) const fn new(came: &'de [u8]) -> Self {
        Self {
            came,
            from: 0,
            anew: Vec::new(),
        }
    }

    /// What came between two places is not forwarded.
    #[inline(never)]
    pub(super) fn leave_out(&mut self, at: usize, to: usize) {
        let before = self.came.get(self.from..at).unwrap_or_default();
        if !before.is_empty() {
            if self.anew.is_empty() {
                self.anew.reserve(self.came.len().saturating_add(64));
            }
            self.anew.extend_from_slice(before);
        }
        self.from = to;
    }

    /// In place of what came between two places, this is forwarded.
    pub(super) fn instead(&mut self, at: usize, to: usize, text: &[u8]) {
        self.leave_out(at, to);
        self.anew.extend_from_slice(text);
    }

    /// The place up to which the body was read.
    pub(super) const fn mark(&self, at: usize) -> Mark {
        Mark {
            at,
            from: self.from,
            anew: self.anew.len(),
        }
    }

    /// Nothing of what came between a mark and `to` is forwarded, however it was written.
    pub(super) fn back(&mut self, mark: Mark, to: usize) {
        self.anew.truncate(mark.anew);
        self.from = mark.from;
        self.leave_out(mark.at, to);
    }

    /// All of it.
    pub(super) fn end(mut self) -> Cow<'de, [u8]> {
        if self.from == 0 && self.anew.is_empty() {
            return Cow::Borrowed(self.came);
        }
        self.leave_out(self.came.len(), self.came.len());
        Cow::Owned(self.anew)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_is_not_copied() {
        assert!(matches!(Written::new(b"abc").end(), Cow::Borrowed(b"abc")));
        let mut all = Written::new(b"abc");
        all.leave_out(0, 3);
        assert_eq!(all.end(), Cow::<[u8]>::Owned(Vec::new()));
        let mut behind = Written::new(b"abc");
        behind.instead(3, 3, b"d");
        assert_eq!(&*behind.end(), b"abcd");
    }

    #[test]
    fn a_mark_is_come_back_to_over_whatever_was_written_since() {
        let mut text = Written::new(b"0123456789");
        text.leave_out(1, 2);
        let outer = text.mark(3);
        text.instead(4, 6, b"xyz");
        let inner = text.mark(7);
        text.leave_out(8, 9);
        text.back(inner, 9);
        assert_eq!(text.mark(9).from, 9);
        assert_eq!(text.anew, b"023xyz6");
        text.back(outer, 9);
        assert_eq!(&*text.end(), b"029");
    }
}
