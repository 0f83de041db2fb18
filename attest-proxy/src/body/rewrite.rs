//! JSON read and written again in one pass, without a tree.
//!
//! Owns: one walk over the text that writes what it understood, in the order in which it came (Ollama keeps the order
//! of a schema's keys), and notes where the top level's `model` and `name` are.
//! Refuses: duplicate keys at any depth, case twins of known keys, trailing data, anything that is not an object.

use std::{cell::RefCell, collections::HashSet, fmt, ops::Range};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::known;

/// From so many keys on, an object's keys are looked up by hash instead of one by one.
const MANY_KEYS: usize = 24;

/// A body in our own serialisation.
pub(super) struct Rewritten {
    pub(super) bytes: Vec<u8>,
    model: Option<Range<usize>>,
    name: Option<Range<usize>>,
}

impl Rewritten {
    /// The top level's `model`, if it is a string.
    pub(super) fn model(&self) -> Option<String> {
        self.text(&self.model)
    }

    /// The top level's `name`, if it is a string.
    pub(super) fn name(&self) -> Option<String> {
        self.text(&self.name)
    }

    fn text(&self, at: &Option<Range<usize>>) -> Option<String> {
        serde_json::from_slice(self.bytes.get(at.clone()?)?).ok()
    }
}

/// Reads and writes `body`.
pub(super) fn rewrite(body: &[u8]) -> Result<Rewritten, serde_json::Error> {
    let state = RefCell::new(State {
        out: Vec::with_capacity(body.len()),
        keys: Vec::new(),
        model: None,
        name: None,
    });
    // Looked at once as a whole, no string has to be looked at by itself.
    let text = std::str::from_utf8(body).map_err(de::Error::custom)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    Value {
        state: &state,
        depth: 0,
        opaque: false,
    }
    .deserialize(&mut reader)?;
    reader.end()?;
    let State { out, model, name, .. } = state.into_inner();
    Ok(Rewritten {
        bytes: out,
        model,
        name,
    })
}

struct State {
    out: Vec<u8>,
    /// Where the keys of all open objects are in `out`, innermost last.
    keys: Vec<Range<usize>>,
    model: Option<Range<usize>>,
    name: Option<Range<usize>>,
}

/// One value, whatever it is. The state is borrowed for single writes alone, never across a call into the reader.
#[derive(Clone, Copy)]
struct Value<'s> {
    state: &'s RefCell<State>,
    depth: usize,
    opaque: bool,
}

