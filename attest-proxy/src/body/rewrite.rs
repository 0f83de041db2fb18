//! JSON read, judged and forwarded in one pass, without a tree.
//!
//! Owns: one walk over the text that forwards what it understood, in the order in which it came (Ollama keeps the order
//! of a schema's keys), byte for byte as our own serialisation (serde_json's) writes it. What came so already is not written
//! again ([`Written`]). On its way it leaves out keys that no table has, clamps what the policy clamps, and fills in what must be there.
//! Refuses: duplicate keys at any depth, case twins of known keys, trailing data, anything that is not an object.

use std::borrow::Cow;

use domain::{Endpoint, OptionRules};

use super::{
    BodyError,
    keys::Keys,
    known,
    number::Number,
    place::Place,
    reader::Reader,
    rules::Fate,
    seen::Seen,
    text::Text,
    verdicts::{Judge, Verdicts},
    written::Written,
};

/// A body in our own serialisation, within the rules.
#[derive(Debug)]
pub(super) struct Rewritten<'de> {
    pub(super) bytes: Cow<'de, [u8]>,
    /// The top level's `model`.
    pub(super) model: Option<Cow<'de, str>>,
    /// The top level's `name`.
    pub(super) name: Option<Cow<'de, str>>,
}

/// Reads, judges and writes `body`.
pub(super) fn rewrite<'de>(
    endpoint: Endpoint,
    body: &'de [u8],
    rules: &OptionRules,
) -> Result<Rewritten<'de>, BodyError> {
    // Looked at once as a whole, no string has to be looked at by itself.
    let text = std::str::from_utf8(body).map_err(|e| BodyError::Json(e.to_string()))?;
    let mut walk = Walk {
        reader: Reader::new(text),
        written: Written::new(body),
        keys: Keys::new(),
        verdicts: Verdicts::new(endpoint, rules),
    };
    walk.space();
    walk.value(Place::Root)?;
    walk.space();
    if walk.reader.peek().is_some() {
        return Err(walk.reader.flaw("trailing characters"));
    }
    Ok(Rewritten {
        bytes: walk.written.end(),
        model: walk.verdicts.model,
        name: walk.verdicts.name,
    })
}

struct Walk<'de, 'r> {
    reader: Reader<'de>,
    written: Written<'de>,
    keys: Keys<'de>,
    verdicts: Verdicts<'de, 'r>,
}

