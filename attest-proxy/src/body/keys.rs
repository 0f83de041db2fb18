//! The keys of all objects that are open, so that none has one twice.

use std::{borrow::Cow, collections::HashSet};

/// From so many keys on, an object's keys are looked up by hash instead of one by one.
pub(super) const MANY_KEYS: usize = 24;
/// The most keys of one object and those around it: they are remembered, and no budget counts them.
pub(super) const MAX_KEYS: usize = 65_536;

/// The keys of all open objects, innermost last.
#[derive(Debug)]
pub(super) struct Keys<'de> {
    open: Vec<Cow<'de, str>>,
    /// Of the objects with many keys, innermost last.
    many: Vec<(Object, HashSet<Cow<'de, str>>)>,
}

/// One open object: where its keys begin. Each has its own, for around every other are one's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Object(usize);

impl<'de> Keys<'de> {
    pub(super) fn new() -> Self {
        Self {
            open: Vec::with_capacity(MANY_KEYS),
            many: Vec::new(),
        }
    }

    /// An object begins.
    pub(super) const fn begin(&self) -> Object {
        Object(self.open.len())
    }

    /// It ends.
    #[inline]
    pub(super) fn end(&mut self, object: Object) {
        self.open.truncate(object.0);
        if !self.many.is_empty() {
            self.many.pop_if(|(with_many, _)| *with_many == object);
        }
    }

    /// Whether so many more can be taken.
    pub(super) const fn have_room_for(&self, more: usize) -> bool {
        self.open.len().saturating_add(more) <= MAX_KEYS
    }

    /// Takes the next key of the innermost object.
    ///
    /// # Errors
    /// It has it already, or all together have too many.
    #[inline(always)]
    pub(super) fn add(&mut self, object: Object, key: Cow<'de, str>) -> Result<(), &'static str> {
        if self.open.len() >= MAX_KEYS {
            return Err("more keys than anybody needs");
        }
        let before = self.open.get(object.0..).unwrap_or_default();
        let new = if before.len() < MANY_KEYS {
            !before.contains(&key)
        } else {
            self.is_new_among_many(object, key.clone())
        };
        if !new {
            return Err("a key is there twice");
        }
        self.open.push(key);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn is_new_among_many(&mut self, object: Object, key: Cow<'de, str>) -> bool {
        if let Some((with_many, keys)) = self.many.last_mut()
            && *with_many == object
        {
            return keys.insert(key);
        }
        let before = self.open.get(object.0..).unwrap_or_default();
        // They are known to differ.
        let mut keys: HashSet<Cow<'de, str>> = before.iter().cloned().collect();
        let new = keys.insert(key);
        self.many.push((object, keys));
        new
    }
}