impl Value<'_> {
    fn put<E: de::Error>(&self, bytes: &[u8]) -> Result<(), E> {
        self.state.borrow_mut().out.extend_from_slice(bytes);
        Ok(())
    }

    fn put_json<E: de::Error>(&self, value: impl serde::Serialize) -> Result<(), E> {
        serde_json::to_writer(&mut self.state.borrow_mut().out, &value).map_err(E::custom)
    }

    fn top_level<E: de::Error>(&self, found: &str) -> Result<(), E> {
        if self.depth == 0 {
            Err(E::custom(format_args!("{found} where an object is expected")))
        } else {
            Ok(())
        }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.top_level("a boolean")?;
        self.put_json(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.top_level("a number")?;
        self.put_json(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.top_level("a number")?;
        self.put_json(value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.top_level("a number")?;
        self.put_json(value)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.top_level("a string")?;
        self.put_json(value)
    }

    /// A string without escapes: what needs none when it is read needs none when it is written.
    fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<(), E> {
        self.top_level("a string")?;
        put_plain(&mut self.state.borrow_mut().out, value);
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.top_level("null")?;
        self.put(b"null")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.top_level("a list")?;
        self.put(b"[")?;
        let inner = Value {
            depth: self.depth.saturating_add(1),
            ..self
        };
        let mut first = true;
        loop {
            // The comma is written before it is known whether an item follows, and taken back if none does.
            let mark = self.state.borrow().out.len();
            if !first {
                self.put(b",")?;
            }
            if items.next_element_seed(inner)?.is_none() {
                self.state.borrow_mut().out.truncate(mark);
                break;
            }
            first = false;
        }
        self.put(b"]")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.put(b"{")?;
        let base = self.state.borrow().keys.len();
        let mut many: Option<HashSet<Box<[u8]>>> = None;
        loop {
            let mark = self.state.borrow().out.len();
            if self.state.borrow().keys.len() > base {
                self.put(b",")?;
            }
            let Some(opaque) = entries.next_key_seed(Key {
                state: self.state,
                opaque: self.opaque,
            })?
            else {
                self.state.borrow_mut().out.truncate(mark);
                break;
            };
            self.state.borrow().refuse_duplicate(base, &mut many)?;
            self.put(b":")?;
            let start = self.state.borrow().out.len();
            entries.next_value_seed(Value {
                depth: self.depth.saturating_add(1),
                opaque: self.opaque || opaque,
                ..self
            })?;
            if self.depth == 0 {
                self.state.borrow_mut().note(start);
            }
        }
        self.state.borrow_mut().keys.truncate(base);
        self.put(b"}")
    }
}

impl State {
    /// The key written last must be new among the object's, which begin at `base`.
    fn refuse_duplicate<E: de::Error>(
        &self,
        base: usize,
        many: &mut Option<HashSet<Box<[u8]>>>,
    ) -> Result<(), E> {
        let text = |range: &Range<usize>| self.out.get(range.clone()).unwrap_or_default();
        let Some((last, before)) = self.keys.get(base..).and_then(<[_]>::split_last) else {
            return Ok(());
        };
        let new = match many {
            None if before.len() < MANY_KEYS => before.iter().all(|key| text(key) != text(last)),
            None => {
                // The keys of before are known to differ.
                let mut set: HashSet<Box<[u8]>> = before.iter().map(|key| text(key).into()).collect();
                let new = set.insert(text(last).into());
                *many = Some(set);
                new
            }
            Some(set) => set.insert(text(last).into()),
        };
        if new {
            Ok(())
        } else {
            Err(E::custom("a key is there twice"))
        }
    }

    /// Remembers where the value that began at `start` is, if its key is one that we look at.
    fn note(&mut self, start: usize) {
        let value = start..self.out.len();
        match self.keys.last().and_then(|key| self.out.get(key.clone())) {
            Some(b"\"model\"") => self.model = Some(value),
            Some(b"\"name\"") => self.name = Some(value),
            _ => {}
        }
    }
}

/// A key: written, remembered, and told whether its value is opaque.
struct Key<'s> {
    state: &'s RefCell<State>,
    opaque: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Key<'_> {
    fn take<E: de::Error>(
        self,
        key: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<bool, E> {
        if !self.opaque && known::is_twin(key) {
            return Err(E::custom("a key differs from a known one in case alone"));
        }
        let state = &mut *self.state.borrow_mut();
        let start = state.out.len();
        write(&mut state.out)?;
        state.keys.push(start..state.out.len());
        Ok(known::is_opaque(key))
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        self.take(key, |out| serde_json::to_writer(out, key).map_err(E::custom))
    }

    fn visit_borrowed_str<E: de::Error>(self, key: &'de str) -> Result<bool, E> {
        self.take(key, |out| {
            put_plain(out, key);
            Ok(())
        })
    }
}

/// Writes a string that the reader could lend out of the text itself, so that it has no escape, quote or control in it.
fn put_plain(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len().saturating_add(2));
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str) -> Result<String, String> {
        rewrite(body.as_bytes())
            .map(|r| String::from_utf8(r.bytes).unwrap())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_written_means_what_was_read() {
        for body in [
            r#"{}"#,
            r#"{"z":1,"a":[1,-2,3.5,true,false,null,"\"\\\u0001é"],"m":{"b":{},"a":[]},"e":[[],[{}]]}"#,
            r#"{"n":18446744073709551615,"s":-9223372036854775808,"f":0.1,"g":1e300}"#,
        ] {
            let out = text(body).unwrap();
            let value = |t: &str| serde_json::from_str::<serde_json::Value>(t).unwrap();
            assert_eq!(value(&out), value(body));
            assert_eq!(text(&out).unwrap(), out, "writing is not stable");
        }
        assert_eq!(
            text(r#"{ "z" : 1 , "a" : [ 1 , 2 ] }"#).unwrap(),
            r#"{"z":1,"a":[1,2]}"#
        );
    }

    /// Strings that are passed on without another look are written as serde_json would write them.
    #[test]
    fn strings_are_written_as_a_serializer_writes_them() {
        for code in (0..=0x2ff).chain([0x2028, 0x2029, 0xfeff, 0xfffd, 0x1_f600]) {
            let string = format!("a{}b", char::from_u32(code).unwrap());
            for spelled in [
                serde_json::to_string(&string).unwrap(),
                string.replace(|c: char| c == '"' || c == '\\' || c < ' ', ""),
            ] {
                let spelled = if spelled.starts_with('"') {
                    spelled
                } else {
                    format!("\"{spelled}\"")
                };
                let read: String = serde_json::from_str(&spelled).unwrap();
                let written = serde_json::to_string(&read).unwrap();
                assert_eq!(
                    text(&format!("{{{spelled}: [{spelled}]}}")).unwrap(),
                    format!("{{{written}:[{written}]}}")
                );
            }
        }
    }

    #[test]
    fn duplicates_are_found_at_every_depth_and_width() {
        assert!(text(r#"{"a":{"b":1},"c":{"b":1}}"#).is_ok());
        assert!(text(r#"{"a":[{"b":1,"b":1}]}"#).unwrap_err().contains("twice"));
        for width in [2, MANY_KEYS, MANY_KEYS + 1, 500] {
            let keys = |last: usize| {
                let all: Vec<_> = (0..width).chain([last]).map(|k| format!("\"k{k}\":0")).collect();
                format!("{{{}}}", all.join(","))
            };
            assert!(text(&keys(width)).is_ok(), "{width}");
            assert!(
                text(&keys(0)).is_err() && text(&keys(width - 1)).is_err(),
                "{width}"
            );
        }
    }

    #[test]
    fn schemas_may_name_their_fields_as_they_like() {
        assert!(text(r#"{"tools":[{"function":{"parameters":{"properties":{"Model":{}}}}}]}"#).is_ok());
        assert!(text(r#"{"format":{"properties":{"Name":1}}}"#).is_ok());
        assert!(text(r#"{"format":{"a":1,"a":2}}"#).is_err());
        assert!(
            text(r#"{"messages":[{"Role":"system"}]}"#)
                .unwrap_err()
                .contains("case alone")
        );
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(text(&deep).unwrap_err().contains("recursion"));
    }
}