impl<'de> Walk<'de, '_> {
    #[inline(always)]
    fn space(&mut self) {
        if self.reader.is_at_space() {
            self.leave_out_space();
        }
    }

    /// White space does not travel.
    #[cold]
    #[inline(never)]
    fn leave_out_space(&mut self) {
        let from = self.reader.at();
        self.reader.space();
        self.written.leave_out(from, self.reader.at());
    }

    /// One value, whatever it is.
    #[inline(always)]
    fn value(&mut self, place: Place) -> Result<Seen<'de>, BodyError> {
        let start = self.reader.at();
        let (seen, what) = match self.reader.next() {
            Some(b'"') => match self.reader.plain_string() {
                Some(plain) => (Seen::of(Text::Plain(plain)), "a string"),
                None => (Seen::of(self.text(start)?), "a string"),
            },
            Some(b'{') => return self.nested(place, Self::object),
            Some(b'[') if place.wants_an_object() => (Seen::List { empty: true }, "a list"),
            Some(b'[') => return self.nested(place, Self::list),
            Some(b'n') => {
                self.reader.word("ull")?;
                (Seen::Null, "null")
            }
            Some(b't') => {
                self.reader.word("rue")?;
                (Seen::Bool(true), "a boolean")
            }
            Some(b'f') => {
                self.reader.word("alse")?;
                (Seen::Bool(false), "a boolean")
            }
            Some(first @ (b'-' | b'0'..=b'9')) => {
                let number = match self.reader.plain_number(first) {
                    Some(plain) => plain,
                    None => self.number(start)?,
                };
                (Seen::Number(number), "a number")
            }
            _ => return Err(self.reader.flaw("something that is no value")),
        };
        if place.wants_an_object() {
            return Err(self.reader.flaw(&format!("{what} where an object is expected")));
        }
        Ok(seen)
    }

    /// A string that began at `start`, after its opening quote.
    #[cold]
    #[inline(never)]
    fn text(&mut self, start: usize) -> Result<Text<'de>, BodyError> {
        let text = self.reader.string()?;
        if let Text::Otherwise(says) = &text {
            self.instead(start, says)?;
        }
        Ok(text)
    }

    /// What was read since `start` is written as a string with this in it.
    #[cold]
    fn instead(&mut self, start: usize, says: &str) -> Result<(), BodyError> {
        let ours = serde_json::to_string(says).map_err(|e| BodyError::Json(e.to_string()))?;
        self.written.instead(start, self.reader.at(), ours.as_bytes());
        Ok(())
    }

    /// A number that began at `start` with the byte that was read.
    #[cold]
    fn number(&mut self, start: usize) -> Result<Number, BodyError> {
        let (number, anew) = self.reader.number()?;
        if let Some(anew) = anew {
            self.written.instead(start, self.reader.at(), anew.as_bytes());
        }
        Ok(number)
    }

    #[inline(always)]
    fn nested(
        &mut self,
        place: Place,
        inside: fn(&mut Self, Place) -> Result<Seen<'de>, BodyError>,
    ) -> Result<Seen<'de>, BodyError> {
        self.reader.deeper()?;
        let seen = inside(self, place)?;
        self.reader.higher();
        Ok(seen)
    }

    /// The rest of a list.
    #[inline(never)]
    fn list(&mut self, place: Place) -> Result<Seen<'de>, BodyError> {
        let inner = place.item();
        self.space();
        if self.reader.eat(b']') {
            return Ok(Seen::List { empty: true });
        }
        loop {
            if inner != Place::Message || !self.usual_message()? {
                self.value(inner)?;
            }
            self.space();
            match self.reader.next() {
                Some(b',') => self.space(),
                Some(b']') => return Ok(Seen::List { empty: false }),
                _ => return Err(self.reader.flaw("neither a comma nor the end of a list")),
            }
        }
    }

    /// Reads a message as nearly every client writes it: a role and a text, and nothing else. Of any other it reads nothing.
    fn usual_message(&mut self) -> Result<bool, BodyError> {
        let before = self.reader;
        let usual = self.keys.have_room_for(2)
            && before.may_go_deeper()
            && self.reader.eat_all(b"{\"role\":\"")
            && self.usual_text("role")?
            && self.reader.eat_all(b",\"content\":\"")
            && self.usual_text("content")?
            && self.reader.eat(b'}');
        if !usual {
            self.reader = before;
        }
        Ok(usual)
    }

    /// Reads the text that a message has under a key, after its opening quote, and judges it; whether it is forwarded as it came.
    fn usual_text(&mut self, key: &str) -> Result<bool, BodyError> {
        let text = match self.reader.plain_string() {
            Some(plain) => Text::Plain(plain),
            None => self.reader.string()?,
        };
        if let Text::Otherwise(_) = text {
            return Ok(false);
        }
        let fate = self.verdicts.judge(Judge::Message, key, &Seen::of(text))?;
        Ok(fate == Fate::Stays)
    }

    /// The rest of an object.
    #[inline(never)]
    fn object(&mut self, place: Place) -> Result<Seen<'de>, BodyError> {
        let object = self.keys.begin();
        // Of what is forwarded.
        let mut empty = true;
        self.space();
        let mut more = !self.reader.eat(b'}');
        let mut entry = self.written.mark(self.reader.at());
        while more {
            let key = self.key(place)?;
            self.keys
                .add(object, key.clone())
                .map_err(|what| self.reader.flaw(what))?;
            if !self.reader.eat_close(b':') {
                self.colon()?;
            }
            let (inner, judge) = self.verdicts.enter(place, &key);
            let value = self.written.mark(self.reader.at());
            let seen = self.value(inner)?;
            match self.verdicts.judge(judge, &key, &seen)? {
                Fate::Stays => empty = false,
                Fate::Becomes(instead) => {
                    self.written.back(value, self.reader.at());
                    let at = self.reader.at();
                    self.written.instead(at, at, instead.as_bytes());
                    empty = false;
                }
                Fate::Goes => self.written.back(entry, self.reader.at()),
            }
            // The comma belongs to the entry after it.
            entry = self.written.mark(self.reader.at());
            if !empty && self.reader.eat_close(b',') {
                continue;
            }
            self.space();
            let at = self.reader.at();
            entry = self.written.mark(at);
            more = match self.reader.next() {
                Some(b',') => {
                    if empty {
                        self.written.leave_out(at, self.reader.at());
                    }
                    self.space();
                    true
                }
                Some(b'}') => false,
                _ => return Err(self.reader.flaw("neither a comma nor the end of an object")),
            };
        }
        if let Some(missing) = self.verdicts.missing(place) {
            let end = self.reader.at().saturating_sub(1);
            self.written.instead(end, end, if empty { b"" } else { b"," });
            self.written.instead(end, end, missing.as_bytes());
            empty = false;
        }
        self.keys.end(object);
        Ok(Seen::Object { empty })
    }

    #[cold]
    #[inline(never)]
    fn colon(&mut self) -> Result<(), BodyError> {
        self.space();
        if !self.reader.eat(b':') {
            return Err(self.reader.flaw("a key without a colon"));
        }
        self.space();
        Ok(())
    }

    /// A key, which is no twin of a known one.
    #[inline(always)]
    fn key(&mut self, place: Place) -> Result<Cow<'de, str>, BodyError> {
        // One without anything to fold is no other key's twin.
        match self.reader.plain_key() {
            Some(plain) => Ok(Cow::Borrowed(plain)),
            None => self.any_key(place),
        }
    }

    #[cold]
    #[inline(never)]
    fn any_key(&mut self, place: Place) -> Result<Cow<'de, str>, BodyError> {
        let start = self.reader.at();
        if !self.reader.eat(b'"') {
            return Err(self.reader.flaw("a key that is no string"));
        }
        let key = self.text(start)?.get();
        if place != Place::Opaque && known::is_twin(&key) {
            return Err(self.reader.flaw("a key differs from a known one in case alone"));
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::keys::{MANY_KEYS, MAX_KEYS},
        *,
    };

    /// Within a free key, where nothing is left out.
    fn text(inner: &str) -> Result<String, String> {
        let body = format!("{{\"tool_choice\":{inner}}}");
        rewrite(Endpoint::OpenAiChat, body.as_bytes(), &OptionRules::default())
            .map(|r| {
                let text = String::from_utf8(r.bytes.into_owned()).unwrap();
                text.strip_prefix("{\"tool_choice\":")
                    .unwrap()
                    .strip_suffix('}')
                    .unwrap()
                    .to_owned()
            })
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
            text(r#"{ "z" : 1 , "\u0061" : [ 1 , 2 ] }"#).unwrap(),
            r#"{"z":1,"a":[1,2]}"#
        );
    }

    #[test]
    fn keys_are_bounded_in_number() {
        let keys = |n: usize| {
            let all: Vec<_> = (0..n).map(|k| format!("\"k{k}\":0")).collect();
            format!("{{{}}}", all.join(","))
        };
        // One more is around them.
        assert!(text(&keys(MAX_KEYS - 1)).is_ok());
        assert!(text(&keys(MAX_KEYS)).unwrap_err().contains("more keys"));
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
        assert!(text(r#"{"function":{"parameters":{"properties":{"Model":{}}}}}"#).is_ok());
        assert!(text(r#"{"format":{"properties":{"Name":1}}}"#).is_ok());
        assert!(text(r#"{"format":{"a":1,"a":2}}"#).is_err());
        assert!(text(r#"[{"Role":"system"}]"#).unwrap_err().contains("case alone"));
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(text(&deep).unwrap_err().contains("recursion"));
    }
}
